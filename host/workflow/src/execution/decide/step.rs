//! Steps of agents: their input is rendered, and what the budgets leave them is set.

use serde_json::Value;

use super::super::budget::{BudgetVerdict, GivenFuel};
use super::super::frame::Instance;
use super::super::{Command, Execution, Role, StartStep, StepState};
use super::failure_of;
use crate::definition::{Compiled, Fallback, NodeKind, RequiredFields, StepNode};
use crate::event::{EventKind, StepUsage};
use crate::ids::Name;
use crate::template::size;

/// What one decision has given out, which no event has taken yet.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Units of computation.
    fuel: u64,
    /// Bytes of rendered inputs.
    bytes: usize,
}

/// Rendered inputs of one decision: protects the host's memory from a thousand large ones at once.
const BYTES_MAX: usize = 32 * 1024 * 1024;

impl Given {
    /// Whether the rest is for the next decision.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX
    }
}

/// Who does a step now, and with what.
struct Doing<'a> {
    agent: &'a Name,
    action: &'a str,
    input: &'a Compiled,
    system_prompt: Option<&'a Compiled>,
    error: Option<&'a StepState>,
}

/// What the budget leaves a step of code.
enum Fuel {
    /// No budget bounds it.
    Unbounded,
    Given(GivenFuel),
    /// It waits for steps that may give some back.
    Later,
    Never(Command),
}

impl Execution {
    pub(super) fn decide_agent_step(
        &self,
        at: Instance,
        step: &StepNode,
        given: &mut Given,
    ) -> Option<Command> {
        let doing = Doing {
            agent: &step.agent,
            action: &step.action,
            input: &step.input,
            system_prompt: step.system_prompt.as_ref(),
            error: None,
        };
        self.start(at, doing, given)
    }

    pub(super) fn decide_fallback(
        &self,
        at: Instance,
        fallback: &Fallback,
        given: &mut Given,
    ) -> Option<Command> {
        let doing = Doing {
            agent: &fallback.agent,
            action: &fallback.action,
            input: &fallback.input,
            system_prompt: fallback.system_prompt.as_ref(),
            error: self.step(at),
        };
        self.start(at, doing, given)
    }

    fn start(&self, at: Instance, doing: Doing<'_>, given: &mut Given) -> Option<Command> {
        let fuel = match self.fuel(at, given) {
            Fuel::Unbounded => None,
            Fuel::Given(units) => Some(units),
            Fuel::Later => return None,
            Fuel::Never(command) => return Some(command),
        };
        let rendered = self.render(at, doing.input, doing.error).and_then(|input| {
            let prompt = doing
                .system_prompt
                .map(|prompt| self.render(at, prompt, doing.error))
                .transpose()?;
            Ok((input, prompt))
        });
        let (input, prompt) = match rendered {
            Ok(rendered) => rendered,
            Err(error) => return Some(self.failed(at, failure_of(&error, "input"))),
        };
        given.bytes += size(&input) + prompt.as_ref().map_or(0, size);
        if let Some(human) = self.human(at) {
            return Some(self.ask(at, human, (doing.agent, input)));
        }
        let state = self.step(at)?;
        let path = self.path(at);
        let definition = self.definition_of(at.frame);
        let (timeout, required) = match &self.node(at).kind {
            NodeKind::Step(step) => (step.timeout, step.required.clone()),
            NodeKind::Parallel { .. }
            | NodeKind::Branch { .. }
            | NodeKind::Loop(_)
            | NodeKind::Workflow(_)
            | NodeKind::Wait(_)
            | NodeKind::Set(_) => (None, RequiredFields::default()),
        };
        Some(Command::Start(Box::new(StartStep {
            idempotency_key: match state.role {
                Role::Primary => format!("{}/{path}", self.id),
                Role::Fallback => format!("{}/{path}/fallback", self.id),
            },
            path,
            attempt: state.attempts + 1,
            definition: std::sync::Arc::clone(definition),
            agent: doing.agent.clone(),
            action: doing.action.to_owned(),
            input,
            system_prompt: prompt.map(text_of),
            required,
            timeout: timeout.or_else(|| definition.agent(doing.agent.as_str())?.timeout),
            fuel,
            series: state.series,
            recorded: state.calls.clone(),
        })))
    }

    /// What the budgets leave a component; one without a limit of its own gets all that is left.
    fn fuel(&self, at: Instance, given: &mut Given) -> Fuel {
        let Some(asked) = self.fuel_asked(at) else {
            return Fuel::Unbounded;
        };
        let Some((left, home)) = self.fuel_left(at) else {
            return Fuel::Unbounded;
        };
        let left = left.saturating_sub(given.fuel);
        if left > 0 {
            let units = asked.unwrap_or(left).min(left);
            given.fuel = given.fuel.saturating_add(units);
            let opener = self.workflow(home).opener;
            return Fuel::Given(GivenFuel {
                units,
                cap_of: opener.map(|opener| self.path(opener)),
            });
        }
        if self.holds_fuel() || given.fuel > 0 {
            return Fuel::Later;
        }
        match self.fuel_verdict(at) {
            BudgetVerdict::Allowed => Fuel::Unbounded,
            BudgetVerdict::Refused(failure) => Fuel::Never(self.failed(at, failure)),
            BudgetVerdict::Paused(reason) => Fuel::Never(Command::Record(EventKind::StepPaused {
                path: self.path(at),
                attempt: self.next_attempt(at),
                reason,
                usage: Some(StepUsage::default()),
                raises: self.budget_raises(),
            })),
        }
    }
}

/// A prompt as text: a template that is one value gives that value.
fn text_of(value: Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
