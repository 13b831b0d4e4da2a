//! Records and documents in the file.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use troupe_workflow::{Timestamp, WorkflowDigest};

use crate::error::{AppendError, ReadError};
use crate::record::{Document, Record, RecordListing, RecordWrite};

/// Writes records, if each is at the version that was expected.
pub(crate) fn write(
    transaction: &Transaction<'_>,
    records: &[RecordWrite],
) -> Result<(), AppendError> {
    for record in records {
        let due_at = record.due_at.map(Timestamp::as_millis);
        let changed = match (&record.body, record.expected) {
            (Some(body), 0) => transaction
                .prepare_cached(
                    "INSERT INTO records (kind, id, version, due_at, body) VALUES (?1, ?2, 1, ?3, ?4)
                     ON CONFLICT (kind, id) DO NOTHING",
                )?
                .execute(params![record.kind, record.id, due_at, body])?,
            (Some(body), expected) => transaction
                .prepare_cached(
                    "UPDATE records SET version = version + 1, due_at = ?4, body = ?5
                     WHERE kind = ?1 AND id = ?2 AND version = ?3",
                )?
                .execute(params![record.kind, record.id, expected, due_at, body])?,
            (None, expected) => transaction
                .prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2 AND version = ?3")?
                .execute(params![record.kind, record.id, expected])?,
        };
        if changed == 0 {
            return Err(AppendError::Record {
                kind: record.kind,
                id: record.id.clone(),
            });
        }
    }
    Ok(())
}

pub(crate) fn write_document(
    transaction: &Transaction<'_>,
    document: &Document,
    at: Timestamp,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO workflows (digest, name, document, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (digest) DO NOTHING",
        )?
        .execute(params![
            document.digest.as_str(),
            document.name,
            document.text,
            at.as_millis()
        ])?;
    Ok(())
}

/// Removes a document that no execution was begun with. Stored workflows keep theirs: their records name it.
pub(crate) fn delete_unused_document(
    transaction: &Transaction<'_>,
    digest: &str,
) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM workflows WHERE digest = ?1
            AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.digest = ?1)
            AND NOT EXISTS (SELECT 1 FROM records r WHERE r.kind = 'workflow' AND instr(r.body, ?1) > 0)",
        [digest],
    )?;
    Ok(())
}

pub(crate) fn document(
    connection: &Connection,
    digest: &WorkflowDigest,
) -> Result<Document, ReadError> {
    connection
        .prepare_cached("SELECT name, document FROM workflows WHERE digest = ?1")?
        .query_row([digest.as_str()], |row| {
            Ok(Document {
                digest: digest.clone(),
                name: row.get(0)?,
                text: row.get(1)?,
            })
        })
        .optional()?
        .ok_or_else(|| ReadError::NoDocument(digest.to_string()))
}

pub(super) fn record_of(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        kind: row.get(0)?,
        id: row.get(1)?,
        version: row.get(2)?,
        due_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_millis),
        body: row.get(4)?,
    })
}

pub(crate) fn find(
    connection: &Connection,
    kind: &str,
    id: &str,
) -> Result<Option<Record>, ReadError> {
    Ok(connection
        .prepare_cached(
            "SELECT kind, id, version, due_at, body FROM records WHERE kind = ?1 AND id = ?2",
        )?
        .query_row([kind, id], record_of)
        .optional()?)
}

pub(crate) fn list(
    connection: &Connection,
    listing: &RecordListing,
) -> Result<Vec<Record>, ReadError> {
    let columns = "SELECT kind, id, version, due_at, body FROM records WHERE kind = ?1";
    let rows: Result<Vec<_>, _> = match listing.due {
        Some(due) => connection
            .prepare_cached(&format!(
                "{columns} AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3"
            ))?
            .query_map(
                params![listing.kind, due.as_millis(), listing.limit],
                record_of,
            )?
            .collect(),
        None => connection
            .prepare_cached(&format!("{columns} AND id > ?2 ORDER BY id LIMIT ?3"))?
            .query_map(
                params![
                    listing.kind,
                    listing.after.as_deref().unwrap_or(""),
                    listing.limit
                ],
                record_of,
            )?
            .collect(),
    };
    Ok(rows?)
}
