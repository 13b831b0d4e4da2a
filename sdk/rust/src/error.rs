//! Why the host did not do what an agent asked.

use std::time::Duration;

use crate::bindings::troupe::agent::types as wit;

/// Why a call of the host has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The capability, or this use of it, was not granted. Asking again will not help.
    #[error("{capability} is not granted: {message}")]
    Denied {
        /// For example `llm` or `search`.
        capability: String,
        /// What was asked for, and what the operator or the workflow's author would write to allow it.
        message: String,
    },
    /// A budget has nothing left for this call. The call was not made.
    #[error("the budget of {0} is spent")]
    BudgetSpent(BudgetKind),
    /// The request was wrong.
    #[error("the request was refused: {0}")]
    Invalid(String),
    /// There is no such model, source, tool, step or key.
    #[error("not found: {0}")]
    NotFound(String),
    /// The service asks to wait.
    #[error("the service asks to wait{}", after(.retry_after))]
    RateLimited {
        /// For how long, where it said.
        retry_after: Option<Duration>,
    },
    /// The service cannot be reached, or failed.
    #[error("the service is not available: {0}")]
    Unavailable(String),
    /// No answer came in time.
    #[error("no answer came in time")]
    TimedOut,
    /// The execution is being cancelled; return.
    #[error("the execution is being cancelled")]
    Cancelled,
    /// The host stopped in the middle of this call and does not know how it ended.
    #[error("the host stopped in the middle of this call and does not know how it ended")]
    Interrupted,
    /// An answer came, and it is not what the agent reads it as.
    #[error("{what} is not what was expected: {reason}")]
    Unexpected {
        /// For example `the model's answer`.
        what: String,
        /// For example ``missing field `claims` ``.
        reason: String,
    },
}

/// The budgets an agent can run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetKind {
    /// Money, from the workflow's `budget_usd` or the agent's share of it.
    Usd,
    /// Model tokens.
    Tokens,
    /// Calls of the host, from the agent's `limits.host_calls`.
    HostCalls,
}

impl std::fmt::Display for BudgetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BudgetKind::Usd => "money",
            BudgetKind::Tokens => "tokens",
            BudgetKind::HostCalls => "host calls",
        })
    }
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::RateLimited { .. }
            | Error::Unavailable(_)
            | Error::TimedOut
            | Error::Interrupted => true,
            Error::Denied { .. }
            | Error::BudgetSpent(_)
            | Error::Invalid(_)
            | Error::NotFound(_)
            | Error::Cancelled
            | Error::Unexpected { .. } => false,
        }
    }

    pub(crate) fn from_wit(error: wit::Error) -> Error {
        match error {
            wit::Error::Denied(denial) => Error::Denied {
                capability: denial.capability,
                message: denial.message,
            },
            wit::Error::BudgetSpent(wit::BudgetKind::Usd) => Error::BudgetSpent(BudgetKind::Usd),
            wit::Error::BudgetSpent(wit::BudgetKind::Tokens) => {
                Error::BudgetSpent(BudgetKind::Tokens)
            }
            wit::Error::BudgetSpent(wit::BudgetKind::HostCalls) => {
                Error::BudgetSpent(BudgetKind::HostCalls)
            }
            wit::Error::Invalid(detail) => Error::Invalid(detail),
            wit::Error::NotFound(what) => Error::NotFound(what),
            wit::Error::RateLimited(after) => Error::RateLimited {
                retry_after: after.map(Duration::from_millis),
            },
            wit::Error::Unavailable(detail) => Error::Unavailable(detail),
            wit::Error::TimedOut => Error::TimedOut,
            wit::Error::Cancelled => Error::Cancelled,
            wit::Error::Interrupted => Error::Interrupted,
        }
    }
}

fn after(retry_after: &Option<Duration>) -> String {
    retry_after
        .map(|wait| format!(" {} ms", wait.as_millis()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_transient() {
        let transient = [
            wit::Error::RateLimited(Some(1500)),
            wit::Error::Unavailable("502".into()),
            wit::Error::TimedOut,
            wit::Error::Interrupted,
        ];
        assert!(
            transient
                .into_iter()
                .all(|error| Error::from_wit(error).is_transient())
        );
        let lasting = [
            wit::Error::BudgetSpent(wit::BudgetKind::Usd),
            wit::Error::Invalid("no messages".into()),
            wit::Error::NotFound("gpt-9".into()),
            wit::Error::Cancelled,
        ];
        assert!(
            !lasting
                .into_iter()
                .any(|error| Error::from_wit(error).is_transient())
        );
    }

    #[test]
    fn messages_say_what_to_do() {
        let denial = wit::Denial {
            capability: "llm".into(),
            message: "add `llm` to the agent's grants".into(),
        };
        let text = Error::from_wit(wit::Error::Denied(denial)).to_string();
        assert_eq!(text, "llm is not granted: add `llm` to the agent's grants");
        let waiting = Error::from_wit(wit::Error::RateLimited(Some(1500)));
        assert_eq!(waiting.to_string(), "the service asks to wait 1500 ms");
    }
}
