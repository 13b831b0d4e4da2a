//! Asking a person.
//!
//! A person may take days. The host does not keep the agent in memory meanwhile: it drops the instance
//! and, when the answer is there, runs the agent again from its beginning with every recorded answer (of
//! models, searches, tools, memory, people, the budget) given back at once, until it reaches the question.
//! Its clock and its random numbers are the same then. So let nothing between calls depend on anything but
//! the input, the answers, the clock and the random numbers, do nothing that may not happen twice, and use
//! the invocation's idempotency key.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::troupe::agent::human as wit;
use crate::{Error, json};

pub use wit::Answer;

/// What to ask.
#[derive(Debug, Clone)]
pub struct Question(wit::Question);

impl Question {
    /// A question for one person or group, for example `moderation-team@example.com`.
    pub fn new(assignee: impl Into<String>, message: impl Into<String>) -> Question {
        Question(wit::Question {
            assignees: vec![assignee.into()],
            message: message.into(),
            context: None,
            form: None,
            deadline_ms: None,
        })
    }

    /// One more who may answer.
    #[must_use]
    pub fn assignee(mut self, assignee: impl Into<String>) -> Question {
        self.0.assignees.push(assignee.into());
        self
    }

    /// What the person needs to decide.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it cannot be written as JSON.
    pub fn context(mut self, context: &impl Serialize) -> Result<Question, Error> {
        self.0.context = Some(json::write("the context of a question", context)?);
        Ok(self)
    }

    /// The JSON schema of a form to fill in; read it with [`Answer::form`].
    #[must_use]
    pub fn form(mut self, schema: &Value) -> Question {
        self.0.form = Some(schema.to_string());
        self
    }

    /// How long to wait; without it, for ever.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Question {
        self.0.deadline_ms = Some(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Asks, and waits for the answer. A rejection is an answer, not an error.
    ///
    /// # Errors
    /// The host's, see [`Error`].
    pub fn ask(self) -> Result<Answer, Error> {
        wit::ask(&self.0).map_err(Error::from_wit)
    }
}

impl Answer {
    /// Reads the form that was filled in; none: there was no form, or no answer.
    ///
    /// # Errors
    /// [`Error::Unexpected`] where it has another shape.
    pub fn form<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        self.data
            .as_deref()
            .map(|data| json::read("the filled-in form", data))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_question_keeps_what_it_is_given() {
        let question = Question::new("ada@example.com", "May this be published?")
            .assignee("editors")
            .deadline(Duration::from_secs(3600))
            .context(&json!({"title": "Bees"}))
            .expect("it is JSON");
        assert_eq!(question.0.assignees, ["ada@example.com", "editors"]);
        assert_eq!(question.0.deadline_ms, Some(3_600_000));
        assert_eq!(question.0.context.as_deref(), Some(r#"{"title":"Bees"}"#));
    }
}
