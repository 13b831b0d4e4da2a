//! Questions to people, between the guest's words and the journal's.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use troupe_sandbox::{Error, human};

use super::parse_json;
use crate::driver::AskedQuestion;
use crate::replay::Place;

/// Protects the journal, and those who are asked, from questions as long as books.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Protects the journal from contexts without end.
const CONTEXT_BYTES_MAX: usize = 1 << 20;
/// A form is checked with each answer; protects the host from one that takes long.
const FORM_BYTES_MAX: usize = 64 << 10;
/// Protects the list of those who are asked from being as long as the question.
const ASSIGNEES_MAX: usize = 100;
/// Who is asked has a name that fits into a line.
const ASSIGNEE_BYTES_MAX: usize = 256;
/// Ten years, as for deadlines in a workflow.
const DEADLINE_MAX: Duration = Duration::from_secs(60 * 60 * 24 * 366 * 10);

/// A question that may be put to people.
pub(super) struct Readable {
    assignees: Vec<String>,
    message: String,
    context: Option<Value>,
    form: Option<Value>,
    answer_within: Option<Duration>,
}

/// Reads what a guest wants to ask; the grant is checked already.
pub(super) fn read(question: human::Question) -> Result<Readable, Error> {
    let invalid = |message: String| Err(Error::Invalid(message));
    let is_name = |who: &String| !who.trim().is_empty() && who.len() <= ASSIGNEE_BYTES_MAX;
    let count = question.assignees.len();
    if count == 0 || count > ASSIGNEES_MAX || !question.assignees.iter().all(is_name) {
        return invalid(format!(
            "a question goes to 1 to {ASSIGNEES_MAX} assignees with names of at most {ASSIGNEE_BYTES_MAX} bytes"
        ));
    }
    let message = question.message;
    if message.trim().is_empty() || message.len() > MESSAGE_BYTES_MAX {
        return invalid(format!(
            "a question has a message of at most {MESSAGE_BYTES_MAX} bytes"
        ));
    }
    let context = parse(question.context, "the context", CONTEXT_BYTES_MAX)?;
    let form = parse(question.form, "the form", FORM_BYTES_MAX)?;
    if let Some(form) = &form {
        troupe_workflow::check_is_schema(form)
            .map_err(|problem| Error::Invalid(format!("the form: {problem}")))?;
    }
    let answer_within = question.deadline_ms.map(Duration::from_millis);
    if answer_within.is_some_and(|within| within > DEADLINE_MAX) {
        return invalid("a deadline is at most ten years away".to_owned());
    }
    Ok(Readable {
        assignees: question.assignees,
        message,
        context,
        form,
        answer_within,
    })
}

fn parse(text: Option<String>, what: &str, bytes_max: usize) -> Result<Option<Value>, Error> {
    let Some(text) = text else {
        return Ok(None);
    };
    if text.len() > bytes_max {
        let message = format!("{what} has at most {bytes_max} bytes");
        return Err(Error::Invalid(message));
    }
    let value = parse_json(&text, what)?;
    troupe_workflow::check_depth(&value)
        .map_err(|problem| Error::Invalid(format!("{what}: {problem}")))?;
    Ok(Some(value))
}

impl Readable {
    /// The same, as the end of an attempt that asks it.
    pub(super) fn asked_at(self, place: Place) -> AskedQuestion {
        AskedQuestion {
            position: place.position,
            request: place.request,
            assignees: self.assignees,
            message: self.message,
            context: self.context,
            form: self.form,
            answer_within: self.answer_within,
        }
    }
}

/// An answer as the journal keeps it.
#[derive(Deserialize)]
pub(super) struct Recorded {
    approved: bool,
    approved_by: Option<String>,
    notes: Option<String>,
    data: Option<Value>,
    timed_out: bool,
}

impl From<Recorded> for human::Answer {
    fn from(recorded: Recorded) -> Self {
        Self {
            approved: recorded.approved,
            approved_by: recorded.approved_by,
            notes: recorded.notes,
            data: recorded.data.map(|data| data.to_string()),
            timed_out: recorded.timed_out,
        }
    }
}
