//! What is Troupe's own, and no guest's: a folder that holds any of it is not granted, whoever asks for it.

use std::path::{Path, PathBuf};

use troupe_sandbox::FolderAccess;

use crate::config::{Places, ServerConfig};

/// Files and folders of this installation.
pub(crate) struct Own {
    /// Not even to be read: executions, compiled code, keys.
    secret: Vec<PathBuf>,
    /// Not to be written: what this program runs.
    code: Vec<PathBuf>,
}

impl Own {
    pub(crate) fn new(config: &ServerConfig, places: &Places) -> Self {
        let mut secret = vec![places.data.clone(), places.cache.clone()];
        secret.extend(config.file.clone());
        let mut code = places.plugins.clone();
        code.extend(std::env::current_exe());
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
        let mut all = self.secret.iter().chain(code);
        let folder = whole(folder);
        match all.find(|own| overlaps(&folder, &whole(own))) {
            None => Ok(()),
            Some(own) => Err(format!(
                "the folder {} cannot be granted: {} is Troupe's own; grant a folder that is apart from it",
                folder.display(),
                own.display()
            )),
        }
    }
}

/// Without links, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
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
        for folder in ["data/nodes", "cache", "plugins", "shared/in", "other"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("shared/troupe.toml"), "").unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        let own = Own {
            secret: vec![at("data"), at("cache"), at("shared/troupe.toml")],
            code: vec![at("plugins")],
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
        for granted in ["shared/in", "other", "data2", "plugins"] {
            assert_eq!(read(granted), Ok(()), "{granted}");
        }
        assert!(write("plugins").is_err());
        assert_eq!(write("other"), Ok(()));
    }
}
