//! Everything that changes the file, as functions over an open transaction.

use rusqlite::{OptionalExtension, Transaction, params};
use troupe_workflow::{Event, ExecutionId, ExecutionStatus, Timestamp, WorkflowDigest};

use crate::error::AppendError;

/// Counts the owners an execution has had. Whoever writes with an older one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub(crate) i64);

/// An execution that is to be created.
#[derive(Debug, Clone)]
pub struct NewExecution {
    pub id: ExecutionId,
    pub workflow: WorkflowDigest,
    pub workflow_name: String,
    /// The document as it is stored; kept once for each digest.
    pub document: String,
    /// What the creator wants to find again when it goes on with the execution, as JSON.
    pub settings: String,
    /// The first event.
    pub created: Event,
}

/// Events that are to be recorded.
#[derive(Debug, Clone)]
pub struct Append {
    pub execution: ExecutionId,
    /// How many events the caller has seen.
    pub expected: u64,
    /// Who records them.
    pub writer: Writer,
    pub events: Vec<Event>,
    /// How far the execution has come with them.
    pub status: ExecutionStatus,
}

/// Who records events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The owner, with its ownership.
    Owner(Epoch),
    /// Somebody who brings what a person said: an answer, a budget that was raised, the wish that it ends.
    Outside,
}

/// Creates an execution, owned by `node`.
pub(crate) fn create(
    transaction: &Transaction<'_>,
    new: &NewExecution,
    node: &str,
) -> Result<Epoch, AppendError> {
    let at = new.created.at.as_millis();
    transaction.execute(
        "INSERT INTO workflows (digest, name, document, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (digest) DO NOTHING",
        params![new.workflow.as_str(), new.workflow_name, new.document, at],
    )?;
    transaction.execute(
        "INSERT INTO executions (id, workflow, status, version, owner, epoch, settings, created_at, updated_at)
         VALUES (?1, ?2, 'running', 0, ?3, 1, ?4, ?5, ?5)",
        params![new.id.to_string(), new.workflow.as_str(), node, new.settings, at],
    )?;
    let append = Append {
        execution: new.id,
        expected: 0,
        writer: Writer::Owner(Epoch(1)),
        events: vec![new.created.clone()],
        status: ExecutionStatus::Running,
    };
    append_events(transaction, &append)?;
    Ok(Epoch(1))
}

/// Records events, if the caller has seen all before them and still owns the execution.
pub(crate) fn append_events(
    transaction: &Transaction<'_>,
    append: &Append,
) -> Result<u64, AppendError> {
    let id = append.execution.to_string();
    let row: Option<(u64, i64)> = transaction
        .prepare_cached("SELECT version, epoch FROM executions WHERE id = ?1")?
        .query_row([&id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (actual, epoch) = row.ok_or(AppendError::NotFound(append.execution))?;
    match append.writer {
        Writer::Owner(own) if own.0 != epoch => return Err(AppendError::Fenced),
        Writer::Owner(_) | Writer::Outside => {}
    }
    if actual != append.expected {
        return Err(AppendError::Conflict {
            expected: append.expected,
            actual,
        });
    }
    let mut insert = transaction
        .prepare_cached("INSERT INTO events (execution, position, body) VALUES (?1, ?2, ?3)")?;
    let mut version = actual;
    for event in &append.events {
        version += 1;
        insert.execute(params![id, version, serde_json::to_string(event)?])?;
    }
    let at = append
        .events
        .last()
        .map_or(Timestamp::default(), |event| event.at);
    // Nobody works on what has ended.
    transaction
        .prepare_cached(
            "UPDATE executions SET version = ?2, updated_at = ?3, status = ?4,
             owner = CASE WHEN ?5 THEN NULL ELSE owner END WHERE id = ?1",
        )?
        .execute(params![
            id,
            version,
            at.as_millis(),
            append.status.as_str(),
            append.status.is_terminal()
        ])?;
    Ok(version)
}

/// Takes an execution over from `from`, the owner it was seen with.
pub(crate) fn claim(
    transaction: &Transaction<'_>,
    id: ExecutionId,
    from: Option<&str>,
    node: &str,
) -> Result<Epoch, AppendError> {
    let epoch: Option<i64> = transaction
        .query_row(
            "UPDATE executions SET owner = ?3, epoch = epoch + 1 WHERE id = ?1 AND owner IS ?2
             RETURNING epoch",
            params![id.to_string(), from, node],
            |row| row.get(0),
        )
        .optional()?;
    match epoch {
        Some(epoch) => Ok(Epoch(epoch)),
        None => Err(AppendError::Owned {
            owner: "it was just taken over".to_owned(),
        }),
    }
}

/// Gives an execution back of which the caller has seen `version` events. False: somebody wrote more, and the caller
/// owns it still; what was written is the caller's to act on, for whoever wrote it saw a living owner.
pub(crate) fn release_at(
    transaction: &Transaction<'_>,
    id: ExecutionId,
    epoch: Epoch,
    version: u64,
) -> Result<bool, AppendError> {
    let changed = transaction.execute(
        "UPDATE executions SET owner = NULL WHERE id = ?1 AND epoch = ?2 AND version = ?3",
        params![id.to_string(), epoch.0, version],
    )?;
    if changed > 0 {
        return Ok(true);
    }
    // Another's already: nothing is left to give back.
    let epoch_now: Option<i64> = transaction
        .query_row(
            "SELECT epoch FROM executions WHERE id = ?1",
            [id.to_string()],
            |row| row.get(0),
        )
        .optional()?;
    Ok(epoch_now != Some(epoch.0))
}

/// Gives an execution back, so that another process may take it.
pub(crate) fn release(
    transaction: &Transaction<'_>,
    id: ExecutionId,
    epoch: Epoch,
) -> Result<(), AppendError> {
    transaction.execute(
        "UPDATE executions SET owner = NULL WHERE id = ?1 AND epoch = ?2",
        params![id.to_string(), epoch.0],
    )?;
    Ok(())
}
