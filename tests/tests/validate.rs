//! `troupe validate`: every fault of a document at once, each with its place, and exit code 2.

use e2e::troupe::{Workplace, example, root, text};
use expect_test::{Expect, expect};
use serde_json::json;

/// Validates a document of the folder `documents`, which has faults.
async fn check(name: &str, expected: Expect) {
    let place = Workplace::new();
    let path = root().join("tests/documents").join(name);
    let ended = place
        .troupe(["validate", &text(&path)])
        .end()
        .await
        .expect_code(2);
    assert_eq!(ended.stdout, "", "faults are no result");
    let folder = text(path.parent().expect("a folder"));
    expected.assert_eq(&ended.stderr.replace(&folder, "[folder]"));
}

#[tokio::test]
async fn a_document_of_the_wrong_shape() {
    check("shape.json", expect![[""]]).await;
}

#[tokio::test]
async fn names_that_mean_nothing() {
    check("names.json", expect![[""]]).await;
}

#[tokio::test]
async fn templates_that_cannot_be_read() {
    check("templates.json", expect![[""]]).await;
}

#[tokio::test]
async fn what_this_version_does_not_have() {
    check("later.json", expect![[""]]).await;
}

#[tokio::test]
async fn files_that_are_not_there() {
    check("files.json", expect![[""]]).await;
}

#[tokio::test]
async fn what_is_no_document_at_all() {
    let place = Workplace::new();
    for (contents, expected) in [
        ("", "it is no JSON"),
        ("{ \"name\": ", "it is no JSON"),
        ("[]", "/: this is a list, it must be an object"),
        ("{}", "/: `steps` is missing"),
        ("\u{feff}{}", "it is no JSON"),
    ] {
        place.write("broken.json", contents);
        let ended = place
            .troupe(["validate", "broken.json"])
            .end()
            .await
            .expect_code(2);
        assert!(ended.stderr.contains(expected), "{contents:?}: {ended}");
        assert!(
            ended.stderr.contains("error: the workflow"),
            "{contents:?}: {ended}"
        );
    }
    let ended = place
        .troupe(["validate", "nowhere.json"])
        .end()
        .await
        .expect_code(2);
    assert!(
        ended
            .stderr
            .contains("the workflow nowhere.json cannot be read"),
        "{ended}"
    );
    place.write("latin1.json", b"{\"name\": \"caf\xe9\"}");
    let ended = place
        .troupe(["validate", "latin1.json"])
        .end()
        .await
        .expect_code(2);
    assert!(ended.stderr.contains("latin1.json"), "{ended}");
}

#[tokio::test]
async fn documents_without_bounds_are_refused_not_obeyed() {
    let place = Workplace::new();
    let step = json!({ "agent": "a", "action": "x", "input": "x" });
    let agents = json!([{ "id": "a", "type": "llm", "model": "gpt-5-mini" }]);
    let mut nested = step.clone();
    for _ in 0..100 {
        nested = json!({ "parallel": [nested] });
    }
    let deep = json!({ "name": "deep", "agents": agents, "steps": [nested] });
    let many = json!({ "name": "many", "agents": agents, "steps": vec![step; 10_001] });
    let brackets = format!("{{\"name\": {}", "[".repeat(100_000));
    for (name, contents, expected) in [
        (
            "deep.json",
            deep.to_string(),
            "blocks are nested at most 64 deep",
        ),
        (
            "many.json",
            many.to_string(),
            "/steps: a workflow has at most 10000 steps",
        ),
        (
            "brackets.json",
            brackets,
            "it is no JSON: recursion limit exceeded",
        ),
    ] {
        place.write(name, contents);
        let ended = place.troupe(["validate", name]).end().await.expect_code(2);
        assert!(ended.stderr.contains(expected), "{name}: {ended}");
    }
}

#[tokio::test]
async fn the_examples_have_no_faults() {
    let place = Workplace::new();
    for (name, expected) in [
        (
            "research-assistant",
            "Research Assistant: no faults; 3 agents, 3 steps\ninputs that its templates read: topic\n",
        ),
        (
            "research-team",
            "Research Team: no faults; 7 agents, 7 steps\ninputs that its templates read: topic\n",
        ),
    ] {
        let path = example(name).join("workflow.json");
        let ended = place
            .troupe(["validate", &text(path)])
            .end()
            .await
            .expect_code(0);
        assert_eq!(
            (ended.stdout.as_str(), ended.stderr.as_str()),
            (expected, "")
        );
    }
    // Checking a document leaves nothing behind.
    assert!(!place.path("data").exists());
}

#[tokio::test]
async fn a_run_refuses_the_same_and_records_nothing() {
    let place = Workplace::new();
    let path = root().join("tests/documents/names.json");
    let validated = place
        .troupe(["validate", &text(&path)])
        .end()
        .await
        .expect_code(2);
    let run = place
        .troupe(["run", &text(&path), "-i", "topic=x"])
        .end()
        .await
        .expect_code(2);
    assert_eq!(run.stderr, validated.stderr);
    assert!(place.list().await.is_empty());
}
