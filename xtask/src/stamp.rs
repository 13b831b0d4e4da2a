//! Whether something that was built is still what its inputs would give: a digest of the inputs is kept
//! beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Names that tools leave in a source folder and that are no input of anything.
const NOT_SOURCES: [&str; 2] = ["__pycache__", "node_modules"];

/// Collects what something is made from.
#[derive(Debug, Default)]
pub(crate) struct Inputs(Sha256);

impl Inputs {
    /// Adds a text, for example a tool's version.
    pub(crate) fn text(mut self, name: &str, text: &str) -> Inputs {
        self.add(name.as_bytes());
        self.add(text.as_bytes());
        self
    }

    /// Adds a file, or a folder with every file in it, under the path below `root`.
    pub(crate) fn path(mut self, root: &Path, path: &Path) -> Result<Inputs> {
        let mut files = Vec::new();
        list_files(path, &mut files)?;
        files.sort();
        for file in files {
            let content =
                std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(&file);
            self.add(name.as_os_str().as_encoded_bytes());
            self.add(&content);
        }
        Ok(self)
    }

    /// The digest of all that was added.
    pub(crate) fn digest(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The length goes before the bytes, so that no two lists of inputs are the same stream.
    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes.len().to_le_bytes());
        self.0.update(bytes);
    }
}

fn list_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        let entry = entry.with_context(|| format!("reading {}", path.display()))?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && !NOT_SOURCES.iter().any(|other| name == *other) {
            list_files(&entry.path(), files)?;
        }
    }
    Ok(())
}

/// True where `output` exists and was made from inputs of this digest.
pub(crate) fn is_current(output: &Path, digest: &str) -> bool {
    output.exists() && std::fs::read_to_string(stamp_of(output)).is_ok_and(|stamp| stamp == digest)
}

/// Forgets what `output` was made from; done before it is made again.
pub(crate) fn clear(output: &Path) -> Result<()> {
    let stamp = stamp_of(output);
    match std::fs::remove_file(&stamp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", stamp.display()))
        }
        _ => Ok(()),
    }
}

/// Records what `output` was made from; done when it is complete.
pub(crate) fn record(output: &Path, digest: &str) -> Result<()> {
    let stamp = stamp_of(output);
    std::fs::write(&stamp, digest).with_context(|| format!("writing {}", stamp.display()))
}

fn stamp_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".inputs");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn digest(folder: &Path) -> String {
        Inputs::default()
            .path(folder, folder)
            .expect("the folder can be read")
            .digest()
    }

    #[test]
    fn every_file_counts_and_leftovers_do_not() {
        let path = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        let folder = Scratch::create(path).expect("the temporary folder can be written");
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().expect("it is below the folder"))
                .expect("it can be made");
            std::fs::write(file, text).expect("it can be written");
        };
        write("app.py", "one");
        let first = digest(folder.path());
        write("__pycache__/app.pyc", "compiled");
        write(".cache", "hidden");
        assert_eq!(digest(folder.path()), first);
        write("inner/module.py", "two");
        let second = digest(folder.path());
        assert_ne!(second, first);
        write("inner/module.py", "three");
        assert_ne!(digest(folder.path()), second);

        let output = folder.path().join("app.py");
        assert!(!is_current(&output, &first));
        record(&output, &first).expect("it can be written");
        assert!(is_current(&output, &first) && !is_current(&output, &second));
        clear(&output).expect("it can be removed");
        clear(&output).expect("a missing stamp is no error");
        assert!(!is_current(&output, &first));
    }

    #[test]
    fn texts_do_not_run_together() {
        let one = Inputs::default().text("a", "bc").digest();
        let two = Inputs::default().text("ab", "c").digest();
        assert_ne!(one, two);
    }
}
