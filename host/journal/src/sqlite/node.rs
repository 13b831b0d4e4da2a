//! A process that works on executions, and how others know that it lives.
//!
//! Each process holds an exclusive lock on a file of its own for as long as it lives. The kernel releases it
//! when the process ends, however it ends, so a dead owner is known at once, without leases or clocks. This
//! is for one machine and a local file system, as SQLite's own locks are.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// What the names of the files end with.
const ENDING: &str = ".lock";

/// This process, as the owner of executions.
#[derive(Debug)]
pub(super) struct Node {
    id: String,
    path: PathBuf,
    /// Held until the process ends.
    lock: Option<File>,
}

impl Node {
    /// Registers this process under an id that nobody else has.
    pub(super) fn register(folder: &Path, id: String) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = lock_path(folder, &id);
        let lock = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => std::io::Error::other("a new file is locked already"),
        })?;
        Ok(Self {
            id,
            path,
            lock: Some(lock),
        })
    }

    /// One that owns nothing, and that nobody knows of.
    pub(super) fn unregistered(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            path: PathBuf::new(),
            lock: None,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether any process lives that is registered here.
    pub(super) fn any_is_alive(folder: &Path) -> bool {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files
            .filter_map(|file| file.file_name().into_string().ok())
            .any(|name| {
                name.strip_suffix(ENDING)
                    .is_some_and(|id| Self::is_alive(folder, id))
            })
    }

    /// Whether the process with this id lives. Files of dead ones are removed.
    pub(super) fn is_alive(folder: &Path, id: &str) -> bool {
        let path = lock_path(folder, id);
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            // When in doubt it lives: two owners are worse than none.
            Err(_) => return true,
        };
        match file.try_lock() {
            Ok(()) => {
                let _ = std::fs::remove_file(&path);
                false
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => true,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn lock_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}{ENDING}"))
}
