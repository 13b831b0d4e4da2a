//! Blocks, sub-workflows and timers: which way it goes, how often, and until when.

use std::time::Duration;

use serde_json::Value;

use super::super::frame::{BlockState, Instance};
use super::super::{Command, Execution};
use super::failure_of;
use crate::definition::{CompiledCondition, LoopNode, LoopNodeKind, WaitNode, WorkflowNode};
use crate::document::{WAIT_SECONDS_MAX, kind};
use crate::duration::Timestamp;
use crate::event::{EventKind, Side};
use crate::failure::{Code, Failure};

/// Items of one loop: protects the host's memory.
const ITEMS_MAX: usize = 100_000;
/// Rounds and sub-workflows of one execution, of which each keeps its steps: protects the host's memory from loops in
/// loops, and from workflows that call themselves in loops.
const FRAMES_MAX: usize = 250_000;
/// Workflows within each other: protects the stack, and money, from a workflow that calls itself.
const DEPTH_MAX: usize = 16;

impl Execution {
    pub(super) fn decide_branch(&self, at: Instance, condition: &CompiledCondition) -> Command {
        let taken = match self.holds(at, condition) {
            Ok(true) => Side::Then,
            Ok(false) => Side::Else,
            Err(error) => return self.failed(at, failure_of(&error, "condition")),
        };
        Command::Record(EventKind::BranchTaken {
            path: self.path(at),
            taken,
        })
    }

    pub(super) fn decide_loop(&self, at: Instance, node: &LoopNode) -> Command {
        let started = match self.block(at) {
            Some(BlockState::Repeat { rounds }) => Some(rounds.as_slice()),
            _ => None,
        };
        match (&node.kind, started) {
            (LoopNodeKind::Items { items, .. }, _) => match self.render(at, items, None) {
                Ok(value) => self.start_items(at, value),
                Err(error) => self.failed(at, failure_of(&error, "items")),
            },
            (LoopNodeKind::Until { .. } | LoopNodeKind::While { .. }, None) => {
                Command::Record(EventKind::LoopStarted {
                    path: self.path(at),
                    items: None,
                })
            }
            (
                LoopNodeKind::Until {
                    condition,
                    rounds_max,
                },
                Some(rounds),
            ) => {
                let left = rounds_max.saturating_sub(rounds.len());
                self.decide_round(at, ("until", condition), left)
            }
            (
                LoopNodeKind::While {
                    condition,
                    rounds_max,
                },
                // The last round is the one that is asked about.
                Some(rounds),
            ) => {
                let left = (rounds_max + 1).saturating_sub(rounds.len());
                self.decide_round(at, ("while", condition), left)
            }
        }
    }

    /// Why no more rounds and sub-workflows begin, where there are too many.
    fn too_many_frames(&self, more: usize) -> Option<Failure> {
        let message = format!(
            "an execution has at most {FRAMES_MAX} rounds of loops and sub-workflows in all; do the work in several executions"
        );
        (self.frames.len() + more > FRAMES_MAX).then(|| Failure::new(Code::MaxIterations, message))
    }

    fn start_items(&self, at: Instance, value: Value) -> Command {
        let failure = match value {
            Value::Array(items) if items.len() <= ITEMS_MAX => {
                if let Some(failure) = self.too_many_frames(items.len()) {
                    return self.failed(at, failure);
                }
                return Command::Record(EventKind::LoopStarted {
                    path: self.path(at),
                    items: Some(items),
                });
            }
            Value::Array(items) => format!(
                "`items` has {} items; a loop goes through at most {ITEMS_MAX}",
                items.len()
            ),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_)) => format!("`items` is {}, a loop needs a list", kind(&other)),
        };
        self.failed(at, Failure::new(Code::LoopItemsType, failure))
    }

    /// Whether a loop that repeats goes on, asked in the frame of its last round.
    fn decide_round(
        &self,
        at: Instance,
        (field, condition): (&str, &CompiledCondition),
        rounds_left: usize,
    ) -> Command {
        let frame = self
            .block(at)
            .and_then(|block| block.rounds().last().copied());
        let inside = Instance {
            frame: frame.unwrap_or(at.frame),
            node: at.node,
        };
        let again = match self.holds(inside, condition) {
            Ok(truth) => truth == (field == "while"),
            Err(error) => return self.failed(at, failure_of(&error, field)),
        };
        if let Some(failure) = self.too_many_frames(1).filter(|_| again) {
            return self.failed(at, failure);
        }
        if again && rounds_left == 0 {
            let message = format!(
                "the loop went on for as many rounds as it may, and `{field}` does not end it; raise `max_iterations`"
            );
            return self.failed(at, Failure::new(Code::MaxIterations, message));
        }
        Command::Record(EventKind::LoopDecided {
            path: self.path(at),
            again,
        })
    }

    pub(super) fn decide_workflow(&self, at: Instance, node: &WorkflowNode) -> Command {
        if let Some(BlockState::Workflow { frame }) = self.block(at) {
            return match self.outputs_of(*frame) {
                Ok(outputs) => self.completed(at, outputs),
                Err(error) => self.failed(at, failure_of(&error, "outputs")),
            };
        }
        let invalid = |message: String| self.failed(at, Failure::new(Code::InputInvalid, message));
        if self.workflow(at.frame).depth >= DEPTH_MAX {
            return invalid(format!(
                "workflows are nested at most {DEPTH_MAX} deep; does `{}` call itself without end?",
                node.name
            ));
        }
        let Some(definition) = self.definition.workflow(&node.name) else {
            return invalid(format!("there is no workflow `{}`", node.name));
        };
        if let Some(failure) = self.too_many_frames(1) {
            return self.failed(at, failure);
        }
        let inputs = match self.render(at, &node.inputs, None) {
            Ok(inputs) => inputs,
            Err(error) => return self.failed(at, failure_of(&error, "inputs")),
        };
        if let Err(faults) = definition.check_inputs(&inputs) {
            return invalid(format!("the inputs of `{}`: {faults}", node.name));
        }
        Command::Record(EventKind::WorkflowStarted {
            path: self.path(at),
            inputs,
        })
    }

    pub(super) fn decide_wait(&self, at: Instance, wait: &WaitNode, now: Timestamp) -> Command {
        let (field, compiled) = match wait {
            WaitNode::Seconds(compiled) => ("seconds", compiled),
            WaitNode::Until(compiled) => ("until", compiled),
        };
        let value = match self.render(at, compiled, None) {
            Ok(value) => value,
            Err(error) => return self.failed(at, failure_of(&error, field)),
        };
        let until = match wait {
            WaitNode::Seconds(_) => seconds_after(now, &value),
            WaitNode::Until(_) => Timestamp::parse(value.as_str().unwrap_or_default()),
        };
        match until {
            Some(until) if until <= now.plus(Duration::from_secs_f64(WAIT_SECONDS_MAX)) => {
                Command::Record(EventKind::WaitStarted {
                    path: self.path(at),
                    until: until.max(now),
                })
            }
            _ => {
                let needed = match wait {
                    WaitNode::Seconds(_) => "a number of seconds that is not negative",
                    WaitNode::Until(_) => "a time such as \"2026-11-22T14:00:00Z\"",
                };
                let message =
                    format!("`{field}` is {value}, it must be {needed}, at most ten years ahead");
                self.failed(at, Failure::new(Code::InputInvalid, message))
            }
        }
    }

    pub(super) fn timer_ends(&self, at: Instance) -> Command {
        let attempt = self.step(at).map_or(1, |state| state.attempts);
        Command::Record(EventKind::StepCompleted {
            path: self.path(at),
            attempt,
            output: Value::Null,
            text: None,
            usage: crate::event::StepUsage::default(),
        })
    }
}

fn seconds_after(now: Timestamp, value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64()?;
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    Some(now.plus(duration))
}
