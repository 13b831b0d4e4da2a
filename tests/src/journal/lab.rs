//! Fresh journals, and processes that share one.

use std::ops::Deref;

use tempfile::TempDir;
use troupe_journal::{Journal, MemoryJournal, SqliteJournal};

/// Which journal is tested.
#[derive(Debug, Clone, Copy)]
pub enum LabKind {
    Memory,
    Sqlite,
}

impl LabKind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
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
        }
    }
}

/// One journal.
pub enum Lab {
    Memory(MemoryJournal),
    Sqlite(TempDir),
}

impl Lab {
    /// A process that works with it.
    ///
    /// # Panics
    /// Where the journal cannot be opened.
    pub async fn open(&self, node: &str) -> Node {
        let name = node.to_owned();
        match self {
            Self::Memory(journal) => Node::Memory(journal.join(node)),
            Self::Sqlite(folder) => {
                Node::Sqlite(SqliteJournal::open(folder.path(), name, None).expect("a journal"))
            }
        }
    }
}

/// A process.
pub enum Node {
    Memory(MemoryJournal),
    Sqlite(SqliteJournal),
}

impl Node {
    /// The process ends; what it owns stays its own until somebody notices.
    pub async fn die(self) {
        match self {
            Self::Memory(_) | Self::Sqlite(_) => {}
        }
    }
}

impl Deref for Node {
    type Target = dyn Journal;

    fn deref(&self) -> &(dyn Journal + 'static) {
        match self {
            Self::Memory(journal) => journal,
            Self::Sqlite(journal) => journal,
        }
    }
}
