//! Everything that only reads the file.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use troupe_workflow::{Event, ExecutionId, Timestamp};

use crate::error::ReadError;

/// An execution as the list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRow {
    pub id: ExecutionId,
    pub workflow_name: String,
    /// The word of an `ExecutionStatus`.
    pub status: String,
    /// How many events it has.
    pub version: u64,
    /// The process that works on it, living or dead.
    pub owner: Option<String>,
    /// What its creator noted, as JSON.
    pub settings: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A workflow document as it was when an execution began.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredWorkflow {
    pub document: Value,
}

const COLUMNS: &str =
    "e.id, w.name, e.status, e.version, e.owner, e.settings, e.created_at, e.updated_at
    FROM executions e JOIN workflows w ON w.digest = e.workflow";

fn execution_row(row: &Row<'_>) -> rusqlite::Result<Result<ExecutionRow, ReadError>> {
    let id: String = row.get(0)?;
    let parsed = id
        .parse()
        .map_err(|error: troupe_workflow::IdError| ReadError::Corrupt {
            place: "table executions".to_owned(),
            message: error.to_string(),
        });
    let id = match parsed {
        Ok(id) => id,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Ok(ExecutionRow {
        id,
        workflow_name: row.get(1)?,
        status: row.get(2)?,
        version: row.get(3)?,
        owner: row.get(4)?,
        settings: row.get(5)?,
        created_at: Timestamp::from_millis(row.get(6)?),
        updated_at: Timestamp::from_millis(row.get(7)?),
    }))
}

pub(crate) fn find(connection: &Connection, id: ExecutionId) -> Result<ExecutionRow, ReadError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} WHERE e.id = ?1"))?
        .query_row([id.to_string()], execution_row)
        .optional()?
        .ok_or(ReadError::NotFound(id))?
}

/// Executions, newest first.
pub(crate) fn list(connection: &Connection, limit: u32) -> Result<Vec<ExecutionRow>, ReadError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} ORDER BY e.id DESC LIMIT ?1"))?;
    let rows = statement.query_map([limit], execution_row)?;
    rows.map(|row| row?).collect()
}

/// Executions that have not ended, oldest first.
pub(crate) fn unfinished(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<ExecutionRow>, ReadError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} WHERE e.status NOT IN ('completed', 'failed', 'cancelled') ORDER BY e.id LIMIT ?1"
    ))?;
    let rows = statement.query_map([limit], execution_row)?;
    rows.map(|row| row?).collect()
}

/// The events after a position, in order.
pub(crate) fn events(
    connection: &Connection,
    id: ExecutionId,
    after: u64,
) -> Result<Vec<Event>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, body FROM events WHERE execution = ?1 AND position > ?2 ORDER BY position",
    )?;
    let rows = statement.query_map(params![id.to_string(), after], |row| {
        Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut events = Vec::new();
    for row in rows {
        let (position, body) = row?;
        let place = || format!("event {position} of {id}");
        let expected = after + u64::try_from(events.len()).unwrap_or(u64::MAX) + 1;
        if position != expected {
            let message = format!("event {expected} is missing");
            return Err(ReadError::Corrupt {
                place: place(),
                message,
            });
        }
        events.push(
            serde_json::from_str(&body).map_err(|error| ReadError::Corrupt {
                place: place(),
                message: error.to_string(),
            })?,
        );
    }
    Ok(events)
}

pub(crate) fn workflow(
    connection: &Connection,
    id: ExecutionId,
) -> Result<StoredWorkflow, ReadError> {
    let document: Option<String> = connection
        .query_row(
            "SELECT w.document FROM executions e JOIN workflows w ON w.digest = e.workflow WHERE e.id = ?1",
            [id.to_string()],
            |row| row.get(0),
        )
        .optional()?;
    let document = document.ok_or(ReadError::NotFound(id))?;
    let document = serde_json::from_str(&document).map_err(|error| ReadError::Corrupt {
        place: format!("the workflow of {id}"),
        message: error.to_string(),
    })?;
    Ok(StoredWorkflow { document })
}
