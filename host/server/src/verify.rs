//! Looks a whole journal through: whether everything that is kept is what was written, and fits together.
//!
//! One page after another, so that a journal of any size can be looked through while others work with it. Nothing is
//! written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use troupe_journal::{Archive, Document, ExecutionRow, Journal, ReadError, Record};
use troupe_workflow::{Definition, Event, Execution, ExecutionId, Snapshot, WorkflowDigest};

use crate::archive::import::{check_document, check_row};

/// What is read at once: bounds memory.
const PAGE: u32 = 200;
/// Definitions that are kept compiled; then all are forgotten, which costs compiling them once more.
const DEFINITIONS_MAX: usize = 100;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, as an operator would look for it.
    pub(crate) place: String,
    pub(crate) message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// What was found, as it is found.
pub(crate) enum Found {
    Fault(Fault),
    /// An execution of which everything can be read and followed.
    Whole(ExecutionId),
    Document(Document),
    Record(Record),
    /// Executions that were looked at so far.
    Progress(u64),
}

/// How much there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) executions: u64,
    pub(crate) whole: u64,
    pub(crate) documents: u64,
    pub(crate) records: u64,
}

/// Looks through all of a journal, and tells `tell` of everything that it finds.
pub(crate) async fn run(journal: &dyn Journal, tell: &mut (dyn FnMut(Found) + Send)) -> Seen {
    let mut check = Check {
        journal,
        tell,
        definitions: BTreeMap::new(),
        seen: Seen::default(),
    };
    check.documents().await;
    check.records().await;
    check.executions().await;
    check.seen
}

struct Check<'a> {
    journal: &'a dyn Journal,
    tell: &'a mut (dyn FnMut(Found) + Send),
    definitions: BTreeMap<WorkflowDigest, Arc<Definition>>,
    seen: Seen,
}

impl Check<'_> {
    fn fault(&mut self, place: impl Into<String>, message: impl ToString) {
        (self.tell)(Found::Fault(Fault {
            place: place.into(),
            message: message.to_string(),
        }));
    }

    /// What reading said: a damaged row says its place itself.
    fn unread(&mut self, place: impl Into<String>, error: ReadError) {
        match error {
            ReadError::Corrupt { place, message } => self.fault(place, message),
            other => self.fault(place, other),
        }
    }

    async fn documents(&mut self) {
        let mut after = None;
        loop {
            let page = match self.journal.documents(after.clone(), PAGE).await {
                Ok(page) if page.is_empty() => return,
                Ok(page) => page,
                Err(error) => return self.unread("table workflows", error),
            };
            for document in page {
                self.seen.documents += 1;
                after = Some(document.digest.clone());
                let is_right = WorkflowDigest::of(document.text.as_bytes()) == document.digest;
                if is_right {
                    (self.tell)(Found::Document(document));
                } else {
                    let place = format!("table workflows, document {}", document.digest);
                    self.fault(place, "it is not what was stored: its digest does not fit");
                }
            }
        }
    }

    async fn records(&mut self) {
        let mut after = None;
        loop {
            let page = match self.journal.all_records(after.clone(), PAGE).await {
                Ok(page) if page.is_empty() => return,
                Ok(page) => page,
                Err(error) => return self.unread("table records", error),
            };
            for record in page {
                self.seen.records += 1;
                after = Some((record.kind.clone(), record.id.clone()));
                self.record(record).await;
            }
        }
    }

    async fn record(&mut self, record: Record) {
        let place = format!("table records, {} {}", record.kind, record.id);
        let body: Value = match serde_json::from_str(&record.body) {
            Ok(body) => body,
            Err(error) => return self.fault(place, format!("it is no JSON: {error}")),
        };
        // A stored workflow is nothing without its documents.
        if record.kind == crate::workflows::KIND {
            for digest in body["versions"].as_array().into_iter().flatten() {
                let digest = digest.as_str().unwrap_or_default().to_owned();
                let document = self.journal.document(WorkflowDigest::stored(digest)).await;
                if let Err(error) = document {
                    self.unread(place.clone(), error);
                }
            }
        }
        (self.tell)(Found::Record(record));
    }

    async fn executions(&mut self) {
        let mut after = None;
        loop {
            let page = match self.journal.ids(after.clone(), PAGE).await {
                Ok(page) if page.is_empty() => return,
                Ok(page) => page,
                Err(error) => return self.unread("table executions", error),
            };
            for id in page {
                self.seen.executions += 1;
                match id.parse::<ExecutionId>() {
                    Err(error) => self.fault("table executions", error),
                    Ok(parsed) if self.execution(parsed).await => {
                        self.seen.whole += 1;
                        (self.tell)(Found::Whole(parsed));
                    }
                    Ok(_) => {}
                }
                after = Some(id);
            }
            (self.tell)(Found::Progress(self.seen.executions));
        }
    }

    /// Whether everything of an execution can be read and followed. A damaged snapshot is said, and counts as none.
    async fn execution(&mut self, id: ExecutionId) -> bool {
        // Before the row, so that it cannot be ahead of it.
        let snapshot = match self.journal.snapshot(id).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.unread(format!("the snapshot of {id}"), error);
                None
            }
        };
        let row = match self.journal.find(id).await {
            Ok(row) => row,
            Err(ReadError::NotFound(_)) => return self.is_gone(id).await,
            Err(error) => {
                self.unread(format!("the row of {id}"), error);
                return false;
            }
        };
        let definition = match self.definition(&row).await {
            Ok(definition) => Some(definition),
            Err(message) => {
                self.fault(format!("the workflow of {id}"), message);
                None
            }
        };
        let is_whole = definition.is_some();
        let state = definition.and_then(|definition| Execution::replay(id, definition, &[]).ok());
        let mut following = Following {
            state,
            snapshot,
            ends: (None, None),
            is_whole,
        };
        self.events(&row, &mut following).await;
        if let (true, Some(state)) = (following.is_whole, &following.state) {
            let (first, last) = &following.ends;
            if let Err(error) = check_row(&row, state, (first.as_ref(), last.as_ref())) {
                self.fault(format!("the row of {id}"), error);
                return false;
            }
        }
        if !following.is_whole {
            return self.is_deleted(id).await;
        }
        if let Some(snapshot) = following.snapshot {
            let message = format!(
                "it is of event {}, and there are {}",
                snapshot.version, row.version
            );
            self.fault(format!("the snapshot of {id}"), message);
        }
        true
    }

    /// Reads the events of an execution, and every one that is damaged says so.
    async fn events(&mut self, row: &ExecutionRow, following: &mut Following) {
        let (id, mut read) = (row.id, 0);
        while read < row.version {
            let left = u32::try_from(row.version - read).unwrap_or(u32::MAX);
            let limit = left.min(PAGE);
            match self.journal.events(id, read, limit).await {
                Ok(page) if !page.is_empty() => {
                    for event in page {
                        read += 1;
                        self.follow(id, event, following);
                    }
                }
                // One of them is damaged: they are read one by one.
                Ok(_) | Err(_) => {
                    following.is_whole = false;
                    following.state = None;
                    if !self.events_one_by_one(id, (read, limit)).await {
                        return;
                    }
                    read += u64::from(limit);
                }
            }
        }
    }

    /// Whether there is any sense in reading on.
    async fn events_one_by_one(&mut self, id: ExecutionId, (after, limit): (u64, u32)) -> bool {
        let mut has_any = false;
        for position in after..after + u64::from(limit) {
            let place = format!("event {} of {id}", position + 1);
            match self.journal.events(id, position, 1).await {
                Ok(page) if page.is_empty() => {
                    self.fault(place, "it is missing, and all behind it");
                    return false;
                }
                Ok(_) => has_any = true,
                Err(ReadError::NotFound(_)) => return false,
                Err(error) => {
                    has_any |= matches!(error, ReadError::Corrupt { .. });
                    self.unread(place, error);
                }
            }
        }
        has_any
    }

    fn follow(&mut self, id: ExecutionId, event: Event, following: &mut Following) {
        let Some(state) = &mut following.state else {
            return;
        };
        if let Err(error) = state.apply(&event) {
            let place = format!("event {} of {id}", state.version() + 1);
            following.is_whole = false;
            following.state = None;
            return self.fault(place, error);
        }
        let version = state.version();
        if let Some(snapshot) = following
            .snapshot
            .take_if(|snapshot| snapshot.version == version)
            && snapshot.build == Snapshot::BUILD
            && !state
                .snapshot()
                .is_ok_and(|own| own.state == snapshot.state)
        {
            let message = format!("it is not what the first {version} events lead to");
            self.fault(format!("the snapshot of {id}"), message);
        }
        if following.ends.0.is_none() {
            following.ends.0 = Some(event.clone());
        }
        following.ends.1 = Some(event);
    }

    async fn definition(&mut self, row: &ExecutionRow) -> Result<Arc<Definition>, String> {
        if let Some(known) = self.definitions.get(&row.digest) {
            return Ok(Arc::clone(known));
        }
        let document = self.journal.document(row.digest.clone()).await;
        let document = document.map_err(|error| error.to_string())?;
        let definition = check_document(&document).map_err(|error| format!("{error:#}"))?;
        if self.definitions.len() >= DEFINITIONS_MAX {
            self.definitions.clear();
        }
        self.definitions
            .insert(row.digest.clone(), Arc::clone(&definition));
        Ok(definition)
    }

    /// For an execution whose row is not to be found: false, and a fault unless somebody deleted it meanwhile.
    async fn is_gone(&mut self, id: ExecutionId) -> bool {
        let listed = self.journal.ids(None, 1).await.is_ok() && self.is_listed(id).await;
        if listed {
            self.fault(
                format!("the row of {id}"),
                "it is listed, and cannot be found",
            );
        } else {
            self.seen.executions -= 1;
        }
        false
    }

    async fn is_listed(&self, id: ExecutionId) -> bool {
        let text = id.to_string();
        // The text before it: its last letter taken away.
        let before = text.get(..text.len() - 1).map(str::to_owned);
        let page = self.journal.ids(before, PAGE).await.unwrap_or_default();
        page.contains(&text)
    }

    /// For an execution that is not whole: somebody may have deleted it while it was read.
    async fn is_deleted(&mut self, id: ExecutionId) -> bool {
        if let Err(ReadError::NotFound(_)) = self.journal.find(id).await {
            self.seen.executions -= 1;
        }
        false
    }
}

/// How far an execution was followed.
struct Following {
    /// None: it cannot be followed any further.
    state: Option<Execution>,
    /// Until its event comes.
    snapshot: Option<Snapshot>,
    /// The first event and the last.
    ends: (Option<Event>, Option<Event>),
    is_whole: bool,
}

/// All of one execution, which is whole.
///
/// # Errors
/// What the journal says.
pub(crate) async fn archive_of(
    journal: &dyn Journal,
    id: ExecutionId,
) -> Result<Archive, ReadError> {
    let row = journal.find(id).await?;
    let document = journal.document(row.digest.clone()).await?;
    let mut events = journal.all_events(id).await?;
    // What was added since is not in the row.
    events.truncate(usize::try_from(row.version).unwrap_or(usize::MAX));
    Ok(Archive {
        row,
        document,
        events,
    })
}

/// Copies everything of a journal that is whole into another one.
///
/// # Errors
/// What the other journal says.
pub(crate) async fn save(from: &dyn Journal, to: &dyn Journal) -> anyhow::Result<Seen> {
    let (mut whole, mut documents, mut records) = (Vec::new(), Vec::new(), Vec::new());
    run(from, &mut |found| match found {
        Found::Whole(id) => whole.push(id),
        Found::Document(document) => documents.push(document.digest),
        Found::Record(record) => records.push((record.kind, record.id)),
        Found::Fault(_) | Found::Progress(_) => {}
    })
    .await;
    let mut saved = Seen::default();
    for digest in documents {
        let document = from.document(digest).await?;
        to.put_back(vec![document], Vec::new()).await?;
        saved.documents += 1;
    }
    let mut after = None;
    loop {
        // A page that cannot be read has ended the look, too.
        let page = from.all_records(after, PAGE).await.unwrap_or_default();
        let Some(last) = page.last() else { break };
        after = Some((last.kind.clone(), last.id.clone()));
        let is_right = |record: &Record| {
            let key = (record.kind.clone(), record.id.clone());
            records.binary_search(&key).is_ok()
        };
        let page: Vec<_> = page.into_iter().filter(is_right).collect();
        saved.records += u64::try_from(page.len()).unwrap_or(u64::MAX);
        to.put_back(Vec::new(), page).await?;
    }
    for id in whole {
        to.restore(archive_of(from, id).await?).await?;
        saved.whole += 1;
    }
    saved.executions = saved.whole;
    Ok(saved)
}
