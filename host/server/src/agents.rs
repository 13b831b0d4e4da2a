//! One attempt of one step, by the kind of its agent.

pub(crate) mod code;
mod llm;
mod search;
mod tool;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::mpsc;
use troupe_sandbox::{CancelFlag, Report};
use troupe_workflow::{
    Agent, AgentKind, Code, Definition, ExecutionId, Failure, StartStep, StepUsage, check_depth,
    check_schema,
};

use crate::driver::{self, AttemptEnd, Ended, Output, Performer, StepMessage};
use crate::services::Services;
use crate::tools::NoReport;
use crate::traces::AttemptTrace;
use crate::{components, tools};

/// How long an attempt may take where neither the step nor its agent says.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How long a component's call that was told to end for its step's time may take to say what it used: many ticks.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Does attempts with the models, sources and components of this process.
pub(crate) struct Agents {
    pub(crate) services: Arc<Services>,
}

impl Performer for Agents {
    fn perform(&self, attempt: driver::Attempt) -> BoxFuture<'static, AttemptEnd> {
        let driver::Attempt {
            execution,
            driver,
            start,
        } = attempt;
        let attempt = run(Attempt {
            services: Arc::clone(&self.services),
            execution,
            driver,
            start,
            cancel: CancelFlag::new(),
            fuel_unknown: AtomicU64::new(0),
        });
        match self.services.fail_point.clone() {
            None => Box::pin(attempt),
            // Tests have the process end when only the start is on record, or when all is done and its end is not.
            Some(fail_point) => Box::pin(async move {
                let pass = fail_point.enter("attempt");
                let end = attempt.await;
                let _ = fail_point.leave(pass);
                end
            }),
        }
    }
}

/// What an attempt needs.
pub(crate) struct Attempt {
    pub(crate) services: Arc<Services>,
    pub(crate) execution: ExecutionId,
    pub(crate) driver: mpsc::Sender<StepMessage>,
    pub(crate) start: StartStep,
    /// Ends the component's call, where it is one's.
    pub(crate) cancel: CancelFlag,
    /// The most that a component's call may have used of which there is no report; 0: there is none.
    fuel_unknown: AtomicU64,
}

impl Attempt {
    /// The workflow that the step belongs to.
    pub(crate) fn definition(&self) -> &Definition {
        &self.start.definition
    }

    /// The report of a component's call that may use so much fuel.
    async fn report(
        &self,
        fuel_max: u64,
        call: impl Future<Output = Result<Report, NoReport>>,
    ) -> Result<Report, NoReport> {
        self.fuel_unknown.store(fuel_max, Ordering::Relaxed);
        let report = call.await;
        if !matches!(report, Err(NoReport::Interrupted(_))) {
            self.fuel_unknown.store(0, Ordering::Relaxed);
        }
        report
    }

    /// Keeps what a component asked of the host, and what it used with its tools, where somebody wants to see it.
    fn keep_trace(&self, report: &mut Report, fuel: u64) {
        if let Some(traces) = &self.services.traces {
            traces.keep(AttemptTrace {
                path: self.start.path.clone(),
                attempt: self.start.attempt,
                agent: self.start.agent.to_string(),
                trace: std::mem::take(&mut report.trace),
                fuel,
            });
        }
    }
}

/// Runs an attempt to its end.
async fn run(attempt: Attempt) -> AttemptEnd {
    let mut usage = StepUsage::default();
    let result = match wait_for_components(&attempt).await {
        Ok(()) => run_in_time(&attempt, &mut usage).await,
        Err(failure) => Err(failure),
    };
    let result = result.and_then(|ended| {
        if let Ended::Output(output) = &ended {
            check_depth(&output.value)
                .map_err(|message| Failure::new(Code::OutputInvalid, message))?;
        }
        Ok(ended)
    });
    AttemptEnd {
        path: attempt.start.path,
        attempt: attempt.start.attempt,
        result,
        usage,
    }
}

/// Runs an agent for as long as its step has time. A component that has not ended by then is told to: what it used until
/// then counts, and is in `usage`; where it does not say, all that it could use.
async fn run_in_time(attempt: &Attempt, usage: &mut StepUsage) -> Result<Ended, Failure> {
    let timeout = attempt.start.timeout.unwrap_or(TIMEOUT);
    {
        let mut running = pin!(run_agent(attempt, usage));
        if let Ok(ended) = tokio::time::timeout(timeout, &mut running).await {
            return ended;
        }
        attempt.cancel.cancel();
        if attempt.fuel_unknown.load(Ordering::Relaxed) > 0 {
            // Whatever it says of itself now comes too late.
            let _ = tokio::time::timeout(LAST_WORD, running).await;
        }
    }
    usage.fuel = usage.fuel.max(attempt.fuel_unknown.load(Ordering::Relaxed));
    let millis = timeout.as_millis();
    let message = format!("the step took longer than its {millis} ms; raise its `timeout_ms`");
    Err(Failure::new(Code::TimedOut, message))
}

/// Waits until the components of the step are loaded. That one is being compiled is no reason for a step to have taken too
/// long; the compiler has a time of its own.
async fn wait_for_components(attempt: &Attempt) -> Result<(), Failure> {
    let (definition, components) = (attempt.definition(), &attempt.services.components);
    let loaded = match definition
        .agent(attempt.start.agent.as_str())
        .map(|agent| &agent.kind)
    {
        Some(AgentKind::Code(code)) => match components::named(&code.source) {
            Ok(which) => components.loaded(which).await.map(drop),
            Err(error) => Err(error),
        },
        Some(AgentKind::Tool(agent)) => tools::load(components, agent).await.map(drop),
        _ => Ok(()),
    };
    loaded.map_err(|error| tools::unavailable(&error))
}

async fn run_agent(attempt: &Attempt, usage: &mut StepUsage) -> Result<Ended, Failure> {
    let id = attempt.start.agent.as_str();
    let Some(agent) = attempt.definition().agent(id) else {
        return Err(Failure::new(
            Code::Internal,
            format!("there is no agent `{id}`"),
        ));
    };
    match &agent.kind {
        // An LLM's answer is checked where it can still be repaired.
        AgentKind::Llm(llm) => llm::run(attempt, agent, llm).await.map(Ended::Output),
        AgentKind::Search(search) => checked(agent, search::run(attempt, search).await?),
        AgentKind::Code(code) => checked_end(agent, code::run(attempt, agent, code, usage).await?),
        AgentKind::Tool(tool) => checked_end(agent, tool::run(attempt, agent, tool, usage).await?),
        AgentKind::Human(_) => Err(Failure::new(
            Code::Internal,
            format!(
                "`{}` agents are not available in this version of Troupe",
                agent.kind.as_str()
            ),
        )),
    }
}

fn checked_end(agent: &Agent, ended: Ended) -> Result<Ended, Failure> {
    match ended {
        Ended::Output(output) => checked(agent, output.value),
        Ended::Asked(_) | Ended::Interrupted(_) => Ok(ended),
    }
}

fn checked(agent: &Agent, value: Value) -> Result<Ended, Failure> {
    if let Some(schema) = &agent.output_schema {
        check_schema(&value, schema)
            .map_err(|problem| Failure::new(Code::OutputInvalid, problem.to_string()))?;
    }
    Ok(Ended::Output(Output { value, text: None }))
}
