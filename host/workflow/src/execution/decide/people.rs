//! People: whom to ask what, what their answers decide, and what happens when there is none in time.

use serde_json::Value;

use super::super::approval::Decision;
use super::super::frame::Instance;
use super::super::{Command, Execution, OpenQuestion, StepState};
use crate::document::{HumanAgent, OnTimeout};
use crate::duration::Timestamp;
use crate::event::{CallOutcome, EventKind, StepUsage, Usage};
use crate::failure::{Code, Failure};
use crate::ids::Name;
use crate::interpret::check_schema;
use crate::money::MicroUsd;

impl Execution {
    /// The request to those who are asked first. Its deadline counts from the last event, so that replay sees
    /// the same.
    pub(super) fn ask(
        &self,
        at: Instance,
        human: &HumanAgent,
        (agent, input): (&Name, Value),
    ) -> Command {
        Command::Record(EventKind::ApprovalRequested {
            path: self.path(at),
            attempt: self.next_attempt(at),
            agent: agent.as_str().to_owned(),
            input,
            assignees: human.assignees.clone(),
            deadline: human
                .timeout
                .map(|timeout| self.last_event_at.plus(timeout)),
        })
    }

    /// People have decided.
    pub(super) fn decided(&self, at: Instance, state: &StepState) -> Option<Command> {
        let approved = self.verdict(at)?;
        let output = state
            .approval
            .as_deref()?
            .output(Decision::ByPeople { approved });
        Some(self.answered(at, output))
    }

    /// Nobody decided in time.
    pub(super) fn deadline_passes(&self, at: Instance, now: Timestamp) -> Command {
        if let Some(question) = self.question(at) {
            return self.question_expires(at, question);
        }
        let approval = self.step(at).and_then(|state| state.approval.as_deref());
        let (Some(approval), Some(human)) = (approval, self.human(at)) else {
            return self.failed(at, Failure::new(Code::Internal, "nobody was asked"));
        };
        match human.on_timeout {
            OnTimeout::Approve => {
                self.answered(at, approval.output(Decision::ByTime { approved: true }))
            }
            OnTimeout::Reject => {
                self.answered(at, approval.output(Decision::ByTime { approved: false }))
            }
            OnTimeout::Escalate if approval.escalations < human.escalate_to.len() => {
                Command::Record(EventKind::ApprovalEscalated {
                    path: self.path(at),
                    assignees: human.escalate_to[approval.escalations].clone(),
                    deadline: human.timeout.map(|timeout| now.plus(timeout)),
                })
            }
            OnTimeout::Escalate | OnTimeout::Fail => {
                let message = format!(
                    "nobody of {} decided in time; raise `timeout_hours`, or say with `on_timeout` what happens then",
                    approval.assignees.join(", ")
                );
                self.ended(at, Err(Failure::new(Code::ApprovalTimeout, message)))
            }
        }
    }

    /// Nobody answered a component in time, which is an answer too.
    fn question_expires(&self, at: Instance, question: &OpenQuestion) -> Command {
        let state = self.step(at);
        let approval = state.and_then(|state| state.approval.as_deref());
        let output = approval.map_or(Value::Null, |approval| {
            approval.output(Decision::ByTime { approved: false })
        });
        Command::Record(EventKind::CallEnded {
            path: self.path(at),
            attempt: state.map_or(1, |state| state.attempts),
            call: question.call,
            outcome: CallOutcome::Answered(output),
            usage: Usage::default(),
            cost: MicroUsd::ZERO,
        })
    }

    fn answered(&self, at: Instance, output: Value) -> Command {
        let schema = self
            .agent_of(at)
            .and_then(|agent| agent.output_schema.as_ref());
        let problem = schema.and_then(|schema| check_schema(&output, schema).err());
        self.ended(
            at,
            match problem {
                Some(problem) => Err(Failure::new(Code::OutputInvalid, problem.to_string())),
                None => Ok(output),
            },
        )
    }

    fn ended(&self, at: Instance, result: Result<Value, Failure>) -> Command {
        let path = self.path(at);
        let attempt = self.step(at).map_or(1, |state| state.attempts);
        let usage = StepUsage::default();
        Command::Record(match result {
            Ok(output) => EventKind::StepCompleted {
                path,
                attempt,
                output,
                text: None,
                usage,
            },
            Err(failure) => EventKind::StepFailed {
                path,
                attempt,
                failure,
                usage,
            },
        })
    }
}
