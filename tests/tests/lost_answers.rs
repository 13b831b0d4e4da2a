//! A write whose answer is lost, by a database that then cannot be read for a moment: what was written is found, and not
//! written or done again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use troupe_journal::{
    AllRecords, Append, AppendError, Archive, Beat, Claim, Claimed, Decide, Document, Epoch,
    ExecutionRow, FirstOwner, Journal, Listing, MemoryJournal, NewExecution, ReadError, Reading,
    Record, RecordListing, RecordWrite, Release, Retry, Stored, Writing,
};
use troupe_server::clock::{Clock as _, SystemClock};
use troupe_server::driver::{
    Attempt, AttemptEnd, Driver, Ended, Origin, Output, Owned, Patience, Performer, Works,
};
use troupe_workflow::{
    Definition, Event, EventKind, Execution, ExecutionId, Snapshot, StepUsage, Timestamp,
    WorkflowDigest,
};

/// Loses the answer of one append, and cannot be read after it, once.
struct Forgetful {
    inner: MemoryJournal,
    /// Appends until the one whose answer is lost.
    left: AtomicUsize,
    is_away: AtomicBool,
}

impl Journal for Forgetful {
    fn append<'a>(&'a self, append: Append<'a>) -> Writing<'a, u64> {
        async move {
            let done = self.inner.append(append).await;
            if self.left.fetch_sub(1, Ordering::Relaxed) != 1 {
                return done;
            }
            self.is_away.store(true, Ordering::Relaxed);
            Err(AppendError::Unknown {
                source: "the answer was lost".into(),
            })
        }
        .boxed()
    }

    fn bring(&self, id: ExecutionId, known: u64, decide: Arc<Decide>) -> Writing<'_, Option<u64>> {
        self.inner.bring(id, known, decide)
    }

    fn events(&self, id: ExecutionId, after: u64, limit: u32) -> Reading<'_, Vec<Event>> {
        if self.is_away.swap(false, Ordering::Relaxed) {
            let away = ReadError::Database {
                retry: Retry::Later,
                source: "the database is away".into(),
            };
            return std::future::ready(Err(away)).boxed();
        }
        self.inner.events(id, after, limit)
    }

    fn node(&self) -> &str {
        self.inner.node()
    }
    fn create(&self, new: NewExecution) -> Writing<'_, Epoch> {
        self.inner.create(new)
    }
    fn claim(&self, claim: Claim) -> Writing<'_, Vec<Claimed>> {
        self.inner.claim(claim)
    }
    fn take(&self, id: ExecutionId) -> Writing<'_, Claimed> {
        self.inner.take(id)
    }
    fn release(&self, release: Release) -> Writing<'_, bool> {
        self.inner.release(release)
    }
    fn beat(&self, now: Timestamp) -> Writing<'_, Beat> {
        self.inner.beat(now)
    }
    fn put_back(&self, documents: Vec<Document>, records: Vec<Record>) -> Writing<'_, ()> {
        self.inner.put_back(documents, records)
    }
    fn ids(&self, after: Option<String>, limit: u32) -> Reading<'_, Vec<String>> {
        self.inner.ids(after, limit)
    }
    fn snapshot(&self, id: ExecutionId) -> Reading<'_, Option<Snapshot>> {
        self.inner.snapshot(id)
    }
    fn documents(&self, after: Option<WorkflowDigest>, limit: u32) -> Reading<'_, Vec<Document>> {
        self.inner.documents(after, limit)
    }
    fn all_records(&self, after: Option<(String, String)>, limit: u32) -> Reading<'_, AllRecords> {
        self.inner.all_records(after, limit)
    }
    fn delete(&self, id: ExecutionId) -> Writing<'_, bool> {
        self.inner.delete(id)
    }
    fn restore(&self, archive: Archive) -> Writing<'_, ()> {
        self.inner.restore(archive)
    }
    fn write(&self, documents: Vec<Document>, records: Vec<RecordWrite>) -> Writing<'_, ()> {
        self.inner.write(documents, records)
    }
    fn find(&self, id: ExecutionId) -> Reading<'_, ExecutionRow> {
        self.inner.find(id)
    }
    fn list(&self, listing: Listing) -> Reading<'_, Vec<ExecutionRow>> {
        self.inner.list(listing)
    }
    fn load(&self, id: ExecutionId) -> Reading<'_, Stored> {
        self.inner.load(id)
    }
    fn document(&self, digest: WorkflowDigest) -> Reading<'_, Document> {
        self.inner.document(digest)
    }
    fn owned(&self) -> Reading<'_, Vec<(ExecutionId, Epoch)>> {
        self.inner.owned()
    }
    fn written_by_others(&self) -> Reading<'_, Vec<(ExecutionId, u64)>> {
        self.inner.written_by_others()
    }
    fn next_due(&self) -> Reading<'_, Option<Timestamp>> {
        self.inner.next_due()
    }
    fn queued(&self, now: Timestamp, most: u32) -> Reading<'_, u32> {
        self.inner.queued(now, most)
    }
    fn record(&self, kind: &'static str, id: String) -> Reading<'_, Option<Record>> {
        self.inner.record(kind, id)
    }
    fn records(&self, listing: RecordListing) -> Reading<'_, Vec<Record>> {
        self.inner.records(listing)
    }
    fn changed(&self) -> BoxFuture<'_, ()> {
        self.inner.changed()
    }
}

/// Says the same to every question.
struct Parrot;

impl Performer for Parrot {
    fn perform(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        let said = Output {
            value: json!("so it is"),
            text: None,
        };
        let end = AttemptEnd {
            path: attempt.start.path,
            attempt: attempt.start.attempt,
            result: Ok(Ended::Output(said)),
            usage: StepUsage::default(),
        };
        std::future::ready(end).boxed()
    }
}

/// Drives a document with these steps, of whose appends one is not heard of, counted from 1, and returns its status and
/// the kinds of its events.
async fn driven(steps: &Value, lost: usize) -> (&'static str, Vec<Value>) {
    let document = json!({
        "name": "Forgotten",
        "agents": [
            { "id": "editor", "type": "human", "assignees": ["ann@example.com"] },
            { "id": "writer", "type": "llm", "model": "any" },
        ],
        "steps": steps,
    });
    let definition = Arc::new(Definition::compile(&document).expect("a sound document"));
    let journal: Arc<dyn Journal> = Arc::new(Forgetful {
        inner: MemoryJournal::new("driver"),
        left: AtomicUsize::new(lost),
        is_away: AtomicBool::new(false),
    });
    let id = ExecutionId::from_parts(1, 1);
    let kind = EventKind::ExecutionCreated {
        workflow: definition.name().to_owned(),
        digest: definition.digest().clone(),
        inputs: json!({}),
        forked_from: None,
        kept: Vec::new(),
    };
    let created = Event {
        at: SystemClock.now(),
        kind,
    };
    let execution = Execution::replay(id, Arc::clone(&definition), std::slice::from_ref(&created))
        .expect("a first event");
    let new = NewExecution {
        id,
        document: Document {
            digest: definition.digest().clone(),
            name: definition.name().to_owned(),
            text: definition.document().to_string(),
        },
        workflow: None,
        settings: "{}".to_owned(),
        created,
        first_owner: FirstOwner::Creator,
        records: Vec::new(),
    };
    let epoch = journal.create(new).await.expect("a new execution");
    let works = Works {
        journal: Arc::clone(&journal),
        clock: Arc::new(SystemClock),
        performer: Arc::new(Parrot),
    };
    let owned = Owned {
        execution,
        epoch,
        origin: Origin::Created,
    };
    let driver = Driver::new(owned, works, None).with_patience(Patience::None);
    let execution = driver
        .drive()
        .await
        .expect("it goes on when the database is back");
    let events = journal.all_events(id).await.expect("its events");
    let kinds = events
        .iter()
        .map(|event| serde_json::to_value(event).expect("JSON")["type"].clone());
    (execution.status().as_str(), kinds.collect())
}

fn count(kinds: &[Value], kind: &str) -> usize {
    kinds.iter().filter(|other| **other == kind).count()
}

#[tokio::test]
async fn an_end_that_was_written_is_found() {
    let (status, kinds) = driven(&json!([{ "id": "one", "set": 1 }]), 1).await;
    assert_eq!(status, "completed");
    assert_eq!(count(&kinds, "execution_completed"), 1, "{kinds:?}");
}

#[tokio::test]
async fn a_question_that_was_written_is_not_asked_again() {
    let steps = json!([{ "id": "review", "agent": "editor", "action": "review", "input": "this" }]);
    let (status, kinds) = driven(&steps, 1).await;
    assert_eq!(status, "waiting_approval");
    assert_eq!(count(&kinds, "approval_requested"), 1, "{kinds:?}");
}

#[tokio::test]
async fn a_result_that_was_written_is_not_recorded_again() {
    let step =
        |id: &str| json!({ "id": id, "agent": "writer", "action": "write", "input": "this" });
    let steps = json!([step("first"), step("second")]);
    for lost in 1..=3 {
        let (status, kinds) = driven(&steps, lost).await;
        assert_eq!(status, "completed");
        assert_eq!(count(&kinds, "step_started"), 2, "{lost}: {kinds:?}");
        assert_eq!(count(&kinds, "step_completed"), 2, "{lost}: {kinds:?}");
    }
}
