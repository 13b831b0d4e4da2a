//! The API as a user meets it, on the built binary: executions from their begin to their end, and what people do with
//! them.

use e2e::loopback::{Gate, Reply, Route};
use e2e::server::scene::{Scene, article, expect_error, question, topic, yes};
use e2e::server::{Request, WORKFLOWS, id_of, of};
use e2e::troupe::step;
use serde_json::{Value, json};

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

/// Who wants to stop something does not lose against what records all the time.
#[tokio::test]
async fn what_never_rests_is_paused_and_cancelled() {
    let scene = Scene::new("").await;
    let server = scene.start().await;
    let busy = json!({
        "name": "Busy",
        "agents": [{ "id": "coder", "type": "code", "language": "javascript", "code": "result = input" }],
        "steps": [{
            "id": "each",
            "loop": { "items": "{{ inputs.items }}", "as": "item", "concurrency": 256, "steps": [
                { "id": "one", "agent": "coder", "action": "echo", "input": "{{ item }}" },
            ] },
        }],
    });
    let items = json!({ "items": (0..10_000).collect::<Vec<_>>() });
    let id = server.run_document(&busy, &items).await;
    let begun = e2e::server::until(async || {
        let progress = server.execution(&id).await["progress"]["completed"].as_u64();
        (progress > Some(500)).then_some(())
    });
    assert!(begun.await.is_some(), "it is at work");
    for what in ["/pause", "/resume", "/pause", "/resume", "/cancel"] {
        let done = server.act(&id, what, &json!({})).await;
        assert_eq!(done.status, 200, "{what}: {done}");
    }
    let ended = server.wait_for(&id, "cancelled").await;
    let completed = ended["progress"]["completed"].as_u64();
    assert!(completed < Some(10_000), "{completed:?}");
}
