//! A step of a tool: one call of a component's function.

use std::sync::Arc;

use troupe_sandbox::{Call, DenyAll, Grants};
use troupe_workflow::{Agent, Code, Failure, StepUsage, ToolAgent};

use super::Attempt;
use super::code::{self, Asked};
use crate::driver::{Ended, Output};
use crate::tools::{self, AnyName, NoReport};

pub(super) async fn run(
    attempt: &Attempt,
    agent: &Agent,
    tool: &ToolAgent,
    usage: &mut StepUsage,
) -> Result<Ended, Failure> {
    let services = &attempt.services;
    let loaded = tools::load(&services.components, tool)
        .await
        .map_err(|error| tools::unavailable(&error))?;
    let found = tools::find(&loaded, &attempt.start.action, AnyName::Taken)
        .map_err(|message| Failure::new(Code::InputInvalid, message))?;
    let arguments = tools::arguments_of(found.function, attempt.start.input.clone());
    let series = code::series(attempt);
    let asked = Asked(&found.tool.asked);
    let call = Call {
        agent: agent.id.as_str().to_owned(),
        grants: Grants::none(),
        limits: asked.limits(attempt),
        host: Arc::new(DenyAll),
        seed: code::seed(attempt, series),
        started_at: code::began_at(series),
        cancel: attempt.cancel.clone(),
    };
    let _pass = services.guests.enter(attempt.execution).await;
    let target = (&found.tool.component, found.function);
    let fuel_max = call.limits.fuel;
    let call = tools::call(services.components.sandbox(), target, &arguments, call);
    let mut report = match attempt.report(fuel_max, call).await {
        Ok(report) => report,
        Err(NoReport::Interrupted(reason)) => return Ok(Ended::Interrupted(reason.message)),
        Err(NoReport::Failed(failure)) => return Err(failure),
    };
    *usage = code::usage_of(&report);
    code::log_output(attempt, agent, &report);
    attempt.keep_trace(&mut report, usage.fuel);
    let value = code::value_of(report, &asked.remedies(attempt))
        .map_err(|failure| asked.of_budget(attempt, failure))?;
    Ok(Ended::Output(Output { value, text: None }))
}
