//! The journal in one SQLite file: one writer with group commit, readers beside it.

mod format_1;
mod format_2;
mod format_3;
mod inspect;
mod measure;
mod node;
mod read;
mod record;
mod schema;
mod whole;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use rusqlite::{Connection, Transaction};
use troupe_workflow::{Event, ExecutionId, Snapshot, Timestamp, WorkflowDigest};

use crate::encode::encode;
use crate::error::{AppendError, OpenError, ReadError, Retry};
use crate::execution::{
    Append, Archive, Beat, Claim, Claimed, Decide, Epoch, ExecutionRow, Listing, NewExecution,
    Release, Stored,
};
use crate::fail_point::{FailPoint, Gate};
use crate::journal::{AllRecords, Journal, Reading, Writing};
use crate::prepared::Prepared;
use crate::record::{Document, Record, RecordListing, RecordWrite};
use crate::wal::{self, WalState};
pub use measure::measure_commits;
use node::Node;
use writer::Writer;

/// How often it is looked whether another process wrote. A look costs some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The durable record in a data folder, for processes of one machine.
pub struct SqliteJournal {
    writer: Writer,
    reader: Arc<Mutex<Connection>>,
    nodes: PathBuf,
    node: Node,
    fail_point: Option<Arc<FailPoint>>,
    /// What SQLite calls the state of the file, as it was when it was last looked at.
    seen: Mutex<i64>,
}

impl SqliteJournal {
    /// Opens or makes the journal of a data folder, and registers this process under `node`, a name that no
    /// other has. Starts the writer's thread, which ends with the journal.
    ///
    /// # Errors
    /// A folder that cannot be written, a file that is no journal, a journal of a newer format.
    pub fn open(
        folder: &Path,
        node: String,
        fail_point: Option<Arc<FailPoint>>,
    ) -> Result<Self, OpenError> {
        let io = |source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let path = Self::file_in(folder);
        let database = |source: rusqlite::Error| OpenError::Database {
            place: path.display().to_string(),
            source: source.into(),
        };
        judge_log(&path).map_err(io)??;
        let mut connection = Connection::open(&path).map_err(database)?;
        schema::prepare(&mut connection, &path, fail_point.as_deref())?;
        let reader = Connection::open(&path).map_err(database)?;
        schema::configure(&reader).map_err(database)?;
        let nodes = nodes_in(folder);
        let node = Node::register(&nodes, node).map_err(io)?;
        Ok(Self {
            writer: Writer::start(connection, fail_point.clone()).map_err(io)?,
            reader: Arc::new(Mutex::new(reader)),
            nodes,
            node,
            fail_point,
            seen: Mutex::new(0),
        })
    }

    fn write<'a, T: Send + 'static>(
        &'a self,
        name: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, AppendError> + Send + 'static,
    ) -> Writing<'a, T> {
        Box::pin(self.writer.write(name, work))
    }

    fn read<'a, T: Send + 'static>(
        &'a self,
        work: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Reading<'a, T> {
        let reader = Arc::clone(&self.reader);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || {
                // A reader that panicked left nothing half done: it only reads.
                work(&reader.lock().unwrap_or_else(PoisonError::into_inner))
            })
            .await
            .unwrap_or(Err(ReadError::Closed))
        })
    }

    fn is_alive(&self, owner: &str) -> bool {
        owner == self.node.id() || Node::is_alive(&self.nodes, owner)
    }
}

impl Journal for SqliteJournal {
    fn node(&self) -> &str {
        self.node.id()
    }

    fn create(&self, new: NewExecution) -> Writing<'_, Epoch> {
        let node = self.node.id().to_owned();
        Box::pin(async move {
            let (rows, blobs) = encode(new.id, 0, std::slice::from_ref(&new.created))?;
            let work = move |transaction: &Transaction<'_>| {
                write::create(transaction, &new, (&rows, &blobs), &node)
            };
            self.write("create", work).await
        })
    }

    fn append<'a>(&'a self, append: Append<'a>) -> Writing<'a, u64> {
        Box::pin(async move {
            let prepared = Prepared::new(append)?;
            let work = move |transaction: &Transaction<'_>| write::append(transaction, &prepared);
            self.write("append", work).await
        })
    }

    fn bring(&self, id: ExecutionId, known: u64, decide: Arc<Decide>) -> Writing<'_, Option<u64>> {
        self.write("append", move |transaction| {
            let events =
                read::events(transaction, id, known, u32::MAX).map_err(AppendError::unread)?;
            let version = known.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
            let Some(brought) = decide(events) else {
                return Ok(None);
            };
            let prepared = Prepared::brought(id, version, brought)?;
            write::append(transaction, &prepared).map(Some)
        })
    }

    fn claim(&self, claim: Claim) -> Writing<'_, Vec<Claimed>> {
        let node = self.node.id().to_owned();
        self.write("claim", move |transaction| {
            write::claim(transaction, &claim, &node)
        })
    }

    fn take(&self, id: ExecutionId) -> Writing<'_, Claimed> {
        Box::pin(async move {
            let owner = match self.find(id).await {
                Ok(row) => row.owner,
                Err(ReadError::NotFound(id)) => return Err(AppendError::NotFound(id)),
                Err(error) => {
                    return Err(AppendError::Database {
                        retry: Retry::Later,
                        source: error.into(),
                    });
                }
            };
            if let Some(owner) = owner.clone().filter(|owner| self.is_alive(owner)) {
                return Err(AppendError::Owned { owner });
            }
            let node = self.node.id().to_owned();
            let work = move |transaction: &Transaction<'_>| {
                write::take(transaction, id, owner.as_deref(), &node)
            };
            self.write("claim", work).await
        })
    }

    fn release(&self, release: Release) -> Writing<'_, bool> {
        self.write("release", move |transaction| {
            write::release(transaction, &release)
        })
    }

    fn beat(&self, now: Timestamp) -> Writing<'_, Beat> {
        Box::pin(async move {
            // The sign itself is the lock that this process holds on its file: there is nothing to write.
            let gate = Gate::enter_alone(self.fail_point.as_deref(), "renew");
            let owners = self.read(read::owners).await;
            let owners = gate.leave(owners.map_err(|error| AppendError::Database {
                retry: Retry::Later,
                source: error.into(),
            }))?;
            let dead: Vec<_> = owners
                .into_iter()
                .filter(|owner| !self.is_alive(owner))
                .collect();
            if dead.is_empty() {
                return Ok(Beat::default());
            }
            let work = move |transaction: &Transaction<'_>| write::free(transaction, &dead, now);
            let freed = self.write("beat", work).await?;
            Ok(Beat {
                freed,
                clock_offset_ms: 0,
            })
        })
    }

    fn delete(&self, id: ExecutionId) -> Writing<'_, bool> {
        self.write("delete", move |transaction| write::delete(transaction, id))
    }

    fn restore(&self, archive: Archive) -> Writing<'_, ()> {
        Box::pin(async move {
            let (rows, blobs) = encode(archive.row.id, 0, &archive.events)?;
            let work = move |transaction: &Transaction<'_>| {
                write::restore(transaction, &archive, (&rows, &blobs))
            };
            self.write("restore", work).await
        })
    }

    fn write(&self, documents: Vec<Document>, records: Vec<RecordWrite>) -> Writing<'_, ()> {
        Self::write(self, "records", move |transaction| {
            for document in &documents {
                record::write_document(transaction, document, Timestamp::default())?;
            }
            record::write(transaction, &records)
        })
    }

    fn put_back(&self, documents: Vec<Document>, records: Vec<Record>) -> Writing<'_, ()> {
        Self::write(self, "records", move |transaction| {
            whole::put_back(transaction, &documents, &records)
        })
    }

    fn find(&self, id: ExecutionId) -> Reading<'_, ExecutionRow> {
        self.read(move |connection| read::find(connection, id))
    }

    fn list(&self, listing: Listing) -> Reading<'_, Vec<ExecutionRow>> {
        self.read(move |connection| read::list(connection, &listing))
    }

    fn load(&self, id: ExecutionId) -> Reading<'_, Stored> {
        self.read(move |connection| read::load(connection, id))
    }

    fn events(&self, id: ExecutionId, after: u64, limit: u32) -> Reading<'_, Vec<Event>> {
        self.read(move |connection| read::events(connection, id, after, limit))
    }

    fn document(&self, digest: WorkflowDigest) -> Reading<'_, Document> {
        self.read(move |connection| record::document(connection, &digest))
    }

    fn owned(&self) -> Reading<'_, Vec<(ExecutionId, Epoch)>> {
        let node = self.node.id().to_owned();
        self.read(move |connection| read::owned(connection, &node))
    }

    fn written_by_others(&self) -> Reading<'_, Vec<(ExecutionId, u64)>> {
        let node = self.node.id().to_owned();
        self.read(move |connection| read::written_by_others(connection, &node))
    }

    fn next_due(&self) -> Reading<'_, Option<Timestamp>> {
        self.read(read::next_due)
    }

    fn queued(&self, now: Timestamp, most: u32) -> Reading<'_, u32> {
        self.read(move |connection| read::queued(connection, now, most))
    }

    fn record(&self, kind: &'static str, id: String) -> Reading<'_, Option<Record>> {
        self.read(move |connection| record::find(connection, kind, &id))
    }

    fn records(&self, listing: RecordListing) -> Reading<'_, Vec<Record>> {
        self.read(move |connection| record::list(connection, &listing))
    }

    fn sweep(&self) -> Writing<'_, bool> {
        let folder = self.nodes.parent().unwrap_or(Path::new("")).to_owned();
        Box::pin(async move {
            let swept = tokio::task::spawn_blocking(move || inspect::empty_log(&folder)).await;
            Ok(swept.map_err(|_ended| AppendError::Closed)??)
        })
    }

    fn ids(&self, after: Option<String>, limit: u32) -> Reading<'_, Vec<String>> {
        self.read(move |connection| whole::ids(connection, after.as_deref(), limit))
    }

    fn snapshot(&self, id: ExecutionId) -> Reading<'_, Option<Snapshot>> {
        self.read(move |connection| whole::snapshot(connection, id))
    }

    fn documents(&self, after: Option<WorkflowDigest>, limit: u32) -> Reading<'_, Vec<Document>> {
        self.read(move |connection| {
            let after = after.as_ref().map(WorkflowDigest::as_str);
            whole::documents(connection, after, limit)
        })
    }

    fn all_records(&self, after: Option<(String, String)>, limit: u32) -> Reading<'_, AllRecords> {
        self.read(move |connection| whole::records(connection, after.as_ref(), limit))
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let state = self.read(|connection| {
                    Ok(connection
                        .query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0))?)
                });
                let Ok(state) = state.await else { continue };
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if std::mem::replace(&mut *seen, state) != state {
                    return;
                }
            }
        })
    }
}

/// Where the processes of a data folder are registered.
fn nodes_in(folder: &Path) -> PathBuf {
    folder.join("nodes")
}

/// Looks at the write-ahead log before SQLite does: SQLite stops reading where it is damaged, without a word.
fn judge_log(path: &Path) -> std::io::Result<Result<(), OpenError>> {
    let damaged = |message: String| OpenError::Damaged {
        place: format!("{}-wal", path.display()),
        message,
    };
    Ok(match wal::inspect(path)? {
        WalState::None | WalState::Sound { .. } | WalState::Unfinished { .. } => Ok(()),
        WalState::Doubtful { frame, offset, .. } => {
            tracing::warn!(
                frame,
                offset,
                "the last transaction of the journal's log is incomplete: after a power cut that is what remains of one that nobody was told of; otherwise one that was acknowledged may be lost"
            );
            Ok(())
        }
        WalState::Damaged {
            frame,
            offset,
            commits_before,
            commits_after,
        } => Err(damaged(format!(
            "frame {frame} at byte {offset} is not what was written; {commits_before} commits before it can be read, {commits_after} after it cannot. Keep a copy of the files; restore a backup, or move the log away to go on with what the database itself holds, without the {} commits of the log",
            commits_before + commits_after
        ))),
        WalState::Unreadable { reason } => Err(damaged(format!(
            "it cannot be read: {reason}. Keep a copy of the files; restore a backup, or move the log away to go on with what the database itself holds"
        ))),
    })
}

impl From<rusqlite::Error> for AppendError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database {
            retry: retry_of(&error),
            source: error.into(),
        }
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database {
            retry: retry_of(&error),
            source: error.into(),
        }
    }
}

/// A full disk and a lock pass; what else SQLite says does not.
fn retry_of(error: &rusqlite::Error) -> Retry {
    use rusqlite::ErrorCode;
    let is_passing = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
        )
    );
    if is_passing {
        Retry::Later
    } else {
        Retry::Never
    }
}

#[cfg(test)]
mod tests;
