//! The bytes of Anthropic's messages: a request becomes JSON, JSON becomes a completion. Pure.

use serde_json::{Map, Value, json};

use super::ANTHROPIC_MAX_TOKENS;
use crate::answer;
use crate::http::{Answer, Refusal};
use crate::learned::{Field, Refused};
use crate::model::{Completion, Finish, Message, ModelRequest, Strictness, ToolCall, Usage};
use crate::structured;

/// The version of the interface whose shapes are read here.
const VERSION: &str = "2026-10-21";
/// The version before it, the last that takes a temperature.
const VERSION_WITH_TEMPERATURE: &str = "2023-06-01";

/// The version to name with a body.
pub(super) fn version(body: &Value) -> &'static str {
    if body.get("temperature").is_some() {
        VERSION_WITH_TEMPERATURE
    } else {
        VERSION
    }
}

/// The body of a request, without the fields that this model refuses.
pub(super) fn body(request: &ModelRequest, refused: &Refused) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert(
        "max_tokens".to_owned(),
        json!(request.max_tokens.unwrap_or(ANTHROPIC_MAX_TOKENS)),
    );
    body.insert("messages".to_owned(), turns(&request.messages));
    let mut system = request
        .system
        .clone()
        .filter(|text| !text.trim().is_empty());
    if let Some(schema) = &request.schema {
        // The format has no lenient mode: what constrained decoding cannot take is asked for in words. (A forced tool
        // would be the other way; it shuts out the request's own tools, and models that think refuse it.)
        let strict =
            schema.strictness == Strictness::Strict && structured::fits_strict(&schema.json);
        if strict && !refused.has(Field::Schema) {
            let format =
                json!({"type": "json_schema", "schema": structured::for_anthropic(&schema.json)});
            body.insert("output_config".to_owned(), json!({"format": format}));
        } else {
            system = Some(structured::instructions(system.as_deref(), &schema.json));
        }
    }
    if let Some(system) = system {
        body.insert("system".to_owned(), json!(system));
    }
    if let Some(temperature) = request.temperature
        && !refused.has(Field::Temperature)
    {
        // This format ends at 1; what asks for more gets the most there is.
        body.insert(
            "temperature".to_owned(),
            json!(temperature.as_f64().min(1.0)),
        );
    }
    if !request.stop.is_empty() && !refused.has(Field::Stop) {
        body.insert("stop_sequences".to_owned(), json!(request.stop));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters})
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    Value::Object(body)
}

/// The conversation as turns: neighbours of one role become one message, for the results of parallel tool calls have
/// to stand together. An empty text is no block: the service refuses those.
fn turns(messages: &[Message]) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = blocks(message);
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns
        .into_iter()
        .map(|(role, blocks)| json!({"role": role, "content": blocks}))
        .collect()
}

fn blocks(message: &Message) -> (&'static str, Vec<Value>) {
    let text_block =
        |text: &str| (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}));
    match message {
        Message::User { text } => ("user", text_block(text).into_iter().collect()),
        Message::Tool { call_id, text } => (
            "user",
            vec![json!({"type": "tool_result", "tool_use_id": call_id, "content": text})],
        ),
        Message::Assistant { text, tool_calls } => {
            let calls = tool_calls.iter().map(|call| {
                // The format wants an object; text that was no JSON is shown to the model under a name of its own.
                let input = match &call.arguments {
                    Value::Object(_) => call.arguments.clone(),
                    other => json!({"arguments": other}),
                };
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
            });
            (
                "assistant",
                text_block(text).into_iter().chain(calls).collect(),
            )
        }
    }
}

/// The optional field that a refusal is about, if the request had it.
pub(super) fn refused_field(body: &Value, refusal: &Refusal) -> Option<Field> {
    if !refusal.is_about_the_request() {
        return None;
    }
    let message = refusal.message.to_lowercase();
    let has = |field: &str| body.get(field).is_some();
    if has("temperature") && message.contains("temperature") {
        return Some(Field::Temperature);
    }
    let schema_words = [
        "output_config",
        "output_format",
        "json_schema",
        "structured output",
    ];
    if has("output_config") && schema_words.iter().any(|word| message.contains(word)) {
        return Some(Field::Schema);
    }
    (has("stop_sequences") && message.contains("stop_sequences")).then_some(Field::Stop)
}

/// Reads an answer; the error says what was expected.
pub(super) fn completion(
    request: &ModelRequest,
    refused: &Refused,
    answer: &Answer,
) -> Result<Completion, String> {
    let json = answer::parse_json(&answer.body, "a message")?;
    let blocks = json.get("content").and_then(Value::as_array);
    let blocks =
        blocks.ok_or_else(|| answer::lacks("a message", "a list `content`", &answer.body))?;
    // Blocks of other types (thinking, for one) are not part of the answer.
    let text: String = blocks
        .iter()
        .filter(|block| block.get("type").and_then(Value::as_str) == Some("text"))
        .filter_map(|block| block.get("text")?.as_str())
        .collect();
    let tool_calls = tool_calls(blocks)?;
    let finish = match json.get("stop_reason").and_then(Value::as_str) {
        Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
        Some("refusal") => Finish::Filtered,
        _ if !tool_calls.is_empty() => Finish::ToolCalls,
        _ => Finish::Stop,
    };
    Ok(answer::Parts {
        text,
        tool_calls,
        finish,
        usage: usage(&json["usage"]),
        model: json.get("model").and_then(Value::as_str),
        request_id: answer::header(answer, "request-id")
            .or_else(|| json.get("id").and_then(Value::as_str)),
    }
    .into_completion(request, refused))
}

fn tool_calls(blocks: &[Value]) -> Result<Vec<ToolCall>, String> {
    let calls = blocks
        .iter()
        .filter(|block| block.get("type").and_then(Value::as_str) == Some("tool_use"));
    let call = |block: &Value| {
        let field = |name: &str| {
            let text = block.get(name).and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| format!("a `tool_use` block without `{name}`"))
        };
        Ok(ToolCall {
            id: field("id")?,
            name: field("name")?,
            arguments: block["input"].clone(),
        })
    };
    calls.map(call).collect()
}

/// None where the numbers are missing or negative. The service counts cached input apart; ours is the sum.
fn usage(usage: &Value) -> Option<Usage> {
    let part = |key: &str| usage.get(key).and_then(Value::as_u64).unwrap_or(0);
    let cached_input_tokens = part("cache_read_input_tokens");
    let cache_write_tokens = part("cache_creation_input_tokens");
    let fresh = usage.get("input_tokens")?.as_u64()?;
    let usage = Usage {
        input_tokens: fresh
            .checked_add(cached_input_tokens)?
            .checked_add(cache_write_tokens)?,
        cached_input_tokens,
        cache_write_tokens,
        output_tokens: usage.get("output_tokens")?.as_u64()?,
    };
    answer::is_consistent(&usage).then_some(usage)
}

#[cfg(test)]
mod tests;
