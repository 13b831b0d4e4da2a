//! Everything that is in the database, page by page: for copies of a journal and for looking it through.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use troupe_workflow::{ExecutionId, Snapshot, Timestamp, WorkflowDigest};

use super::fault::Fault;
use super::record::{COLUMNS, before_zero, record_of, write_document};
use super::write::hint;
use crate::checksum::{check_snapshot, of_record};
use crate::error::{AppendError, ReadError};
use crate::journal::AllRecords;
use crate::record::{Document, Record};

type Answer<T> = Result<T, Fault<ReadError>>;

/// The ids of executions as they lie there, readable or not.
pub(super) async fn ids(
    connection: &mut PgConnection,
    after: Option<&str>,
    limit: u32,
) -> Answer<Vec<String>> {
    Ok(
        sqlx::query_scalar("SELECT id FROM executions WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(connection)
            .await?,
    )
}

/// The snapshot of an execution, if it is what was written.
pub(super) async fn snapshot(
    connection: &mut PgConnection,
    id: ExecutionId,
) -> Answer<Option<Snapshot>> {
    let found = sqlx::query(
        "SELECT s.version, s.build, s.state, s.checksum FROM snapshots s JOIN executions e ON e.key = s.execution
         WHERE e.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?;
    let Some(row) = found else { return Ok(None) };
    let snapshot = Snapshot {
        version: u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0),
        build: row.try_get(1)?,
        state: row.try_get(2)?,
    };
    let checked = check_snapshot(id, snapshot, row.try_get(3)?);
    checked.map(Some).map_err(Fault::Refused)
}

/// A page of documents, by digest.
pub(super) async fn documents(
    connection: &mut PgConnection,
    after: Option<&str>,
    limit: u32,
) -> Answer<Vec<Document>> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT digest, name, document FROM workflows WHERE digest > $1 ORDER BY digest LIMIT $2",
    )
    .bind(after.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    let documents = rows.into_iter().map(|(digest, name, text)| Document {
        digest: WorkflowDigest::stored(digest),
        name,
        text,
    });
    Ok(documents.collect())
}

/// A page of records of all kinds, by kind and id.
pub(super) async fn records(
    connection: &mut PgConnection,
    after: Option<&(String, String)>,
    limit: u32,
) -> Answer<AllRecords> {
    let (kind, id) = after.map_or(("", ""), |(kind, id)| (kind, id));
    let sql = format!("SELECT {COLUMNS} WHERE (kind, id) > ($1, $2) ORDER BY kind, id LIMIT $3");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(kind)
        .bind(before_zero(id))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(record_of).collect::<Result<_, _>>()?)
}

/// Puts documents and records back as they were, unless there are later ones.
pub(super) async fn put_back(
    connection: &mut PgConnection,
    documents: &[Document],
    records: &[Record],
) -> Result<(), Fault<AppendError>> {
    for document in documents {
        write_document(connection, document).await?;
    }
    for record in records {
        sqlx::query(
            "INSERT INTO records (kind, id, version, due_at, body, checksum) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, due_at = excluded.due_at,
                body = excluded.body, checksum = excluded.checksum WHERE excluded.version > records.version",
        )
        .bind(&record.kind)
        .bind(&record.id)
        .bind(i64::try_from(record.version).unwrap_or(i64::MAX))
        .bind(record.due_at.map(Timestamp::as_millis))
        .bind(&record.body)
        .bind(i64::from(of_record(record)))
        .execute(&mut *connection)
        .await?;
    }
    Ok(hint(connection).await?)
}
