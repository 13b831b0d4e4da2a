//! The journal: one writer with group commit, one reader.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use troupe_workflow::{Event, ExecutionId};

use crate::error::{AppendError, OpenError, ReadError};
use crate::fail_point::{FailPoint, FailSide};
use crate::node::Node;
use crate::read::{ExecutionRow, StoredWorkflow};
use crate::write::{Append, Epoch, NewExecution};
use crate::{read, schema, write};

/// Appends that share one commit at most: bounds how long the first of them waits.
const BATCH_MAX: usize = 256;
/// Appends that wait for the writer: further callers wait before they may wait.
const QUEUE_MAX: usize = 1024;

/// Does its part in the open transaction, or is told why there is none.
type Job = Box<dyn FnOnce(Result<&mut Transaction<'_>, &rusqlite::Error>) -> Finish + Send>;
/// Told whether the commit succeeded; answers the caller.
type Finish = Box<dyn FnOnce(Result<(), &rusqlite::Error>) + Send>;

/// The durable record in a data folder. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    writer: mpsc::Sender<Job>,
    reader: Arc<Mutex<Connection>>,
    nodes: PathBuf,
    node: Node,
}

impl Journal {
    /// Opens or makes the journal of a data folder, and registers this process under `node`, a name that no
    /// other has. Starts the writer's thread, which ends with the last clone.
    ///
    /// # Errors
    /// A folder that cannot be written, a file that is no journal, a journal of another format.
    pub fn open(
        folder: &Path,
        node: String,
        fail_point: Option<FailPoint>,
    ) -> Result<Self, OpenError> {
        let io = |source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let path = folder.join("journal.db");
        let database = |source| OpenError::Database {
            path: path.clone(),
            source,
        };
        let mut connection = Connection::open(&path).map_err(database)?;
        schema::prepare(&mut connection, &path)?;
        let reader = Connection::open(&path).map_err(database)?;
        schema::configure(&reader).map_err(database)?;
        let nodes = folder.join("nodes");
        let node = Node::register(&nodes, node).map_err(io)?;
        let (writer, jobs) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || write_all(connection, jobs, fail_point.as_ref()))
            .map_err(io)?;
        let reader = Arc::new(Mutex::new(reader));
        Ok(Self {
            shared: Arc::new(Shared {
                writer,
                reader,
                nodes,
                node,
            }),
        })
    }

    /// Creates an execution that this process owns. It is on disk when this returns.
    pub async fn create(&self, new: NewExecution) -> Result<Epoch, AppendError> {
        let node = self.shared.node.id().to_owned();
        self.write(move |transaction| write::create(transaction, &new, &node))
            .await
    }

    /// Records events; they are on disk when this returns. Answers the execution's new version.
    ///
    /// # Errors
    /// A conflict or a lost ownership; nothing is recorded then.
    pub async fn append(&self, append: Append) -> Result<u64, AppendError> {
        self.write(move |transaction| write::append_events(transaction, &append))
            .await
    }

    /// Takes over an execution whose owner is dead, or that has none.
    ///
    /// # Errors
    /// [`AppendError::Owned`] where its owner lives.
    pub async fn claim(&self, row: &ExecutionRow) -> Result<Epoch, AppendError> {
        let (id, from) = (row.id, row.owner.clone());
        if let Some(owner) = &from
            && owner != self.shared.node.id()
            && Node::is_alive(&self.shared.nodes, owner)
        {
            return Err(AppendError::Owned {
                owner: owner.clone(),
            });
        }
        let node = self.shared.node.id().to_owned();
        self.write(move |transaction| write::claim(transaction, id, from.as_deref(), &node))
            .await
    }

    /// Gives an execution back that did not end, if nobody wrote after the `version` that the caller has seen.
    /// False: somebody did, and the caller owns it still.
    pub async fn release_at(
        &self,
        id: ExecutionId,
        epoch: Epoch,
        version: u64,
    ) -> Result<bool, AppendError> {
        self.write(move |transaction| write::release_at(transaction, id, epoch, version))
            .await
    }

    /// Gives an execution back that did not end, for another process to take.
    pub async fn release(&self, id: ExecutionId, epoch: Epoch) -> Result<(), AppendError> {
        self.write(move |transaction| write::release(transaction, id, epoch))
            .await
    }

    /// One execution's row.
    pub async fn find(&self, id: ExecutionId) -> Result<ExecutionRow, ReadError> {
        self.read(move |connection| read::find(connection, id))
            .await
    }

    /// The newest executions, newest first.
    pub async fn list(&self, limit: u32) -> Result<Vec<ExecutionRow>, ReadError> {
        self.read(move |connection| read::list(connection, limit))
            .await
    }

    /// Executions that have not ended, oldest first.
    pub async fn unfinished(&self, limit: u32) -> Result<Vec<ExecutionRow>, ReadError> {
        self.read(move |connection| read::unfinished(connection, limit))
            .await
    }

    /// The events of an execution after a position (0: all), in order.
    pub async fn events(&self, id: ExecutionId, after: u64) -> Result<Vec<Event>, ReadError> {
        self.read(move |connection| read::events(connection, id, after))
            .await
    }

    /// The document that an execution was started with.
    pub async fn workflow(&self, id: ExecutionId) -> Result<StoredWorkflow, ReadError> {
        self.read(move |connection| read::workflow(connection, id))
            .await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, AppendError> + Send + 'static,
    ) -> Result<T, AppendError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let done = match transaction {
                Ok(transaction) => in_savepoint(transaction, work),
                Err(error) => Err(AppendError::Database(copy_of(error))),
            };
            Box::new(move |committed| {
                let result = match committed {
                    Ok(()) => done,
                    Err(error) => done.and(Err(AppendError::Database(copy_of(error)))),
                };
                // The caller may have gone; what was written stays.
                let _ = answer.send(result);
            })
        });
        if self.shared.writer.send(job).await.is_err() {
            return Err(AppendError::Closed);
        }
        answered.await.unwrap_or(Err(AppendError::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let reader = Arc::clone(&self.shared.reader);
        tokio::task::spawn_blocking(move || {
            // A reader that panicked left nothing half done: it only reads.
            work(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .unwrap_or(Err(ReadError::Closed))
    }
}

/// One job's work, undone alone when it fails.
fn in_savepoint<T>(
    transaction: &mut Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, AppendError>,
) -> Result<T, AppendError> {
    transaction.execute_batch("SAVEPOINT job")?;
    let result = work(transaction);
    match &result {
        Ok(_) => transaction.execute_batch("RELEASE job")?,
        // A full disk undoes the whole transaction by itself; its error is the one that counts.
        Err(_) => {
            let _ = transaction.execute_batch("ROLLBACK TO job; RELEASE job");
        }
    }
    result
}

/// The writer: takes what waits, commits it at once, then answers.
fn write_all(mut connection: Connection, mut jobs: mpsc::Receiver<Job>, fail: Option<&FailPoint>) {
    while let Some(first) = jobs.blocking_recv() {
        if let Some(fail) = fail {
            fail.pass(FailSide::Before);
        }
        let mut batch = vec![first];
        // With a fail point every append is a commit of its own, so that points can be counted.
        while fail.is_none() && batch.len() < BATCH_MAX {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let mut finishes: Vec<Finish> = Vec::with_capacity(batch.len());
        let committed = commit(&mut connection, batch, &mut finishes);
        if let Some(fail) = fail {
            fail.pass(FailSide::After);
        }
        for finish in finishes {
            finish(committed.as_ref().copied());
        }
    }
}

fn commit(
    connection: &mut Connection,
    batch: Vec<Job>,
    finishes: &mut Vec<Finish>,
) -> Result<(), rusqlite::Error> {
    let mut batch = batch.into_iter();
    let outcome = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(mut transaction) => {
            for job in batch.by_ref() {
                finishes.push(job(Ok(&mut transaction)));
                if transaction.is_autocommit() {
                    break;
                }
            }
            if transaction.is_autocommit() {
                let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
                let text = "the database undid the transaction".to_owned();
                Err(rusqlite::Error::SqliteFailure(full, Some(text)))
            } else {
                transaction.commit()
            }
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        finishes.extend(batch.map(|job| job(Err(error))));
    }
    outcome
}

/// SQLite's errors cannot be cloned; several callers share one failed commit.
fn copy_of(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            rusqlite::Error::SqliteFailure(*code, text.clone())
        }
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}
