//! What is to be done next, from the state alone.

use serde_json::Value;

use super::scope::StepScope;
use super::{Command, Execution, Role, StartStep, StepState};
use crate::definition::{Compiled, IdOrigin, NodeIndex, NodeKind, RequiredFields, StepNode, Then};
use crate::duration::Timestamp;
use crate::event::{EventKind, StepUsage};
use crate::expression::{EvaluationError, evaluate_condition};
use crate::failure::{Code, Failure};
use crate::ids::Name;

impl StepNode {
    /// The agent that does the step in a role.
    pub(crate) fn agent_of(&self, role: Role) -> &Name {
        match (role, &self.then) {
            (Role::Fallback, Then::Fallback(fallback)) => &fallback.agent,
            _ => &self.agent,
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
        }
    }
}

impl Execution {
    /// What is to be done now. It may be asked any number of times; only events change the answer.
    pub fn decide(&self, now: Timestamp) -> Vec<Command> {
        if self.end.is_some() || self.version() == 0 {
            return Vec::new();
        }
        if self.failing.is_some() || self.is_overdue(now) {
            return self.decide_failure();
        }
        let due = self
            .timers
            .iter()
            .take_while(|(time, _)| *time <= now)
            .map(|(_, index)| *index);
        let mut commands: Vec<Command> = self
            .ready
            .iter()
            .copied()
            .chain(due)
            .map(|index| self.decide_step(index))
            .collect();
        if commands.is_empty() && self.has_reached_end {
            return vec![self.decide_end()];
        }
        let next = self
            .timers
            .iter()
            .map(|(time, _)| *time)
            .find(|time| *time > now);
        // While a person is awaited the time of the execution stands still.
        let deadline = self.in_doubt.is_empty().then(|| self.deadline());
        if let Some(time) = next.into_iter().chain(deadline).min() {
            commands.push(Command::WakeAt(time));
        }
        commands
    }

    fn deadline(&self) -> Timestamp {
        self.created_at
            .plus(self.definition.config().timeout)
            .plus(self.idle)
    }

    /// Whether the time of the whole execution is up. A pause does not count.
    fn is_overdue(&self, now: Timestamp) -> bool {
        now >= self.deadline() && self.in_doubt.is_empty()
    }

    fn decide_failure(&self) -> Vec<Command> {
        if !self.running.is_empty() {
            return self
                .running
                .iter()
                .map(|index| Command::Cancel {
                    path: self.path(*index),
                })
                .collect();
        }
        let (failure, step) = self.failing.clone().unwrap_or_else(|| {
            let timeout = self.definition.config().timeout.as_millis();
            let message = format!(
                "the execution took longer than its {timeout} ms; raise `config.timeout_ms`"
            );
            (Failure::new(Code::TimedOut, message), None)
        });
        vec![Command::Record(EventKind::ExecutionFailed {
            failure,
            step,
        })]
    }

    fn decide_step(&self, index: NodeIndex) -> Command {
        let step = &self.steps[&index];
        match &self.definition.node(index).kind {
            NodeKind::Step(node) => self.decide_agent_step(index, node, step),
            NodeKind::Set(value) => self.decide_set(index, value, step),
            NodeKind::Parallel { .. } => self.failed(
                index,
                step,
                Failure::new(Code::Internal, "a block is no step"),
            ),
        }
    }

    fn decide_agent_step(&self, index: NodeIndex, node: &StepNode, step: &StepState) -> Command {
        if let (0, Some(condition)) = (step.attempts, &node.condition) {
            let scope = StepScope::new(self, &condition.names, None);
            match evaluate_condition(&condition.expression, &scope) {
                Ok(true) => {}
                Ok(false) => {
                    return Command::Record(EventKind::StepSkipped {
                        path: self.path(index),
                    });
                }
                Err(error) => return self.failed(index, step, failure_of(&error, "condition")),
            }
        }
        let (agent, action, input, prompt) = match (step.role, &node.then) {
            (Role::Fallback, Then::Fallback(fallback)) => (
                &fallback.agent,
                &fallback.action,
                &fallback.input,
                &fallback.system_prompt,
            ),
            _ => (&node.agent, &node.action, &node.input, &node.system_prompt),
        };
        let error = match step.role {
            Role::Fallback => Some(step),
            Role::Primary => None,
        };
        let rendered = self.render(input, error).and_then(|input| {
            let prompt = prompt
                .as_ref()
                .map(|prompt| self.render(prompt, error))
                .transpose()?;
            Ok((input, prompt))
        });
        let (input, prompt) = match rendered {
            Ok(rendered) => rendered,
            Err(error) => return self.failed(index, step, failure_of(&error, "input")),
        };
        let path = self.path(index);
        Command::Start(Box::new(StartStep {
            idempotency_key: match step.role {
                Role::Primary => format!("{}/{path}", self.id),
                Role::Fallback => format!("{}/{path}/fallback", self.id),
            },
            path,
            attempt: step.attempts + 1,
            agent: agent.clone(),
            action: action.clone(),
            input,
            system_prompt: prompt.map(text_of),
            required: node.required.clone(),
            timeout: node
                .timeout
                .or_else(|| self.definition.agent(agent.as_str())?.timeout),
            recorded: step.calls.clone(),
        }))
    }

    fn decide_set(&self, index: NodeIndex, value: &Compiled, step: &StepState) -> Command {
        match self.render(value, None) {
            Ok(output) => Command::Record(EventKind::StepCompleted {
                path: self.path(index),
                attempt: step.attempts + 1,
                output,
                text: None,
                usage: StepUsage::default(),
            }),
            Err(error) => self.failed(index, step, failure_of(&error, "set")),
        }
    }

    fn failed(&self, index: NodeIndex, step: &StepState, failure: Failure) -> Command {
        Command::Record(EventKind::StepFailed {
            path: self.path(index),
            attempt: step.attempts + 1,
            failure,
            usage: StepUsage::default(),
        })
    }

    fn decide_end(&self) -> Command {
        let outputs = match self.definition.outputs() {
            Some(outputs) => outputs
                .iter()
                .map(|(name, template)| Ok((name.clone(), self.render(template, None)?)))
                .collect::<Result<_, EvaluationError>>()
                .map(Value::Object),
            None => Ok(self.default_outputs()),
        };
        Command::Record(match outputs {
            Ok(outputs) => EventKind::ExecutionCompleted { outputs },
            Err(error) => EventKind::ExecutionFailed {
                failure: failure_of(&error, "outputs"),
                step: None,
            },
        })
    }

    fn render(
        &self,
        compiled: &Compiled,
        error: Option<&StepState>,
    ) -> Result<Value, EvaluationError> {
        compiled
            .template
            .render(&StepScope::new(self, &compiled.names, error))
    }

    /// What the required fields of a step's output are, for who checks a fallback's answer.
    pub fn required_fields(&self, step: &Name) -> Option<&RequiredFields> {
        match &self
            .definition
            .node(self.definition.find(step.as_str())?)
            .kind
        {
            NodeKind::Step(node) => Some(&node.required),
            NodeKind::Parallel { .. } | NodeKind::Set(_) => None,
        }
    }

    /// One entry for each step that finished, under its id, or its agent's; where several share it, the last
    /// in document order.
    fn default_outputs(&self) -> Value {
        let mut outputs = serde_json::Map::new();
        for (index, step) in &self.steps {
            let Some(output) = &step.output else { continue };
            let node = self.definition.node(*index);
            let name = match (node.id_origin, &node.kind) {
                (IdOrigin::Numbered, NodeKind::Step(step)) => step.agent.as_str(),
                _ => node.id.as_str(),
            };
            outputs.insert(name.to_owned(), output.clone());
        }
        Value::Object(outputs)
    }
}

fn failure_of(error: &EvaluationError, place: &str) -> Failure {
    Failure::new(error.code(), format!("`{place}`: {}", error.message()))
}

/// A prompt as text: a template that is one value gives that value.
fn text_of(value: Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
