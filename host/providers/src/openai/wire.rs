//! The bytes of chat completions: a request becomes JSON, JSON becomes a completion. Pure. What comes from the service
//! is read leniently, since many servers imitate the format, but never trusted.

use serde_json::{Map, Value, json};

use crate::answer;
use crate::http::{Answer, Refusal};
use crate::learned::{Field, Refused};
use crate::model::{Completion, Finish, Message, ModelRequest, Strictness, ToolCall, Usage};
use crate::structured;

/// What the limit on output tokens is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenLimitName {
    /// OpenAI's name since its reasoning models, which refuse the old one.
    MaxCompletionTokens,
    /// The old name, which every compatible server knows. Some of them ignore the new one without a word, which would
    /// leave the answer, and its cost, without a limit.
    MaxTokens,
}

impl TokenLimitName {
    pub(super) fn for_host(host: &str) -> Self {
        if host == "api.openai.com"
            || host.ends_with(".openai.azure.com")
            || host.ends_with(".api.openai.com")
        {
            Self::MaxCompletionTokens
        } else {
            Self::MaxTokens
        }
    }

    fn key(self, refused: &Refused) -> &'static str {
        match (self, refused.has(Field::TokenLimitName)) {
            (Self::MaxCompletionTokens, false) | (Self::MaxTokens, true) => "max_completion_tokens",
            (Self::MaxTokens, false) | (Self::MaxCompletionTokens, true) => "max_tokens",
        }
    }
}

/// The body of a request, without the fields that this model refuses.
pub(super) fn body(
    request: &ModelRequest,
    refused: &Refused,
    token_limit: TokenLimitName,
) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    let mut system = request.system.clone();
    if let Some(schema) = &request.schema {
        if refused.has(Field::Schema) {
            system = Some(structured::instructions(system.as_deref(), &schema.json));
        } else {
            let strict =
                schema.strictness == Strictness::Strict && structured::fits_strict(&schema.json);
            body.insert(
                "response_format".to_owned(),
                json!({
                    "type": "json_schema",
                    "json_schema": {"name": schema.name, "schema": schema.json, "strict": strict},
                }),
            );
        }
    }
    let system = system.map(|text| json!({"role": "system", "content": text}));
    let messages: Vec<Value> = system
        .into_iter()
        .chain(request.messages.iter().map(message))
        .collect();
    body.insert("messages".to_owned(), Value::Array(messages));
    if let Some(max) = request.max_tokens {
        body.insert(token_limit.key(refused).to_owned(), json!(max));
    }
    if let Some(temperature) = request.temperature
        && !refused.has(Field::Temperature)
    {
        body.insert("temperature".to_owned(), json!(temperature.as_f64()));
    }
    if !request.stop.is_empty() && !refused.has(Field::Stop) {
        body.insert("stop".to_owned(), json!(request.stop));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    Value::Object(body)
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text } => json!({"role": "user", "content": text}),
        Message::Tool { call_id, text } => {
            json!({"role": "tool", "tool_call_id": call_id, "content": text})
        }
        Message::Assistant { text, tool_calls } if tool_calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Message::Assistant { text, tool_calls } => {
            let content = if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            };
            let calls = tool_calls.iter().map(|call| {
                json!({"id": call.id, "type": "function", "function": {
                    "name": call.name, "arguments": call.arguments.to_string(),
                }})
            });
            json!({"role": "assistant", "content": content, "tool_calls": calls.collect::<Vec<_>>()})
        }
    }
}

/// The optional field that a refusal is about, if the request had it.
pub(super) fn refused_field(body: &Value, refusal: &Refusal) -> Option<Field> {
    if !refusal.is_about_the_request() {
        return None;
    }
    let message = refusal.message.to_lowercase();
    let names = |field: &str| {
        refusal.param.as_deref().is_some_and(|param| param == field) || message.contains(field)
    };
    let has = |field: &str| body.get(field).is_some();
    // A model that wants the other name says so; a limit that is merely too high is the caller's business.
    if (has("max_tokens") && message.contains("max_completion_tokens"))
        || (has("max_completion_tokens") && names("max_completion_tokens") && refusal.is_for_good())
    {
        return Some(Field::TokenLimitName);
    }
    if has("temperature") && names("temperature") {
        return Some(Field::Temperature);
    }
    if has("response_format") && (names("response_format") || names("json_schema")) {
        return Some(Field::Schema);
    }
    let quoted = ["'stop'", "`stop`", "\"stop\""]
        .iter()
        .any(|stop| message.contains(stop));
    (has("stop") && (quoted || refusal.param.as_deref() == Some("stop"))).then_some(Field::Stop)
}

/// Reads an answer; the error says what was expected.
pub(super) fn completion(
    request: &ModelRequest,
    refused: &Refused,
    answer: &Answer,
) -> Result<Completion, String> {
    let json = answer::parse_json(&answer.body, "a chat completion")?;
    let choice = json
        .pointer("/choices/0")
        .filter(|choice| choice.get("message").is_some_and(Value::is_object));
    let choice = choice
        .ok_or_else(|| answer::lacks("a chat completion", "`choices[0].message`", &answer.body))?;
    let message = &choice["message"];
    let refusal = message
        .get("refusal")
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty());
    let mut text = content_text(&message["content"]);
    if let Some(refusal) = refusal
        && text.is_empty()
    {
        refusal.clone_into(&mut text);
    }
    let tool_calls = tool_calls(&message["tool_calls"])?;
    let finish = match choice.get("finish_reason").and_then(Value::as_str) {
        _ if refusal.is_some() => Finish::Filtered,
        Some("length") => Finish::Length,
        Some("content_filter") => Finish::Filtered,
        // Some servers say `stop` although they ask for calls.
        _ if !tool_calls.is_empty() => Finish::ToolCalls,
        _ => Finish::Stop,
    };
    Ok(answer::Parts {
        text,
        tool_calls,
        finish,
        usage: usage(&json["usage"]),
        model: json.get("model").and_then(Value::as_str),
        request_id: answer::header(answer, "x-request-id")
            .or_else(|| json.get("id").and_then(Value::as_str)),
    }
    .into_completion(request, refused))
}

/// Text, or a list of parts as some servers send it.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text")?.as_str())
            .collect(),
        _ => String::new(),
    }
}

fn tool_calls(calls: &Value) -> Result<Vec<ToolCall>, String> {
    let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
    let call = |(index, call): (usize, &Value)| {
        let function = &call["function"];
        let name = function.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| {
            format!("a tool call without a function name (`tool_calls[{index}]`)")
        })?;
        let id = call
            .get("id")
            .and_then(Value::as_str)
            .map_or_else(|| format!("call_{index}"), str::to_owned);
        let arguments = match &function["arguments"] {
            Value::String(text) if text.trim().is_empty() => json!({}),
            Value::String(text) => {
                serde_json::from_str(text).unwrap_or_else(|_no_json| json!(text))
            }
            Value::Null => json!({}),
            other => other.clone(),
        };
        Ok(ToolCall {
            id,
            name: name.to_owned(),
            arguments,
        })
    };
    calls.iter().enumerate().map(call).collect()
}

/// None where the numbers are missing, negative or contradict each other.
fn usage(usage: &Value) -> Option<Usage> {
    let input_tokens = usage.get("prompt_tokens")?.as_u64()?;
    let detail = |key: &str| {
        usage
            .pointer(&format!("/prompt_tokens_details/{key}"))
            .and_then(Value::as_u64)
    };
    let usage = Usage {
        input_tokens,
        cached_input_tokens: detail("cached_tokens").unwrap_or(0),
        cache_write_tokens: detail("cache_write_tokens").unwrap_or(0),
        output_tokens: usage.get("completion_tokens")?.as_u64()?,
    };
    answer::is_consistent(&usage).then_some(usage)
}

#[cfg(test)]
mod tests;
