//! The character U+0000, which PostgreSQL stores in no text: in values it is a character like any other, in both
//! databases; in names, ids and filters it is refused with a word about it.

use e2e::loopback::{Loopback, Reply, Route};
use e2e::operator::{Operator, long};
use e2e::server::{EXECUTIONS, Request, Server, WORKFLOWS, id_of};
use e2e::troupe::step;
use serde_json::{Value, json};

/// A value with some in it: in a text, in a name of a field, and in a text so long that it is stored apart.
fn zeros() -> Value {
    json!({ "text": "a\0b", "\0": ["\0\0"], "long": long("\0") })
}

fn documents() -> [Value; 2] {
    let asking = json!({
        "name": "Ask",
        "agents": [{ "id": "boss", "type": "human", "assignees": ["boss@example.com"] }],
        "steps": [
            { "id": "said", "agent": "boss", "action": "approve", "input": "{{ value.text }}?" },
            { "id": "done", "set": ["{{ value }}", "{{ said.notes }}"] },
        ],
    });
    let model = json!({
        "name": "Question",
        "agents": [{ "id": "model", "type": "llm", "model": "gpt-5-mini" }],
        "steps": [
            { "id": "ask", "agent": "model", "action": "answer", "input": "{{ value.text }}" },
            { "id": "done", "set": "{{ ask }}" },
        ],
    });
    [asking, model]
}

async fn values_come_back(operator: &mut Operator) {
    let loopback = Loopback::start().await;
    operator.place.connect(&loopback, "");
    let answer = format!("short \0, and {}.", long("\0"));
    loopback.always(Route::OpenAi, Reply::text(&answer));
    let [asking, model] = documents();
    let inputs = json!({ "value": zeros() });
    let server = Server::start(operator.place.serve()).await;
    let workflow = server.create(&asking).await;
    let waits = server.run(&workflow, &inputs).await;
    let asked = server.run_document(&model, &inputs).await;
    let done = server.wait_for(&asked, "completed").await;
    assert!(step(&done, "done")["output"] == json!(answer));
    server.wait_for(&waits, "waiting_approval").await;
    let said = json!({ "approved": true, "notes": "\0", "approved_by": "a\0", "data": zeros() });
    server.act(&waits, "/approve", &said).await.expect(200);
    let done = server.wait_for(&waits, "completed").await;
    assert!(step(&done, "done")["output"] == json!([zeros(), "\0"]));
    assert!(done["inputs"] == inputs);
    let paused = server.run(&workflow, &inputs).await;
    server.wait_for(&paused, "waiting_approval").await;
    let why = json!({ "reason": "\0" });
    server.act(&paused, "/pause", &why).await.expect(200);
    assert!(server.terminate().await.success());
    operator.verify(&[], 0).await;
}

#[tokio::test]
async fn values_come_back_from_sqlite() {
    values_come_back(&mut Operator::new()).await;
}

#[tokio::test]
async fn values_come_back_from_postgres() {
    values_come_back(&mut Operator::in_postgres()).await;
}

async fn names_are_refused(operator: &Operator) {
    let server = Server::start(operator.place.serve()).await;
    let [mut document, _] = documents();
    let id = server.create(&document).await;
    for path in [
        format!("{WORKFLOWS}/wf%00"),
        format!("{WORKFLOWS}?cursor=%00"),
        format!("{EXECUTIONS}?workflow_id={id}%00"),
        format!("{EXECUTIONS}/exec_%00"),
        "/v1/schedules/%00".to_owned(),
        "/v1/schedules?cursor=a%00".to_owned(),
    ] {
        for request in [Request::get(&path), Request::delete(&path)] {
            let answer = server.send(request).await;
            assert_eq!(answer.status, 400, "{path}: {answer}");
            assert!(answer.to_string().contains("U+0000"), "{path}: {answer}");
        }
    }
    let schedule = json!({ "workflow_id": format!("{id}\0"), "every_s": 60, "inputs": {} });
    let answer = server.post("/v1/schedules", &schedule).await;
    assert!((400..500).contains(&answer.status), "{answer}");
    document["name"] = json!("a\0b");
    let inputs = json!({ "value": zeros() });
    let run = json!({ "workflow": document, "inputs": inputs });
    for (path, body) in [(WORKFLOWS, &document), ("/v1/orchestrate/run", &run)] {
        let answer = server.post(path, body).await;
        assert_eq!(answer.status, 422, "{answer}");
        assert!(answer.to_string().contains("U+0000"), "{answer}");
    }
    // Nothing of it is left, and the server goes on.
    let run = server.run(&id, &inputs).await;
    server.wait_for(&run, "waiting_approval").await;
    let listed = server.get(WORKFLOWS).await.expect(200);
    assert_eq!(id_of(&listed["data"][0]), id);
    assert!(server.terminate().await.success());
    operator.place.write("zero.json", document.to_string());
    for command in ["validate", "run"] {
        let refused = operator.call(&[command, "zero.json"], 2).await;
        assert!(refused.to_string().contains("U+0000"), "{refused}");
    }
}

#[tokio::test]
async fn names_are_refused_before_sqlite() {
    names_are_refused(&Operator::new()).await;
}

#[tokio::test]
async fn names_are_refused_before_postgres() {
    names_are_refused(&Operator::in_postgres()).await;
}
