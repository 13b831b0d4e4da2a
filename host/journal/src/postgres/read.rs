//! Everything that only reads executions.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use troupe_workflow::{Event, ExecutionId, ExecutionStatus, Snapshot, Timestamp, WorkflowDigest};

use super::fault::Fault;
use super::record::cannot_be_stored;
use crate::checksum::{self, Fixed};
use crate::encode::{EventRow, check_dense, decode, payload_digests};
use crate::error::ReadError;
use crate::execution::{Epoch, ExecutionRow, Listing, Order, Stored, WorkflowVersion};
use crate::sound::Sound;

type Answer<T> = Result<T, Fault<ReadError>>;

fn corrupt(place: String, message: String) -> Fault<ReadError> {
    Fault::Refused(ReadError::Corrupt { place, message })
}

fn parse_id(text: &str) -> Answer<ExecutionId> {
    text.parse().map_err(|error: troupe_workflow::IdError| {
        corrupt("table executions".to_owned(), error.to_string())
    })
}

/// A number that is never negative where the database is not damaged.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// For a statement: what is beyond its numbers is beyond all that is stored.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The row of the columns that `find` and `list` read.
fn execution_row(row: &PgRow) -> Answer<ExecutionRow> {
    let id: &str = row.try_get(0)?;
    let (digest, settings): (String, String) = (row.try_get(2)?, row.try_get(9)?);
    let workflow: Option<String> = row.try_get(3)?;
    let workflow_version: Option<i64> = row.try_get(4)?;
    let workflow = workflow
        .zip(workflow_version)
        .map(|(id, version)| WorkflowVersion {
            id,
            version: u32::try_from(version).unwrap_or(0),
        });
    let created_at = Timestamp::from_millis(row.try_get(10)?);
    let fixed = Fixed {
        id,
        digest: &digest,
        workflow: workflow.as_ref(),
        settings: &settings,
        created_at,
    };
    fixed.check(row.try_get(12)?).map_err(Fault::Refused)?;
    let status: &str = row.try_get(5)?;
    let due_at: Option<i64> = row.try_get(8)?;
    Ok(ExecutionRow {
        id: parse_id(id)?,
        workflow_name: row.try_get(1)?,
        digest: WorkflowDigest::stored(digest),
        workflow,
        status: ExecutionStatus::from_word(status).ok_or_else(|| {
            corrupt(
                format!("the row of {id}"),
                format!("`{status}` is no status"),
            )
        })?,
        version: unsigned(row.try_get(6)?),
        owner: row.try_get(7)?,
        due_at: due_at.map(Timestamp::from_millis),
        settings,
        created_at,
        updated_at: Timestamp::from_millis(row.try_get(11)?),
    })
}

pub(super) async fn find(connection: &mut PgConnection, id: ExecutionId) -> Answer<ExecutionRow> {
    let row = sqlx::query(
        "SELECT e.id, w.name, e.digest, e.workflow, e.workflow_version, e.status, e.version, e.owner, e.due_at,
            e.settings, e.created_at, e.updated_at, e.checksum
         FROM executions e JOIN workflows w ON w.digest = e.digest WHERE e.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?
    .ok_or(Fault::Refused(ReadError::NotFound(id)))?;
    execution_row(&row)
}

/// A page of executions. Ids sort by time of creation.
pub(super) async fn list(
    connection: &mut PgConnection,
    listing: &Listing,
) -> Answer<Vec<ExecutionRow>> {
    if listing.workflow.as_deref().is_some_and(cannot_be_stored) {
        return Ok(Vec::new());
    }
    let mut sound = Sound::new(listing.limit);
    loop {
        let mut rows = Vec::new();
        for row in page(connection, listing, sound.to_ask()).await? {
            rows.push(match execution_row(&row) {
                Ok(row) => Ok(row),
                Err(Fault::Refused(error)) => Err(error),
                Err(fault) => return Err(fault),
            });
        }
        if let Some(page) = sound.take(rows).map_err(Fault::Refused)? {
            return Ok(page);
        }
    }
}

async fn page(
    connection: &mut PgConnection,
    listing: &Listing,
    limit: u32,
) -> sqlx::Result<Vec<PgRow>> {
    let mut sql = QueryBuilder::<Postgres>::new(
        "SELECT e.id, w.name, e.digest, e.workflow, e.workflow_version, e.status, e.version, e.owner, e.due_at,
            e.settings, e.created_at, e.updated_at, e.checksum
         FROM executions e JOIN workflows w ON w.digest = e.digest WHERE true",
    );
    if let Some(workflow) = &listing.workflow {
        sql.push(" AND e.workflow = ").push_bind(workflow);
    }
    if let Some(after) = listing.created_after {
        sql.push(" AND e.created_at > ")
            .push_bind(after.as_millis());
    }
    if let Some(before) = listing.created_before {
        sql.push(" AND e.created_at < ")
            .push_bind(before.as_millis());
    }
    let (from, until) = listing.id_bounds();
    for (condition, bound) in [(" AND e.id >= ", from), (" AND e.id <= ", until)] {
        if let Some(id) = bound {
            sql.push(condition).push_bind(id.to_string());
        }
    }
    if let Some(before) = listing.updated_before {
        sql.push(" AND e.updated_at < ")
            .push_bind(before.as_millis());
    }
    if !listing.statuses.is_empty() {
        let words: Vec<_> = listing
            .statuses
            .iter()
            .map(|status| status.as_str())
            .collect();
        sql.push(" AND e.status = ANY(").push_bind(words).push(")");
    }
    let (after, order) = match listing.order {
        Order::NewestFirst => (" AND e.id < ", " ORDER BY e.id DESC LIMIT "),
        Order::OldestFirst => (" AND e.id > ", " ORDER BY e.id LIMIT "),
    };
    if let Some(id) = listing.after {
        sql.push(after).push_bind(id.to_string());
    }
    sql.push(order).push_bind(i64::from(limit));
    // Which index is right depends on what is asked for: a plan that is kept for all questions reads every execution
    // to find the few that have failed.
    sql.build().persistent(false).fetch_all(connection).await
}

/// What is needed to go on with an execution.
pub(super) async fn load(connection: &mut PgConnection, id: ExecutionId) -> Answer<Stored> {
    // One statement, so that all of it is of one moment.
    let found = sqlx::query(
        "SELECT e.id, w.name, e.digest, e.workflow, e.workflow_version, e.status, e.version, e.owner, e.due_at,
            e.settings, e.created_at, e.updated_at, e.checksum, e.key, w.document, s.version, s.build, s.state, s.checksum
         FROM executions e JOIN workflows w ON w.digest = e.digest LEFT JOIN snapshots s ON s.execution = e.key
         WHERE e.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(&mut *connection)
    .await?
    .ok_or(Fault::Refused(ReadError::NotFound(id)))?;
    let row = execution_row(&found)?;
    let document = serde_json::from_str(found.try_get(14)?)
        .map_err(|error| corrupt(format!("the workflow of {id}"), error.to_string()))?;
    let snapshot = snapshot(&found)?.filter(|snapshot| snapshot.version <= row.version);
    let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.version);
    // What others have written since is not part of it.
    let limit = signed(row.version - after);
    let events = events_of(connection, (id, found.try_get(13)?), (after, limit)).await?;
    let number = after + u64::try_from(events.len()).unwrap_or(u64::MAX);
    if number < row.version {
        // Unless it was deleted between the two statements.
        find(connection, id).await?;
        let message = format!("it is missing; there were {}", row.version);
        return Err(corrupt(format!("event {} of {id}", number + 1), message));
    }
    Ok(Stored {
        row,
        document,
        snapshot,
        events,
    })
}

/// The snapshot of an execution; one that is damaged is as good as none: the events say it all.
fn snapshot(row: &PgRow) -> sqlx::Result<Option<Snapshot>> {
    let Some(version) = row.try_get::<Option<i64>, _>(15)? else {
        return Ok(None);
    };
    let snapshot = Snapshot {
        version: unsigned(version),
        build: row.try_get(16)?,
        state: row.try_get(17)?,
    };
    let checksum: i64 = row.try_get(18)?;
    Ok((i64::from(checksum::of_text(&snapshot.state)) == checksum).then_some(snapshot))
}

/// The events after a position, in order.
pub(super) async fn events(
    connection: &mut PgConnection,
    id: ExecutionId,
    (after, limit): (u64, u32),
) -> Answer<Vec<Event>> {
    let key: i64 = sqlx::query_scalar("SELECT key FROM executions WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(Fault::Refused(ReadError::NotFound(id)))?;
    events_of(connection, (id, key), (after, i64::from(limit))).await
}

async fn events_of(
    connection: &mut PgConnection,
    (id, key): (ExecutionId, i64),
    (after, limit): (u64, i64),
) -> Answer<Vec<Event>> {
    let rows = sqlx::query(
        "SELECT position, body, payloads, checksum FROM events WHERE execution = $1 AND position > $2
         ORDER BY position LIMIT $3",
    )
    .bind(key)
    .bind(signed(after))
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.push(EventRow {
            position: unsigned(row.try_get(0)?),
            body: row.try_get(1)?,
            payloads: row.try_get(2)?,
            checksum: u32::try_from(row.try_get::<i64, _>(3)?).unwrap_or(0),
        });
    }
    check_dense(id, after, &found).map_err(Fault::Refused)?;
    let blobs = blobs(connection, &found).await?;
    let decoded: Result<_, _> = found
        .iter()
        .map(|row| decode(id, row, |digest| Ok(blobs.get(digest).cloned())))
        .collect();
    match decoded {
        Ok(events) => Ok(events),
        Err(error) => {
            // Unless it was deleted between the two statements.
            find(connection, id).await?;
            Err(Fault::Refused(error))
        }
    }
}

/// The values that rows have stored apart.
async fn blobs(
    connection: &mut PgConnection,
    rows: &[EventRow],
) -> Answer<BTreeMap<String, String>> {
    // What cannot be read is said when the row is decoded.
    let digests: Vec<String> = rows
        .iter()
        .filter_map(|row| payload_digests(row.payloads.as_deref()?).ok())
        .flatten()
        .map(|(_, digest)| digest)
        .collect();
    if digests.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT digest, text FROM blobs WHERE digest = ANY($1)")
            .bind(digests)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

/// The executions that a process owns.
pub(super) async fn owned(
    connection: &mut PgConnection,
    node: &str,
) -> Answer<Vec<(ExecutionId, Epoch)>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT id, epoch FROM executions WHERE owner = $1")
            .bind(node)
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|(id, epoch)| Ok((parse_id(&id)?, Epoch(epoch))))
        .collect()
}

/// Those of them that others wrote to.
pub(super) async fn written_by_others(
    connection: &mut PgConnection,
    node: &str,
) -> Answer<Vec<(ExecutionId, u64)>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT id, version FROM executions WHERE due_at IS NOT NULL AND owner = $1",
    )
    .bind(node)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(id, version)| Ok((parse_id(&id)?, unsigned(version))))
        .collect()
}

/// When the next execution without an owner, or record, falls due.
pub(super) async fn next_due(connection: &mut PgConnection) -> Answer<Option<Timestamp>> {
    let due: Option<i64> = sqlx::query_scalar(
        "SELECT least(
            (SELECT due_at FROM executions WHERE due_at IS NOT NULL AND owner IS NULL ORDER BY due_at, id LIMIT 1),
            (SELECT due_at FROM records WHERE due_at IS NOT NULL ORDER BY due_at, id LIMIT 1))",
    )
    .fetch_one(connection)
    .await?;
    Ok(due.map(Timestamp::from_millis))
}

/// How many executions wait for somebody who works on them, counted up to `most`.
pub(super) async fn queued(
    connection: &mut PgConnection,
    now: Timestamp,
    most: u32,
) -> Answer<u32> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM executions WHERE due_at <= $1 AND owner IS NULL LIMIT $2) AS due",
    )
    .bind(now.as_millis())
    .bind(i64::from(most))
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(count).unwrap_or(most))
}
