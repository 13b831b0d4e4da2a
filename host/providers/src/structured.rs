//! Schemas as providers take them: which ones their strict modes accept, and how to ask for one in words. Pure; it
//! must not judge an answer, which is the caller's part.

use serde_json::{Map, Value};

/// Deepest nesting that strict modes accept (OpenAI documents 10 levels); it also bounds our own recursion.
const STRICT_DEPTH_MAX: usize = 10;

/// Keywords that constrained decoding does not enforce and strict modes refuse.
const LOOSE_KEYWORDS: [&str; 11] = [
    "allOf",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "oneOf",
    "patternProperties",
    "propertyNames",
    "then",
    "unevaluatedProperties",
];

/// Keywords that Anthropic's structured output refuses though OpenAI's takes them; they go into the description, so
/// that the model still reads them.
const BOUNDS: [&str; 10] = [
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "multipleOf",
    "uniqueItems",
];

/// Whether strict modes accept the schema: an object whose every object is closed, with all properties required, and
/// every value of a known type.
pub(crate) fn fits_strict(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object") && fits(schema, 0)
}

fn fits(schema: &Value, depth: usize) -> bool {
    let Value::Object(schema) = schema else {
        return false;
    };
    if depth > STRICT_DEPTH_MAX
        || LOOSE_KEYWORDS
            .iter()
            .any(|keyword| schema.contains_key(*keyword))
    {
        return false;
    }
    let definitions = ["$defs", "definitions"]
        .iter()
        .filter_map(|key| schema.get(*key)?.as_object());
    if !definitions
        .flat_map(Map::values)
        .all(|definition| fits(definition, depth + 1))
    {
        return false;
    }
    if let Some(options) = schema.get("anyOf") {
        return options
            .as_array()
            .is_some_and(|options| options.iter().all(|option| fits(option, depth + 1)));
    }
    if ["$ref", "enum", "const"]
        .iter()
        .any(|key| schema.contains_key(*key))
    {
        return true;
    }
    match schema.get("type") {
        Some(Value::String(kind)) => fits_type(schema, kind, depth),
        Some(Value::Array(kinds)) => kinds.iter().all(|kind| {
            kind.as_str()
                .is_some_and(|kind| fits_type(schema, kind, depth))
        }),
        _ => false,
    }
}

fn fits_type(schema: &Map<String, Value>, kind: &str, depth: usize) -> bool {
    match kind {
        "object" => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                return false;
            };
            let required: Vec<&str> = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            schema.get("additionalProperties") == Some(&Value::Bool(false))
                && properties
                    .keys()
                    .all(|name| required.contains(&name.as_str()))
                && properties
                    .values()
                    .all(|property| fits(property, depth + 1))
        }
        "array" => schema
            .get("items")
            .is_some_and(|items| fits(items, depth + 1)),
        "string" | "number" | "integer" | "boolean" | "null" => true,
        _ => false,
    }
}

/// A schema that [`fits_strict`], as Anthropic takes it: bounds move into the description.
pub(crate) fn for_anthropic(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => Value::Object(without_bounds(fields)),
        Value::Array(items) => Value::Array(items.iter().map(for_anthropic).collect()),
        other => other.clone(),
    }
}

fn without_bounds(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    let mut notes = Vec::new();
    for (key, value) in fields {
        match key.as_str() {
            bound if BOUNDS.contains(&bound) => notes.push(format!("{bound}: {value}")),
            // Names in here are the user's own, not keywords.
            "properties" | "$defs" | "definitions" => {
                let inner = value.as_object().into_iter().flatten();
                let inner = inner
                    .map(|(name, schema)| (name.clone(), for_anthropic(schema)))
                    .collect();
                out.insert(key.clone(), Value::Object(inner));
            }
            "enum" | "const" | "default" | "examples" => {
                out.insert(key.clone(), value.clone());
            }
            _ => {
                out.insert(key.clone(), for_anthropic(value));
            }
        }
    }
    if !notes.is_empty() {
        let described = out
            .get("description")
            .and_then(Value::as_str)
            .map(|text| format!("{text} "));
        let note = format!("{}({})", described.unwrap_or_default(), notes.join(", "));
        out.insert("description".to_owned(), Value::String(note));
    }
    out
}

/// The standing instructions with a demand for JSON by this schema, for providers and models without a mode for it.
pub(crate) fn instructions(system: Option<&str>, schema: &Value) -> String {
    let demand = format!(
        "Answer with one JSON document that satisfies the JSON schema below, and with nothing else: no explanation, no \
         Markdown fence.\n{schema}"
    );
    match system {
        Some(system) if !system.trim().is_empty() => format!("{system}\n\n{demand}"),
        _ => demand,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn knows_what_strict_modes_accept() {
        let strict = json!({"type": "object", "required": ["queries", "kind"], "additionalProperties": false, "properties": {
            "queries": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
            "kind": {"enum": ["a", "b"]},
        }});
        assert!(fits_strict(&strict));
        let cases = [
            (
                "an optional property",
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            ),
            (
                "an open object",
                json!({"type": "object", "properties": {}, "required": []}),
            ),
            (
                "any value",
                json!({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false}),
            ),
            (
                "a list at the root",
                json!({"type": "array", "items": {"type": "string"}}),
            ),
            (
                "a condition",
                json!({"type": "object", "properties": {}, "additionalProperties": false, "not": {}}),
            ),
            ("no schema", json!("object")),
        ];
        for (what, schema) in cases {
            assert!(!fits_strict(&schema), "{what}");
        }
    }

    #[test]
    fn does_not_follow_nesting_without_end() {
        let mut schema = json!({"type": "string"});
        for _ in 0..1_000 {
            schema = json!({"type": "array", "items": schema});
        }
        let schema = json!({"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": false});
        assert!(!fits_strict(&schema));
    }

    #[test]
    fn moves_bounds_into_the_description() {
        let schema = json!({"type": "object", "properties": {"maximum": {"type": "integer", "maximum": 5, "description": "Stars."}}});
        let expected = json!({"type": "object", "properties": {"maximum": {"type": "integer", "description": "Stars. (maximum: 5)"}}});
        assert_eq!(for_anthropic(&schema), expected);
    }
}
