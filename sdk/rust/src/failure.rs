//! How an agent says that it could not do what it was asked.

use serde_json::Value;

use crate::bindings::troupe::agent::types as wit;

/// Why an agent has no output.
///
/// Any error becomes one through `?`. It is no [`std::error::Error`] itself, for that would forbid this
/// conversion; use [`Failure::message`] to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    transient: bool,
    details: Option<Value>,
}

impl Failure {
    /// A failure that trying again will not change. The message is for a person: what went wrong, and
    /// what would help.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            transient: false,
            details: None,
        }
    }

    /// A failure that may pass; the workflow's retry rules decide whether the step is tried again.
    pub fn transient(message: impl Into<String>) -> Failure {
        Failure {
            transient: true,
            ..Failure::new(message)
        }
    }

    /// Adds what a program could use, for example `json!({"missing": ["total"]})`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Failure {
        self.details = Some(details);
        self
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// What a program could use.
    pub fn details(&self) -> Option<&Value> {
        self.details.as_ref()
    }

    pub(crate) fn into_wit(self) -> wit::Failure {
        wit::Failure {
            message: self.message,
            transient: self.transient,
            details: self.details.map(|details| details.to_string()),
        }
    }
}

/// The message is the error's with those of its sources; it is transient where one of them is an
/// [`Error`](crate::Error) that is.
impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let first: &(dyn std::error::Error + 'static) = &error;
        let chain = std::iter::successors(Some(first), |error| error.source());
        let mut failure = Failure::new("");
        for error in chain {
            let text = error.to_string();
            // Some errors repeat their source in their own text.
            if !failure.message.contains(&text) {
                if !failure.message.is_empty() {
                    failure.message.push_str(": ");
                }
                failure.message.push_str(&text);
            }
            failure.transient |= error
                .downcast_ref::<crate::Error>()
                .is_some_and(crate::Error::is_transient);
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use serde_json::json;

    #[derive(Debug, thiserror::Error)]
    #[error("the summary could not be made")]
    struct Wrapped(#[source] Error);

    #[test]
    fn an_error_keeps_its_causes_and_its_transience() {
        let failure = Failure::from(Wrapped(Error::TimedOut));
        assert_eq!(
            failure.message(),
            "the summary could not be made: no answer came in time"
        );
        assert!(failure.is_transient());
        assert!(!Failure::from(Wrapped(Error::Cancelled)).is_transient());
        assert!(!Failure::from(std::fmt::Error).is_transient());
    }

    #[test]
    fn details_are_handed_over_as_json() {
        let failure = Failure::transient("later")
            .with_details(json!({"missing": ["total"]}))
            .into_wit();
        assert_eq!(failure.details.as_deref(), Some(r#"{"missing":["total"]}"#));
        assert!(failure.transient);
    }
}
