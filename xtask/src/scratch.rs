//! Folders that are made, replaced and removed as a whole.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder; what an earlier run left there is removed.
    pub(crate) fn create(path: PathBuf) -> Result<Scratch> {
        remove(&path)?;
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Scratch { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to `place`, where nothing or an older one is.
    pub(crate) fn persist(self, place: &Path) -> Result<()> {
        remove(place)?;
        std::fs::rename(&self.path, place)
            .with_context(|| format!("moving {} to {}", self.path.display(), place.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = remove(&self.path);
    }
}

/// Removes a folder and everything in it; one that does not exist is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a folder with everything in it. Links are followed.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry.with_context(|| format!("reading {}", from.display()))?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &copy)?;
        } else {
            copy_file(&source, &copy)?;
        }
    }
    Ok(())
}

/// Copies a file; an older copy is replaced in one moment, so that nobody reads a half of it.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let copied = std::fs::copy(from, &partial).and_then(|_| std::fs::rename(&partial, to));
    copied.with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_copied_moved_and_removed() {
        let root = std::env::temp_dir().join(format!("xtask-scratch-{}", std::process::id()));
        let scratch =
            Scratch::create(root.join("one")).expect("the temporary folder can be written");
        std::fs::create_dir(scratch.path().join("inner")).expect("the folder is new");
        std::fs::write(scratch.path().join("inner/file"), "text").expect("the folder exists");

        copy_folder(scratch.path(), &root.join("two")).expect("it can be read");
        assert_eq!(
            std::fs::read_to_string(root.join("two/inner/file")).expect("it was copied"),
            "text"
        );
        scratch
            .persist(&root.join("two"))
            .expect("the older folder is replaced");
        assert!(!root.join("one").exists() && root.join("two/inner/file").exists());

        remove(&root).expect("it is ours");
        remove(&root).expect("a missing folder is no error");
    }
}
