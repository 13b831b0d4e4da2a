//! Records and documents in the file.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use troupe_workflow::{Timestamp, WorkflowDigest};

use super::read::is_of_values;
use crate::checksum::{check_record, of_record};
use crate::error::{AppendError, DamagedRecord, ReadError};
use crate::record::{Document, Record, RecordListing, RecordWrite};
use crate::sound::Sound;

/// Writes records, if each is at the version that was expected.
pub(crate) fn write(
    transaction: &Transaction<'_>,
    records: &[RecordWrite],
) -> Result<(), AppendError> {
    for record in records {
        let changed = match (record.written(), record.expected) {
            (Some(new), 0) => transaction
                .prepare_cached(
                    "INSERT INTO records (kind, id, version, due_at, body, checksum) VALUES (?1, ?2, 1, ?3, ?4, ?5)
                     ON CONFLICT (kind, id) DO NOTHING",
                )?
                .execute(params![
                    new.kind,
                    new.id,
                    new.due_at.map(Timestamp::as_millis),
                    new.body,
                    of_record(&new)
                ])?,
            (Some(new), expected) => transaction
                .prepare_cached(
                    "UPDATE records SET version = ?4, due_at = ?5, body = ?6, checksum = ?7
                     WHERE kind = ?1 AND id = ?2 AND version = ?3",
                )?
                .execute(params![
                    new.kind,
                    new.id,
                    expected,
                    new.version,
                    new.due_at.map(Timestamp::as_millis),
                    new.body,
                    of_record(&new)
                ])?,
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

/// A record as it lies there; the error is the database's.
type Lying = rusqlite::Result<Result<Record, DamagedRecord>>;

/// The columns that [`record_of`] reads.
pub(super) const COLUMNS: &str = "kind, id, version, due_at, body, checksum FROM records";

pub(super) fn record_of(row: &Row<'_>) -> Lying {
    let read = || -> rusqlite::Result<(Record, i64)> {
        let record = Record {
            kind: row.get(0)?,
            id: row.get(1)?,
            version: row.get(2)?,
            due_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_millis),
            body: row.get(4)?,
        };
        Ok((record, row.get(5)?))
    };
    let text = |column| -> rusqlite::Result<String> {
        let bytes = row.get_ref(column)?.as_bytes().unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    match read() {
        Ok((record, checksum)) => Ok(check_record(record, checksum)),
        Err(error) if is_of_values(&error) => Ok(Err(DamagedRecord {
            kind: text(0)?,
            id: text(1)?,
            message: error.to_string(),
        })),
        Err(error) => Err(error),
    }
}

pub(crate) fn find(
    connection: &Connection,
    kind: &str,
    id: &str,
) -> Result<Option<Record>, ReadError> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} WHERE kind = ?1 AND id = ?2"))?
        .query_row([kind, id], record_of)
        .optional()?;
    Ok(found.transpose()?)
}

/// A page of records of one kind, without damaged ones.
pub(crate) fn list(
    connection: &Connection,
    listing: &RecordListing,
) -> Result<Vec<Record>, ReadError> {
    let mut sound = Sound::new(listing.limit);
    loop {
        let rows = page(connection, listing, sound.to_ask())?;
        let rows = rows.into_iter().map(|row| row.map_err(ReadError::from));
        if let Some(page) = sound.take(rows.collect())? {
            return Ok(page);
        }
    }
}

fn page(
    connection: &Connection,
    listing: &RecordListing,
    limit: u32,
) -> rusqlite::Result<Vec<Result<Record, DamagedRecord>>> {
    let (kind, after) = (listing.kind, listing.after.as_deref().unwrap_or_default());
    match listing.due {
        Some(due) => connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} WHERE kind = ?1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3"
            ))?
            .query_map(params![kind, due.as_millis(), limit], record_of)?
            .collect(),
        None => connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
            ))?
            .query_map(params![kind, after, limit], record_of)?
            .collect(),
    }
}
