//! The API as a user meets it, on the built binary: workflows and executions, people's answers, and what is refused.

use std::collections::BTreeSet;

use e2e::loopback::{Gate, Loopback, Reply, Route};
use e2e::server::{EXECUTIONS, Request, Response, Server, WORKFLOWS, id_of, of};
use e2e::troupe::{Workplace, step};
use serde_json::{Value, json};

/// A server, and the services that its workflows ask.
struct Scene {
    loopback: Loopback,
    place: Workplace,
}

impl Scene {
    /// Nothing is sent twice at the service's fault, so that requests can be counted.
    async fn new(more: &str) -> Self {
        let loopback = Loopback::start().await;
        let mut place = Workplace::new();
        place.connect(&loopback, more);
        Self { loopback, place }
    }

    async fn start(&self) -> Server {
        Server::start(self.place.serve()).await
    }
}

/// A workflow that asks a model once, then a person, then a model.
fn article() -> Value {
    json!({
        "name": "Article",
        "agents": [
            { "id": "writer", "type": "llm", "model": "gpt-5-mini" },
            { "id": "editor", "type": "human", "assignees": ["ann@example.com"] },
        ],
        "steps": [
            { "id": "draft", "agent": "writer", "action": "write", "input": "About {{ topic }}" },
            { "id": "review", "agent": "editor", "action": "review", "input": "{{ draft.output }}" },
            { "id": "final", "agent": "writer", "action": "polish", "input": "{{ draft.output }} {{ review.approved }}" },
        ],
        "config": { "max_retries": 0 },
    })
}

/// A workflow that asks a model and nothing else.
fn question() -> Value {
    json!({
        "name": "Question",
        "agents": [{ "id": "writer", "type": "llm", "model": "gpt-5-mini" }],
        "steps": [{ "id": "ask", "agent": "writer", "action": "write", "input": "About {{ topic }}" }],
        "config": { "max_retries": 0 },
    })
}

fn topic(text: &str) -> Value {
    json!({ "topic": text })
}

fn yes() -> Value {
    json!({ "approved": true, "approved_by": "ann" })
}

#[track_caller]
fn expect_error(response: &Response, status: u16, code: &str) {
    assert_eq!(
        (response.status, response.code()),
        (status, Some(code)),
        "{response}"
    );
    let error = &response.body["error"];
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{response}"
    );
    let request = error["request_id"].as_str().expect("an id");
    assert!(request.starts_with("req_"), "{response}");
    assert_eq!(response.header("x-request-id"), Some(request), "{response}");
    if status == 503 {
        assert!(response.header("retry-after").is_some(), "{response}");
    }
}

#[tokio::test]
async fn a_workflow_is_stored_run_and_answered() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let created = server.post(WORKFLOWS, &article()).await.expect(201);
    let workflow = id_of(&created);
    assert!(workflow.starts_with("wf_"), "{created:#}");
    assert_eq!(created["version"], 1);
    assert_eq!(created["inputs_inferred"], json!(["topic"]), "{created:#}");
    let shown = server
        .get(&format!("{WORKFLOWS}/{workflow}"))
        .await
        .expect(200);
    assert_eq!(shown, created);

    let path = format!("{WORKFLOWS}/{workflow}/run");
    let begun = server
        .post(&path, &json!({ "inputs": topic("bees") }))
        .await
        .expect(202);
    let id = id_of(&begun);
    assert_eq!(
        (&begun["workflow_id"], &begun["workflow_version"]),
        (&json!(workflow), &json!(1))
    );
    let waiting = server.wait_for(&id, "waiting_approval").await;
    assert_eq!(
        waiting["waiting_for"]["assignees"],
        json!(["ann@example.com"]),
        "{waiting:#}"
    );
    assert_eq!(scene.loopback.requests().len(), 1);
    let answered = server.act(&id, "/approve", &yes()).await;
    assert_eq!(answered.status, 200, "{answered}");
    let done = server.wait_for(&id, "completed").await;
    assert_eq!(
        step(&done, "review")["output"]["approved_by"],
        "ann",
        "{done:#}"
    );
    assert_eq!(scene.loopback.requests().len(), 2);
    expect_error(&server.act(&id, "/approve", &yes()).await, 409, "conflict");
    expect_error(
        &server.act(&id, "/cancel", &json!({})).await,
        409,
        "conflict",
    );
    assert_eq!(
        server.execution(&id).await,
        done,
        "what was refused changed nothing"
    );

    let gone = server.send(Request::delete(&of(&id, ""))).await;
    assert_eq!((gone.status, &gone.body), (204, &Value::Null), "{gone}");
    expect_error(&server.get(&of(&id, "")).await, 404, "not_found");
    expect_error(
        &server.send(Request::delete(&of(&id, ""))).await,
        404,
        "not_found",
    );
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn lists_have_pages_and_filters() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let workflow = server.create(&question()).await;
    let other = server.create(&article()).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(server.run(&workflow, &topic(&number.to_string())).await);
    }
    let waits = server.run(&other, &topic("ants")).await;
    for id in &ids {
        server.wait_for(id, "completed").await;
    }
    server.wait_for(&waits, "waiting_approval").await;

    let found = async |query: String| {
        let list = server
            .get(&format!("{EXECUTIONS}?{query}"))
            .await
            .expect(200);
        let data = list["data"].as_array().expect("a list").clone();
        let ids: Vec<String> = data.iter().map(id_of).collect();
        (ids, list["has_more"].clone(), list["next_cursor"].clone())
    };
    let (all, more, _) = found(format!("workflow_id={workflow}&sort=created_at")).await;
    assert_eq!((&all, more), (&ids, json!(false)));
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let (page, more, next) = found(format!(
            "workflow_id={workflow}&sort=created_at&limit=2{cursor}"
        ))
        .await;
        assert!(page.len() <= 2, "{page:?}");
        paged.extend(page);
        if more == json!(false) {
            assert_eq!(next, Value::Null);
            break;
        }
        cursor = format!("&cursor={}", next.as_str().expect("a cursor"));
    }
    assert_eq!(paged, ids);
    let (newest, _, _) = found(format!("workflow_id={workflow}&limit=1")).await;
    assert_eq!(newest, ids[4..]);
    let (waiting, _, _) = found("status=waiting_approval".to_owned()).await;
    assert_eq!(waiting, std::slice::from_ref(&waits));
    let (both, _, _) = found("status=waiting_approval,completed".to_owned()).await;
    assert_eq!(both.len(), 6);
    let at = server.execution(&ids[2]).await["created_at"]
        .as_str()
        .expect("a time")
        .to_owned();
    let (before, _, _) = found(format!("created_before={at}")).await;
    let (after, _, _) = found(format!("created_after={at}")).await;
    assert!(
        before.contains(&ids[0]) && !before.contains(&ids[4]),
        "{before:?}"
    );
    assert!(
        after.contains(&waits) && !after.contains(&ids[0]),
        "{after:?}"
    );
    refuses_wrong_filters(&server).await;
    let workflows = server
        .get(&format!("{WORKFLOWS}?limit=1"))
        .await
        .expect(200);
    assert_eq!(
        (&workflows["has_more"], id_of(&workflows["data"][0])),
        (&json!(true), workflow)
    );
}

async fn refuses_wrong_filters(server: &Server) {
    for wrong in [
        "limit=0",
        "limit=101",
        "limit=x",
        "status=done",
        "sort=name",
        "cursor=x",
        "created_after=now",
        "colour=red",
    ] {
        let refused = server.get(&format!("{EXECUTIONS}?{wrong}")).await;
        assert!(matches!(refused.status, 400 | 422), "{wrong}: {refused}");
    }
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let creating = Request::post(WORKFLOWS, &article()).key("one workflow");
    let created = futures::future::join_all((0..10).map(|_| server.send(creating.clone()))).await;
    let workflows: BTreeSet<String> = created
        .into_iter()
        .map(|one| id_of(&one.expect(201)))
        .collect();
    assert_eq!(workflows.len(), 1, "{workflows:?}");
    let workflow = workflows.first().expect("one");

    let path = format!("{WORKFLOWS}/{workflow}/run");
    let body = json!({ "inputs": topic("bees") });
    let running = Request::post(&path, &body).key("one run");
    let answers = futures::future::join_all((0..100).map(|_| server.send(running.clone()))).await;
    let ids: BTreeSet<String> = answers
        .into_iter()
        .map(|one| id_of(&one.expect(202)))
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.first().expect("one");
    let list = server.get(EXECUTIONS).await.expect(200);
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1), "{list:#}");
    let other = Request::post(&path, &json!({ "inputs": topic("ants") })).key("one run");
    expect_error(&server.send(other).await, 409, "idempotency_key_reused");
    let elsewhere = Request::post(&of(id, "/cancel"), &json!({})).key("one run");
    expect_error(&server.send(elsewhere).await, 409, "idempotency_key_reused");

    server.wait_for(id, "waiting_approval").await;
    let approving = Request::post(&of(id, "/approve"), &yes()).key("one answer");
    let answers = futures::future::join_all((0..50).map(|_| server.send(approving.clone()))).await;
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer}");
    }
    server.wait_for(id, "completed").await;
    assert_eq!(
        server.send(approving).await.status,
        200,
        "the answer is the same when it has ended"
    );
    assert_eq!(scene.loopback.requests().len(), 2);
}

#[tokio::test]
async fn of_several_answers_one_counts() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let workflow = server.create(&article()).await;
    for round in 0..5 {
        let id = server.run(&workflow, &topic(&round.to_string())).await;
        server.wait_for(&id, "waiting_approval").await;
        let answers = (0..8).map(|number| {
            let body =
                json!({ "approved": number % 2 == 0, "approved_by": format!("person {number}") });
            let server = &server;
            let path = of(&id, "/approve");
            async move { (number, server.post(&path, &body).await) }
        });
        let answers = futures::future::join_all(answers).await;
        let taken: Vec<_> = answers
            .iter()
            .filter(|(_, answer)| answer.status == 200)
            .collect();
        assert_eq!(taken.len(), 1, "{answers:?}");
        for (_, answer) in answers.iter().filter(|(_, answer)| answer.status != 200) {
            expect_error(answer, 409, "conflict");
        }
        let done = server.wait_for(&id, "completed").await;
        let output = &step(&done, "review")["output"];
        let number = taken[0].0;
        assert_eq!(output["approved"], number % 2 == 0, "{output}");
        assert_eq!(
            output["approved_by"],
            format!("person {number}"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn a_cancellation_reaches_what_runs() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    scene.loopback.script(Route::OpenAi, [Reply::hang()]);
    let id = server.run_document(&question(), &topic("bees")).await;
    scene.loopback.wait_for(1).await;
    assert_eq!(server.act(&id, "/cancel", &json!({})).await.status, 200);
    let ended = server.wait_for(&id, "cancelled").await;
    assert_eq!(step(&ended, "ask")["status"], "cancelled", "{ended:#}");

    let looping = json!({
        "name": "Looping",
        "agents": [{ "id": "coder", "type": "code", "language": "javascript", "code": "while (true) {}",
            "limits": { "timeout_ms": 60_000 } }],
        "steps": [{ "id": "spin", "agent": "coder", "action": "spin", "input": 1 }],
    });
    let id = server.run_document(&looping, &json!({})).await;
    let spins = e2e::server::until(async || {
        (step(&server.execution(&id).await, "spin")["status"] == "running").then_some(())
    });
    assert!(spins.await.is_some(), "the component runs");
    assert_eq!(server.act(&id, "/cancel", &json!({})).await.status, 200);
    server.wait_for(&id, "cancelled").await;
    assert_eq!(scene.loopback.requests().len(), 1);
}

#[tokio::test]
async fn an_execution_is_paused_retried_and_forked() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let gate = Gate::closed();
    scene.loopback.script(
        Route::OpenAi,
        [Reply::text("a draft").behind(&gate), Reply::status(401)],
    );
    let id = server.run_document(&article(), &topic("bees")).await;
    scene.loopback.wait_for(1).await;
    assert_eq!(
        server
            .act(&id, "/pause", &json!({ "reason": "lunch" }))
            .await
            .status,
        200
    );
    gate.open();
    server.wait_for(&id, "paused").await;
    let kept = e2e::server::until(async || {
        (step(&server.execution(&id).await, "draft")["status"] == "completed").then_some(())
    });
    assert!(
        kept.await.is_some(),
        "what ran when it was paused comes to its end"
    );
    assert_eq!(server.act(&id, "/resume", &json!({})).await.status, 200);
    server.wait_for(&id, "waiting_approval").await;
    assert_eq!(server.act(&id, "/approve", &yes()).await.status, 200);
    let failed = server.wait_for(&id, "failed").await;
    assert_eq!(failed["error"]["step"], "final", "{failed:#}");
    assert_eq!(scene.loopback.requests().len(), 2);

    // The service is well again.
    let retried = server.act(&id, "/retry", &json!({})).await;
    assert_eq!(retried.status, 200, "{retried}");
    let done = server.wait_for(&id, "completed").await;
    assert_eq!(
        scene.loopback.requests().len(),
        3,
        "nothing else is done again"
    );
    expect_error(
        &server.act(&id, "/retry", &json!({})).await,
        409,
        "conflict",
    );

    let fork = json!({ "from_step": "final", "inputs": topic("ants") });
    let forked = server.act(&id, "/fork", &fork).await;
    let forked = id_of(&forked.expect(202));
    let other = server.wait_for(&forked, "completed").await;
    assert_eq!(other["inputs"], topic("ants"), "{other:#}");
    assert_eq!(step(&other, "draft")["output"], "a draft", "{other:#}");
    assert_eq!(
        scene.loopback.requests().len(),
        4,
        "the steps before are kept"
    );
    assert_eq!(server.execution(&id).await, done);
    let nowhere = json!({ "from_step": "nothing" });
    expect_error(&server.act(&id, "/fork", &nowhere).await, 422, "invalid");
}

async fn refuses_what_it_cannot_read(server: &Server) {
    let put = server.post("/healthz", &json!({})).await;
    expect_error(&put, 405, "method_not_allowed");
    let untyped = server.send(Request::post_bytes(WORKFLOWS, "{}")).await;
    expect_error(&untyped, 415, "unsupported_media_type");
    let form = Request::post_bytes(WORKFLOWS, "a=b")
        .header("content-type", "application/x-www-form-urlencoded");
    expect_error(&server.send(form).await, 415, "unsupported_media_type");
    let broken =
        Request::post_bytes(WORKFLOWS, "{\"name\": ").header("content-type", "application/json");
    expect_error(&server.send(broken).await, 400, "malformed");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = Request::post_bytes(WORKFLOWS, deep).header("content-type", "application/json");
    expect_error(&server.send(deep).await, 400, "malformed");
    let large = json!({ "workflow": question(), "inputs": topic(&"x".repeat(9 << 20)) });
    expect_error(
        &server.post("/v1/orchestrate/run", &large).await,
        413,
        "too_large",
    );
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let missing = "exec_00000000000000000000000000";
    for path in [
        of(missing, ""),
        of("exec_x", ""),
        format!("{WORKFLOWS}/wf_x"),
        "/v1/nothing".to_owned(),
    ] {
        expect_error(&server.get(&path).await, 404, "not_found");
    }
    for what in ["/cancel", "/pause", "/resume", "/retry"] {
        expect_error(
            &server.act(missing, what, &json!({})).await,
            404,
            "not_found",
        );
    }
    refuses_what_it_cannot_read(&server).await;
    let mut wrong = article();
    wrong["steps"][0]["agent"] = json!("nobody");
    wrong["agents"][1]["type"] = json!("robot");
    let refused = server.post(WORKFLOWS, &wrong).await;
    expect_error(&refused, 422, "invalid");
    let details = refused.body["error"]["details"].as_array().expect("a list");
    assert!(details.len() >= 2, "{refused}");
    assert_eq!(
        refused.body["error"]["param"], details[0]["param"],
        "{refused}"
    );
    let workflow = server.create(&question()).await;
    let path = format!("{WORKFLOWS}/{workflow}/run");
    let lacking = server.post(&path, &json!({ "inputs": {} })).await;
    expect_error(&lacking, 422, "invalid");
    assert!(lacking.to_string().contains("topic"), "{lacking}");
    let later = json!({ "inputs": topic("bees"), "version": 2 });
    expect_error(&server.post(&path, &later).await, 422, "invalid");

    for (name, value) in [
        ("host", "example.com"),
        ("host", "127.0.0.1:1"),
        ("origin", "http://example.com"),
        ("origin", "null"),
    ] {
        let foreign = Request::get(EXECUTIONS).header(name, value);
        expect_error(&server.send(foreign).await, 403, "forbidden");
    }
    let own = format!("http://{}", server.client().address());
    assert_eq!(
        server
            .send(Request::get(EXECUTIONS).header("origin", &own))
            .await
            .status,
        200
    );
    let list = server.get(EXECUTIONS).await.expect(200);
    assert_eq!(list["data"], json!([]), "nothing was begun");
    assert_eq!(scene.loopback.requests().len(), 0);
}

#[tokio::test]
async fn a_full_queue_takes_no_more() {
    let scene = Scene::new("[server]\nconcurrency = 1\nqueue_max = 2\n").await;
    let server = scene.start().await;
    let gate = Gate::closed();
    scene
        .loopback
        .always(Route::OpenAi, Reply::text("so it is").behind(&gate));
    let workflow = server.create(&question()).await;
    let path = format!("{WORKFLOWS}/{workflow}/run");
    let mut taken = Vec::new();
    let refused = loop {
        let answer = server
            .post(&path, &json!({ "inputs": topic("bees") }))
            .await;
        if answer.status == 503 {
            break answer;
        }
        taken.push(id_of(&answer.expect(202)));
        assert!(taken.len() < 1_000, "the queue has no end");
    };
    expect_error(&refused, 503, "busy");
    let message = refused.body["error"]["message"].as_str().expect("a text");
    assert!(message.contains("queue_max"), "{refused}");
    server.get("/readyz").await.expect(200);
    gate.open();
    for id in &taken {
        server.wait_for(id, "completed").await;
    }
    let again = e2e::server::until(async || {
        let answer = server
            .post(&path, &json!({ "inputs": topic("bees") }))
            .await;
        (answer.status == 202).then_some(answer)
    });
    let again = id_of(&again.await.expect("there is room again").body);
    server.wait_for(&again, "completed").await;
    assert_eq!(scene.loopback.requests().len(), taken.len() + 1);
}
