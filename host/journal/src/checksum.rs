//! Checksums of rows that are no events: of a record, and of what never changes of an execution's row.
//!
//! What does change of an execution's row (status, version, owner, times) has none: it follows from the events, or is
//! each journal's own.

use troupe_workflow::{ExecutionId, Snapshot, Timestamp};

use crate::error::{DamagedRecord, ReadError};
use crate::execution::{ExecutionRow, WorkflowVersion};
use crate::record::Record;

const DOES_NOT_FIT: &str = "its checksum does not fit";

/// The checksum of a record as it will be read.
pub(crate) fn of_record(record: &Record) -> u32 {
    let due_at = record.due_at.map(Timestamp::as_millis);
    Parts::default()
        .text(&record.kind)
        .text(&record.id)
        .number(i64::try_from(record.version).unwrap_or(i64::MAX))
        .optional(due_at)
        .text(&record.body)
        .end()
}

/// A record, if it fits the checksum that was stored with it.
pub(crate) fn check_record(record: Record, checksum: i64) -> Result<Record, DamagedRecord> {
    if i64::from(of_record(&record)) == checksum {
        return Ok(record);
    }
    Err(DamagedRecord {
        kind: record.kind,
        id: record.id,
        message: DOES_NOT_FIT.to_owned(),
    })
}

/// What never changes of an execution's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed<'a> {
    pub(crate) id: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) workflow: Option<&'a WorkflowVersion>,
    pub(crate) settings: &'a str,
    pub(crate) created_at: Timestamp,
}

impl Fixed<'_> {
    pub(crate) fn checksum(&self) -> u32 {
        let version = self.workflow.map(|workflow| i64::from(workflow.version));
        Parts::default()
            .text(self.id)
            .text(self.digest)
            .text(self.workflow.map_or("", |workflow| &workflow.id))
            .optional(version)
            .text(self.settings)
            .number(self.created_at.as_millis())
            .end()
    }

    /// Whether a row is what was written.
    pub(crate) fn check(&self, checksum: i64) -> Result<(), ReadError> {
        if i64::from(self.checksum()) == checksum {
            return Ok(());
        }
        Err(ReadError::Corrupt {
            place: format!("the row of {}", self.id),
            message: DOES_NOT_FIT.to_owned(),
        })
    }
}

impl ExecutionRow {
    /// The checksum of what never changes of it.
    pub(crate) fn checksum(&self) -> u32 {
        let fixed = Fixed {
            id: &self.id.to_string(),
            digest: self.digest.as_str(),
            workflow: self.workflow.as_ref(),
            settings: &self.settings,
            created_at: self.created_at,
        };
        fixed.checksum()
    }
}

/// The checksum of any other text that is stored.
pub(crate) fn of_text(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

/// The snapshot of a row, if it fits its checksum.
pub(crate) fn check_snapshot(
    id: ExecutionId,
    snapshot: Snapshot,
    checksum: i64,
) -> Result<Snapshot, ReadError> {
    if i64::from(of_text(&snapshot.state)) == checksum {
        return Ok(snapshot);
    }
    Err(ReadError::Corrupt {
        place: format!("the snapshot of {id}"),
        message: format!("{DOES_NOT_FIT}; the events are gone by instead"),
    })
}

/// The parts of a row, one after another: each text behind its length, so that nothing moves from one to the next
/// unseen.
#[derive(Default)]
struct Parts(crc32fast::Hasher);

impl Parts {
    fn text(mut self, text: &str) -> Self {
        self.0
            .update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    fn number(mut self, number: i64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn optional(mut self, number: Option<i64>) -> Self {
        self.0.update(&[u8::from(number.is_some())]);
        self.number(number.unwrap_or_default())
    }

    fn end(self) -> u32 {
        self.0.finalize()
    }
}
