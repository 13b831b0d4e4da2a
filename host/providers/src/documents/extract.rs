//! Reads one file and makes text of it, on a thread of its own: a parser that panics or finds no end costs one file, not
//! the index. It must not know where text goes.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use sha2::{Digest, Sha256};

use super::DocumentLimits;
use super::formats;
use super::scan::{Format, FoundFile};

/// The name of the threads that read files. A parser's panic on one is caught and becomes a warning, so a panic hook
/// may leave these threads out.
pub const EXTRACTION_THREAD: &str = "troupe-extract";

/// Stack of such a thread: parsers of nested formats recurse. Only touched pages count.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Most threads that are left to a file without end; while there are as many, no file is read. It protects the machine
/// from a folder of such files.
const HUNG_THREADS_MAX: usize = 2;

/// A file's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extracted {
    pub(super) title: Option<String>,
    /// RFC 3339, where the document itself says.
    pub(super) published_at: Option<String>,
    /// Parts in order: the pages of a PDF with their numbers, else one without.
    pub(super) parts: Vec<Part>,
    /// What could not be read of it.
    pub(super) warning: Option<String>,
}

/// A page, or the whole of a document that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) page: Option<u32>,
    /// Paragraphs separated by empty lines.
    pub(super) text: String,
}

/// A file that was read: its hash, and its text or why there is none.
#[derive(Debug)]
pub(super) struct ReadFile {
    pub(super) sha256: Vec<u8>,
    pub(super) outcome: Result<Extracted, String>,
}

/// Reads files within limits.
#[derive(Debug, Clone)]
pub(super) struct Extractor {
    limits: DocumentLimits,
    /// Threads that ran out of time; a token is gone when its thread has ended after all.
    overdue: Arc<Mutex<Vec<Weak<()>>>>,
}

impl Extractor {
    pub(super) fn new(limits: DocumentLimits) -> Self {
        Self {
            limits,
            overdue: Arc::default(),
        }
    }

    /// Whether a file is small enough to be read.
    pub(super) fn takes(&self, file: &FoundFile) -> bool {
        file.bytes <= self.limits.file_bytes_max
    }

    /// Reads a file; an error is one of this moment (gone, no permission, no thread), which the next look may not meet.
    /// `known` is the hash of what the index holds: content that is the same is not parsed again.
    pub(super) fn read(
        &self,
        file: &FoundFile,
        known: Option<&[u8]>,
    ) -> Result<Option<ReadFile>, String> {
        let max = self.limits.file_bytes_max;
        if !self.takes(file) {
            let message = format!("it is larger than {max} bytes and left out");
            return Ok(Some(ReadFile {
                sha256: Vec::new(),
                outcome: Err(message),
            }));
        }
        let bytes = read_bounded(&file.full_path, max).map_err(|error| error.to_string())?;
        let sha256 = Sha256::digest(&bytes).to_vec();
        if known == Some(sha256.as_slice()) {
            return Ok(None);
        }
        let outcome = self.extract(file.format, bytes)?;
        Ok(Some(ReadFile {
            sha256,
            outcome: outcome.map(|text| self.bounded(text)),
        }))
    }

    /// Parses on a thread of its own; the outer error is one of this moment.
    fn extract(&self, format: Format, bytes: Vec<u8>) -> Result<Result<Extracted, String>, String> {
        if self.overdue_threads() >= HUNG_THREADS_MAX {
            return Err("not read now: earlier files are still being read without end".to_owned());
        }
        let (tx, rx) = sync_channel(1);
        let token = Arc::new(());
        let watch = Arc::downgrade(&token);
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| formats::extract(format, &bytes)));
            let outcome = outcome.unwrap_or_else(|_panic| {
                Err("its parser failed; the file may be damaged".to_owned())
            });
            // Where nobody waits any more, nobody needs the outcome.
            drop((tx.send(outcome), token));
        };
        let thread = thread::Builder::new()
            .name(EXTRACTION_THREAD.to_owned())
            .stack_size(STACK_BYTES);
        thread
            .spawn(work)
            .map_err(|error| format!("no thread to read it: {error}"))?;
        match rx.recv_timeout(self.limits.extract_timeout) {
            Ok(outcome) => Ok(outcome),
            Err(RecvTimeoutError::Disconnected) => {
                Ok(Err("its parser failed; the file may be damaged".to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => {
                self.overdue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(watch);
                let limit = self.limits.extract_timeout.as_secs();
                Ok(Err(format!(
                    "no end was found within {limit} s; it is left out until it changes"
                )))
            }
        }
    }

    fn overdue_threads(&self) -> usize {
        let mut overdue = self.overdue.lock().unwrap_or_else(PoisonError::into_inner);
        overdue.retain(|thread| thread.strong_count() > 0);
        overdue.len()
    }

    /// Cuts a text that is too long, between characters.
    fn bounded(&self, mut text: Extracted) -> Extracted {
        let mut left = self.limits.text_bytes_max;
        for at in 0..text.parts.len() {
            let part = &mut text.parts[at].text;
            if part.len() > left {
                part.truncate(part.floor_char_boundary(left));
                text.parts.truncate(at + 1);
                let max = self.limits.text_bytes_max;
                text.warning = Some(format!(
                    "only the first {max} bytes of its text are in the index"
                ));
                break;
            }
            left -= part.len();
        }
        text
    }
}

fn read_bounded(path: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
