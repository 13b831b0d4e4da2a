//! The index file: SQLite with FTS5. It owns the tables and how they are searched. It is a cache: another version's file
//! is made anew, a foreign one is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::IndexWarning;
use super::query::{self, Match};
use crate::search::{SCORE_MAX, SNIPPET_CHARS_MAX, SearchHit};
use crate::text::cut_chars;

/// Marks the file as ours: "Trpe".
const APPLICATION_ID: i32 = 0x5472_7065;
/// Another version means another form: the content is dropped and read anew.
const FORM_VERSION: i32 = 1;
/// How long a process waits for another one's transaction, which holds one document.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most warnings in a report. It protects who reads it.
pub(super) const WARNINGS_MAX: u32 = 1_000;

const TABLES: &str = "
    CREATE TABLE folder (path TEXT NOT NULL);
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL,
        sha256 BLOB NOT NULL, title TEXT NOT NULL, published_at TEXT, warning TEXT
    );
    CREATE TABLE passages (id INTEGER PRIMARY KEY, document INTEGER NOT NULL, page INTEGER);
    CREATE INDEX passages_of_document ON passages (document);
    CREATE VIRTUAL TABLE passage_text USING fts5 (title, body, tokenize = 'porter unicode61 remove_diacritics 2');
";
const DROP_TABLES: &str = "
    DROP TABLE IF EXISTS folder; DROP TABLE IF EXISTS documents; DROP TABLE IF EXISTS passages;
    DROP TABLE IF EXISTS passage_text;
";
/// Best passages first; a word in the title counts four times one in the text. Ties go by place, to be repeatable.
const SEARCH: &str = "
    SELECT documents.path, documents.title, documents.published_at, passages.page, passage_text.body,
        bm25(passage_text, 4.0, 1.0) AS worth
    FROM passage_text JOIN passages ON passages.id = passage_text.rowid
    JOIN documents ON documents.id = passages.document
    WHERE passage_text MATCH ?1 ORDER BY worth, documents.path, passages.id LIMIT ?2";
/// Passages read for each document wanted: several of one document may come before the next one.
const PASSAGES_PER_RESULT: usize = 8;

/// An index file; a connection is made for each piece of work.
#[derive(Debug, Clone)]
pub(super) struct Index {
    file: PathBuf,
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FoundPassage {
    path: String,
    title: String,
    published_at: Option<String>,
    page: Option<u32>,
    body: String,
    /// FTS5's: negative, the less the better.
    rank: f64,
    score_permille: u32,
}

impl Index {
    /// Opens the file, and makes it where it is missing or of another version.
    pub(super) fn open(file: &Path, folder: &Path) -> Result<Self, String> {
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        }
        let index = Self {
            file: file.to_path_buf(),
        };
        index
            .prepare(folder)
            .map_err(|error| error.to_string())
            .and_then(|()| index.check_folder(folder))?;
        Ok(index)
    }

    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open(&self.file)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        // A lost index is read anew: no need to wait for the disk.
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(db)
    }

    fn prepare(&self, folder: &Path) -> rusqlite::Result<()> {
        let mut db = self.connect()?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let number =
            |name: &str| tx.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
        let (application, version) = (number("application_id")?, number("user_version")?);
        if (application, version) == (APPLICATION_ID, FORM_VERSION) {
            return tx.commit();
        }
        let tables: i64 =
            tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application != APPLICATION_ID && tables > 0 {
            let foreign = "it is another program's database".to_owned();
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
                Some(foreign),
            ));
        }
        tx.execute_batch(DROP_TABLES)?;
        tx.execute_batch(TABLES)?;
        tx.execute(
            "INSERT INTO folder (path) VALUES (?1)",
            [folder.display().to_string()],
        )?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", FORM_VERSION)?;
        tx.commit()
    }

    /// Two folders in one file would throw each other's documents out.
    fn check_folder(&self, folder: &Path) -> Result<(), String> {
        let db = self.connect().map_err(|error| error.to_string())?;
        let indexed: Option<String> = db
            .query_row("SELECT path FROM folder", [], |row| row.get(0))
            .optional()
            .map_err(|e| e.to_string())?;
        match indexed {
            Some(indexed) if indexed != folder.display().to_string() => {
                Err(format!("it is the index of {indexed}"))
            }
            _ => Ok(()),
        }
    }

    /// The best passage of each of the best documents: those that hold all words first, then those that hold any.
    pub(super) fn search(&self, text: &str, most: usize) -> Result<Vec<FoundPassage>, String> {
        let words = query::words(text);
        let mut found = Vec::new();
        let db = self.connect().map_err(|error| error.to_string())?;
        for matching in [Match::All, Match::Any] {
            let Some(query) = query::fts(&words, matching) else {
                break;
            };
            if found.len() < most {
                take_passages(&db, &query, most, &mut found).map_err(|error| error.to_string())?;
            }
        }
        Ok(found)
    }

    /// How many documents and passages there are, and what could not be read.
    pub(super) fn counts(&self) -> rusqlite::Result<(u64, u64, Vec<IndexWarning>)> {
        let db = self.connect()?;
        let count = |table: &str| {
            let rows: rusqlite::Result<i64> =
                db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                    row.get(0)
                });
            rows.map(|rows| u64::try_from(rows).unwrap_or(0))
        };
        let mut rows = db.prepare(
            "SELECT path, warning FROM documents WHERE warning IS NOT NULL ORDER BY path LIMIT ?1",
        )?;
        let warnings = rows.query_map([WARNINGS_MAX], |row| {
            Ok(IndexWarning {
                path: row.get(0)?,
                message: row.get(1)?,
            })
        })?;
        let warnings = warnings.collect::<Result<_, _>>()?;
        Ok((count("documents")?, count("passages")?, warnings))
    }
}

/// Runs one query and takes the best passage of each document that is not taken yet.
fn take_passages(
    db: &Connection,
    query: &str,
    most: usize,
    found: &mut Vec<FoundPassage>,
) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(SEARCH)?;
    let passages_max = i64::try_from(most.saturating_mul(PASSAGES_PER_RESULT)).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![query, passages_max], |row| {
        Ok(FoundPassage {
            path: row.get(0)?,
            title: row.get(1)?,
            published_at: row.get(2)?,
            page: row.get(3)?,
            body: row.get(4)?,
            rank: row.get(5)?,
            score_permille: SCORE_MAX,
        })
    })?;
    for row in rows {
        let mut passage = row?;
        if found.len() >= most {
            break;
        }
        if found.iter().all(|other| other.path != passage.path) {
            passage.score_permille = found
                .first()
                .map_or(SCORE_MAX, |best| score(passage.rank, best.rank));
            passage.score_permille = passage
                .score_permille
                .min(found.last().map_or(SCORE_MAX, |last| last.score_permille));
            found.push(passage);
        }
    }
    Ok(())
}

/// A rank beside the best one, in thousandths; both are negative.
fn score(rank: f64, best: f64) -> u32 {
    if best >= 0.0 {
        return SCORE_MAX;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1000 after the clamp"
    )]
    let score = ((rank / best).clamp(0.0, 1.0) * f64::from(SCORE_MAX)).round() as u32;
    score
}

impl FoundPassage {
    /// The passage as a search result.
    pub(super) fn into_hit(self, folder: &Path, source: &str, query: &str) -> SearchHit {
        let path = folder.join(&self.path);
        // An absolute path always has a `file:` address; the path itself stands in where a platform disagrees.
        let mut url =
            Url::from_file_path(&path).map_or_else(|()| path.display().to_string(), String::from);
        if let Some(page) = self.page {
            url.push_str(&format!("#page={page}"));
        }
        SearchHit {
            title: self.title,
            url,
            snippet: cut_chars(&self.body, SNIPPET_CHARS_MAX),
            source: source.to_owned(),
            query: query.to_owned(),
            published_at: self.published_at,
            score_permille: self.score_permille,
        }
    }
}
