//! What falls due beside executions: schedules start, and what is to be forgotten is removed.

use std::time::Duration;

use troupe_journal::{AppendError, Journal, RecordListing, RecordWrite};
use troupe_workflow::Timestamp;

use crate::api;
use crate::node::Node;
use crate::schedules;

/// Records that are removed when they fall due: until then they are only looked up.
const FORGOTTEN: [&str; 2] = [api::IDEMPOTENCY, PROBE];
/// The kind of the record that a process writes to see whether it can.
pub(crate) const PROBE: &str = "probe";
/// How long that of a process stays that writes none any more: each has its own, and is never seen again.
pub(crate) const PROBE_KEPT_FOR: Duration = Duration::from_hours(24);
/// Records that one transaction removes; bounds it.
const FORGOTTEN_AT_ONCE: u32 = 500;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// Something was due; more may be.
    Something,
}

/// Does what is due beside executions.
///
/// # Errors
/// A journal that cannot be read or written at the moment.
pub(crate) async fn run_due(node: &Node, now: Timestamp) -> anyhow::Result<Found> {
    let mut found = Found::Nothing;
    let due = schedules::due(&*node.journal, now).await?;
    if !due.is_empty() {
        found = Found::Something;
        let room = node.room(now).await?;
        for record in &due {
            schedules::fire(&*node.journal, record, (now, room)).await?;
        }
    }
    for kind in FORGOTTEN {
        if forget(&*node.journal, kind, now).await? == Found::Something {
            found = Found::Something;
        }
    }
    Ok(found)
}

/// Removes records of a kind that are due.
async fn forget(
    journal: &dyn Journal,
    kind: &'static str,
    now: Timestamp,
) -> anyhow::Result<Found> {
    let listing = RecordListing {
        kind,
        due: Some(now),
        after: None,
        limit: FORGOTTEN_AT_ONCE,
    };
    let due = journal.records(listing).await?;
    if due.is_empty() {
        return Ok(Found::Nothing);
    }
    let removals = due.into_iter().map(|record| RecordWrite {
        kind,
        id: record.id,
        expected: record.version,
        due_at: None,
        body: None,
    });
    match journal.write(Vec::new(), removals.collect()).await {
        // Another node removes them too; after a lost answer the next look sees what is left.
        Ok(()) | Err(AppendError::Record { .. } | AppendError::Unknown { .. }) => {
            Ok(Found::Something)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use troupe_journal::MemoryJournal;

    use super::*;

    #[tokio::test]
    async fn what_is_to_be_forgotten_is_removed_in_batches_when_it_is_due() {
        let journal = MemoryJournal::new("a");
        let kind = FORGOTTEN[0];
        let count = FORGOTTEN_AT_ONCE + 7;
        let records = (0..count).map(|number| RecordWrite {
            kind,
            id: format!("{number}"),
            expected: 0,
            due_at: Some(Timestamp::from_millis(if number == 0 { 9 } else { 5 })),
            body: Some("{}".to_owned()),
        });
        journal.write(Vec::new(), records.collect()).await.unwrap();
        let at = Timestamp::from_millis;
        assert_eq!(forget(&journal, kind, at(4)).await.unwrap(), Found::Nothing);
        for expected in [Found::Something, Found::Something, Found::Nothing] {
            assert_eq!(forget(&journal, kind, at(5)).await.unwrap(), expected);
        }
        assert_eq!(journal.next_due().await.unwrap(), Some(at(9)));
    }
}
