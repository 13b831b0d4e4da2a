//! Records and documents in the database.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use troupe_workflow::{Timestamp, WorkflowDigest};

use super::fault::Fault;
use super::write::hint;
use crate::checksum::{check_record, of_record};
use crate::error::{AppendError, DamagedRecord, ReadError};
use crate::record::{Document, Record, RecordListing, RecordWrite};
use crate::sound::Sound;

/// Writes records, if each is at the version that was expected.
pub(super) async fn write(
    connection: &mut PgConnection,
    records: &[RecordWrite],
) -> Result<(), Fault<AppendError>> {
    for record in records {
        let expected = i64::try_from(record.expected).unwrap_or(i64::MAX);
        let query = match (record.written(), record.expected) {
            (Some(new), 0) => {
                let checksum = of_record(&new);
                sqlx::query(
                    "INSERT INTO records (kind, id, version, due_at, body, checksum) VALUES ($1, $2, 1, $3, $4, $5)
                     ON CONFLICT (kind, id) DO NOTHING",
                )
                .bind(new.kind)
                .bind(new.id)
                .bind(new.due_at.map(Timestamp::as_millis))
                .bind(new.body)
                .bind(i64::from(checksum))
            }
            (Some(new), _) => {
                let checksum = of_record(&new);
                sqlx::query(
                    "UPDATE records SET version = version + 1, due_at = $4, body = $5, checksum = $6
                     WHERE kind = $1 AND id = $2 AND version = $3",
                )
                .bind(new.kind)
                .bind(new.id)
                .bind(expected)
                .bind(new.due_at.map(Timestamp::as_millis))
                .bind(new.body)
                .bind(i64::from(checksum))
            }
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

/// The columns that [`record_of`] reads.
pub(super) const COLUMNS: &str = "kind, id, version, due_at, body, checksum FROM records";

/// A record as it lies there; the error is the database's.
pub(super) fn record_of(row: &PgRow) -> sqlx::Result<Result<Record, DamagedRecord>> {
    Ok(check_record(unchecked(row)?, row.try_get(5)?))
}

/// The same without a look at its checksum, which is the last of the columns.
pub(super) fn unchecked(row: &PgRow) -> sqlx::Result<Record> {
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
    if cannot_be_stored(id) {
        return Ok(None);
    }
    let sql = AssertSqlSafe(format!("SELECT {COLUMNS} WHERE kind = $1 AND id = $2"));
    let found = sqlx::query(sql)
        .bind(kind)
        .bind(id)
        .fetch_optional(connection)
        .await?;
    let record = found.as_ref().map(record_of).transpose()?.transpose();
    record.map_err(|damaged| Fault::Refused(damaged.into()))
}

/// A page of records of one kind, without damaged ones.
pub(super) async fn list(
    connection: &mut PgConnection,
    listing: &RecordListing,
) -> Result<Vec<Record>, Fault<ReadError>> {
    let mut sound = Sound::new(listing.limit);
    loop {
        let mut rows = Vec::new();
        for row in page(connection, listing, sound.to_ask()).await? {
            rows.push(record_of(&row)?.map_err(ReadError::from));
        }
        if let Some(page) = sound.take(rows).map_err(Fault::Refused)? {
            return Ok(page);
        }
    }
}

async fn page(
    connection: &mut PgConnection,
    listing: &RecordListing,
    limit: u32,
) -> sqlx::Result<Vec<PgRow>> {
    let rest = match listing.due {
        Some(_) => "due_at <= $2 ORDER BY due_at, id",
        None => "id > $2 ORDER BY id",
    };
    let sql = format!("SELECT {COLUMNS} WHERE kind = $1 AND {rest} LIMIT $3");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(listing.kind);
    let query = match listing.due {
        Some(due) => query.bind(due.as_millis()),
        None => query.bind(before_zero(listing.after.as_deref().unwrap_or_default())),
    };
    query.bind(i64::from(limit)).fetch_all(connection).await
}

/// Whether a text is none of the server's: it stores no U+0000. What nobody can have stored is not there.
pub(super) fn cannot_be_stored(text: &str) -> bool {
    text.contains('\0')
}

/// The part of a text before its first U+0000: among what can be stored the same texts are greater.
pub(super) fn before_zero(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}
