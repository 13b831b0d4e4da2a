//! What goes wrong between this process and the server, and what it means for a call.

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::error::{AppendError, DatabaseError, ReadError, Retry};

/// Why a transaction, or a question, came to nothing.
#[derive(Debug)]
pub(super) enum Fault<E> {
    /// The journal refuses it: the same again would be refused again.
    Refused(E),
    /// The server, or the way to it. Nothing was written.
    Database(sqlx::Error),
    /// Others were in the way, and it can be done again at once.
    Again(&'static str),
    /// No answer came in time. Nothing was written.
    Silence(Duration),
    /// Its commit was sent, and no answer came.
    Unknown(DatabaseError),
}

impl<E> From<sqlx::Error> for Fault<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl<E> Fault<E> {
    /// Whether the same may be done again at once: it left nothing, and its reason has probably passed.
    pub(super) fn may_repeat(&self) -> bool {
        match self {
            Self::Database(error) => is_lost(error) || was_in_the_way(error),
            Self::Again(_) => true,
            Self::Refused(_) | Self::Silence(_) | Self::Unknown(_) => false,
        }
    }

    /// Whether the connection is of no use any more.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Database(error) => is_lost(error),
            Self::Silence(_) | Self::Unknown(_) => true,
            Self::Refused(_) | Self::Again(_) => false,
        }
    }

    /// The same, where a question was asked for something else that is refused in other words.
    pub(super) fn refusing<F>(self, refused: impl FnOnce(E) -> F) -> Fault<F> {
        match self {
            Self::Refused(error) => Fault::Refused(refused(error)),
            Self::Database(error) => Fault::Database(error),
            Self::Again(reason) => Fault::Again(reason),
            Self::Silence(after) => Fault::Silence(after),
            Self::Unknown(source) => Fault::Unknown(source),
        }
    }

    fn into_database(self, refused: impl FnOnce(E) -> DatabaseError) -> (Retry, DatabaseError) {
        match self {
            Self::Database(error) => (retry_of(&error), said(error)),
            Self::Again(reason) => (Retry::Later, reason.into()),
            Self::Silence(after) => {
                let text = format!("the database did not answer within {} s", after.as_secs());
                (Retry::Later, text.into())
            }
            Self::Unknown(source) => (Retry::Later, source),
            Self::Refused(error) => (Retry::Never, refused(error)),
        }
    }
}

impl From<Fault<AppendError>> for AppendError {
    fn from(fault: Fault<AppendError>) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Unknown(source) => Self::Unknown { source },
            other => {
                let (retry, source) = other.into_database(Into::into);
                Self::Database { retry, source }
            }
        }
    }
}

impl From<Fault<ReadError>> for ReadError {
    fn from(fault: Fault<ReadError>) -> Self {
        match fault {
            Fault::Refused(error) => error,
            other => {
                let (retry, source) = other.into_database(Into::into);
                Self::Database { retry, source }
            }
        }
    }
}

/// What the server said, in our words where its own would not help.
fn said(error: sqlx::Error) -> DatabaseError {
    /// Bytes that are no text of the server's.
    const NO_TEXT: &str = "22021";
    match postgres(&error).map(PgDatabaseError::code) {
        Some(NO_TEXT) => "a name or an id holds a U+0000, which PostgreSQL does not store".into(),
        _ => error.into(),
    }
}

/// What a failed commit means: the server says so where it undid the transaction; whatever else happens, it may
/// have been done.
pub(super) fn uncommitted<E>(error: sqlx::Error) -> Fault<E> {
    match postgres(&error).map(PgDatabaseError::severity) {
        Some(PgSeverity::Error) => Fault::Database(error),
        _ => Fault::Unknown(error.into()),
    }
}

fn postgres(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Whether the connection was lost, or could not be made.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match postgres(error) {
        Some(error) => error.severity() != PgSeverity::Error,
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolClosed
                | sqlx::Error::BeginFailed
                | sqlx::Error::WorkerCrashed
        ),
    }
}

/// Whether other transactions were in the way: a deadlock, an order that cannot be, or a value that was removed
/// between the moment it was found to be there and the moment it was referred to.
fn was_in_the_way(error: &sqlx::Error) -> bool {
    let codes = ["40001", "40P01", "23503"];
    postgres(error).is_some_and(|error| codes.contains(&error.code()))
}

/// Whether trying the same later may help.
fn retry_of(error: &sqlx::Error) -> Retry {
    /// Classes of errors that pass: connections, rolled back transactions, resources, an operator's doing, the system's.
    const CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];
    /// A lock that was held for too long; a standby, which becomes the server or is replaced by it; a value that others
    /// went on removing.
    const CODES: [&str; 3] = ["55P03", "25006", "23503"];
    let passes = match postgres(error) {
        Some(error) => {
            let code = error.code();
            CODES.contains(&code) || CLASSES.iter().any(|class| code.starts_with(class))
        }
        None => is_lost(error) || matches!(error, sqlx::Error::PoolTimedOut),
    };
    if passes { Retry::Later } else { Retry::Never }
}
