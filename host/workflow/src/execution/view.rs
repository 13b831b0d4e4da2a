//! An execution as people and programs see it.

use serde_json::{Value, json};

use super::{End, Execution, ExecutionStatus, StepState, StepStatus};
use crate::definition::{NodeIndex, NodeKind};
use crate::duration::Timestamp;
use crate::event::Usage;
use crate::failure::Failure;
use crate::ids::StepPath;
use crate::money::MicroUsd;

/// How many of the steps known so far have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub completed: usize,
    pub total: usize,
}

/// One line of an execution's list of steps.
#[derive(Debug, Clone)]
pub struct StepView<'a> {
    pub path: StepPath,
    /// The step's id, `step_N` where the author gave none.
    pub id: &'a str,
    /// None for a `set` step.
    pub agent: Option<&'a str>,
    /// None: it was not reached.
    pub state: Option<&'a StepState>,
}

impl StepView<'_> {
    pub fn status(&self) -> StepStatus {
        self.state.map_or(StepStatus::Pending, |state| state.status)
    }
}

impl Execution {
    pub fn status(&self) -> ExecutionStatus {
        match &self.end {
            Some(End::Completed(_)) => ExecutionStatus::Completed,
            Some(End::Failed(..)) => ExecutionStatus::Failed,
            None if self.is_paused() => ExecutionStatus::Paused,
            None => ExecutionStatus::Running,
        }
    }

    fn is_paused(&self) -> bool {
        !self.in_doubt.is_empty()
            && self.running.is_empty()
            && self.ready.is_empty()
            && self.timers.is_empty()
            && self.failing.is_none()
    }

    /// The outputs of a completed execution.
    pub fn outputs(&self) -> Option<&Value> {
        match &self.end {
            Some(End::Completed(outputs)) => Some(outputs),
            Some(End::Failed(..)) | None => None,
        }
    }

    /// Why it failed, and at which step.
    pub fn failure(&self) -> Option<(&Failure, Option<&StepPath>)> {
        match &self.end {
            Some(End::Failed(failure, step)) => Some((failure, step.as_ref())),
            Some(End::Completed(_)) | None => None,
        }
    }

    pub fn progress(&self) -> Progress {
        Progress {
            completed: self
                .steps
                .values()
                .filter(|step| step.status.has_ended())
                .count(),
            total: self.definition.steps_total(),
        }
    }

    /// What it has cost so far; a call whose end is unknown counts at its worst case.
    pub fn cost(&self) -> MicroUsd {
        self.settled + self.reserved
    }

    pub fn tokens(&self) -> Usage {
        self.tokens
    }

    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When the last event was recorded.
    pub fn last_event_at(&self) -> Timestamp {
        self.last_event_at
    }

    /// The step that runs; of several, the one that started first.
    pub fn current_step(&self) -> Option<&str> {
        self.running
            .iter()
            .min_by_key(|index| (self.steps[*index].started_at, **index))
            .map(|index| self.definition.shown_name(*index))
    }

    /// All steps in the document's order, those that were not reached too.
    pub fn steps(&self) -> Vec<StepView<'_>> {
        self.definition
            .nodes()
            .filter_map(|(index, node)| {
                let agent = match &node.kind {
                    NodeKind::Step(step) => {
                        Some(self.fallback_agent(index).unwrap_or(step.agent.as_str()))
                    }
                    NodeKind::Set(_) => None,
                    NodeKind::Parallel { .. } => return None,
                };
                Some(StepView {
                    path: self.path(index),
                    id: node.id.as_str(),
                    agent,
                    state: self.steps.get(&index),
                })
            })
            .collect()
    }

    fn fallback_agent(&self, index: NodeIndex) -> Option<&str> {
        let state = self.steps.get(&index)?;
        match &self.definition.node(index).kind {
            NodeKind::Step(step) => match (&step.then, state.role) {
                (crate::definition::Then::Fallback(fallback), super::Role::Fallback) => {
                    Some(fallback.agent.as_str())
                }
                _ => None,
            },
            NodeKind::Parallel { .. } | NodeKind::Set(_) => None,
        }
    }

    /// The names under which a component may ask for an earlier output, in the document's order.
    pub fn output_names(&self) -> Vec<String> {
        self.steps
            .iter()
            .filter(|(_, step)| step.status.has_ended())
            .map(|(index, _)| self.definition.shown_name(*index).to_owned())
            .collect()
    }

    /// The output of an earlier step, by its id or its agent's. None: no such step has ended. A step without
    /// an output is null.
    pub fn output_of(&self, name: &str) -> Option<Value> {
        self.steps
            .iter()
            .rev()
            .filter(|(_, step)| step.status.has_ended())
            .find(|(index, _)| {
                let node = self.definition.node(**index);
                let is_agent =
                    matches!(&node.kind, NodeKind::Step(step) if step.agent.as_str() == name);
                node.id.as_str() == name || is_agent
            })
            .map(|(_, step)| step.output.clone().unwrap_or(Value::Null))
    }

    /// The execution as programs read it; times are RFC 3339 in UTC.
    pub fn to_json(&self) -> Value {
        let progress = self.progress();
        let (error, ended) = match self.failure() {
            Some((failure, step)) => (
                json!({ "code": failure.code.as_str(), "message": failure.message, "step": step }),
                true,
            ),
            None => (Value::Null, self.end.is_some()),
        };
        let completed_at = ended.then(|| self.last_event_at.to_string());
        json!({
            "id": self.id.to_string(),
            "workflow_name": self.definition.name(),
            "workflow_digest": self.definition.digest().as_str(),
            "status": self.status().as_str(),
            "current_step": self.current_step(),
            "progress": { "completed": progress.completed, "total": progress.total },
            "inputs": self.inputs,
            "outputs": self.outputs(),
            "steps": self.steps().iter().map(step_json).collect::<Vec<_>>(),
            "cost": { "usd": dollars(self.cost()) },
            "usage": self.tokens,
            "error": error,
            "created_at": self.created_at.to_string(),
            "completed_at": completed_at,
            "duration_ms": millis(self.created_at, self.last_event_at),
        })
    }
}

fn step_json(step: &StepView<'_>) -> Value {
    let mut view = json!({
        "id": step.id,
        "path": step.path,
        "agent": step.agent,
        "status": step.status().as_str(),
        "output": null,
        "error": null,
        "attempts": 0,
    });
    if let Some(state) = step.state {
        view["output"] = state.output.clone().unwrap_or(Value::Null);
        if let Some(failure) = &state.failure {
            view["error"] = json!({ "code": failure.code.as_str(), "message": failure.message });
        }
        view["attempts"] = json!(state.attempts);
        view["cost"] = json!({ "usd": dollars(state.cost) });
        view["usage"] = json!({
            "input_tokens": state.tokens.input_tokens,
            "cached_input_tokens": state.tokens.cached_input_tokens,
            "output_tokens": state.tokens.output_tokens,
            "fuel": state.usage.fuel,
            "memory_bytes": state.usage.memory_bytes,
            "guest_ms": state.usage.guest_ms,
        });
        view["started_at"] = json!(state.started_at.map(|at| at.to_string()));
        view["duration_ms"] = json!(
            state
                .started_at
                .zip(state.ended_at)
                .map(|(start, end)| millis(start, end))
        );
    }
    view
}

fn millis(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.since(start).as_millis()).unwrap_or(u64::MAX)
}

/// An amount for JSON readers, who expect dollars.
#[expect(
    clippy::cast_precision_loss,
    reason = "shown, never added: micro-dollars below 2^53 are exact"
)]
fn dollars(amount: MicroUsd) -> f64 {
    amount.as_micro_usd() as f64 / 1e6
}
