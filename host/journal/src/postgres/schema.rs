//! The tables, and the format they are in.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::format_1;
use crate::error::OpenError;
use crate::fail_point::FailPoint;

/// Counted up when a change needs a migration; kept in the table `format`.
pub(super) const FORMAT: i64 = 2;
/// Held while the tables are made or changed, so that one process does it: the first bytes of "troupe".
const LOCK: i64 = 0x7472_6f75_7065;

/// The names of a status are those of `ExecutionStatus`; times are milliseconds since 1970, but for the lives of
/// processes, which only the server's clock says; texts are JSON. Ids are in the order of their bytes, in whatever
/// language the server sorts.
const TABLES: &str = r#"
CREATE TABLE workflows (
    digest      text COLLATE "C" PRIMARY KEY,
    name        text NOT NULL,
    document    text NOT NULL,
    created_at  bigint NOT NULL
);

-- due_at: when somebody must look at it. Owned executions have none, unless somebody else wrote to them.
-- checksum: of what never changes of a row.
-- fillfactor: most appends change nothing that is in an index, and find room for the row's new version beside it.
CREATE TABLE executions (
    key         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,
    digest      text COLLATE "C" NOT NULL REFERENCES workflows (digest),
    workflow    text COLLATE "C",
    workflow_version bigint,
    status      text NOT NULL,
    version     bigint NOT NULL,
    owner       text COLLATE "C",
    epoch       bigint NOT NULL,
    due_at      bigint,
    settings    text NOT NULL,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    checksum    bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX executions_by_status ON executions (status, id);
CREATE INDEX executions_by_workflow ON executions (workflow, id) WHERE workflow IS NOT NULL;
CREATE INDEX executions_by_digest ON executions (digest);
CREATE INDEX executions_due ON executions (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX executions_owned ON executions (owner) WHERE owner IS NOT NULL;

-- The statement that writes events has locked their execution: no foreign key has to look for it again.
CREATE TABLE events (
    execution   bigint NOT NULL,
    position    bigint NOT NULL,
    body        text NOT NULL,
    payloads    text,
    checksum    bigint NOT NULL,
    PRIMARY KEY (execution, position)
);

CREATE TABLE snapshots (
    execution   bigint PRIMARY KEY,
    version     bigint NOT NULL,
    build       text NOT NULL,
    state       text NOT NULL,
    checksum    bigint NOT NULL
);

CREATE TABLE blobs (
    digest      text COLLATE "C" PRIMARY KEY,
    text        text NOT NULL
);
-- Which executions a blob is kept for.
CREATE TABLE blob_uses (
    execution   bigint NOT NULL,
    digest      text COLLATE "C" NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (execution, digest)
);
CREATE INDEX blob_uses_by_digest ON blob_uses (digest);

CREATE TABLE records (
    kind        text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    due_at      bigint,
    body        text NOT NULL,
    checksum    bigint NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX records_due ON records (due_at, id) WHERE due_at IS NOT NULL;

-- Processes that work on executions. incarnation: a name that was given again belongs to another. format: the one that
-- a process writes; one that does not say it is of an earlier version, and is refused.
CREATE TABLE nodes (
    id          text COLLATE "C" PRIMARY KEY,
    incarnation bigint NOT NULL,
    alive_until timestamptz NOT NULL,
    format      bigint NOT NULL
);
"#;

/// Makes the schema and its tables where there are none; brings older ones to this format; refuses those of a newer one.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    place: &str,
    fail_point: Option<&FailPoint>,
) -> Result<(), OpenError> {
    let mut found = match format(connection).await.map_err(failed(place))? {
        Some(found) => found,
        None => make_tables(connection).await.map_err(failed(place))?,
    };
    if found == 1 {
        found = format_1::migrate(connection, place, fail_point).await?;
    }
    if found != FORMAT {
        return Err(OpenError::Format {
            place: place.to_owned(),
            found,
            known: FORMAT,
        });
    }
    Ok(())
}

/// Refuses tables that are not there or of another format, and changes nothing.
pub(super) async fn check(connection: &mut PgConnection, place: &str) -> Result<(), OpenError> {
    let found = format(connection).await.map_err(failed(place))?;
    let (place, known) = (place.to_owned(), FORMAT);
    match found {
        Some(FORMAT) => Ok(()),
        None => Err(OpenError::NoTables { place }),
        Some(found) if found < FORMAT => Err(OpenError::Older {
            place,
            found,
            known,
        }),
        Some(found) => Err(OpenError::Format {
            place,
            found,
            known,
        }),
    }
}

fn failed(place: &str) -> impl Fn(sqlx::Error) -> OpenError {
    |source| OpenError::Database {
        place: place.to_owned(),
        source: source.into(),
    }
}

/// The format of the tables, if there are any.
pub(super) async fn format(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('format') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT format FROM format")
        .fetch_optional(connection)
        .await
}

/// Keeps others from making or changing the tables until the transaction ends.
pub(super) async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes the tables, unless another process did meanwhile. Answers their format.
async fn make_tables(connection: &mut PgConnection) -> sqlx::Result<i64> {
    let mut transaction = connection.begin().await?;
    lock(&mut transaction).await?;
    // Whoever may not make schemas can be given one: only what is missing is made.
    let missing: Option<String> = sqlx::query_scalar(
        "SELECT quote_ident(s.name) FROM (SELECT (parse_ident(split_part(current_setting('search_path'), ',', 1)))[1]
            AS name) s WHERE to_regnamespace(quote_ident(s.name)) IS NULL",
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(schema) = missing {
        // Quoted by the server.
        let create = AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
        transaction.execute(sqlx::raw_sql(create)).await?;
    }
    if let Some(found) = format(&mut transaction).await? {
        return Ok(found);
    }
    transaction.execute(sqlx::raw_sql(TABLES)).await?;
    transaction
        .execute(sqlx::raw_sql(
            "CREATE TABLE format (format bigint NOT NULL)",
        ))
        .await?;
    sqlx::query("INSERT INTO format VALUES ($1)")
        .bind(FORMAT)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(FORMAT)
}
