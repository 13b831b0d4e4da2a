//! Fresh journals, and processes that share one.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use troupe_journal::{Journal, MemoryJournal, PostgresJournal, SqliteJournal};

/// Which journal is tested.
#[derive(Debug, Clone)]
pub enum LabKind {
    Memory,
    Sqlite,
    /// On this server.
    Postgres(String),
}

impl LabKind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// A journal that nobody has written to.
    ///
    /// # Panics
    /// Where there is no folder to be had for it.
    pub fn set_up(&self) -> Lab {
        match self {
            Self::Memory => Lab::Memory(MemoryJournal::new("nobody")),
            Self::Sqlite => Lab::Sqlite(TempDir::new().expect("a folder of its own")),
            Self::Postgres(url) => {
                static NUMBER: AtomicU64 = AtomicU64::new(0);
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let separator = if url.contains('?') { '&' } else { '?' };
                let process = std::process::id();
                Lab::Postgres(format!(
                    "{url}{separator}options=-csearch_path%3Dlab_{process}_{number}"
                ))
            }
        }
    }
}

/// One journal.
pub enum Lab {
    Memory(MemoryJournal),
    Sqlite(TempDir),
    /// The address, with a schema of its own.
    Postgres(String),
}

impl Lab {
    /// A process that works with it.
    ///
    /// # Panics
    /// Where the journal cannot be opened.
    pub async fn open(&self, node: &str) -> Node {
        /// Nobody dies in a test but whom it lets die.
        const LEASE: Duration = Duration::from_hours(1);
        let name = node.to_owned();
        match self {
            Self::Memory(journal) => Node::Memory(journal.join(node)),
            Self::Sqlite(folder) => {
                Node::Sqlite(SqliteJournal::open(folder.path(), name, None).expect("a journal"))
            }
            Self::Postgres(url) => {
                let journal = PostgresJournal::connect(url, name, LEASE, None).await;
                Node::Postgres(Box::new(journal.expect("a journal")))
            }
        }
    }
}

/// A process.
pub enum Node {
    Memory(MemoryJournal),
    Sqlite(SqliteJournal),
    Postgres(Box<PostgresJournal>),
}

impl Node {
    /// The process ends; what it owns stays its own until somebody notices.
    pub async fn die(self) {
        match self {
            Self::Memory(_) | Self::Sqlite(_) => {}
            Self::Postgres(journal) => journal.leave().await,
        }
    }
}

impl Deref for Node {
    type Target = dyn Journal;

    fn deref(&self) -> &(dyn Journal + 'static) {
        match self {
            Self::Memory(journal) => journal,
            Self::Sqlite(journal) => journal,
            Self::Postgres(journal) => &**journal,
        }
    }
}
