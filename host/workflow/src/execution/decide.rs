//! What is to be done next, from the state alone.

mod block;
mod people;
mod step;

use serde_json::Value;

use super::frame::{FrameId, Instance};
use super::scope::StepScope;
use super::{Command, Execution, Role, StartStep, StepState};
use crate::definition::{Compiled, CompiledCondition, IdOrigin, Node, NodeIndex, NodeKind, Then};
use crate::duration::Timestamp;
use crate::event::{EventKind, StepUsage};
use crate::expression::{EvaluationError, evaluate_condition};
use crate::failure::Failure;
use crate::ids::Name;

impl Node {
    /// The agent that does the step in a role; none: it is no agent's.
    pub(crate) fn agent_in(&self, role: Role) -> Option<&Name> {
        match (role, &self.then, &self.kind) {
            (Role::Fallback, Then::Fallback(fallback), _) => Some(&fallback.agent),
            (_, _, NodeKind::Step(step)) => Some(&step.agent),
            _ => None,
        }
    }
}

impl StartStep {
    /// The intent, to be recorded before the effect.
    pub fn event(&self) -> EventKind {
        EventKind::StepStarted {
            path: self.path.clone(),
            attempt: self.attempt,
            agent: self.agent.as_str().to_owned(),
            input: self.input.clone(),
            fuel: self.fuel.as_ref().map(|fuel| fuel.units),
        }
    }
}

impl Execution {
    /// What is to be done now. It may be asked any number of times; only events change the answer.
    ///
    /// After a command that is a failure was recorded, the others may no longer be right: ask again. Where much is to
    /// be done it is a part of it: ask again until there is nothing.
    pub fn decide(&self, now: Timestamp) -> Vec<Command> {
        if self.end.is_some() || self.version == 0 {
            return Vec::new();
        }
        if self.is_cancelling {
            return self.stop_all(EventKind::ExecutionCancelled);
        }
        if self.paused().is_some() {
            return Vec::new();
        }
        if let Some((failure, step)) = self.failing.get(&FrameId::ROOT) {
            return self.stop_all(EventKind::ExecutionFailed {
                failure: failure.clone(),
                step: step.clone(),
            });
        }
        if self.is_overdue(now) {
            return vec![Command::Record(EventKind::TimeLimitReached)];
        }
        let mut commands = self.decide_failing();
        let due = |set: &std::collections::BTreeSet<(Timestamp, Instance)>| {
            let due = set.iter().take_while(|(time, _)| *time <= now);
            due.map(|(_, at)| *at).collect::<Vec<_>>()
        };
        let (retries, timers) = (due(&self.retries), due(&self.timers));
        let mut given = step::Given::default();
        for at in self.ready.iter().copied().chain(retries) {
            commands.extend(self.decide_step(at, now, &mut given));
            if given.is_full() {
                break;
            }
        }
        commands.extend(timers.into_iter().map(|at| self.timer_ends(at)));
        for at in due(&self.deadlines) {
            if !self.ready.contains(&at) {
                commands.push(self.deadline_passes(at, now));
            }
        }
        if commands.is_empty() && self.has_reached_end {
            return vec![self.decide_end()];
        }
        commands.extend(self.next_wake(now).map(Command::WakeAt));
        commands
    }

    /// When something falls due by itself.
    fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let sets = [&self.retries, &self.timers, &self.deadlines];
        let next = sets.into_iter().filter_map(|set| {
            // What is due already is decided about now.
            let after = (
                now.plus(std::time::Duration::from_millis(1)),
                Instance::FIRST,
            );
            set.range(after..).next().map(|(time, _)| *time)
        });
        let deadline = (!self.is_at_rest()).then(|| self.deadline());
        next.chain(deadline).min()
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.timed_from.plus(self.config().timeout).plus(self.idle)
    }

    /// Whether the time of the whole execution is up. Waiting for people, timers and pauses does not count.
    fn is_overdue(&self, now: Timestamp) -> bool {
        !self.is_at_rest() && !self.has_reached_end && now >= self.deadline()
    }

    /// Ends what runs, then the execution.
    fn stop_all(&self, end: EventKind) -> Vec<Command> {
        if self.running.is_empty() {
            return vec![Command::Record(end)];
        }
        self.running.iter().map(|at| self.cancel(*at)).collect()
    }

    fn cancel(&self, at: Instance) -> Command {
        Command::Cancel {
            path: self.path(at),
        }
    }

    /// Ends what runs in workflows that failed, then fails the steps that they are.
    fn decide_failing(&self) -> Vec<Command> {
        let mut commands = Vec::new();
        for (home, (failure, step)) in &self.failing {
            let mut runs = false;
            for at in self
                .running
                .iter()
                .filter(|at| self.is_inside(at.frame, *home))
            {
                runs = true;
                commands.push(self.cancel(*at));
            }
            if let (false, Some(opener)) = (runs, self.workflow(*home).opener) {
                let message = match step {
                    Some(step) => format!("`{step}`: {}", failure.message),
                    None => failure.message.clone(),
                };
                let failure = Failure {
                    message: Failure::new(failure.code, message).message,
                    ..failure.clone()
                };
                let attempt = self.step(opener).map_or(1, |state| state.attempts + 1);
                commands.push(Command::Record(EventKind::StepFailed {
                    path: self.path(opener),
                    attempt,
                    failure,
                    usage: StepUsage::default(),
                }));
            }
        }
        commands
    }

    fn decide_step(
        &self,
        at: Instance,
        now: Timestamp,
        given: &mut step::Given,
    ) -> Option<Command> {
        let state = self.step(at)?;
        let node = self.node(at);
        if state.approval.is_some() && self.approvals.contains(&at) {
            return self.decided(at, state);
        }
        if let (true, Some(guard)) = (is_new(state), &node.guard) {
            match self.holds(at, guard) {
                Ok(true) => {}
                Ok(false) => {
                    return Some(Command::Record(EventKind::StepSkipped {
                        path: self.path(at),
                    }));
                }
                Err(error) => return Some(self.failed(at, failure_of(&error, "condition"))),
            }
        }
        if let Some(path) = self.kept_path(at) {
            return Some(Command::Record(EventKind::StepKept { path }));
        }
        if let (Role::Fallback, Then::Fallback(fallback)) = (state.role, &node.then) {
            return self.decide_fallback(at, fallback, given);
        }
        match &node.kind {
            NodeKind::Step(step) => self.decide_agent_step(at, step, given),
            NodeKind::Set(value) => Some(self.decide_set(at, value)),
            NodeKind::Wait(wait) => Some(self.decide_wait(at, wait, now)),
            NodeKind::Workflow(workflow) => Some(self.decide_workflow(at, workflow)),
            NodeKind::Loop(node) => Some(self.decide_loop(at, node)),
            NodeKind::Branch { condition, .. } => Some(self.decide_branch(at, condition)),
            NodeKind::Parallel { .. } => Some(Command::Record(EventKind::ParallelStarted {
                path: self.path(at),
            })),
        }
    }

    fn decide_set(&self, at: Instance, value: &Compiled) -> Command {
        match self.render(at, value, None) {
            Ok(output) => self.completed(at, output),
            Err(error) => self.failed(at, failure_of(&error, "set")),
        }
    }

    /// A step that needs nothing from outside has a value.
    fn completed(&self, at: Instance, output: Value) -> Command {
        Command::Record(EventKind::StepCompleted {
            path: self.path(at),
            attempt: self.next_attempt(at),
            output,
            text: None,
            usage: StepUsage::default(),
        })
    }

    fn failed(&self, at: Instance, failure: Failure) -> Command {
        Command::Record(EventKind::StepFailed {
            path: self.path(at),
            attempt: self.next_attempt(at),
            failure,
            usage: StepUsage::default(),
        })
    }

    fn next_attempt(&self, at: Instance) -> u32 {
        self.step(at).map_or(0, |state| state.attempts) + 1
    }

    fn decide_end(&self) -> Command {
        Command::Record(match self.outputs_of(FrameId::ROOT) {
            Ok(outputs) => EventKind::ExecutionCompleted { outputs },
            Err(error) => EventKind::ExecutionFailed {
                failure: failure_of(&error, "outputs"),
                step: None,
            },
        })
    }

    /// What a workflow whose steps have ended returns.
    fn outputs_of(&self, home: FrameId) -> Result<Value, EvaluationError> {
        let at = Instance {
            frame: home,
            node: NodeIndex(0),
        };
        let Some(outputs) = self.definition_of(home).outputs() else {
            return Ok(self.default_outputs(home));
        };
        outputs
            .iter()
            .map(|(name, template)| Ok((name.clone(), self.render(at, template, None)?)))
            .collect::<Result<_, EvaluationError>>()
            .map(Value::Object)
    }

    /// One entry for each step outside loops that has a value, under its id, or its agent's; where several share
    /// it, the last in document order.
    fn default_outputs(&self, home: FrameId) -> Value {
        let mut outputs = serde_json::Map::new();
        let definition = self.definition_of(home);
        for (node, step) in &self.frame(home).steps {
            let at = Instance {
                frame: home,
                node: *node,
            };
            let node = definition.node(*node);
            let has_value = match node.kind {
                NodeKind::Loop(_) => step.status == super::StepStatus::Completed,
                NodeKind::Wait(_) | NodeKind::Parallel { .. } | NodeKind::Branch { .. } => false,
                NodeKind::Step(_) | NodeKind::Workflow(_) | NodeKind::Set(_) => {
                    step.output.is_some()
                }
            };
            if !has_value {
                continue;
            }
            let name = match (node.id_origin, &node.kind) {
                (IdOrigin::Numbered, NodeKind::Step(step)) => step.agent.as_str(),
                _ => node.id.as_str(),
            };
            outputs.insert(name.to_owned(), self.value(at).into_owned());
        }
        Value::Object(outputs)
    }

    fn render(
        &self,
        at: Instance,
        compiled: &Compiled,
        error: Option<&StepState>,
    ) -> Result<Value, EvaluationError> {
        let scope = StepScope::new(self, at.frame, &compiled.names, error);
        compiled.template.render(&scope)
    }

    fn holds(&self, at: Instance, condition: &CompiledCondition) -> Result<bool, EvaluationError> {
        let scope = StepScope::new(self, at.frame, &condition.names, None);
        evaluate_condition(&condition.expression, &scope)
    }
}

/// Whether nothing has happened to a step since it was entered: then its guard is asked.
fn is_new(state: &StepState) -> bool {
    state.attempts == state.attempts_before
        && state.role == Role::Primary
        && state.started_at.is_none()
}

fn failure_of(error: &EvaluationError, place: &str) -> Failure {
    Failure::new(error.code(), format!("`{place}`: {}", error.message()))
}
