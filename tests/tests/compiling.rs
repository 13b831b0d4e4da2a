//! Who creates a workflow does not wait until its components are compiled, and who runs it does.

use std::time::Duration;

use e2e::server::{Server, until};
use e2e::troupe::{Workplace, step};
use serde_json::{Value, json};

/// A component of one long function, as its bytes. It answers with a number.
fn long(operations: usize) -> Vec<u8> {
    let operations =
        "local.get 0 i32.const 7 i32.xor local.tee 0 i32.load8_u offset=3 local.set 0 "
            .repeat(operations);
    let text = format!(
        r#"(component
            (core module $m (memory 1) (func (export "f") (param i32) (result i32) {operations} local.get 0))
            (core instance $i (instantiate $m))
            (func (export "f") (param "x" u32) (result u32) (canon lift (core func $i "f"))))"#
    );
    wat::parse_str(text).expect("a component")
}

/// A workplace that has the component and has compiled nothing; with the workflow that calls it.
async fn scene(component: &[u8], server: &str) -> (Workplace, Value) {
    let mut place = Workplace::new();
    place.set("TROUPE_CACHE", &place.path("cache").display().to_string());
    place.write("troupe.toml", format!("[server]\n{server}\n"));
    let file = place.write("long.wasm", component);
    let inspect = ["agent", "inspect", &file.display().to_string(), "--json"];
    let digest = place.troupe(inspect).end().await.expect_code(0).json()["digest"].clone();
    let digest = digest.as_str().expect("a digest").to_owned();
    let name = digest.replace("sha256:", "");
    place.write(&format!("data/components/{name}.wasm"), component);
    let document = json!({
        "name": "Long",
        "agents": [{ "id": "long", "type": "tool", "tools": [{ "name": "long", "component": digest }] }],
        // Far less than the component takes to be compiled here.
        "steps": [{ "id": "call", "agent": "long", "action": "f", "input": { "x": 1 }, "timeout_ms": 1000 }],
        "config": { "max_retries": 0 },
    });
    (place, document)
}

/// The process that compiles for a server, once there is one.
async fn compiler_of(server: u32) -> u32 {
    let found = until(async || {
        let processes = std::fs::read_dir("/proc").expect("processes").flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .find(|id| {
                let read = |file: &str| {
                    std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default()
                };
                let is_child = read("status").contains(&format!("PPid:\t{server}\n"));
                is_child && read("cmdline").contains("compile")
            })
    });
    found.await.expect("a process that compiles")
}

#[tokio::test]
async fn a_process_that_compiles_has_what_it_compiles_and_nothing_else() {
    let place = Workplace::new();
    let secret = place.write("secret", "of whoever started it");
    let with_a_file = ["sh", "-c", "exec 7<secret; exec \"$@\"", "sh"];
    let compile = place.troupe(["compile-alone", "1000000000"]);
    // It waits for a component for as long as nobody ends what it reads.
    let compiler = compile.through(with_a_file).talk();
    let about = format!("/proc/{}", compiler.id());
    let status = || std::fs::read_to_string(format!("{about}/status")).expect("it waits");
    let locked_in = until(async || status().contains("Seccomp:\t2").then_some(()));
    locked_in.await.expect("it locks itself in");
    assert!(status().contains("NoNewPrivs:\t1"), "{}", status());
    let files = std::fs::read_dir(format!("{about}/fd")).expect("ours");
    for file in files.flatten() {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        assert_ne!(target, secret);
    }
}

fn signal(id: u32, name: &str) {
    let done = std::process::Command::new("kill")
        .args([format!("-{name}"), id.to_string()])
        .status();
    assert!(done.expect("kill").success(), "{name} {id}");
}

fn status(workflow: &Value) -> &str {
    workflow["components"][0]["status"]
        .as_str()
        .expect("a status")
}

#[tokio::test]
async fn a_workflow_is_there_while_its_component_is_compiled_and_a_run_waits_for_it() {
    let (place, document) = scene(&long(40_000), "").await;
    let server = Server::start(place.serve()).await;
    let created = server.post("/v1/orchestrate/workflows", &document).await;
    assert_eq!(created.status, 201, "{created}");
    let compiler = compiler_of(server.pid()).await;
    signal(compiler, "STOP");
    assert_eq!(status(&created.body), "compiling", "{created}");
    let workflow = format!(
        "/v1/orchestrate/workflows/{}",
        created.body["id"].as_str().expect("an id")
    );
    let id = server.run_document(&document, &json!({})).await;
    // Longer than the step may take: the wait is none of its time.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let running = server.execution(&id).await;
    assert_eq!(running["status"], "running", "{running:#}");
    let shown = server.get(&workflow).await;
    assert_eq!(status(&shown.body), "compiling", "{shown}");
    signal(compiler, "CONT");
    let done = server.wait_for(&id, "completed").await;
    assert_eq!(step(&done, "call")["attempts"], 1, "{done:#}");
    let shown = server.get(&workflow).await;
    assert_eq!(status(&shown.body), "ready", "{shown}");
}

#[tokio::test]
async fn a_component_that_cannot_be_compiled_is_said_to_be_refused() {
    let (place, document) = scene(&long(40_000), "compile_timeout_ms = 20").await;
    let server = Server::start(place.serve()).await;
    let created = server.post("/v1/orchestrate/workflows", &document).await;
    assert_eq!(created.status, 201, "{created}");
    let workflow = format!(
        "/v1/orchestrate/workflows/{}",
        created.body["id"].as_str().expect("an id")
    );
    let refused = until(async || {
        let shown = server.get(&workflow).await;
        (status(&shown.body) == "refused").then_some(shown)
    });
    let refused = refused.await.expect("it is refused");
    let reason = refused.body["components"][0]["reason"].as_str();
    assert!(
        reason.is_some_and(|reason| reason.contains("it took more than 20 ms")),
        "{refused}"
    );
    // Whoever wants to run it is told so at once.
    let body = json!({ "workflow": document, "inputs": {} });
    let run = server.post("/v1/orchestrate/run", &body).await;
    assert_eq!(run.status, 422, "{run}");
    assert!(run.to_string().contains("it took more than 20 ms"), "{run}");
}

#[tokio::test]
async fn what_another_version_has_to_compile_anew_is_compiled_when_the_server_starts() {
    let (mut place, document) = scene(&long(4_000), "").await;
    let server = Server::start(place.serve()).await;
    let created = server.post("/v1/orchestrate/workflows", &document).await;
    assert_eq!(created.status, 201, "{created}");
    assert!(server.terminate().await.success());
    // As for another version there is nothing compiled.
    let cache = place.path("another cache");
    place.set("TROUPE_CACHE", &cache.display().to_string());
    let _server = Server::start(place.serve()).await;
    let compiled = until(async || {
        let mut files = walk(&cache).into_iter();
        files.find(|file| file.extension().is_some_and(|ending| ending == "cwasm"))
    });
    assert!(compiled.await.is_some(), "nobody has asked for it");
}

/// All files of a folder and those in it.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => vec![path],
        })
        .collect()
}
