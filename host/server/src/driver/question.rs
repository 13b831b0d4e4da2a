//! What components need of their driver beside calls that cost: questions to people, and answers that are known at
//! once.

use troupe_workflow::{
    CallOutcome, EventKind, MicroUsd, Question, StepPath, StepUsage, Timestamp, Usage,
};

use super::message::{AskedQuestion, StartCall};
use super::{DriveError, Driver};

impl Driver {
    /// The end of an attempt that asks people. Nothing of it is left in memory then.
    pub(super) fn asked(
        &self,
        (path, attempt): (StepPath, u32),
        question: AskedQuestion,
        usage: StepUsage,
    ) -> EventKind {
        let AskedQuestion {
            position,
            request,
            assignees,
            message,
            context,
            form,
            answer_within,
        } = question;
        let now = self.works.clock.now();
        EventKind::QuestionAsked {
            call: self.execution.next_call(&path, &request, Some(position)),
            path,
            attempt,
            position,
            request,
            question: Box::new(Question {
                assignees,
                message,
                context,
                form,
                deadline: answer_within.map(|within| now.plus(within)),
            }),
            usage,
        }
    }

    /// Records a call whose outcome is known already, begin and end at once; returns when that was.
    pub(super) async fn note_call(
        &mut self,
        call: StartCall,
        outcome: CallOutcome,
    ) -> Result<Option<Timestamp>, DriveError> {
        if !self.execution.runs(&call.path, call.attempt) {
            return Ok(None);
        }
        let (number, kinds) = self.noted(&call, &outcome);
        self.advance(kinds).await?;
        Ok(self.execution.call_ended_at(&call.path, number))
    }

    /// The number of a call that begins and ends at once, and the events that tell of it.
    pub(super) fn noted(&self, call: &StartCall, outcome: &CallOutcome) -> (u32, Vec<EventKind>) {
        let (path, attempt) = (&call.path, call.attempt);
        let number = self.execution.next_call(path, &call.request, call.position);
        let started = EventKind::CallStarted {
            path: path.clone(),
            attempt,
            call: number,
            kind: call.kind,
            target: call.target.clone(),
            request: call.request.clone(),
            reserved: MicroUsd::ZERO,
            reserved_tokens: 0,
            position: call.position,
        };
        let ended = EventKind::CallEnded {
            path: path.clone(),
            attempt,
            call: number,
            outcome: outcome.clone(),
            usage: Usage::default(),
            cost: MicroUsd::ZERO,
        };
        (number, vec![started, ended])
    }
}
