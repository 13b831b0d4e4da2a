//! An append that is ready to be written: encoded, and with nothing borrowed.

use troupe_workflow::{ExecutionId, ExecutionStatus, Snapshot, Timestamp};

use crate::encode::{Blob, EventRow, encode};
use crate::execution::{Append, Brought, Writer};
use crate::record::RecordWrite;

/// Events with what belongs to them, ready to be written.
pub(crate) struct Prepared {
    pub(crate) execution: ExecutionId,
    pub(crate) expected: u64,
    pub(crate) writer: Writer,
    pub(crate) rows: Vec<EventRow>,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) status: ExecutionStatus,
    /// When the last event was recorded.
    pub(crate) at: Timestamp,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) records: Vec<RecordWrite>,
}

impl Prepared {
    pub(crate) fn new(append: Append<'_>) -> Result<Self, serde_json::Error> {
        let (rows, blobs) = encode(append.execution, append.expected, append.events)?;
        let last = append.events.last();
        Ok(Self {
            execution: append.execution,
            expected: append.expected,
            writer: append.writer,
            rows,
            blobs,
            status: append.status,
            at: last.map_or(Timestamp::default(), |event| event.at),
            snapshot: append.snapshot,
            records: append.records,
        })
    }

    /// What somebody from outside brings, after `expected` events.
    pub(crate) fn brought(
        execution: ExecutionId,
        expected: u64,
        brought: Brought,
    ) -> Result<Self, serde_json::Error> {
        Self::new(Append {
            execution,
            expected,
            writer: Writer::Outside,
            events: &brought.events,
            status: brought.status,
            snapshot: None,
            records: brought.records,
        })
    }

    /// The version after it.
    pub(crate) fn version(&self) -> u64 {
        self.rows.last().map_or(self.expected, |row| row.position)
    }

    /// When somebody must look at the execution after it.
    pub(crate) fn due_at(&self) -> Option<Timestamp> {
        match self.writer {
            // It has seen all that was written.
            Writer::Owner(_) => None,
            Writer::Outside => (!self.status.is_terminal()).then_some(self.at),
        }
    }
}
