//! What models, components and people do: a function of a seed and of the step's path, so that it is the same
//! whatever happens around it.

use serde_json::{Value, json};
use troupe_workflow::{Answer, Code, Failure, StepPath};

use super::document::Mood;

/// Random numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Dice of their own for something with a name.
    pub(crate) fn of(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ hash)
    }

    /// A number below `sides`, which is not 0.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub(crate) fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(from.len()).ok().filter(|count| *count > 0)?;
        from.get(usize::try_from(self.roll(count)).ok()?)
    }
}

const CODES: [Code; 25] = [
    Code::RateLimited,
    Code::Overloaded,
    Code::Unavailable,
    Code::TimedOut,
    Code::GuestFailed,
    Code::GuestTrap,
    Code::LimitFuel,
    Code::LimitMemory,
    Code::LimitTime,
    Code::LimitOutput,
    Code::LimitHostCalls,
    Code::LimitHttpRequests,
    Code::LimitHttpBytes,
    Code::OutputInvalid,
    Code::ConditionType,
    Code::TemplateFailed,
    Code::InputInvalid,
    Code::MaxIterations,
    Code::LoopItemsType,
    Code::ApprovalTimeout,
    Code::Denied,
    Code::BudgetExceeded,
    Code::Cancelled,
    Code::ComponentUnavailable,
    Code::Internal,
];

/// What everybody does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// Attempts of a hundred that fail.
    pub(crate) failures: u64,
    pub(crate) mood: Mood,
}

/// A call that an attempt makes.
#[derive(Debug, Clone)]
pub(crate) struct PlannedCall {
    pub(crate) request: String,
    pub(crate) reserved: u64,
    pub(crate) reserved_tokens: u64,
    /// What it comes to; never more than its worst case.
    pub(crate) cost: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) failure: Option<Failure>,
}

/// What one attempt does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) calls: Vec<PlannedCall>,
    pub(crate) fuel: u64,
    pub(crate) result: Result<Value, Failure>,
    pub(crate) text: Option<String>,
}

impl Script {
    /// The attempt of a step of which so many failed.
    pub(crate) fn attempt(&self, path: &StepPath, failed: u32) -> Plan {
        let name = format!("{path}/{failed}");
        let mut dice = Dice::of(self.seed, &name);
        let calls = (0..dice.roll(4)).map(|call| {
            let reserved = dice.roll(60_000);
            let reserved_tokens = dice.roll(600);
            let used = dice.roll(reserved_tokens + 1);
            let output_tokens = dice.roll(used + 1);
            let fails = dice.roll(100) < self.failures;
            PlannedCall {
                request: format!("{name}/{call}"),
                reserved,
                reserved_tokens,
                cost: dice.roll(reserved + 1),
                input_tokens: used - output_tokens,
                output_tokens,
                failure: fails.then(|| self.failure(&mut dice)),
            }
        });
        let calls = calls.collect();
        let fails = dice.roll(100) < self.failures;
        let text = (dice.roll(3) == 0).then(|| format!("{{{{ {name} }}}} ' or true or '"));
        Plan {
            calls,
            fuel: dice.roll(400),
            result: if fails {
                Err(self.failure(&mut dice))
            } else {
                Ok(output(&name, &mut dice))
            },
            text,
        }
    }

    fn failure(&self, dice: &mut Dice) -> Failure {
        // Where things are calm, most are such that another try helps.
        let codes = match self.mood {
            Mood::Calm if dice.roll(5) > 0 => &CODES[..4],
            Mood::Calm | Mood::Any => &CODES[..],
        };
        let code = dice.choose(codes).copied().unwrap_or(Code::Internal);
        let failure = Failure::new(code, format!("it broke: {{{{ {code} }}}}"));
        match dice.roll(4) {
            0 => failure.transient(),
            1 => failure.retry_after_ms(Some(dice.roll(3_000))),
            _ => failure,
        }
    }

    /// The next answer of people who are asked about a step; none: nobody answers.
    pub(crate) fn answer(&self, path: &StepPath, given: usize) -> Option<Answer> {
        let mut dice = Dice::of(self.seed, &format!("{path}/asked"));
        if self.mood == Mood::Any && dice.roll(4) == 0 {
            return None;
        }
        let mut dice = Dice::of(self.seed, &format!("{path}/answer/{given}"));
        Some(Answer {
            by: format!("person {given}"),
            approved: dice.roll(5) > 0,
            notes: (dice.roll(2) == 0).then(|| "{{ topic }}".to_owned()),
            data: Some(json!({"ok": dice.roll(9)})),
        })
    }
}

fn output(name: &str, dice: &mut Dice) -> Value {
    match dice.roll(6) {
        0 => json!(format!("{{{{ said }}}} by {name}")),
        1 => Value::Null,
        _ => json!({
            "text": format!("{{% {name} %}}"),
            "flag": dice.roll(2) == 0,
            "n": dice.roll(10),
            "list": (0..dice.roll(4)).collect::<Vec<u64>>(),
        }),
    }
}
