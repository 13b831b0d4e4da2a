//! Who runs the servers: PostgreSQL refuses root, so root's tests run it as `nobody`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// The account that owns a server's folder and process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    /// Another one than the test's own: its user and group.
    other: Option<(u32, u32)>,
}

impl Account {
    /// The test's own.
    pub(crate) fn own() -> Self {
        Self { other: None }
    }

    /// The account for servers in a folder that this process has just made; the folder is given to it.
    pub(crate) fn for_servers_in(folder: &Path) -> Self {
        let is_root = std::fs::metadata(folder).expect("a new folder").uid() == 0;
        let account = Self {
            other: is_root.then(nobody),
        };
        account.give(folder);
        account
    }

    /// Makes it the owner of a file or a folder.
    pub(crate) fn give(self, path: &Path) {
        if let Some((user, group)) = self.other {
            chown(path, Some(user), Some(group))
                .unwrap_or_else(|error| panic!("{} cannot be given: {error}", path.display()));
        }
    }

    /// Makes it the owner of a folder and of everything in it.
    pub(crate) fn give_all(self, folder: &Path) {
        if let Some((user, group)) = self.other {
            let mut chown = Command::new("chown");
            chown.arg("-R").arg(format!("{user}:{group}")).arg(folder);
            let given = chown.status().is_ok_and(|status| status.success());
            assert!(given, "{} cannot be given", folder.display());
        }
    }

    /// Lets a command run under it.
    pub(crate) fn run_as(self, command: &mut Command) {
        if let Some((user, group)) = self.other {
            command.uid(user).gid(group);
        }
    }

    /// Whether it may reach a folder: root's own folders are closed to everybody else.
    pub(crate) fn reaches(self, folder: &Path) -> bool {
        let is_open = |folder: &Path| {
            let found = std::fs::metadata(folder);
            found.is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
        };
        self.other.is_none() || folder.ancestors().all(is_open)
    }
}

/// The user and the group of `nobody`, who is on every system.
fn nobody() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").expect("the system's list of users");
    let found = users.lines().find_map(|line| {
        // The name, the password, the user's number, the group's number, and what else is known.
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            ["nobody", _, user, group, ..] => Some((user.parse().ok()?, group.parse().ok()?)),
            _ => None,
        }
    });
    found.expect("a user `nobody`, for PostgreSQL refuses to run as root")
}
