//! Keeps the folder of compiled components within a size: what was not used for longest goes first, whichever build of the
//! engine it is for. A file's time of change says when it was last loaded.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};

/// How a compiled component's file ends.
const ENDING: &str = "cwasm";
/// How a file begins that is being written.
const UNFINISHED: &str = ".tmp";
/// Age of an unfinished file that nobody writes any more: longer than any compiler may take.
const UNFINISHED_AGE: Duration = Duration::from_hours(24);

/// A file of the folder.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used_at: SystemTime,
}

/// Notes that a file was used just now. Where that fails it only goes sooner.
pub(super) fn is_used(file: &File) {
    let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps {
        last_access: at(UTIME_OMIT),
        last_modification: at(UTIME_NOW),
    };
    if let Err(error) = futimens(file, &times) {
        tracing::debug!(%error, "the time of a compiled component's use cannot be noted");
    }
}

/// Removes files until all together have at most so many bytes. What some process has in use stays.
pub(super) fn keep_within(folder: &Path, bytes_max: u64) -> io::Result<()> {
    let (mut finished, mut unfinished) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Ok(about) = fs::symlink_metadata(&path) else {
            continue; // Another process has removed it.
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let list = if name.starts_with(UNFINISHED) {
            &mut unfinished
        } else if path.extension().is_some_and(|ending| ending == ENDING) {
            &mut finished
        } else {
            continue;
        };
        if about.is_file() {
            list.push(Entry {
                bytes: about.len(),
                used_at: about.modified()?,
                path,
            });
        }
    }
    finished.sort_by_key(|entry| entry.used_at);
    let newest = finished.last().map(|entry| entry.used_at);
    // By the clock of the files: the newest is from a moment ago.
    let is_left = |entry: &Entry| {
        let age = newest.and_then(|newest| newest.duration_since(entry.used_at).ok());
        age.is_some_and(|age| age > UNFINISHED_AGE)
    };
    for entry in unfinished.iter().filter(|entry| is_left(entry)) {
        remove(entry)?;
    }
    let mut bytes = finished
        .iter()
        .fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
    for entry in &finished {
        if bytes <= bytes_max {
            break;
        }
        if remove(entry)? {
            bytes = bytes.saturating_sub(entry.bytes);
        }
    }
    Ok(())
}

/// Whether the file is gone; false: somebody uses it.
fn remove(entry: &Entry) -> io::Result<bool> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(true),
        _ => Err(error),
    };
    let file = match File::open(&entry.path) {
        Ok(file) => file,
        Err(error) => return gone(error),
    };
    match file.try_lock() {
        Ok(()) => fs::remove_file(&entry.path).map_or_else(gone, |()| {
            tracing::info!(path = %entry.path.display(), "a compiled component that was not used for long is removed");
            Ok(true)
        }),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
