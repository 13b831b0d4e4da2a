//! What agents remember from one execution to the next: records of the journal. It owns their layout and how much one
//! agent may keep; who asks for something has been checked before.
//!
//! Everything of one agent has one scope, a hash of its workflow's name and its id. The record `scope` counts what the agent
//! keeps, and `scope/key` holds the value of a key. A change writes both, in the transaction of the event that tells of it:
//! so it is on disk with its answer, or not at all, and two that change something at once are seen by the count.

mod kept;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use troupe_journal::{Journal, ReadError, Record, RecordListing, RecordWrite};
use troupe_sandbox::{MemoryAnswer, MemoryRequest, memory};
use troupe_workflow::{CallOutcome, Code, Failure};

use crate::replay::hex;

pub(crate) use kept::{Kept, clear, list};

/// The kind of the records.
const KIND: &str = "memory";

/// Keys of one agent. Protects the database from an agent that has a new key for every execution.
const KEYS_MAX: u64 = 10_000;
/// Bytes of one agent's keys and values together. Protects the database's disk.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Keys of one answer. Protects the journal, which holds the answer, and the host's memory.
const LISTED_MAX: usize = 1_000;
/// Records that are read at once.
const PAGE: u32 = 200;

/// Whose memory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The name of the agent's workflow.
    pub(crate) workflow: String,
    /// The agent's id.
    pub(crate) agent: String,
}

/// One request of a guest.
#[derive(Debug)]
pub struct Operation {
    pub(crate) owner: Owner,
    pub(crate) request: MemoryRequest,
}

/// What an operation comes to, as long as nobody else changes the same memory.
pub(crate) struct Prepared {
    pub(crate) outcome: CallOutcome,
    /// To be written with the event that tells the outcome.
    pub(crate) records: Vec<RecordWrite>,
}

/// An answer as the journal keeps it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recorded {
    Entry(Option<RecordedEntry>),
    Stored(u64),
    Conflict(u64),
    Deleted,
    Keys(Vec<String>),
}

/// A value that was read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedEntry {
    /// JSON, as it was stored.
    value: String,
    version: u64,
}

impl From<Recorded> for MemoryAnswer {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Entry(entry) => Self::Entry(entry.map(|entry| memory::Entry {
                value: entry.value,
                version: entry.version,
            })),
            Recorded::Stored(version) => Self::Set(memory::SetOutcome::Stored(version)),
            Recorded::Conflict(version) => Self::Set(memory::SetOutcome::Conflict(version)),
            Recorded::Deleted => Self::Deleted,
            Recorded::Keys(keys) => Self::Keys(keys),
        }
    }
}

/// What an agent keeps, all together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    #[serde(flatten)]
    owner: Owner,
    keys: u64,
    bytes: u64,
}

impl Owner {
    /// Names may be long and hold any character: a hash is neither, and no two owners share one.
    fn scope(&self) -> String {
        let owner = json!(["memory", self.workflow, self.agent]).to_string();
        hex(&Sha256::digest(owner))
    }
}

impl Operation {
    /// What is asked, for people.
    pub(crate) fn target(&self) -> String {
        match &self.request {
            MemoryRequest::Get { key } => format!("get {key}"),
            MemoryRequest::Set { key, .. } => format!("set {key}"),
            MemoryRequest::Delete { key } => format!("delete {key}"),
            MemoryRequest::Keys { prefix, .. } => format!("keys {prefix}").trim_end().to_owned(),
        }
    }

    /// Looks at what is kept, and says what is to be answered and written. Whoever writes it finds out whether somebody
    /// else was faster, and prepares it anew.
    ///
    /// # Errors
    /// The journal cannot be read. A damaged record is an outcome: it keeps nothing else from going on.
    pub(crate) async fn prepare(&self, journal: &dyn Journal) -> Result<Prepared, ReadError> {
        let scope = self.owner.scope();
        let prepared = match &self.request {
            MemoryRequest::Get { key } => get(journal, &scope, key).await,
            MemoryRequest::Set {
                key,
                value,
                expected_version,
            } => self.set(journal, (key, value), *expected_version).await,
            MemoryRequest::Delete { key } => self.delete(journal, key).await,
            MemoryRequest::Keys { prefix, after } => {
                keys(journal, &scope, (prefix, after.as_deref())).await
            }
        };
        match prepared {
            Err(ReadError::Corrupt { place, message }) => {
                let message = format!(
                    "the agent's memory is damaged: {place}: {message}; `troupe verify` names all that is"
                );
                Ok(Prepared::failed(Failure::new(Code::Internal, message)))
            }
            other => other,
        }
    }

    async fn set(
        &self,
        journal: &dyn Journal,
        (key, value): (&str, &str),
        expected: Option<u64>,
    ) -> Result<Prepared, ReadError> {
        let scope = self.owner.scope();
        let there = journal.record(KIND, id_of(&scope, key)).await?;
        let version = there.as_ref().map_or(0, |record| record.version);
        if expected.is_some_and(|expected| expected != version) {
            return Ok(Prepared::answered(&Recorded::Conflict(version)));
        }
        let (mut count, counted) = self.count(journal, &scope).await?;
        match &there {
            Some(there) => count.bytes = count.bytes.saturating_sub(bytes_of(key, &there.body)),
            None => count.keys += 1,
        }
        count.bytes = count.bytes.saturating_add(bytes_of(key, value));
        if let Some(message) = too_much(&count) {
            return Ok(Prepared::failed(Failure::new(Code::InputInvalid, message)));
        }
        let value = RecordWrite {
            kind: KIND,
            id: id_of(&scope, key),
            expected: version,
            due_at: None,
            body: Some(value.to_owned()),
        };
        Ok(Prepared {
            records: vec![write_of(&count, scope, counted), value],
            ..Prepared::answered(&Recorded::Stored(version.saturating_add(1)))
        })
    }

    async fn delete(&self, journal: &dyn Journal, key: &str) -> Result<Prepared, ReadError> {
        let scope = self.owner.scope();
        let Some(there) = journal.record(KIND, id_of(&scope, key)).await? else {
            return Ok(Prepared::answered(&Recorded::Deleted));
        };
        let (mut count, counted) = self.count(journal, &scope).await?;
        count.keys = count.keys.saturating_sub(1);
        count.bytes = count.bytes.saturating_sub(bytes_of(key, &there.body));
        let removal = RecordWrite {
            kind: KIND,
            id: there.id,
            expected: there.version,
            due_at: None,
            body: None,
        };
        Ok(Prepared {
            records: vec![write_of(&count, scope, counted), removal],
            ..Prepared::answered(&Recorded::Deleted)
        })
    }

    /// What the agent keeps, and the version of the record that says so; 0: there is none.
    async fn count(&self, journal: &dyn Journal, scope: &str) -> Result<(Count, u64), ReadError> {
        match journal.record(KIND, scope.to_owned()).await? {
            Some(record) => Ok((read_count(&record)?, record.version)),
            None => Ok((
                Count {
                    owner: self.owner.clone(),
                    keys: 0,
                    bytes: 0,
                },
                0,
            )),
        }
    }
}

impl Prepared {
    fn answered(recorded: &Recorded) -> Self {
        let outcome = match serde_json::to_value(recorded) {
            Ok(value) => CallOutcome::Answered(value),
            Err(error) => {
                let message = format!("an answer cannot be stored: {error}");
                CallOutcome::Failed(Failure::new(Code::Internal, message))
            }
        };
        Self {
            outcome,
            records: Vec::new(),
        }
    }

    fn failed(failure: Failure) -> Self {
        Self {
            outcome: CallOutcome::Failed(failure),
            records: Vec::new(),
        }
    }

    /// Where others change the same memory all the time.
    pub(crate) fn overtaken() -> Self {
        let message = "other executions change this agent's memory all the time; try again later";
        Self::failed(Failure::new(Code::Unavailable, message))
    }
}

async fn get(journal: &dyn Journal, scope: &str, key: &str) -> Result<Prepared, ReadError> {
    let record = journal.record(KIND, id_of(scope, key)).await?;
    let entry = record.map(|record| RecordedEntry {
        value: record.body,
        version: record.version,
    });
    Ok(Prepared::answered(&Recorded::Entry(entry)))
}

async fn keys(
    journal: &dyn Journal,
    scope: &str,
    (prefix, after): (&str, Option<&str>),
) -> Result<Prepared, ReadError> {
    let first = id_of(scope, prefix);
    let mut found: Vec<String> = Vec::new();
    // A list begins behind an id; the prefix itself may be a key.
    if !prefix.is_empty()
        && after.is_none_or(|after| after < prefix)
        && journal.record(KIND, first.clone()).await?.is_some()
    {
        found.push(prefix.to_owned());
    }
    let mut behind = match after {
        Some(after) if after > prefix => id_of(scope, after),
        Some(_) | None => first.clone(),
    };
    while found.len() < LISTED_MAX {
        let listing = RecordListing {
            kind: KIND,
            due: None,
            after: Some(behind.clone()),
            limit: PAGE,
        };
        let page = journal.records(listing).await?;
        let Some(last) = page.last() else { break };
        behind.clone_from(&last.id);
        let fitting = page
            .iter()
            .take_while(|record| record.id.starts_with(&first));
        let before = found.len();
        found.extend(fitting.filter_map(|record| key_of(scope, &record.id).map(str::to_owned)));
        if found.len() - before < page.len() {
            break;
        }
    }
    found.truncate(LISTED_MAX);
    Ok(Prepared::answered(&Recorded::Keys(found)))
}

fn id_of(scope: &str, key: &str) -> String {
    format!("{scope}/{key}")
}

fn key_of<'a>(scope: &str, id: &'a str) -> Option<&'a str> {
    id.strip_prefix(scope)?.strip_prefix('/')
}

fn bytes_of(key: &str, value: &str) -> u64 {
    u64::try_from(key.len().saturating_add(value.len())).unwrap_or(u64::MAX)
}

/// Why an agent may not keep so much.
fn too_much(count: &Count) -> Option<String> {
    let Count { keys, bytes, .. } = count;
    if *keys > KEYS_MAX {
        return Some(format!(
            "the agent's memory has {KEYS_MAX} keys, which is all it may have; delete some before adding others"
        ));
    }
    (*bytes > BYTES_MAX).then(|| {
        format!(
            "the agent's memory would have {bytes} bytes, it may have {BYTES_MAX}; delete something first"
        )
    })
}

fn read_count(record: &Record) -> Result<Count, ReadError> {
    serde_json::from_str(&record.body).map_err(|error| ReadError::Corrupt {
        place: format!("table records, {} {}", record.kind, record.id),
        message: error.to_string(),
    })
}

/// The record that counts: it goes with the last key.
fn write_of(count: &Count, scope: String, expected: u64) -> RecordWrite {
    let body = (count.keys > 0).then(|| {
        json!({
            "workflow": count.owner.workflow, "agent": count.owner.agent,
            "keys": count.keys, "bytes": count.bytes,
        })
        .to_string()
    });
    RecordWrite {
        kind: KIND,
        id: scope,
        expected,
        due_at: None,
        body,
    }
}

#[cfg(test)]
mod tests;
