//! What follows from a failure: another try, a fallback, going on without, or the end of the workflow around.

use super::super::frame::{BlockState, FrameId, Instance};
use super::super::{Execution, Role, StepStatus, WaitsFor};
use crate::definition::{NodeKind, Then};
use crate::duration::Timestamp;
use crate::event::CallOutcome;
use crate::failure::Failure;
use crate::retry::RetryPolicy;

impl Execution {
    pub(super) fn attempt_failed(&mut self, step: Instance, failure: &Failure, at: Timestamp) {
        let definition = std::sync::Arc::clone(self.definition_of(step.frame));
        let node = definition.node(step.node);
        let path = self.path(step);
        let mut is_cap_inside = false;
        if let (NodeKind::Workflow(_), Some(BlockState::Workflow { frame })) =
            (&node.kind, self.block(step))
        {
            let frame = *frame;
            // What a workflow grants its sub-workflow is no budget of the execution's.
            is_cap_inside = failure.cap_of.as_ref().is_some_and(|cap| {
                let inside = cap.as_str().strip_prefix(path.as_str());
                inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            self.close_workflow(frame);
        }
        let id = self.id;
        let is_guest = self.is_guest(step);
        let state = self.step_mut(step);
        state.series = None;
        // A service's failure says nothing against the answers that others gave before it; a guest that failed
        // may have failed because of them, and a guest's record is good for the run that it belongs to only.
        if failure.code.is_services_fault() && !is_guest {
            state
                .calls
                .retain(|call| matches!(call.outcome, Some(CallOutcome::Answered(_))));
        } else {
            state.calls.clear();
        }
        state.failures += 1;
        state.failure = Some(failure.clone());
        let policy: &RetryPolicy = match (state.role, &node.then) {
            (Role::Fallback, Then::Fallback(fallback)) => &fallback.retry,
            _ => &node.retry,
        };
        if state.failures <= policy.retries && policy.is_retried(failure) {
            let due = at.plus(policy.pause(failure, state.failures, id, &path));
            state.status = StepStatus::Waiting;
            state.waits_for = Some(WaitsFor::Retry);
            state.due = Some(due);
            self.retries.insert((due, step));
            return;
        }
        let role = state.role;
        let is_caught = failure.code.is_caught() || is_cap_inside;
        if role == Role::Primary {
            self.count_unreached(step);
        }
        match (&node.then, role) {
            (Then::Fallback(_), Role::Primary) if is_caught => {
                let state = self.step_mut(step);
                state.role = Role::Fallback;
                let attempts = state.attempts.saturating_sub(state.attempts_before);
                state.caught = Some((failure.clone(), attempts));
                state.calls.clear();
                state.failures = 0;
                state.approval = None;
                state.status = StepStatus::Pending;
                self.ready.insert(step);
            }
            (Then::Continue, _) if is_caught => {
                self.end_step(step, StepStatus::Failed, at);
                self.leave(step, at);
            }
            _ => self.fail(step, failure, at),
        }
    }

    /// A block that failed by itself: the steps in it that nobody will take count as ended.
    fn count_unreached(&mut self, step: Instance) {
        if !self.is_block(step) {
            return;
        }
        if self.block(step).is_some() {
            self.drop_pending_round(step);
        } else {
            let weight = self.node(step).weight;
            self.add_completed(step.frame, weight);
        }
    }

    /// A sub-workflow that failed: what it did not reach counts as ended.
    fn close_workflow(&mut self, frame: FrameId) {
        self.failing.remove(&frame);
        let account = &self.workflow(frame).account;
        let missing = account.steps_total.saturating_sub(account.steps_completed);
        self.add_completed(frame, missing);
    }

    /// A failure that nothing at the step handles: it ends the workflow that the step belongs to.
    pub(super) fn fail(&mut self, step: Instance, failure: &Failure, at: Timestamp) {
        self.step_mut(step).failure = Some(failure.clone());
        self.end_step(step, StepStatus::Failed, at);
        let home = self.frame(step.frame).home;
        if self.failing.contains_key(&home) {
            return;
        }
        let path = self.path(step);
        self.give_up(home, at);
        self.failing.insert(home, (failure.clone(), Some(path)));
    }

    /// Ends everything of a workflow that does not run; what runs is for the driver to end.
    pub(super) fn give_up(&mut self, home: FrameId, at: Timestamp) {
        let mut waiting: Vec<Instance> = Vec::new();
        let timed = [&self.retries, &self.timers];
        waiting.extend(timed.into_iter().flatten().map(|(_, step)| *step));
        let asked = [&self.approvals, &self.in_doubt, &self.unpaid];
        waiting.extend(asked.into_iter().flatten().copied());
        waiting.retain(|step| self.is_inside(step.frame, home));
        for step in waiting {
            if let Some(due) = self.step(step).and_then(|state| state.due) {
                self.retries.remove(&(due, step));
                self.timers.remove(&(due, step));
            }
            if self.approvals.remove(&step) {
                self.close_approval(step);
            }
            self.in_doubt.remove(&step);
            self.unpaid.remove(&step);
            self.end_step(step, StepStatus::Cancelled, at);
        }
        let ready = std::mem::take(&mut self.ready);
        let failing = std::mem::take(&mut self.failing);
        self.ready = ready
            .into_iter()
            .filter(|step| !self.is_inside(step.frame, home))
            .collect();
        self.failing = failing
            .into_iter()
            .filter(|(frame, _)| !self.is_inside(*frame, home))
            .collect();
    }

    /// Whether a frame belongs to a workflow, or to one inside it.
    pub(in super::super) fn is_inside(&self, frame: FrameId, home: FrameId) -> bool {
        home == FrameId::ROOT || self.homes(frame).any(|around| around == home)
    }
}
