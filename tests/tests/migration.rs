//! Copies of a journal in another database: whole, also when they were killed midway and are made again; refused while
//! somebody works on what is copied; and servers go on with what was copied.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use e2e::loopback::{Loopback, Reply, Route};
use e2e::operator::{Operator, long};
use e2e::postgres::Postgres;
use e2e::server::{Request, Server, WORKFLOWS, id_of};
use e2e::troupe::{Ended, step};
use serde_json::{Value, json};

async fn migrated(from: &str, to: &str, place: &Operator) -> Ended {
    place
        .call(&["migrate", "--from", from, "--to", to], 0)
        .await
}

#[tokio::test]
async fn everything_goes_to_postgres_and_back() {
    let operator = Operator::new();
    let done = operator.completed(&long("a")).await;
    let waits = operator.waiting("b").await;
    let url = Postgres::shared().database();
    migrated("sqlite", &url, &operator).await;
    // Once more: all of it is there.
    let again = migrated("sqlite", &url, &operator).await;
    assert!(
        again.stdout.contains("executions: 2 (there before: 2)"),
        "{again}"
    );
    // What went on meanwhile is brought up.
    operator.call(&["approve", &waits, "--by", "boss"], 0).await;
    let third = migrated("sqlite", &url, &operator).await;
    assert!(
        third.stdout.contains("executions: 2 (there before: 1)"),
        "{third}"
    );
    operator.verify(&["--database", &url], 0).await;
    let other = Operator::new();
    migrated(&url, "sqlite", &other).await;
    for id in [&done, &waits] {
        assert_eq!(
            other.place.events(id).await,
            operator.place.events(id).await
        );
    }
    other.verify(&[], 0).await;
}

#[tokio::test]
async fn what_differs_in_the_target_is_not_touched() {
    let (operator, other) = (Operator::new(), Operator::new());
    let waits = operator.waiting("b").await;
    let url = Postgres::shared().database();
    migrated("sqlite", &url, &operator).await;
    operator.call(&["approve", &waits, "--by", "boss"], 0).await;
    other.call(&["--database", &url, "cancel", &waits], 0).await;
    let arguments = ["migrate", "--from", "sqlite", "--to", &url];
    let refused = operator.call(&arguments, 1).await;
    assert!(refused.stderr.contains("went on otherwise"), "{refused}");
    assert!(
        !refused.stderr.contains(Postgres::shared().password()),
        "{refused}"
    );
}

const SCHEDULES: &str = "/v1/schedules";

/// A workflow that waits for a person.
fn asking() -> Value {
    json!({
        "name": "Ask",
        "agents": [{ "id": "boss", "type": "human", "assignees": ["boss@example.com"] }],
        "steps": [
            { "id": "said", "agent": "boss", "action": "approve", "input": "{{ text }}?" },
            { "id": "done", "set": "{{ text }}!" },
        ],
    })
}

/// What a server has been given: a workflow, a schedule, a run with a key.
struct Given {
    workflow: String,
    schedule: Value,
    waits: String,
}

fn keyed(workflow: &str) -> Request {
    let path = format!("{WORKFLOWS}/{workflow}/run");
    Request::post(&path, &json!({ "inputs": { "text": "once" } })).key("the only one")
}

async fn give(server: &Server) -> Given {
    let workflow = server.create(&asking()).await;
    let schedule = json!({
        "workflow_id": workflow,
        "cron": "0 7 * * *",
        "timezone": "Europe/Berlin",
        "inputs": { "text": "tick" },
    });
    let schedule = server.post(SCHEDULES, &schedule).await.expect(201);
    let waits = id_of(&server.send(keyed(&workflow)).await.expect(202));
    server.wait_for(&waits, "waiting_approval").await;
    Given {
        workflow,
        schedule,
        waits,
    }
}

/// Whether a server of another database has all of it, and goes on with it.
async fn goes_on(server: &Server, given: &Given) {
    let schedule = format!("{SCHEDULES}/{}", given.schedule["id"].as_str().unwrap());
    let schedule = server.get(&schedule).await.expect(200);
    for field in ["next_at", "timezone", "workflow_id", "inputs"] {
        assert_eq!(schedule[field], given.schedule[field], "{field}");
    }
    // The same request again is the same execution.
    let again = server.send(keyed(&given.workflow)).await.expect(202);
    assert_eq!(id_of(&again), given.waits);
    let shown = server.execution(&given.waits).await;
    assert_eq!(shown["status"], "waiting_approval", "{shown:#}");
    assert_eq!(shown["workflow_id"], json!(given.workflow));
    let approved = json!({ "approved": true });
    let answer = server.act(&given.waits, "/approve", &approved).await;
    answer.expect(200);
    let done = server.wait_for(&given.waits, "completed").await;
    assert_eq!(step(&done, "done")["output"], json!("once!"), "{done:#}");
    // The stored workflow runs.
    let id = server.run(&given.workflow, &json!({ "text": "new" })).await;
    server.wait_for(&id, "waiting_approval").await;
}

#[tokio::test]
async fn a_server_on_the_other_database_goes_on() {
    let operator = Operator::new();
    let server = Server::start(operator.place.serve()).await;
    let given = give(&server).await;
    // One that waits for a moment.
    let timer = json!({
        "name": "Timer",
        "agents": [],
        "steps": [{ "id": "sleep", "wait": { "seconds": 3 } }, { "id": "done", "set": "awake" }],
    });
    let sleeps = server.run_document(&timer, &json!({})).await;
    let value = long("ü");
    let stored = operator.completed(&value).await;
    assert!(server.terminate().await.success());
    let url = Postgres::shared().database();
    migrated("sqlite", &url, &operator).await;
    let other = Operator::new().with(&url);
    other.verify(&[], 0).await;
    let server = Server::start(other.place.serve()).await;
    goes_on(&server, &given).await;
    server.wait_for(&sleeps, "completed").await;
    let shown = server.execution(&stored).await;
    assert_eq!(shown["inputs"]["text"], json!(value));
    assert!(server.terminate().await.success());
    other.verify(&[], 0).await;
    // And back, where a server goes on too.
    let back = Operator::new();
    migrated(&url, "sqlite", &back).await;
    let server = Server::start(back.place.serve()).await;
    let done = server.execution(&given.waits).await;
    assert_eq!(done["status"], "completed");
    assert!(server.terminate().await.success());
    back.verify(&[], 0).await;
}

/// Kills a copy at every place where it writes, then makes it again.
async fn a_killed_copy_is_made_again(
    operator: &Operator,
    from: &str,
    to: impl Fn() -> (String, Operator),
) {
    let mut ids = Vec::new();
    for said in ["a", &long("b")] {
        ids.push(operator.completed(said).await);
    }
    ids.push(operator.waiting("c").await);
    let mut kills = 0;
    for point in [
        "records:1:before",
        "records:1:after",
        "records:2:before",
        "restore:1:before",
        "restore:2:before",
        "restore:2:after",
        "restore:3:after",
        // The answer of the last is lost; it goes on.
        "restore:3:lost",
    ] {
        let (url, target) = to();
        let place = if url == "sqlite" { &target } else { operator };
        let call = place
            .place
            .troupe(["migrate", "--from", from, "--to", &url]);
        let killed = call.variable("TROUPE_FAIL_POINT", point).end().await;
        if point.ends_with("lost") {
            assert!(!killed.was_killed(), "{killed}");
        } else if point.starts_with("restore") || killed.was_killed() {
            assert!(killed.was_killed(), "{point}: {killed}");
            kills += 1;
        }
        let done = migrated(from, &url, place).await;
        assert!(done.stdout.contains("executions: 3 "), "{point}: {done}");
        assert_eq!(target.place.list().await.len(), 3, "{point}");
        for id in &ids {
            let events = operator.place.events(id).await;
            assert_eq!(target.place.events(id).await, events, "{point}");
        }
        target.verify(&[], 0).await;
    }
    assert!(kills >= 6, "{kills}");
}

#[tokio::test]
async fn a_copy_to_postgres_that_was_killed_is_made_again() {
    let to = || {
        let url = Postgres::shared().database();
        let target = Operator::new().with(&url);
        (url, target)
    };
    a_killed_copy_is_made_again(&Operator::new(), "sqlite", to).await;
}

#[tokio::test]
async fn a_copy_to_sqlite_that_was_killed_is_made_again() {
    let url = Postgres::shared().database();
    let to = || ("sqlite".to_owned(), Operator::new());
    a_killed_copy_is_made_again(&Operator::new().with(&url), &url, to).await;
}

#[tokio::test]
async fn what_is_at_work_is_not_copied() {
    let loopback = Loopback::start().await;
    let mut operator = Operator::new();
    operator.place.connect(&loopback, "");
    loopback.script(Route::OpenAi, [Reply::hang(), Reply::text("because")]);
    let document = json!({
        "name": "Question",
        "agents": [{ "id": "model", "type": "llm", "model": "gpt-5-mini" }],
        "steps": [{ "id": "ask", "agent": "model", "action": "answer", "input": "why" }],
    });
    let server = Server::start(operator.place.serve()).await;
    let id = server.run_document(&document, &json!({})).await;
    loopback.wait_for(1).await;
    let url = Postgres::shared().database();
    let arguments = ["migrate", "--from", "sqlite", "--to", &url];
    let refused = operator.call(&arguments, 1).await;
    for word in ["works on executions of the source", &id, "end all servers"] {
        assert!(refused.stderr.contains(word), "{word}: {refused}");
    }
    let count = Postgres::shared().sql(&url, "SELECT count(*) FROM troupe.executions");
    assert_eq!(count, "0");
    // The dead one's execution is copied, and the step that it was at is done again.
    server.kill().await;
    migrated("sqlite", &url, &operator).await;
    let operator = operator.with(&url);
    let server = Server::start(operator.place.serve()).await;
    let done = server.wait_for(&id, "completed").await;
    assert_eq!(step(&done, "ask")["output"], json!("because"), "{done:#}");
    assert_eq!(loopback.requests().len(), 2);
}
