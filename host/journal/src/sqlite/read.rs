//! Everything that only reads executions.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use troupe_workflow::{Event, ExecutionId, ExecutionStatus, Snapshot, Timestamp, WorkflowDigest};

use crate::checksum::{self, Fixed};
use crate::encode::{EventRow, check_dense, decode};
use crate::error::ReadError;
use crate::execution::{Epoch, ExecutionRow, Listing, Order, Stored, WorkflowVersion};
use crate::sound::Sound;

const COLUMNS: &str = "e.id, w.name, e.digest, e.workflow, e.workflow_version, e.status, e.version, e.owner, e.due_at,
    e.settings, e.created_at, e.updated_at, e.checksum
    FROM executions e JOIN workflows w ON w.digest = e.digest";

/// A row as it lies there: what it says is judged outside of the database's calls.
struct RawRow {
    id: String,
    workflow_name: String,
    digest: String,
    workflow: Option<WorkflowVersion>,
    status: String,
    version: u64,
    owner: Option<String>,
    due_at: Option<Timestamp>,
    settings: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    checksum: i64,
}

impl RawRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let workflow: Option<String> = row.get(3)?;
        let version: Option<u32> = row.get(4)?;
        let due_at: Option<i64> = row.get(8)?;
        Ok(Self {
            id: row.get(0)?,
            workflow_name: row.get(1)?,
            digest: row.get(2)?,
            workflow: workflow
                .zip(version)
                .map(|(id, version)| WorkflowVersion { id, version }),
            status: row.get(5)?,
            version: row.get(6)?,
            owner: row.get(7)?,
            due_at: due_at.map(Timestamp::from_millis),
            settings: row.get(9)?,
            created_at: Timestamp::from_millis(row.get(10)?),
            updated_at: Timestamp::from_millis(row.get(11)?),
            checksum: row.get(12)?,
        })
    }

    fn check(self) -> Result<ExecutionRow, ReadError> {
        let fixed = Fixed {
            id: &self.id,
            digest: &self.digest,
            workflow: self.workflow.as_ref(),
            settings: &self.settings,
            created_at: self.created_at,
        };
        fixed.check(self.checksum)?;
        let status =
            ExecutionStatus::from_word(&self.status).ok_or_else(|| ReadError::Corrupt {
                place: format!("the row of {}", self.id),
                message: format!("`{}` is no status", self.status),
            })?;
        Ok(ExecutionRow {
            id: parse_id(&self.id)?,
            workflow_name: self.workflow_name,
            digest: WorkflowDigest::stored(self.digest),
            workflow: self.workflow,
            status,
            version: self.version,
            owner: self.owner,
            due_at: self.due_at,
            settings: self.settings,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

fn parse_id(text: &str) -> Result<ExecutionId, ReadError> {
    text.parse()
        .map_err(|error: troupe_workflow::IdError| ReadError::Corrupt {
            place: "table executions".to_owned(),
            message: error.to_string(),
        })
}

pub(crate) fn find(connection: &Connection, id: ExecutionId) -> Result<ExecutionRow, ReadError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} WHERE e.id = ?1"))?
        .query_row([id.to_string()], RawRow::read)
        .optional()
        .map_err(|error| damaged(error, &format!("the row of {id}")))?
        .ok_or(ReadError::NotFound(id))?
        .check()
}

/// A page of executions.
pub(crate) fn list(
    connection: &Connection,
    listing: &Listing,
) -> Result<Vec<ExecutionRow>, ReadError> {
    let mut sound = Sound::new(listing.limit);
    loop {
        let (sql, values) = listing_sql(listing, sound.to_ask());
        let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
        let mut statement = connection.prepare_cached(&sql)?;
        let mut found = statement.query(&*values)?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let read = RawRow::read(row).map_err(|error| damaged(error, "table executions"));
            rows.push(read.and_then(RawRow::check));
        }
        if let Some(page) = sound.take(rows)? {
            return Ok(page);
        }
    }
}

/// What an error of a row means.
fn damaged(error: rusqlite::Error, place: &str) -> ReadError {
    if !is_of_values(&error) {
        return error.into();
    }
    ReadError::Corrupt {
        place: place.to_owned(),
        message: error.to_string(),
    }
}

/// Whether the values of a row are not of their kinds: SQLite gives what lies there, whatever it is.
pub(super) fn is_of_values(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    matches!(
        error,
        FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)
    )
}

/// The question for a page. Ids sort by time of creation.
fn listing_sql(listing: &Listing, limit: u32) -> (String, Vec<Box<dyn ToSql>>) {
    let mut conditions = vec!["1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut add = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        conditions.push(format!("{condition} ?{}", values.len()));
    };
    if let Some(workflow) = &listing.workflow {
        add("e.workflow =", Box::new(workflow.clone()));
    }
    if let Some(after) = listing.created_after {
        add("e.created_at >", Box::new(after.as_millis()));
    }
    if let Some(before) = listing.created_before {
        add("e.created_at <", Box::new(before.as_millis()));
    }
    let (from, until) = listing.id_bounds();
    for (condition, bound) in [("e.id >=", from), ("e.id <=", until)] {
        if let Some(id) = bound {
            add(condition, Box::new(id.to_string()));
        }
    }
    if let Some(before) = listing.updated_before {
        add("e.updated_at <", Box::new(before.as_millis()));
    }
    let (after, order) = match listing.order {
        Order::NewestFirst => ("e.id <", "DESC"),
        Order::OldestFirst => ("e.id >", "ASC"),
    };
    if let Some(id) = listing.after {
        add(after, Box::new(id.to_string()));
    }
    if !listing.statuses.is_empty() {
        // Words of our own, none from outside.
        let words: Vec<_> = listing
            .statuses
            .iter()
            .map(|status| format!("'{}'", status.as_str()))
            .collect();
        conditions.push(format!("e.status IN ({})", words.join(", ")));
    }
    values.push(Box::new(limit));
    let sql = format!(
        "SELECT {COLUMNS} WHERE {} ORDER BY e.id {order} LIMIT ?{}",
        conditions.join(" AND "),
        values.len()
    );
    (sql, values)
}

/// What is needed to go on with an execution.
pub(crate) fn load(connection: &Connection, id: ExecutionId) -> Result<Stored, ReadError> {
    let row = find(connection, id)?;
    let (key, document): (i64, String) = connection
        .prepare_cached(
            "SELECT e.key, w.document FROM executions e JOIN workflows w ON w.digest = e.digest WHERE e.id = ?1",
        )?
        .query_row([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let document = serde_json::from_str(&document).map_err(|error| ReadError::Corrupt {
        place: format!("the workflow of {id}"),
        message: error.to_string(),
    })?;
    let snapshot = snapshot(connection, key)?.filter(|snapshot| snapshot.version <= row.version);
    let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.version);
    // What another process has written since the row was read is not part of it.
    let limit = u32::try_from(row.version - after).unwrap_or(u32::MAX);
    let events = events_of(connection, (id, key), after, limit)?;
    let found = after + u64::try_from(events.len()).unwrap_or(u64::MAX);
    if found < row.version {
        return Err(ReadError::Corrupt {
            place: format!("event {} of {id}", found + 1),
            message: format!("it is missing; there were {}", row.version),
        });
    }
    Ok(Stored {
        row,
        document,
        snapshot,
        events,
    })
}

/// The snapshot of an execution; one that is damaged is as good as none: the events say it all.
fn snapshot(connection: &Connection, key: i64) -> Result<Option<Snapshot>, ReadError> {
    let found = connection
        .prepare_cached(
            "SELECT version, build, state, checksum FROM snapshots WHERE execution = ?1",
        )?
        .query_row([key], |row| {
            let snapshot = Snapshot {
                version: row.get(0)?,
                build: row.get(1)?,
                state: row.get(2)?,
            };
            Ok((snapshot, row.get::<_, u32>(3)?))
        })
        .optional()?;
    Ok(found.and_then(|(snapshot, checksum)| {
        (checksum::of_text(&snapshot.state) == checksum).then_some(snapshot)
    }))
}

/// The events after a position, in order.
pub(crate) fn events(
    connection: &Connection,
    id: ExecutionId,
    after: u64,
    limit: u32,
) -> Result<Vec<Event>, ReadError> {
    let key: i64 = connection
        .prepare_cached("SELECT key FROM executions WHERE id = ?1")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()?
        .ok_or(ReadError::NotFound(id))?;
    events_of(connection, (id, key), after, limit)
}

fn events_of(
    connection: &Connection,
    (id, key): (ExecutionId, i64),
    after: u64,
    limit: u32,
) -> Result<Vec<Event>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, body, payloads, checksum FROM events WHERE execution = ?1 AND position > ?2
         ORDER BY position LIMIT ?3",
    )?;
    let rows = statement.query_map(params![key, after, limit], |row| {
        Ok(EventRow {
            position: row.get(0)?,
            body: row.get(1)?,
            payloads: row.get(2)?,
            checksum: row.get(3)?,
        })
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    check_dense(id, after, &rows)?;
    rows.iter()
        .map(|row| decode(id, row, |digest| blob(connection, digest)))
        .collect()
}

fn blob(connection: &Connection, digest: &str) -> Result<Option<String>, ReadError> {
    Ok(connection
        .prepare_cached("SELECT text FROM blobs WHERE digest = ?1")?
        .query_row([digest], |row| row.get(0))
        .optional()?)
}

/// The names of all that own executions.
pub(crate) fn owners(connection: &Connection) -> Result<Vec<String>, ReadError> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT owner FROM executions WHERE owner IS NOT NULL")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The executions that a process owns.
pub(crate) fn owned(
    connection: &Connection,
    node: &str,
) -> Result<Vec<(ExecutionId, Epoch)>, ReadError> {
    let mut statement =
        connection.prepare_cached("SELECT id, epoch FROM executions WHERE owner = ?1")?;
    let rows = statement.query_map([node], |row| {
        Ok((row.get::<_, String>(0)?, Epoch(row.get(1)?)))
    })?;
    rows.map(|row| {
        let (id, epoch) = row?;
        Ok((parse_id(&id)?, epoch))
    })
    .collect()
}

/// Those of them that others wrote to.
pub(crate) fn written_by_others(
    connection: &Connection,
    node: &str,
) -> Result<Vec<(ExecutionId, u64)>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, version FROM executions WHERE due_at IS NOT NULL AND owner = ?1",
    )?;
    let rows = statement.query_map([node], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))
    })?;
    rows.map(|row| {
        let (id, version) = row?;
        Ok((parse_id(&id)?, version))
    })
    .collect()
}

/// When the next execution without an owner, or record, falls due.
pub(crate) fn next_due(connection: &Connection) -> Result<Option<Timestamp>, ReadError> {
    let due: Option<i64> = connection
        .prepare_cached(
            "SELECT min(due) FROM (
                SELECT * FROM (SELECT due_at AS due FROM executions WHERE due_at IS NOT NULL AND owner IS NULL
                    ORDER BY due_at LIMIT 1)
                UNION ALL SELECT min(due_at) FROM records WHERE due_at IS NOT NULL)",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(due.map(Timestamp::from_millis))
}

/// How many executions wait for somebody who works on them, counted up to `most`.
pub(crate) fn queued(connection: &Connection, now: Timestamp, most: u32) -> Result<u32, ReadError> {
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM executions WHERE due_at <= ?1 AND owner IS NULL LIMIT ?2)",
        )?
        .query_row(params![now.as_millis(), most], |row| row.get(0))?)
}
