//! What SQLite by itself does on this machine, with the journal's settings.

use std::path::Path;

use rusqlite::Connection;

use super::schema;

/// How many commits of one row a second SQLite makes by itself in a new file, one after the other, with the journal's
/// settings: what this journal is compared with.
///
/// # Errors
/// What SQLite says.
pub fn measure_commits(
    path: &Path,
    row: &str,
    count: u32,
    now: fn() -> std::time::Instant,
) -> Result<f64, crate::DatabaseError> {
    let connection = Connection::open(path)?;
    schema::configure(&connection)?;
    connection.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")?;
    let begun = now();
    for _ in 0..count {
        connection
            .prepare_cached("INSERT INTO rows (body) VALUES (?1)")?
            .execute([row])?;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
