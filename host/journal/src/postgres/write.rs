//! Everything that changes executions, but for appends, as functions over an open transaction.

use sqlx::{PgConnection, Row};
use troupe_workflow::{ExecutionId, ExecutionStatus, Timestamp, WorkflowDigest};

use super::append::{BlobUse, write_blobs, write_snapshots};
use super::fault::Fault;
use super::record;
use crate::encode::{Blob, EventRow};
use crate::error::{AppendError, Retry};
use crate::execution::{
    Archive, Claim, Claimed, Epoch, ExecutionRow, FirstOwner, NewExecution, Release,
};
use crate::record::Document;

type Done<T> = Result<T, Fault<AppendError>>;

/// Where processes hear that another wrote.
pub(super) const CHANNEL: &str = "troupe";

/// Tells the others, when this transaction is committed, that there is something to look at. Not for every append: the
/// server commits those that tell something one after another.
pub(super) async fn hint(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_notify($1, '')")
        .bind(CHANNEL)
        .execute(connection)
        .await?;
    Ok(())
}

/// An execution's row as it begins, with its document and its first events.
struct Beginning<'a> {
    row: &'a ExecutionRow,
    epoch: Epoch,
    document: &'a Document,
}

/// Creates an execution with its first event.
pub(super) async fn create(
    connection: &mut PgConnection,
    new: &NewExecution,
    (rows, blobs): (&[EventRow], &[Blob]),
    node: &str,
) -> Done<Epoch> {
    let at = new.created.at;
    let (owner, epoch, due_at) = match new.first_owner {
        FirstOwner::Creator => (Some(node.to_owned()), Epoch::FIRST, None),
        FirstOwner::Anyone => (None, Epoch::NONE, Some(at)),
    };
    let row = ExecutionRow {
        id: new.id,
        workflow_name: String::new(),
        digest: new.document.digest.clone(),
        workflow: new.workflow.clone(),
        status: ExecutionStatus::Queued,
        version: 1,
        owner,
        due_at,
        settings: new.settings.clone(),
        created_at: at,
        updated_at: at,
    };
    let beginning = Beginning {
        row: &row,
        epoch,
        document: &new.document,
    };
    begin(connection, &beginning, (rows, blobs)).await?;
    record::write(connection, &new.records).await?;
    if due_at.is_some() || new.records.iter().any(|record| record.due_at.is_some()) {
        hint(connection).await?;
    }
    Ok(epoch)
}

/// Puts an execution back, with its events and no owner.
pub(super) async fn restore(
    connection: &mut PgConnection,
    archive: &Archive,
    (rows, blobs): (&[EventRow], &[Blob]),
) -> Done<()> {
    let is_done = archive.row.status.is_terminal();
    let row = ExecutionRow {
        owner: None,
        due_at: (!is_done).then_some(archive.row.updated_at),
        ..archive.row.clone()
    };
    let beginning = Beginning {
        row: &row,
        epoch: Epoch::NONE,
        document: &archive.document,
    };
    begin(connection, &beginning, (rows, blobs)).await?;
    if !is_done {
        hint(connection).await?;
    }
    Ok(())
}

async fn begin(
    connection: &mut PgConnection,
    beginning: &Beginning<'_>,
    (rows, blobs): (&[EventRow], &[Blob]),
) -> Done<()> {
    /// Events of one statement: bounds what is held for it, here and at the server.
    const EVENTS_MAX: usize = 500;
    let row = beginning.row;
    let (first, rest) = rows.split_at(rows.len().min(EVENTS_MAX));
    let workflow = row.workflow.as_ref();
    let columns = EventColumns::of(first);
    let key: Option<i64> = sqlx::query_scalar(
        "WITH document AS (
            INSERT INTO workflows (digest, name, document, created_at) VALUES ($2, $12, $13, $10)
            ON CONFLICT (digest) DO NOTHING
         ), created AS (
            INSERT INTO executions (id, digest, workflow, workflow_version, status, version, owner, epoch, due_at,
                settings, created_at, updated_at, checksum)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $14, $10, $11, $19)
            ON CONFLICT (id) DO NOTHING RETURNING key
         ), begun AS (
            INSERT INTO events (execution, position, body, payloads, checksum)
            SELECT key, v.* FROM created, unnest($15::bigint[], $16::text[], $17::text[], $18::bigint[]) AS v
         )
         SELECT key FROM created",
    )
    .bind(row.id.to_string())
    .bind(row.digest.as_str())
    .bind(workflow.map(|workflow| &workflow.id))
    .bind(workflow.map(|workflow| i64::from(workflow.version)))
    .bind(row.status.as_str())
    .bind(i64::try_from(row.version).unwrap_or(i64::MAX))
    .bind(&row.owner)
    .bind(beginning.epoch.0)
    .bind(row.due_at.map(Timestamp::as_millis))
    .bind(row.created_at.as_millis())
    .bind(row.updated_at.as_millis())
    .bind(&beginning.document.name)
    .bind(&beginning.document.text)
    .bind(&row.settings)
    .bind(columns.positions)
    .bind(columns.bodies)
    .bind(columns.payloads)
    .bind(columns.checksums)
    .bind(i64::from(row.checksum()))
    .fetch_optional(&mut *connection)
    .await?;
    let key = key.ok_or(Fault::Refused(AppendError::Exists(row.id)))?;
    for rows in rest.chunks(EVENTS_MAX) {
        let columns = EventColumns::of(rows);
        sqlx::query(
            "INSERT INTO events (execution, position, body, payloads, checksum)
             SELECT $1, v.* FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[]) AS v",
        )
        .bind(key)
        .bind(columns.positions)
        .bind(columns.bodies)
        .bind(columns.payloads)
        .bind(columns.checksums)
        .execute(&mut *connection)
        .await?;
    }
    let uses: Vec<_> = blobs.iter().map(|blob| BlobUse { key, blob }).collect();
    write_blobs(connection, uses).await
}

/// Events as the columns of a statement.
pub(super) struct EventColumns<'a> {
    pub(super) positions: Vec<i64>,
    pub(super) bodies: Vec<&'a str>,
    pub(super) payloads: Vec<Option<&'a str>>,
    pub(super) checksums: Vec<i64>,
}

impl<'a> EventColumns<'a> {
    pub(super) fn of(rows: impl IntoIterator<Item = &'a EventRow>) -> Self {
        let mut columns = Self {
            positions: Vec::new(),
            bodies: Vec::new(),
            payloads: Vec::new(),
            checksums: Vec::new(),
        };
        for row in rows {
            let position = i64::try_from(row.position).unwrap_or(i64::MAX);
            columns.positions.push(position);
            columns.bodies.push(&row.body);
            columns.payloads.push(row.payloads.as_deref());
            columns.checksums.push(i64::from(row.checksum));
        }
        columns
    }
}

/// Takes executions that are due and have no owner.
pub(super) async fn claim(
    connection: &mut PgConnection,
    claim: &Claim,
    node: &str,
) -> Done<Vec<Claimed>> {
    let except: Vec<&str> = claim.except.iter().map(WorkflowDigest::as_str).collect();
    let mut rows: Vec<(i64, String, i64, String)> = sqlx::query_as(
        "UPDATE executions e SET owner = $1, epoch = e.epoch + 1, due_at = NULL
         FROM (SELECT key, due_at FROM executions WHERE due_at <= $2 AND owner IS NULL AND digest <> ALL ($4)
            ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED) AS due
         WHERE e.key = due.key RETURNING due.due_at, e.id, e.epoch, e.digest",
    )
    .bind(node)
    .bind(claim.now.as_millis())
    .bind(i64::from(claim.limit))
    .bind(except)
    .fetch_all(connection)
    .await?;
    rows.sort_unstable();
    rows.into_iter()
        .map(|(_, id, epoch, digest)| {
            let id = id.parse().map_err(|error: troupe_workflow::IdError| {
                Fault::Refused(AppendError::Database {
                    retry: Retry::Never,
                    source: error.into(),
                })
            })?;
            Ok(Claimed {
                id,
                digest: WorkflowDigest::stored(digest),
                epoch: Epoch(epoch),
            })
        })
        .collect()
}

/// Takes one execution over, if its owner is dead or it has none.
pub(super) async fn take(
    connection: &mut PgConnection,
    id: ExecutionId,
    node: &str,
) -> Done<Claimed> {
    let epoch: Option<(i64, String)> = sqlx::query_as(
        "UPDATE executions e SET owner = $2, epoch = e.epoch + 1, due_at = NULL
         WHERE e.id = $1 AND (e.owner IS NULL OR NOT EXISTS
            (SELECT 1 FROM nodes n WHERE n.id = e.owner AND n.alive_until > clock_timestamp()))
         RETURNING e.epoch, e.digest",
    )
    .bind(id.to_string())
    .bind(node)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some((epoch, digest)) = epoch {
        return Ok(Claimed {
            id,
            digest: WorkflowDigest::stored(digest),
            epoch: Epoch(epoch),
        });
    }
    let owner: Option<Option<String>> =
        sqlx::query_scalar("SELECT owner FROM executions WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(connection)
            .await?;
    Err(match owner {
        None => Fault::Refused(AppendError::NotFound(id)),
        Some(Some(owner)) => Fault::Refused(AppendError::Owned { owner }),
        Some(None) => Fault::Again("the execution was just given back"),
    })
}

/// Gives an execution back of which the caller has seen all events. False: somebody wrote more, and the caller owns
/// it still; what was written is the caller's to act on, for whoever wrote it saw a living owner.
pub(super) async fn release(connection: &mut PgConnection, release: &Release) -> Done<bool> {
    let row = sqlx::query(
        "UPDATE executions SET owner = NULL, due_at = $4
         WHERE id = $1 AND epoch = $2 AND owner IS NOT NULL AND version = $3
         RETURNING key, due_at <= (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    )
    .bind(release.execution.to_string())
    .bind(release.epoch.0)
    .bind(i64::try_from(release.version).unwrap_or(i64::MAX))
    .bind(release.due_at.map(Timestamp::as_millis))
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = row {
        if let Some(snapshot) = &release.snapshot {
            write_snapshots(connection, &[(row.try_get(0)?, snapshot)]).await?;
        }
        if row.try_get::<Option<bool>, _>(1)? == Some(true) {
            hint(connection).await?;
        }
        return Ok(true);
    }
    let is_owned: Option<bool> =
        sqlx::query_scalar("SELECT epoch = $2 AND owner IS NOT NULL FROM executions WHERE id = $1")
            .bind(release.execution.to_string())
            .bind(release.epoch.0)
            .fetch_optional(connection)
            .await?;
    match is_owned {
        None => Err(Fault::Refused(AppendError::NotFound(release.execution))),
        // Another's already: nothing is left to give back.
        Some(is_owned) => Ok(!is_owned),
    }
}

/// Removes an execution that has ended, and the blobs that were kept for it alone.
pub(super) async fn delete(connection: &mut PgConnection, id: ExecutionId) -> Done<bool> {
    let row = sqlx::query("SELECT key, status, digest FROM executions WHERE id = $1 FOR UPDATE")
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(false) };
    let (key, status, digest): (i64, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let has_ended = ExecutionStatus::from_word(status).is_some_and(ExecutionStatus::is_terminal);
    if !has_ended {
        return Err(Fault::Refused(AppendError::NotEnded(id)));
    }
    // Of two that remove the last two uses of a value one waits here, and sees what the other did. Whoever adds a use
    // meanwhile is found by the foreign key, on one of the two sides; that side does its work again.
    let digests: Vec<String> = sqlx::query_scalar(
        "SELECT digest FROM blobs WHERE digest IN (SELECT digest FROM blob_uses WHERE execution = $1)
         ORDER BY digest FOR UPDATE",
    )
    .bind(key)
    .fetch_all(&mut *connection)
    .await?;
    for statement in [
        "DELETE FROM events WHERE execution = $1",
        "DELETE FROM snapshots WHERE execution = $1",
        "DELETE FROM blob_uses WHERE execution = $1",
        "DELETE FROM executions WHERE key = $1",
    ] {
        sqlx::query(statement)
            .bind(key)
            .execute(&mut *connection)
            .await?;
    }
    if !digests.is_empty() {
        sqlx::query(
            "DELETE FROM blobs b WHERE digest = ANY($1)
                AND NOT EXISTS (SELECT 1 FROM blob_uses u WHERE u.digest = b.digest)",
        )
        .bind(digests)
        .execute(&mut *connection)
        .await?;
    }
    record::delete_unused_document(connection, digest).await?;
    Ok(true)
}
