//! Schedules, by servers that are killed at any point of a start: each moment starts at most one execution, and what
//! was missed is made up for as the schedule says.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use e2e::postgres::Postgres;
use e2e::server::{EXECUTIONS, Request, Server, id_of, until};
use e2e::troupe::{Call, Ended, Workplace};
use serde_json::{Value, json};
use troupe_workflow::Timestamp;

const SCHEDULES: &str = "/v1/schedules";
/// The signal that ends a process without a word.
const SIGKILL: i32 = 9;

/// Ends at once, and needs no service.
fn document() -> Value {
    json!({
        "name": "Tick",
        "agents": [],
        "steps": [{ "id": "said", "set": "{{ word }}" }],
    })
}

/// A workflow and a schedule for each second. `fields` are added to it.
async fn scheduled(server: &Server, fields: Value) -> String {
    let mut schedule = json!({
        "workflow_id": server.create(&document()).await,
        "every_s": 1,
        "inputs": { "word": "tick" },
        "overlap": "allow",
    });
    let more = fields.as_object().unwrap().clone();
    schedule.as_object_mut().unwrap().extend(more);
    id_of(&server.post(SCHEDULES, &schedule).await.expect(201))
}

async fn schedule(server: &Server, id: &str) -> Value {
    server.get(&format!("{SCHEDULES}/{id}")).await.expect(200)
}

/// All executions, and for which moments a schedule started them.
async fn executions(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{EXECUTIONS}?limit=100&sort=created_at{cursor}");
        let page = server.get(&path).await.expect(200);
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// How many executions each moment has.
fn moments(executions: &[Value]) -> BTreeMap<String, usize> {
    let mut moments = BTreeMap::new();
    for execution in executions {
        let moment = execution["schedule"]["planned_at"].as_str();
        let moment = moment.unwrap_or_else(|| panic!("no schedule started {execution}"));
        *moments.entry(moment.to_owned()).or_default() += 1;
    }
    moments
}

/// Waits until so many executions have completed.
async fn completed(server: &Server, count: usize) -> Vec<Value> {
    let mut last = Vec::new();
    let done = until(async || {
        last = executions(server).await;
        let completed = last.iter().filter(|one| one["status"] == "completed");
        (completed.count() >= count).then_some(())
    });
    assert!(
        done.await.is_some(),
        "{last:#?}; the server said:\n{}",
        server.said()
    );
    last
}

#[track_caller]
fn assert_none_doubled(executions: &[Value]) {
    let moments = moments(executions);
    assert!(moments.values().all(|count| *count == 1), "{moments:#?}");
}

#[tokio::test]
async fn a_schedule_starts_executions_until_it_is_paused_or_removed() {
    let place = Workplace::new();
    let server = Server::start(place.serve()).await;
    let id = scheduled(&server, json!({ "config": { "max_retries": 1 } })).await;
    let path = format!("{SCHEDULES}/{id}");
    let found = completed(&server, 3).await;
    assert_none_doubled(&found);
    assert_eq!(found[0]["schedule"]["id"], json!(id));
    let first = server.execution(found[0]["id"].as_str().unwrap()).await;
    assert_eq!(first["inputs"], json!({ "word": "tick" }));
    assert_eq!(first["schedule"], found[0]["schedule"]);
    assert_eq!(first["workflow_version"], 1);
    // What was planned, one after the other, without a hole.
    let shown = schedule(&server, &id).await;
    assert_eq!(shown["missed_count"], 0, "{shown}");
    assert_eq!(shown["last_error"], Value::Null);

    let paused = Request::patch(&path, &json!({ "paused": true }));
    let paused = server.send(paused).await.expect(200);
    assert_eq!(paused["next_at"], Value::Null);
    let last = paused["last_execution"]["id"].clone();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let shown = schedule(&server, &id).await;
    assert_eq!(shown["last_execution"]["id"], last);
    let resumed = Request::patch(&path, &json!({ "paused": false }));
    let _ = server.send(resumed).await.expect(200);
    let count = executions(&server).await.len();
    let found = completed(&server, count + 1).await;
    assert_none_doubled(&found);
    assert_eq!(schedule(&server, &id).await["missed_count"], 0);

    let _ = server.send(Request::delete(&path)).await.expect(204);
    let _ = server.get(&path).await.expect(404);
    let _ = server.send(Request::delete(&path)).await.expect(404);
    let count = executions(&server).await.len();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(executions(&server).await.len(), count);
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_said_with_its_place() {
    let place = Workplace::new();
    let server = Server::start(place.serve()).await;
    let workflow = server.create(&document()).await;
    let inputs = json!({ "word": "x" });
    for (body, param, count) in [
        (json!({ "workflow_id": workflow, "inputs": inputs }), "", 1),
        (
            json!({ "workflow_id": workflow, "cron": "* *", "timezone": "Mars", "overlap": "no" }),
            "/cron",
            3,
        ),
        (
            json!({ "workflow_id": "wf_0", "every_s": 1, "inputs": inputs }),
            "/workflow_id",
            1,
        ),
        (
            json!({ "workflow_id": workflow, "every_s": 1 }),
            "/inputs",
            1,
        ),
        (
            json!({ "workflow_id": workflow, "every_s": 1, "inputs": inputs, "config": { "on_error": 3 } }),
            "/config/on_error",
            1,
        ),
        (
            json!({ "workflow_id": workflow, "every_s": 0, "inputs": inputs }),
            "/every_s",
            1,
        ),
    ] {
        let refused = server.post(SCHEDULES, &body).await;
        assert_eq!(refused.status, 422, "{body}: {refused}");
        assert_eq!(refused.body["error"]["param"], param, "{refused}");
        let details = refused.body["error"]["details"].as_array().unwrap();
        assert_eq!(details.len(), count, "{refused}");
    }
    let _ = server.get("/v1/schedules/sched_0").await.expect(404);
    let _ = server.get("/v1/schedules?limit=0").await.expect(422);
    let run = format!("/v1/orchestrate/workflows/{workflow}/run");
    let wrong = json!({ "inputs": inputs, "config": { "max_retrys": 1 } });
    let refused = server.post(&run, &wrong).await.expect(422);
    assert_eq!(refused["error"]["param"], "/config/max_retrys");
    let right = json!({ "inputs": inputs, "config": { "max_retries": 1 } });
    let _ = server.post(&run, &right).await.expect(202);
}

#[tokio::test]
async fn the_same_key_makes_one_schedule() {
    let place = Workplace::new();
    let server = Server::start(place.serve()).await;
    let workflow = server.create(&document()).await;
    let body = json!({
        "workflow_id": workflow, "cron": "0 7 * * MON-FRI", "timezone": "Europe/Berlin",
        "inputs": { "word": "x" },
    });
    let once = || server.send(Request::post(SCHEDULES, &body).key("one"));
    let (one, two) = tokio::join!(once(), once());
    let (one, two) = (one.expect(201), two.expect(201));
    assert_eq!(one["id"], two["id"]);
    let mut other = body.clone();
    other["paused"] = json!(true);
    let reused = server
        .send(Request::post(SCHEDULES, &other).key("one"))
        .await;
    assert_eq!(
        (reused.status, reused.code()),
        (409, Some("idempotency_key_reused"))
    );
    let other = id_of(&server.post(SCHEDULES, &other).await.expect(201));
    let page = server.get("/v1/schedules?limit=1").await.expect(200);
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"]),
        (&one["id"], &json!(true))
    );
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/v1/schedules?cursor={cursor}");
    let page = server.get(&path).await.expect(200);
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"]),
        (&json!(other), &json!(false))
    );
}

/// A server that kills itself at a point of its starts, and one after it that does not.
async fn killed_at(call: impl Fn() -> Call, point: &str) {
    let server = Server::start(call()).await;
    let id = scheduled(&server, json!({})).await;
    completed(&server, 1).await;
    server.kill().await;

    let mut dying = Server::launch(call().variable("TROUPE_FAIL_POINT", point))
        .await
        .expect("it listens before it starts anything");
    assert_eq!(dying.ended().await.signal(), Some(SIGKILL), "{point}");

    let server = Server::start(call()).await;
    let before = executions(&server).await.len();
    let found = completed(&server, before + 2).await;
    assert_none_doubled(&found);
    let shown = schedule(&server, &id).await;
    assert_eq!(shown["last_error"], Value::Null, "{point}: {shown}");
    server.kill().await;
}

#[tokio::test]
async fn a_server_that_is_killed_around_a_start_doubles_none() {
    for point in [
        "create:1:before",
        "create:1:after",
        "create:2:before",
        "create:2:after",
        "append:1:before",
    ] {
        let place = Workplace::new();
        killed_at(|| place.serve(), point).await;
    }
}

#[tokio::test]
async fn a_server_on_postgresql_that_is_killed_around_a_start_doubles_none() {
    for point in ["create:1:before", "create:1:after"] {
        let place = Workplace::new();
        let database = format!("--database={}", Postgres::shared().database());
        killed_at(|| place.serve_with([&database]), point).await;
    }
}

#[tokio::test]
async fn what_was_missed_is_made_up_for_once() {
    let place = Workplace::new();
    let server = Server::start(place.serve()).await;
    let id = scheduled(&server, json!({ "missed": "once" })).await;
    completed(&server, 1).await;
    server.kill().await;
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let server = Server::start(place.serve()).await;
    let before = executions(&server).await.len();
    let _ = completed(&server, before + 2).await;
    // From here on nothing changes.
    let path = format!("{SCHEDULES}/{id}");
    let paused = Request::patch(&path, &json!({ "paused": true }));
    let shown = server.send(paused).await.expect(200);
    let found = executions(&server).await;
    assert_none_doubled(&found);
    let missed = shown["missed_count"].as_u64().unwrap();
    assert!(missed >= 2, "{shown}");
    // Each moment from the first to the last was started or counted.
    let moments = moments(&found);
    let mut times = moments
        .keys()
        .map(|text| Timestamp::parse(text).unwrap().as_millis());
    let (first, last) = (times.next().unwrap(), times.next_back().unwrap());
    let passed = u64::try_from((last - first) / 1_000 + 1).unwrap();
    let started = u64::try_from(moments.len()).unwrap();
    assert!(passed <= started + missed, "{moments:#?} {shown}");
}

#[tokio::test]
async fn of_two_servers_on_one_database_one_starts_each_moment() {
    let (one, two) = (Workplace::new(), Workplace::new());
    let database = format!("--database={}", Postgres::shared().database());
    let (first, second) = tokio::join!(
        Server::start(one.serve_with([&database])),
        Server::start(two.serve_with([&database])),
    );
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(scheduled(&first, json!({})).await);
    }
    let found = completed(&first, 20).await;
    second.kill().await;
    let found_later = completed(&first, found.len() + 5).await;
    for id in &ids {
        let of_one: Vec<Value> = found_later
            .iter()
            .filter(|execution| execution["schedule"]["id"] == json!(id))
            .cloned()
            .collect();
        assert!(of_one.len() >= 3, "{found_later:#?}");
        assert_none_doubled(&of_one);
    }
}

/// A command that is written in one line, and how it ended.
async fn troupe(place: &Workplace, line: &str, code: i32) -> Ended {
    let call = place.troupe(line.split_whitespace());
    call.end().await.expect_code(code)
}

#[tokio::test]
async fn schedules_on_the_command_line() {
    let place = Workplace::new();
    place.write("tick.json", document().to_string());
    let line = "schedule create tick.json --every 1s -i word=tick --overlap allow --json";
    let created = troupe(&place, line, 0).await.json();
    let id = created["id"].as_str().unwrap();
    let workflow = created["workflow_id"].as_str().unwrap();
    let listed = troupe(&place, "workflow list", 0).await;
    assert!(listed.stdout.contains(workflow), "{listed}");
    let line = format!("schedule create --workflow {workflow} --cron @daily -i word=x");
    let daily = troupe(&place, &line, 0).await;
    assert!(daily.stdout.contains("next "), "{daily}");
    let server = Server::start(place.serve()).await;
    completed(&server, 2).await;
    // The server runs, and sees what the command line writes.
    for (word, shown) in [
        ("pause", "paused"),
        ("resume", "next "),
        ("show", "last_execution"),
    ] {
        let ended = troupe(&place, &format!("schedule {word} {id}"), 0).await;
        assert!(ended.stdout.contains(shown), "{ended}");
    }
    let count = executions(&server).await.len();
    completed(&server, count + 1).await;
    let listed = troupe(&place, "schedule list", 0).await;
    assert_eq!(listed.stdout.lines().count(), 2, "{listed}");
    let _ = troupe(&place, &format!("schedule delete {id}"), 0).await;
    let _ = troupe(&place, &format!("schedule show {id}"), 2).await;
}

#[tokio::test]
async fn what_the_command_line_refuses_stores_nothing() {
    let place = Workplace::new();
    place.write("tick.json", document().to_string());
    for wrong in [
        "schedule create tick.json --cron nonsense -i word=x",
        "schedule create tick.json --every 1s",
        "schedule create tick.json --every soon -i word=x",
        "schedule create tick.json -i word=x",
        "schedule create --workflow wf_0 --every 1s",
        "schedule create --every 1s",
        "schedule pause sched_0",
        "schedule delete sched_0",
    ] {
        let _ = troupe(&place, wrong, 2).await;
    }
    for list in ["workflow list", "schedule list"] {
        assert_eq!(troupe(&place, list, 0).await.stdout, "");
    }
}
