//! Brings tables of format 1 to the current one, in which records and the rows of executions have checksums.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use troupe_workflow::Timestamp;

use super::record::unchecked;
use super::schema;
use crate::checksum::{Fixed, of_record};
use crate::error::OpenError;
use crate::execution::WorkflowVersion;
use crate::fail_point::{FailPoint, Passing};

/// Rows that are read at once: bounds memory, and how long one statement takes.
const PAGE: i64 = 1_000;
/// How long processes of the version before are waited for: one that has ended counts as living for its lease.
const LIVING_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether they still live.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What became of a try.
enum Tried {
    Done,
    /// Another process did it meanwhile; the tables have this format.
    Found(i64),
    SomebodyLives,
}

/// Does it in one transaction, when no process of the version before lives any more. `nodes` gets a column that they do
/// not fill, so none of them begins later either. Answers the format that the tables have then.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    place: &str,
    fail_point: Option<&FailPoint>,
) -> Result<i64, OpenError> {
    let looks = LIVING_MAX.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..=looks {
        let tried = try_to(connection, fail_point).await;
        match tried.map_err(|source| OpenError::Database {
            place: place.to_owned(),
            source: source.into(),
        })? {
            Tried::Done => return Ok(schema::FORMAT),
            Tried::Found(format) => return Ok(format),
            Tried::SomebodyLives => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    Err(OpenError::InUse {
        place: place.to_owned(),
        found: 1,
        known: schema::FORMAT,
    })
}

async fn try_to(
    connection: &mut PgConnection,
    fail_point: Option<&FailPoint>,
) -> sqlx::Result<Tried> {
    let mut transaction = connection.begin().await?;
    // Another process may be at it, for as long as it takes.
    transaction
        .execute(sqlx::raw_sql(
            "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0",
        ))
        .await?;
    schema::lock(&mut transaction).await?;
    match schema::format(&mut transaction).await? {
        Some(1) => {}
        other => return Ok(Tried::Found(other.unwrap_or_default())),
    }
    transaction
        .execute(sqlx::raw_sql(
            "SET LOCAL lock_timeout = '10s'; LOCK TABLE nodes, executions, records",
        ))
        .await?;
    let lives: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM nodes WHERE alive_until > clock_timestamp())",
    )
    .fetch_one(&mut *transaction)
    .await?;
    if lives {
        transaction.rollback().await?;
        return Ok(Tried::SomebodyLives);
    }
    transaction
        .execute(sqlx::raw_sql(
            "DELETE FROM nodes;
             ALTER TABLE nodes ADD COLUMN format bigint NOT NULL;
             ALTER TABLE executions ADD COLUMN checksum bigint;
             ALTER TABLE records ADD COLUMN checksum bigint;",
        ))
        .await?;
    fill_executions(&mut transaction).await?;
    fill_records(&mut transaction).await?;
    transaction
        .execute(sqlx::raw_sql(
            "ALTER TABLE executions ALTER COLUMN checksum SET NOT NULL;
             ALTER TABLE records ALTER COLUMN checksum SET NOT NULL;",
        ))
        .await?;
    sqlx::query("UPDATE format SET format = $1")
        .bind(schema::FORMAT)
        .execute(&mut *transaction)
        .await?;
    let upgrade = Passing::enter(fail_point, "upgrade");
    transaction.commit().await?;
    upgrade.leave();
    Ok(Tried::Done)
}

async fn fill_executions(connection: &mut PgConnection) -> sqlx::Result<()> {
    let mut after = i64::MIN;
    loop {
        let rows = sqlx::query(
            "SELECT key, id, digest, workflow, workflow_version, settings, created_at FROM executions
             WHERE key > $1 ORDER BY key LIMIT $2",
        )
        .bind(after)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let (mut keys, mut checksums) = (Vec::new(), Vec::new());
        for row in rows {
            let workflow: Option<String> = row.try_get(3)?;
            let version: Option<i64> = row.try_get(4)?;
            let workflow = workflow.zip(version).map(|(id, version)| WorkflowVersion {
                id,
                version: u32::try_from(version).unwrap_or(0),
            });
            let fixed = Fixed {
                id: row.try_get(1)?,
                digest: row.try_get(2)?,
                workflow: workflow.as_ref(),
                settings: row.try_get(5)?,
                created_at: Timestamp::from_millis(row.try_get(6)?),
            };
            keys.push(row.try_get::<i64, _>(0)?);
            checksums.push(i64::from(fixed.checksum()));
        }
        let Some(last) = keys.last() else {
            return Ok(());
        };
        after = *last;
        sqlx::query(
            "UPDATE executions e SET checksum = t.checksum
             FROM unnest($1::bigint[], $2::bigint[]) AS t (key, checksum) WHERE e.key = t.key",
        )
        .bind(keys)
        .bind(checksums)
        .execute(&mut *connection)
        .await?;
    }
}

async fn fill_records(connection: &mut PgConnection) -> sqlx::Result<()> {
    let mut after = (String::new(), String::new());
    loop {
        let rows = sqlx::query(
            "SELECT kind, id, version, due_at, body FROM records WHERE (kind, id) > ($1, $2)
             ORDER BY kind, id LIMIT $3",
        )
        .bind(&after.0)
        .bind(&after.1)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let (mut kinds, mut ids, mut checksums) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let record = unchecked(&row)?;
            checksums.push(i64::from(of_record(&record)));
            kinds.push(record.kind);
            ids.push(record.id);
        }
        let (Some(kind), Some(id)) = (kinds.last(), ids.last()) else {
            return Ok(());
        };
        after = (kind.clone(), id.clone());
        sqlx::query(
            "UPDATE records r SET checksum = t.checksum
             FROM unnest($1::text[], $2::text[], $3::bigint[]) AS t (kind, id, checksum)
             WHERE r.kind = t.kind AND r.id = t.id",
        )
        .bind(kinds)
        .bind(ids)
        .bind(checksums)
        .execute(&mut *connection)
        .await?;
    }
}
