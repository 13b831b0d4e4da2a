//! Names this build of the scheduler by a hash of its sources, so that a snapshot of another build is known as such.
//!
//! Every source counts: what the state means lies in how a document is compiled as much as in the state's own types.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=build.rs");
    let root = Path::new("src");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    // Names relative to `src`, with the same separator everywhere: the same sources have the same hash on every machine.
    let mut named: Vec<(String, PathBuf)> = files
        .into_iter()
        .map(|path| (name_of(root, &path), path))
        .collect();
    named.sort();
    let mut hash = Sha256::new();
    for (name, path) in named {
        let content = std::fs::read(path)?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("cargo:rustc-env=TROUPE_WORKFLOW_BUILD={hex}");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if is_source(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Tests change no state.
fn is_source(path: &Path) -> bool {
    let is_rust = path.extension().is_some_and(|ending| ending == "rs");
    is_rust
        && !path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

fn name_of(root: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    let parts: Vec<_> = parts
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}
