//! What a node does about schedules that are due.
//!
//! What was decided is written in one transaction with the execution that is started, and only if the schedule's
//! record is as it was read. So of many nodes that look at the same moment one starts something, and a process that
//! ends in between has done all of it or nothing.

use std::time::Duration;

use serde_json::Value;
use troupe_journal::{
    AppendError, FirstOwner, Journal, ReadError, Record, RecordListing, RecordWrite,
};
use troupe_workflow::{LastRun, Standing, Timestamp};

use super::check::runnable;
use super::{KIND, LastError, Started, StoredSchedule};
use crate::clock;
use crate::operations::OperationError;
use crate::records::Stored as _;
use crate::run::{self, NewRun, Planned, RunSettings};

/// Schedules that one look acts on: bounds what it holds, and how long executions wait for it.
const DUE_MAX: u32 = 64;
/// How long a start is put off when too many executions wait.
const FULL_PAUSE: Duration = Duration::from_secs(5);
/// How long a schedule is left alone that cannot be read or written, perhaps because another version wrote it.
const ASIDE_PAUSE: Duration = Duration::from_secs(600);
/// Bounds what a workflow's faults put into the record.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Whether executions may be started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// As many wait as may wait.
    Full,
}

/// Schedules that are due, those first that have been due longest.
pub(crate) async fn due(journal: &dyn Journal, now: Timestamp) -> Result<Vec<Record>, ReadError> {
    let listing = RecordListing {
        kind: KIND,
        due: Some(now),
        after: None,
        limit: DUE_MAX,
    };
    journal.records(listing).await
}

/// Acts on a schedule that is due.
///
/// # Errors
/// A journal that cannot be read or written at the moment. What is wrong with this schedule alone is no error: others
/// must not wait for it.
pub(crate) async fn fire(
    journal: &dyn Journal,
    record: &Record,
    (now, room): (Timestamp, Room),
) -> Result<(), OperationError> {
    let done = match StoredSchedule::read(record) {
        Ok(stored) => act(journal, stored, (now, room)).await,
        Err(error) => Err(error),
    };
    match done {
        Err(OperationError::Host(error)) => {
            tracing::error!(
                schedule.id = record.id,
                error = format!("{error:#}"),
                "a schedule cannot be worked on; it is left for a while"
            );
            let aside = RecordWrite {
                kind: KIND,
                id: record.id.clone(),
                expected: record.version,
                due_at: Some(now.plus(ASIDE_PAUSE)),
                body: Some(record.body.clone()),
            };
            written(&record.id, journal.write(Vec::new(), vec![aside]).await)
        }
        other => other,
    }
}

async fn act(
    journal: &dyn Journal,
    mut stored: StoredSchedule,
    (now, room): (Timestamp, Room),
) -> Result<(), OperationError> {
    let standing = Standing {
        planned: stored.planned,
        queued: stored.queued,
        last: last_run(journal, &stored).await?,
    };
    let firing = stored.schedule.due(&standing, now, stored.anchor);
    if firing.start.is_some() && room == Room::Full {
        let put_off = RecordWrite {
            due_at: Some(now.plus(FULL_PAUSE)),
            ..stored.write(now)?
        };
        return written(&stored.id, journal.write(Vec::new(), vec![put_off]).await);
    }
    stored.planned = firing.next;
    stored.queued = firing.queued;
    stored.missed = stored.missed.saturating_add(firing.missed);
    let Some(moment) = firing.start else {
        let write = stored.write(now)?;
        return written(&stored.id, journal.write(Vec::new(), vec![write]).await);
    };
    let (definition, version) = match runnable(journal, &stored.schedule).await {
        Ok(found) => found,
        Err(error @ (OperationError::Busy(_) | OperationError::Host(_))) => return Err(error),
        Err(error) => return pass_over(journal, stored, (moment, now), &error).await,
    };
    let id = clock::new_execution_id();
    stored.last = Some(Started {
        id,
        planned_at: moment,
    });
    stored.last_error = None;
    let new = NewRun {
        definition,
        inputs: Value::Object(stored.schedule.inputs.clone()),
        settings: RunSettings::default(),
        workflow: Some(version),
        first_owner: FirstOwner::Anyone,
        forked_from: None,
        kept: Vec::new(),
        planned: Some(Planned {
            schedule: stored.id.clone(),
            at: moment,
        }),
        records: vec![stored.write(now)?],
    };
    let created = run::create(journal, id, new).await;
    if created.is_ok() {
        tracing::info!(schedule.id = stored.id, execution.id = %id, planned_at = %moment, "a schedule started an execution");
    }
    written(&stored.id, created.map(|_owned| ()))
}

/// Notes why a moment gets no start, and goes on with the next.
async fn pass_over(
    journal: &dyn Journal,
    mut stored: StoredSchedule,
    (moment, now): (Timestamp, Timestamp),
    error: &OperationError,
) -> Result<(), OperationError> {
    let message: String = error.to_string().chars().take(MESSAGE_CHARS_MAX).collect();
    tracing::warn!(schedule.id = stored.id, planned_at = %moment, message, "a schedule started nothing");
    stored.missed = stored.missed.saturating_add(1);
    stored.last_error = Some(LastError {
        at: now,
        planned_at: moment,
        message,
    });
    let write = stored.write(now)?;
    written(&stored.id, journal.write(Vec::new(), vec![write]).await)
}

/// How the last execution fares that the schedule started.
async fn last_run(journal: &dyn Journal, stored: &StoredSchedule) -> Result<LastRun, ReadError> {
    let Some(last) = &stored.last else {
        return Ok(LastRun::Ended);
    };
    match journal.find(last.id).await {
        Ok(row) if !row.status.is_terminal() => Ok(LastRun::Running),
        // One that was removed had ended.
        Ok(_) | Err(ReadError::NotFound(_)) => Ok(LastRun::Ended),
        Err(error) => Err(error),
    }
}

/// What comes of a write of a schedule's record.
fn written(id: &str, result: Result<(), AppendError>) -> Result<(), OperationError> {
    match result {
        Ok(()) => Ok(()),
        // Another node was faster, or somebody changed or removed it: what is to be done is decided anew.
        Err(AppendError::Record { kind: KIND, .. }) => Ok(()),
        // The next look sees whether it happened.
        Err(AppendError::Unknown { source }) => {
            tracing::warn!(
                schedule.id = id,
                source,
                "an answer of the journal was lost"
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
