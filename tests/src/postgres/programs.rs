//! Where PostgreSQL's programs are: installed by the distribution, or unpacked by set-up.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::supervised::Account;
use crate::troupe::build_folder;

/// The oldest version that the journal is tested with.
const VERSION_MIN: u32 = 15;
/// The programs that the tests use.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "psql"];

/// The programs of one PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    folder: PathBuf,
    /// What set-up unpacked, with libraries that this machine may not have.
    unpacked: Option<PathBuf>,
}

impl Programs {
    /// The machine's own, or what set-up unpacked.
    pub(super) fn find() -> Self {
        let unpacked = build_folder().join("../postgresql");
        let installed = || in_distribution(Path::new("/")).or_else(in_path);
        let found = installed()
            .map(|folder| Self {
                folder,
                unpacked: None,
            })
            .or_else(|| {
                let unpacked = unpacked.canonicalize().ok()?;
                Some(Self {
                    folder: in_distribution(&unpacked)?,
                    unpacked: Some(unpacked),
                })
            });
        found.unwrap_or_else(|| {
            panic!(
                "there is no PostgreSQL {VERSION_MIN} or newer; get it with `cargo xtask setup`, which unpacks the \
                 distribution's package, or install its server and client"
            )
        })
    }

    /// The same programs where an account can reach them: what lies in root's own folders is copied to `folder`.
    pub(super) fn readable_by(self, account: &Account, folder: &Path) -> Self {
        let Some(unpacked) = self.unpacked.as_ref() else {
            return self;
        };
        if account.reaches(&self.folder) {
            return self;
        }
        let copy = folder.join("postgresql");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(unpacked)
            .arg(&copy)
            .status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "PostgreSQL cannot be copied to {}",
            copy.display()
        );
        // What the server's own shell removes must be the server's.
        account.give_all(&copy);
        let inner = self.folder.strip_prefix(unpacked).expect("it lies there");
        Self {
            folder: copy.join(inner),
            unpacked: Some(copy),
        }
    }

    /// A call of one of them, in an environment without the user's own settings.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        if let Some(unpacked) = &self.unpacked {
            command.env("LD_LIBRARY_PATH", library_path(unpacked));
        }
        command
    }
}

/// The folders of shared libraries in what set-up unpacked: those of this machine's architecture, whatever its name.
fn library_path(unpacked: &Path) -> OsString {
    let folders = ["usr/lib", "lib"].into_iter().flat_map(|folder| {
        let entries = std::fs::read_dir(unpacked.join(folder));
        entries.into_iter().flatten().flatten()
    });
    let folders = folders
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("-linux-gnu"));
    std::env::join_paths(folders).expect("no folder has a colon in its name")
}

/// The programs of the newest version below a root, where Debian and its kin put them.
fn in_distribution(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root.join("usr/lib/postgresql")).ok()?;
    let versions = versions.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        (version >= VERSION_MIN && has_programs(&folder)).then_some((version, folder))
    });
    versions.max().map(|(_, folder)| folder)
}

/// The programs in a folder of the path, as other systems have them.
fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| has_programs(folder))
}

fn has_programs(folder: &Path) -> bool {
    PROGRAMS
        .iter()
        .all(|program| folder.join(program).is_file())
}
