//! Lists the files of a folder. It reads names and sizes only, follows no symbolic link, and skips what is hidden.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::IndexWarning;

/// Deepest folder below the root. It protects the stack of names from a tree without end.
const DEPTH_MAX: usize = 32;
/// Most entries looked at for each file that is kept, so that a tree of other files ends too.
const ENTRIES_PER_FILE_MAX: usize = 50;

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Markdown,
    Html,
    Pdf,
}

impl Format {
    /// By the end of the name; none for files that are not documents.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" | "text" | "rst" | "adoc" | "org" => Some(Self::Text),
            "md" | "markdown" | "mdown" | "mkd" => Some(Self::Markdown),
            "html" | "htm" | "xhtml" => Some(Self::Html),
            "pdf" => Some(Self::Pdf),
            _ => None,
        }
    }
}

/// A document's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundFile {
    /// Below the root, with `/`.
    pub(super) path: String,
    pub(super) full_path: PathBuf,
    pub(super) format: Format,
    pub(super) bytes: u64,
    /// Nanoseconds since 1970; 0 where the file system does not say.
    pub(super) modified_ns: i64,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// In order of the paths.
    pub(super) files: Vec<FoundFile>,
    pub(super) skipped: u64,
    pub(super) warnings: Vec<IndexWarning>,
    /// Folders, below the root, whose content is not known now: nothing in them may be taken for gone.
    pub(super) unknown: Vec<String>,
}

/// Lists the documents below `root`.
pub(super) fn scan(root: &Path, files_max: usize) -> Result<Scan, String> {
    let mut scan = Scan::default();
    let mut entries_left = files_max.saturating_mul(ENTRIES_PER_FILE_MAX);
    let mut folders = vec![(root.to_path_buf(), String::new(), 0)];
    while let Some((folder, below, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if below.is_empty() => return Err(format!("{}: {error}", root.display())),
            Err(error) => {
                scan.give_up(&below, format!("the folder cannot be read: {error}"));
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    scan.give_up(
                        &below,
                        format!("the folder cannot be read to its end: {error}"),
                    );
                    break;
                }
            };
            let Some(left) = entries_left.checked_sub(1) else {
                // Nothing is known of the rest, wherever it is: so of nothing is it known that it is gone.
                scan.give_up(
                    "",
                    "too many other files: the rest is left out; choose a smaller folder"
                        .to_owned(),
                );
                return Ok(scan.sorted());
            };
            entries_left = left;
            let Some(subfolder) = scan.take(&entry, &below) else {
                continue;
            };
            if depth == DEPTH_MAX {
                scan.give_up(
                    &subfolder.1,
                    format!("it is more than {DEPTH_MAX} folders deep"),
                );
            } else {
                folders.push((subfolder.0, subfolder.1, depth + 1));
            }
        }
    }
    let mut scan = scan.sorted();
    if scan.files.len() > files_max {
        let left_out = scan.files.split_off(files_max);
        scan.warn(
            &left_out[0].path,
            format!("more than {files_max} files: this one and all behind it are left out"),
        );
    }
    Ok(scan)
}

impl Scan {
    /// Takes an entry; a folder to go into is returned.
    fn take(&mut self, entry: &fs::DirEntry, below: &str) -> Option<(PathBuf, String)> {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            self.warn(below, "a name that is not UTF-8 is skipped".to_owned());
            return None;
        };
        let path = if below.is_empty() {
            name.to_owned()
        } else {
            format!("{below}/{name}")
        };
        let kind = entry.file_type().ok()?;
        if name.starts_with('.') || !(kind.is_dir() || kind.is_file()) {
            self.skipped += 1;
            return None;
        }
        if kind.is_dir() {
            return Some((entry.path(), path));
        }
        let (Some(format), Ok(metadata)) = (Format::of(Path::new(name)), entry.metadata()) else {
            self.skipped += 1;
            return None;
        };
        let modified = metadata
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified
            .and_then(|since| i64::try_from(since.as_nanos()).ok())
            .unwrap_or(0);
        self.files.push(FoundFile {
            path,
            full_path: entry.path(),
            format,
            bytes: metadata.len(),
            modified_ns,
        });
        None
    }

    fn warn(&mut self, path: &str, message: String) {
        self.warnings.push(IndexWarning {
            path: path.to_owned(),
            message,
        });
    }

    fn give_up(&mut self, folder: &str, message: String) {
        self.warn(folder, message);
        self.unknown.push(folder.to_owned());
    }

    fn sorted(mut self) -> Self {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self
    }

    /// Whether a file that was not found may still be there.
    pub(super) fn may_hold(&self, path: &str) -> bool {
        let inside = |folder: &String| {
            folder.is_empty()
                || path
                    .strip_prefix(folder.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        self.unknown.iter().any(inside)
    }
}
