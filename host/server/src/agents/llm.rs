//! A step of a language model: one question, and one repair turn where the answer is not what later steps read.

use serde_json::Value;
use troupe_providers::{Finish, Message, ModelRequest, Schema, Strictness, Temperature};
use troupe_workflow::{
    Agent, Code, Failure, LlmAgent, RequiredFields, ResponseFormat, StartStep, interpret_text,
};

use super::Attempt;
use crate::call_gateway::{Answer, CallGateway};
use crate::driver::Output;

/// How long one answer may take where the agent says nothing.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);

pub(super) async fn run(
    attempt: &Attempt,
    agent: &Agent,
    llm: &LlmAgent,
) -> Result<Output, Failure> {
    let gateway = CallGateway::new(
        &attempt.services,
        attempt.execution,
        &attempt.start,
        attempt.driver.clone(),
    );
    let mut last = None;
    for model in std::iter::once(&llm.model).chain(&llm.fallback_models) {
        match ask(attempt, agent, llm, model, &gateway).await {
            Err(failure) if failure.code.is_services_fault() => last = Some(failure),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Code::Internal, "no model was asked")))
}

async fn ask(
    attempt: &Attempt,
    agent: &Agent,
    llm: &LlmAgent,
    model: &str,
    gateway: &CallGateway,
) -> Result<Output, Failure> {
    let routes = attempt
        .services
        .models
        .resolve(model)
        .map_err(|message| Failure::new(Code::Denied, message))?;
    let mut request = request(attempt, agent, llm);
    let required = &attempt.start.required;
    let schema = agent.output_schema.as_ref();
    let answer = gateway
        .complete((model, &routes), request.clone(), None)
        .await?;
    let problem = match interpret_text(answer.text.clone(), required, schema, llm.response_format) {
        Ok(meaning) => return Ok(output(meaning.value, meaning.text)),
        Err(problem) => problem,
    };
    // One repair turn: the model sees its answer, what is wrong with it, and the schema.
    request.messages.push(Message::Assistant {
        text: answer.text,
        tool_calls: Vec::new(),
    });
    let again = match &request.schema {
        Some(schema) => format!(
            "{problem} Answer again, with nothing but JSON that satisfies this schema:\n{}",
            schema.json
        ),
        None => format!("{problem} Answer again."),
    };
    request.messages.push(Message::User { text: again });
    let answer = gateway.complete((model, &routes), request, None).await?;
    match interpret_text(answer.text.clone(), required, schema, llm.response_format) {
        Ok(meaning) => Ok(output(meaning.value, meaning.text)),
        Err(problem) => Err(Failure::new(
            Code::OutputInvalid,
            invalid(&answer, &problem.to_string()),
        )),
    }
}

fn request(attempt: &Attempt, agent: &Agent, llm: &LlmAgent) -> ModelRequest {
    let start = &attempt.start;
    let text = match &start.input {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let schema = agent
        .output_schema
        .clone()
        .map(|json| (json, Strictness::Strict))
        .or_else(|| {
            let fields: &RequiredFields = &start.required;
            let strictness = if fields.is_strict() {
                Strictness::Strict
            } else {
                Strictness::Lenient
            };
            (!fields.is_empty()).then(|| (fields.schema(), strictness))
        });
    ModelRequest {
        model: llm.model.clone(),
        system: Some(system(start, llm, schema.as_ref().map(|(json, _)| json))),
        messages: vec![Message::User { text }],
        max_tokens: llm.max_tokens,
        temperature: llm.temperature.and_then(Temperature::from_f64),
        stop: llm.stop.clone(),
        tools: Vec::new(),
        schema: schema.map(|(json, strictness)| Schema {
            name: "answer".to_owned(),
            json,
            strictness,
        }),
        idempotency_key: start.idempotency_key.clone(),
        timeout: start.timeout.unwrap_or(ANSWER_TIMEOUT),
    }
}

/// The instructions: the author's own, the step's action, and what the answer must be.
fn system(start: &StartStep, llm: &LlmAgent, schema: Option<&Value>) -> String {
    let mut text = String::new();
    if let Some(prompt) = &start.system_prompt {
        text.push_str(prompt);
        text.push_str("\n\n");
    }
    text.push_str(&format!("Your task in this step: {}.", start.action));
    match (schema, llm.response_format) {
        (Some(schema), ResponseFormat::Auto | ResponseFormat::Json) => text.push_str(&format!(
            "\nAnswer with nothing but JSON that satisfies this schema: {schema}"
        )),
        (None, ResponseFormat::Json) => text.push_str("\nAnswer with nothing but JSON."),
        (_, ResponseFormat::Text) | (None, ResponseFormat::Auto) => {}
    }
    text
}

fn output(value: Value, text: String) -> Output {
    // Where the value is just the text, it is kept once.
    let text = (value.as_str() != Some(text.as_str())).then_some(text);
    Output { value, text }
}

fn invalid(answer: &Answer, problem: &str) -> String {
    let start: String = answer.text.chars().take(200).collect();
    let cut = match answer.finish {
        Finish::Length => " It was cut off at `max_tokens`: raise it.",
        Finish::Filtered => " The provider held it back.",
        Finish::Stop | Finish::ToolCalls => "",
    };
    format!(
        "the model `{}` was asked twice and its answer is not what later steps read: {problem}{cut} It begins: {start:?}",
        answer.model
    )
}
