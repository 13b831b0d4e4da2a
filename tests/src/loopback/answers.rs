//! Answers in each service's own format. What no script says follows from the request alone: an instance of the schema
//! it asks for, else an echo; three results for a search.

use serde_json::{Map, Value, json};

use super::reply::{Content, Reply};
use super::wire::Recorded;

/// Deepest schema that an instance is made for.
const DEPTH_MAX: usize = 8;

/// A chat completion.
pub(super) fn openai(request: &Recorded, content: &Content, reply: &Reply) -> Value {
    let asked = request.json();
    let schema = asked
        .pointer("/response_format/json_schema/schema")
        .cloned();
    let schema = schema.or_else(|| schema_in_words(asked.pointer("/messages/0/content")));
    let (message, finish) = match content {
        Content::ToolCalls(calls) => {
            let calls = calls.iter().enumerate().map(|(number, (name, arguments))| {
                json!({"id": format!("call_{number}"), "type": "function",
                    "function": {"name": name, "arguments": arguments.to_string()}})
            });
            (
                json!({"role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>()}),
                "tool_calls",
            )
        }
        other => (
            json!({"role": "assistant", "content": text(other, schema.as_ref(), &asked), "refusal": null}),
            "stop",
        ),
    };
    let (input, output) = (tokens(&asked["messages"]), tokens(&message));
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0}});
    let choices = json!([{"index": 0, "message": message, "finish_reason": finish}]);
    let answer = json!({"id": "chatcmpl-loopback", "object": "chat.completion", "created": 0, "model": asked["model"],
        "choices": choices, "usage": usage});
    with_usage(answer, reply)
}

/// A message.
pub(super) fn anthropic(request: &Recorded, content: &Content, reply: &Reply) -> Value {
    let asked = request.json();
    let schema = asked.pointer("/output_config/format/schema").cloned();
    let schema = schema.or_else(|| schema_in_words(asked.get("system")));
    let (blocks, stop) = match content {
        Content::ToolCalls(calls) => {
            let calls = calls.iter().enumerate().map(|(number, (name, arguments))| {
                json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": name, "input": arguments})
            });
            (calls.collect::<Vec<_>>(), "tool_use")
        }
        other => (
            vec![json!({"type": "text", "text": text(other, schema.as_ref(), &asked)})],
            "end_turn",
        ),
    };
    let usage = json!({"input_tokens": tokens(&asked["messages"]) + tokens(&asked["system"]), "output_tokens": tokens(&json!(blocks)),
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
    let answer = json!({"id": "msg_loopback", "type": "message", "role": "assistant", "model": asked["model"],
        "content": blocks, "stop_reason": stop, "stop_sequence": null, "usage": usage});
    with_usage(answer, reply)
}

/// Search results.
pub(super) fn searxng(request: &Recorded, content: &Content) -> Value {
    let parameter = |name: &str| request.query.get(name).map_or("", String::as_str);
    let (query, category) = (parameter("q"), parameter("categories"));
    let slug: String = query
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let results = match content {
        Content::Results(results) => results.clone(),
        _ => (1..=3)
            .map(|number| {
                json!({
                    "url": format!("https://{category}.example.com/{slug}/{number}"),
                    "title": format!("Result {number} about {query}"),
                    "content": format!("Result number {number} of the category {category} says what is known about {query} today."),
                    "engine": "loopback", "category": category, "score": 4 - number,
                })
            })
            .collect(),
    };
    json!({"query": query, "number_of_results": 0, "results": results, "answers": [], "suggestions": [],
        "unresponsive_engines": []})
}

/// A refusal that clients of every format can read.
pub(super) fn refusal(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message, "param": null, "code": null}})
}

fn with_usage(mut answer: Value, reply: &Reply) -> Value {
    if let (Some(usage), Value::Object(fields)) = (&reply.usage, &mut answer) {
        match usage {
            Value::Null => fields.remove("usage"),
            other => fields.insert("usage".to_owned(), other.clone()),
        };
    }
    answer
}

fn text(content: &Content, schema: Option<&Value>, asked: &Value) -> String {
    match (content, schema) {
        (Content::Text(text), _) => text.clone(),
        (_, Some(schema)) => instance(schema, "value", 0).to_string(),
        (_, None) => format!("Echo: {}", last_text(asked)),
    }
}

/// The text of the last message.
fn last_text(asked: &Value) -> &str {
    let last = asked["messages"]
        .as_array()
        .and_then(|messages| messages.last());
    let content = last.map_or(&Value::Null, |last| &last["content"]);
    let block = |block: &'_ Value| {
        block
            .get("text")
            .or_else(|| block.get("content"))
            .is_some_and(Value::is_string)
    };
    match content {
        Value::String(text) => text,
        Value::Array(blocks) => {
            let last = blocks.iter().rev().find(|b| block(b));
            last.and_then(|b| b.get("text").or_else(|| b.get("content"))?.as_str())
                .unwrap_or_default()
        }
        _ => "",
    }
}

/// The schema that standing instructions end with, where the client asks for JSON in words.
fn schema_in_words(system: Option<&Value>) -> Option<Value> {
    let text = system?.as_str()?;
    let (_, schema) = text
        .rsplit_once('\n')
        .filter(|_| text.contains("JSON schema"))?;
    serde_json::from_str(schema).ok()
}

/// The plainest instance of a schema.
fn instance(schema: &Value, name: &str, depth: usize) -> Value {
    if let Some(value) = schema.get("const").or_else(|| schema.pointer("/enum/0")) {
        return value.clone();
    }
    if let Some(option) = schema
        .pointer("/anyOf/0")
        .or_else(|| schema.pointer("/oneOf/0"))
    {
        return instance(option, name, depth + 1);
    }
    let least = |key: &str| schema.get(key).and_then(Value::as_u64);
    let kind = schema
        .get("type")
        .and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
    match kind {
        _ if depth > DEPTH_MAX => Value::Null,
        Some("object") => object(schema, depth),
        Some("array") => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            let count = least("minItems")
                .unwrap_or(2)
                .clamp(1, least("maxItems").unwrap_or(10).max(1));
            (1..=count)
                .map(|number| instance(items, &format!("{name} {number}"), depth + 1))
                .collect()
        }
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some(_) => json!(name),
        None if schema.get("properties").is_some() => object(schema, depth),
        None if name.ends_with('s') => json!([format!("{name} 1"), format!("{name} 2")]),
        None => json!(name),
    }
}

fn object(schema: &Value, depth: usize) -> Value {
    let mut out = Map::new();
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        out.insert(name.clone(), instance(property, name, depth + 1));
    }
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        out.entry(name)
            .or_insert_with(|| instance(&Value::Null, name, depth + 1));
    }
    Value::Object(out)
}

/// A quarter of the bytes, rounded up.
fn tokens(value: &Value) -> usize {
    if value.is_null() {
        0
    } else {
        value.to_string().len().div_ceil(4)
    }
}
