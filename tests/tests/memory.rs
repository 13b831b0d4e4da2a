//! What components remember from one execution to the next: who sees it, what `kill -9` leaves of it, what happens where
//! several change it at once, and how an operator looks after it.

use e2e::postgres::Postgres;
use e2e::troupe::{Ended, Workplace, guest, step};
use serde_json::{Value, json};

/// A workflow whose agent remembers, and does these requests in one step.
fn document(name: &str, agent: &str, requests: &Value) -> Value {
    json!({
        "name": name,
        "agents": [{
            "id": agent, "type": "code", "component": "agent.wasm", "grants": { "memory": true },
        }],
        "steps": [{ "id": "keep", "agent": agent, "action": "keep", "input": requests }],
        "config": { "max_retries": 1, "retry_delay_ms": 1 },
    })
}

fn place() -> Workplace {
    let place = Workplace::new();
    place.write("agent.wasm", guest("keeper"));
    place
}

async fn call(place: &Workplace, arguments: &[&str], code: i32) -> Ended {
    place.troupe(arguments).end().await.expect_code(code)
}

/// Runs a document to its end, and returns what the component was told.
async fn run(place: &Workplace, document: &Value) -> Value {
    place.write("workflow.json", document.to_string());
    let ended = call(place, &["run", "workflow.json", "--json"], 0).await;
    step(&ended.json(), "keep")["output"].clone()
}

/// The same for the agent that most tests are about.
async fn ask(place: &Workplace, requests: Value) -> Value {
    run(place, &document("News", "reader", &requests)).await
}

async fn what_is_stored_is_there_the_next_time(place: &Workplace) {
    let told = ask(
        place,
        json!([
            ["get", "seen"],
            ["set", "seen", { "ids": [1, 2.50] }],
            ["set", "seen", 2, 7],
            ["set", "seen/ü", "ü\u{0}", 0],
            ["get", "seen/ü"],
            ["keys", "seen"],
        ]),
    );
    let expected = json!([
        null,
        { "stored": 1 },
        { "conflict": 1 },
        { "stored": 1 },
        ["ü\u{0}", 1],
        ["seen", "seen/ü"],
    ]);
    assert_eq!(told.await, expected);
    let told = ask(
        place,
        json!([
            ["get", "seen"],
            ["set", "seen", 3, 1],
            ["delete", "seen/ü"],
            ["keys", ""]
        ]),
    );
    let expected = json!([[{ "ids": [1, 2.5] }, 1], { "stored": 2 }, "deleted", ["seen"]]);
    assert_eq!(told.await, expected);
    call(place, &["verify"], 0).await;
}

#[tokio::test]
async fn what_is_stored_is_there_the_next_time_in_sqlite() {
    what_is_stored_is_there_the_next_time(&place()).await;
}

#[tokio::test]
async fn what_is_stored_is_there_the_next_time_in_postgres() {
    let mut place = place();
    place.set("TROUPE_DATABASE", &Postgres::shared().database());
    what_is_stored_is_there_the_next_time(&place).await;
}

#[tokio::test]
async fn nobody_else_sees_it() {
    let place = place();
    ask(&place, json!([["set", "k", 1]])).await;
    let look = json!([["get", "k"], ["keys", ""], ["delete", "k"]]);
    for (workflow, agent) in [("News", "writer"), ("Other", "reader")] {
        let told = run(&place, &document(workflow, agent, &look)).await;
        assert_eq!(told, json!([null, [], "deleted"]), "{workflow}/{agent}");
    }
    // In a workflow that another one calls, the agent is the called one's.
    let mut sub = document("News", "reader", &look);
    sub["outputs"] = json!({ "told": "{{ keep.output }}" });
    let calling = json!({
        "name": "Calls", "agents": [], "workflows": { "sub": sub },
        "steps": [{ "id": "keep", "workflow": "sub" }],
    });
    let told = run(&place, &calling).await;
    assert_eq!(told["told"], json!([[1, 1], ["k"], "deleted"]));
}

#[tokio::test]
async fn what_one_of_both_does_not_grant_is_denied() {
    let place = place();
    let mut ungranted = document("News", "reader", &json!([["set", "k", 1], ["keys", ""]]));
    ungranted["agents"][0]["grants"] = json!({ "memory": false });
    for (config, document, says) in [
        (
            "",
            ungranted,
            "add `\"memory\": true` to the agent's `grants`",
        ),
        (
            "[[grants]]\nagents = [\"*\"]\nmemory = false\n",
            document("News", "reader", &json!([["set", "k", 1], ["keys", ""]])),
            "the operator does not: write `memory = true` in the [[grants]] at line 1",
        ),
    ] {
        place.write("troupe.toml", config);
        let told = run(&place, &document).await;
        for told in told.as_array().expect("answers") {
            let denied = told["denied"].as_str().unwrap_or_default();
            assert!(denied.contains(says), "{says}: {told}");
        }
        assert_eq!(call(&place, &["memory", "list"], 0).await.stdout, "");
    }
    let explained = call(&place, &["policy", "explain", "workflow.json"], 0).await;
    assert!(
        explained
            .stdout
            .contains("withheld  memory: the workflow grants it"),
        "{explained}"
    );
    place.write(
        "troupe.toml",
        "[[grants]]\nagents = [\"*\"]\nmemory = false\n[[grants]]\nagents = [\"reader\"]\nmemory = true\n",
    );
    let told = ask(&place, json!([["set", "k", 1]])).await;
    assert_eq!(told, json!([{ "stored": 1 }]));
    let inspected = call(&place, &["agent", "inspect", "agent.wasm"], 0).await;
    assert!(inspected.stdout.contains("memory"), "{inspected}");
}

/// A try after a failure is a new run: what the first one stored is there. One that only goes on stores nothing twice.
#[tokio::test]
async fn a_try_after_a_failure_finds_what_the_one_before_stored() {
    let place = place();
    let told = ask(&place, json!([["add", "n", 1], ["fail"], ["get", "n"]])).await;
    assert_eq!(told, json!([{ "stored": 2 }, null, [2, 2]]));
}

/// What the component does in the executions that are killed.
fn requests() -> Value {
    json!([
        ["add", "n", 5],
        ["set", "large", "x".repeat(5_000)],
        ["delete", "old"],
        ["add", "n", 6],
        ["keys", ""],
        ["get", "n"],
    ])
}

/// Killed at one append, before or after it, or its answer lost. None: there are not so many.
async fn crash_at(append: u32, side: &str) -> Option<()> {
    let point = format!("write:{append}:{side}");
    let place = place();
    ask(&place, json!([["set", "old", 1]])).await;
    let document = document("News", "reader", &requests());
    place.write("workflow.json", document.to_string());
    let first = place.list().await[0]["id"].clone();
    let ended = place.troupe(["run", "workflow.json", "--json"]);
    let ended = ended.variable("TROUPE_FAIL_POINT", &point).end().await;
    if !ended.was_killed() && side != "lost" {
        return None;
    }
    let listed = place.list().await;
    let row = listed.iter().find(|row| row["id"] != first);
    let Some(id) = row.and_then(|row| row["id"].as_str()) else {
        return Some(());
    };
    if ended.was_killed() {
        call(&place, &["recover", id], 0).await;
    }
    let shown = place.show(id).await;
    let told = json!([
        { "stored": 1 }, { "stored": 1 }, "deleted", { "stored": 2 }, ["large", "n"], [11, 2],
    ]);
    assert_eq!(step(&shown, "keep")["output"], told, "{point}");
    // Exactly once: another execution finds each change made one time.
    let found = ask(
        &place,
        json!([["get", "n"], ["get", "large"], ["keys", ""]]),
    )
    .await;
    let expected = json!([[11, 2], ["x".repeat(5_000), 1], ["large", "n"]]);
    assert_eq!(found, expected, "{point}");
    call(&place, &["verify"], 0).await;
    Some(())
}

#[tokio::test]
async fn every_change_happens_once_wherever_the_process_dies() {
    let mut crashes = 0;
    for append in 1.. {
        let before = crash_at(append, "before").await;
        let after = crash_at(append, "after").await;
        if before.is_none() && after.is_none() {
            break;
        }
        crash_at(append, "lost").await;
        crashes += usize::from(before.is_some()) + usize::from(after.is_some());
    }
    assert!(crashes >= 18, "{crashes}");
}

/// Rounds of a loop that all store something of their own.
fn crowd(prefix: &str, rounds: usize) -> Value {
    let items: Vec<String> = (0..rounds)
        .map(|number| format!("{prefix}{number:03}"))
        .collect();
    let mut document = document("News", "reader", &json!(null));
    document["steps"] = json!([{
        "id": "each",
        "loop": {
            "items": items, "as": "item", "concurrency": 8,
            "steps": [{
                "id": "keep", "agent": "reader", "action": "keep", "input": [["set", "{{ item }}", 1]],
            }],
        },
    }]);
    document
}

async fn executions_that_change_it_at_once_lose_nothing(place: &Workplace) {
    const ROUNDS: usize = 24;
    for name in ["a", "b", "c"] {
        place.write(&format!("{name}.json"), crowd(name, ROUNDS).to_string());
    }
    let run = async |file: &str| call(place, &["run", file], 0).await;
    tokio::join!(run("a.json"), run("b.json"), run("c.json"));
    let told = ask(place, json!([["keys", ""]])).await;
    let keys = told[0].as_array().map(Vec::len);
    assert_eq!(keys, Some(3 * ROUNDS), "{told}");
    let listed = call(place, &["memory", "list"], 0).await.stdout;
    let bytes = 3 * ROUNDS * 5;
    assert_eq!(
        listed,
        format!("News/reader  {} keys, {bytes} bytes\n", 3 * ROUNDS)
    );
}

#[tokio::test]
async fn executions_that_change_it_at_once_lose_nothing_in_sqlite() {
    executions_that_change_it_at_once_lose_nothing(&place()).await;
}

#[tokio::test]
async fn executions_that_change_it_at_once_lose_nothing_in_postgres() {
    let mut place = place();
    place.set("TROUPE_DATABASE", &Postgres::shared().database());
    executions_that_change_it_at_once_lose_nothing(&place).await;
}

#[tokio::test]
async fn an_operator_sees_who_remembers_moves_it_and_has_it_forgotten() {
    let place = place();
    ask(&place, json!([["set", "a", 1], ["set", "b", [1, 2]]])).await;
    run(
        &place,
        &document("Other", "reader", &json!([["set", "c", 1]])),
    )
    .await;
    // An execution that is removed, or imported elsewhere, has nothing to do with it.
    let id = place.list().await[0]["id"].as_str().map(str::to_owned);
    call(&place, &["delete", &id.expect("an id")], 0).await;
    let listed = call(&place, &["memory", "list", "--json"], 0).await.stdout;
    let listed: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let kept = |workflow: &str, keys: u64, bytes: u64| json!({ "workflow": workflow, "agent": "reader", "keys": keys, "bytes": bytes });
    assert_eq!(listed, [kept("News", 2, 8), kept("Other", 1, 2)]);

    let url = Postgres::shared().database();
    call(&place, &["migrate", "--from", "sqlite", "--to", &url], 0).await;
    let moved = call(&place, &["--database", &url, "memory", "list"], 0).await;
    assert_eq!(
        moved.stdout,
        "News/reader  2 keys, 8 bytes\nOther/reader  1 keys, 2 bytes\n"
    );

    let cleared = call(&place, &["memory", "clear", "News", "reader"], 0).await;
    assert_eq!(cleared.stdout, "2 keys forgotten\n");
    let refused = call(&place, &["memory", "clear", "News", "reader"], 2).await;
    assert!(refused.stderr.contains("remembers nothing"), "{refused}");
    assert_eq!(ask(&place, json!([["keys", ""]])).await, json!([[]]));
    let left = call(&place, &["memory", "list"], 0).await.stdout;
    assert_eq!(left, "Other/reader  1 keys, 2 bytes\n");
}

#[tokio::test]
async fn what_was_asked_is_on_record_with_its_answer() {
    let place = place();
    place.write(
        "workflow.json",
        document(
            "News",
            "reader",
            &json!([["set", "k", 1], ["set", "", 1], ["get", "k"]]),
        )
        .to_string(),
    );
    let id = call(&place, &["run", "workflow.json"], 0).await.id();
    let events = place.events(&id).await;
    let calls = events.iter().filter(|event| event["kind"] == "memory");
    let calls: Vec<_> = calls
        .map(|call| {
            let ended = events
                .iter()
                .find(|event| event["type"] == "call_ended" && event["call"] == call["call"]);
            (
                call["target"].clone(),
                ended.expect("an end")["outcome"].clone(),
            )
        })
        .collect();
    // What could not be kept under any circumstances is no request to the host.
    assert_eq!(
        calls,
        [
            (json!("set k"), json!({ "answered": { "stored": 1 } })),
            (
                json!("get k"),
                json!({ "answered": { "entry": { "value": "1", "version": 1 } } })
            ),
        ]
    );
}
