//! Stored schedules: what starts workflows by itself, as records of the journal.
//!
//! When a schedule is due is the record's `due_at`, so that any node finds it. Whoever acts on it writes the record
//! and the execution that it starts in one transaction, which the record's version lets one node do: see [`fire`].

mod check;
mod fire;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use troupe_journal::{AppendError, Journal, Record, RecordWrite};
use troupe_workflow::{ExecutionId, Faults, Schedule, Timestamp};

use crate::operations::OperationError;
use crate::records::{Stored, find};
pub(crate) use check::{check, with_given};
pub(crate) use fire::{Room, due, fire};

/// The kind of their records.
pub(crate) const KIND: &str = "schedule";
/// Others may change a schedule at the same time; each try begins with what they wrote. Bounds the tries.
const TRIES: u32 = 100;
/// How soon, and how late, it is looked whether the execution has ended that a queued start waits for.
const QUEUED_LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A schedule, and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredSchedule {
    /// `sched_…`
    #[serde(skip)]
    pub(crate) id: String,
    /// That of its record.
    #[serde(skip)]
    version: u64,
    pub(crate) schedule: Schedule,
    /// What `every_s` counts from.
    anchor: Timestamp,
    /// The next moment; none: no more.
    planned: Option<Timestamp>,
    /// A moment whose start waits until the last execution has ended.
    queued: Option<Timestamp>,
    last: Option<Started>,
    last_error: Option<LastError>,
    /// Moments that got no start.
    missed: u64,
    pub(crate) created_at: Timestamp,
    /// When somebody changed it last.
    updated_at: Timestamp,
}

/// The last execution that a schedule started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Started {
    id: ExecutionId,
    planned_at: Timestamp,
}

/// Why the last moment got no start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LastError {
    at: Timestamp,
    planned_at: Timestamp,
    message: String,
}

impl Stored for StoredSchedule {
    const KIND: &'static str = KIND;

    fn read(record: &Record) -> Result<Self, OperationError> {
        let stored: Self = serde_json::from_str(&record.body).map_err(anyhow::Error::from)?;
        Ok(Self {
            id: record.id.clone(),
            version: record.version,
            ..stored
        })
    }
}

impl StoredSchedule {
    /// A schedule that begins now.
    pub(crate) fn new(id: String, schedule: Schedule, now: Timestamp) -> Self {
        Self {
            id,
            version: 0,
            planned: schedule.next_after(now, now),
            schedule,
            anchor: now,
            queued: None,
            last: None,
            last_error: None,
            missed: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// What is to be written so that it is kept as it is now.
    pub(crate) fn write(&self, now: Timestamp) -> Result<RecordWrite, OperationError> {
        let body = serde_json::to_string(self).map_err(anyhow::Error::from)?;
        Ok(RecordWrite {
            kind: KIND,
            id: self.id.clone(),
            expected: self.version,
            due_at: self.due_at(now),
            body: Some(body),
        })
    }

    /// When somebody must look at it. A queued start waits for the end of an execution, of which nobody is told: it is
    /// looked for ever more seldom, so that one that waits for days for a person costs little.
    fn due_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.schedule.paused {
            return None;
        }
        let (soonest, latest) = QUEUED_LOOK;
        let look = self
            .queued
            .map(|since| now.plus((now.since(since) / 10).clamp(soonest, latest)));
        self.planned.into_iter().chain(look).min()
    }

    /// The schedule as people and programs see it.
    pub(crate) fn to_json(&self) -> Value {
        let mut view = Map::new();
        view.insert("id".to_owned(), json!(self.id));
        if let Value::Object(form) = json!(self.schedule) {
            view.extend(form);
        }
        let time = |time: Option<Timestamp>| json!(time.map(|time| time.to_string()));
        let next = self.planned.filter(|_| !self.schedule.paused);
        let last = self.last.as_ref().map(
            |last| json!({ "id": last.id.to_string(), "planned_at": last.planned_at.to_string() }),
        );
        let error = self.last_error.as_ref().map(|error| {
            json!({
                "message": error.message,
                "at": error.at.to_string(),
                "planned_at": error.planned_at.to_string(),
            })
        });
        let state = [
            ("next_at", time(next)),
            ("queued_at", time(self.queued)),
            ("last_execution", json!(last)),
            ("last_error", json!(error)),
            ("missed_count", json!(self.missed)),
            ("created_at", time(Some(self.created_at))),
            ("updated_at", time(Some(self.updated_at))),
        ];
        view.extend(state.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(view)
    }

    /// Makes it another schedule, whose moments lie after those that it has acted on.
    fn change(&mut self, schedule: Schedule, now: Timestamp) {
        let old = std::mem::replace(&mut self.schedule, schedule);
        let last = self.last.as_ref().map_or(now, |last| last.planned_at);
        if old.timing != self.schedule.timing || old.timezone != self.schedule.timezone {
            // Clocks differ a little: what was started for a moment is not started again.
            self.planned = self.schedule.next_after(now.max(last), now);
            self.anchor = now;
        } else if old.paused
            && !self.schedule.paused
            && self.planned.is_some_and(|planned| planned <= now)
        {
            // What passed during a pause is neither made up for nor missed.
            self.planned = self.schedule.next_after(now.max(last), self.anchor);
        }
        self.updated_at = now;
    }
}

/// Stores a schedule that was [checked](check), with other records.
pub(crate) async fn create(
    journal: &dyn Journal,
    stored: &StoredSchedule,
    mut records: Vec<RecordWrite>,
) -> Result<(), OperationError> {
    records.push(stored.write(stored.created_at)?);
    match journal.write(Vec::new(), records).await {
        Ok(()) => Ok(()),
        // Nobody else has this id.
        Err(AppendError::Unknown { source }) => {
            match find::<StoredSchedule>(journal, &stored.id).await {
                Ok(_) => Ok(()),
                Err(_) => Err(AppendError::Unknown { source }.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Changes parts of a schedule: the fields of `patch` replace its own, `null` means the default.
pub(crate) async fn patch(
    journal: &dyn Journal,
    id: &str,
    patch: &Value,
    now: impl Fn() -> Timestamp,
) -> Result<StoredSchedule, OperationError> {
    for _ in 0..TRIES {
        let mut stored: StoredSchedule = find(journal, id).await?;
        let schedule = patched(&stored.schedule, patch)?;
        let old = &stored.schedule;
        // What has not changed is not checked: a schedule whose workflow is gone can still be paused.
        if old.workflow_id != schedule.workflow_id
            || old.inputs != schedule.inputs
            || old.config != schedule.config
        {
            check(journal, &schedule).await?;
        }
        let now = now();
        stored.change(schedule, now);
        let write = stored.write(now)?;
        let body = write.body.clone();
        match journal.write(Vec::new(), vec![write]).await {
            Ok(()) => {
                stored.version += 1;
                return Ok(stored);
            }
            Err(AppendError::Record { .. }) => {}
            Err(AppendError::Unknown { source }) => {
                let found = journal.record(KIND, id.to_owned()).await?;
                if found.map(|record| record.body) == body {
                    stored.version += 1;
                    return Ok(stored);
                }
                tracing::warn!(
                    schedule.id = id,
                    source,
                    "an answer of the journal was lost; trying again"
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy(id))
}

/// Removes a schedule; what it has started goes on.
pub(crate) async fn delete(journal: &dyn Journal, id: &str) -> Result<(), OperationError> {
    let mut is_perhaps_done = false;
    for _ in 0..TRIES {
        let Some(record) = journal.record(KIND, id.to_owned()).await? else {
            if is_perhaps_done {
                return Ok(());
            }
            return find::<StoredSchedule>(journal, id).await.map(|_| ());
        };
        // One that cannot be read can be removed all the same.
        let write = RecordWrite {
            kind: KIND,
            id: record.id,
            expected: record.version,
            due_at: None,
            body: None,
        };
        match journal.write(Vec::new(), vec![write]).await {
            Ok(()) => return Ok(()),
            Err(AppendError::Record { .. }) => {}
            Err(AppendError::Unknown { .. }) => is_perhaps_done = true,
            Err(error) => return Err(error.into()),
        }
    }
    Err(busy(id))
}

/// The schedule that a patch makes of another one.
fn patched(schedule: &Schedule, patch: &Value) -> Result<Schedule, OperationError> {
    let mut faults = Faults::default();
    let (Value::Object(mut form), Some(patch)) = (json!(schedule), patch.as_object()) else {
        faults.add("", "a change of a schedule is an object with its fields");
        return Err(OperationError::Faults(faults));
    };
    // It has one of the two: whoever gives one means it instead of the other.
    for (given, other) in [("cron", "every_s"), ("every_s", "cron")] {
        if patch.get(given).is_some_and(|value| !value.is_null()) {
            form.remove(other);
        }
    }
    form.extend(patch.clone());
    Schedule::read(&Value::Object(form)).map_err(OperationError::Faults)
}

fn busy(id: &str) -> OperationError {
    OperationError::Busy(format!("{id} changes all the time; try again"))
}

#[cfg(test)]
mod tests;
