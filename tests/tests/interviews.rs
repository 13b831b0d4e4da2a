//! Components that ask people: the instance is dropped while they wait, and run again with its recorded answers; what
//! `kill -9` leaves of that; and components that ask something else when they are run again.

use std::time::Duration;

use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Ended, Workplace, guest, step};
use serde_json::{Value, json};

/// Models that a run asks: two at once before the people, one after them.
const MODEL_CALLS: usize = 3;

fn question(message: &str) -> Value {
    json!({ "assignees": ["team@example.com"], "message": message })
}

fn interview(action: &str, grants: &Value, questions: &[Value]) -> Value {
    json!({
        "name": "Interview",
        "agents": [{
            "id": "reporter", "type": "code", "component": "agent.wasm", "grants": grants,
            "timeout_ms": 60_000,
        }],
        "steps": [{
            "id": "talk", "agent": "reporter", "action": action, "input": { "questions": questions },
        }],
        "config": { "max_retries": 1, "retry_delay_ms": 1, "budget_usd": 1 },
    })
}

fn both() -> Value {
    json!({ "llm": { "models": ["gpt-5-mini"] }, "human": true })
}

struct Scene {
    loopback: Loopback,
    place: Workplace,
}

impl Scene {
    async fn new(document: &Value) -> Self {
        let loopback = Loopback::start().await;
        loopback.always(Route::OpenAi, Reply::text("so it is"));
        let mut place = Workplace::new();
        place.connect(&loopback, "");
        place.write("agent.wasm", guest("interview"));
        place.write("workflow.json", document.to_string());
        Self { loopback, place }
    }

    async fn call(&self, arguments: &[&str], code: i32) -> Ended {
        let ended = self.place.troupe(arguments).end().await;
        ended.expect_code(code)
    }

    async fn run(&self, code: i32) -> String {
        self.call(&["run", "workflow.json"], code).await.id()
    }

    /// What the component returned.
    async fn said(&self, id: &str) -> Value {
        let shown = self.place.show(id).await;
        assert_eq!(shown["status"], "completed", "{shown:#}");
        step(&shown, "talk")["output"].clone()
    }

    fn model_calls(&self) -> usize {
        self.loopback.requests().len()
    }
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

#[tokio::test]
async fn a_component_asks_a_person_between_models() {
    let form = json!({ "type": "object", "properties": { "words": { "type": "integer" } }, "required": ["words"] });
    let asked = json!({
        "assignees": ["team@example.com"], "message": "May this be published?",
        "context": { "title": "Bees" }, "form": form, "deadline_ms": 3_600_000,
    });
    let scene = Scene::new(&interview("ask", &both(), &[asked])).await;
    let ended = scene.call(&["run", "workflow.json"], 3).await;
    assert!(
        ended.stderr.contains("May this be published?") && ended.stderr.contains("Bees"),
        "{ended}"
    );
    let id = ended.id();
    let shown = scene.place.show(&id).await;
    assert_eq!(shown["status"], "waiting_approval", "{shown:#}");
    let waiting = &shown["waiting_for"];
    assert_eq!(waiting["step"], "talk");
    assert_eq!(waiting["agent"], "reporter");
    assert_eq!(waiting["message"], "May this be published?");
    assert_eq!(waiting["context"], json!({ "title": "Bees" }));
    assert_eq!(
        (&waiting["form"], &waiting["approvals_required"]),
        (&form, &json!(1))
    );
    assert!(waiting["deadline"].is_string(), "{waiting}");
    assert_eq!(scene.model_calls(), MODEL_CALLS - 1);

    let refused = scene.call(&["approve", &id, "--by", "ann"], 2).await;
    assert!(refused.stderr.contains("words"), "{refused}");
    let data = r#"{"words": 300}"#;
    scene
        .call(
            &[
                "approve", &id, "--by", "ann", "--form", data, "--notes", "well",
            ],
            0,
        )
        .await;
    let said = scene.said(&id).await;
    let answer = json!({ "approved": true, "by": "ann", "notes": "well", "data": "{\"words\":300}", "timed_out": false });
    assert_eq!(said["answers"], json!([answer]), "{said:#}");
    assert_eq!(said["second"], json!(["so it is"]));
    // An answer is no further try, and what was answered is not asked again.
    assert_eq!(said["attempt"], 1);
    assert_eq!(scene.model_calls(), MODEL_CALLS);
    let events = scene.place.events(&id).await;
    assert_eq!(count(&events, "question_asked"), 1);
    assert_eq!(count(&events, "step_started"), 2);
    // The clock stands at the recorded times.
    let at = |index: usize| events[index]["at"].clone();
    let place = |kind: &str| {
        let found = events.iter().position(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}"))
    };
    let times = &said["times"];
    assert_eq!(times[0], at(place("step_started")));
    assert_eq!(times[3], at(place("approval_given")), "{times}");
    assert_eq!(times.as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn rejections_are_answers_and_questions_may_follow_each_other() {
    let questions = [question("One?"), question("Two?")];
    let scene = Scene::new(&interview("ask", &both(), &questions)).await;
    let id = scene.run(3).await;
    let asked = scene
        .call(
            &["approve", &id, "--reject", "--by", "ann", "--notes", "no"],
            3,
        )
        .await;
    assert!(asked.stderr.contains("Two?"), "{asked}");
    scene.call(&["approve", &id, "--by", "bob"], 0).await;
    let said = scene.said(&id).await;
    let given = |index: usize| {
        (
            &said["answers"][index]["approved"],
            &said["answers"][index]["by"],
        )
    };
    assert_eq!(given(0), (&json!(false), &json!("ann")));
    assert_eq!(given(1), (&json!(true), &json!("bob")));
    assert_eq!(scene.model_calls(), MODEL_CALLS);
}

#[tokio::test]
async fn a_question_that_nobody_answers_in_time_is_answered_by_that() {
    let asked = json!({ "assignees": ["ann"], "message": "Now?", "deadline_ms": 1_000 });
    let scene = Scene::new(&interview("ask", &both(), &[asked])).await;
    let id = scene.run(3).await;
    loop {
        let ended = scene.place.troupe(["recover", &id]).end().await;
        match ended.status.code() {
            Some(3) => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => {
                let _ = ended.expect_code(0);
                break;
            }
        }
    }
    let said = scene.said(&id).await;
    let answer = &said["answers"][0];
    assert_eq!(
        (&answer["approved"], &answer["timed_out"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(answer["by"], Value::Null);
    assert_eq!(scene.model_calls(), MODEL_CALLS);
}

#[tokio::test]
async fn people_are_asked_only_where_it_is_granted() {
    let models = json!({ "llm": { "models": ["gpt-5-mini"] } });
    let mut named = models.clone();
    named["human"] = json!({ "assignees": ["ann"] });
    for (grants, says) in [
        (&models, "add `\"human\": true`"),
        (
            &named,
            "add `\"human\": {\"assignees\": [\"team@example.com\"]}`",
        ),
    ] {
        let scene = Scene::new(&interview("ask", grants, &[question("May I?")])).await;
        let id = scene.run(0).await;
        let said = scene.said(&id).await;
        let error = said["answers"][0]["error"].as_str().unwrap_or_default();
        assert!(error.contains(says), "{said:#}");
    }
    let asked = json!({ "assignees": ["ann"], "message": "May I?", "form": { "type": 7 } });
    let scene = Scene::new(&interview("ask", &named, &[asked])).await;
    let id = scene.run(0).await;
    let said = scene.said(&id).await;
    let error = said["answers"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("no JSON schema"), "{said:#}");
    let nobody = interview("ask", &json!({ "human": { "assignees": [] } }), &[]);
    scene.place.write("workflow.json", nobody.to_string());
    let ended = scene.call(&["validate", "workflow.json"], 2).await;
    assert!(ended.stderr.contains("/agents/0/grants/human"), "{ended}");
}

#[tokio::test]
async fn an_operator_leaves_people_by_pattern_and_a_denial_names_his_line() {
    let scene = Scene::new(&interview("ask", &both(), &[question("May I?")])).await;
    let config = std::fs::read_to_string(scene.place.path("troupe.toml")).expect("a file");
    let line = config.trim_end().lines().count() + 1;
    let narrowed = |people: &str| {
        let entry = format!("[[grants]]\nagents = [\"reporter\"]\nhuman = {people}\n");
        scene
            .place
            .write("troupe.toml", format!("{}\n{entry}", config.trim_end()));
    };
    narrowed("[\"*@example.com\"]");
    let id = scene.run(3).await;
    scene.call(&["approve", &id, "--by", "ann"], 0).await;
    assert_eq!(scene.said(&id).await["answers"][0]["approved"], true);
    for people in ["[]", "[\"boss@example.com\"]"] {
        narrowed(people);
        let said = scene.said(&scene.run(0).await).await;
        let error = said["answers"][0]["error"].as_str().unwrap_or_default();
        let says = format!(
            "the workflow grants it, the operator does not: add \"team@example.com\" to `human` of the [[grants]] at line {line} "
        );
        assert!(error.contains(&says), "{says}: {said:#}");
    }
}

#[tokio::test]
async fn a_component_that_asks_something_else_than_before_fails() {
    let mut document = interview("diverge", &both(), &[question("May I?")]);
    let scene = Scene::new(&document).await;
    let id = scene.run(3).await;
    // The component tells the models how long it may compute, which is nothing that is on record.
    let limit = |millis: u32| {
        let config = std::fs::read_to_string(scene.place.path("troupe.toml")).expect("a file");
        let config = config
            .split("[limits]")
            .next()
            .unwrap_or_default()
            .to_owned();
        scene.place.write(
            "troupe.toml",
            format!("{config}\n[limits]\ntimeout_ms = {millis}\n"),
        );
    };
    limit(20_000);
    let ended = scene.call(&["approve", &id, "--by", "ann"], 1).await;
    assert!(ended.stderr.contains("replay_diverged"), "{ended}");
    let shown = scene.place.show(&id).await;
    let error = &shown["error"];
    assert_eq!(error["code"], "replay_diverged");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("its call 2 (`model`) differs") && message.contains("let nothing depend"),
        "{message}"
    );
    assert_eq!(scene.model_calls(), 2, "nothing is asked past it");

    // A retry of the step begins anew, with nothing on record.
    document["steps"][0]["on_error"] = json!({ "retry": 1, "delay_ms": 1 });
    scene.place.write("workflow.json", document.to_string());
    let id = scene.run(3).await;
    limit(30_000);
    let again = scene.call(&["approve", &id, "--by", "ann"], 3).await;
    assert!(again.stderr.contains("May I?"), "{again}");
    scene.call(&["approve", &id, "--by", "bob"], 0).await;
    let said = scene.said(&id).await;
    assert_eq!(
        (&said["attempt"], &said["answers"][0]["by"]),
        (&json!(3), &json!("bob"))
    );
    assert_eq!(scene.model_calls(), 2 + 2 + MODEL_CALLS);
}

/// Goes on until the execution waits for a person or has ended, and answers then.
async fn recover(scene: &Scene, id: &str, point: &str) {
    let _ = scene.place.troupe(["recover", id]).end().await;
    let shown = scene.place.show(id).await;
    if shown["status"] == "waiting_approval" {
        let ended = scene
            .place
            .troupe(["approve", id, "--by", "ann"])
            .end()
            .await;
        assert_eq!(ended.status.code(), Some(0), "{point}: {ended}");
    }
}

/// Kills the run at one append and, where it gets so far, the answer's process too. None: neither has so many.
async fn crash_at(append: u32, side: &str) -> Option<usize> {
    let point = format!("write:{append}:{side}");
    let scene = Scene::new(&interview("ask", &both(), &[question("May I?")])).await;
    let killed = scene
        .place
        .troupe(["run", "workflow.json"])
        .variable("TROUPE_FAIL_POINT", &point)
        .end()
        .await;
    let mut kills = usize::from(killed.was_killed());
    let listed = scene.place.list().await;
    let Some(row) = listed.first() else {
        assert_eq!(scene.model_calls(), 0, "{point}");
        return Some(kills);
    };
    let id = row["id"].as_str().expect("an id").to_owned();
    let mut lost = 0;
    if killed.was_killed() {
        lost += under_way(&scene.place.events(&id).await);
        let _ = scene.place.troupe(["recover", &id]).end().await;
    }
    let answered = scene
        .place
        .troupe(["approve", &id, "--by", "ann"])
        .variable("TROUPE_FAIL_POINT", &point)
        .end()
        .await;
    if answered.was_killed() {
        kills += 1;
        lost += under_way(&scene.place.events(&id).await);
        recover(&scene, &id, &point).await;
    }
    let said = scene.said(&id).await;
    let answer =
        json!({ "approved": true, "by": "ann", "notes": null, "data": null, "timed_out": false });
    assert_eq!(said["answers"], json!([answer]), "{point}");
    assert_eq!(said["first"], json!(["so it is", "so it is"]), "{point}");
    assert_eq!(said["attempt"], 1, "{point}");
    let calls = scene.model_calls();
    assert!(
        (MODEL_CALLS..=MODEL_CALLS + lost).contains(&calls),
        "{point}: {calls} model calls, {lost} were under way"
    );
    let events = scene.place.events(&id).await;
    let counts = [
        "question_asked",
        "approval_given",
        "step_completed",
        "execution_completed",
    ];
    for kind in counts {
        assert_eq!(count(&events, kind), 1, "{point}: {kind}");
    }
    (kills > 0).then_some(kills)
}

/// Model calls that had begun, and whose end is not recorded.
fn under_way(events: &[Value]) -> usize {
    let of_models = |event: &&Value| event["kind"] == "model";
    let started = events
        .iter()
        .filter(|event| event["type"] == "call_started")
        .filter(of_models);
    started
        .filter(|call| {
            !events
                .iter()
                .any(|event| event["type"] == "call_ended" && event["call"] == call["call"])
        })
        .count()
}

#[tokio::test]
async fn killed_at_every_append_the_same_comes_out() {
    let mut points = 0;
    for append in 1.. {
        let (before, after) = tokio::join!(crash_at(append, "before"), crash_at(append, "after"));
        points += before.unwrap_or(0) + after.unwrap_or(0);
        if before.is_none() && after.is_none() {
            break;
        }
    }
    assert!(points >= 20, "only {points} points were met");
}
