//! Questions that components ask people: the attempt ends, the step waits, and goes on with the answer.

use super::super::approval::Decision;
use super::super::frame::Instance;
use super::super::{Approval, CallRecord, Execution, OpenQuestion, StepStatus, WaitsFor};
use crate::duration::Timestamp;
use crate::event::{CallKind, CallOutcome, EventKind};
use crate::money::MicroUsd;

impl Execution {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`apply_kind` has thought of every event, and sends only this here"
    )]
    pub(super) fn apply_question(&mut self, kind: &EventKind) -> Result<(), String> {
        match kind {
            EventKind::QuestionAsked {
                path,
                attempt,
                call,
                position,
                request,
                question,
                usage,
            } => {
                let record = CallRecord {
                    kind: CallKind::Human,
                    request: request.clone(),
                    position: Some(*position),
                    reserved: MicroUsd::ZERO,
                    reserved_tokens: 0,
                    attempt: *attempt,
                    outcome: None,
                    ended_at: None,
                };
                self.call_started(path, *call, record)?;
                let step = self.found(path)?;
                self.ends_now(step, *attempt)?;
                self.spend_fuel(step, Some(usage.fuel));
                self.step_mut(step).add_usage(*usage);
                let question = OpenQuestion {
                    call: *call,
                    question: question.as_ref().clone(),
                };
                self.wait_for_answer(step, question);
                Ok(())
            }
            _ => Err("this is no question".to_owned()),
        }
    }

    fn wait_for_answer(&mut self, step: Instance, open: OpenQuestion) {
        let question = &open.question;
        let deadline = question.deadline;
        let agent = self
            .agent_of(step)
            .map(|agent| agent.id.as_str().to_owned());
        let approval = Approval {
            agent: agent.unwrap_or_default(),
            input: question.shown(),
            assignees: question.assignees.clone(),
            deadline,
            answers: Vec::new(),
            escalations: 0,
            question: Some(open),
        };
        let state = self.step_mut(step);
        state.status = StepStatus::Waiting;
        state.waits_for = Some(WaitsFor::Approval);
        state.approval = Some(Box::new(approval));
        self.approvals.insert(step);
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, step)));
    }

    /// The answer of the one person who gave it becomes the outcome of the call.
    pub(super) fn question_answered(
        &mut self,
        step: Instance,
        at: Timestamp,
    ) -> Result<(), String> {
        let state = self.step_mut(step);
        let answered = state.approval.as_deref().and_then(|approval| {
            let approved = approval.answers.last()?.approved;
            let call = approval.question.as_ref()?.call;
            Some((call, approval.output(Decision::ByPeople { approved })))
        });
        let (call, answer) = answered.ok_or("nobody has answered")?;
        let position = usize::try_from(call).map_err(|error| error.to_string())?;
        let record = state
            .calls
            .get_mut(position)
            .ok_or("the question is on no record")?;
        record.outcome = Some(CallOutcome::Answered(answer));
        record.ended_at = Some(at);
        self.close_question(step, call);
        Ok(())
    }

    /// A call has ended: where it is a question that a step waits for, the step goes on.
    pub(super) fn close_question(&mut self, step: Instance, call: u32) {
        let is_awaited = self
            .question(step)
            .is_some_and(|question| question.call == call);
        if !is_awaited || !self.approvals.remove(&step) {
            return;
        }
        self.close_approval(step);
        self.set_pending(step);
        self.step_mut(step).approval = None;
        self.ready.insert(step);
    }
}
