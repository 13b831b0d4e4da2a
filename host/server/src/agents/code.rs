//! A step of code: source in an interpreter, or a component. Both run in the sandbox, under limits and grants.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_sandbox::{
    Call, ComponentDigest, ContextGrant, Grants, HostCalls, HumanGrant, Invocation, Limits,
    LlmGrant, Outcome, Program, Report, SearchGrant,
};
use troupe_workflow::{
    Agent, Code, CodeAgent, CodeSource, Failure, Language, Limits as AskedLimits, Series, StepUsage,
};

use super::Attempt;
use crate::clock;
use crate::driver::{Ended, Output};
use crate::host_calls::{GuestHost, Stop};

pub(super) async fn run(
    attempt: &Attempt,
    agent: &Agent,
    code: &CodeAgent,
    usage: &mut StepUsage,
) -> Result<Ended, Failure> {
    let start = &attempt.start;
    let services = &attempt.services;
    let series = series(attempt);
    let http = services
        .outgoing
        .given(attempt.definition().name(), agent, code)
        .map_err(|message| Failure::new(Code::Denied, message))?;
    let host = Arc::new(GuestHost::new(attempt, agent.id.as_str(), http.secrets));
    let mut call = call(attempt, (agent, code), (&host, series));
    call.grants.http = Some(http.grant);
    let input = start.input.to_string();
    let unavailable =
        |error: anyhow::Error| Failure::new(Code::ComponentUnavailable, format!("{error:#}"));
    let _pass = services.guests.enter(attempt.execution).await;
    let report = match &code.source {
        CodeSource::Inline { language, code } => {
            let component = services
                .components
                .interpreter(*language)
                .await
                .map_err(unavailable)?;
            let program = Program {
                source: code.clone(),
                filename: format!("{}.{}", agent.id, extension(*language)),
                input,
                action: start.action.clone(),
            };
            services
                .components
                .sandbox()
                .execute(&component, program, call)
                .await
        }
        CodeSource::Component { reference } => {
            let digest: ComponentDigest = reference.parse().map_err(|_error| {
                Failure::new(
                    Code::ComponentUnavailable,
                    format!("`{reference}` is no digest"),
                )
            })?;
            let component = services
                .components
                .agent(&digest)
                .await
                .map_err(unavailable)?;
            let invocation = invocation(attempt, series.attempt, input);
            services
                .components
                .sandbox()
                .call_agent(&component, invocation, call)
                .await
        }
    };
    let report = report
        .map_err(|error| Failure::new(Code::Internal, format!("the sandbox failed: {error}")))?;
    *usage = usage_of(&report);
    log_output(attempt, agent, &report);
    match host.take_stop() {
        Some(Stop::Asked(question)) => Ok(Ended::Asked(question)),
        Some(Stop::Diverged(failure)) => Err(failure),
        None => {
            let value = value_of(report)
                .map_err(|failure| of_budget(attempt, code, failure))
                .map_err(|failure| host.with_denials(failure))?;
            host.check_ended()?;
            Ok(Ended::Output(Output { value, text: None }))
        }
    }
}

/// What a component is told.
fn invocation(attempt: &Attempt, series: u32, input: String) -> Invocation {
    let start = &attempt.start;
    Invocation {
        action: start.action.clone(),
        input,
        execution: attempt.execution.to_string(),
        workflow: attempt.definition().name().to_owned(),
        step: start.path.to_string(),
        // What only goes on is no other try to the component: it is told the same again.
        attempt: series,
        idempotency_key: start.idempotency_key.clone(),
    }
}

/// One call of the sandbox, with what it may use.
fn call(
    attempt: &Attempt,
    (agent, code): (&Agent, &CodeAgent),
    (host, series): (&Arc<GuestHost>, Series),
) -> Call {
    let began_at = u64::try_from(series.began_at.as_millis()).unwrap_or(0);
    Call {
        agent: agent.id.as_str().to_owned(),
        grants: grants(code),
        limits: limits(attempt, code),
        host: Arc::clone(host) as Arc<dyn HostCalls>,
        seed: seed(attempt, series),
        started_at: UNIX_EPOCH + Duration::from_millis(began_at),
        cancel: host.cancel.clone(),
    }
}

/// The run that an attempt belongs to; its driver says which that is.
fn series(attempt: &Attempt) -> Series {
    attempt.start.series.unwrap_or_else(|| Series {
        attempt: attempt.start.attempt,
        began_at: clock::now(),
    })
}

/// All randomness of a run: the same when it is repeated, and another for every other run.
fn seed(attempt: &Attempt, series: Series) -> [u8; 32] {
    let (execution, path) = (attempt.execution.to_string(), &attempt.start.path);
    Sha256::digest(json!(["seed", execution, path, series.attempt]).to_string()).into()
}

fn extension(language: Language) -> &'static str {
    match language {
        Language::Python => "py",
        Language::JavaScript => "js",
    }
}

fn grants(code: &CodeAgent) -> Grants {
    Grants {
        llm: code
            .grants
            .llm_models
            .clone()
            .map(|models| LlmGrant { models }),
        search: code
            .grants
            .search
            .clone()
            .map(|sources| SearchGrant { sources }),
        human: code.grants.human.clone().map(|human| HumanGrant {
            assignees: human.assignees,
        }),
        // What a step may read in its templates anyway.
        context: Some(ContextGrant),
        ..Grants::none()
    }
}

/// What the agent may use: what it asks for, the operator's ceilings, and what the budget has left.
fn limits(attempt: &Attempt, code: &CodeAgent) -> Limits {
    let limits = within(attempt.services.limits, &code.limits);
    Limits {
        fuel: attempt
            .start
            .fuel
            .as_ref()
            .map_or(u64::MAX, |fuel| fuel.units)
            .min(limits.fuel),
        ..limits
    }
}

/// What the workflow asks for, as far as the operator's ceilings allow.
fn within(ceiling: Limits, asked: &AskedLimits) -> Limits {
    let megabytes = |count: u64| count.saturating_mul(1 << 20);
    let kilobytes = |count: u64| count.saturating_mul(1 << 10);
    Limits {
        fuel: asked.fuel.unwrap_or(u64::MAX).min(ceiling.fuel),
        memory_bytes_max: asked
            .memory_mb
            .map_or(u64::MAX, megabytes)
            .min(ceiling.memory_bytes_max),
        time_max: asked
            .timeout
            .unwrap_or(ceiling.time_max)
            .min(ceiling.time_max),
        output_bytes_max: asked
            .output_kb
            .map_or(u64::MAX, kilobytes)
            .min(ceiling.output_bytes_max),
        host_calls_max: asked
            .host_calls
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(u32::MAX)
            .min(ceiling.host_calls_max),
        http_requests_max: asked
            .http_requests
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(u32::MAX)
            .min(ceiling.http_requests_max),
        http_bytes_max: asked
            .http_kb
            .map_or(u64::MAX, kilobytes)
            .min(ceiling.http_bytes_max),
        ..ceiling
    }
}

/// A component that used all that the budget had left, and less than its own limit, ended for the budget.
fn of_budget(attempt: &Attempt, code: &CodeAgent, failure: Failure) -> Failure {
    let own = within(attempt.services.limits, &code.limits).fuel;
    match &attempt.start.fuel {
        Some(left) if left.units < own && failure.code == Code::LimitFuel => left.used_up(),
        _ => failure,
    }
}

fn usage_of(report: &Report) -> StepUsage {
    StepUsage {
        fuel: report.usage.fuel,
        memory_bytes: report.usage.memory_bytes_peak,
        guest_ms: u64::try_from(report.usage.duration.as_millis()).unwrap_or(u64::MAX),
    }
}

fn log_output(attempt: &Attempt, agent: &Agent, report: &Report) {
    for (stream, captured) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
        if !captured.text.is_empty() {
            let text = captured.text.as_str();
            tracing::info!(execution.id = %attempt.execution, step.path = %attempt.start.path, agent = %agent.id, stream, text, "a component wrote");
        }
    }
}

fn value_of(report: Report) -> Result<Value, Failure> {
    match report.outcome {
        Outcome::Returned(json) => serde_json::from_str(&json).map_err(|error| {
            Failure::new(
                Code::OutputInvalid,
                format!("the result is no JSON: {error}"),
            )
        }),
        Outcome::Declined(failure) => {
            let declined = Failure::new(Code::GuestFailed, failure.message);
            Err(if failure.transient {
                declined.transient()
            } else {
                declined
            })
        }
        Outcome::Raised(exception) => Err(Failure::new(
            Code::GuestFailed,
            exception.traceback.trim_end(),
        )),
        Outcome::InvalidResult(reason) => Err(Failure::new(Code::OutputInvalid, reason)),
        Outcome::Exited(code) => Err(Failure::new(
            Code::GuestFailed,
            format!("the component ended itself with exit code {code}"),
        )),
        Outcome::Trapped(trap) => {
            let frames = trap
                .frames
                .iter()
                .take(20)
                .map(|frame| format!("\n  in {frame}"))
                .collect::<String>();
            Err(Failure::new(
                Code::GuestTrap,
                format!("{}{frames}", trap.message),
            ))
        }
        Outcome::LimitHit(limit) => Err(Failure::new(limit_code(limit), limit.to_string())),
        Outcome::Cancelled => Err(Failure::new(Code::Cancelled, "the call was cancelled")),
    }
}

fn limit_code(limit: troupe_sandbox::Limit) -> Code {
    use troupe_sandbox::Limit;
    match limit {
        Limit::Fuel => Code::LimitFuel,
        Limit::Memory => Code::LimitMemory,
        Limit::Time => Code::LimitTime,
        Limit::Output => Code::LimitOutput,
        Limit::HostCalls => Code::LimitHostCalls,
        Limit::HttpRequests => Code::LimitHttpRequests,
        Limit::HttpBytes => Code::LimitHttpBytes,
    }
}
