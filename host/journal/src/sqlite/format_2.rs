//! Brings a file of format 2 to format 3, in which records and the rows of executions have checksums.

use rusqlite::types::ValueRef;
use rusqlite::{Row, Transaction, params};
use troupe_workflow::Timestamp;

use crate::checksum::{Fixed, of_record};
use crate::execution::WorkflowVersion;
use crate::record::Record;

/// Rows that are read at once: bounds memory.
const PAGE: u32 = 1_000;

/// Format 2 had no column for them. What was damaged before cannot be told from what was written.
pub(crate) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "ALTER TABLE executions ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE records ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;",
    )?;
    fill(transaction)
}

/// Gives every row its checksum.
pub(crate) fn fill(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut after = None;
    loop {
        let page = executions(transaction, after)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (key, checksum) in page {
            transaction
                .prepare_cached("UPDATE executions SET checksum = ?2 WHERE key = ?1")?
                .execute(params![key, checksum])?;
        }
    }
    let mut after = (String::new(), String::new());
    loop {
        let page = records(transaction, &after)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        let end = (last.kind.clone(), last.id.clone());
        for record in &page {
            transaction
                .prepare_cached("UPDATE records SET checksum = ?3 WHERE kind = ?1 AND id = ?2")?
                .execute(params![record.kind, record.id, of_record(record)])?;
        }
        // A key that is no text is read as another one, which may be the same for ever.
        if end == after {
            return Ok(());
        }
        after = end;
    }
}

fn executions(
    transaction: &Transaction<'_>,
    after: Option<i64>,
) -> rusqlite::Result<Vec<(i64, u32)>> {
    let mut statement = transaction.prepare_cached(
        "SELECT key, id, digest, workflow, workflow_version, settings, created_at FROM executions
         WHERE ?1 IS NULL OR key > ?1 ORDER BY key LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, PAGE], |row| {
        let (id, digest, settings) = (text(row, 1)?, text(row, 2)?, text(row, 5)?);
        let version = integer(row, 4)?.and_then(|version| u32::try_from(version).ok());
        let workflow = text(row, 3)?.zip(version);
        let workflow = workflow.map(|(id, version)| WorkflowVersion { id, version });
        let fixed = Fixed {
            id: &id.unwrap_or_default(),
            digest: &digest.unwrap_or_default(),
            workflow: workflow.as_ref(),
            settings: &settings.unwrap_or_default(),
            created_at: Timestamp::from_millis(integer(row, 6)?.unwrap_or_default()),
        };
        Ok((row.get(0)?, fixed.checksum()))
    })?;
    rows.collect()
}

fn records(
    transaction: &Transaction<'_>,
    after: &(String, String),
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = transaction.prepare_cached(
        "SELECT kind, id, version, due_at, body FROM records WHERE (kind, id) > (?1, ?2)
         ORDER BY kind, id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![after.0, after.1, PAGE], |row| {
        let version = integer(row, 2)?.and_then(|version| u64::try_from(version).ok());
        Ok(Record {
            kind: text(row, 0)?.unwrap_or_default(),
            id: text(row, 1)?.unwrap_or_default(),
            version: version.unwrap_or_default(),
            due_at: integer(row, 3)?.map(Timestamp::from_millis),
            body: text(row, 4)?.unwrap_or_default(),
        })
    })?;
    rows.collect()
}

/// The text that lies there, readable or not: one damaged row must not keep the file from being opened.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
    })
}

fn integer(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => Some(number),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => None,
    })
}
