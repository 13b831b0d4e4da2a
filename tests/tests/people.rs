//! Workflows that wait for people: who is asked, how they answer, what a deadline does, budgets that somebody raises,
//! and executions that somebody ends; and what `kill -9` leaves of all that.

use std::time::Duration;

use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Ended, Workplace, step};
use serde_json::{Value, json};

/// One question to a person, and what is made of the answer.
fn review(agent: &Value) -> Value {
    let mut human = json!({ "id": "review", "type": "human", "assignees": ["team@example.com"] });
    for (name, value) in agent.as_object().expect("fields of the agent") {
        human[name] = value.clone();
    }
    json!({
        "name": "Review",
        "agents": [human],
        "steps": [
            { "agent": "review", "action": "approve", "input": "Publish {{ text }}?" },
            { "condition": "{{ review.approved }}",
              "then": [{ "id": "published", "set": "{{ text }} by {{ review.approved_by }}" }],
              "else": [{ "id": "dropped", "set": "{{ review.notes }}" }] },
        ],
    })
}

/// Starts an execution of a document that soon waits for a person.
async fn start(place: &Workplace, document: &Value) -> String {
    let file = place.write("workflow.json", document.to_string());
    let file = file.to_string_lossy().into_owned();
    let ended = place.troupe(["run", &file, "-i", "text=news"]).end().await;
    ended.expect_code(3).id()
}

async fn call(place: &Workplace, arguments: &[&str], code: i32) -> Ended {
    place.troupe(arguments).end().await.expect_code(code)
}

#[tokio::test]
async fn a_person_is_asked_and_answers() {
    let place = Workplace::new();
    let form = json!({ "type": "object", "properties": { "channel": { "type": "string" } }, "required": ["channel"] });
    let id = start(
        &place,
        &review(&json!({ "form": form, "timeout_hours": 24 })),
    )
    .await;
    let shown = place.show(&id).await;
    assert_eq!(shown["status"], "waiting_approval", "{shown:#}");
    assert_eq!(shown["current_step"], "review");
    let waiting = &shown["waiting_for"];
    assert_eq!(waiting["type"], "human_approval");
    assert_eq!(waiting["assignees"], json!(["team@example.com"]));
    assert_eq!(waiting["message"], "Publish news?");
    assert_eq!(waiting["form"], form);
    assert!(waiting["deadline"].is_string(), "{waiting}");
    assert_eq!(shown["waiting"].as_array().map(Vec::len), Some(1));

    let refused = call(&place, &["approve", &id, "--by", "ann"], 2).await;
    assert!(refused.stderr.contains("channel"), "{refused}");
    let refused = call(
        &place,
        &["approve", &id, "--by", "ann", "--step", "reviw"],
        2,
    )
    .await;
    assert!(refused.stderr.contains("step_1"), "{refused}");
    let refused = call(&place, &["approve", &id, "--by", "ann", "--form", "{"], 2).await;
    assert!(refused.stderr.contains("--form is no JSON"), "{refused}");
    let data = r#"{"channel": "web"}"#;
    let done = call(&place, &["approve", &id, "--by", "ann", "--form", data], 0).await;
    assert_eq!(done.stdout.trim(), "news by ann", "{done}");
    let shown = place.show(&id).await;
    assert_eq!(shown["status"], "completed");
    let output = &step(&shown, "step_1")["output"];
    assert_eq!(output["data"], json!({ "channel": "web" }));
    assert_eq!(
        (&shown["waiting_for"], &shown["waiting"]),
        (&Value::Null, &json!([]))
    );
    let late = call(&place, &["approve", &id, "--by", "bob"], 2).await;
    assert!(late.stderr.contains("completed"), "{late}");
}

#[tokio::test]
async fn a_rejection_is_an_answer() {
    let place = Workplace::new();
    let id = start(&place, &review(&json!({}))).await;
    let arguments = [
        "approve", &id, "--reject", "--by", "ann", "--notes", "not now",
    ];
    let file = place.path("workflow.json").to_string_lossy().into_owned();
    let valid = call(&place, &["validate", &file], 0).await;
    let warning = "warning: /agents/0: `review` has no `timeout_hours`";
    assert!(valid.stderr.contains(warning), "{valid}");
    let done = call(&place, &arguments, 0).await;
    assert_eq!(done.stdout.trim(), "not now", "{done}");
    let shown = place.show(&id).await;
    let outputs = json!({ "approved": false, "approved_by": "ann", "notes": "not now", "data": null,
        "timed_out": false, "answers": [{ "by": "ann", "approved": false, "notes": "not now" }] });
    assert_eq!(shown["outputs"]["review"], outputs);
}

#[tokio::test]
async fn several_persons_must_agree() {
    let place = Workplace::new();
    let id = start(&place, &review(&json!({ "approvals_required": 2 }))).await;
    let first = call(&place, &["approve", &id, "--by", "ann"], 3).await;
    assert!(first.stderr.contains("1 of 2 approvals"), "{first}");
    let twice = call(&place, &["approve", &id, "--by", "ann"], 2).await;
    assert!(twice.stderr.contains("has answered already"), "{twice}");
    call(&place, &["approve", &id, "--by", "bob"], 0).await;
}

#[tokio::test]
async fn answers_at_the_same_time_are_all_counted_once() {
    let place = Workplace::new();
    let id = start(&place, &review(&json!({ "approvals_required": 3 }))).await;
    let answer = |by: &'static str| {
        place
            .troupe(["approve", &id, "--only-record", "--by", by])
            .end()
    };
    let (one, two, three) = tokio::join!(answer("ann"), answer("bob"), answer("eve"));
    for ended in [one, two, three] {
        let _ = ended.expect_code(0);
    }
    call(&place, &["recover", &id], 0).await;
    let events = place.events(&id).await;
    let given = events
        .iter()
        .filter(|event| event["type"] == "approval_given");
    assert_eq!(given.count(), 3);
}

#[tokio::test]
async fn a_deadline_holds_though_no_process_waits() {
    let place = Workplace::new();
    let agent = json!({ "timeout_hours": 0.0003, "on_timeout": "reject" });
    let id = start(&place, &review(&agent)).await;
    // Nobody works on it until somebody looks after its deadline.
    let recovered = loop {
        let ended = place.troupe(["recover", &id]).end().await;
        match ended.status.code() {
            Some(3) => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => break ended.expect_code(0),
        }
    };
    assert_eq!(recovered.id(), id);
    let shown = place.show(&id).await;
    assert_eq!(shown["outputs"]["review"]["timed_out"], true, "{shown:#}");
    assert_eq!(shown["outputs"]["review"]["approved_by"], Value::Null);
}

/// A person is asked while a timer runs beside.
fn beside_a_timer(seconds: u32) -> Value {
    json!({
        "name": "Beside",
        "agents": [{ "id": "review", "type": "human", "assignees": ["ann"] }],
        "steps": [
            { "parallel": [
                { "agent": "review", "action": "approve", "input": "Go?" },
                { "id": "pause", "wait": { "seconds": seconds } },
            ] },
            { "id": "end", "set": "{{ review.approved_by }}" },
        ],
    })
}

/// Waits until an execution of this place is there, and returns its id.
async fn the_one(place: &Workplace) -> String {
    loop {
        if let Some(row) = place.list().await.first() {
            let events = place.events(row["id"].as_str().expect("an id")).await;
            if events.iter().any(|event| event["type"] == "wait_started") {
                return row["id"].as_str().expect("an id").to_owned();
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_answer_reaches_the_process_that_works_on_the_execution() {
    let place = Workplace::new();
    let file = place.write("workflow.json", beside_a_timer(4).to_string());
    let file = file.to_string_lossy().into_owned();
    let run = place.troupe(["run", &file]).end();
    let answered = async {
        let id = the_one(&place).await;
        call(&place, &["approve", &id, "--by", "ann"], 0).await
    };
    let (ran, answered) = tokio::join!(run, answered);
    assert!(answered.stderr.contains("is recorded"), "{answered}");
    assert_eq!(ran.expect_code(0).stdout.trim(), "ann");
}

#[tokio::test]
async fn somebody_ends_an_execution_that_runs_elsewhere() {
    let place = Workplace::new();
    let file = place.write("workflow.json", beside_a_timer(600).to_string());
    let file = file.to_string_lossy().into_owned();
    let run = place.troupe(["run", &file]).end();
    let cancelled = async {
        let id = the_one(&place).await;
        call(&place, &["cancel", &id], 0).await;
        id
    };
    let (ran, id) = tokio::join!(run, cancelled);
    let ran = ran.expect_code(1);
    assert!(ran.stderr.contains("was cancelled"), "{ran}");
    let shown = place.show(&id).await;
    assert_eq!(shown["status"], "cancelled");
    assert_eq!(step(&shown, "pause")["status"], "cancelled");
}

#[tokio::test]
async fn an_execution_that_waits_is_ended_and_takes_no_answer_then() {
    let place = Workplace::new();
    let id = start(&place, &review(&json!({}))).await;
    call(&place, &["cancel", &id], 0).await;
    assert_eq!(place.show(&id).await["status"], "cancelled");
    let late = call(&place, &["approve", &id, "--by", "ann"], 2).await;
    assert!(late.stderr.contains("cancelled"), "{late}");
    let twice = call(&place, &["cancel", &id], 2).await;
    assert!(twice.stderr.contains("cancelled already"), "{twice}");
}

#[tokio::test]
async fn a_budget_that_is_raised_lets_the_execution_go_on() {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, "");
    loopback.script(Route::OpenAi, [Reply::text("42")]);
    let document = json!({
        "name": "Question",
        "agents": [{ "id": "model", "type": "llm", "model": "gpt-5-mini", "max_tokens": 1000 }],
        "steps": [{ "id": "ask", "agent": "model", "action": "answer", "input": "{{ text }}" }],
        "config": { "budget_usd": 0.0001, "on_budget_exceeded": "pause" },
    });
    let id = start(&place, &document).await;
    let shown = place.show(&id).await;
    assert_eq!(shown["status"], "paused", "{shown:#}");
    assert_eq!(
        loopback.requests().len(),
        0,
        "nothing is asked that cannot be paid"
    );
    let nothing = call(&place, &["resume", &id], 2).await;
    assert!(nothing.stderr.contains("budget to be raised"), "{nothing}");
    let lower = call(&place, &["resume", &id, "--budget-usd", "0.00005"], 2).await;
    assert!(lower.stderr.contains("give more than that"), "{lower}");
    let other = call(&place, &["resume", &id, "--budget-tokens", "5"], 2).await;
    assert!(other.stderr.contains("no `budget_tokens`"), "{other}");
    let still = call(&place, &["resume", &id, "--budget-usd", "0.0002"], 3).await;
    assert!(still.stderr.contains("is paused at `ask`"), "{still}");
    let done = call(&place, &["resume", &id, "--budget-usd", "1"], 0).await;
    assert_eq!(done.stdout.trim(), "42");
    assert_eq!(loopback.requests().len(), 1);
}

/// Every form of block around a person, without anything of the outside.
fn every_block() -> Value {
    json!({
        "name": "Blocks",
        "agents": [{ "id": "review", "type": "human", "assignees": ["ann"] }],
        "workflows": { "double": { "name": "double", "agents": [], "steps": [{ "id": "twice", "set": "{{ n * 2 }}" }] } },
        "steps": [
            { "id": "each", "loop": { "items": [1, 2, 3], "as": "n", "concurrency": 2, "steps": [
                { "id": "sub", "workflow": "double", "inputs": { "n": "{{ n }}" } },
                { "id": "pause", "wait": { "seconds": 0 } },
                { "id": "kept", "set": "{{ sub.twice }}" },
            ] } },
            { "agent": "review", "action": "approve", "input": "{{ each.results }}" },
            { "id": "again", "loop": { "until": "{{ count >= 2 }}", "max_iterations": 5, "steps": [
                { "id": "count", "set": "{{ (count | default(0)) + 1 }}" },
            ] } },
            { "condition": "review.approved", "then": [{ "id": "end", "set": "{{ each.results }}" }], "else": [{ "set": 1 }] },
        ],
    })
}

/// Takes a killed execution up; it waits for the person then. One that was not recorded is begun anew.
async fn recover_until_asked(place: &Workplace) -> String {
    let ended = place.troupe(["recover"]).end().await;
    if ended.status.code() == Some(3) {
        return ended.id();
    }
    assert!(place.list().await.is_empty(), "{ended}");
    let file = place.path("workflow.json").to_string_lossy().into_owned();
    let ended = place.troupe(["run", &file]).end().await;
    ended.expect_code(3).id()
}

#[tokio::test]
async fn killed_at_every_append_the_same_comes_out() {
    let mut points = 0;
    for append in 1.. {
        let mut was_killed = false;
        for side in ["before", "after"] {
            let place = Workplace::new();
            let file = place.write("workflow.json", every_block().to_string());
            let file = file.to_string_lossy().into_owned();
            let point = format!("write:{append}:{side}");
            let killed = place
                .troupe(["run", &file])
                .variable("TROUPE_FAIL_POINT", &point);
            let killed = killed.end().await;
            was_killed |= killed.was_killed();
            let id = if killed.was_killed() {
                points += 1;
                recover_until_asked(&place).await
            } else {
                killed.expect_code(3).id()
            };
            // The answer's own process is killed too: before and after it is recorded.
            let point = format!("write:{append}:{side}");
            let answered = place
                .troupe(["approve", &id, "--by", "ann"])
                .variable("TROUPE_FAIL_POINT", &point)
                .end()
                .await;
            if answered.was_killed() {
                was_killed = true;
                points += 1;
                let asked = place.show(&id).await["status"] == "waiting_approval";
                let waits = place.show(&id).await["waiting"] != json!([]);
                if asked && waits {
                    let ended = place.troupe(["approve", &id, "--by", "ann"]).end().await;
                    // It may be recorded, and only not be acted upon.
                    assert!(
                        matches!(ended.status.code(), Some(0 | 2)),
                        "{point}: {ended}"
                    );
                }
                let _ = place.troupe(["recover", &id]).end().await;
            }
            let shown = place.show(&id).await;
            assert_eq!(shown["status"], "completed", "{point}: {shown:#}");
            assert_eq!(shown["outputs"]["end"], json!([2, 4, 6]), "{point}");
            assert_eq!(shown["outputs"]["again"], json!([1, 2]), "{point}");
            let events = place.events(&id).await;
            let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
            assert_eq!(count("approval_given"), 1, "{point}");
            assert_eq!(count("approval_requested"), 1, "{point}");
            assert_eq!(count("workflow_started"), 3, "{point}");
        }
        if !was_killed {
            break;
        }
    }
    assert!(points >= 8, "only {points} points were met");
}
