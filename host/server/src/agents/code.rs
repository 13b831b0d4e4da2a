//! A step of code: source in an interpreter, or a component. Both run in the sandbox, under limits and grants.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_sandbox::{
    Call, Component, ComponentKind, Denied, HostCalls, Invocation, Limits, Outcome, Program,
    Report, Usage,
};
use troupe_workflow::{
    Agent, Code, CodeAgent, CodeSource, Failure, Language, Limits as AskedLimits, Series, StepUsage,
};

use super::Attempt;
use crate::clock;
use crate::components;
use crate::driver::{Ended, Output};
use crate::host_calls::{GuestHost, Stop};
use crate::limits::{AskedIn, Remedies, code_of, within};
use crate::tools::{self, NoReport};
use crate::traces;

pub(super) async fn run(
    attempt: &Attempt,
    agent: &Agent,
    code: &CodeAgent,
    usage: &mut StepUsage,
) -> Result<Ended, Failure> {
    let services = &attempt.services;
    let series = series(attempt);
    let workflow = attempt.definition().name();
    let granting = &services.granting;
    let granted = match granting.tool_agents(workflow, (agent, code)) {
        Some(names) => tools::granted(&services.components, attempt.definition(), &names)
            .await
            .map_err(|error| tools::unavailable(&error))?,
        None => Vec::new(),
    };
    let given = granting
        .given(attempt.definition(), (agent, code), &granted)
        .map_err(|message| Failure::new(Code::Denied, message))?;
    let run = (seed(attempt, series), began_at(series));
    let host = GuestHost::new(
        attempt,
        agent.id.as_str(),
        granted,
        (given.secrets, given.share),
        run,
    );
    let host = Arc::new(host);
    let call = Call {
        agent: agent.id.as_str().to_owned(),
        grants: given.grants,
        limits: Asked(&code.limits).limits(attempt),
        host: Arc::clone(&host) as Arc<dyn HostCalls>,
        seed: run.0,
        started_at: run.1,
        cancel: attempt.cancel.clone(),
    };
    let _pass = services.guests.enter(attempt.execution).await;
    let fuel_max = call.limits.fuel;
    let call = call_source(attempt, (agent, code), (call, series));
    let mut report = match attempt.report(fuel_max, call).await {
        Ok(report) => report,
        Err(NoReport::Interrupted(reason)) => return Ok(Ended::Interrupted(reason.message)),
        Err(NoReport::Failed(failure)) => {
            usage.fuel = host.fuel_used(&Usage::default());
            return Err(failure);
        }
    };
    *usage = usage_of(&report);
    usage.fuel = host.fuel_used(&report.usage);
    log_output(attempt, agent, &report);
    attempt.keep_trace(&mut report, usage.fuel);
    match host.take_stop() {
        Some(Stop::Asked(question)) => Ok(Ended::Asked(question)),
        Some(Stop::Diverged(failure)) => Err(failure),
        None => {
            let asked = Asked(&code.limits);
            let remedies = asked.remedies(attempt);
            let mut denials = std::mem::take(&mut report.denials);
            remedies.complete(&mut denials);
            host.record_denials(&denials).await;
            let value = value_of(report, &remedies)
                .map_err(|failure| asked.of_budget(attempt, failure))
                .map_err(|failure| with_denials(failure, &denials))?;
            host.check_ended()?;
            Ok(Ended::Output(Output { value, text: None }))
        }
    }
}

/// A failure of the guest, with what it was denied before.
fn with_denials(mut failure: Failure, denials: &[Denied]) -> Failure {
    const SHOWN_MAX: usize = 5;
    if matches!(failure.code, Code::GuestFailed | Code::GuestTrap) {
        for denied in denials.iter().take(SHOWN_MAX) {
            failure.message.push('\n');
            failure.message.push_str(&denied.message);
        }
    }
    failure
}

/// Has source code interpreted, or a component called.
async fn call_source(
    attempt: &Attempt,
    (agent, code): (&Agent, &CodeAgent),
    (call, series): (Call, Series),
) -> Result<Report, NoReport> {
    let (start, components) = (&attempt.start, &attempt.services.components);
    let unavailable = |error: anyhow::Error| tools::unavailable(&error);
    let which = components::named(&code.source).map_err(unavailable)?;
    let component = components.loaded(which).await.map_err(unavailable)?;
    match &code.source {
        CodeSource::Inline { language, code } => {
            let program = Program {
                source: code.clone(),
                filename: format!("{}.{}", agent.id, extension(*language)),
                input: start.input.to_string(),
                action: start.action.clone(),
                stdin: Default::default(),
            };
            components
                .sandbox()
                .execute(&component, program, call)
                .await
                .map_err(|error| tools::sandbox_failed(&error))
        }
        CodeSource::Component { .. } => call_component(attempt, &component, (call, series)).await,
    }
}

/// Calls a component as what it is: an agent, a program, or a tool, of which the action names the function.
async fn call_component(
    attempt: &Attempt,
    component: &Component,
    (call, series): (Call, Series),
) -> Result<Report, NoReport> {
    let (start, sandbox) = (&attempt.start, attempt.services.components.sandbox());
    let invocation = || invocation(attempt, series.attempt, start.input.to_string());
    match component.kind() {
        ComponentKind::Agent => sandbox
            .call_agent(component, invocation(), call)
            .await
            .map_err(|error| tools::sandbox_failed(&error)),
        ComponentKind::Command => sandbox
            .run_command(component, invocation(), call)
            .await
            .map_err(|error| tools::sandbox_failed(&error)),
        ComponentKind::Tool => {
            let function = match component.functions() {
                [function] => function,
                _ => component.function(&start.action).map_err(|error| {
                    let message = format!("the action names no function: {error}");
                    Failure::new(Code::InputInvalid, message)
                })?,
            };
            let arguments = tools::arguments_of(function, start.input.clone());
            tools::call(sandbox, (component, function), &arguments, call).await
        }
        ComponentKind::Interpreter => {
            let message = "an interpreter is no agent";
            Err(Failure::new(Code::ComponentUnavailable, message).into())
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

/// What a component's wall clock says when it begins.
pub(super) fn began_at(series: Series) -> SystemTime {
    let millis = u64::try_from(series.began_at.as_millis()).unwrap_or(0);
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// The run that an attempt belongs to; its driver says which that is.
pub(super) fn series(attempt: &Attempt) -> Series {
    attempt.start.series.unwrap_or_else(|| Series {
        attempt: attempt.start.attempt,
        began_at: clock::now(),
    })
}

/// All randomness of a run: the same when it is repeated, and another for every other run.
pub(super) fn seed(attempt: &Attempt, series: Series) -> [u8; 32] {
    let (execution, path) = (attempt.execution.to_string(), &attempt.start.path);
    Sha256::digest(json!(["seed", execution, path, series.attempt]).to_string()).into()
}

fn extension(language: Language) -> &'static str {
    match language {
        Language::Python => "py",
        Language::JavaScript => "js",
    }
}

/// What a document asks that a component may use.
pub(super) struct Asked<'a>(pub(super) &'a AskedLimits);

impl Asked<'_> {
    /// What it may use: what it asks for, the operator's ceilings, and what the budget has left.
    pub(super) fn limits(&self, attempt: &Attempt) -> Limits {
        let limits = within(attempt.services.limits, self.0);
        Limits {
            fuel: attempt
                .start
                .fuel
                .as_ref()
                .map_or(u64::MAX, |fuel| fuel.units)
                .min(limits.fuel),
            traced_calls_max: traces::calls_max(attempt.services.traces.as_ref()),
            ..limits
        }
    }

    /// What helps where it meets a limit.
    pub(super) fn remedies(&self, attempt: &Attempt) -> Remedies<'_> {
        Remedies {
            ceiling: attempt.services.limits,
            asked: self.0,
            asked_in: AskedIn::Document,
        }
    }

    /// A component that used all that the budget had left, and less than its own limit, ended for the budget.
    pub(super) fn of_budget(&self, attempt: &Attempt, failure: Failure) -> Failure {
        let own = within(attempt.services.limits, self.0).fuel;
        match &attempt.start.fuel {
            Some(left) if left.units < own && failure.code == Code::LimitFuel => left.used_up(),
            _ => failure,
        }
    }
}

pub(super) fn usage_of(report: &Report) -> StepUsage {
    StepUsage {
        fuel: report.usage.fuel,
        memory_bytes: report.usage.memory_bytes_peak,
        guest_ms: u64::try_from(report.usage.duration.as_millis()).unwrap_or(u64::MAX),
        output_bytes: report.usage.output_bytes,
        printed_bytes: printed_bytes(&report.usage),
        log_bytes: report.usage.log_bytes,
        log_lines_dropped: report.usage.log_lines_dropped,
        host_calls: u64::from(report.usage.host_calls),
        host_bytes: report.usage.host_bytes,
        disk_bytes: report.usage.file_bytes_written,
        open_files: u64::from(report.usage.open_files_peak),
        instances: u64::from(report.usage.instances),
    }
}

/// Bytes of standard output and error, whether kept or not.
pub(crate) fn printed_bytes(usage: &Usage) -> u64 {
    usage.stdout_bytes.saturating_add(usage.stderr_bytes)
}

pub(super) fn log_output(attempt: &Attempt, agent: &Agent, report: &Report) {
    for (stream, captured) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
        if !captured.text.is_empty() {
            let text = captured.text.as_str();
            tracing::info!(execution.id = %attempt.execution, step.path = %attempt.start.path, agent = %agent.id, stream, text, "a component wrote");
        }
    }
}

/// What a component returned, or how it failed and what helps.
pub(crate) fn value_of(report: Report, remedies: &Remedies<'_>) -> Result<Value, Failure> {
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
            format!(
                "the component ended itself with exit code {code}{}",
                last_lines(&report.stderr.text)
            ),
        )),
        Outcome::Trapped(trap) => {
            let frames = trap
                .frames
                .iter()
                .take(20)
                .map(|frame| format!("\n  in {frame}"))
                .collect::<String>();
            let printed = last_lines(&report.stderr.text);
            Err(Failure::new(
                Code::GuestTrap,
                format!("{}{printed}{frames}", trap.message),
            ))
        }
        Outcome::LimitHit(limit) => Err(Failure::new(code_of(limit), remedies.ended(limit))),
        Outcome::Cancelled => Err(Failure::new(Code::Cancelled, "the call was cancelled")),
    }
}

/// The end of what was printed to standard error, where anything was.
fn last_lines(text: &str) -> String {
    const BYTES_MAX: usize = 2_000;
    let text = text.trim_end();
    if text.is_empty() {
        return String::new();
    }
    let start = text.ceil_char_boundary(text.len().saturating_sub(BYTES_MAX));
    let cut = if start > 0 { "…" } else { "" };
    format!("; it printed:\n{cut}{}", &text[start..])
}
