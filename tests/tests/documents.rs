//! Documents on disk: YAML, workflows that name others by their files, schemas for editors, drawings.

use e2e::troupe::{Ended, Workplace, example, text};
use serde_json::{Value, json};

async fn troupe(place: &Workplace, arguments: &[&str], code: i32) -> Ended {
    place.troupe(arguments).end().await.expect_code(code)
}

const PARENT: &str = "\
name: Parent
agents: []
steps:
  - id: each
    loop:
      items: '{{ words }}'
      as: word
      steps:
        - id: child
          workflow: ./parts/child.yaml
          inputs: {word: '{{ word }}'}
outputs:
  all: '{{ each.results }}'
";

const CHILD: &str = "\
name: Child
agents: []
steps:
  - {id: loud, set: '{{ word | upper }}'}
outputs: {said: '{{ loud }}!'}
";

#[tokio::test]
async fn yaml_is_read_and_other_workflows_are_named_by_their_files() {
    let place = Workplace::new();
    let parent = text(place.write("parent.yaml", PARENT));
    place.write("parts/child.yaml", CHILD);
    let valid = troupe(&place, &["validate", &parent], 0).await;
    assert!(valid.stdout.contains("words"), "{valid}");
    let done = troupe(
        &place,
        &["run", &parent, "-i", r#"words:=["a", "b"]"#, "--json"],
        0,
    )
    .await;
    let all = json!({ "all": [{ "said": "A!" }, { "said": "B!" }] });
    assert_eq!(done.json()["outputs"], all);

    place.write("parts/child.yaml", CHILD.replace("upper", "uper"));
    let refused = troupe(&place, &["validate", &parent], 2).await;
    assert!(
        refused.stderr.contains("/workflows/Child/steps/0/set"),
        "{refused}"
    );
    assert!(
        refused.stderr.contains("did you mean `upper`?"),
        "{refused}"
    );
    std::fs::remove_file(place.path("parts/child.yaml")).expect("the file is the test's");
    let refused = troupe(&place, &["validate", &parent], 2).await;
    assert!(
        refused.stderr.contains("/steps/0/loop/steps/0/workflow"),
        "{refused}"
    );
    assert!(refused.stderr.contains("cannot be read"), "{refused}");
}

#[tokio::test]
async fn a_workflow_may_call_itself_but_not_without_end() {
    let place = Workplace::new();
    let document = json!({
        "name": "Countdown", "agents": [],
        "steps": [{ "condition": "n > 0", "then": [
            { "id": "down", "workflow": "./workflow.json", "inputs": { "n": "{{ n - 1 }}" } }] }],
        "outputs": { "n": "{{ n }}" },
    });
    let file = text(place.write("workflow.json", document.to_string()));
    troupe(&place, &["run", &file, "-i", "n:=5"], 0).await;
    let failed = troupe(&place, &["run", &file, "-i", "n:=99"], 1).await;
    assert!(failed.stderr.contains("at most 16 deep"), "{failed}");
}

#[tokio::test]
async fn documents_are_converted_there_and_back() {
    let place = Workplace::new();
    let json = text(example("research-team/workflow.json"));
    let yaml = troupe(&place, &["convert", &json], 0).await.stdout;
    let file = text(place.write("workflow.yaml", &yaml));
    let back = troupe(&place, &["convert", &file], 0).await.json();
    let original: Value =
        serde_json::from_slice(&std::fs::read(&json).expect("an example")).expect("JSON");
    assert_eq!(back, original);
    let same = troupe(&place, &["convert", &file, "--to", "yaml"], 0)
        .await
        .stdout;
    assert_eq!(same, yaml);
    let broken = text(place.write("broken.yaml", "name: a\nname: b\n"));
    let refused = troupe(&place, &["convert", &broken], 2).await;
    assert!(refused.stderr.contains("line 2"), "{refused}");
}

#[tokio::test]
async fn editors_get_a_schema_and_readers_a_picture() {
    let place = Workplace::new();
    let schema = troupe(&place, &["schema"], 0).await.json();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let file = text(example("research-team/workflow.json"));
    let mermaid = troupe(&place, &["graph", &file], 0).await.stdout;
    assert!(mermaid.starts_with("flowchart TD"), "{mermaid}");
    let svg = troupe(&place, &["graph", &file, "--format", "svg"], 0)
        .await
        .stdout;
    assert!(svg.trim_start().starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    let broken = text(place.write("broken.json", r#"{"name": "x"}"#));
    troupe(&place, &["graph", &broken], 2).await;
}
