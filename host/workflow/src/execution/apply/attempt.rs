//! Attempts of steps: their start and their ends.

use serde_json::Value;

use super::super::frame::{BlockState, Instance};
use super::super::{Execution, Series, StepState, StepStatus, WaitsFor};
use crate::duration::Timestamp;
use crate::event::{EventKind, StepUsage};
use crate::failure::{Code, Failure};
use crate::ids::StepPath;

/// Protects the host from a step that kills it each time: after so many interruptions it fails.
const INTERRUPTIONS_MAX: u32 = 10;

impl Execution {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`apply_kind` has thought of every event, and sends only these here"
    )]
    pub(super) fn apply_step(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::StepStarted {
                path,
                attempt,
                fuel,
                ..
            } => self.step_started(path, *attempt, fuel.unwrap_or(0), at),
            EventKind::StepCompleted {
                path,
                attempt,
                output,
                text,
                usage,
            } => {
                let step = self.ending(path, *attempt, *usage)?;
                self.step_completed(step, (output, text.as_deref()), at);
                Ok(())
            }
            EventKind::StepFailed {
                path,
                attempt,
                failure,
                usage,
            } => {
                let step = self.ending(path, *attempt, *usage)?;
                self.attempt_failed(step, failure, at);
                Ok(())
            }
            EventKind::StepPaused {
                path,
                attempt,
                reason,
                usage,
                raises,
            } => {
                if usage.is_none() {
                    self.forget_fuel(path);
                }
                let step = self.ending(path, *attempt, usage.unwrap_or_default())?;
                self.step_paused(step, reason, *raises);
                Ok(())
            }
            EventKind::StepInterrupted { path, attempt } => {
                self.step_interrupted(path, *attempt, at)
            }
            EventKind::StepResumed { path } => {
                let step = self.found(path)?;
                self.step_resumed(step)
            }
            EventKind::StepSkipped { path } => {
                let step = self.found(path)?;
                self.take_ready(step)?;
                self.step_skipped(step, at);
                Ok(())
            }
            EventKind::StepCancelled { path } => {
                let step = self.found(path)?;
                if !self.running.remove(&step) {
                    return Err(format!("the step `{path}` does not run"));
                }
                self.spend_fuel(step, None);
                self.end_step(step, StepStatus::Cancelled, at);
                Ok(())
            }
            _ => Err("this is no event of a step".to_owned()),
        }
    }

    fn step_completed(
        &mut self,
        step: Instance,
        (output, text): (&Value, Option<&str>),
        at: Timestamp,
    ) {
        let state = self.step_mut(step);
        state.output = Some(output.clone());
        state.text = text.map(str::to_owned);
        state.failure = None;
        state.calls = Vec::new();
        state.started_at = state.started_at.or(Some(at));
        self.end_step(step, StepStatus::Completed, at);
        self.leave(step, at);
    }

    fn step_paused(&mut self, step: Instance, reason: &Failure, raises: u32) {
        self.step_mut(step).failure = Some(reason.clone());
        if raises < self.budget_raises() {
            self.step_mut(step).status = StepStatus::Pending;
            self.ready.insert(step);
        } else {
            self.put_back(step, WaitsFor::Budget);
            self.unpaid.insert(step);
        }
    }

    fn step_resumed(&mut self, step: Instance) -> Result<(), String> {
        if !self.in_doubt.remove(&step) {
            let path = self.path(step);
            return Err(format!("the step `{path}` does not wait for a person"));
        }
        self.set_pending(step);
        self.ready.insert(step);
        Ok(())
    }

    fn step_skipped(&mut self, step: Instance, at: Timestamp) {
        if self.is_block(step) {
            self.add_completed(step.frame, self.node(step).weight);
        }
        self.end_step(step, StepStatus::Skipped, at);
        self.leave(step, at);
    }

    /// Nobody knows what an attempt that is broken off has used: it counts as all that it had reserved.
    fn forget_fuel(&mut self, path: &StepPath) {
        if let Some(step) = self.find(path).filter(|step| self.running.contains(step)) {
            self.spend_fuel(step, None);
        }
    }

    /// Whether a node counts by the steps in it, and not itself.
    pub(super) fn is_block(&self, at: Instance) -> bool {
        let node = self.node(at);
        node.is_transparent() || matches!(node.kind, crate::definition::NodeKind::Loop(_))
    }

    fn step_started(
        &mut self,
        path: &StepPath,
        attempt: u32,
        fuel: u64,
        at: Timestamp,
    ) -> Result<(), String> {
        let step = self.found(path)?;
        self.take_ready(step)?;
        self.check_attempt(step, attempt)?;
        let state = self.step_mut(step);
        state.attempts = attempt;
        state.status = StepStatus::Running;
        state.fuel_reserved = fuel;
        state.has_open_end = true;
        state.started_at = state.started_at.or(Some(at));
        state.series.get_or_insert(Series {
            attempt,
            began_at: at,
        });
        self.running.insert(step);
        for home in self.homes(step.frame).collect::<Vec<_>>() {
            let account = &mut self.workflow_mut(home).account;
            account.fuel_reserved = account.fuel_reserved.saturating_add(fuel);
        }
        Ok(())
    }

    pub(super) fn check_attempt(&self, at: Instance, attempt: u32) -> Result<(), String> {
        let before = self.step(at).map_or(0, |step| step.attempts);
        if attempt == before + 1 {
            return Ok(());
        }
        let path = self.path(at);
        Err(format!(
            "attempt {attempt} of `{path}` follows attempt {before}"
        ))
    }

    /// The step of an attempt that ends: one that runs, or one that had no effect because it needs none, or its
    /// templates could not be evaluated, or nobody answered.
    fn ending(
        &mut self,
        path: &StepPath,
        attempt: u32,
        usage: StepUsage,
    ) -> Result<Instance, String> {
        let step = self.found(path)?;
        if self.running.contains(&step) {
            self.ends_now(step, attempt)?;
            self.spend_fuel(step, Some(usage.fuel));
        } else if self.approvals.remove(&step) {
            self.close_approval(step);
        } else if self.is_failing_workflow(step) {
            self.step_mut(step).attempts = attempt;
        } else {
            let is_unstarted = self.step(step).is_none_or(|state| {
                state.status == StepStatus::Pending || state.waits_for == Some(WaitsFor::Retry)
            });
            self.take_ready(step)?;
            if is_unstarted {
                self.check_attempt(step, attempt)?;
            }
            self.step_mut(step).attempts = attempt;
        }
        let state = self.step_mut(step);
        state.has_open_end = false;
        state.add_usage(usage);
        Ok(step)
    }

    /// Whether a step is a sub-workflow that failed.
    fn is_failing_workflow(&self, step: Instance) -> bool {
        match self.block(step) {
            Some(BlockState::Workflow { frame }) => self.failing.contains_key(frame),
            _ => false,
        }
    }

    /// An attempt that runs no longer does.
    pub(super) fn ends_now(&mut self, step: Instance, attempt: u32) -> Result<(), String> {
        if self
            .step(step)
            .is_none_or(|state| state.attempts != attempt)
        {
            return Err(format!(
                "attempt {attempt} of `{}` does not run",
                self.path(step)
            ));
        }
        self.running.remove(&step);
        Ok(())
    }

    /// Takes what an attempt used from the budget in place of what it had reserved: all of that, where nobody knows.
    pub(super) fn spend_fuel(&mut self, step: Instance, used: Option<u64>) {
        let reserved = std::mem::take(&mut self.step_mut(step).fuel_reserved);
        let used = used.unwrap_or(reserved);
        for home in self.homes(step.frame).collect::<Vec<_>>() {
            let account = &mut self.workflow_mut(home).account;
            account.fuel_reserved = account.fuel_reserved.saturating_sub(reserved);
            account.fuel = account.fuel.saturating_add(used);
        }
        self.note_excess();
    }

    /// A step that has to wait before it goes on where it was.
    pub(super) fn put_back(&mut self, step: Instance, waits_for: WaitsFor) {
        let state = self.step_mut(step);
        state.status = StepStatus::Waiting;
        state.waits_for = Some(waits_for);
    }

    fn step_interrupted(
        &mut self,
        path: &StepPath,
        attempt: u32,
        at: Timestamp,
    ) -> Result<(), String> {
        let step = self.found(path)?;
        if !self.running.contains(&step) {
            return Err(format!("attempt {attempt} of `{path}` does not run"));
        }
        self.ends_now(step, attempt)?;
        self.spend_fuel(step, None);
        let is_idempotent = self.agent_of(step).is_none_or(|agent| agent.idempotent);
        let state: &mut StepState = self.step_mut(step);
        state.interruptions += 1;
        if state.interruptions >= INTERRUPTIONS_MAX {
            let message = format!(
                "the host stopped {INTERRUPTIONS_MAX} times while this step ran; it may be what stops it"
            );
            self.fail(step, &Failure::new(Code::Internal, message), at);
        } else if is_idempotent {
            state.status = StepStatus::Pending;
            self.ready.insert(step);
        } else {
            self.put_back(step, WaitsFor::Doubt);
            self.in_doubt.insert(step);
        }
        Ok(())
    }

    /// A step has ended for good: it counts as one that did.
    pub(super) fn end_step(&mut self, step: Instance, status: StepStatus, at: Timestamp) {
        let is_block = self.is_block(step);
        let state = self.step_mut(step);
        state.status = status;
        state.due = None;
        state.waits_for = None;
        state.ended_at = Some(at);
        // A block counts by its steps.
        if !is_block {
            self.add_completed(step.frame, 1);
        }
    }
}
