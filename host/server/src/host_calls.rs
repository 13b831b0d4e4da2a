//! What a guest asks of the world, answered with the workflow's models, sources and earlier outputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use troupe_providers::{
    Finish, Message, ModelRequest, Schema, Strictness, Temperature, ToolCall, ToolDefinition,
};
use troupe_sandbox::{
    BudgetKind, Denial, Error, HostCalls, HostFuture, LogLevel, LogLine, llm, search,
};
use troupe_workflow::{Code, ExecutionId, Failure};

use crate::call_gateway::{Answer, CallGateway};
use crate::services::Services;
use crate::sources::Question;

/// How long one model's answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Results of a source where the guest says nothing.
const RESULTS_DEFAULT: u32 = 10;

/// The world of one call.
pub(crate) struct GuestHost {
    pub(crate) gateway: CallGateway,
    pub(crate) services: Arc<Services>,
    pub(crate) idempotency_key: String,
    pub(crate) agent: String,
    pub(crate) execution: ExecutionId,
}

impl HostCalls for GuestHost {
    fn complete(&self, request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        Box::pin(async move {
            let model = request.model.clone().unwrap_or_default();
            let routes = self
                .services
                .models
                .resolve(&model)
                .map_err(|_unknown| Error::NotFound(model.clone()))?;
            let request = self.model_request(request)?;
            let answer = self
                .gateway
                .complete(&model, &routes, request)
                .await
                .map_err(|failure| error_of(&failure))?;
            Ok(completion_of(answer))
        })
    }

    fn search(&self, query: search::Query) -> HostFuture<'_, Result<search::Answer, Error>> {
        Box::pin(async move {
            let question = Question {
                text: query.text,
                sources: query.sources,
                max_results: query.max_results.unwrap_or(RESULTS_DEFAULT),
                max_results_of: BTreeMap::new(),
            };
            let answer = self
                .gateway
                .search(&self.services.sources, &question)
                .await
                .map_err(|failure| error_of(&failure))?;
            let results = answer.results.into_iter().map(|hit| search::Hit {
                title: hit.title,
                url: hit.url,
                snippet: hit.snippet,
                source: hit.source,
                published_at: hit.published_at,
                score_permille: hit.score_permille,
            });
            let errors = answer.errors.into_iter().map(|error| search::SourceError {
                source: error.source,
                message: error.message,
            });
            Ok(search::Answer {
                results: results.collect(),
                errors: errors.collect(),
            })
        })
    }

    fn context_inputs(&self) -> HostFuture<'_, String> {
        Box::pin(async {
            let inputs = self
                .gateway
                .inspect_step(|execution, path| execution.inputs_of(path).to_string())
                .await;
            inputs.unwrap_or_else(|_gone| "{}".to_owned())
        })
    }

    fn context_output(&self, step: String) -> HostFuture<'_, Result<String, Error>> {
        Box::pin(async move {
            let name = step.clone();
            let output = self
                .gateway
                .inspect_step(move |execution, path| execution.output_of(path, &name))
                .await;
            match output.map_err(|failure| error_of(&failure))? {
                Some(output) => Ok(output.to_string()),
                None => Err(Error::NotFound(format!("no step `{step}` has ended"))),
            }
        })
    }

    fn context_steps(&self) -> HostFuture<'_, Vec<String>> {
        Box::pin(async {
            let names = self
                .gateway
                .inspect_step(troupe_workflow::Execution::output_names)
                .await;
            names.unwrap_or_default()
        })
    }

    fn microdollars_left(&self) -> HostFuture<'_, Option<u64>> {
        Box::pin(async {
            let left = self
                .gateway
                .inspect_step(troupe_workflow::Execution::money_left)
                .await;
            left.ok()
                .flatten()
                .map(troupe_workflow::MicroUsd::as_micro_usd)
        })
    }

    fn log(&self, line: LogLine) -> HostFuture<'_, ()> {
        let (agent, message, fields) = (
            &self.agent,
            &line.message,
            line.fields.as_deref().unwrap_or("{}"),
        );
        let id = self.execution;
        match line.level {
            LogLevel::Debug => tracing::debug!(execution.id = %id, agent, fields, "{message}"),
            LogLevel::Info => tracing::info!(execution.id = %id, agent, fields, "{message}"),
            LogLevel::Warn => tracing::warn!(execution.id = %id, agent, fields, "{message}"),
            LogLevel::Error => tracing::error!(execution.id = %id, agent, fields, "{message}"),
        }
        Box::pin(std::future::ready(()))
    }
}

impl GuestHost {
    fn model_request(&self, request: llm::Request) -> Result<ModelRequest, Error> {
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
                        Error::Invalid(
                            "a message of the role `tool` needs a `tool-call-id`".to_owned(),
                        )
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
            Some(hundredths) => {
                Some(Temperature::from_hundredths(hundredths).ok_or_else(|| {
                    Error::Invalid("the temperature lies between 0 and 200 hundredths".to_owned())
                })?)
            }
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
            idempotency_key: self.idempotency_key.clone(),
            timeout: ANSWER_TIMEOUT,
        })
    }
}

fn tool_call(call: llm::ToolCall) -> Result<ToolCall, Error> {
    let arguments = parse_json(&call.arguments, "the arguments of a tool call")?;
    Ok(ToolCall {
        id: call.id,
        name: call.name,
        arguments,
    })
}

fn parse_json(text: &str, what: &str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Invalid(format!("{what} is no JSON: {error}")))
}

fn completion_of(answer: Answer) -> llm::Completion {
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

/// A failure in the guest's own terms.
fn error_of(failure: &Failure) -> Error {
    let message = || failure.message.clone();
    match failure.code {
        Code::RateLimited => Error::RateLimited(failure.retry_after_ms),
        Code::Overloaded | Code::Unavailable => Error::Unavailable(message()),
        Code::TimedOut => Error::TimedOut,
        Code::Denied => Error::Denied(Denial {
            capability: "llm".to_owned(),
            message: message(),
        }),
        Code::BudgetExceeded => Error::BudgetSpent(BudgetKind::Usd),
        Code::Cancelled => Error::Cancelled,
        Code::InputInvalid | Code::OutputInvalid => Error::Invalid(message()),
        Code::GuestFailed
        | Code::GuestTrap
        | Code::LimitFuel
        | Code::LimitMemory
        | Code::LimitTime
        | Code::LimitOutput
        | Code::LimitHostCalls
        | Code::ConditionType
        | Code::TemplateFailed
        | Code::MaxIterations
        | Code::LoopItemsType
        | Code::ApprovalTimeout
        | Code::ComponentUnavailable
        | Code::Internal => Error::Unavailable(message()),
    }
}
