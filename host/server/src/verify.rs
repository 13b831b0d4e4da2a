//! Looks a whole journal through: whether everything that is kept is what was written, and fits together.
//!
//! One page after another, so that a journal of any size can be looked through while others work with it. Nothing is
//! written.

mod executions;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use troupe_journal::{DamagedRecord, Document, Journal, ReadError, Record};
use troupe_workflow::{Definition, ExecutionId, WorkflowDigest};

/// What is read at once: bounds memory.
pub(crate) const PAGE: u32 = 200;
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
                self.document(document);
            }
        }
    }

    fn document(&mut self, document: Document) {
        let place = format!("table workflows, document {}", document.digest);
        if WorkflowDigest::of(document.text.as_bytes()) != document.digest {
            return self.fault(place, "it is not what was stored: its digest does not fit");
        }
        if name_of(&document).is_some_and(|name| name != document.name) {
            self.fault(place, "the name beside it is not its own");
        }
        (self.tell)(Found::Document(document));
    }

    async fn records(&mut self) {
        let mut after = None;
        loop {
            let page = match self.journal.all_records(after.clone(), PAGE).await {
                Ok(page) if page.is_empty() => return,
                Ok(page) => page,
                Err(error) => return self.unread("table records", error),
            };
            let before = after.clone();
            for record in page {
                self.seen.records += 1;
                after = Some(key_of(&record));
                match record {
                    Ok(record) => self.record(record).await,
                    Err(damaged) => self.unread("table records", damaged.into()),
                }
            }
            // A damaged key that is no text is read as another one, which may be the same for ever.
            if after == before {
                return;
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
}

/// Where a record stands, damaged or not.
pub(crate) fn key_of(record: &Result<Record, DamagedRecord>) -> (String, String) {
    match record {
        Ok(record) => (record.kind.clone(), record.id.clone()),
        Err(damaged) => (damaged.kind.clone(), damaged.id.clone()),
    }
}

/// The name that a document itself says.
pub(crate) fn name_of(document: &Document) -> Option<String> {
    let value: Value = serde_json::from_str(&document.text).ok()?;
    value["name"].as_str().map(str::to_owned)
}
