//! The tables, and the format they are in.

use std::path::Path;

use rusqlite::Connection;

use crate::error::OpenError;

/// Counted up when a change needs a migration; kept in SQLite's `user_version`.
pub(crate) const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE workflows (
    digest      TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    document    TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE executions (
    id          TEXT PRIMARY KEY,
    workflow    TEXT NOT NULL REFERENCES workflows (digest),
    status      TEXT NOT NULL,
    version     INTEGER NOT NULL,
    owner       TEXT,
    epoch       INTEGER NOT NULL DEFAULT 0,
    settings    TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX executions_by_status ON executions (status, id);

CREATE TABLE events (
    execution   TEXT NOT NULL REFERENCES executions (id),
    position    INTEGER NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (execution, position)
) WITHOUT ROWID;
";

/// Makes the tables of a new file; refuses a file of another format.
pub(crate) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database {
        path: path.to_owned(),
        source,
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
        0 => {
            transaction.execute_batch(TABLES).map_err(database)?;
            transaction
                .pragma_update(None, "user_version", FORMAT)
                .map_err(database)?;
        }
        _ => {
            return Err(OpenError::Format {
                path: path.to_owned(),
                found,
                known: FORMAT,
            });
        }
    }
    transaction.commit().map_err(database)
}

/// Settings of a connection. `synchronous = FULL`: an answered append survives a power cut.
pub(crate) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    write_ahead(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")
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
