//! What `troupe policy explain` says, and that it says what `troupe run` does.

use e2e::troupe::{Ended, Workplace, guest};
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

fn toolbox() -> Value {
    let tool =
        json!({ "name": "toolbox", "component": "toolbox.wasm", "limits": { "fuel": 1000 } });
    json!({ "id": "box", "type": "tool", "tools": [tool] })
}

async fn call(place: &Workplace, arguments: &[&str], code: i32) -> Ended {
    place.troupe(arguments).end().await.expect_code(code)
}

async fn explain(place: &Workplace, options: &[&str], code: i32) -> Ended {
    let arguments = [&["policy", "explain", "workflow.json"], options].concat();
    call(place, &arguments, code).await
}

#[tokio::test]
async fn tools_are_given_nothing_and_have_limits() {
    let place = Workplace::new();
    place.write("toolbox.wasm", guest("toolbox"));
    let document = workflow("Tools", &json!([toolbox()]));
    place.write("workflow.json", document.to_string());
    let explained = explain(&place, &[], 0).await;
    for text in [
        "box, tool toolbox  (sha256:",
        "\n  granted   nothing: tools have no grants of their own\n",
        "\n  limits    fuel 1000, memory_mb 512",
    ] {
        assert!(explained.stdout.contains(text), "{text}: {explained}");
    }
    let explained = explain(&place, &["--agent", "box", "--json"], 0)
        .await
        .json();
    let about = &explained["agents"][0];
    assert_eq!(about["tool"], "toolbox", "{explained}");
    assert_eq!(about["grants"], json!([]));
    assert_eq!(about["limits"]["fuel"], 1000);
    for denied in about["denied"].as_array().expect("a list") {
        let grant = denied["grant"].as_str().expect("a grant");
        assert!(["env", "files"].contains(&grant), "{explained}");
    }
}

#[tokio::test]
async fn a_workflow_without_foreign_code_has_nothing_to_explain() {
    let place = Workplace::new();
    let person = json!({ "id": "boss", "type": "human", "assignees": ["boss"] });
    place.write(
        "workflow.json",
        workflow("Ask", &json!([person])).to_string(),
    );
    let explained = explain(&place, &[], 2).await;
    assert!(
        explained
            .stderr
            .contains("`Ask` has neither code agents nor tool agents"),
        "{explained}"
    );
}

#[tokio::test]
async fn agents_of_workflows_inside_are_explained_with_their_names() {
    let place = Workplace::new();
    place.write("toolbox.wasm", guest("toolbox"));
    place.write(
        "troupe.toml",
        "[[grants]]\nagents = [\"Inside/writer\"]\nenv = { REGION = \"eu\" }\n",
    );
    let inside = workflow(
        "Inside",
        &json!([source("writer", &json!({ "env": ["REGION"] })), toolbox()]),
    );
    let mut document = workflow("Report", &json!([source("writer", &json!({}))]));
    document["workflows"] = json!({ "inside": inside });
    place.write("workflow.json", document.to_string());
    let explained = explain(&place, &[], 0).await;
    let begins = |start: &str| explained.stdout.lines().any(|line| line.starts_with(start));
    assert!(begins("writer  (python source)"), "{explained}");
    assert!(begins("Inside/writer  (python source)"), "{explained}");
    assert!(begins("Inside/box, tool toolbox  (sha256:"), "{explained}");
    assert!(
        explained
            .stdout
            .contains("granted   env REGION: the [[grants]] at line 1"),
        "{explained}"
    );
    for (agent, workflows) in [
        ("writer", json!(["Report", "Inside"])),
        ("Inside/writer", json!(["Inside"])),
        ("Report/writer", json!(["Report"])),
        ("box", json!(["Inside"])),
    ] {
        let explained = explain(&place, &["--json", "--agent", agent], 0)
            .await
            .json();
        let all = explained["agents"].as_array().expect("agents");
        let found: Vec<&Value> = all.iter().map(|about| &about["workflow"]).collect();
        assert_eq!(json!(found), workflows, "{agent}: {explained}");
    }
    let none = explain(&place, &["--agent", "Report/box"], 2).await;
    assert!(none.stderr.contains("no code agent `Report/box`"), "{none}");
}

/// Grants of what is not there.
const UNUSABLE: &str = r#"
[[grants]]
agents = ["writer"]
files = [{ name = "none", path = "none" }, { name = "file", path = "file" }]
env = { A = "env:NOPE" }
secrets = [
    { name = "SHORT", value = "too short", host = "https://api.example.com", header = "authorization" },
    { name = "ELSEWHERE", value = "long enough to be one", host = "https://example.org", header = "authorization" },
]
"#;

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
