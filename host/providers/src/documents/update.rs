//! Brings an index up to date with its folder: one transaction for each document, so that another process waits for one
//! document at most. It must not read a file itself.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use super::extract::{Extracted, Extractor};
use super::index::{Index, WARNINGS_MAX};
use super::scan::{self, FoundFile};
use super::{IndexReport, IndexWarning, passages};

/// A document as the index knows it.
struct Known {
    bytes: i64,
    modified_ns: i64,
    /// Empty for a file that was too large to read.
    sha256: Vec<u8>,
}

impl Known {
    /// Whether the file needs no look: size and time are the same, and it is not one that a raised limit lets in.
    fn is_current(&self, file: &FoundFile, extractor: &Extractor) -> bool {
        let same = self.bytes == as_i64(file.bytes) && self.modified_ns == file.modified_ns;
        same && self.sha256.is_empty() != extractor.takes(file)
    }
}

/// Brings the index up to date with the folder, as long as the caller says that it goes on.
pub(super) fn refresh(
    index: &Index,
    extractor: &Extractor,
    folder: &Path,
    files_max: usize,
    goes_on: &dyn Fn() -> bool,
) -> Result<IndexReport, String> {
    let scan = scan::scan(folder, files_max)?;
    let mut report = IndexReport {
        skipped: scan.skipped,
        warnings: scan.warnings.clone(),
        ..IndexReport::default()
    };
    let mut db = index.connect().map_err(|error| error.to_string())?;
    let known = known_documents(&db).map_err(|error| error.to_string())?;
    for file in &scan.files {
        if !goes_on() {
            return Err("the look at the folder was ended with the source".to_owned());
        }
        let before = known.get(&file.path);
        if before.is_some_and(|known| known.is_current(file, extractor)) {
            report.unchanged += 1;
            continue;
        }
        match extractor.read(file, before.map(|known| known.sha256.as_slice())) {
            Ok(None) => {
                touch(&db, file).map_err(|error| error.to_string())?;
                report.unchanged += 1;
            }
            Ok(Some(read)) => {
                replace(&mut db, file, &read.sha256, &read.outcome)
                    .map_err(|error| error.to_string())?;
                match before {
                    Some(_) => report.changed += 1,
                    None => report.added += 1,
                }
            }
            Err(message) => report.warnings.push(IndexWarning {
                path: file.path.clone(),
                message,
            }),
        }
    }
    let present: HashSet<&str> = scan.files.iter().map(|file| file.path.as_str()).collect();
    for path in known
        .keys()
        .filter(|path| !present.contains(path.as_str()) && !scan.may_hold(path))
    {
        report.removed += u64::from(remove(&mut db, path).map_err(|error| error.to_string())?);
    }
    let (documents, passages, warnings) = index.counts().map_err(|error| error.to_string())?;
    (report.documents, report.passages) = (documents, passages);
    report.warnings.extend(warnings);
    report
        .warnings
        .truncate(usize::try_from(WARNINGS_MAX).unwrap_or(usize::MAX));
    Ok(report)
}

fn known_documents(db: &Connection) -> rusqlite::Result<HashMap<String, Known>> {
    let mut statement = db.prepare("SELECT path, bytes, modified_ns, sha256 FROM documents")?;
    let rows = statement.query_map([], |row| {
        Ok((
            row.get(0)?,
            Known {
                bytes: row.get(1)?,
                modified_ns: row.get(2)?,
                sha256: row.get(3)?,
            },
        ))
    })?;
    rows.collect()
}

fn touch(db: &Connection, file: &FoundFile) -> rusqlite::Result<usize> {
    let sql = "UPDATE documents SET bytes = ?2, modified_ns = ?3 WHERE path = ?1";
    db.execute(
        sql,
        params![file.path, as_i64(file.bytes), file.modified_ns],
    )
}

/// Puts a document in the place of what was known of it. One that cannot be read stays known, so that it is not read
/// again before it changes.
fn replace(
    db: &mut Connection,
    file: &FoundFile,
    sha256: &[u8],
    outcome: &Result<Extracted, String>,
) -> rusqlite::Result<()> {
    let nothing = Extracted::default();
    let (extracted, warning) = match outcome {
        Ok(extracted) => (extracted, extracted.warning.as_ref()),
        Err(message) => (&nothing, Some(message)),
    };
    let title = extracted
        .title
        .clone()
        .unwrap_or_else(|| title_of_path(&file.path));
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    delete(&tx, &file.path)?;
    tx.execute(
        "INSERT INTO documents (path, bytes, modified_ns, sha256, title, published_at, warning)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            file.path,
            as_i64(file.bytes),
            file.modified_ns,
            sha256,
            title,
            extracted.published_at,
            warning
        ],
    )?;
    let document = tx.last_insert_rowid();
    for passage in passages::cut(&extracted.parts) {
        tx.prepare_cached("INSERT INTO passages (document, page) VALUES (?1, ?2)")?
            .execute(params![document, passage.page])?;
        tx.prepare_cached("INSERT INTO passage_text (rowid, title, body) VALUES (?1, ?2, ?3)")?
            .execute(params![tx.last_insert_rowid(), title, passage.text])?;
    }
    tx.commit()
}

fn remove(db: &mut Connection, path: &str) -> rusqlite::Result<bool> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let removed = delete(&tx, path)?;
    tx.commit()?;
    Ok(removed)
}

fn delete(db: &Connection, path: &str) -> rusqlite::Result<bool> {
    let of_document = "(SELECT id FROM documents WHERE path = ?1)";
    let passages = format!("(SELECT id FROM passages WHERE document IN {of_document})");
    db.execute(
        &format!("DELETE FROM passage_text WHERE rowid IN {passages}"),
        [path],
    )?;
    db.execute(
        &format!("DELETE FROM passages WHERE document IN {of_document}"),
        [path],
    )?;
    Ok(db.execute("DELETE FROM documents WHERE path = ?1", [path])? > 0)
}

/// `reports/solar_power-2026.pdf` as `solar power-2026`.
fn title_of_path(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.replace('_', " ")
}

fn as_i64(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
