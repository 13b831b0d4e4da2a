//! A process that works on executions, and how others know that it lives.
//!
//! Each has a row that says until when it is taken to be alive, by the server's clock alone. Whoever finds a row
//! expired takes its executions away: the process may live for all that, but what it writes as their owner is refused.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use sqlx::PgConnection;
use troupe_workflow::Timestamp;

use super::fault::Fault;
use super::schema;
use super::write::hint;
use crate::BEAT_EVERY;
use crate::error::{AppendError, ReadError};

/// Signs of life within one lease, at least.
const BEATS_PER_LEASE: u32 = 4;
/// Protects the server from processes with leases that are next to nothing.
const BEAT_EVERY_LEAST: Duration = Duration::from_millis(50);
/// Executions that one beat frees at most: bounds how long it holds their rows.
const FREED_MAX: i64 = 10_000;

/// A process by its name, and by a number that tells it from others that had the name before.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    incarnation: i64,
    lease: Duration,
}

impl Node {
    pub(super) fn new(id: String, lease: Duration) -> Self {
        // Not the server's to give: whoever does not hear its answer would not know its own number.
        let random = RandomState::new().hash_one(&id).to_ne_bytes();
        Self {
            id,
            incarnation: i64::from_ne_bytes(random),
            lease,
        }
    }

    /// Several times within the lease, so that one sign that is lost or late does not end it.
    pub(super) fn beat_every(&self) -> Duration {
        (self.lease / BEATS_PER_LEASE).clamp(BEAT_EVERY_LEAST, BEAT_EVERY)
    }
}

/// Says that a process lives: enters it, or extends its lease. Answers the server's time; none: another of this name
/// lives.
pub(super) async fn live(
    connection: &mut PgConnection,
    node: &Node,
) -> sqlx::Result<Option<Timestamp>> {
    let now: Option<i64> = sqlx::query_scalar(
        "INSERT INTO nodes (id, incarnation, alive_until, format)
         VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4)
         ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
            WHERE nodes.incarnation = excluded.incarnation
         RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    )
    .bind(&node.id)
    .bind(node.incarnation)
    .bind(node.lease.as_secs_f64())
    .bind(schema::FORMAT)
    .fetch_optional(connection)
    .await?;
    Ok(now.map(Timestamp::from_millis))
}

/// Enters a process for the first time. One of the same name that is dead is forgotten. None: it lives.
pub(super) async fn register(
    connection: &mut PgConnection,
    node: &Node,
) -> sqlx::Result<Option<Timestamp>> {
    forget_dead(connection, &node.id).await?;
    let registered = live(connection, node).await?;
    if registered.is_some() {
        disown(connection, &node.id).await?;
    }
    Ok(registered)
}

/// Forgets a process of this name whose time is up.
async fn forget_dead(connection: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM nodes WHERE id = $1 AND alive_until <= clock_timestamp()")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes away what earlier processes of this name owned: the one that has it now knows nothing of it.
async fn disown(connection: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE executions SET owner = NULL, due_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
         WHERE owner = $1",
    )
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a process that ends.
pub(super) async fn remove(connection: &mut PgConnection, node: &Node) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM nodes WHERE id = $1 AND incarnation = $2")
        .bind(&node.id)
        .bind(node.incarnation)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether dead processes have left anything. One look into the index for each owner, however much each of them owns.
pub(super) async fn has_dead(connection: &mut PgConnection) -> Result<bool, Fault<ReadError>> {
    let found = sqlx::query_scalar(
        "WITH RECURSIVE owners AS (
            (SELECT owner FROM executions WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
            UNION ALL
            SELECT (SELECT e.owner FROM executions e WHERE e.owner > o.owner ORDER BY e.owner LIMIT 1)
                FROM owners o WHERE o.owner IS NOT NULL
         )
         SELECT EXISTS (SELECT 1 FROM nodes WHERE alive_until <= clock_timestamp())
            OR EXISTS (SELECT 1 FROM owners o WHERE o.owner IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = o.owner))",
    );
    Ok(found.fetch_one(connection).await?)
}

/// Takes away what dead processes own, and forgets those that own nothing. What somebody else is about to free is
/// left to them.
pub(super) async fn free(
    connection: &mut PgConnection,
    now: Timestamp,
) -> Result<u64, Fault<AppendError>> {
    let freed = sqlx::query(
        "UPDATE executions SET owner = NULL, due_at = $1 WHERE key IN (
            SELECT e.key FROM executions e WHERE e.owner IS NOT NULL AND NOT EXISTS
                (SELECT 1 FROM nodes n WHERE n.id = e.owner AND n.alive_until > clock_timestamp())
            LIMIT $2 FOR UPDATE OF e SKIP LOCKED)",
    )
    .bind(now.as_millis())
    .bind(FREED_MAX)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    sqlx::query(
        "DELETE FROM nodes WHERE id IN
            (SELECT id FROM nodes WHERE alive_until <= clock_timestamp() FOR UPDATE SKIP LOCKED)",
    )
    .execute(&mut *connection)
    .await?;
    if freed > 0 {
        hint(connection).await?;
    }
    Ok(freed)
}
