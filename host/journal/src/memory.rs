//! A journal in memory, for tests: the plainest thing that does what a journal does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::watch;
use troupe_workflow::{Event, ExecutionId, ExecutionStatus, Snapshot, Timestamp, WorkflowDigest};

use crate::error::{AppendError, ReadError};
use crate::execution::{
    Append, Archive, Beat, Claim, Claimed, Decide, Epoch, ExecutionRow, FirstOwner, Listing,
    NewExecution, Order, Release, Stored, Writer,
};
use crate::journal::{AllRecords, Journal, Reading, Writing};
use crate::record::{Document, Record, RecordListing, RecordWrite};

/// A journal that ends with its last clone. Each process of a test is one [`MemoryJournal::join`].
pub struct MemoryJournal {
    node: String,
    shared: Arc<Shared>,
    /// How many changes this process has been told of.
    seen: Mutex<u64>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts the changes.
    changed: watch::Sender<u64>,
}

#[derive(Default, Clone)]
struct State {
    documents: BTreeMap<WorkflowDigest, Document>,
    executions: BTreeMap<ExecutionId, Kept>,
    records: BTreeMap<(String, String), Record>,
    alive: BTreeSet<String>,
}

#[derive(Clone)]
struct Kept {
    row: ExecutionRow,
    epoch: Epoch,
    events: Vec<Event>,
    snapshot: Option<Snapshot>,
}

impl MemoryJournal {
    /// A new, empty journal, as `node` sees it.
    pub fn new(node: &str) -> Self {
        let journal = Self {
            node: node.to_owned(),
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: watch::Sender::new(0),
            }),
            seen: Mutex::new(0),
        };
        journal.state().alive.insert(node.to_owned());
        journal
    }

    /// The same journal, as another process sees it.
    #[must_use]
    pub fn join(&self, node: &str) -> Self {
        self.state().alive.insert(node.to_owned());
        Self {
            node: node.to_owned(),
            shared: Arc::clone(&self.shared),
            seen: Mutex::new(*self.shared.changed.borrow()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a piece of work whole or not at all.
    fn change<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut State) -> Result<T, AppendError> + Send + 'a,
    ) -> Writing<'a, T> {
        Box::pin(async move {
            let mut state = self.state();
            let before = state.clone();
            let done = work(&mut state);
            if done.is_err() {
                *state = before;
            }
            drop(state);
            self.shared.changed.send_modify(|count| *count += 1);
            done
        })
    }

    fn look<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&State) -> Result<T, ReadError> + Send + 'a,
    ) -> Reading<'a, T> {
        Box::pin(async move { work(&self.state()) })
    }
}

/// The process of a test ends with its view.
impl Drop for MemoryJournal {
    fn drop(&mut self) {
        self.state().alive.remove(&self.node);
    }
}

impl State {
    fn get(&self, id: ExecutionId) -> Result<&Kept, ReadError> {
        self.executions.get(&id).ok_or(ReadError::NotFound(id))
    }

    fn get_mut(&mut self, id: ExecutionId) -> Result<&mut Kept, AppendError> {
        self.executions
            .get_mut(&id)
            .ok_or(AppendError::NotFound(id))
    }

    fn write(&mut self, records: Vec<RecordWrite>) -> Result<(), AppendError> {
        for write in records {
            let key = (write.kind.to_owned(), write.id.clone());
            let version = self.records.get(&key).map_or(0, |record| record.version);
            let is_there = version == write.expected && (version > 0 || write.body.is_some());
            if !is_there {
                return Err(AppendError::Record {
                    kind: write.kind,
                    id: write.id,
                });
            }
            let Some(body) = write.body else {
                self.records.remove(&key);
                continue;
            };
            let record = Record {
                kind: write.kind.to_owned(),
                id: write.id,
                version: version + 1,
                due_at: write.due_at,
                body,
            };
            self.records.insert(key, record);
        }
        Ok(())
    }

    /// Stored workflows keep their documents: their records name them.
    fn delete_unused_document(&mut self, digest: &WorkflowDigest) {
        let is_run = self
            .executions
            .values()
            .any(|kept| kept.row.digest == *digest);
        let is_named = self
            .records
            .values()
            .any(|record| record.kind == "workflow" && record.body.contains(digest.as_str()));
        if !is_run && !is_named {
            self.documents.remove(digest);
        }
    }

    fn append(&mut self, append: Append<'_>) -> Result<u64, AppendError> {
        let kept = self.get_mut(append.execution)?;
        if let Writer::Owner(epoch) = append.writer
            && (epoch != kept.epoch || kept.row.owner.is_none())
        {
            return Err(AppendError::Fenced);
        }
        if kept.row.version != append.expected {
            return Err(AppendError::Conflict {
                expected: append.expected,
                actual: kept.row.version,
            });
        }
        kept.events.extend(append.events.iter().cloned());
        let row = &mut kept.row;
        row.version = u64::try_from(kept.events.len()).unwrap_or(u64::MAX);
        row.updated_at = append
            .events
            .last()
            .map_or(Timestamp::default(), |event| event.at);
        row.status = append.status;
        row.due_at = match append.writer {
            Writer::Owner(_) => None,
            Writer::Outside => (!append.status.is_terminal()).then_some(row.updated_at),
        };
        if append.status.is_terminal() {
            row.owner = None;
        }
        let version = row.version;
        if append.snapshot.is_some() {
            kept.snapshot = append.snapshot;
        }
        self.write(append.records)?;
        Ok(version)
    }
}

impl Kept {
    fn own(&mut self, node: &str) -> Claimed {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.row.owner = Some(node.to_owned());
        self.row.due_at = None;
        Claimed {
            id: self.row.id,
            digest: self.row.digest.clone(),
            epoch: self.epoch,
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.row.owner.is_none() && self.row.due_at.is_some_and(|due| due <= now)
    }
}

impl Journal for MemoryJournal {
    fn node(&self) -> &str {
        &self.node
    }

    fn create(&self, new: NewExecution) -> Writing<'_, Epoch> {
        self.change(move |state| {
            if state.executions.contains_key(&new.id) {
                return Err(AppendError::Exists(new.id));
            }
            let at = new.created.at;
            let (owner, epoch, due_at) = match new.first_owner {
                FirstOwner::Creator => (Some(self.node.clone()), Epoch::FIRST, None),
                FirstOwner::Anyone => (None, Epoch::NONE, Some(at)),
            };
            let row = ExecutionRow {
                id: new.id,
                workflow_name: new.document.name.clone(),
                digest: new.document.digest.clone(),
                workflow: new.workflow,
                status: ExecutionStatus::Queued,
                version: 1,
                owner,
                due_at,
                settings: new.settings,
                created_at: at,
                updated_at: at,
            };
            let digest = new.document.digest.clone();
            state.documents.entry(digest).or_insert(new.document);
            let kept = Kept {
                row,
                epoch,
                events: vec![new.created],
                snapshot: None,
            };
            state.executions.insert(new.id, kept);
            state.write(new.records)?;
            Ok(epoch)
        })
    }

    fn append<'a>(&'a self, append: Append<'a>) -> Writing<'a, u64> {
        self.change(move |state| state.append(append))
    }

    fn bring(&self, id: ExecutionId, known: u64, decide: Arc<Decide>) -> Writing<'_, Option<u64>> {
        self.change(move |state| {
            let kept = state.get(id).map_err(AppendError::unread)?;
            let expected = kept.row.version;
            let Some(brought) = decide(after_position(&kept.events, known, u32::MAX)) else {
                return Ok(None);
            };
            let append = Append {
                execution: id,
                expected,
                writer: Writer::Outside,
                events: &brought.events,
                status: brought.status,
                snapshot: None,
                records: brought.records,
            };
            state.append(append).map(Some)
        })
    }

    fn claim(&self, claim: Claim) -> Writing<'_, Vec<Claimed>> {
        self.change(move |state| {
            let mut due: Vec<_> = state
                .executions
                .values_mut()
                .filter(|kept| kept.is_due(claim.now))
                .filter(|kept| !claim.except.contains(&kept.row.digest))
                .collect();
            due.sort_by_key(|kept| (kept.row.due_at, kept.row.id));
            due.truncate(usize::try_from(claim.limit).unwrap_or(usize::MAX));
            Ok(due.into_iter().map(|kept| kept.own(&self.node)).collect())
        })
    }

    fn take(&self, id: ExecutionId) -> Writing<'_, Claimed> {
        self.change(move |state| {
            let alive = state.alive.clone();
            let kept = state.get_mut(id)?;
            match &kept.row.owner {
                Some(owner) if alive.contains(owner) => Err(AppendError::Owned {
                    owner: owner.clone(),
                }),
                Some(_) | None => Ok(kept.own(&self.node)),
            }
        })
    }

    fn release(&self, release: Release) -> Writing<'_, bool> {
        self.change(move |state| {
            let kept = state.get_mut(release.execution)?;
            if kept.epoch != release.epoch || kept.row.owner.is_none() {
                return Ok(true);
            }
            if kept.row.version != release.version {
                return Ok(false);
            }
            kept.row.owner = None;
            kept.row.due_at = release.due_at;
            if release.snapshot.is_some() {
                kept.snapshot = release.snapshot;
            }
            Ok(true)
        })
    }

    fn beat(&self, now: Timestamp) -> Writing<'_, Beat> {
        self.change(move |state| {
            let mut beat = Beat::default();
            for kept in state.executions.values_mut() {
                let owner = kept.row.owner.as_ref();
                if owner.is_some_and(|owner| !state.alive.contains(owner)) {
                    kept.row.owner = None;
                    kept.row.due_at = Some(now);
                    beat.freed += 1;
                }
            }
            Ok(beat)
        })
    }

    fn delete(&self, id: ExecutionId) -> Writing<'_, bool> {
        self.change(move |state| match state.executions.get(&id) {
            None => Ok(false),
            Some(kept) if !kept.row.status.is_terminal() => Err(AppendError::NotEnded(id)),
            Some(kept) => {
                let digest = kept.row.digest.clone();
                state.executions.remove(&id);
                state.delete_unused_document(&digest);
                Ok(true)
            }
        })
    }

    fn restore(&self, archive: Archive) -> Writing<'_, ()> {
        self.change(move |state| {
            let id = archive.row.id;
            if state.executions.contains_key(&id) {
                return Err(AppendError::Exists(id));
            }
            let digest = archive.document.digest.clone();
            state.documents.entry(digest).or_insert(archive.document);
            let due_at = (!archive.row.status.is_terminal()).then_some(archive.row.updated_at);
            let row = ExecutionRow {
                owner: None,
                due_at,
                ..archive.row
            };
            let kept = Kept {
                row,
                epoch: Epoch::NONE,
                events: archive.events,
                snapshot: None,
            };
            state.executions.insert(id, kept);
            Ok(())
        })
    }

    fn write(&self, documents: Vec<Document>, records: Vec<RecordWrite>) -> Writing<'_, ()> {
        self.change(move |state| {
            for document in documents {
                state
                    .documents
                    .entry(document.digest.clone())
                    .or_insert(document);
            }
            state.write(records)
        })
    }

    fn put_back(&self, documents: Vec<Document>, records: Vec<Record>) -> Writing<'_, ()> {
        self.change(move |state| {
            for document in documents {
                let digest = document.digest.clone();
                state.documents.entry(digest).or_insert(document);
            }
            for record in records {
                let key = (record.kind.clone(), record.id.clone());
                let there = state.records.get(&key);
                if there.is_none_or(|there| there.version < record.version) {
                    state.records.insert(key, record);
                }
            }
            Ok(())
        })
    }

    fn find(&self, id: ExecutionId) -> Reading<'_, ExecutionRow> {
        self.look(move |state| Ok(state.get(id)?.row.clone()))
    }

    fn list(&self, listing: Listing) -> Reading<'_, Vec<ExecutionRow>> {
        self.look(move |state| {
            let rows = state.executions.values().map(|kept| &kept.row);
            let mut rows: Vec<_> = rows
                .filter(|row| is_listed(row, &listing))
                .cloned()
                .collect();
            if listing.order == Order::NewestFirst {
                rows.reverse();
            }
            rows.truncate(usize::try_from(listing.limit).unwrap_or(usize::MAX));
            Ok(rows)
        })
    }

    fn load(&self, id: ExecutionId) -> Reading<'_, Stored> {
        self.look(move |state| {
            let kept = state.get(id)?;
            let document = state
                .documents
                .get(&kept.row.digest)
                .ok_or_else(|| ReadError::NoDocument(kept.row.digest.to_string()))?;
            let document =
                serde_json::from_str(&document.text).map_err(|error| ReadError::Corrupt {
                    place: format!("the workflow of {id}"),
                    message: error.to_string(),
                })?;
            let after = kept
                .snapshot
                .as_ref()
                .map_or(0, |snapshot| snapshot.version);
            Ok(Stored {
                row: kept.row.clone(),
                document,
                snapshot: kept.snapshot.clone(),
                events: after_position(&kept.events, after, u32::MAX),
            })
        })
    }

    fn events(&self, id: ExecutionId, after: u64, limit: u32) -> Reading<'_, Vec<Event>> {
        self.look(move |state| Ok(after_position(&state.get(id)?.events, after, limit)))
    }

    fn document(&self, digest: WorkflowDigest) -> Reading<'_, Document> {
        self.look(move |state| {
            let found = state.documents.get(&digest).cloned();
            found.ok_or_else(|| ReadError::NoDocument(digest.to_string()))
        })
    }

    fn owned(&self) -> Reading<'_, Vec<(ExecutionId, Epoch)>> {
        self.look(move |state| {
            let mine = state.executions.values();
            let mine = mine.filter(|kept| kept.row.owner.as_ref() == Some(&self.node));
            Ok(mine.map(|kept| (kept.row.id, kept.epoch)).collect())
        })
    }

    fn written_by_others(&self) -> Reading<'_, Vec<(ExecutionId, u64)>> {
        self.look(move |state| {
            let mine = state.executions.values().map(|kept| &kept.row);
            let mine =
                mine.filter(|row| row.owner.as_ref() == Some(&self.node) && row.due_at.is_some());
            Ok(mine.map(|row| (row.id, row.version)).collect())
        })
    }

    fn next_due(&self) -> Reading<'_, Option<Timestamp>> {
        self.look(|state| {
            let free = state
                .executions
                .values()
                .filter(|kept| kept.row.owner.is_none());
            let executions = free.filter_map(|kept| kept.row.due_at);
            let records = state.records.values().filter_map(|record| record.due_at);
            Ok(executions.chain(records).min())
        })
    }

    fn queued(&self, now: Timestamp, most: u32) -> Reading<'_, u32> {
        self.look(move |state| {
            let due = state
                .executions
                .values()
                .filter(|kept| kept.is_due(now))
                .count();
            Ok(u32::try_from(due).unwrap_or(u32::MAX).min(most))
        })
    }

    fn record(&self, kind: &'static str, id: String) -> Reading<'_, Option<Record>> {
        self.look(move |state| Ok(state.records.get(&(kind.to_owned(), id)).cloned()))
    }

    fn records(&self, listing: RecordListing) -> Reading<'_, Vec<Record>> {
        self.look(move |state| {
            let records = state
                .records
                .values()
                .filter(|record| record.kind == listing.kind);
            let mut records: Vec<_> = match listing.due {
                Some(due) => {
                    let is_due = |record: &&Record| record.due_at.is_some_and(|at| at <= due);
                    let mut records: Vec<_> = records.filter(is_due).cloned().collect();
                    records.sort_by_key(|record| (record.due_at, record.id.clone()));
                    records
                }
                None => {
                    let after = listing.after.unwrap_or_default();
                    records
                        .filter(|record| record.id > after)
                        .cloned()
                        .collect()
                }
            };
            records.truncate(usize::try_from(listing.limit).unwrap_or(usize::MAX));
            Ok(records)
        })
    }

    fn ids(&self, after: Option<String>, limit: u32) -> Reading<'_, Vec<String>> {
        self.look(move |state| {
            let ids = state.executions.keys().map(ToString::to_string);
            let after = after.unwrap_or_default();
            Ok(page(ids.filter(|id| *id > after), limit))
        })
    }

    fn snapshot(&self, id: ExecutionId) -> Reading<'_, Option<Snapshot>> {
        self.look(move |state| {
            let kept = state.executions.get(&id);
            Ok(kept.and_then(|kept| kept.snapshot.clone()))
        })
    }

    fn documents(&self, after: Option<WorkflowDigest>, limit: u32) -> Reading<'_, Vec<Document>> {
        self.look(move |state| {
            let later = state
                .documents
                .values()
                .filter(|document| after.as_ref().is_none_or(|after| document.digest > *after));
            Ok(page(later.cloned(), limit))
        })
    }

    fn all_records(&self, after: Option<(String, String)>, limit: u32) -> Reading<'_, AllRecords> {
        self.look(move |state| {
            let later = state
                .records
                .iter()
                .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
            Ok(page(later.map(|(_, record)| Ok(record.clone())), limit))
        })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let mut changed = self.shared.changed.subscribe();
        Box::pin(async move {
            loop {
                let count = *changed.borrow_and_update();
                {
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if std::mem::replace(&mut *seen, count) != count {
                        return;
                    }
                }
                // The journal is there as long as this borrows it, and its sender with it.
                let _ = changed.changed().await;
            }
        })
    }
}

fn is_listed(row: &ExecutionRow, listing: &Listing) -> bool {
    let is_after = listing.after.is_none_or(|after| match listing.order {
        Order::NewestFirst => row.id < after,
        Order::OldestFirst => row.id > after,
    });
    let of_workflow = listing.workflow.as_ref().is_none_or(|wanted| {
        row.workflow
            .as_ref()
            .is_some_and(|workflow| workflow.id == *wanted)
    });
    is_after
        && of_workflow
        && (listing.statuses.is_empty() || listing.statuses.contains(&row.status))
        && listing
            .created_after
            .is_none_or(|after| row.created_at > after)
        && listing
            .created_before
            .is_none_or(|before| row.created_at < before)
        && listing
            .updated_before
            .is_none_or(|before| row.updated_at < before)
}

fn page<T>(all: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    all.take(usize::try_from(limit).unwrap_or(usize::MAX))
        .collect()
}

fn after_position(events: &[Event], after: u64, limit: u32) -> Vec<Event> {
    let skip = usize::try_from(after).unwrap_or(usize::MAX);
    let take = usize::try_from(limit).unwrap_or(usize::MAX);
    events.iter().skip(skip).take(take).cloned().collect()
}
