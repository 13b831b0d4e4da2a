//! The share of an agent: what is counted for it, from the journal alone, and what is left.

use serde_json::{Value, json};

use super::super::{BudgetVerdict, Command, StartStep};
use super::{World, document};
use crate::event::{CallKind, CallOutcome, EventKind, StepUsage, Usage};
use crate::failure::{Code, Failure};
use crate::ids::StepPath;
use crate::money::MicroUsd;

/// Two steps of one agent with a share of 1 USD, at the same time.
fn world(config: Value) -> World {
    let mut document = document(&[], json!([]), config);
    document["agents"] = json!([{
        "id": "a", "type": "code", "language": "python", "code": "result = 1",
        "grants": { "llm": { "models": ["m"], "budget_usd": 1 } },
        "on_error": { "retry": 2, "delay_ms": 0 },
    }]);
    let step = |id: &str| json!({ "id": id, "agent": "a", "action": "x", "input": 1 });
    document["steps"] = json!([{ "parallel": [step("s"), step("t")] }]);
    World::new(&document, json!({}))
}

fn usd(cents: u64) -> MicroUsd {
    MicroUsd::new(cents * 10_000)
}

impl World {
    /// Starts what is to be started, as the driver does.
    fn start_all(&mut self) -> Vec<StartStep> {
        let commands = self.execution.decide(self.now).into_iter();
        let starts: Vec<StartStep> = commands
            .filter_map(|command| match command {
                Command::Start(start) => Some(*start),
                Command::Record(_) | Command::Cancel { .. } | Command::WakeAt(_) => None,
            })
            .collect();
        for start in &starts {
            self.record(start.event());
        }
        starts
    }

    fn begins(&mut self, path: &str, (attempt, call): (u32, u32), reserved: MicroUsd) {
        self.record(EventKind::CallStarted {
            path: StepPath::new(path),
            attempt,
            call,
            kind: CallKind::Model,
            target: "m".to_owned(),
            request: format!("hash {call}"),
            reserved,
            reserved_tokens: 0,
            position: Some(call),
        });
    }

    fn ends(&mut self, path: &str, (attempt, call): (u32, u32), cost: MicroUsd) {
        self.record(EventKind::CallEnded {
            path: StepPath::new(path),
            attempt,
            call,
            outcome: CallOutcome::Answered(json!(call)),
            usage: Usage::default(),
            cost,
        });
    }

    /// What is left for a step, that this and no more fits, and whether what does not fit may yet come back.
    fn left(&self, path: &str) -> (MicroUsd, bool) {
        let path = StepPath::new(path);
        let left = self.execution.money_left(&path).expect("it is bounded");
        let fits = self.execution.check_reserve(&path, left, 0);
        assert_eq!(fits, BudgetVerdict::Allowed);
        let above = left + MicroUsd::new(1);
        let BudgetVerdict::Refused(failure) = self.execution.check_reserve(&path, above, 0) else {
            panic!("more than is left fits");
        };
        assert_eq!(failure.code, Code::BudgetExceeded);
        (left, self.execution.may_be_given_back(&path, &failure))
    }
}

#[test]
fn reserved_is_the_worst_case_and_settled_the_true_cost() {
    let mut world = world(json!({}));
    world.start_all();
    assert_eq!(world.left("s"), (usd(100), false));
    world.begins("s", (1, 0), usd(60));
    world.begins("s", (1, 1), usd(40));
    // What does not fit now waits for the step's own calls, not for those of others.
    assert_eq!(world.left("s"), (usd(0), true));
    assert_eq!(world.left("t"), (usd(100), false));
    world.ends("s", (1, 1), usd(10));
    assert_eq!(world.left("s"), (usd(30), true));
    world.ends("s", (1, 0), usd(60));
    assert_eq!(world.left("s"), (usd(30), false));
    let path = StepPath::new("s");
    let verdict = world.execution.check_reserve(&path, usd(31), 0);
    let BudgetVerdict::Refused(failure) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(failure.cap_of, Some(path));
    assert_eq!(
        failure.message,
        "the call may cost $0.31, and $0.30 of the agent's share of $1.00 is left for this step; raise `grants.llm.budget_usd` and, where the operator has one, `llm_budget_usd`, or set `max-tokens` lower"
    );
}

#[test]
fn a_call_that_a_crash_hid_stays_at_its_worst_case() {
    let mut world = world(json!({}));
    world.start_all();
    world.begins("s", (1, 0), usd(30));
    world.ends("s", (1, 0), usd(10));
    world.begins("s", (1, 1), usd(30));
    world.record(EventKind::StepInterrupted {
        path: StepPath::new("s"),
        attempt: 1,
    });
    let [again] = world.start_all().try_into().expect("one starts again");
    assert_eq!((again.attempt, again.recorded.len()), (2, 2));
    // Nobody gives it back any more.
    assert_eq!(world.left("s"), (usd(60), false));
    world.begins("s", (2, 1), usd(30));
    world.ends("s", (2, 1), usd(20));
    assert_eq!(world.left("s"), (usd(40), false));
}

#[test]
fn tries_after_a_failure_have_no_share_of_their_own() {
    let mut world = world(json!({}));
    world.start_all();
    world.begins("s", (1, 0), usd(50));
    world.ends("s", (1, 0), usd(50));
    world.begins("s", (1, 1), usd(20));
    world.record(EventKind::StepFailed {
        path: StepPath::new("s"),
        attempt: 1,
        failure: Failure::new(Code::TimedOut, "it took too long"),
        usage: StepUsage::default(),
    });
    let [again] = world.start_all().try_into().expect("one starts again");
    assert_eq!((again.attempt, again.recorded.len()), (2, 0));
    assert_eq!(world.left("s"), (usd(30), false));
}

#[test]
fn the_least_of_the_share_and_the_budgets_is_left() {
    let mut world = world(json!({ "budget_usd": 1.2 }));
    world.start_all();
    world.begins("t", (1, 0), usd(30));
    // The budget has 0.90 left, and the other step may give some of it back.
    assert_eq!(world.left("s"), (usd(90), true));
    assert_eq!(world.left("t"), (usd(70), true));
    world.ends("t", (1, 0), usd(5));
    assert_eq!(world.left("s"), (usd(100), false));
    assert_eq!(world.left("t"), (usd(95), false));
}

#[test]
fn somebody_else_may_allow_less() {
    let mut world = world(json!({}));
    world.start_all();
    world.begins("s", (1, 0), usd(20));
    world.ends("s", (1, 0), usd(15));
    let path = StepPath::new("s");
    let left = |share| world.execution.money_left_within(&path, share);
    assert_eq!(left(None), Some(usd(85)));
    assert_eq!(left(Some(usd(40))), Some(usd(25)));
    assert_eq!(left(Some(usd(10))), Some(usd(0)));
    assert_eq!(left(Some(usd(500))), Some(usd(85)));
    let verdict = |asked| {
        let share = Some(usd(40));
        world
            .execution
            .check_reserve_within(&path, (asked, 0), share)
    };
    assert_eq!(verdict(usd(25)), BudgetVerdict::Allowed);
    assert!(matches!(verdict(usd(26)), BudgetVerdict::Refused(_)));
}

#[test]
fn a_snapshot_holds_what_was_spent() {
    let mut world = world(json!({}));
    world.start_all();
    world.begins("s", (1, 0), usd(30));
    let snapshot = world.execution.snapshot().expect("it can be written");
    let definition = std::sync::Arc::clone(world.execution.definition());
    let id = world.execution.id();
    let restored = super::super::Execution::restore(id, definition, &snapshot);
    assert!(restored.expect("it can be read") == world.execution);
    assert_eq!(world.left("s"), (usd(70), true));
}
