//! What can go wrong with the journal.

use std::path::PathBuf;

use troupe_workflow::ExecutionId;

/// The journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data folder {path} cannot be used: {source}; choose another with --data")]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the journal {path} cannot be opened: {source}")]
    Database {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(
        "the journal {path} has format {found}, this version of Troupe reads format {known}; use the version that wrote it"
    )]
    Format {
        path: PathBuf,
        found: i64,
        known: i64,
    },
}

/// Events could not be recorded. Nothing of them was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else recorded something meanwhile: read again, decide again.
    #[error("the execution is at event {actual}, not {expected}")]
    Conflict { expected: u64, actual: u64 },
    /// Another process took the execution over: stop working on it.
    #[error("another process owns the execution now")]
    Fenced,
    #[error("there is no execution {0}")]
    NotFound(ExecutionId),
    /// The execution is another living process's.
    #[error("the execution is being worked on by another process ({owner})")]
    Owned { owner: String },
    #[error("the journal cannot be written: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("an event cannot be stored: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("the journal is closed")]
    Closed,
}

impl AppendError {
    /// Whether trying the same again may help: the disk or the lock may be free again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(error) => is_passing(error),
            Self::Conflict { .. }
            | Self::Fenced
            | Self::NotFound(_)
            | Self::Owned { .. }
            | Self::Encode(_)
            | Self::Closed => false,
        }
    }
}

/// The journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no execution {0}; `troupe show` without an id lists them")]
    NotFound(ExecutionId),
    #[error("the journal cannot be read: {0}")]
    Database(#[from] rusqlite::Error),
    /// A row that is not what was written.
    #[error("the journal is damaged: {place}: {message}")]
    Corrupt { place: String, message: String },
    #[error("the journal is closed")]
    Closed,
}

fn is_passing(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
    )
}
