//! `files` of a grant: folders of the machine that agents may use, by a name that workflows know.

use std::path::PathBuf;

use serde::Deserialize;
use troupe_workflow::FileGrant;

/// A folder: `{ name = "reports", path = "/srv/reports", mode = "ro" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct FolderEntry {
    /// What workflows call it.
    pub(crate) name: String,
    /// Where it lies; relative to the file that names it.
    pub(crate) path: PathBuf,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ro,
    Rw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    path: PathBuf,
    #[serde(default)]
    mode: Mode,
}

impl FolderEntry {
    pub(crate) fn is_writable(&self) -> bool {
        self.mode == Mode::Rw
    }
}

impl TryFrom<Written> for FolderEntry {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, path, mode } = written;
        if name.is_empty() || name.contains(['/', '\\']) {
            return Err(format!(
                "`{name}` is no name of a folder: it is what workflows call it, for example \"reports\""
            ));
        }
        if name == FileGrant::SCRATCH {
            return Err(
                "`scratch` is the folder that every agent may ask for, and needs no grant"
                    .to_owned(),
            );
        }
        Ok(Self { name, path, mode })
    }
}
