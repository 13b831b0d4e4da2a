//! What is Troupe's own, and no guest's: a folder that holds any of it is not granted, whoever asks for it.

use std::path::{Path, PathBuf};

use troupe_sandbox::FolderAccess;

use crate::config::{Places, ServerConfig, docker_folder, looked_for};

/// Files and folders of this installation, each with what it is.
pub(crate) struct Own {
    /// Not even to be read: executions, compiled code, keys.
    secret: Vec<(PathBuf, &'static str)>,
    /// Not to be written: what this program runs or goes by.
    code: Vec<(PathBuf, &'static str)>,
}

/// What the kernel shows of this machine, of this process and its environment too, and lets be changed.
const OF_THE_KERNEL: [&str; 2] = ["/proc", "/sys"];

impl Own {
    pub(crate) fn new(config: &ServerConfig, places: &Places) -> Self {
        let ours = [&places.data, &places.cache]
            .into_iter()
            .chain(&config.file);
        let mut secret: Vec<_> = ours.map(|path| (path.clone(), "is Troupe's own")).collect();
        secret.extend(
            config
                .secret_files()
                .map(|path| (path.to_owned(), "holds a secret of Troupe's")),
        );
        secret.extend(OF_THE_KERNEL.map(|path| (path.into(), "is the kernel's")));
        let mut code: Vec<_> = places
            .plugins
            .iter()
            .cloned()
            .chain(std::env::current_exe())
            .map(|path| (path, "is what Troupe runs"))
            .collect();
        // What is not there today may be made, and would hold the next time.
        let troupe = looked_for().map(|path| (path, "would be Troupe's configuration"));
        let docker = docker_folder().map(|folder| folder.join("config.json"));
        let docker = docker.map(|path| (path, "has Docker's keys, which Troupe goes by"));
        for (path, what) in troupe.chain(docker) {
            if path.is_file() {
                secret.push((path.clone(), what));
            }
            code.push((path, what));
        }
        Self { secret, code }
    }

    /// Refuses a folder that is granted.
    ///
    /// # Errors
    /// What of ours lies in it, or around it.
    pub(crate) fn check(&self, access: &FolderAccess) -> Result<(), String> {
        let (folder, code) = match access {
            FolderAccess::Read { path, .. } => (path, &[][..]),
            FolderAccess::Write { path, .. } => (path, &self.code[..]),
            FolderAccess::Denied { .. } => return Ok(()),
        };
        let folder = whole(folder);
        let refused = |how: &str, own: &[(PathBuf, &str)]| {
            let mut all = own.iter().map(|(own, what)| (whole(own), what));
            let (own, what) = all.find(|(own, _)| overlaps(&folder, own))?;
            Some(format!(
                "the folder {} cannot be granted{how}: {} {what}; grant a folder that is apart from it",
                folder.display(),
                own.display()
            ))
        };
        let reason = refused("", &self.secret).or_else(|| refused(" to be written", code));
        reason.map_or(Ok(()), Err)
    }
}

/// Without links, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).ok()?;
        let ancestor = ancestor.canonicalize().ok()?;
        // Nothing that is joined would add a slash.
        Some(match rest.as_os_str().is_empty() {
            true => ancestor,
            false => ancestor.join(rest),
        })
    });
    there
        .or_else(|| std::path::absolute(path).ok())
        .unwrap_or_else(|| path.to_owned())
}

fn overlaps(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_or_lies_in_something_of_our_own_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in [
            "data/nodes",
            "cache",
            "plugins",
            "shared/in",
            "other",
            "project/in",
        ] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("shared/troupe.toml"), "").unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        let ours = |name: &str| (at(name), "is ours");
        let own = Own {
            secret: ["data", "cache", "shared/troupe.toml"].map(ours).into(),
            code: ["plugins", "project/troupe.toml"].map(ours).into(),
        };
        let read = |name: &str| {
            own.check(&FolderAccess::Read {
                path: at(name),
                to_write: String::new(),
            })
        };
        let write = |name: &str| {
            own.check(&FolderAccess::Write {
                path: at(name),
                bytes_max: 1,
                entries_max: 1,
            })
        };
        for refused in [
            "",
            "data",
            "data/nodes",
            "data/not there yet",
            "link",
            "link/nodes",
            "cache",
            "shared",
        ] {
            assert!(read(refused).is_err(), "{refused}");
        }
        for granted in ["shared/in", "other", "data2", "plugins", "project"] {
            assert_eq!(read(granted), Ok(()), "{granted}");
        }
        // What is not there yet could be made.
        for refused in ["plugins", "project"] {
            assert!(write(refused).is_err(), "{refused}");
        }
        for granted in ["other", "project/in"] {
            assert_eq!(write(granted), Ok(()), "{granted}");
        }
    }
}
