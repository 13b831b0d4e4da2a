//! Brings a file of format 3 to the current one, in which events lie in the order in which they were appended.

use rusqlite::Transaction;

use super::schema::EVENTS;

/// Format 3 had the events of each execution together: a kibibyte of each took a page of its own, and every append wrote
/// two. The pages of the old table stay in the file and are used again; until the end of the transaction the file and its
/// log hold the events twice.
pub(crate) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("ALTER TABLE events RENAME TO events_3")?;
    transaction.execute_batch(EVENTS)?;
    transaction.execute_batch(
        "INSERT INTO events (execution, position, body, payloads, checksum)
            SELECT execution, position, body, payloads, checksum FROM events_3 ORDER BY execution, position;
         DROP TABLE events_3;",
    )
}
