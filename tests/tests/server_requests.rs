//! What the API makes of requests, on the built binary: lists and their pages, requests that come twice, what is refused.

use std::collections::BTreeSet;

use e2e::loopback::{Gate, Reply, Route};
use e2e::server::scene::{Scene, article, expect_error, question, topic, yes};
use e2e::server::{EXECUTIONS, Request, Server, WORKFLOWS, id_of, of};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use troupe_workflow::Timestamp;

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

/// An answer must not grow with a request that is nothing but faults.
async fn says_a_bounded_number_of_faults(server: &Server) {
    let unknown: serde_json::Map<String, Value> =
        (0..100_000).map(|n| (format!("k{n}"), json!(1))).collect();
    let mut document = question();
    document["steps"] = json!([{ "id": "a", "set": 1 }]);
    let inputs = json!({ "workflow": document, "inputs": unknown });
    let document = json!({ "workflow": unknown, "inputs": {} });
    for body in [inputs, document] {
        let refused = server.post("/v1/orchestrate/run", &body).await;
        expect_error(&refused, 422, "invalid");
        let details = refused.body["error"]["details"].as_array().map(Vec::len);
        assert_eq!(details, Some(200), "{:.500}", refused.to_string());
    }
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
    for path in [WORKFLOWS, EXECUTIONS, "/v1/schedules"] {
        let unreadable = server.get(&format!("{path}/%ff")).await;
        expect_error(&unreadable, 400, "malformed");
    }
    for what in ["/cancel", "/pause", "/resume", "/retry"] {
        expect_error(
            &server.act(missing, what, &json!({})).await,
            404,
            "not_found",
        );
    }
    refuses_what_it_cannot_read(&server).await;
    says_a_bounded_number_of_faults(&server).await;
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

/// A schedule that falls due while the queue is full is put off, and holds up nothing else.
#[tokio::test]
async fn a_full_queue_holds_up_no_work_though_a_schedule_is_due() {
    let scene = Scene::new("[server]\nconcurrency = 1\nqueue_max = 2\n").await;
    let server = scene.start().await;
    let gate = Gate::closed();
    scene
        .loopback
        .always(Route::OpenAi, Reply::text("so it is").behind(&gate));
    let workflow = server.create(&question()).await;
    let path = format!("{WORKFLOWS}/{workflow}/run");
    let body = json!({ "inputs": topic("bees") });
    let mut taken = Vec::new();
    loop {
        let answer = server.post(&path, &body).await;
        if answer.status == 503 {
            break;
        }
        taken.push(id_of(&answer.expect(202)));
        assert!(taken.len() < 1_000, "the queue has no end");
    }
    let schedule = json!({ "workflow_id": workflow, "every_s": 1, "inputs": topic("ants") });
    let schedule = id_of(&server.post("/v1/schedules", &schedule).await.expect(201));
    let path = format!("/v1/schedules/{schedule}");
    let created = server.get(&path).await.expect(200);
    // A change says what time it is there.
    let due = e2e::server::until(async || {
        let change = Request::patch(&path, &json!({ "missed": "once" }));
        let changed = server.send(change).await.expect(200);
        let time = |of: &Value, name: &str| of[name].as_str().and_then(Timestamp::parse);
        (time(&changed, "updated_at") > time(&created, "next_at")).then_some(())
    });
    assert!(due.await.is_some(), "the schedule falls due");
    gate.open();
    for id in &taken {
        server.wait_for(id, "completed").await;
    }
    let started = e2e::server::until(async || {
        let schedule = server.get(&path).await.expect(200);
        (!schedule["last_execution"].is_null()).then_some(())
    });
    assert!(
        started.await.is_some(),
        "it starts when there is room again"
    );
}

/// It would wait until the configuration changes, and nobody would be told.
#[tokio::test]
async fn what_nobody_here_can_do_is_not_begun() {
    let free = "[models]\n\"free\" = { provider = \"openai\", model = \"no-price\" }\n";
    let scene = Scene::new(free).await;
    let server = scene.start().await;
    let mut unpriced = question();
    unpriced["agents"][0]["model"] = json!("free");
    let workflow = server.create(&unpriced).await;
    let path = format!("{WORKFLOWS}/{workflow}/run");
    // Without a price no budget can be kept.
    let capped = json!({ "inputs": topic("bees"), "config": { "budget_usd": 1 } });
    let refused = server.post(&path, &capped).await;
    expect_error(&refused, 422, "invalid");
    assert!(refused.to_string().contains("has no price"), "{refused}");
    let list = server.get(EXECUTIONS).await.expect(200);
    assert_eq!(list["data"], json!([]), "nothing was begun");
    let id = server.run(&workflow, &topic("bees")).await;
    server.wait_for(&id, "completed").await;
}

/// What a large body is turned into takes many times its memory: two are worked on at once, and small ones beside them.
#[tokio::test]
async fn large_bodies_wait_for_their_turn_and_hold_up_no_small_ones() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let address = server.client().address().to_owned();
    let head = format!(
        "POST {WORKFLOWS} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(&address).await.expect("a connection");
        connection
            .write_all(head.as_bytes())
            .await
            .expect("the head");
        // The server asks for the body when it has a place for it.
        let mut begins = [0_u8; 12];
        connection
            .read_exact(&mut begins)
            .await
            .expect("a place for it");
        assert_eq!(&begins, b"HTTP/1.1 100");
        slow.push(connection);
    }
    let large = json!({
        "name": "Large", "agents": [], "steps": [{ "id": "a", "set": "x".repeat(300_000) }],
    });
    let validate = format!("{WORKFLOWS}/validate");
    let client = server.client();
    let mut waiting = std::pin::pin!(client.send(Request::post(&validate, &large)));
    // Small ones are answered while it waits.
    let small = question();
    for _ in 0..20 {
        tokio::select! {
            biased;
            early = &mut waiting => panic!("a third large body was worked on: {early:?}"),
            answer = server.post(&validate, &small) => drop(answer.expect(200)),
        }
    }
    drop(slow.pop());
    let answer = waiting.await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer}");
}
