//! What models return, and what it means.

use expect_test::expect;
use serde_json::{Value, json};

use crate::document::ResponseFormat;

use super::interpret_text;
use crate::definition::{FieldKind, RequiredFields};

fn meaning(text: &str, required: &[(&str, FieldKind)], schema: Option<&Value>) -> String {
    let mut fields = RequiredFields::default();
    for (name, kind) in required {
        fields.add(name, *kind);
    }
    match interpret_text(text.to_owned(), &fields, schema, ResponseFormat::Auto) {
        Ok(answer) => {
            assert_eq!(answer.text, text);
            answer.value.to_string()
        }
        Err(problem) => format!("problem: {problem}"),
    }
}

#[test]
fn json_is_found_and_a_bare_list_is_the_one_field() {
    let queries = [("queries", FieldKind::Texts)];
    let two = [("a", FieldKind::Any), ("b", FieldKind::Any)];
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let lines = [
        meaning("Hello.", &[], None),
        meaning("{\"a\": 1}", &[], None),
        meaning("Sure:\n```json\n[\"x\", \"y\"]\n```\nDone.", &queries, None),
        meaning("[\"x\"]", &queries, None),
        meaning("{\"queries\": [\"x\"], \"more\": 1}", &queries, None),
        meaning("true", &[("ok", FieldKind::Boolean)], None),
        meaning("I would search for x.", &queries, None),
        meaning("```\n1\n```\n```\n2\n```", &queries, None),
        meaning("{\"a\": 1}", &two, None),
        meaning("[1]", &two, None),
        meaning("{\"n\": \"x\"}", &[], Some(&schema)),
        meaning("{\"n\": 3}", &[], Some(&schema)),
        meaning("plain", &[], Some(&json!({ "type": "string" }))),
    ];
    expect![[r#"
        "Hello."
        {"a":1}
        {"queries":["x","y"]}
        {"queries":["x"]}
        {"queries":["x"],"more":1}
        {"ok":true}
        problem: The answer is not JSON. Answer with JSON only.
        problem: The answer is not JSON. Answer with JSON only.
        problem: The answer lacks `b`.
        problem: The answer is a list, it must be a JSON object.
        problem: The answer violates its schema: /n: "x" is not of type "integer".
        {"n":3}
        "plain""#]]
    .assert_eq(&lines.join("\n"));
}
