//! The one place where an execution's state changes.

mod attempt;
mod call;
mod ending;
mod flow;
mod kept;
mod operation;
mod people;
mod question;
mod retry;

use serde_json::Value;

use super::frame::{Frame, FrameId, FramePlace, Instance, WorkflowFrame};
use super::{End, Execution, IllegalEvent, StepStatus};
use crate::definition::{Definition, NodeIndex};
use crate::duration::Timestamp;
use crate::event::{Event, EventKind};
use crate::failure::{Code, Failure};
use crate::ids::StepPath;

use std::collections::BTreeMap;
use std::sync::Arc;

impl Execution {
    /// Applies one event.
    ///
    /// # Errors
    /// An event that does not fit; the state may then be half changed, and the execution must not be driven on.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        let result = self.apply_kind(&event.kind, event.at);
        self.version += 1;
        self.last_event_at = event.at;
        if !event.kind.is_from_outside() {
            self.driven_until = event.at;
        }
        self.count_rest(event.at);
        result.map_err(|message| IllegalEvent {
            position: self.version,
            message,
        })
    }

    fn apply_kind(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        let is_created = matches!(kind, EventKind::ExecutionCreated { .. });
        if is_created != (self.version == 0) {
            return Err("the first event, and only it, creates the execution".to_owned());
        }
        let is_after_the_end = matches!(
            kind,
            EventKind::CallEnded { .. } | EventKind::ExecutionRetried { .. }
        );
        if self.end.is_some() && !is_after_the_end {
            return Err("the execution has ended".to_owned());
        }
        match kind {
            EventKind::ExecutionCreated { .. }
            | EventKind::ExecutionCompleted { .. }
            | EventKind::ExecutionFailed { .. }
            | EventKind::ExecutionCancelled => self.apply_bounds(kind, at),
            EventKind::TimeLimitReached => {
                self.time_limit_reached(at);
                Ok(())
            }
            EventKind::CancelRequested => {
                self.is_cancelling = true;
                self.give_up(FrameId::ROOT, at);
                Ok(())
            }
            EventKind::ExecutionRecovered => {
                // Time in which it only waited is counted where the waiting ends.
                if self.at_rest_since.is_none() {
                    self.idle += at.since(self.driven_until);
                }
                Ok(())
            }
            EventKind::BudgetRaised { usd, tokens, fuel } => {
                self.budgets.raise(*usd, *tokens, *fuel);
                for at in std::mem::take(&mut self.unpaid) {
                    self.set_pending(at);
                    self.ready.insert(at);
                }
                Ok(())
            }
            EventKind::ExecutionRetried { .. } => self.execution_retried(at),
            EventKind::PauseRequested { .. } | EventKind::PauseEnded { .. } => {
                self.apply_operation(kind, at)
            }
            EventKind::CallStarted { .. } | EventKind::CallEnded { .. } => {
                self.apply_call(kind, at)
            }
            EventKind::QuestionAsked { .. } => self.apply_question(kind),
            EventKind::ParallelStarted { .. }
            | EventKind::BranchTaken { .. }
            | EventKind::LoopStarted { .. }
            | EventKind::LoopDecided { .. }
            | EventKind::WorkflowStarted { .. }
            | EventKind::WaitStarted { .. } => self.apply_flow(kind, at),
            EventKind::ApprovalRequested { .. }
            | EventKind::ApprovalGiven { .. }
            | EventKind::ApprovalEscalated { .. } => self.apply_approval(kind, at),
            EventKind::StepKept { path } => self.step_kept(path, at),
            EventKind::StepStarted { .. }
            | EventKind::StepCompleted { .. }
            | EventKind::StepFailed { .. }
            | EventKind::StepInterrupted { .. }
            | EventKind::StepPaused { .. }
            | EventKind::StepResumed { .. }
            | EventKind::StepSkipped { .. }
            | EventKind::StepCancelled { .. } => self.apply_step(kind, at),
        }
    }

    fn time_limit_reached(&mut self, at: Timestamp) {
        let millis = self.config().timeout.as_millis();
        let message =
            format!("the execution took longer than its {millis} ms; raise `config.timeout_ms`");
        self.give_up(FrameId::ROOT, at);
        let failure = Failure::new(Code::TimedOut, message);
        self.failing.insert(FrameId::ROOT, (failure, None));
    }

    /// Applies the first event and the last.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`apply_kind` has thought of every event, and sends only these here"
    )]
    fn apply_bounds(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::ExecutionCreated {
                inputs,
                digest,
                forked_from,
                kept,
                ..
            } => {
                if digest != self.definition.digest() {
                    return Err(format!("it belongs to the workflow document {digest}"));
                }
                self.created_at = at;
                self.timed_from = at;
                self.forked_from.clone_from(forked_from);
                self.keep(kept);
                let definition = Arc::clone(&self.definition);
                self.open_workflow(definition, None, inputs.clone(), String::new());
                Ok(())
            }
            EventKind::ExecutionCompleted { outputs } => {
                if !self.has_reached_end {
                    return Err("there are steps that have not ended".to_owned());
                }
                self.end = Some(End::Completed(outputs.clone()));
                Ok(())
            }
            EventKind::ExecutionFailed { failure, step } => {
                self.end_with(End::Failed(failure.clone(), step.clone()), at)
            }
            EventKind::ExecutionCancelled if self.is_cancelling => {
                self.end_with(End::Cancelled, at)
            }
            _ => Err("nobody asked for its end".to_owned()),
        }
    }

    fn end_with(&mut self, end: End, at: Timestamp) -> Result<(), String> {
        if !self.running.is_empty() {
            return Err("there are steps that run".to_owned());
        }
        self.give_up(FrameId::ROOT, at);
        self.failing.clear();
        self.end = Some(end);
        Ok(())
    }

    /// Opens the frame of a workflow and enters its first step.
    fn open_workflow(
        &mut self,
        definition: Arc<Definition>,
        opener: Option<Instance>,
        inputs: Value,
        prefix: String,
    ) -> FrameId {
        let id = FrameId(self.frames.len());
        let depth = opener.map_or(0, |opener| self.workflow(opener.frame).depth + 1);
        let steps_total = definition.weight();
        let account = self.accounts.remove(&prefix).unwrap_or_default();
        let workflow = WorkflowFrame {
            definition,
            opener,
            inputs,
            account,
            depth,
        };
        self.frames.push(Frame {
            place: FramePlace::Workflow(Box::new(workflow)),
            home: id,
            prefix,
            steps: BTreeMap::new(),
            blocks: BTreeMap::new(),
        });
        self.add_total(id, steps_total);
        self.enter(Instance {
            frame: id,
            node: NodeIndex(0),
        });
        id
    }

    /// Notes when all that is left begins to wait, and what that took when it ends: it does not count for the
    /// time limit.
    fn count_rest(&mut self, at: Timestamp) {
        match (self.is_at_rest(), self.at_rest_since) {
            (true, None) => self.at_rest_since = Some(at),
            (false, Some(since)) => {
                self.idle += at.since(since);
                self.at_rest_since = None;
                self.driven_until = at;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn found(&self, path: &StepPath) -> Result<Instance, String> {
        self.find(path)
            .ok_or_else(|| format!("there is no step `{path}` that was reached"))
    }

    /// Takes a step from those that something is decided about.
    fn take_ready(&mut self, at: Instance) -> Result<(), String> {
        let due = self.step(at).and_then(|step| step.due);
        let was_there = match due {
            Some(due) => self.retries.remove(&(due, at)) || self.timers.remove(&(due, at)),
            None => self.ready.remove(&at),
        };
        if !was_there {
            return Err(format!("nothing is to be done for `{}`", self.path(at)));
        }
        self.set_pending(at);
        Ok(())
    }

    /// A step that waited, and waits no longer.
    fn set_pending(&mut self, at: Instance) {
        let step = self.step_mut(at);
        step.due = None;
        step.waits_for = None;
        if step.status == StepStatus::Waiting {
            step.status = StepStatus::Pending;
        }
    }

    /// Counts steps that became known, for the workflow and those around it.
    fn add_total(&mut self, frame: FrameId, steps: usize) {
        for home in self.homes(frame).collect::<Vec<_>>() {
            self.workflow_mut(home).account.steps_total += steps;
        }
    }

    /// Counts steps that ended, or that nobody will take.
    fn add_completed(&mut self, frame: FrameId, steps: usize) {
        for home in self.homes(frame).collect::<Vec<_>>() {
            self.workflow_mut(home).account.steps_completed += steps;
        }
    }
}
