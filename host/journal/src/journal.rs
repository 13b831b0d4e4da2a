//! What a journal does, whatever keeps it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use troupe_workflow::{Event, ExecutionId, Snapshot, Timestamp, WorkflowDigest};

use crate::BEAT_EVERY;
use crate::error::{AppendError, DamagedRecord, ReadError};
use crate::execution::{
    Append, Archive, Beat, Claim, Claimed, Decide, Epoch, ExecutionRow, Listing, NewExecution,
    Release, Stored,
};
use crate::record::{Document, Record, RecordListing, RecordWrite};

/// What a writing call answers.
pub type Writing<'a, T> = BoxFuture<'a, Result<T, AppendError>>;
/// What a reading call answers.
pub type Reading<'a, T> = BoxFuture<'a, Result<T, ReadError>>;
/// Records as they lie there: what was written, or what is left of it.
pub type AllRecords = Vec<Result<Record, DamagedRecord>>;

/// The durable record of executions, and the queue of those that somebody must look at.
///
/// An execution is a list of events with a version, which is their number. It has at most one owner, a process that
/// works on it; each change of owner counts up its epoch, and whoever writes with an older one is refused. It falls
/// due at a time: a timer's end, or at once when somebody who does not own it wrote to it. A call that was answered
/// is on disk; one that was refused left nothing; after [`AppendError::Unknown`] nobody knows, and the caller reads.
pub trait Journal: Send + Sync {
    /// The name of this process as an owner of executions. No other process has it.
    fn node(&self) -> &str;

    /// Creates an execution.
    ///
    /// # Errors
    /// A record that is there already ([`AppendError::Record`]), or trouble with the database.
    fn create(&self, new: NewExecution) -> Writing<'_, Epoch>;

    /// Records events, and what belongs to them, in one transaction. Answers the execution's new version.
    ///
    /// # Errors
    /// A conflict or a lost ownership; nothing is recorded then.
    fn append<'a>(&'a self, append: Append<'a>) -> Writing<'a, u64>;

    /// Records what somebody brings who does not own the execution: `decide` is given the events after `known`, and
    /// nobody records others before what it wants is recorded. So whoever has something to bring does not lose against
    /// an owner that records all the time. Answers the new version; none: `decide` wanted nothing.
    ///
    /// # Errors
    /// An execution that is not there, a record that is there already, or trouble with the database.
    fn bring(&self, id: ExecutionId, known: u64, decide: Arc<Decide>) -> Writing<'_, Option<u64>>;

    /// Takes executions that nobody owns and that are due, those that have been due longest first.
    fn claim(&self, claim: Claim) -> Writing<'_, Vec<Claimed>>;

    /// Takes over one execution whose owner is dead, or that has none, due or not.
    ///
    /// # Errors
    /// [`AppendError::Owned`] where its owner lives.
    fn take(&self, id: ExecutionId) -> Writing<'_, Claimed>;

    /// Gives an execution back that did not end, if nobody wrote after the version that the caller has seen. False:
    /// somebody did, and the caller owns it still; what was written is the caller's to act on.
    fn release(&self, release: Release) -> Writing<'_, bool>;

    /// Says that this process lives, and takes executions away from those that do not any more: they are due at `now`,
    /// the time by this machine's clock, or at the database's time where its clock is behind that. To be called at least
    /// every [`Journal::beat_every`].
    fn beat(&self, now: Timestamp) -> Writing<'_, Beat>;

    /// Ends this process's registration, when it has given back all it could: what it owns for all that is free for the
    /// others at their next sign of life, and not only after its lease. Where it fails the lease ends it. Does nothing
    /// where a process's end is seen at once anyway.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// How often a process says that it lives.
    fn beat_every(&self) -> Duration {
        BEAT_EVERY
    }

    /// Removes an execution that has ended, with all that is kept for it alone. False: there is none.
    ///
    /// # Errors
    /// [`AppendError::NotEnded`]
    fn delete(&self, id: ExecutionId) -> Writing<'_, bool>;

    /// Puts an execution back as it was exported, without an owner; one that has not ended is due at once.
    ///
    /// # Errors
    /// [`AppendError::Exists`]
    fn restore(&self, archive: Archive) -> Writing<'_, ()>;

    /// Writes records and documents that belong to no execution, in one transaction.
    ///
    /// # Errors
    /// [`AppendError::Record`] where a record is not at the version that was expected; nothing is written then.
    fn write(&self, documents: Vec<Document>, records: Vec<RecordWrite>) -> Writing<'_, ()>;

    /// Puts documents and records back as they were elsewhere, with their versions, in one transaction. A record that is
    /// there at the same version or a later one stays as it is.
    fn put_back(&self, documents: Vec<Document>, records: Vec<Record>) -> Writing<'_, ()>;

    /// One execution's row.
    fn find(&self, id: ExecutionId) -> Reading<'_, ExecutionRow>;

    /// A page of executions, without damaged ones, which are logged.
    fn list(&self, listing: Listing) -> Reading<'_, Vec<ExecutionRow>>;

    /// All that is needed to go on with an execution: its newest snapshot and the events after it.
    fn load(&self, id: ExecutionId) -> Reading<'_, Stored>;

    /// At most `limit` events of an execution after a position (0: from the first), in order.
    fn events(&self, id: ExecutionId, after: u64, limit: u32) -> Reading<'_, Vec<Event>>;

    /// The document of a digest.
    fn document(&self, digest: WorkflowDigest) -> Reading<'_, Document>;

    /// The executions that this process owns.
    fn owned(&self) -> Reading<'_, Vec<(ExecutionId, Epoch)>>;

    /// The executions that this process owns and others have written to since it last wrote, with their versions.
    fn written_by_others(&self) -> Reading<'_, Vec<(ExecutionId, u64)>>;

    /// When the next execution or record that nobody owns falls due, if any does.
    fn next_due(&self) -> Reading<'_, Option<Timestamp>>;

    /// How many executions wait for somebody who works on them, counted up to `most`.
    fn queued(&self, now: Timestamp, most: u32) -> Reading<'_, u32>;

    /// One record.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] where it is not what was written.
    fn record(&self, kind: &'static str, id: String) -> Reading<'_, Option<Record>>;

    /// A page of records of one kind, without damaged ones, which are logged.
    fn records(&self, listing: RecordListing) -> Reading<'_, Vec<Record>>;

    /// A page of the ids of all executions after an id, as they lie there, readable or not: for looking a journal
    /// through, one execution after another.
    fn ids(&self, after: Option<String>, limit: u32) -> Reading<'_, Vec<String>>;

    /// The newest snapshot of an execution, if there is one.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] where it is not what was written; [`Journal::load`] does without it then.
    fn snapshot(&self, id: ExecutionId) -> Reading<'_, Option<Snapshot>>;

    /// A page of all documents, by digest, after one.
    fn documents(&self, after: Option<WorkflowDigest>, limit: u32) -> Reading<'_, Vec<Document>>;

    /// A page of the records of all kinds, by kind and id, after one; damaged ones too.
    fn all_records(&self, after: Option<(String, String)>, limit: u32) -> Reading<'_, AllRecords>;

    /// Ends when another process may have written something: a hint to look, which can come without a reason, and
    /// sometimes late. Dropping it loses nothing.
    fn changed(&self) -> BoxFuture<'_, ()>;

    /// Empties what the database keeps beside its tables of what was deleted, as far as that is this side's to do.
    /// False: others are using it; the next time may do it.
    fn sweep(&self) -> Writing<'_, bool> {
        Box::pin(async { Ok(true) })
    }

    /// Every event of an execution.
    ///
    /// # Errors
    /// As [`Journal::events`].
    fn all_events(&self, id: ExecutionId) -> Reading<'_, Vec<Event>> {
        Box::pin(async move {
            /// Bounds what one read holds at once in the database's client.
            const PAGE: u32 = 1_000;
            let mut all = Vec::new();
            loop {
                let after = u64::try_from(all.len()).unwrap_or(u64::MAX);
                let page = self.events(id, after, PAGE).await?;
                if page.is_empty() {
                    return Ok(all);
                }
                all.extend(page);
            }
        })
    }
}
