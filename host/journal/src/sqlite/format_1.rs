//! Brings a file of format 1 to the current one.

use rusqlite::Transaction;
use troupe_workflow::ExecutionId;

use crate::encode::encode;

/// Format 1 had the events of an execution under its id, without checksums.
pub(crate) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "ALTER TABLE workflows RENAME TO workflows_1;
         ALTER TABLE executions RENAME TO executions_1;
         ALTER TABLE events RENAME TO events_1;
         DROP INDEX executions_by_status;",
    )?;
    super::schema::make(transaction)?;
    // What had no owner waited for people or for a timer: it is looked at once.
    transaction.execute_batch(
        "INSERT INTO workflows SELECT digest, name, document, created_at FROM workflows_1;
         INSERT INTO executions (id, digest, status, version, owner, epoch, due_at, settings, created_at, updated_at)
            SELECT id, workflow, status, version, owner, epoch,
                CASE WHEN owner IS NULL AND status NOT IN ('completed', 'failed', 'cancelled') THEN updated_at END,
                settings, created_at, updated_at FROM executions_1 ORDER BY id;",
    )?;
    super::format_2::fill(transaction)?;
    copy_events(transaction)?;
    transaction
        .execute_batch("DROP TABLE events_1; DROP TABLE executions_1; DROP TABLE workflows_1;")
}

fn copy_events(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut read = transaction.prepare(
        "SELECT e.key, o.execution, o.position, o.body FROM events_1 o JOIN executions e ON e.id = o.execution",
    )?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let (key, id, position): (i64, String, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let body: String = row.get(3)?;
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, error)
        };
        let id: ExecutionId = id.parse().map_err(|error| wrong(Box::new(error)))?;
        let event = serde_json::from_str(&body).map_err(|error| wrong(Box::new(error)))?;
        let (rows, blobs) = encode(id, position.saturating_sub(1), &[event])
            .map_err(|error| wrong(Box::new(error)))?;
        super::write::write_events(transaction, key, &rows, &blobs)?;
    }
    Ok(())
}
