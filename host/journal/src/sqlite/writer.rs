//! The one thread that writes: it takes what waits, commits it in one transaction, then answers.

use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::error::AppendError;
use crate::fail_point::{Delivery, FailPoint};

/// Jobs that share one commit at most: bounds how long the first of them waits.
const BATCH_MAX: usize = 256;
/// Jobs that wait for the writer: further callers wait before they may wait.
const QUEUE_MAX: usize = 1024;

/// A piece of work for the writer.
struct Job {
    /// What it does, as fail points name it.
    name: &'static str,
    work: Work,
}

/// Does its part in the open transaction, or is told why there is none.
type Work = Box<dyn FnOnce(Result<&mut Transaction<'_>, &rusqlite::Error>) -> Finish + Send>;
/// Told whether the commit succeeded; answers the caller.
type Finish = Box<dyn FnOnce(Result<Delivery, &rusqlite::Error>) + Send>;

/// The way to the writer's thread, which ends with it.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        fail_point: Option<Arc<FailPoint>>,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || write_all(connection, waiting, fail_point.as_deref()))?;
        Ok(Self { jobs })
    }

    /// Has work done in a transaction; it is on disk when this returns.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, AppendError> + Send + 'static,
    ) -> Result<T, AppendError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |transaction| {
            let done = match transaction {
                Ok(transaction) => in_savepoint(transaction, work),
                Err(error) => Err(copy_of(error).into()),
            };
            Box::new(move |committed| {
                let result = match committed {
                    Ok(Delivery::Told) => done,
                    Ok(Delivery::Lost) => Err(AppendError::Unknown {
                        source: "the answer was lost".into(),
                    }),
                    Err(error) => done.and(Err(uncommitted(error))),
                };
                // The caller may have gone; what was written stays.
                let _ = answer.send(result);
            })
        });
        if self.jobs.send(Job { name, work }).await.is_err() {
            return Err(AppendError::Closed);
        }
        answered.await.unwrap_or(Err(AppendError::Closed))
    }
}

/// One job's work, undone alone when it fails.
fn in_savepoint<T>(
    transaction: &mut Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, AppendError>,
) -> Result<T, AppendError> {
    transaction.prepare_cached("SAVEPOINT job")?.execute([])?;
    let result = work(transaction);
    match &result {
        Ok(_) => {
            transaction.prepare_cached("RELEASE job")?.execute([])?;
        }
        // A full disk undoes the whole transaction by itself; its error is the one that counts.
        Err(_) => {
            let _ = transaction.execute_batch("ROLLBACK TO job; RELEASE job");
        }
    }
    result
}

fn write_all(mut connection: Connection, mut jobs: mpsc::Receiver<Job>, fail: Option<&FailPoint>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        // With a fail point every job is a commit of its own, so that they can be counted.
        while fail.is_none() && batch.len() < BATCH_MAX {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let passes = fail.map(|fail| (fail.enter("write"), fail.enter(batch[0].name)));
        let mut finishes: Vec<Finish> = Vec::with_capacity(batch.len());
        let committed = commit(&mut connection, batch, &mut finishes);
        let mut delivery = Delivery::Told;
        if let (Some(fail), Some((any, named))) = (fail, passes) {
            for pass in [any, named] {
                if fail.leave(pass) == Delivery::Lost {
                    delivery = Delivery::Lost;
                }
            }
        }
        for finish in finishes {
            finish(committed.as_ref().map(|()| delivery));
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
                finishes.push((job.work)(Ok(&mut transaction)));
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
        finishes.extend(batch.map(|job| (job.work)(Err(error))));
    }
    outcome
}

/// What a commit that failed means for one of its jobs. Where the disk failed in the middle of it, nobody knows what
/// is there when the file is next read.
fn uncommitted(error: &rusqlite::Error) -> AppendError {
    let copy = copy_of(error);
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::SystemIoFailure) => AppendError::Unknown {
            source: copy.into(),
        },
        _ => copy.into(),
    }
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
