//! The durable record of executions, in one SQLite file.
//!
//! It owns the file, its format, and who may write to an execution. It knows events as documents to keep, not
//! what follows from them.

mod error;
mod fail_point;
mod node;
mod read;
mod schema;
mod sqlite;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the journal does not look at its log before it opens it yet"
    )
)]
mod wal;
mod write;

pub use error::{AppendError, OpenError, ReadError};
pub use fail_point::{FailPoint, FailSide};
pub use node::Node;
pub use read::{ExecutionRow, StoredWorkflow};
pub use sqlite::Journal;
pub use write::{Append, Epoch, NewExecution, Writer};

#[cfg(test)]
mod tests;
