//! Whatever the value: there is a picture, and it is the same each time.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{document, plain};
use crate::graph::{mermaid, svg};

/// The words of a document, so that values of any shape have something to be read.
const WORDS: [&str; 30] = [
    "name",
    "inputs",
    "properties",
    "agents",
    "id",
    "type",
    "steps",
    "outputs",
    "workflows",
    "agent",
    "action",
    "condition",
    "then",
    "else",
    "parallel",
    "max_concurrency",
    "loop",
    "items",
    "as",
    "until",
    "while",
    "max_iterations",
    "concurrency",
    "wait",
    "seconds",
    "set",
    "workflow",
    "on_error",
    "fallback",
    "continue",
];

fn any_value() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(WORDS.as_slice());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 96, 6, move |inner| {
        let field = (word.clone(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..6).prop_map(Value::from),
            proptest::collection::vec(field, 0..6).prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(fields.collect::<Map<_, _>>())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_has_a_picture(value in any_value()) {
        for value in [json!({"steps": value, "workflows": {"w": value}}), value] {
            prop_assert_eq!(mermaid(&value), mermaid(&value));
            prop_assert_eq!(svg(&value), svg(&value));
        }
    }
}

/// Blocks of all sorts within each other, so many deep.
fn nested(depth: usize) -> Value {
    (0..depth).fold(plain(), |inner, level| match level % 3 {
        0 => json!({"parallel": [[inner], plain()]}),
        1 => json!({"condition": "a", "then": [inner], "else": [plain()]}),
        _ => json!({"loop": {"items": "a", "as": "b", "steps": [inner]}}),
    })
}

#[test]
fn deep_documents_are_drawn_as_deep_as_they_may_be() {
    for (depth, is_cut) in [(64, false), (65, true), (1_000, true)] {
        let document = document(&json!([nested(depth)]));
        for picture in [mermaid(&document), svg(&document)] {
            assert_eq!(picture.contains("not drawn"), is_cut, "{depth}");
        }
    }
}

#[test]
fn long_documents_are_drawn_as_long_as_they_may_be() {
    for (count, is_cut) in [(10_000, false), (10_001, true)] {
        let document = document(&Value::from(vec![plain(); count]));
        for picture in [mermaid(&document), svg(&document)] {
            assert_eq!(picture.contains("not drawn"), is_cut, "{count}");
        }
    }
}

#[test]
fn wide_documents_stay_in_bounds() {
    let document = document(&json!([{"parallel": vec![plain(); 9_999]}]));
    assert!(svg(&document).contains("viewBox=\"0 0 1839"));
    assert!(mermaid(&document).contains("n10001"));
}
