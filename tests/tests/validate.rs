//! `troupe validate`: every fault of a document at once, each with its place, and exit code 2.

use e2e::troupe::{Workplace, example, root, text};
use expect_test::{Expect, expect};
use serde_json::json;

/// Validates a document of the folder `documents`, which has faults.
async fn check(name: &str, expected: Expect) {
    check_with("validate", name, expected).await;
}

async fn check_with(command: &str, name: &str, expected: Expect) {
    let place = Workplace::new();
    let path = root().join("tests/documents").join(name);
    let ended = place
        .troupe([command, &text(&path)])
        .end()
        .await
        .expect_code(2);
    assert_eq!(ended.stdout, "", "faults are no result");
    let folder = text(path.parent().expect("a folder"));
    expected.assert_eq(&ended.stderr.replace(&folder, "[folder]"));
}

#[tokio::test]
async fn a_document_of_the_wrong_shape() {
    check("shape.json", expect![[r#"
        error: the workflow has 24 faults:
        /: `name` is missing
        /nam: the field `nam` is not known here; did you mean `name`?
        /agents/0: `model` is missing
        /agents/0/modle: the field `modle` is not known here; did you mean `model`?
        /agents/0/temperature: the temperature lies between 0 and 2
        /agents/1/sources: a search agent needs at least one source
        /agents/2/id: `1st` is not an id: use letters, digits and `_`, and begin with a letter or `_`
        /agents/2/language: `ruby` is not known here; known are `python` and `javascript`
        /agents/3/id: `loop` is a reserved word; choose another id
        /agents/3/type: `lm` is no type of agent; known are `llm`, `code`, `search`, `tool` and `human`
        /agents/4/model: this is the number 7, it must be a text
        /agents/4/max_tokens: this is the number 0, it must be a whole number from 1 to 4294967295
        /agents/5: a code agent needs `language` and `code`, or `component`
        /agents/5/limits/memory_mb: this is the number 100000, it must be a whole number from 0 to 4096
        /agents/5/limits/processors: the field `processors` is not known here; known are `fuel`, `memory_mb`, `timeout_ms`, `output_kb`, `host_calls`, `host_kb`, `log_kb`, `disk_mb`, `open_files` and `instances`
        /steps/0: `action` is missing
        /steps/1/parallel: this list needs at least one step
        /steps/2: a step needs one of `agent` (with `action` and `input`), `parallel`, `condition` with `then`, `loop`, `workflow`, `wait` or `set`
        /steps/3: this is a text, it must be an object
        /outputs: this is a list, it must be an object of templates
        /config/max_retries: this is the number -1, it must be a whole number from 0 to 100
        /config/budget_usd: this is a text, it must be a number
        /config/on_error: `continu` is not known here; did you mean `continue`?
        /config/timeout: the field `timeout` is not known here; did you mean `timeout_ms`?
    "#]]).await;
}

#[tokio::test]
async fn names_that_mean_nothing() {
    check("names.json", expect![[r#"
        error: the workflow has 12 faults:
        /inputs/properties/finder: `finder` is also a step or an agent; a name must mean one thing
        /agents/2/system_prompt (column 14): `audience` is no step, no agent and no input that `inputs` declares
        /steps/0/agent: there is no agent `planer`; did you mean `planner`?
        /steps/0/input (column 4): `topc` is no step, no agent and no input that `inputs` declares; did you mean `topic`?
        /steps/1/input (column 4): the step `three` has not ended here: it comes later, or runs at the same time in another branch
        /steps/3/id: the step id `three` is there already; give each step its own
        /steps/3/input (column 4): `error` has a meaning only in a fallback's input
        /steps/4/id: this is also the id of another agent; a name must mean one thing
        /steps/4/input (column 4): `secrets` has a meaning only in settings of tools and providers
        /steps/4/input (column 22): there is no loop around this
        /steps/5/parallel/1/input (column 4): the step `left` has not ended here: it comes later, or runs at the same time in another branch
        /outputs/text (column 4): `rigth` is no step, no agent and no input that `inputs` declares; did you mean `right`?
    "#]]).await;
}

#[tokio::test]
async fn templates_that_cannot_be_read() {
    check("templates.json", expect![[r#"
        error: the workflow has 5 faults:
        /steps/0/input (column 1): this `{{` has no `}}`
        /steps/1/input (column 12): there is no filter `nosuch`; known are `abs`, `attr`, `batch`, `bool`, `capitalize`, `chain`, `count`, `d`, `default`, `dictsort`, `first`, `float`, `format`, `groupby`, `indent`, `int`, `items`, `join`, `keys`, `last` and 25 more
        /steps/2/input (column 1): `{%` is not available: there are no statements and comments, only `{{ expressions }}`; write `{{ '{%' }}` for the characters themselves
        /steps/3/input/deep/1 (column 6): unexpected end of input, expected expression
        /steps/4/condition (column 13): unexpected end of input, expected expression
    "#]]).await;
}

#[tokio::test]
async fn what_this_version_does_not_have_is_refused_before_it_runs() {
    check_with("run", "later.json", expect![[r#"
        error: the workflow has 5 faults:
        /agents/0/tools/0: the tool `http` is not known: tools of the configuration are not available in this version of Troupe; write a component here instead, {"name": "http", "component": "….wasm"}
        /agents/1/model: the model `gpt-5-mini` is answered by the provider `openai`, which cannot be used: the environment variable OPENAI_API_KEY is not set; or run with --offline, without any key
        /agents/1/tools: tools of a language model are not available in this version of Troupe; call them in steps of a tool agent, or from a component that is granted them
        /agents/1/cache: `cache` is not available in this version of Troupe
        /agents/2/grants/llm/models/0: the model `gpt-5-mini` is answered by the provider `openai`, which cannot be used: the environment variable OPENAI_API_KEY is not set; or run with --offline, without any key
    "#]]).await;
}

#[tokio::test]
async fn files_that_are_not_there() {
    check(
        "files.json",
        expect![[r#"
            error: the workflow has 5 faults:
            /agents/0/file: the file gone.py cannot be read: No such file or directory (os error 2)
            /agents/1/file: give either `code` or `file`, not both
            /agents/2/component: there is no file [folder]/missing.wasm
            /agents/3/language: a component has no `language`
            /steps/0/on_error: `retyr` is not known here; did you mean `retry`?
        "#]],
    )
    .await;
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
        ("deep.json", deep.to_string(), "recursion limit exceeded"),
        (
            "many.json",
            many.to_string(),
            "/steps: a workflow has at most 10000 steps",
        ),
        ("brackets.json", brackets, "recursion limit exceeded"),
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
            "Research Team: no faults; 7 agents, 7 steps\n",
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
