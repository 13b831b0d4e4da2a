//! What the schema accepts and refuses, and the fields that it knows.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect_file;
use serde_json::{Map, Value, json};

use super::document_schema;
use crate::definition::Definition;

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&document_schema()).unwrap()
}

/// The objects of the schema that have properties, by the name of their definition.
fn objects(schema: &Value) -> BTreeMap<String, &Value> {
    let definitions = schema["$defs"].as_object().unwrap();
    let named = definitions
        .iter()
        .map(|(name, definition)| (name.clone(), definition));
    named
        .chain([("Workflow".to_owned(), schema)])
        .filter(|(_, object)| object["properties"].is_object())
        .collect()
}

/// The names of the fields of each kind of object, `*` behind those that are required.
fn fields_by_object(schema: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let fields_of = |object: &Value| {
        let required = object["required"].as_array().cloned().unwrap_or_default();
        let names = object["properties"].as_object().unwrap().keys();
        names
            .map(|name| {
                let mark = if required.iter().any(|known| known == name) {
                    "*"
                } else {
                    ""
                };
                format!("{name}{mark}")
            })
            .collect()
    };
    let objects = objects(schema);
    objects
        .into_iter()
        .map(|(name, object)| (name, fields_of(object)))
        .collect()
}

#[test]
fn the_fields_of_each_object_are_known() {
    let mut lines = String::new();
    for (object, fields) in fields_by_object(&document_schema()) {
        let fields: Vec<String> = fields.into_iter().collect();
        lines.push_str(&format!("{object}: {}\n", fields.join(" ")));
    }
    expect_file!["tests/fields.txt"].assert_eq(&lines);
}

#[test]
fn the_schema_is_one_of_its_draft() {
    let schema = document_schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    if let Err(error) = jsonschema::meta::validate(&schema) {
        panic!("{} at {}", error, error.instance_path());
    }
}

#[test]
fn every_field_is_described_and_may_not_be_null() {
    let schema = document_schema();
    for (name, object) in objects(&schema) {
        assert!(
            object["description"].is_string(),
            "{name} has no description"
        );
        for (field, about) in object["properties"].as_object().unwrap() {
            assert!(
                about["description"].is_string(),
                "{name}.{field} has no description"
            );
        }
    }
    let text = schema.to_string();
    assert!(!text.contains(r#""type":"null""#) && !text.contains(r#""null"]"#));
}

/// The unions say the fields of all their forms, so they are open; each of their forms is closed.
#[test]
fn every_object_is_closed() {
    let open: Vec<String> = objects(&document_schema())
        .into_iter()
        .filter(|(_, object)| object["additionalProperties"] != false)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(open, ["Agent", "Loop", "SearchAgent", "Step"]);
}

fn accepted() -> Map<String, Value> {
    let mut documents: Map<String, Value> =
        serde_json::from_str(include_str!("tests/accepted.json")).unwrap();
    for (name, text) in [
        ("every field", include_str!("tests/every_field.json")),
        (
            "an example: research assistant",
            include_str!("../../../../../examples/research-assistant/workflow.json"),
        ),
        (
            "an example: research team",
            include_str!("../../../../../examples/research-team/workflow.json"),
        ),
    ] {
        documents.insert(name.to_owned(), serde_json::from_str(text).unwrap());
    }
    documents
}

#[test]
fn documents_that_are_right_are_accepted() {
    let validator = validator();
    for (name, document) in accepted() {
        if let Some(error) = validator.iter_errors(&document).next() {
            panic!("{name}: {} at {}", error, error.instance_path());
        }
    }
}

fn store_component(reference: Option<&mut Value>) {
    if let Some(path) = reference.filter(|path| {
        let path = path.as_str().unwrap_or_default();
        path.ends_with(".wasm") && !path.contains("://")
    }) {
        *path = json!("sha256:00");
    }
}

/// A document as the command line stores it: without names of files.
fn as_stored(document: &Value) -> Value {
    let mut document = document.clone();
    for agent in document["agents"].as_array_mut().into_iter().flatten() {
        let Some(fields) = agent.as_object_mut() else {
            continue;
        };
        if fields.remove("file").is_some() {
            fields.insert("code".to_owned(), json!("result = 1"));
            fields.entry("language").or_insert(json!("python"));
        }
        store_component(fields.get_mut("component"));
        let tools = fields.get_mut("tools").and_then(Value::as_array_mut);
        for tool in tools.into_iter().flatten() {
            store_component(tool.get_mut("component"));
        }
    }
    let other = "./other.yaml";
    if document.to_string().contains(other) {
        document["workflows"][other] =
            json!({ "name": "other", "agents": [], "steps": [{ "set": 1 }] });
    }
    document
}

#[test]
fn what_the_schema_accepts_the_reader_accepts() {
    for (name, document) in accepted() {
        if let Err(faults) = Definition::compile(&as_stored(&document)) {
            panic!("{name}: {faults}");
        }
    }
}

#[test]
fn the_document_with_every_field_has_every_field() {
    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
            Value::Object(map) => {
                for (name, value) in map {
                    names.insert(name.clone());
                    collect(value, names);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut used = BTreeSet::new();
    collect(&accepted()["every field"], &mut used);
    for (object, fields) in fields_by_object(&document_schema()) {
        for field in fields {
            assert!(
                used.contains(field.trim_end_matches('*')),
                "{object}.{field}"
            );
        }
    }
}

/// Changes the document that has every field at one place, which must then be faulty there.
fn refuse(pointer: &str, wrong: Value) {
    let mut document = accepted()["every field"].clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(map) => {
            map.insert(field.to_owned(), wrong.clone());
        }
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = wrong.clone(),
        other => panic!("{other} has no fields"),
    }
    // To the reader null is as good as nothing, and a file is the command line's matter.
    let stored = as_stored(&document);
    let is_others = wrong.is_null() || pointer.ends_with("/file");
    assert!(
        is_others || Definition::compile(&stored).is_err(),
        "{wrong} at {pointer} is no fault to the reader"
    );
    let errors: Vec<String> = validator()
        .iter_errors(&document)
        .map(|error| error.instance_path().to_string())
        .collect();
    assert!(!errors.is_empty(), "{wrong} is accepted at {pointer}");
    // An error lies at the wrong value or in it, or at an object around it, but no further out than its step.
    let depth_min = parent.matches('/').count().min(2);
    let is_near = |path: &String| {
        path.starts_with(pointer)
            || pointer.starts_with(path.as_str()) && path.matches('/').count() >= depth_min
    };
    assert!(
        errors.iter().any(is_near),
        "{wrong} at {pointer} is a fault at {errors:?}"
    );
}

#[test]
fn unknown_fields_are_refused_in_every_object() {
    for parent in [
        "",
        "/config",
        "/agents/0",
        "/agents/0/cache",
        "/agents/1",
        "/agents/1/limits",
        "/agents/1/grants",
        "/agents/1/grants/files/0",
        "/agents/1/grants/secrets/0",
        "/agents/1/grants/llm",
        "/agents/4",
        "/agents/5",
        "/agents/5/on_error",
        "/agents/6",
        "/steps/0",
        "/steps/0/on_error",
        "/steps/0/on_error/fallback",
        "/steps/1",
        "/steps/1/parallel/0",
        "/steps/1/parallel/1/0",
        "/steps/2",
        "/steps/2/then/0",
        "/steps/2/else/0/wait",
        "/steps/3",
        "/steps/3/loop",
        "/steps/4/loop",
        "/steps/4/on_error",
        "/steps/6",
        "/steps/7",
        "/workflows/summary",
        "/workflows/summary/steps/0",
    ] {
        refuse(&format!("{parent}/conditon"), json!("x"));
    }
}

#[test]
fn wrong_values_are_refused() {
    for (pointer, wrong) in [
        ("/name", json!(" ")),
        ("/name", json!(7)),
        ("/inputs", json!("topic")),
        ("/agents", json!({})),
        ("/steps", json!([])),
        ("/outputs", json!(["a"])),
        ("/config/max_retries", json!(101)),
        ("/config/max_retries", json!(1.5)),
        ("/config/on_error", json!({ "retry": 1 })),
        ("/config/on_budget_exceeded", json!("wait")),
        ("/config/budget_usd", json!(-1)),
        ("/config/timeout_ms", json!(null)),
        ("/workflows/summary/workflows", json!({})),
        ("/agents/0/id", json!("no-dash")),
        ("/agents/0/id", json!("loop")),
        ("/agents/0/type", json!("robot")),
        ("/agents/0/type", json!("code")),
        ("/agents/0/temperature", json!(2.1)),
        ("/agents/0/max_tokens", json!(0)),
        ("/agents/0/max_turns", json!(101)),
        ("/agents/0/response_format", json!("yaml")),
        ("/agents/0/cache", json!({})),
        ("/agents/0/cache/ttl_s", json!(0)),
        ("/agents/0/stop", json!("END")),
        ("/agents/1/language", json!("ruby")),
        ("/agents/1/component", json!("a.wasm")),
        ("/agents/1/limits/memory_mb", json!("64")),
        ("/agents/1/grants/files/0/mode", json!("w")),
        ("/agents/1/grants/llm", json!(true)),
        ("/agents/2/file", json!("format.txt")),
        ("/agents/3/language", json!("python")),
        ("/agents/4/sources", json!([])),
        ("/agents/4/max_results", json!(0)),
        ("/agents/4/web", json!(3)),
        ("/agents/5/tools", json!([])),
        ("/agents/5/tools/0", json!({})),
        ("/agents/5/tools/1/name", json!("a b")),
        ("/agents/6/timeout_hours", json!(0)),
        ("/agents/6/on_timeout", json!("ignore")),
        ("/agents/6/escalate_to", json!([["a"], []])),
        ("/agents/6/approvals_required", json!(0)),
    ] {
        refuse(pointer, wrong);
    }
}

#[test]
fn wrong_steps_are_refused() {
    let set = json!([{ "set": 1 }]);
    for (pointer, wrong) in [
        ("/steps/0", json!({})),
        ("/steps/0", json!("write")),
        ("/steps/0", json!({ "id": "a", "condition": "true" })),
        ("/steps/0", json!({ "agent": "writer", "input": 1 })),
        ("/steps/0/parallel", set.clone()),
        ("/steps/0/timeout_ms", json!("5 s")),
        ("/steps/0/condition", json!(true)),
        ("/steps/0/on_error", json!("ignore")),
        ("/steps/0/on_error/fallback", json!("stop")),
        ("/steps/0/on_error/fallback", json!({ "agent": "writer" })),
        ("/steps/1/parallel", json!([])),
        ("/steps/1/parallel", json!([[]])),
        ("/steps/1/max_concurrency", json!(0)),
        ("/steps/1/on_error", json!("stop")),
        ("/steps/2/then", json!({ "set": 1 })),
        ("/steps/2", json!({ "then": set })),
        ("/steps/2", json!({ "condition": "true", "else": set })),
        ("/steps/3/on_error", json!("retry")),
        ("/steps/3/on_error", json!({ "retry": 1 })),
        ("/steps/3/loop/as", json!("loop")),
        ("/steps/3/loop/concurrency", json!(1001)),
        ("/steps/3/loop/until", json!("true")),
        ("/steps/3/loop", json!({ "items": [], "steps": set })),
        ("/steps/4/loop/while", json!("true")),
        ("/steps/4/loop", json!({ "until": "true", "steps": set })),
        (
            "/steps/4/loop",
            json!({ "steps": set, "max_iterations": 2 }),
        ),
        ("/steps/6/workflow", json!(1)),
        ("/steps/6/inputs", json!("{{ all }}")),
        ("/steps/7/wait", json!({})),
        ("/steps/7/wait", json!({ "seconds": -1 })),
        ("/steps/7/wait", json!({ "seconds": 1, "until": "x" })),
        ("/steps/7/timeout_ms", json!(1)),
    ] {
        refuse(pointer, wrong);
    }
}

#[test]
fn a_deadline_and_what_happens_after_it_belong_together() {
    let validator = validator();
    let document =
        |agent: Value| json!({ "name": "n", "agents": [agent], "steps": [{ "set": 1 }] });
    let human = |extra: Value| {
        let mut agent = json!({ "id": "a", "type": "human", "assignees": ["ann"] });
        agent
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        validator.is_valid(&document(agent))
    };
    assert!(human(json!({ "on_timeout": "fail" })));
    assert!(human(
        json!({ "on_timeout": "approve", "timeout_hours": 1 })
    ));
    assert!(!human(json!({ "on_timeout": "approve" })));
    assert!(!human(
        json!({ "on_timeout": "escalate", "timeout_hours": 1 })
    ));
    assert!(!human(
        json!({ "on_timeout": "escalate", "escalate_to": ["b"] })
    ));
}
