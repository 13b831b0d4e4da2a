//! Requests to models and their answers, between the guest's words and those of the providers.

use std::time::Duration;

use troupe_providers::{
    Finish, Message, ModelRequest, Schema, Strictness, Temperature, ToolCall, ToolDefinition,
};
use troupe_sandbox::{Error, llm};

use super::parse_json;
use crate::call_gateway::Answer;

/// How long one model's answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Reads what a guest wants to ask.
pub(super) fn request_of(
    request: llm::Request,
    idempotency_key: &str,
) -> Result<ModelRequest, Error> {
    let mut system = Vec::new();
    let mut messages = Vec::new();
    for message in request.messages {
        match message.role {
            llm::Role::System => system.push(message.content),
            llm::Role::User => messages.push(Message::User {
                text: message.content,
            }),
            llm::Role::Assistant => messages.push(Message::Assistant {
                text: message.content,
                tool_calls: message
                    .tool_calls
                    .into_iter()
                    .map(tool_call)
                    .collect::<Result<_, _>>()?,
            }),
            llm::Role::Tool => messages.push(Message::Tool {
                call_id: message.tool_call_id.ok_or_else(|| {
                    Error::Invalid("a message of the role `tool` needs a `tool-call-id`".to_owned())
                })?,
                text: message.content,
            }),
        }
    }
    let schema = request
        .schema
        .map(|text| parse_json(&text, "the schema"))
        .transpose()?;
    let tools = request.tools.into_iter().map(|tool| {
        let parameters = parse_json(&tool.parameters, "the parameters of a tool")?;
        Ok(ToolDefinition {
            name: tool.name,
            description: tool.description,
            parameters,
        })
    });
    let temperature = match request.temperature_hundredths {
        Some(hundredths) => Some(Temperature::from_hundredths(hundredths).ok_or_else(|| {
            Error::Invalid("the temperature lies between 0 and 200 hundredths".to_owned())
        })?),
        None => None,
    };
    Ok(ModelRequest {
        model: String::new(),
        system: (!system.is_empty()).then(|| system.join("\n\n")),
        messages,
        max_tokens: request.max_tokens,
        temperature,
        stop: request.stop,
        tools: tools.collect::<Result<_, Error>>()?,
        schema: schema.map(|json| Schema {
            name: "answer".to_owned(),
            json,
            strictness: Strictness::Strict,
        }),
        idempotency_key: idempotency_key.to_owned(),
        timeout: ANSWER_TIMEOUT,
    })
}

fn tool_call(call: llm::ToolCall) -> Result<ToolCall, Error> {
    let arguments = parse_json(&call.arguments, "the arguments of a tool call")?;
    Ok(ToolCall {
        id: call.id,
        name: call.name,
        arguments,
    })
}

/// The answer in the guest's words.
pub(super) fn completion_of(answer: Answer) -> llm::Completion {
    let value = troupe_workflow::json_of(&answer.text).map(|value| value.to_string());
    llm::Completion {
        value,
        text: answer.text,
        tool_calls: answer
            .tool_calls
            .into_iter()
            .map(|call| llm::ToolCall {
                id: call.id,
                name: call.name,
                arguments: call.arguments.to_string(),
            })
            .collect(),
        finish: match answer.finish {
            Finish::Stop => llm::FinishReason::Stop,
            Finish::Length => llm::FinishReason::Length,
            Finish::ToolCalls => llm::FinishReason::ToolCalls,
            Finish::Filtered => llm::FinishReason::Filtered,
        },
        usage: llm::Usage {
            input_tokens: answer.usage.input_tokens,
            cached_input_tokens: answer.usage.cached_input_tokens,
            output_tokens: answer.usage.output_tokens,
        },
        cost_microdollars: answer.cost.as_micro_usd(),
        model: answer.model,
    }
}
