//! What `kill -9` leaves behind: each example is stopped on both sides of every append, and taken up again. It must end
//! as if nothing had happened, with nothing done twice that was finished.

use std::collections::BTreeMap;

use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Call, Workplace, example, text};
use serde_json::{Value, json};

/// What the loopback's Claude says: statements for the checker to look up.
const SUMMARY: &str = "Street trees cool the air around them by shade and by the water they give off. \
    Cool roofs reflect sunlight and stay much cooler than dark ones [1]. \
    Heat action plans tell a city who does what when a heat wave is forecast.";

/// No example has so many appends; protects the tests from a run without end.
const APPENDS_MAX: u32 = 500;
/// Calls of `troupe recover` until an execution must have ended.
const RECOVERIES_MAX: u32 = 3;

/// One place to crash in, with its own services.
struct Scene {
    loopback: Loopback,
    place: Workplace,
    example: &'static str,
}

impl Scene {
    async fn new(example: &'static str) -> Self {
        let loopback = Loopback::start().await;
        loopback.always(Route::Anthropic, Reply::text(SUMMARY));
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

    fn run(&self) -> Call {
        let file = text(example(self.example).join("workflow.json"));
        self.place.troupe([
            "run",
            &file,
            "-i",
            "topic=How do cities adapt to hotter summers?",
            "--json",
        ])
    }

    /// Requests to models, answered or not.
    fn model_calls(&self) -> usize {
        [Route::OpenAi, Route::Anthropic]
            .iter()
            .map(|route| self.loopback.requests_to(*route).len())
            .sum()
    }
}

/// How an execution ended.
#[derive(Debug, PartialEq)]
struct End {
    status: Value,
    outputs: Value,
    steps: BTreeMap<String, (Value, Value)>,
}

impl End {
    fn of(shown: &Value) -> Self {
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
struct Undisturbed {
    end: End,
    model_calls: usize,
    usd: f64,
}

async fn undisturbed(example: &'static str) -> Undisturbed {
    let scene = Scene::new(example).await;
    let ended = scene.run().end().await.expect_code(0);
    let shown = ended.json();
    let usd = shown["cost"]["usd"].as_f64().expect("a number");
    assert!(usd > 0.0, "the models are asked, and paid");
    Undisturbed {
        end: End::of(&shown),
        model_calls: scene.model_calls(),
        usd,
    }
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

/// Model calls that had begun, and whose end is not recorded.
fn under_way(events: &[Value]) -> usize {
    let started = events
        .iter()
        .filter(|event| event["type"] == "call_started" && event["kind"] == "model");
    started
        .filter(|call| {
            let is_its_end = |event: &&Value| {
                event["type"] == "call_ended"
                    && ["path", "call"].iter().all(|key| event[key] == call[key])
            };
            !events.iter().any(|event| is_its_end(&event))
        })
        .count()
}

/// Kills a run at one point and takes it up again. False: it has no such point, and was not killed.
async fn crash_at(append: u32, side: &str, example: &'static str, expected: &Undisturbed) -> bool {
    let scene = Scene::new(example).await;
    let point = format!("write:{append}:{side}");
    let killed = scene
        .run()
        .variable("TROUPE_FAIL_POINT", &point)
        .end()
        .await;
    if !killed.was_killed() {
        assert_eq!(killed.status.code(), Some(0), "{point}: {killed}");
        return false;
    }
    let left = scene.place.list().await;
    if append == 1 && side == "before" {
        assert_eq!(
            (left.len(), scene.loopback.requests().len()),
            (0, 0),
            "{point}: nothing was promised or done"
        );
        let ended = scene.place.troupe(["recover"]).end().await.expect_code(0);
        assert!(
            ended.stderr.contains("there is nothing to recover"),
            "{point}: {ended}"
        );
        return true;
    }
    let [row] = left.try_into().expect("one execution");
    let id = row["id"].as_str().expect("an id").to_owned();
    let before = scene.place.events(&id).await;
    recover(&scene, &id, &point).await;
    let after = scene.place.events(&id).await;
    check_history(&before, &after, &point);
    let shown = scene.place.show(&id).await;
    assert_eq!(End::of(&shown), expected.end, "{point}");
    let (calls, lost) = (scene.model_calls(), under_way(&before));
    assert!(
        (expected.model_calls..=expected.model_calls + lost).contains(&calls),
        "{point}: {calls} model calls, {} were expected and {lost} under way",
        expected.model_calls
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

/// Recovers until the execution has ended.
async fn recover(scene: &Scene, id: &str, point: &str) {
    for _ in 0..RECOVERIES_MAX {
        let listed = scene.place.list().await;
        if listed
            .iter()
            .any(|row| row["id"] == id && row["status"] == "completed")
        {
            return;
        }
        let ended = scene.place.troupe(["recover"]).end().await;
        assert_eq!(ended.status.code(), Some(0), "{point}: {ended}");
    }
    let listed = scene.place.list().await;
    assert_eq!(listed[0]["status"], "completed", "{point}");
}

/// What was recorded stays, and no step that had finished is begun again or finished twice.
fn check_history(before: &[Value], after: &[Value], point: &str) {
    assert!(after.starts_with(before), "{point}: the past was changed");
    let paths = |events: &[Value], kind: &str| -> Vec<Value> {
        let found = events.iter().filter(|event| event["type"] == kind);
        found.map(|event| event["path"].clone()).collect()
    };
    let new = &after[before.len()..];
    for path in paths(before, "step_completed") {
        assert!(
            !paths(new, "step_started").contains(&path),
            "{point}: {path} was begun again"
        );
    }
    let completed = paths(after, "step_completed");
    for path in &completed {
        let times = completed.iter().filter(|other| *other == path).count();
        assert_eq!(times, 1, "{point}: {path} was finished {times} times");
    }
    assert_eq!(
        (
            count(after, "execution_created"),
            count(after, "execution_completed")
        ),
        (1, 1),
        "{point}"
    );
    // Each step that was under way is said to have been interrupted, once.
    let mut open = paths(before, "step_started");
    for ended in ["step_completed", "step_failed"] {
        for path in paths(before, ended) {
            if let Some(index) = open.iter().position(|other| *other == path) {
                open.remove(index);
            }
        }
    }
    let mut interrupted = paths(after, "step_interrupted");
    open.sort_by_key(Value::to_string);
    interrupted.sort_by_key(Value::to_string);
    assert_eq!(interrupted, open, "{point}");
}

async fn crash_everywhere(example: &'static str, appends_least: u32) {
    let expected = undisturbed(example).await;
    for append in 1..APPENDS_MAX {
        let (before, after) = tokio::join!(
            crash_at(append, "before", example, &expected),
            crash_at(append, "after", example, &expected)
        );
        assert_eq!(before, after, "append {append} has two sides");
        if !before {
            assert!(
                append > appends_least,
                "only {} appends were met",
                append - 1
            );
            return;
        }
    }
    panic!("the example has more than {APPENDS_MAX} appends");
}

#[tokio::test]
async fn the_research_team_survives_a_kill_at_every_append() {
    crash_everywhere("research-team", 20).await;
}

#[tokio::test]
async fn the_research_assistant_survives_a_kill_at_every_append() {
    crash_everywhere("research-assistant", 8).await;
}

#[tokio::test]
async fn a_recovery_that_is_killed_is_recovered() {
    let expected = undisturbed("research-team").await;
    let scene = Scene::new("research-team").await;
    let killed = scene
        .run()
        .variable("TROUPE_FAIL_POINT", "write:2:after")
        .end()
        .await;
    assert!(killed.was_killed(), "{killed}");
    let mut lives = 1;
    loop {
        let side = if lives % 2 == 0 { "before" } else { "after" };
        let point = format!("write:12:{side}");
        let ended = scene
            .place
            .troupe(["recover"])
            .variable("TROUPE_FAIL_POINT", &point)
            .end()
            .await;
        if !ended.was_killed() {
            assert_eq!(ended.status.code(), Some(0), "{ended}");
            break;
        }
        lives += 1;
        assert!(lives < 100, "no progress is made");
    }
    assert!(lives > 2, "it was killed {lives} times");
    let listed = scene.place.list().await;
    let shown = scene
        .place
        .show(listed[0]["id"].as_str().expect("an id"))
        .await;
    assert_eq!(End::of(&shown), expected.end);
}

#[tokio::test]
async fn a_living_process_keeps_its_execution_and_a_dead_one_loses_it() {
    let scene = Scene::new("research-assistant").await;
    scene.loopback.script(Route::OpenAi, [Reply::hang()]);
    let running = scene.run().start();
    scene.loopback.wait_for(1).await;
    let [row] = scene.place.list().await.try_into().expect("one execution");
    let id = row["id"].as_str().expect("an id").to_owned();
    let before = scene.place.events(&id).await;
    for arguments in [vec!["recover"], vec!["recover", &id]] {
        let ended = scene.place.troupe(arguments).end().await.expect_code(3);
        assert!(
            ended.stderr.contains("being worked on by another process"),
            "{ended}"
        );
        assert!(ended.stderr.contains(&id), "{ended}");
    }
    assert_eq!(scene.place.events(&id).await, before, "it was touched");
    assert_eq!(scene.loopback.requests().len(), 1);

    let killed = running.kill().await;
    assert!(killed.was_killed(), "{killed}");
    let ended = scene
        .place
        .troupe(["recover", &id, "--json"])
        .end()
        .await
        .expect_code(0);
    let shown = ended.json();
    assert_eq!(shown["status"], "completed", "{ended}");
    assert_eq!(
        scene.loopback.requests_to(Route::OpenAi).len(),
        2,
        "the lost call, and its repetition"
    );
    let keys: Vec<String> = scene
        .loopback
        .requests_to(Route::OpenAi)
        .iter()
        .map(|request| request.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(keys[0], keys[1], "the same step, the same key");
    let interrupted = scene.place.events(&id).await;
    assert_eq!(count(&interrupted, "step_interrupted"), 1);
}

#[tokio::test]
async fn two_recoveries_at_once_do_the_work_once() {
    let scene = Scene::new("research-assistant").await;
    let killed = scene
        .run()
        .variable("TROUPE_FAIL_POINT", "write:3:after")
        .end()
        .await;
    assert!(killed.was_killed(), "{killed}");
    let recover = || scene.place.troupe(["recover"]).end();
    let (one, two, three) = tokio::join!(recover(), recover(), recover());
    let codes = [&one, &two, &three].map(|ended| ended.status.code());
    // Whoever comes too late says that another works on it, or that nothing is left.
    assert!(
        codes.contains(&Some(0)) && codes.iter().all(|code| matches!(code, Some(0 | 3))),
        "{one}\n{two}\n{three}"
    );
    let [row] = scene.place.list().await.try_into().expect("one execution");
    assert_eq!(row["status"], "completed");
    let events = scene.place.events(row["id"].as_str().expect("an id")).await;
    assert_eq!(count(&events, "step_completed"), 3);
    assert_eq!(count(&events, "execution_completed"), 1);
    let calls = scene.model_calls();
    assert!((2..=3).contains(&calls), "{calls} model calls");
}

#[tokio::test]
async fn an_execution_that_ended_is_left_alone() {
    let scene = Scene::new("research-assistant").await;
    let ended = scene.run().end().await.expect_code(0);
    let id = ended.id();
    let events = scene.place.events(&id).await;
    let again = scene
        .place
        .troupe(["recover", &id])
        .end()
        .await
        .expect_code(0);
    assert!(again.stderr.contains("completed"), "{again}");
    assert_eq!(scene.place.events(&id).await, events);
    let unknown = scene
        .place
        .troupe(["recover", "exec_00000000000000000000000000"])
        .end()
        .await
        .expect_code(2);
    assert!(
        unknown.stderr.contains("there is no execution"),
        "{unknown}"
    );
    assert_eq!(json!(scene.model_calls()), json!(2));
}
