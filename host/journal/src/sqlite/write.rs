//! Everything that changes executions, as functions over an open transaction.

use rusqlite::{OptionalExtension, Transaction, params};
use troupe_workflow::{ExecutionId, ExecutionStatus, Snapshot, Timestamp, WorkflowDigest};

use super::record;
use crate::checksum::{self, Fixed};
use crate::encode::{Blob, EventRow};
use crate::error::AppendError;
use crate::execution::{Archive, Claim, Claimed, Epoch, FirstOwner, NewExecution, Release, Writer};
use crate::prepared::Prepared;

/// An execution's row, as far as writing needs it.
struct Current {
    key: i64,
    version: u64,
    epoch: i64,
    status: String,
    owner: Option<String>,
    is_due: bool,
}

fn current(transaction: &Transaction<'_>, id: ExecutionId) -> Result<Current, AppendError> {
    transaction
        .prepare_cached(
            "SELECT key, version, epoch, status, owner, due_at IS NOT NULL FROM executions WHERE id = ?1",
        )?
        .query_row([id.to_string()], |row| {
            Ok(Current {
                key: row.get(0)?,
                version: row.get(1)?,
                epoch: row.get(2)?,
                status: row.get(3)?,
                owner: row.get(4)?,
                is_due: row.get(5)?,
            })
        })
        .optional()?
        .ok_or(AppendError::NotFound(id))
}

/// Creates an execution with its first event.
pub(crate) fn create(
    transaction: &Transaction<'_>,
    new: &NewExecution,
    (rows, blobs): (&[EventRow], &[Blob]),
    node: &str,
) -> Result<Epoch, AppendError> {
    record::write_document(transaction, &new.document, new.created.at)?;
    let at = new.created.at.as_millis();
    let (owner, epoch, due_at) = match new.first_owner {
        FirstOwner::Creator => (Some(node), Epoch::FIRST, None),
        FirstOwner::Anyone => (None, Epoch::NONE, Some(at)),
    };
    let (id, workflow) = (new.id.to_string(), new.workflow.as_ref());
    let fixed = Fixed {
        id: &id,
        digest: new.document.digest.as_str(),
        workflow,
        settings: &new.settings,
        created_at: new.created.at,
    };
    transaction
        .prepare_cached(
            "INSERT INTO executions (id, digest, workflow, workflow_version, status, version, owner, epoch, due_at,
                settings, created_at, updated_at, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?9, ?10, ?10, ?11)",
        )?
        .execute(params![
            id,
            new.document.digest.as_str(),
            workflow.map(|workflow| &workflow.id),
            workflow.map(|workflow| workflow.version),
            ExecutionStatus::Queued.as_str(),
            owner,
            epoch.0,
            due_at,
            new.settings,
            at,
            fixed.checksum(),
        ])
        .map_err(|error| exists(error, new.id))?;
    let key = transaction.last_insert_rowid();
    write_events(transaction, key, rows, blobs)?;
    record::write(transaction, &new.records)?;
    Ok(epoch)
}

/// What a second row of one id says in the words of the journal.
fn exists(error: rusqlite::Error, id: ExecutionId) -> AppendError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => AppendError::Exists(id),
        _ => error.into(),
    }
}

/// Records events, if the caller has seen all before them and still owns the execution.
pub(crate) fn append(transaction: &Transaction<'_>, append: &Prepared) -> Result<u64, AppendError> {
    let current = current(transaction, append.execution)?;
    // Whoever gave it back may not write either: what it clears would be due to nobody.
    if let Writer::Owner(own) = append.writer
        && (own.0 != current.epoch || current.owner.is_none())
    {
        return Err(AppendError::Fenced);
    }
    if current.version != append.expected {
        return Err(AppendError::Conflict {
            expected: append.expected,
            actual: current.version,
        });
    }
    write_events(transaction, current.key, &append.rows, &append.blobs)?;
    let version = append.version();
    advance(transaction, &current, append, version)?;
    if let Some(snapshot) = &append.snapshot {
        write_snapshot(transaction, current.key, snapshot)?;
    }
    record::write(transaction, &append.records)?;
    Ok(version)
}

/// Brings an execution's row to where its events are.
fn advance(
    transaction: &Transaction<'_>,
    current: &Current,
    append: &Prepared,
    version: u64,
) -> rusqlite::Result<()> {
    let (key, at) = (current.key, append.at.as_millis());
    let status = append.status.as_str();
    let due_at = append.due_at().map(Timestamp::as_millis);
    // Most appends change nothing that is in an index.
    let has_ended = append.status.is_terminal();
    if status == current.status && !has_ended && due_at.is_none() && !current.is_due {
        transaction
            .prepare_cached("UPDATE executions SET version = ?2, updated_at = ?3 WHERE key = ?1")?
            .execute(params![key, version, at])?;
        return Ok(());
    }
    // Nobody works on what has ended.
    let owner = current.owner.as_ref().filter(|_| !has_ended);
    transaction
        .prepare_cached(
            "UPDATE executions SET version = ?2, updated_at = ?3, status = ?4, owner = ?5, due_at = ?6 WHERE key = ?1",
        )?
        .execute(params![key, version, at, status, owner, due_at])?;
    Ok(())
}

pub(super) fn write_events(
    transaction: &Transaction<'_>,
    key: i64,
    rows: &[EventRow],
    blobs: &[Blob],
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO events (execution, position, body, payloads, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for row in rows {
        insert.execute(params![
            key,
            row.position,
            row.body,
            row.payloads,
            row.checksum
        ])?;
    }
    for blob in blobs {
        transaction
            .prepare_cached(
                "INSERT INTO blobs (digest, text) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING",
            )?
            .execute(params![blob.digest, blob.text])?;
        transaction
            .prepare_cached(
                "INSERT INTO blob_uses (execution, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute(params![key, blob.digest])?;
    }
    Ok(())
}

fn write_snapshot(
    transaction: &Transaction<'_>,
    key: i64,
    snapshot: &Snapshot,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO snapshots (execution, version, build, state, checksum) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (execution) DO UPDATE SET version = excluded.version, build = excluded.build,
                state = excluded.state, checksum = excluded.checksum",
        )?
        .execute(params![
            key,
            snapshot.version,
            snapshot.build,
            snapshot.state,
            checksum::of_text(&snapshot.state)
        ])?;
    Ok(())
}

/// Takes executions that are due and have no owner.
pub(crate) fn claim(
    transaction: &Transaction<'_>,
    claim: &Claim,
    node: &str,
) -> Result<Vec<Claimed>, AppendError> {
    let mut due = transaction.prepare_cached(
        "SELECT key, id, epoch, digest FROM executions WHERE due_at <= ?1 AND owner IS NULL
            AND digest NOT IN (SELECT value FROM json_each(?3)) ORDER BY due_at, id LIMIT ?2",
    )?;
    let except = serde_json::to_string(&claim.except)?;
    let rows = due.query_map(params![claim.now.as_millis(), claim.limit, except], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, i64>(2)?,
            row.get::<_, String>(3)?,
        ))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let mut claimed = Vec::with_capacity(rows.len());
    for (key, id, epoch, digest) in rows {
        let epoch = Epoch(epoch + 1);
        set_owner(transaction, key, node, epoch)?;
        let id = id
            .parse()
            .map_err(|error: troupe_workflow::IdError| AppendError::Database {
                retry: crate::Retry::Never,
                source: error.into(),
            })?;
        let digest = WorkflowDigest::stored(digest);
        claimed.push(Claimed { id, digest, epoch });
    }
    Ok(claimed)
}

/// Takes one execution over from `from`, the owner it was seen with.
pub(crate) fn take(
    transaction: &Transaction<'_>,
    id: ExecutionId,
    from: Option<&str>,
    node: &str,
) -> Result<Claimed, AppendError> {
    let current = current(transaction, id)?;
    if current.owner.as_deref() != from {
        return Err(AppendError::Owned {
            owner: "it was just taken over".to_owned(),
        });
    }
    let epoch = Epoch(current.epoch + 1);
    set_owner(transaction, current.key, node, epoch)?;
    let digest = transaction
        .prepare_cached("SELECT digest FROM executions WHERE key = ?1")?
        .query_row([current.key], |row| row.get(0))?;
    let digest = WorkflowDigest::stored(digest);
    Ok(Claimed { id, digest, epoch })
}

fn set_owner(
    transaction: &Transaction<'_>,
    key: i64,
    node: &str,
    epoch: Epoch,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE executions SET owner = ?2, epoch = ?3, due_at = NULL WHERE key = ?1",
        )?
        .execute(params![key, node, epoch.0])?;
    Ok(())
}

/// Gives an execution back of which the caller has seen all events. False: somebody wrote more, and the caller owns
/// it still; what was written is the caller's to act on, for whoever wrote it saw a living owner.
pub(crate) fn release(
    transaction: &Transaction<'_>,
    release: &Release,
) -> Result<bool, AppendError> {
    let current = current(transaction, release.execution)?;
    // Another's already: nothing is left to give back.
    if current.epoch != release.epoch.0 || current.owner.is_none() {
        return Ok(true);
    }
    if current.version != release.version {
        return Ok(false);
    }
    transaction
        .prepare_cached("UPDATE executions SET owner = NULL, due_at = ?2 WHERE key = ?1")?
        .execute(params![
            current.key,
            release.due_at.map(Timestamp::as_millis)
        ])?;
    if let Some(snapshot) = &release.snapshot {
        write_snapshot(transaction, current.key, snapshot)?;
    }
    Ok(true)
}

/// Takes away what dead processes own.
pub(crate) fn free(
    transaction: &Transaction<'_>,
    dead: &[String],
    now: Timestamp,
) -> Result<u64, AppendError> {
    let mut freed = 0;
    for node in dead {
        let changed = transaction
            .prepare_cached("UPDATE executions SET owner = NULL, due_at = ?2 WHERE owner = ?1")?
            .execute(params![node, now.as_millis()])?;
        freed += u64::try_from(changed).unwrap_or(u64::MAX);
    }
    Ok(freed)
}

/// Removes an execution that has ended, and the blobs that were kept for it alone.
pub(crate) fn delete(transaction: &Transaction<'_>, id: ExecutionId) -> Result<bool, AppendError> {
    let current = match current(transaction, id) {
        Err(AppendError::NotFound(_)) => return Ok(false),
        other => other?,
    };
    if !status(&current.status)?.is_terminal() {
        return Err(AppendError::NotEnded(id));
    }
    let key = [current.key];
    let digest: String =
        transaction.query_row("SELECT digest FROM executions WHERE key = ?1", key, |row| {
            row.get(0)
        })?;
    // What nothing else uses: other executions may share a value.
    transaction.execute(
        "CREATE TEMP TABLE IF NOT EXISTS gone (digest TEXT PRIMARY KEY) WITHOUT ROWID",
        [],
    )?;
    transaction.execute("DELETE FROM gone", [])?;
    transaction.execute(
        "INSERT INTO gone SELECT digest FROM blob_uses u WHERE execution = ?1 AND NOT EXISTS
            (SELECT 1 FROM blob_uses o WHERE o.digest = u.digest AND o.execution <> u.execution)",
        key,
    )?;
    for table in ["events", "snapshots", "blob_uses"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE execution = ?1"), key)?;
    }
    transaction.execute(
        "DELETE FROM blobs WHERE digest IN (SELECT digest FROM gone)",
        [],
    )?;
    transaction.execute("DELETE FROM executions WHERE key = ?1", key)?;
    record::delete_unused_document(transaction, &digest)?;
    Ok(true)
}

/// Puts an execution back, with its events and no owner.
pub(crate) fn restore(
    transaction: &Transaction<'_>,
    archive: &Archive,
    (rows, blobs): (&[EventRow], &[Blob]),
) -> Result<(), AppendError> {
    let row = &archive.row;
    record::write_document(transaction, &archive.document, row.created_at)?;
    let due_at = (!row.status.is_terminal()).then_some(row.updated_at.as_millis());
    let workflow = row.workflow.as_ref();
    transaction
        .execute(
            "INSERT INTO executions (id, digest, workflow, workflow_version, status, version, owner, epoch, due_at,
                settings, created_at, updated_at, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, 0, ?7, ?8, ?9, ?10, ?11)",
            params![
                row.id.to_string(),
                row.digest.as_str(),
                workflow.map(|workflow| &workflow.id),
                workflow.map(|workflow| workflow.version),
                row.status.as_str(),
                row.version,
                due_at,
                row.settings,
                row.created_at.as_millis(),
                row.updated_at.as_millis(),
                row.checksum(),
            ],
        )
        .map_err(|error| exists(error, row.id))?;
    let key = transaction.last_insert_rowid();
    Ok(write_events(transaction, key, rows, blobs)?)
}

/// The status of a word in the file.
pub(crate) fn status(word: &str) -> Result<ExecutionStatus, AppendError> {
    ExecutionStatus::from_word(word).ok_or_else(|| AppendError::Database {
        retry: crate::Retry::Never,
        source: format!("`{word}` is no status of an execution").into(),
    })
}
