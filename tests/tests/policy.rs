//! What `troupe policy explain` says, and that it says what `troupe run` does.

use e2e::troupe::{Ended, Workplace};
use serde_json::{Value, json};

fn workflow(name: &str, agents: &Value) -> Value {
    json!({
        "name": name,
        "agents": agents,
        "steps": [{ "agent": agents[0]["id"], "action": "add", "input": { "a": 1, "b": 2 } }],
    })
}

fn source(id: &str, grants: &Value) -> Value {
    json!({ "id": id, "type": "code", "language": "python", "code": "result = 1", "grants": grants })
}

async fn call(place: &Workplace, arguments: &[&str], code: i32) -> Ended {
    place.troupe(arguments).end().await.expect_code(code)
}

async fn explain(place: &Workplace, options: &[&str], code: i32) -> Ended {
    let arguments = [&["policy", "explain", "workflow.json"], options].concat();
    call(place, &arguments, code).await
}

#[tokio::test]
async fn what_is_said_to_be_withheld_is_refused_before_anything_runs() {
    let place = Workplace::new();
    place.write("file", "no folder");
    let grants = json!({
        "files": [{ "path": "none", "at": "/none" }, { "path": "file", "at": "/file" }],
        "env": ["A"],
        "secrets": [
            { "name": "SHORT", "host": "https://api.example.com", "header": "Authorization" },
            { "name": "ELSEWHERE", "host": "https://api.example.com", "header": "Authorization" },
        ],
    });
    place.write(
        "workflow.json",
        workflow("Report", &json!([source("writer", &grants)])).to_string(),
    );
    place.write("troupe.toml", UNUSABLE);
    let explained = explain(&place, &[], 0).await;
    let refused = call(&place, &["run", "workflow.json"], 2).await;
    for (place, what, why) in [
        (
            "secrets/0",
            "secrets SHORT",
            "the secret `SHORT` cannot be used: it has fewer than 16 bytes; mend that",
        ),
        (
            "secrets/1",
            "secrets ELSEWHERE",
            "the secret `ELSEWHERE` is granted for requests to https://example.org, and none to https://api.example.com is one of these: write `host = \"https://api.example.com\"` for it in `secrets` of the [[grants]] at line 2",
        ),
        (
            "files/0",
            "files none at /none (ro)",
            "the folder `none` cannot be given: ",
        ),
        (
            "files/1",
            "files file at /file (ro)",
            "the folder `file` cannot be given: ",
        ),
        (
            "env/0",
            "env A",
            "the variable `A` cannot be read: the environment variable NOPE is not set; mend that",
        ),
    ] {
        let line = explained
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("  withheld  {what}")));
        assert!(
            line.is_some_and(|line| line.contains(why)),
            "{what}: {explained}"
        );
        let fault = refused
            .stderr
            .lines()
            .find(|line| line.contains(&format!("/agents/0/grants/{place}: ")));
        assert!(
            fault.is_some_and(|line| line.contains(why)),
            "{place}: {refused}"
        );
    }
    assert!(!explained.stdout.contains("  granted "), "{explained}");
    assert_eq!(place.list().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_limit_that_cannot_be_set_so_high_is_cut_and_that_is_said() {
    let place = Workplace::new();
    let document = workflow("Report", &json!([source("writer", &json!({}))]));
    place.write("workflow.json", document.to_string());
    place.write("troupe.toml", "[limits]\ninstances = 65\n");
    let explained = explain(&place, &[], 0).await;
    assert!(explained.stdout.contains("instances 64"), "{explained}");
    assert!(
        explained.stderr.contains("instances") && explained.stderr.contains("65"),
        "{explained}"
    );
    place.write("troupe.toml", "[limits]\ninstances = 64\n");
    assert_eq!(explain(&place, &[], 0).await.stderr, "");
}

#[tokio::test]
async fn a_document_names_variables_that_there_can_be() {
    let place = Workplace::new();
    let names = json!({ "env": ["REGION", "", "A=B", "A\0"] });
    let document = workflow("Report", &json!([source("writer", &names)]));
    place.write("workflow.json", document.to_string());
    let refused = call(&place, &["validate", "workflow.json"], 2).await;
    for (index, name) in [(1, ""), (2, "A=B"), (3, "A\\0")] {
        let fault = format!("/agents/0/grants/env/{index}: `{name}` is no name of a variable");
        assert!(refused.stderr.contains(&fault), "{fault}: {refused}");
    }
    assert!(!refused.stderr.contains("/env/0"), "{refused}");
}
