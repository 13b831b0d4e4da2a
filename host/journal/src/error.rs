//! What can go wrong with a journal.

use std::path::PathBuf;

use troupe_workflow::ExecutionId;

/// What a database said.
pub type DatabaseError = Box<dyn std::error::Error + Send + Sync>;

/// The journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data folder {path} cannot be used: {source}; choose another with --data")]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the journal {place} cannot be opened: {source}")]
    Database {
        /// The file, or the database's address without its password.
        place: String,
        source: DatabaseError,
    },
    #[error(
        "the journal {place} has format {found}, this version of Troupe reads up to format {known}; use the version that wrote it"
    )]
    Format {
        place: String,
        found: i64,
        known: i64,
    },
    #[error(
        "the journal {place} has the older format {found}; any command that works with it, such as `troupe show`, brings it to format {known}"
    )]
    Older {
        place: String,
        found: i64,
        known: i64,
    },
    /// Processes of the version before would write rows that this one takes for damaged.
    #[error(
        "the journal {place} has the older format {found}, and processes of an older version of Troupe work with it; end them all, and this version brings it to format {known}"
    )]
    InUse {
        place: String,
        found: i64,
        known: i64,
    },
    /// A database that may be meant for something else.
    #[error(
        "there is no journal in {place}; any command that works with one, such as `troupe show`, makes its tables"
    )]
    NoTables { place: String },
    /// The file is not what was written.
    #[error("the journal {place} is damaged: {message}")]
    Damaged { place: String, message: String },
}

/// Something could not be written. Nothing of it was, but for [`AppendError::Unknown`].
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
    #[error("there is an execution {0} already")]
    Exists(ExecutionId),
    /// Only what has ended may be removed.
    #[error("{0} has not ended; cancel it first")]
    NotEnded(ExecutionId),
    /// A record is not at the version that was expected.
    #[error("the {kind} {id} was changed meanwhile")]
    Record { kind: &'static str, id: String },
    /// The database refused it.
    #[error("the journal cannot be written: {source}")]
    Database { retry: Retry, source: DatabaseError },
    /// The answer of the database was lost: the write may have happened. Whoever needs to know reads.
    #[error("nobody knows whether the journal was written: {source}")]
    Unknown { source: DatabaseError },
    #[error("an event cannot be stored: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("the journal is closed")]
    Closed,
}

/// Whether trying the same again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The disk may have room again, the lock may be free, the server may be back.
    Later,
    Never,
}

impl AppendError {
    /// Whether trying the same again may help: the disk or the lock may be free again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database { retry, .. } => *retry == Retry::Later,
            Self::Conflict { .. }
            | Self::Fenced
            | Self::NotFound(_)
            | Self::Owned { .. }
            | Self::Exists(_)
            | Self::NotEnded(_)
            | Self::Record { .. }
            | Self::Unknown { .. }
            | Self::Encode(_)
            | Self::Closed => false,
        }
    }
}

/// A record that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table records, {kind} {id}: {message}")]
pub struct DamagedRecord {
    /// As it lies there, and perhaps what is damaged of it.
    pub kind: String,
    /// The same.
    pub id: String,
    pub message: String,
}

impl From<DamagedRecord> for ReadError {
    fn from(damaged: DamagedRecord) -> Self {
        let DamagedRecord { kind, id, message } = damaged;
        Self::Corrupt {
            place: format!("table records, {kind} {id}"),
            message,
        }
    }
}

impl AppendError {
    /// What a question that had to be asked for a write says of the write: nothing was written.
    pub(crate) fn unread(error: ReadError) -> Self {
        match error {
            ReadError::NotFound(id) => Self::NotFound(id),
            ReadError::Closed => Self::Closed,
            error => Self::Database {
                retry: if error.is_retryable() {
                    Retry::Later
                } else {
                    Retry::Never
                },
                source: error.into(),
            },
        }
    }
}

/// The journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no execution {0}; `troupe show` without an id lists them")]
    NotFound(ExecutionId),
    #[error("there is no workflow document {0}")]
    NoDocument(String),
    #[error("the journal cannot be read: {source}")]
    Database { retry: Retry, source: DatabaseError },
    /// A row that is not what was written.
    #[error("the journal is damaged: {place}: {message}")]
    Corrupt { place: String, message: String },
    #[error("the journal is closed")]
    Closed,
}

impl ReadError {
    /// Whether trying the same again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Database {
                retry: Retry::Later,
                ..
            }
        )
    }
}
