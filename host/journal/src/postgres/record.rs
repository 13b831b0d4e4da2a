//! Records and documents in the database.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use troupe_workflow::{Timestamp, WorkflowDigest};

use super::fault::Fault;
use super::write::hint;
use crate::error::{AppendError, ReadError};
use crate::record::{Document, Record, RecordListing, RecordWrite};

/// Writes records, if each is at the version that was expected.
pub(super) async fn write(
    connection: &mut PgConnection,
    records: &[RecordWrite],
) -> Result<(), Fault<AppendError>> {
    for record in records {
        let due_at = record.due_at.map(Timestamp::as_millis);
        let expected = i64::try_from(record.expected).unwrap_or(i64::MAX);
        let query = match (&record.body, record.expected) {
            (Some(body), 0) => sqlx::query(
                "INSERT INTO records (kind, id, version, due_at, body) VALUES ($1, $2, 1, $3, $4)
                 ON CONFLICT (kind, id) DO NOTHING",
            )
            .bind(record.kind)
            .bind(&record.id)
            .bind(due_at)
            .bind(body),
            (Some(body), _) => sqlx::query(
                "UPDATE records SET version = version + 1, due_at = $4, body = $5
                 WHERE kind = $1 AND id = $2 AND version = $3",
            )
            .bind(record.kind)
            .bind(&record.id)
            .bind(expected)
            .bind(due_at)
            .bind(body),
            (None, _) => {
                sqlx::query("DELETE FROM records WHERE kind = $1 AND id = $2 AND version = $3")
                    .bind(record.kind)
                    .bind(&record.id)
                    .bind(expected)
            }
        };
        if query.execute(&mut *connection).await?.rows_affected() == 0 {
            return Err(Fault::Refused(AppendError::Record {
                kind: record.kind,
                id: record.id.clone(),
            }));
        }
    }
    Ok(())
}

/// Writes documents and records that belong to no execution.
pub(super) async fn write_all(
    connection: &mut PgConnection,
    documents: &[Document],
    records: &[RecordWrite],
) -> Result<(), Fault<AppendError>> {
    for document in documents {
        write_document(connection, document).await?;
    }
    write(connection, records).await?;
    Ok(hint(connection).await?)
}

/// Writes a document that no execution refers to in the same transaction, so that nothing but its lock keeps those who
/// remove unused ones from it.
pub(super) async fn write_document(
    connection: &mut PgConnection,
    document: &Document,
) -> Result<(), Fault<AppendError>> {
    sqlx::query(
        "INSERT INTO workflows (digest, name, document, created_at) VALUES ($1, $2, $3, 0)
         ON CONFLICT (digest) DO NOTHING",
    )
    .bind(document.digest.as_str())
    .bind(&document.name)
    .bind(&document.text)
    .execute(&mut *connection)
    .await?;
    sqlx::query("SELECT 1 FROM workflows WHERE digest = $1 FOR KEY SHARE")
        .bind(document.digest.as_str())
        .fetch_optional(connection)
        .await?
        .ok_or(Fault::Again("a document was removed meanwhile"))?;
    Ok(())
}

/// Removes a document that no execution was begun with. Stored workflows keep theirs: their records name it.
pub(super) async fn delete_unused_document(
    connection: &mut PgConnection,
    digest: &str,
) -> Result<(), Fault<AppendError>> {
    // Whoever is about to use it is waited for: the next statement sees what they wrote.
    sqlx::query("SELECT 1 FROM workflows WHERE digest = $1 FOR UPDATE")
        .bind(digest)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "DELETE FROM workflows WHERE digest = $1
            AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.digest = $1)
            AND NOT EXISTS (SELECT 1 FROM records r WHERE r.kind = 'workflow' AND strpos(r.body, $1) > 0)",
    )
    .bind(digest)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn document(
    connection: &mut PgConnection,
    digest: &WorkflowDigest,
) -> Result<Document, Fault<ReadError>> {
    let row = sqlx::query("SELECT name, document FROM workflows WHERE digest = $1")
        .bind(digest.as_str())
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| Fault::Refused(ReadError::NoDocument(digest.to_string())))?;
    Ok(Document {
        digest: digest.clone(),
        name: row.try_get(0)?,
        text: row.try_get(1)?,
    })
}

pub(super) fn record_of(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record {
        kind: row.try_get(0)?,
        id: row.try_get(1)?,
        version: u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0),
        due_at: row
            .try_get::<Option<i64>, _>(3)?
            .map(Timestamp::from_millis),
        body: row.try_get(4)?,
    })
}

pub(super) async fn find(
    connection: &mut PgConnection,
    kind: &str,
    id: &str,
) -> Result<Option<Record>, Fault<ReadError>> {
    let found = sqlx::query(
        "SELECT kind, id, version, due_at, body FROM records WHERE kind = $1 AND id = $2",
    )
    .bind(kind)
    .bind(id)
    .fetch_optional(connection)
    .await?;
    Ok(found.as_ref().map(record_of).transpose()?)
}

pub(super) async fn list(
    connection: &mut PgConnection,
    listing: &RecordListing,
) -> Result<Vec<Record>, Fault<ReadError>> {
    let query = match listing.due {
        Some(due) => sqlx::query(
            "SELECT kind, id, version, due_at, body FROM records WHERE kind = $1 AND due_at <= $2
             ORDER BY due_at, id LIMIT $3",
        )
        .bind(listing.kind)
        .bind(due.as_millis()),
        None => sqlx::query(
            "SELECT kind, id, version, due_at, body FROM records WHERE kind = $1 AND id > $2
             ORDER BY id LIMIT $3",
        )
        .bind(listing.kind)
        .bind(listing.after.as_deref().unwrap_or_default()),
    };
    let rows = query
        .bind(i64::from(listing.limit))
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(record_of).collect::<Result<_, _>>()?)
}
