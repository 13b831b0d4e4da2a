//! How long executions that have ended are kept, and who removes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use troupe_journal::{AppendError, ExecutionRow, Journal, Listing, Order, RecordWrite};
use troupe_workflow::{ExecutionId, ExecutionStatus, Timestamp};

use crate::config::RetentionSection;

/// The kind of the record that says when somebody has to tidy up again.
pub(crate) const KIND: &str = "upkeep";
const ID: &str = "retention";
/// One of all processes tidies up so often; and so long at most, before the next may.
const EVERY: Duration = Duration::from_secs(60);
/// After each batch, so that others write in between.
const PAUSE: Duration = Duration::from_millis(20);
const DAY: Duration = Duration::from_hours(24);

/// The lock's body. The time is in here and not the record's own: what is due there wakes whoever works on executions.
#[derive(Serialize, Deserialize)]
struct Upkeep {
    next_at: Timestamp,
}

/// Removes what has been kept long enough, where no other process did so within the last minute. To be called often.
/// Answers how many executions it removed.
///
/// # Errors
/// What the journal says.
pub(crate) async fn run(
    journal: &dyn Journal,
    retention: &RetentionSection,
    now: Timestamp,
) -> anyhow::Result<u64> {
    if !has_work(journal, retention, now).await? || !take_turn(journal, now).await? {
        return Ok(0);
    }
    let started = crate::clock::now();
    let mut removed = 0;
    for (status, days) in retention.by_status() {
        let Some(days) = days else { continue };
        let kept_for = DAY.saturating_mul(days);
        let mut old = Old::new(vec![status], before(now, kept_for), retention.batch);
        loop {
            let page = old.page(journal).await?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                removed += u64::from(remove(journal, row.id).await?);
            }
            if crate::clock::now().since(started) > EVERY {
                return Ok(removed);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    if removed > 0 && !journal.sweep().await? {
        tracing::debug!("the journal's log is in use, and is emptied later");
    }
    Ok(removed)
}

/// Removes one that was found to have ended; false: it is wanted again, or gone already.
pub(crate) async fn remove(journal: &dyn Journal, id: ExecutionId) -> Result<bool, AppendError> {
    match journal.delete(id).await {
        // Somebody retried it since it was listed.
        Err(AppendError::NotEnded(_)) => Ok(false),
        done => done,
    }
}

/// Whether there is anything to remove: where there is not, nothing is written.
async fn has_work(
    journal: &dyn Journal,
    retention: &RetentionSection,
    now: Timestamp,
) -> anyhow::Result<bool> {
    for (status, days) in retention.by_status() {
        let Some(days) = days else { continue };
        let mut old = Old::new(vec![status], before(now, DAY.saturating_mul(days)), 1);
        if !old.page(journal).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it is this process's turn.
async fn take_turn(journal: &dyn Journal, now: Timestamp) -> anyhow::Result<bool> {
    let record = journal.record(KIND, ID.to_owned()).await?;
    let is_over = |body: &str| {
        let upkeep = serde_json::from_str::<Upkeep>(body);
        // A clock that was wrong must not end it for ever.
        upkeep.map_or(true, |upkeep| {
            upkeep.next_at <= now || upkeep.next_at > now.plus(EVERY)
        })
    };
    if record.as_ref().is_some_and(|record| !is_over(&record.body)) {
        return Ok(false);
    }
    let upkeep = Upkeep {
        next_at: now.plus(EVERY),
    };
    let write = RecordWrite {
        kind: KIND,
        id: ID.to_owned(),
        expected: record.map_or(0, |record| record.version),
        due_at: None,
        body: Some(serde_json::to_string(&upkeep)?),
    };
    match journal.write(Vec::new(), vec![write]).await {
        Ok(()) => Ok(true),
        // Another was quicker; or nobody knows, and the next minute comes soon.
        Err(AppendError::Record { .. } | AppendError::Unknown { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Executions that ended before a time, a page after another.
pub(crate) struct Old {
    listing: Listing,
}

impl Old {
    pub(crate) fn new(statuses: Vec<ExecutionStatus>, before: Timestamp, limit: u32) -> Self {
        // Ids sort by time: what was created later cannot have ended before, and is not even read.
        let millis = u64::try_from(before.as_millis()).unwrap_or(0);
        Self {
            listing: Listing {
                statuses,
                updated_before: Some(before),
                after: Some(ExecutionId::from_parts(millis, 0)),
                order: Order::NewestFirst,
                limit: limit.max(1),
                ..Listing::default()
            },
        }
    }

    /// The next page; empty: there are no more.
    pub(crate) async fn page(
        &mut self,
        journal: &dyn Journal,
    ) -> anyhow::Result<Vec<ExecutionRow>> {
        let page = journal.list(self.listing.clone()).await?;
        if let Some(last) = page.last() {
            self.listing.after = Some(last.id);
        }
        Ok(page)
    }
}

/// So long before a time.
pub(crate) fn before(now: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(millis))
}

#[cfg(test)]
mod tests;
