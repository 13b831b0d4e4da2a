//! The tables, and the format they are in.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::node::Node;
use crate::error::OpenError;
use crate::fail_point::{FailPoint, Passing};

/// Counted up when a change needs a migration; kept in SQLite's `user_version`.
pub(crate) const FORMAT: i64 = 4;

/// The names of a status are those of `ExecutionStatus`; times are milliseconds since 1970; texts are JSON.
const TABLES: &str = "
CREATE TABLE workflows (
    digest      TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    document    TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) WITHOUT ROWID;

-- due_at: when somebody must look at it. Owned executions have none, unless somebody else wrote to them.
-- checksum: of what never changes of a row. (Its default is for files of format 2, whose rows get it later.)
CREATE TABLE executions (
    key         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    digest      TEXT NOT NULL REFERENCES workflows (digest),
    workflow    TEXT,
    workflow_version INTEGER,
    status      TEXT NOT NULL,
    version     INTEGER NOT NULL,
    owner       TEXT,
    epoch       INTEGER NOT NULL,
    due_at      INTEGER,
    settings    TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    checksum    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX executions_by_status ON executions (status, id);
CREATE INDEX executions_by_workflow ON executions (workflow, id) WHERE workflow IS NOT NULL;
CREATE INDEX executions_by_digest ON executions (digest);
CREATE INDEX executions_due ON executions (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX executions_owned ON executions (owner) WHERE owner IS NOT NULL;

CREATE TABLE snapshots (
    execution   INTEGER PRIMARY KEY REFERENCES executions (key),
    version     INTEGER NOT NULL,
    build       TEXT NOT NULL,
    state       TEXT NOT NULL,
    checksum    INTEGER NOT NULL
);

CREATE TABLE blobs (
    digest      TEXT PRIMARY KEY,
    text        TEXT NOT NULL
);
-- Which executions a blob is kept for.
CREATE TABLE blob_uses (
    execution   INTEGER NOT NULL REFERENCES executions (key),
    digest      TEXT NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (execution, digest)
) WITHOUT ROWID;
CREATE INDEX blob_uses_by_digest ON blob_uses (digest);

CREATE TABLE records (
    kind        TEXT NOT NULL,
    id          TEXT NOT NULL,
    version     INTEGER NOT NULL,
    due_at      INTEGER,
    body        TEXT NOT NULL,
    checksum    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX records_due ON records (due_at, id) WHERE due_at IS NOT NULL;
";

/// Events lie in the order in which they were appended, whatever execution they are of: a commit of many executions
/// writes few pages. By execution they are found through the index of the primary key.
pub(super) const EVENTS: &str = "
CREATE TABLE events (
    execution   INTEGER NOT NULL REFERENCES executions (key),
    position    INTEGER NOT NULL,
    body        TEXT NOT NULL,
    payloads    TEXT,
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (execution, position)
);
";

/// Makes the tables of a new file; brings an older file to this format; refuses a newer one.
pub(crate) fn prepare(
    connection: &mut Connection,
    path: &Path,
    fail_point: Option<&FailPoint>,
) -> Result<(), OpenError> {
    let database = |source: rusqlite::Error| OpenError::Database {
        place: path.display().to_string(),
        source: source.into(),
    };
    configure(connection).map_err(database)?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(database)?;
    let found: i64 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(database)?;
    match found {
        FORMAT => return Ok(()),
        0 => make(&transaction).map_err(database)?,
        1..=3 if has_living(path) => {
            return Err(OpenError::InUse {
                place: path.display().to_string(),
                found,
                known: FORMAT,
            });
        }
        1 => super::format_1::migrate(&transaction).map_err(database)?,
        2 => {
            super::format_2::migrate(&transaction).map_err(database)?;
            super::format_3::migrate(&transaction).map_err(database)?;
        }
        3 => super::format_3::migrate(&transaction).map_err(database)?,
        _ => {
            return Err(OpenError::Format {
                place: path.display().to_string(),
                found,
                known: FORMAT,
            });
        }
    }
    transaction
        .pragma_update(None, "user_version", FORMAT)
        .map_err(database)?;
    let upgrade = Passing::enter(fail_point.filter(|_| found > 0), "upgrade");
    transaction.commit().map_err(database)?;
    upgrade.leave();
    Ok(())
}

/// Makes the tables.
pub(super) fn make(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(EVENTS)
}

/// Whether other processes work with the file; this one is not registered yet.
fn has_living(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(Path::new(""));
    Node::any_is_alive(&super::nodes_in(folder))
}

/// Settings of a connection. `synchronous = FULL`: an answered append survives a power cut. `secure_delete`: what was
/// deleted is overwritten, and not only forgotten.
pub(crate) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    /// Statements that are kept prepared; there are fewer.
    const STATEMENTS: usize = 64;
    /// Pages of the file that a connection keeps in memory, in KiB, as SQLite wants it: negative.
    const CACHE_KIB: i64 = -32 * 1024;
    /// Pages of the log after which they are brought into the file: more of them are written only once.
    const LOG_PAGES: i64 = 8_000;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    write_ahead(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Turns the write-ahead log on. While another process does the same to a new file SQLite answers at once that it is
/// busy, whatever the time-out is (it would be a deadlock otherwise): so it is tried again here.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    const TRIES: u32 = 1_000;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
    for _ in 1..TRIES {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if is_busy(&error) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    connection.pragma_update(None, "journal_mode", "WAL")
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
