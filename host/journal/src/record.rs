//! What is kept beside executions: stored workflows, schedules, idempotency keys, agents' memory. A journal knows these only as
//! small documents with a version and a time at which they fall due; what they mean is their user's.

use troupe_workflow::{Timestamp, WorkflowDigest};

/// A workflow document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub digest: WorkflowDigest,
    /// The workflow's name.
    pub name: String,
    /// Compact JSON.
    pub text: String,
}

/// A small document that its user finds by kind and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub kind: String,
    pub id: String,
    /// Counts the writes since it was made, from 1.
    pub version: u64,
    /// When somebody must look at it, if ever.
    pub due_at: Option<Timestamp>,
    /// JSON.
    pub body: String,
}

/// A record that is to be made, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordWrite {
    /// A word for all records of one meaning, `schedule` for instance.
    pub kind: &'static str,
    pub id: String,
    /// The version that the writer has seen; 0: there is none.
    pub expected: u64,
    pub due_at: Option<Timestamp>,
    /// None: it is removed.
    pub body: Option<String>,
}

impl RecordWrite {
    /// The record as it is after the write; none: it is removed.
    pub(crate) fn written(&self) -> Option<Record> {
        Some(Record {
            kind: self.kind.to_owned(),
            id: self.id.clone(),
            version: self.expected.saturating_add(1),
            due_at: self.due_at,
            body: self.body.clone()?,
        })
    }
}

/// Which records are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordListing {
    pub kind: &'static str,
    /// Only those that are due at this time, in the order in which they fell due; none: all, by id.
    pub due: Option<Timestamp>,
    /// Those with a greater id, for the next page of a list that is not by time.
    pub after: Option<String>,
    pub limit: u32,
}
