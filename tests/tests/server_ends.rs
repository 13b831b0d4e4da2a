//! How a server ends that is asked to: what runs may come to its end, what does not is handed over, and nobody who is
//! merely connected holds it up.

use std::time::Duration;

use e2e::loopback::{Gate, Loopback, Reply, Route};
use e2e::server::{Request, Server, until};
use e2e::troupe::{Workplace, step};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Two questions, one after the other.
fn questions() -> Value {
    json!({
        "name": "Questions",
        "agents": [{ "id": "writer", "type": "llm", "model": "gpt-5-mini" }],
        "steps": [
            { "id": "first", "agent": "writer", "action": "write", "input": "First" },
            { "id": "second", "agent": "writer", "action": "write", "input": "Second" },
        ],
        "config": { "max_retries": 0 },
    })
}

async fn scene(grace_ms: u32) -> (Loopback, Workplace) {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, &format!("[server]\ngrace_ms = {grace_ms}\n"));
    (loopback, place)
}

#[tokio::test]
async fn what_runs_ends_within_the_grace_and_nothing_new_begins() {
    let (loopback, place) = scene(30_000).await;
    let gate = Gate::closed();
    loopback.script(Route::OpenAi, [Reply::text("one").behind(&gate)]);
    let mut server = Server::start(place.serve()).await;
    let id = server.run_document(&questions(), &json!({})).await;
    loopback.wait_for(1).await;
    server.ask_to_end().await;
    let client = server.client();
    let closed = until(async || {
        let ready = client.send(Request::get("/readyz")).await;
        (ready.ok()?.status == 503).then_some(())
    });
    assert!(closed.await.is_some(), "it says that it takes no more work");
    assert!(!server.has_ended(), "a step still runs");
    let running = server.execution(&id).await;
    assert_eq!(running["status"], "running", "{running:#}");
    let body = json!({ "workflow": questions(), "inputs": {} });
    let refused = server.post("/v1/orchestrate/run", &body).await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, Some("busy")),
        "{refused}"
    );
    gate.open();
    assert!(server.ended().await.success(), "{}", server.said());
    assert_eq!(
        loopback.requests().len(),
        1,
        "the second step was not begun"
    );

    let again = Server::start(place.serve()).await;
    let done = again.wait_for(&id, "completed").await;
    assert_eq!(step(&done, "first")["output"], "one", "{done:#}");
    assert_eq!(step(&done, "first")["attempts"], 1, "{done:#}");
    assert_eq!(
        loopback.requests().len(),
        2,
        "the first was not asked again"
    );
}

#[tokio::test]
async fn what_does_not_end_in_time_is_handed_over() {
    let (loopback, place) = scene(200).await;
    loopback.script(Route::OpenAi, [Reply::hang()]);
    let server = Server::start(place.serve()).await;
    let id = server.run_document(&questions(), &json!({})).await;
    loopback.wait_for(1).await;
    assert!(server.terminate().await.success());
    let listed = place.list().await;
    assert_eq!(listed[0]["status"], "running", "{listed:?}");
    let again = Server::start(place.serve()).await;
    again.wait_for(&id, "completed").await;
    assert_eq!(loopback.requests().len(), 3);
}

#[tokio::test]
async fn who_is_merely_connected_does_not_hold_it_up() {
    let (_loopback, place) = scene(1_000).await;
    let server = Server::start(place.serve()).await;
    let address = server.client().address().to_owned();
    let silent = TcpStream::connect(&address).await.expect("a connection");
    let mut slow = TcpStream::connect(&address).await.expect("a connection");
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: ")
        .await
        .expect("half a request");
    let mut halfway = TcpStream::connect(&address).await.expect("a connection");
    let head = format!(
        "POST /v1/orchestrate/run HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    halfway
        .write_all(head.as_bytes())
        .await
        .expect("half a request");
    // The server has seen all three when it answers one that came later.
    server.get("/healthz").await.expect(200);
    let ended = tokio::time::timeout(Duration::from_secs(15), server.terminate()).await;
    assert!(ended.expect("the server waits for clients").success());
    drop((silent, slow, halfway));
}
