//! Everything that is in the file, page by page: for copies of a journal and for looking it through.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use troupe_workflow::{ExecutionId, Snapshot, Timestamp, WorkflowDigest};

use super::record::{COLUMNS, record_of, write_document};
use crate::checksum::{check_snapshot, of_record};
use crate::error::{AppendError, ReadError};
use crate::journal::AllRecords;
use crate::record::{Document, Record};

/// The ids of executions as they lie there, readable or not.
pub(crate) fn ids(
    connection: &Connection,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, ReadError> {
    let mut statement = connection
        .prepare_cached("SELECT id FROM executions WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], |row| {
        let bytes = row.get_ref(0)?.as_bytes().unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The snapshot of an execution, if it is what was written.
pub(crate) fn snapshot(
    connection: &Connection,
    id: ExecutionId,
) -> Result<Option<Snapshot>, ReadError> {
    let found = connection
        .prepare_cached(
            "SELECT s.version, s.build, s.state, s.checksum FROM snapshots s JOIN executions e ON e.key = s.execution
             WHERE e.id = ?1",
        )?
        .query_row([id.to_string()], |row| {
            let snapshot = Snapshot {
                version: row.get(0)?,
                build: row.get(1)?,
                state: row.get(2)?,
            };
            Ok((snapshot, row.get::<_, i64>(3)?))
        })
        .optional()?;
    found
        .map(|(snapshot, checksum)| check_snapshot(id, snapshot, checksum))
        .transpose()
}

/// A page of documents, by digest.
pub(crate) fn documents(
    connection: &Connection,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Document>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT digest, name, document FROM workflows WHERE digest > ?1 ORDER BY digest LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after.unwrap_or_default(), limit], |row| {
        Ok(Document {
            digest: WorkflowDigest::stored(row.get(0)?),
            name: row.get(1)?,
            text: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A page of records of all kinds, by kind and id.
pub(crate) fn records(
    connection: &Connection,
    after: Option<&(String, String)>,
    limit: u32,
) -> Result<AllRecords, ReadError> {
    let (kind, id) = after.map_or(("", ""), |(kind, id)| (kind, id));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} WHERE (kind, id) > (?1, ?2) ORDER BY kind, id LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![kind, id, limit], record_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Puts documents and records back as they were, unless there are later ones.
pub(crate) fn put_back(
    transaction: &Transaction<'_>,
    documents: &[Document],
    records: &[Record],
) -> Result<(), AppendError> {
    for document in documents {
        write_document(transaction, document, Timestamp::default())?;
    }
    for record in records {
        transaction
            .prepare_cached(
                "INSERT INTO records (kind, id, version, due_at, body, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, due_at = excluded.due_at,
                    body = excluded.body, checksum = excluded.checksum WHERE excluded.version > records.version",
            )?
            .execute(params![
                record.kind,
                record.id,
                record.version,
                record.due_at.map(Timestamp::as_millis),
                record.body,
                of_record(record)
            ])?;
    }
    Ok(())
}
