//! What people's answers mean, and which answers are taken.

use serde_json::{Value, json};

use super::frame::Instance;
use super::{Approval, Execution, OpenQuestion};
use crate::depth::check_depth;
use crate::document::{Agent, AgentKind, HumanAgent};
use crate::duration::Timestamp;
use crate::event::{Answer, EventKind, Question};
use crate::ids::StepPath;
use crate::interpret::check_schema;

/// Protects the journal from notes as long as books.
const NOTES_BYTES_MAX: usize = 64 * 1024;
/// Protects the journal from forms filled without end.
const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Who answers has a name that fits into a line.
const BY_BYTES_MAX: usize = 256;

/// What has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    ByPeople { approved: bool },
    ByTime { approved: bool },
}

/// An answer that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("nobody is asked anything now; the execution is {status}")]
    NobodyAsked { status: &'static str },
    #[error("several answers are awaited: name the step, one of {}", .steps.join(", "))]
    Several { steps: Vec<String> },
    #[error("nobody is asked about `{step}` now{}", hint(.waiting))]
    NotAsked {
        step: StepPath,
        waiting: Vec<String>,
    },
    #[error("{by} has answered already; {missing} more of other persons are needed")]
    AnsweredAlready { by: String, missing: usize },
    #[error(
        "the time to answer `{step}` was up at {deadline}; `troupe recover` does what is to happen then"
    )]
    TooLate { step: StepPath, deadline: Timestamp },
    #[error("the answer is not right: {message}")]
    Invalid { message: String },
}

fn hint(waiting: &[String]) -> String {
    if waiting.is_empty() {
        String::new()
    } else {
        format!("; awaited are {}", waiting.join(", "))
    }
}

impl Execution {
    /// The event of a person's answer; without a step, of the one that is awaited.
    ///
    /// # Errors
    /// Why the answer is not taken; nothing changes then.
    pub fn answer(
        &self,
        step: Option<&str>,
        answer: Answer,
        now: Timestamp,
    ) -> Result<EventKind, AnswerError> {
        let at = self.awaited(step)?;
        let answer = Answer {
            by: answer.by.trim().to_owned(),
            ..answer
        };
        let invalid = |message: String| AnswerError::Invalid { message };
        if answer.by.is_empty() || answer.by.len() > BY_BYTES_MAX {
            return Err(invalid(format!(
                "say who answers, in at most {BY_BYTES_MAX} bytes"
            )));
        }
        if answer
            .notes
            .as_ref()
            .is_some_and(|notes| notes.len() > NOTES_BYTES_MAX)
        {
            return Err(invalid(format!(
                "notes have at most {NOTES_BYTES_MAX} bytes"
            )));
        }
        if let Some(data) = &answer.data {
            check_depth(data).map_err(invalid)?;
            if crate::template::size(data) > DATA_BYTES_MAX {
                return Err(invalid(format!(
                    "`data` has at most {DATA_BYTES_MAX} bytes"
                )));
            }
        }
        let approval = self.step(at).and_then(|state| state.approval.as_deref());
        if let Some(deadline) = approval.and_then(|approval| approval.deadline)
            && deadline <= self.deadlines_seen(now)
        {
            let step = self.path(at);
            return Err(AnswerError::TooLate { step, deadline });
        }
        let human = self.human(at);
        if let (Some(approval), Some(human)) = (approval, human)
            && approval.answers.iter().any(|known| known.by == answer.by)
        {
            let needed = usize::try_from(human.approvals_required).unwrap_or(usize::MAX);
            return Err(AnswerError::AnsweredAlready {
                by: answer.by,
                missing: needed.saturating_sub(approval.answers.len()),
            });
        }
        check_form(self.form(at), &answer).map_err(invalid)?;
        Ok(EventKind::ApprovalGiven {
            path: self.path(at),
            answer,
        })
    }

    /// The step that an answer is for.
    fn awaited(&self, step: Option<&str>) -> Result<Instance, AnswerError> {
        let open: Vec<Instance> = self
            .approvals
            .iter()
            .copied()
            .filter(|at| !self.ready.contains(at))
            .collect();
        let paths = || open.iter().map(|at| self.path(*at).to_string()).collect();
        match (step, open.as_slice()) {
            (None, []) => Err(AnswerError::NobodyAsked {
                status: self.status().as_str(),
            }),
            (None, [only]) => Ok(*only),
            (None, _) => Err(AnswerError::Several { steps: paths() }),
            (Some(name), _) => {
                // By its path, else by the name under which people know it.
                let by_path = open.iter().find(|at| self.path(**at).as_str() == name);
                let mut by_name = open
                    .iter()
                    .filter(|at| self.definition_of(at.frame).shown_name(at.node) == name);
                match (by_path, by_name.next(), by_name.next()) {
                    (Some(at), ..) | (None, Some(at), None) => Ok(*at),
                    (None, Some(_), Some(_)) => Err(AnswerError::Several { steps: paths() }),
                    (None, None, _) => Err(AnswerError::NotAsked {
                        step: StepPath::new(name),
                        waiting: paths(),
                    }),
                }
            }
        }
    }

    /// The agent that does a step now.
    pub(super) fn agent_of(&self, at: Instance) -> Option<&Agent> {
        let role = self.step(at).map_or(super::Role::Primary, |step| step.role);
        let name = self.node(at).agent_in(role)?;
        self.definition_of(at.frame).agent(name.as_str())
    }

    pub(super) fn human(&self, at: Instance) -> Option<&HumanAgent> {
        match &self.agent_of(at)?.kind {
            AgentKind::Human(human) => Some(human),
            AgentKind::Llm(_) | AgentKind::Code(_) | AgentKind::Search(_) | AgentKind::Tool(_) => {
                None
            }
        }
    }

    /// What a component that does a step asks people now.
    pub(super) fn question(&self, at: Instance) -> Option<&OpenQuestion> {
        self.step(at)?.approval.as_deref()?.question.as_ref()
    }

    /// JSON schema of what an approval of a step brings.
    pub(super) fn form(&self, at: Instance) -> Option<&Value> {
        match self.question(at) {
            Some(open) => open.question.form.as_ref(),
            None => self.human(at)?.form.as_ref(),
        }
    }

    /// Whether a step is code's, which keeps to the record of its own run.
    pub(super) fn is_guest(&self, at: Instance) -> bool {
        self.agent_of(at)
            .is_some_and(|agent| matches!(agent.kind, AgentKind::Code(_)))
    }

    /// What a step's answers have decided; none: more are needed.
    pub(super) fn verdict(&self, at: Instance) -> Option<bool> {
        let approval = self.step(at)?.approval.as_deref()?;
        let needed = usize::try_from(self.human(at)?.approvals_required).unwrap_or(usize::MAX);
        if approval.answers.iter().any(|answer| !answer.approved) {
            return Some(false);
        }
        (approval.answers.len() >= needed).then_some(true)
    }
}

fn check_form(form: Option<&Value>, answer: &Answer) -> Result<(), String> {
    let Some(form) = form else {
        return Ok(());
    };
    let nothing = json!({});
    let data = match (&answer.data, answer.approved) {
        (Some(data), _) => data,
        (None, true) => &nothing,
        (None, false) => return Ok(()),
    };
    check_schema(data, form).map_err(|problem| format!("`data` does not fit the form: {problem}"))
}

impl Question {
    /// What people are shown: the message, with the context where there is any.
    pub(super) fn shown(&self) -> Value {
        match &self.context {
            None => json!(self.message),
            Some(context) => json!({ "message": self.message, "context": context }),
        }
    }
}

impl Approval {
    /// What is asked, where it is a text.
    pub(super) fn message(&self) -> Option<&str> {
        match &self.question {
            Some(open) => Some(&open.question.message),
            None => self.input.as_str(),
        }
    }

    /// What they need to decide.
    pub(super) fn context(&self) -> &Value {
        let question = self.question.as_ref();
        question
            .and_then(|open| open.question.context.as_ref())
            .unwrap_or(&self.input)
    }

    /// The value of a step that people have decided, or that time has.
    pub(super) fn output(&self, decision: Decision) -> Value {
        let (approved, timed_out) = match decision {
            Decision::ByPeople { approved } => (approved, false),
            Decision::ByTime { approved } => (approved, true),
        };
        let last = self.answers.last().filter(|_| !timed_out);
        json!({
            "approved": approved,
            "approved_by": last.map(|answer| &answer.by),
            "notes": last.and_then(|answer| answer.notes.as_ref()),
            "data": last.and_then(|answer| answer.data.as_ref()),
            "timed_out": timed_out,
            "answers": self.answers,
        })
    }
}
