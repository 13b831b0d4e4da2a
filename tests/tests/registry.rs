//! Components from registries, on the built binary: against Debian's own registry, with and without a password.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::path::Path;

use axum::response::Response;
use e2e::registry::scene::{added, basic, document, run, sign_in};
use e2e::registry::{Artifact, DockerRegistry, PASSWORD, Scripted, USER, digest_of};
use e2e::server::{Server, WORKFLOWS};
use e2e::troupe::{Workplace, guest, step};
use serde_json::json;

#[tokio::test]
async fn a_component_of_a_registry_is_inspected_as_a_file_is() {
    let (registry, place) = (DockerRegistry::open(), Workplace::new());
    let wasm = guest("toolbox");
    let artifact = Artifact::wasm(&wasm);
    let digest = registry.push("acme/toolbox", "1.2", &artifact).await;
    let reference = format!("oci://{}/acme/toolbox:1.2", registry.host());
    let inspected = place.troupe(["agent", "inspect", &reference, "--json"]);
    let mut about = inspected.end().await.expect_code(0).json();
    assert_eq!(about["reference"], format!("{reference}@{digest}"));
    about.as_object_mut().unwrap().remove("reference");
    place.write("toolbox.wasm", &wasm);
    let inspected = place.troupe(["agent", "inspect", "toolbox.wasm", "--json"]);
    assert_eq!(about, inspected.end().await.expect_code(0).json());

    // The digest alone, and with the tag, name the same; another one does not.
    for pinned in [
        format!("oci://{}/acme/toolbox@{digest}", registry.host()),
        format!("{reference}@{digest}"),
    ] {
        let inspected = place.troupe(["agent", "inspect", &pinned]);
        let shown = inspected.end().await.expect_code(0);
        let first = format!("reference {pinned}\ndigest    {}\n", digest_of(&wasm));
        assert!(shown.stdout.starts_with(&first), "{shown}");
    }
    let other = format!("{reference}@{}", digest_of(b"another"));
    let inspected = place.troupe(["agent", "inspect", &other]);
    let refused = inspected.end().await.expect_code(2);
    assert!(
        refused.stderr.contains("answered 404 where the manifest was asked for: MANIFEST_UNKNOWN: manifest unknown; check the name"),
        "{refused}"
    );
    assert_eq!(added(&place), [""; 0], "looking adds nothing");
}

#[tokio::test]
async fn a_workflow_names_a_component_of_a_registry_and_is_pinned_to_what_it_was() {
    let (registry, place) = (DockerRegistry::open(), Workplace::new());
    let wasm = guest("toolbox");
    let manifest = registry
        .push("toolbox", "latest", &Artifact::wasm(&wasm))
        .await;
    let reference = format!("oci://{}/toolbox", registry.host());
    let ended = run(&place, &reference).await.expect_code(0);
    let shown = ended.json();
    assert_eq!(step(&shown, "third")["output"], 14, "{ended}");
    let said = format!("{reference}:latest@{manifest} is {}\n", digest_of(&wasm));
    assert_eq!(ended.stderr.matches(&said).count(), 1, "{ended}");
    let file = format!("{}.wasm", digest_of(&wasm).replace("sha256:", ""));
    assert_eq!(added(&place), std::slice::from_ref(&file));

    // What is stored names the digest and no registry.
    let created = place.troupe(["workflow", "create", "workflow.json"]);
    let id = created.end().await.expect_code(0).stdout;
    let stored = place.troupe(["workflow", "show", id.trim()]);
    let stored = stored.end().await.expect_code(0).json();
    assert_eq!(stored["agents"][1]["component"], digest_of(&wasm));
    assert_eq!(
        stored["agents"][0]["tools"][0]["component"],
        digest_of(&wasm)
    );
    let explained = place.troupe(["policy", "explain", "workflow.json"]);
    let explained = explained.end().await.expect_code(0);
    assert!(explained.stdout.contains(&digest_of(&wasm)), "{explained}");

    // The tag moves to what has no such functions; executions stay with what they began with.
    let other = Artifact::wasm(&guest("command"));
    registry.push("toolbox", "latest", &other).await;
    let id = shown["id"].as_str().unwrap();
    let forked = place.troupe(["fork", id, "--from-step", "third", "--json"]);
    let forked = forked.end().await;
    assert_eq!(step(&forked.json(), "third")["output"], 14, "{forked}");
    assert_eq!(added(&place), [file]);
    let moved = run(&place, &reference).await.expect_code(2);
    let said = "the component is a command-line program, and has no functions to call as a tool";
    assert!(moved.stderr.contains(said), "{moved}");
    assert_eq!(added(&place).len(), 2);
}

#[tokio::test]
async fn a_document_is_checked_without_asking_a_registry() {
    let place = Workplace::new();
    // Nobody listens there.
    let reference = "oci://127.0.0.1:9/toolbox:1";
    place.write("workflow.json", document(reference).to_string());
    let checked = place.troupe(["validate", "workflow.json"]).end().await;
    drop(checked.expect_code(0));
    drop(
        place
            .troupe(["graph", "workflow.json"])
            .end()
            .await
            .expect_code(0),
    );
    for (wrong, said) in [
        (
            "oci://toolbox:1",
            "/agents/1/component: `oci://toolbox:1` is no reference of a registry (it names no host); write oci://HOST",
        ),
        (
            "https://example.com/box.wasm",
            "/agents/1/component: `https://example.com/box.wasm` is no component: name a file, a registry's reference",
        ),
    ] {
        place.write("wrong.json", document(wrong).to_string());
        for command in [&["validate", "wrong.json"], &["run", "wrong.json"]] {
            let ended = place.troupe(command.iter()).end().await.expect_code(2);
            assert!(ended.stderr.contains(said), "{ended}");
        }
    }
    let offline = place.troupe(["run", "workflow.json", "--offline"]);
    let offline = offline.end().await.expect_code(2);
    let said = "/agents/1/component: `oci://127.0.0.1:9/toolbox:1` is not fetched with --offline";
    assert!(offline.stderr.contains(said), "{offline}");
    let ended = run(&place, reference).await.expect_code(2);
    for pointer in ["/agents/0/tools/0/component", "/agents/1/component"] {
        let said = format!("{pointer}: no connection to 127.0.0.1:9 (");
        assert!(ended.stderr.contains(&said), "{ended}");
    }
    assert_eq!(added(&place), [""; 0]);
}

#[tokio::test]
async fn a_registry_with_a_password_is_shown_what_docker_has_for_it() {
    let (registry, mut place) = (DockerRegistry::guarded(), Workplace::new());
    let wasm = guest("toolbox");
    registry.push("toolbox", "1", &Artifact::wasm(&wasm)).await;
    let (host, reference) = (
        registry.host(),
        format!("oci://{}/toolbox:1", registry.host()),
    );
    let said = "401 where the manifest was asked for: UNAUTHORIZED: authentication required; sign in to the registry with `docker login`";
    let without = run(&place, &reference).await.expect_code(2);
    assert!(without.stderr.contains(said), "{without}");
    sign_in(&mut place, &host, "guessed-password");
    let wrong = run(&place, &reference).await.expect_code(2);
    assert!(wrong.stderr.contains(said), "{wrong}");
    assert!(!wrong.stderr.contains("guessed-password"), "{wrong}");
    sign_in(&mut place, "other.example.com", PASSWORD);
    let other = run(&place, &reference).await.expect_code(2);
    assert!(other.stderr.contains(said), "{other}");
    assert_eq!(added(&place), [""; 0]);

    sign_in(&mut place, &host, PASSWORD);
    let ended = run(&place, &reference).await.expect_code(0);
    assert_eq!(step(&ended.json(), "third")["output"], 14, "{ended}");
    assert_nowhere(&place, PASSWORD);
    assert_nowhere(&place, &basic(PASSWORD));
}

#[tokio::test]
async fn a_helper_is_asked_as_docker_asks_it() {
    let (registry, mut place) = (DockerRegistry::guarded(), Workplace::new());
    let artifact = Artifact::wasm(&guest("toolbox"));
    registry.push("toolbox", "1", &artifact).await;
    let host = registry.host();
    let reference = format!("oci://{host}/toolbox:1");
    sign_in(&mut place, &host, PASSWORD);
    let config = json!({ "credHelpers": { host: "tests" } });
    place.write("docker/config.json", config.to_string());
    let missing = place.troupe(["agent", "inspect", &reference]);
    let missing = missing.end().await.expect_code(2);
    assert!(
        missing.stderr.contains("that it names cannot be run"),
        "{missing}"
    );
    let helper = |script: &str| {
        let path = place.write("bin/docker-credential-tests", script);
        make_executable(&path);
    };
    let path = format!("{}:/usr/bin:/bin", place.path("bin").display());
    let inspect = || {
        place
            .troupe(["agent", "inspect", &reference])
            .variable("PATH", &path)
    };
    helper(&format!(
        "#!/bin/sh\nread -r host\necho '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n"
    ));
    drop(inspect().end().await.expect_code(0));
    helper(&format!(
        "#!/bin/sh\nread -r host\necho '{PASSWORD} is locked'\nexit 1\n"
    ));
    let failed = inspect().end().await.expect_code(2);
    assert!(
        failed
            .stderr
            .contains("the helper `docker-credential-tests` failed"),
        "{failed}"
    );
    assert!(!failed.stderr.contains(PASSWORD), "{failed}");
    helper("#!/bin/sh\nread -r host\necho 'credentials not found in native keychain'\nexit 1\n");
    let none = inspect().end().await.expect_code(2);
    assert!(none.stderr.contains("401 where the manifest"), "{none}");
    place.write("docker/config.json", "{ no json");
    let broken = inspect().end().await.expect_code(2);
    assert!(
        broken
            .stderr
            .contains("docker/config.json has for it cannot be used: unable to read config"),
        "{broken}"
    );
}

/// A secret is in no file that Troupe wrote.
#[track_caller]
fn assert_nowhere(place: &Workplace, secret: &str) {
    for (path, bytes) in place.data_files() {
        let found = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_server_asks_no_registry_that_a_client_names() {
    let (asked, place) = (
        Scripted::start(|_| Response::default()).await,
        Workplace::new(),
    );
    let server = Server::start(place.serve()).await;
    let document = document(&format!("oci://{}/toolbox:1", asked.host()));
    const RUN: &str = "/v1/orchestrate/run";
    let validate = format!("{WORKFLOWS}/validate");
    for (path, body) in [
        (WORKFLOWS, document.clone()),
        (&validate, document.clone()),
        (RUN, json!({ "workflow": document, "inputs": {} })),
    ] {
        let answer = server.post(path, &body).await;
        let said = answer.to_string();
        assert!(
            said.contains("is not fetched here: store the document with `troupe workflow create`"),
            "{path}: {said}"
        );
        assert!(path == validate || answer.status == 422, "{path}: {said}");
    }
    assert_eq!(asked.asked(), []);
    assert_eq!(added(&place), [""; 0]);
}
