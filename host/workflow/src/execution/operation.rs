//! What people do with a whole execution: they pause it, let it go on, and try it again.

use serde::{Deserialize, Serialize};

use super::{Execution, ExecutionStatus};
use crate::duration::Timestamp;
use crate::event::EventKind;

/// Who does something has a name that fits into a line.
const BY_BYTES_MAX: usize = 256;
/// Protects the journal from reasons as long as books.
const REASON_BYTES_MAX: usize = 64 * 1024;

/// Somebody wanted nothing new to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub by: Option<String>,
    pub reason: Option<String>,
    pub since: Timestamp,
}

/// Something that cannot be done with an execution as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    #[error("it is {status} already")]
    HasEnded { status: &'static str },
    #[error("it is to end already")]
    IsCancelling,
    #[error("it is paused already{}", named(.by.as_deref()))]
    IsPaused { by: Option<String> },
    #[error("nobody has paused it, it is {status}")]
    NotPaused { status: &'static str },
    #[error("only what has failed is tried again; it is {status}")]
    NotFailed { status: &'static str },
    #[error("{message}")]
    Invalid { message: String },
}

fn named(by: Option<&str>) -> String {
    by.map_or_else(String::new, |by| format!(", by {by}"))
}

impl Execution {
    /// Who paused it, since when and why; none: nobody did.
    pub fn paused(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// The event of somebody's wish that nothing new begins: no step, no question to people, no round, no retry, no
    /// end of a timer, a deadline or the execution. What runs goes on to its end and is recorded.
    ///
    /// # Errors
    /// It is paused already, has ended or is to end.
    pub fn pause(
        &self,
        by: Option<&str>,
        reason: Option<&str>,
    ) -> Result<EventKind, OperationError> {
        self.check_open()?;
        if let Some(pause) = &self.pause {
            return Err(OperationError::IsPaused {
                by: pause.by.clone(),
            });
        }
        Ok(EventKind::PauseRequested {
            by: check_by(by)?,
            reason: check_text(reason, ("a reason", REASON_BYTES_MAX))?,
        })
    }

    /// The event that ends a pause that somebody wished for; what fell due meanwhile happens at once.
    ///
    /// # Errors
    /// Nobody paused it, or it has ended or is to end.
    pub fn end_pause(&self, by: Option<&str>) -> Result<EventKind, OperationError> {
        self.check_open()?;
        if self.pause.is_none() {
            return Err(OperationError::NotPaused {
                status: self.status().as_str(),
            });
        }
        Ok(EventKind::PauseEnded { by: check_by(by)? })
    }

    /// Whether it can be tried again.
    ///
    /// # Errors
    /// It has not failed.
    pub fn check_retry(&self) -> Result<(), OperationError> {
        let status = self.status();
        if status != ExecutionStatus::Failed {
            let status = status.as_str();
            return Err(OperationError::NotFailed { status });
        }
        Ok(())
    }

    /// The event of somebody's wish that a failed execution is tried again. Steps that were completed are kept, all
    /// others begin anew; what was spent stays spent, and the time limit counts from then on.
    ///
    /// # Errors
    /// It has not failed.
    pub fn retry(&self, by: Option<&str>) -> Result<EventKind, OperationError> {
        self.check_retry()?;
        Ok(EventKind::ExecutionRetried { by: check_by(by)? })
    }

    fn check_open(&self) -> Result<(), OperationError> {
        let status = self.status();
        if status.is_terminal() {
            let status = status.as_str();
            return Err(OperationError::HasEnded { status });
        }
        if self.is_cancelling {
            return Err(OperationError::IsCancelling);
        }
        Ok(())
    }

    /// Until when deadlines take effect: a pause holds those that come while it lasts.
    pub(super) fn deadlines_seen(&self, now: Timestamp) -> Timestamp {
        self.pause.as_ref().map_or(now, |pause| pause.since)
    }
}

fn check_by(by: Option<&str>) -> Result<Option<String>, OperationError> {
    check_text(by, ("a name", BY_BYTES_MAX))
}

/// A text without the spaces around it; one that is empty counts as none.
fn check_text(
    text: Option<&str>,
    (what, bytes_max): (&str, usize),
) -> Result<Option<String>, OperationError> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    match text {
        Some(text) if text.len() > bytes_max => Err(OperationError::Invalid {
            message: format!("{what} has at most {bytes_max} bytes"),
        }),
        text => Ok(text.map(str::to_owned)),
    }
}
