//! A process that works on executions, and how others know that it lives.
//!
//! Each has a row that says until when it is taken to be alive, by the server's clock alone. Whoever finds a row
//! expired takes its executions away: the process may live for all that, but what it writes as their owner is refused.

use std::time::Duration;

use sqlx::PgConnection;
use troupe_workflow::Timestamp;

use super::fault::Fault;
use super::write::hint;
use crate::error::{AppendError, ReadError};

/// Executions that one beat frees at most: bounds how long it holds their rows.
const FREED_MAX: i64 = 10_000;

/// Enters a process. None: another of this name is there.
pub(super) async fn register(
    connection: &mut PgConnection,
    (id, lease): (&str, Duration),
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "INSERT INTO nodes (id, alive_until) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
         ON CONFLICT (id) DO NOTHING RETURNING incarnation",
    )
    .bind(id)
    .bind(lease.as_secs_f64())
    .fetch_optional(connection)
    .await
}

/// Forgets a process of this name whose time is up.
pub(super) async fn forget_dead(connection: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM nodes WHERE id = $1 AND alive_until <= clock_timestamp()")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes away what earlier processes of this name owned: the one that has it now knows nothing of it.
pub(super) async fn disown(connection: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE executions SET owner = NULL, due_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
         WHERE owner = $1",
    )
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Says that a process lives. Answers the server's time; none: its row is gone.
pub(super) async fn renew(
    connection: &mut PgConnection,
    (id, incarnation): (&str, i64),
    lease: Duration,
) -> sqlx::Result<Option<Timestamp>> {
    let now: Option<i64> = sqlx::query_scalar(
        "UPDATE nodes SET alive_until = clock_timestamp() + make_interval(secs => $3)
         WHERE id = $1 AND incarnation = $2
         RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    )
    .bind(id)
    .bind(incarnation)
    .bind(lease.as_secs_f64())
    .fetch_optional(connection)
    .await?;
    Ok(now.map(Timestamp::from_millis))
}

/// Removes a process that ends.
pub(super) async fn remove(
    connection: &mut PgConnection,
    (id, incarnation): (&str, i64),
) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM nodes WHERE id = $1 AND incarnation = $2")
        .bind(id)
        .bind(incarnation)
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
