//! Approvals: asked, answered, passed on.

use super::super::frame::Instance;
use super::super::{Approval, Execution, StepStatus, WaitsFor};
use crate::duration::Timestamp;
use crate::event::EventKind;

impl Execution {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`apply_kind` has thought of every event, and sends only these here"
    )]
    pub(super) fn apply_approval(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::ApprovalRequested {
                path,
                attempt,
                agent,
                input,
                assignees,
                deadline,
            } => {
                let step = self.found(path)?;
                self.take_ready(step)?;
                self.check_attempt(step, *attempt)?;
                let state = self.step_mut(step);
                state.attempts = *attempt;
                state.status = StepStatus::Waiting;
                state.waits_for = Some(WaitsFor::Approval);
                state.started_at = state.started_at.or(Some(at));
                state.approval = Some(Box::new(Approval {
                    agent: agent.clone(),
                    input: input.clone(),
                    assignees: assignees.clone(),
                    deadline: *deadline,
                    answers: Vec::new(),
                    escalations: 0,
                    question: None,
                }));
                self.approvals.insert(step);
                self.deadlines
                    .extend(deadline.map(|deadline| (deadline, step)));
            }
            EventKind::ApprovalGiven { path, answer } => {
                let step = self.found(path)?;
                if !self.approvals.contains(&step) {
                    return Err(format!("nobody is asked about `{path}`"));
                }
                if let Some(approval) = &mut self.step_mut(step).approval {
                    approval.answers.push(answer.clone());
                }
                if self.question(step).is_some() {
                    return self.question_answered(step, at);
                }
                self.ready_if_decided(step);
            }
            EventKind::ApprovalEscalated {
                path,
                assignees,
                deadline,
            } => {
                let step = self.found(path)?;
                if !self.approvals.contains(&step) {
                    return Err(format!("nobody is asked about `{path}`"));
                }
                self.close_approval(step);
                if let Some(approval) = &mut self.step_mut(step).approval {
                    approval.escalations += 1;
                    approval.deadline = *deadline;
                    for person in assignees {
                        if !approval.assignees.contains(person) {
                            approval.assignees.push(person.clone());
                        }
                    }
                }
                self.deadlines
                    .extend(deadline.map(|deadline| (deadline, step)));
            }
            _ => return Err("this is no event of an approval".to_owned()),
        }
        Ok(())
    }

    /// Nobody is waited for any longer.
    pub(super) fn close_approval(&mut self, step: Instance) {
        let approval = self.step(step).and_then(|state| state.approval.as_ref());
        if let Some(deadline) = approval.and_then(|approval| approval.deadline) {
            self.deadlines.remove(&(deadline, step));
        }
        self.ready.remove(&step);
    }

    /// A rejection decides, and the last approval that is needed.
    fn ready_if_decided(&mut self, step: Instance) {
        if self.verdict(step).is_some() {
            self.ready.insert(step);
        }
    }
}
