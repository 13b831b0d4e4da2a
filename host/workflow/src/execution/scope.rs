//! What the names of a template mean in an execution, now.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::frame::{BlockState, FrameId, FramePlace, Instance};
use super::{Execution, StepState, StepStatus};
use crate::definition::{NodeIndex, Reference};
use crate::expression::{EvaluationError, Scope};

/// The names of one template, with the failure that a fallback handles.
pub(super) struct StepScope<'a> {
    execution: &'a Execution,
    /// Where the template stands.
    frame: FrameId,
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
        frame: FrameId,
        names: &'a BTreeMap<String, Reference>,
        error: Option<&'a StepState>,
    ) -> Self {
        Self {
            execution,
            frame,
            names,
            error,
            left: Cell::new(MADE_BYTES_MAX),
        }
    }

    /// A step of the workflow that the template stands in, in the round that it stands in.
    fn place(&self, node: NodeIndex) -> Instance {
        let owner = self.execution.definition_of(self.frame).node(node).owner;
        let frame = self.execution.frame_of(self.frame, owner);
        Instance { frame, node }
    }

    /// The step or block that a name stands for; of several, the last that finished. None: it stands for something
    /// else, or for a round before the first.
    fn step(&self, reference: &Reference) -> Option<Instance> {
        match reference {
            Reference::Step(node) => Some(self.place(*node)),
            Reference::Agent(nodes) => {
                let finished = nodes.iter().rev().map(|node| self.place(*node)).find(|at| {
                    self.execution
                        .step(*at)
                        .is_some_and(|step| step.status == StepStatus::Completed)
                });
                finished.or_else(|| Some(self.place(*nodes.last()?)))
            }
            Reference::Previous(node) => {
                let FramePlace::Round { of, number } =
                    &self.execution.frame(self.place(*node).frame).place
                else {
                    return None;
                };
                let rounds = self.execution.block(*of)?.rounds();
                let frame = *rounds.get(number.checked_sub(1)?)?;
                Some(Instance { frame, node: *node })
            }
            Reference::Variable(_)
            | Reference::Loop { .. }
            | Reference::Input(_)
            | Reference::Inputs
            | Reference::Steps
            | Reference::Execution
            | Reference::Error => None,
        }
    }

    /// The round of a loop around the template.
    fn round(&self, of: NodeIndex) -> Option<(Instance, usize)> {
        let frame = self.execution.frame_of(self.frame, Some(of));
        match &self.execution.frame(frame).place {
            FramePlace::Round { of, number } => Some((*of, *number)),
            FramePlace::Workflow(_) => None,
        }
    }

    fn item(&self, of: NodeIndex) -> Cow<'a, Value> {
        let item =
            self.round(of)
                .and_then(|(block, number)| match self.execution.block(block)? {
                    BlockState::Items { items, .. } => items.get(number),
                    BlockState::Parallel { .. }
                    | BlockState::Branch { .. }
                    | BlockState::Repeat { .. }
                    | BlockState::Workflow { .. } => None,
                });
        item.map_or(Cow::Owned(Value::Null), Cow::Borrowed)
    }

    fn inputs(&self) -> &'a Value {
        &self.execution.workflow(self.frame).inputs
    }

    /// Fields of names that stand for no step.
    fn special_field(&self, reference: &Reference, field: &str) -> Option<Cow<'a, Value>> {
        let execution = self.execution;
        match (reference, field) {
            (Reference::Error, _) => {
                let (failure, attempts) = self.error?.caught.as_ref()?;
                let error = json!({
                    "message": failure.message,
                    "code": failure.code.as_str(),
                    "attempts": attempts,
                });
                error.get(field).cloned().map(Cow::Owned)
            }
            (Reference::Loop { around, .. }, "index") => {
                let (_, number) = self.round((*around)?)?;
                Some(Cow::Owned(json!(number)))
            }
            (Reference::Loop { before, .. }, "results") => {
                Some(execution.value(self.place((*before)?)))
            }
            (Reference::Steps, id) => {
                let node = execution.definition_of(self.frame).find(id)?;
                let at = self.place(node);
                let fields = ["output", "status", "error"];
                let fields = fields.map(|field| (field.to_owned(), execution.field(at, field)));
                Some(Cow::Owned(Value::Object(fields.into_iter().collect())))
            }
            _ => None,
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
        if let Some(at) = self.step(reference) {
            return Ok(self.execution.value(at));
        }
        match reference {
            Reference::Input(input) => {
                self.inputs().get(input).map(Cow::Borrowed).ok_or_else(|| {
                    EvaluationError::Missing(format!("the input `{input}` was not given"))
                })
            }
            Reference::Inputs => Ok(Cow::Borrowed(self.inputs())),
            Reference::Variable(of) => Ok(self.item(*of)),
            Reference::Execution => Ok(Cow::Owned(json!({
                "id": self.execution.id.to_string(),
                "workflow": self.execution.definition_of(self.frame).name(),
                "created_at": self.execution.created_at.to_string(),
            }))),
            // Written alone it is the message.
            Reference::Error => Ok(Cow::Owned(
                self.error
                    .and_then(|step| step.caught.as_ref())
                    .map_or(Value::Null, |(failure, _)| {
                        Value::String(failure.message.clone())
                    }),
            )),
            Reference::Step(_)
            | Reference::Agent(_)
            | Reference::Previous(_)
            | Reference::Loop { .. }
            | Reference::Steps => Ok(Cow::Owned(Value::Null)),
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
        if let Some(value) = self.special_field(reference, field) {
            return Some(value);
        }
        let node = match reference {
            Reference::Step(node) | Reference::Previous(node) => *node,
            Reference::Agent(nodes) => *nodes.last()?,
            Reference::Variable(_)
            | Reference::Loop { .. }
            | Reference::Input(_)
            | Reference::Inputs
            | Reference::Steps
            | Reference::Execution
            | Reference::Error => return None,
        };
        let definition = self.execution.definition_of(self.frame);
        if !definition.is_accessor(node, field) {
            return None;
        }
        Some(match self.step(reference) {
            Some(at) => Cow::Owned(self.execution.field(at, field)),
            None => Cow::Owned(Value::Null),
        })
    }
}

impl Execution {
    /// An accessor of a step or block.
    fn field(&self, at: Instance, field: &str) -> Value {
        let step = self.step(at);
        match field {
            "status" => match step {
                Some(step) => Value::String(step.status.as_str().to_owned()),
                // What has ended here without having been reached was not taken.
                None => Value::String(StepStatus::Skipped.as_str().to_owned()),
            },
            "error" => step
                .filter(|step| step.status == StepStatus::Failed)
                .and_then(|step| step.failure.as_ref())
                .map_or(
                    Value::Null,
                    |failure| json!({ "message": failure.message, "code": failure.code.as_str() }),
                ),
            // Of an LLM `output` is the text, of all others the value.
            _ => match step.and_then(|step| step.text.as_ref()) {
                Some(text) => Value::String(text.clone()),
                None => self.value(at).into_owned(),
            },
        }
    }
}
