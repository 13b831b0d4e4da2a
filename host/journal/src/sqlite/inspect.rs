//! A journal's file from outside: read without changing it, checked, copied while others write it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};

use super::node::Node;
use super::writer::Writer;
use super::{SqliteJournal, judge_log, nodes_in, schema};
use crate::error::{OpenError, ReadError};
use crate::journal::Reading;

/// Faults that SQLite names at most: a file that is all wrong would fill the screen.
const FAULTS_MAX: u32 = 100;
/// How long somebody else's lock is waited for.
const BUSY_MAX: std::time::Duration = std::time::Duration::from_secs(10);

impl SqliteJournal {
    /// The journal's file in a data folder.
    pub fn file_in(folder: &Path) -> PathBuf {
        folder.join("journal.db")
    }

    /// Opens a journal's file to read it, and changes nothing of it: this process is not registered, the log is left
    /// where it is, and every writing call fails. Others may write to it meanwhile.
    ///
    /// # Errors
    /// A file that is none, or one of another format.
    pub fn inspect(file: &Path) -> Result<Self, OpenError> {
        let failed = database(file);
        let open = || -> rusqlite::Result<Connection> {
            let connection = open_to_read(file)?;
            connection.busy_timeout(BUSY_MAX)?;
            connection.pragma_update(None, "query_only", "ON")?;
            Ok(connection)
        };
        let connection = open().map_err(&failed)?;
        let found: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(&failed)?;
        if found != schema::FORMAT {
            return Err(other_format(file, found));
        }
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let io = |source| OpenError::Folder {
            path: folder.clone(),
            source,
        };
        Ok(Self {
            writer: Writer::start(open().map_err(&failed)?, None).map_err(io)?,
            reader: Arc::new(Mutex::new(connection)),
            nodes: nodes_in(&folder),
            node: Node::unregistered("nobody"),
            fail_point: None,
            seen: Mutex::new(0),
        })
    }

    /// Looks at the log beside a journal's file, which SQLite itself reads only as far as it is sound. Answers what of
    /// it is damaged, if anything.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn check_log(file: &Path) -> std::io::Result<Option<String>> {
        Ok(judge_log(file)?.err().map(|error| error.to_string()))
    }

    /// Has SQLite look the whole file through: pages, indexes, and rows that belong to no other. Answers its faults.
    pub fn check_file(&self) -> Reading<'_, Vec<String>> {
        self.read(|connection| {
            let mut faults = Vec::new();
            let check = format!("PRAGMA integrity_check({FAULTS_MAX})");
            let mut statement = connection.prepare(&check)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            for row in rows {
                match row {
                    Ok(text) if text == "ok" => {}
                    Ok(text) => faults.push(text),
                    // What is broken enough stops the check itself.
                    Err(error) => faults.push(error.to_string()),
                }
            }
            drop(statement);
            faults.extend(orphans(connection)?);
            Ok(faults)
        })
    }

    /// Writes what the journal of a data folder holds at this moment into a new file, which is whole when this
    /// returns; others may write to the journal meanwhile. What was deleted from the journal is nowhere in it.
    ///
    /// # Errors
    /// A folder without a journal, a damaged one, a place that cannot be written.
    pub fn back_up(folder: &Path, to: &Path) -> Result<(), OpenError> {
        let file = Self::file_in(folder);
        judge_log(&file).map_err(|source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        })??;
        let failed = database(&file);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let copy = || -> rusqlite::Result<String> {
            let connection = Connection::open_with_flags(&file, flags)?;
            connection.busy_timeout(BUSY_MAX)?;
            connection.execute("VACUUM INTO ?1", [text_of(to)])?;
            // A copy that nobody can read is none.
            let copy = open_to_read(to)?;
            copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        };
        let said = copy().map_err(&failed)?;
        if said != "ok" {
            return Err(OpenError::Damaged {
                place: to.display().to_string(),
                message: said,
            });
        }
        // SQLite leaves it to the system when such a copy reaches the disk.
        let synced = File::open(to).and_then(|file| file.sync_all());
        synced.map_err(|source| OpenError::Folder {
            path: to.to_owned(),
            source,
        })
    }

    /// Makes a copy of a journal's file, with its log, in which the indexes are made again from the tables as far as
    /// these can be read.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn copy_for_salvage(file: &Path, to: &Path) -> Result<(), OpenError> {
        let io = |source| OpenError::Folder {
            path: to.to_owned(),
            source,
        };
        std::fs::copy(file, to).map_err(io)?;
        if let Ok(log) = File::open(beside(file, "-wal")) {
            drop(log);
            std::fs::copy(beside(file, "-wal"), beside(to, "-wal")).map_err(io)?;
        }
        remake_indexes(to).map_err(database(to))
    }
}

/// Makes the indexes of a file again, as far as the tables can be read. One that cannot be made again is left as it is;
/// the others may help.
fn remake_indexes(file: &Path) -> rusqlite::Result<()> {
    let names = {
        let connection = Connection::open(file)?;
        let mut statement =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'index'")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()?
    };
    for name in names {
        let remade = remake(file, &name).or_else(|_damaged| {
            give_up_pages(file, &name)?;
            remake(file, &name)
        });
        if let Err(error) = remade {
            tracing::debug!(name, %error, "an index cannot be made again");
        }
    }
    Ok(())
}

/// SQLite reads the pages of the index as it is, to free them.
fn remake(file: &Path, name: &str) -> rusqlite::Result<()> {
    let reindex = format!("REINDEX \"{}\"", name.replace('"', "\"\""));
    Connection::open(file)?.execute_batch(&reindex)
}

/// Gives an index the place of a new, empty one. Its own pages are nobody's then, in a file that is a copy.
fn give_up_pages(file: &Path, name: &str) -> rusqlite::Result<()> {
    let mut connection = Connection::open(file)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE given_up (x);
         CREATE INDEX given_up_by_x ON given_up (x);
         PRAGMA writable_schema = ON;",
    )?;
    transaction.execute(
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'given_up_by_x')
         WHERE type = 'index' AND name = ?1",
        [name],
    )?;
    transaction.execute_batch(
        "DELETE FROM sqlite_schema WHERE name IN ('given_up', 'given_up_by_x');
         PRAGMA writable_schema = OFF;",
    )?;
    transaction.commit()
}

/// Writes the log into the file and cuts it to nothing: pages from before a deletion are still in it. On a connection of
/// its own, so that nobody waits for it; false: others are reading what is in the log.
pub(super) fn empty_log(folder: &Path) -> rusqlite::Result<bool> {
    /// While it waits for readers, writers wait for it.
    const WAIT_MAX: std::time::Duration = std::time::Duration::from_millis(500);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(SqliteJournal::file_in(folder), flags)?;
    connection.busy_timeout(WAIT_MAX)?;
    let is_busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!is_busy)
}

/// Rows that belong to something that is not there.
fn orphans(connection: &Connection) -> Result<Vec<String>, ReadError> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let rows = statement.query_map([], |row| {
        let (table, row_id): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
        let parent: String = row.get(2)?;
        let row_id = row_id.map_or(String::new(), |row_id| format!(" {row_id}"));
        Ok(format!(
            "table {table}: row{row_id} belongs to a row of {parent} that is not there"
        ))
    })?;
    let most = usize::try_from(FAULTS_MAX).unwrap_or(usize::MAX);
    let mut faults = Vec::new();
    for row in rows.take(most) {
        match row {
            Ok(text) => faults.push(text),
            Err(error) => {
                faults.push(format!("the tables cannot be compared: {error}"));
                break;
            }
        }
    }
    Ok(faults)
}

/// A file without a log is written by nobody, and can be read where nothing can be made beside it.
fn open_to_read(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if beside(file, "-wal").exists() {
        return Connection::open_with_flags(file, flags);
    }
    let mut address = "file:".to_owned();
    for byte in text_of(file).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                address.push(char::from(byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address.push_str("?immutable=1");
    Connection::open_with_flags(address, flags)
}

fn other_format(file: &Path, found: i64) -> OpenError {
    let place = file.display().to_string();
    match found {
        0 => OpenError::Damaged {
            place,
            message: "it is no journal".to_owned(),
        },
        found if found < schema::FORMAT => OpenError::Older {
            place,
            found,
            known: schema::FORMAT,
        },
        found => OpenError::Format {
            place,
            found,
            known: schema::FORMAT,
        },
    }
}

fn database(file: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
    let place = file.display().to_string();
    move |source| OpenError::Database {
        place: place.clone(),
        source: source.into(),
    }
}

/// A path that is an absolute one, so that SQLite does not take it for an address.
fn text_of(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.to_string_lossy().into_owned()
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    path.into()
}
