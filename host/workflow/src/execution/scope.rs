//! What the names of a template mean in an execution, now.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Execution, StepState, StepStatus};
use crate::definition::{NodeIndex, NodeKind, Reference};
use crate::expression::{EvaluationError, Scope};

/// The names of one template, with the failure that a fallback handles.
pub(super) struct StepScope<'a> {
    execution: &'a Execution,
    names: &'a BTreeMap<String, Reference>,
    error: Option<&'a StepState>,
    /// Bytes that its expressions may still make.
    left: Cell<usize>,
}

/// Protects the host's memory from expressions that multiply what they read.
const MADE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl<'a> StepScope<'a> {
    pub(super) fn new(
        execution: &'a Execution,
        names: &'a BTreeMap<String, Reference>,
        error: Option<&'a StepState>,
    ) -> Self {
        Self {
            execution,
            names,
            error,
            left: Cell::new(MADE_BYTES_MAX),
        }
    }

    /// The step that a name stands for; of several, the last that finished.
    fn step(&self, reference: &Reference) -> Option<(NodeIndex, Option<&'a StepState>)> {
        let steps = &self.execution.steps;
        match reference {
            Reference::Step(index) => Some((*index, steps.get(index))),
            Reference::Agent(nodes) => {
                let finished = nodes.iter().rev().find(|index| {
                    steps
                        .get(*index)
                        .is_some_and(|step| step.status == StepStatus::Completed)
                });
                let index = finished.or(nodes.last())?;
                Some((*index, steps.get(index)))
            }
            Reference::Input(_)
            | Reference::Inputs
            | Reference::Steps
            | Reference::Execution
            | Reference::Error => None,
        }
    }
}

impl Scope for StepScope<'_> {
    fn name(&self, name: &str) -> Result<Cow<'_, Value>, EvaluationError> {
        let Some(reference) = self.names.get(name) else {
            return Err(EvaluationError::Other(format!(
                "`{name}` is not known here"
            )));
        };
        if let Some((_, step)) = self.step(reference) {
            let output = step.and_then(|step| step.output.as_ref());
            return Ok(output.map_or(Cow::Owned(Value::Null), Cow::Borrowed));
        }
        match reference {
            Reference::Input(input) => self
                .execution
                .inputs
                .get(input)
                .map(Cow::Borrowed)
                .ok_or_else(|| {
                    EvaluationError::Missing(format!("the input `{input}` was not given"))
                }),
            Reference::Inputs => Ok(Cow::Borrowed(&self.execution.inputs)),
            Reference::Steps => Ok(Cow::Owned(self.execution.steps_value())),
            Reference::Execution => Ok(Cow::Owned(json!({
                "id": self.execution.id.to_string(),
                "workflow": self.execution.definition.name(),
                "created_at": self.execution.created_at.to_string(),
            }))),
            // Written alone it is the message.
            Reference::Error => Ok(Cow::Owned(
                self.error
                    .and_then(|step| step.failure.as_ref())
                    .map_or(Value::Null, |failure| {
                        Value::String(failure.message.clone())
                    }),
            )),
            Reference::Step(_) | Reference::Agent(_) => Ok(Cow::Owned(Value::Null)),
        }
    }

    fn spend(&self, bytes: usize) -> Result<(), EvaluationError> {
        let left = self.left.get().checked_sub(bytes).ok_or_else(|| {
            let most = MADE_BYTES_MAX / (1024 * 1024);
            EvaluationError::Other(format!(
                "the expression makes more than {most} MiB of values"
            ))
        })?;
        self.left.set(left);
        Ok(())
    }

    fn accessor(&self, name: &str, field: &str) -> Option<Cow<'_, Value>> {
        let reference = self.names.get(name)?;
        if matches!(reference, Reference::Error) {
            let step = self.error?;
            let failure = step.failure.as_ref()?;
            let error = json!({
                "message": failure.message,
                "code": failure.code.as_str(),
                "attempts": step.attempts,
            });
            return error.get(field).cloned().map(Cow::Owned);
        }
        let (index, step) = self.step(reference)?;
        let is_accessor = match &self.execution.definition.node(index).kind {
            NodeKind::Step(node) => {
                let agent = self.execution.definition.agent(node.agent.as_str())?;
                crate::definition::is_accessor(agent, field)
            }
            NodeKind::Set(_) => crate::definition::ACCESSORS.contains(&field),
            NodeKind::Parallel { .. } => false,
        };
        if !is_accessor {
            return None;
        }
        Some(step.map_or(Cow::Owned(Value::Null), |step| {
            Cow::Owned(step_field(step, field))
        }))
    }
}

fn step_field(step: &StepState, field: &str) -> Value {
    match field {
        // Of an LLM it is the text, of all others the value.
        "output" => match &step.text {
            Some(text) => Value::String(text.clone()),
            None => step.output.clone().unwrap_or(Value::Null),
        },
        "status" => Value::String(step.status.as_str().to_owned()),
        _ => step
            .failure
            .as_ref()
            .filter(|_| step.status == StepStatus::Failed)
            .map_or(
                Value::Null,
                |failure| json!({ "message": failure.message, "code": failure.code.as_str() }),
            ),
    }
}

impl Execution {
    /// The steps so far by their id, for the name `steps`.
    fn steps_value(&self) -> Value {
        let mut map = Map::new();
        for (index, step) in &self.steps {
            let fields = ["output", "status", "error"]
                .into_iter()
                .map(|field| (field.to_owned(), step_field(step, field)))
                .collect();
            map.insert(
                self.definition.node(*index).id.as_str().to_owned(),
                Value::Object(fields),
            );
        }
        Value::Object(map)
    }
}
