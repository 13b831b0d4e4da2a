//! A full disk under `troupe serve`: what is new is refused, what is there can be read, and when there is room again all
//! goes on by itself. The disk is a small one in memory, in a name space of mounts that only the server sees.

use std::io::Write as _;
use std::path::PathBuf;

use e2e::loopback::{Gate, Loopback, Reply, Route};
use e2e::server::{EXECUTIONS, Server, id_of, until};
use e2e::troupe::{Call, Workplace, text};
use serde_json::{Value, json};

/// Bytes of the disk: room for the journal and some executions.
const DISK: &str = "8m";

fn question() -> Value {
    json!({
        "name": "Question",
        "agents": [{ "id": "writer", "type": "llm", "model": "gpt-5-mini" }],
        "steps": [{ "id": "ask", "agent": "writer", "action": "write", "input": "About {{ topic }}" }],
        "config": { "max_retries": 0 },
    })
}

/// A server with a small disk of its own as its data folder.
fn with_small_disk(place: &Workplace) -> Call {
    let data = text(place.path("data"));
    std::fs::create_dir_all(&data).expect("a folder to mount at");
    let script = r#"mount -t tmpfs -o size="$1" tmpfs "$2" || exit 9; shift 2; exec "$@""#;
    let mut before = vec!["unshare", "--mount"];
    // Who is not root is it in a name space of users.
    if !is_root() {
        before.push("--map-root-user");
    }
    before.extend(["sh", "-c", script, "sh", DISK, &data]);
    place.serve().through(before)
}

fn is_root() -> bool {
    let id = std::process::Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// What can be read is read while nothing can be written.
async fn still_answers(server: &Server, taken: &[String]) {
    let unready = until(async || (server.get("/readyz").await.status == 503).then_some(()));
    assert!(unready.await.is_some(), "it says that it takes no work");
    server.get("/healthz").await.expect(200);
    let list = server.get(EXECUTIONS).await.expect(200);
    assert_eq!(
        list["data"].as_array().map(Vec::len),
        Some(taken.len().min(20)),
        "{list:#}"
    );
    for id in taken {
        assert_ne!(server.execution(id).await["status"], "failed");
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, "");
    let server = match Server::launch(with_small_disk(&place)).await {
        Ok(server) => server,
        Err(said) if !is_root() && said.contains("unshare") => {
            println!("left out: this user may not mount a disk in memory: {said}");
            return;
        }
        Err(said) => panic!("the server did not start: {said}"),
    };
    server.wait_ready().await;
    let gate = Gate::closed();
    loopback.always(Route::OpenAi, Reply::text("so it is").behind(&gate));
    let mut taken = Vec::new();
    for number in 0..5 {
        taken.push(
            server
                .run_document(&question(), &json!({ "topic": number.to_string() }))
                .await,
        );
    }
    loopback.wait_for(taken.len()).await;

    let data = text(place.path("data"));
    let filler = PathBuf::from(format!("/proc/{}/root{data}/filler", server.pid()));
    fill(&filler);
    // What the journal's files still hold is written first.
    let topic = "x".repeat(200_000);
    let refused = loop {
        let body = json!({ "workflow": question(), "inputs": { "topic": topic } });
        let answer = server.post("/v1/orchestrate/run", &body).await;
        if answer.status != 202 {
            break answer;
        }
        taken.push(id_of(&answer.body));
        assert!(taken.len() < 100, "the disk is not full");
        fill(&filler);
    };
    assert_eq!(
        (refused.status, refused.code()),
        (503, Some("busy")),
        "{refused}"
    );
    assert!(refused.header("retry-after").is_some(), "{refused}");
    still_answers(&server, &taken).await;
    // Their answers come, and cannot be recorded.
    gate.open();
    let tries = until(async || server.said().contains("trying again").then_some(()));
    assert!(
        tries.await.is_some(),
        "it says why it waits: {}",
        server.said()
    );
    std::fs::remove_file(&filler).expect("the filler");
    server.wait_ready().await;
    for id in &taken {
        server.wait_for(id, "completed").await;
    }
    assert_eq!(
        loopback.requests().len(),
        taken.len(),
        "nothing was asked twice"
    );
    let last = server
        .run_document(&question(), &json!({ "topic": "last" }))
        .await;
    server.wait_for(&last, "completed").await;
}

/// Fills the disk to its last byte.
fn fill(filler: &PathBuf) {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(filler)
        .expect("a file on the server's disk");
    let block = [0_u8; 4096];
    while file.write_all(&block).is_ok() {}
}
