//! What `kill -9` leaves of an example: it is ended at a named place, and taken up again. It must end as if nothing had
//! happened, with nothing done twice that was finished, and every request to a service accounted for.

mod history;

use std::collections::BTreeMap;

use serde_json::Value;

use self::history::{answered, check_history, under_way};
use crate::load::is_full_sweep;
use crate::loopback::{Loopback, Reply, Route};
use crate::troupe::{Call, Ended, Workplace, example, text};

/// What the loopback's Claude says of the research: statements for the checker to look up.
const SUMMARY: &str = "Street trees cool the air around them by shade and by the water they give off. \
    Cool roofs reflect sunlight and stay much cooler than dark ones [1]. \
    Heat action plans tell a city who does what when a heat wave is forecast.";
/// What it says of each search result: together they are too long for several rounds.
const NOTE: &str = "Trees give shade where people walk and wait in summer. Pale roofs stay cool. \
    A plan says who does what on a hot day.";
/// What is to be researched.
const TOPIC: &[&str] = &["-i", "topic=How do cities adapt to hotter summers?"];

/// No example passes so many places; protects the tests from a run without end.
const POINTS_MAX: u32 = 500;
/// Calls until an execution must have ended that was killed.
const CALLS_MAX: u32 = 4;

/// An example with what its workflow is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// Its folder.
    pub name: &'static str,
    file: &'static str,
    inputs: &'static [&'static str],
    /// What its person says, where it asks one.
    answer: &'static [&'static str],
}

/// Plans, searches, writes.
pub const RESEARCH_ASSISTANT: Example = Example {
    name: "research-assistant",
    file: "workflow.json",
    inputs: TOPIC,
    answer: &[],
};
/// Models, searches, source in two languages, and a component that asks for itself.
pub const RESEARCH_TEAM: Example = Example {
    name: "research-team",
    file: "workflow.json",
    inputs: TOPIC,
    answer: &[],
};
/// Branches, and a person.
pub const CONTENT_MODERATION: Example = Example {
    name: "content-moderation",
    file: "workflow.yaml",
    inputs: &["-i", "content=Buy my pills."],
    answer: &["--by", "ann", "--form", r#"{"reason": "satire"}"#],
};
/// Two loops, one of them with a sub-workflow in rounds beside each other.
pub const SUMMARIES: Example = Example {
    name: "summaries",
    file: "workflow.yaml",
    inputs: TOPIC,
    answer: &[],
};
/// Every example that has a workflow.
pub const EXAMPLES: [Example; 4] = [
    RESEARCH_ASSISTANT,
    RESEARCH_TEAM,
    CONTENT_MODERATION,
    SUMMARIES,
];

/// A command that works on an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `troupe run`, which begins it.
    Run,
    /// `troupe approve`, which goes on where a person was asked.
    Approve,
}

/// One place to crash in, with its own services.
#[derive(Debug)]
pub struct Scene {
    pub loopback: Loopback,
    pub place: Workplace,
    example: Example,
}

impl Scene {
    /// A place in which nothing has happened.
    pub async fn new(example: Example) -> Self {
        let loopback = Loopback::start().await;
        if example == SUMMARIES {
            loopback.always(Route::OpenAi, Reply::text(NOTE));
        } else {
            loopback.always(Route::Anthropic, Reply::text(SUMMARY));
        }
        let mut place = Workplace::new();
        let documents = text(self::example("documents"));
        place.connect(
            &loopback,
            &format!("[sources.document]\nkind = \"documents\"\npath = '{documents}'\n"),
        );
        Self {
            loopback,
            place,
            example,
        }
    }

    /// Runs the example.
    #[must_use]
    pub fn run(&self) -> Call {
        let file = text(example(self.example.name).join(self.example.file));
        let arguments = ["run", &file, "--json"];
        let inputs = self.example.inputs.iter().copied();
        self.place.troupe(arguments.into_iter().chain(inputs))
    }

    /// Answers what its person is asked.
    fn approve(&self, id: &str) -> Call {
        let arguments = ["approve", id, "--json"];
        let answer = self.example.answer.iter().copied();
        self.place.troupe(arguments.into_iter().chain(answer))
    }

    /// Requests to services, answered or not.
    #[must_use]
    pub fn requests(&self) -> Effects {
        let to = |route| self.loopback.requests_to(route).len();
        Effects {
            models: to(Route::OpenAi) + to(Route::Anthropic),
            searches: to(Route::Searxng),
        }
    }

    /// The status of the one execution.
    async fn status(&self, id: &str) -> String {
        let listed = self.place.list().await;
        let row = listed.iter().find(|row| row["id"] == id);
        let status = row.and_then(|row| row["status"].as_str());
        status.expect("an execution with a status").to_owned()
    }

    /// Goes on until the execution has ended: its person answers, and whoever was killed is followed by another.
    async fn go_on(&self, id: &str, point: &str) {
        for _ in 0..CALLS_MAX {
            let call = match self.status(id).await.as_str() {
                "completed" => return,
                "waiting_approval" => self.approve(id),
                _ => self.place.troupe(["recover"]),
            };
            let ended = call.end().await;
            assert!(
                matches!(ended.status.code(), Some(0 | 3)),
                "{point}: {ended}"
            );
        }
        assert_eq!(self.status(id).await, "completed", "{point}");
    }
}

/// Requests that services got, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effects {
    pub models: usize,
    pub searches: usize,
}

/// How an execution ended.
#[derive(Debug, PartialEq)]
pub struct End {
    status: Value,
    outputs: Value,
    steps: BTreeMap<String, (Value, Value)>,
}

impl End {
    /// That of an execution's JSON.
    #[must_use]
    pub fn of(shown: &Value) -> Self {
        let steps = shown["steps"].as_array().into_iter().flatten();
        Self {
            status: shown["status"].clone(),
            outputs: shown["outputs"].clone(),
            steps: steps
                .map(|step| {
                    (
                        step["id"].to_string(),
                        (step["status"].clone(), step["output"].clone()),
                    )
                })
                .collect(),
        }
    }
}

/// A run that nothing disturbed.
#[derive(Debug)]
pub struct Undisturbed {
    pub end: End,
    effects: Effects,
    usd: f64,
}

impl Undisturbed {
    /// Runs an example to its end.
    ///
    /// # Panics
    /// Where it does not come to a good one, or the record does not say what the services say.
    pub async fn new(example: Example) -> Self {
        let scene = Scene::new(example).await;
        let id = begin(&scene).await.id();
        scene.go_on(&id, "undisturbed").await;
        let shown = scene.place.show(&id).await;
        let usd = shown["cost"]["usd"].as_f64().expect("a number");
        assert!(usd > 0.0, "the models are asked, and paid");
        let effects = scene.requests();
        let events = scene.place.events(&id).await;
        assert_eq!(effects, answered(&events), "the record says what was asked");
        Self {
            end: End::of(&shown),
            effects,
            usd,
        }
    }
}

/// Runs the example as far as it comes without its person.
async fn begin(scene: &Scene) -> Ended {
    let code = if scene.example.answer.is_empty() {
        0
    } else {
        3
    };
    scene.run().end().await.expect_code(code)
}

/// A kind of place, and in which command it is passed.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    pub example: Example,
    pub command: Command,
    /// As `TROUPE_FAIL_POINT` names it.
    pub place: &'static str,
    /// Every so many passes, on one side, where the sweep is not full.
    pub nth: u32,
    /// It is passed at least so often.
    pub least: u32,
}

impl Sweep {
    /// Kills the command at each of its places, one after the other until there are no more, and takes it up again.
    ///
    /// # Panics
    /// Where it does not end as if nothing had happened; where fewer places were met than there must be.
    pub async fn run(self, expected: &Undisturbed) {
        let (nth, is_full) = match is_full_sweep() {
            true => (1, true),
            false => (self.nth, false),
        };
        let (mut number, mut last) = (1, 0);
        while number < POINTS_MAX {
            let other = if is_full { number } else { number + nth };
            let ends = tokio::join!(
                self.crash(number, "before", expected),
                self.crash(other, "after", expected)
            );
            match ends {
                (true, true) => last = other,
                (true, false) => last = number,
                (false, _) => {}
            }
            assert!(
                !is_full || ends.0 == ends.1,
                "{self:?}: the place {number} has two sides"
            );
            if ends != (true, true) {
                assert!(
                    last + nth > self.least,
                    "{self:?}: the last place is {last}"
                );
                return;
            }
            number = other + nth;
        }
        panic!("{self:?}: there are more than {POINTS_MAX} places");
    }

    /// Kills the command at one point and takes it up again. False: it has no such point, and was not killed.
    async fn crash(self, number: u32, side: &str, expected: &Undisturbed) -> bool {
        let scene = Scene::new(self.example).await;
        let point = format!("{}:{number}:{side}", self.place);
        let call = match self.command {
            Command::Run => scene.run(),
            Command::Approve => scene.approve(&begin(&scene).await.id()),
        };
        let killed = call.variable("TROUPE_FAIL_POINT", &point).end().await;
        if !killed.was_killed() {
            let code = killed.status.code();
            assert!(matches!(code, Some(0 | 3)), "{point}: {killed}");
            return false;
        }
        scene.loopback.settled().await;
        let asked = scene.requests();
        let left = scene.place.list().await;
        if left.is_empty() {
            nothing_was_promised(&scene, &point).await;
            return true;
        }
        let [row] = left.try_into().expect("one execution");
        let id = row["id"].as_str().expect("an id").to_owned();
        let before = scene.place.events(&id).await;
        scene.go_on(&id, &point).await;
        let after = scene.place.events(&id).await;
        check_history(&before, &after, &point);
        let shown = scene.place.show(&id).await;
        assert_eq!(End::of(&shown), expected.end, "{point}");
        // What was answered is not asked again; all else is asked once more, whether it was under way or not.
        let known = answered(&before);
        let all = Effects {
            models: asked.models + expected.effects.models - known.models,
            searches: asked.searches + expected.effects.searches - known.searches,
        };
        assert_eq!(scene.requests(), all, "{point}: {asked:?} before it ended");
        let lost = under_way(&before);
        assert!(
            (known.models..=known.models + lost).contains(&asked.models),
            "{point}: {asked:?} came, {known:?} are recorded and {lost} were under way"
        );
        let usd = shown["cost"]["usd"].as_f64().expect("a number");
        match lost {
            0 => assert!(
                (usd - expected.usd).abs() < 1e-9,
                "{point}: it cost ${usd} instead of ${}",
                expected.usd
            ),
            // What was under way is charged at its worst case.
            _ => assert!(
                usd > expected.usd,
                "{point}: it cost ${usd}, the lost calls are not in it"
            ),
        }
        true
    }
}

/// A process that ended before anything was recorded leaves nothing.
async fn nothing_was_promised(scene: &Scene, point: &str) {
    assert_eq!(point, "write:1:before", "nothing is left");
    assert_eq!(scene.requests(), Effects::default(), "{point}");
    let ended = scene.place.troupe(["recover"]).end().await.expect_code(0);
    assert!(
        ended.stderr.contains("there is nothing to recover"),
        "{point}: {ended}"
    );
}
