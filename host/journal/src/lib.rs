//! The durable record of executions, and the queue of those that are due.
//!
//! It owns the database, its format, and who may write to an execution. It knows events as documents to keep, not
//! what follows from them.

mod checksum;
mod encode;
mod error;
mod execution;
mod fail_point;
mod journal;
mod memory;
mod postgres;
mod prepared;
mod record;
mod sound;
mod sqlite;
mod wal;

use std::time::Duration;

pub use error::{AppendError, DamagedRecord, DatabaseError, OpenError, ReadError, Retry};
pub use execution::{
    Append, Archive, Beat, Brought, Claim, Claimed, Decide, Epoch, ExecutionRow, FirstOwner,
    Listing, NewExecution, Order, Release, Stored, WorkflowVersion, Writer,
};
pub use fail_point::{Delivery, FailPoint, FailSide, Pass};
pub use journal::{AllRecords, Journal, Reading, Writing};
pub use memory::MemoryJournal;
pub use postgres::PostgresJournal;
pub use record::{Document, Record, RecordListing, RecordWrite};
pub use sqlite::{SqliteJournal, measure_commits};

/// How often a process that works on executions gives a sign of life.
pub const BEAT_EVERY: Duration = Duration::from_secs(3);
