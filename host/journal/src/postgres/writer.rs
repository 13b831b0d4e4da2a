//! The writers: each has a connection of its own, takes what waits, commits it in one transaction, then answers.
//!
//! Appends of one execution go to one writer, one after another: those of this process never get in each other's way.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::append::{Outcome, append_all};
use super::connection::{Database, in_transaction, may_try_again, pause};
use super::fault::Fault;
use crate::error::AppendError;
use crate::fail_point::{FailPoint, Gate};
use crate::prepared::Prepared;

/// Writers, and connections for them: while one waits for the disk another prepares.
const WRITERS: usize = 3;
/// Appends that share one commit at most: bounds how long the first of them waits.
const BATCH_MAX: usize = 256;
/// Bytes that share one commit, but for an append that has more: bounds what is held for its statements.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Appends that wait for a writer: further callers wait before they may wait.
const QUEUE_MAX: usize = 1024;

/// An append, and who waits for it.
struct Job {
    append: Prepared,
    answer: oneshot::Sender<Outcome>,
}

/// The way to the writers, which end with it.
pub(super) struct Writers {
    queues: Vec<mpsc::Sender<Job>>,
    _tasks: JoinSet<()>,
}

impl Writers {
    pub(super) fn start(database: &Database, fail_point: Option<&Arc<FailPoint>>) -> Self {
        let mut tasks = JoinSet::new();
        // With a fail point appends are counted, so they have an order.
        let count = if fail_point.is_some() { 1 } else { WRITERS };
        let queues = (0..count)
            .map(|_| {
                let (jobs, waiting) = mpsc::channel(QUEUE_MAX);
                let writer = Writer {
                    database: database.clone(),
                    fail_point: fail_point.map(Arc::clone),
                    connection: None,
                };
                tasks.spawn(writer.write_all(waiting));
                jobs
            })
            .collect();
        Self {
            queues,
            _tasks: tasks,
        }
    }

    /// Has events recorded; they are on disk when this returns.
    pub(super) async fn append(&self, append: Prepared) -> Outcome {
        let mut hasher = DefaultHasher::new();
        append.execution.hash(&mut hasher);
        let queues = u64::try_from(self.queues.len()).unwrap_or(1);
        let index = usize::try_from(hasher.finish() % queues).unwrap_or(0);
        let (answer, answered) = oneshot::channel();
        if self.queues[index]
            .send(Job { append, answer })
            .await
            .is_err()
        {
            return Err(AppendError::Closed);
        }
        answered.await.unwrap_or(Err(AppendError::Closed))
    }
}

struct Writer {
    database: Database,
    fail_point: Option<Arc<FailPoint>>,
    connection: Option<PgConnection>,
}

impl Writer {
    async fn write_all(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut later = VecDeque::new();
        loop {
            let first = match later.pop_front() {
                Some(job) => job,
                None => match jobs.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            let batch = self.collect(first, &mut jobs, &mut later);
            let (appends, answers): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|job| (job.append, job.answer))
                .unzip();
            let fail_point = self.fail_point.clone();
            let gate = Gate::enter(fail_point.as_deref(), "append");
            let outcomes = self.write(&appends).await;
            let outcomes = outcomes.into_iter().map(|outcome| gate.leave(outcome));
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // The caller may have gone; what was written stays.
                let _ = answer.send(outcome);
            }
        }
    }

    /// What waits and can share a commit: one append of each execution.
    fn collect(
        &self,
        first: Job,
        jobs: &mut mpsc::Receiver<Job>,
        later: &mut VecDeque<Job>,
    ) -> Vec<Job> {
        let mut executions = BTreeSet::from([first.append.execution]);
        let mut bytes = bytes_of(&first.append);
        let mut batch = vec![first];
        // With a fail point every job is a commit of its own, so that they can be counted.
        while self.fail_point.is_none() && batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            let next = later.pop_front().or_else(|| jobs.try_recv().ok());
            let Some(job) = next else { break };
            if !executions.insert(job.append.execution) {
                later.push_front(job);
                break;
            }
            bytes += bytes_of(&job.append);
            batch.push(job);
        }
        batch
    }

    /// What became of each. Where the server finds one impossible, each has a transaction of its own.
    async fn write(&mut self, appends: &[Prepared]) -> Vec<Outcome> {
        let together: Vec<_> = appends.iter().collect();
        let fault = match self.try_to_write(&together).await {
            Ok(outcomes) => return outcomes,
            Err(fault) => fault,
        };
        let is_one_of_them = matches!(fault, Fault::Database(_)) && !fault.spoils_connection();
        if is_one_of_them && appends.len() > 1 {
            let mut outcomes = Vec::with_capacity(appends.len());
            for append in appends {
                let outcome = match self.try_to_write(&[append]).await {
                    Ok(mut outcomes) => outcomes.pop().unwrap_or(Err(AppendError::Closed)),
                    Err(fault) => Err(fault.into()),
                };
                outcomes.push(outcome);
            }
            return outcomes;
        }
        let error = AppendError::from(fault);
        appends.iter().map(|_| Err(copy_of(&error))).collect()
    }

    async fn try_to_write(
        &mut self,
        appends: &[&Prepared],
    ) -> Result<Vec<Outcome>, Fault<AppendError>> {
        let mut tries = 1;
        loop {
            match self.write_once(appends).await {
                Err(fault) if may_try_again(tries, &fault) => pause(tries).await,
                done => return done,
            }
            tries += 1;
        }
    }

    async fn write_once(
        &mut self,
        appends: &[&Prepared],
    ) -> Result<Vec<Outcome>, Fault<AppendError>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        let done = in_transaction(&mut connection, &appends, |appends, connection| {
            Box::pin(append_all(connection, appends))
        })
        .await;
        if !done.as_ref().is_err_and(Fault::spoils_connection) {
            self.connection = Some(connection);
        }
        done
    }
}

fn bytes_of(append: &Prepared) -> usize {
    let rows = append.rows.iter().map(|row| row.body.len());
    let blobs = append.blobs.iter().map(|blob| blob.text.len());
    rows.chain(blobs).sum()
}

/// Errors of a database cannot be cloned; several callers share one failed commit.
fn copy_of(error: &AppendError) -> AppendError {
    match error {
        AppendError::Unknown { source } => AppendError::Unknown {
            source: source.to_string().into(),
        },
        AppendError::Database { retry, source } => AppendError::Database {
            retry: *retry,
            source: source.to_string().into(),
        },
        _ => AppendError::Closed,
    }
}
