//! Executions as a journal keeps them: what is written of them, and what is read.

use serde_json::Value;
use troupe_workflow::{Event, ExecutionId, ExecutionStatus, Snapshot, Timestamp, WorkflowDigest};

use crate::record::{Document, RecordWrite};

/// Counts the owners an execution has had. Whoever writes with an older one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub(crate) i64);

impl Epoch {
    /// That of an execution that never had an owner.
    pub const NONE: Self = Self(0);
    /// That of an execution's first owner.
    pub const FIRST: Self = Self(1);
}

/// An execution that is to be created.
#[derive(Debug, Clone)]
pub struct NewExecution {
    pub id: ExecutionId,
    /// Its document, which is kept once for each digest.
    pub document: Document,
    /// The stored workflow that it is a run of; none: the document was given with it.
    pub workflow: Option<WorkflowVersion>,
    /// What the creator wants to find again when it goes on with the execution, as JSON.
    pub settings: String,
    /// The first event.
    pub created: Event,
    pub first_owner: FirstOwner,
    /// Written in the same transaction.
    pub records: Vec<RecordWrite>,
}

/// A version of a stored workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowVersion {
    /// `wf_…`
    pub id: String,
    pub version: u32,
}

/// Who works on a new execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstOwner {
    /// The process that creates it.
    Creator,
    /// Whoever takes it first; it is due at once.
    Anyone,
}

/// Events that are to be recorded.
#[derive(Debug, Clone)]
pub struct Append<'a> {
    pub execution: ExecutionId,
    /// How many events the caller has seen.
    pub expected: u64,
    /// Who records them.
    pub writer: Writer,
    pub events: &'a [Event],
    /// How far the execution has come with them.
    pub status: ExecutionStatus,
    /// The state after them, where it is worth keeping.
    pub snapshot: Option<Snapshot>,
    /// Written in the same transaction.
    pub records: Vec<RecordWrite>,
}

/// Who records events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The owner, with its ownership.
    Owner(Epoch),
    /// Somebody who brings what a person said: an answer, a budget that was raised, the wish that it ends.
    Outside,
}

/// What is recorded of what somebody brings who does not own the execution.
#[derive(Debug, Clone)]
pub struct Brought {
    pub events: Vec<Event>,
    /// How far the execution has come with them.
    pub status: ExecutionStatus,
    /// Written in the same transaction.
    pub records: Vec<RecordWrite>,
}

/// Says what is to be recorded after the events that are given to it; none: nothing. It is asked again where a
/// transaction is done again.
pub type Decide = dyn Fn(Vec<Event>) -> Option<Brought> + Send + Sync;

/// Which executions are to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Those that are due at this time.
    pub now: Timestamp,
    /// At most so many.
    pub limit: u32,
    /// None of these workflows: as many of each are at work as may be.
    pub except: Vec<WorkflowDigest>,
}

/// An execution that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    pub id: ExecutionId,
    /// The workflow that it is a run of.
    pub digest: WorkflowDigest,
    pub epoch: Epoch,
}

/// An execution that is to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub execution: ExecutionId,
    pub epoch: Epoch,
    /// How many events the caller has seen.
    pub version: u64,
    /// When somebody must look at it again; none: when somebody writes to it.
    pub due_at: Option<Timestamp>,
    /// Its state, where it is worth keeping.
    pub snapshot: Option<Snapshot>,
}

/// What a sign of life found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beat {
    /// Executions that were taken away from dead processes.
    pub freed: u64,
    /// What must be added to this machine's clock to have the database's, in milliseconds.
    pub clock_offset_ms: i64,
}

/// An execution as the list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRow {
    pub id: ExecutionId,
    pub workflow_name: String,
    pub digest: WorkflowDigest,
    pub workflow: Option<WorkflowVersion>,
    pub status: ExecutionStatus,
    /// How many events it has.
    pub version: u64,
    /// The process that works on it, living or dead.
    pub owner: Option<String>,
    /// When somebody must look at it, where nobody is about to.
    pub due_at: Option<Timestamp>,
    /// What its creator noted, as JSON.
    pub settings: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Which executions a list shows. With nothing set: all, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Those with one of these; empty: all.
    pub statuses: Vec<ExecutionStatus>,
    /// Those of this stored workflow (`wf_…`).
    pub workflow: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    /// Those whose last event is older.
    pub updated_before: Option<Timestamp>,
    /// Those that come after this one in the list.
    pub after: Option<ExecutionId>,
    pub order: Order,
    /// At most so many.
    pub limit: u32,
}

impl Listing {
    /// Ids that bound what was created in the wanted time, from below and above, with room for clocks that were set
    /// between the making of an id and the creation: without them a list of long ago reads all that was created since.
    pub(crate) fn id_bounds(&self) -> (Option<ExecutionId>, Option<ExecutionId>) {
        const CLOCK_SET_MS_MAX: i64 = 60 * 60 * 1_000;
        /// An id has 48 bits of time; more would begin anew.
        const TIME_MAX: u64 = (1 << 48) - 1;
        let id = |millis: i64| {
            let millis = u64::try_from(millis).unwrap_or(0).min(TIME_MAX);
            ExecutionId::from_parts(millis, 0)
        };
        let from = self.created_after.map(Timestamp::as_millis);
        let until = self.created_before.map(Timestamp::as_millis);
        (
            from.map(|from| id(from.saturating_sub(CLOCK_SET_MS_MAX))),
            until.map(|until| id(until.saturating_add(CLOCK_SET_MS_MAX))),
        )
    }
}

/// The order of a list, by time of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// What is needed to go on with an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub row: ExecutionRow,
    pub document: Value,
    pub snapshot: Option<Snapshot>,
    /// The events after the snapshot; all where there is none.
    pub events: Vec<Event>,
}

/// A whole execution, outside of a journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    pub row: ExecutionRow,
    pub document: Document,
    pub events: Vec<Event>,
}
