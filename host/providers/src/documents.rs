//! A full-text index over a folder of documents: text, Markdown, HTML and PDF. It owns when the folder is looked at and
//! what a search returns; it never writes into the folder, follows no symbolic link, and a file that cannot be read
//! becomes a warning.

mod extract;
mod formats;
mod index;
mod passages;
mod query;
mod scan;
mod update;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::extract::EXTRACTION_THREAD;
use self::extract::Extractor;
use self::index::Index;
use crate::error::{ProviderError, Reached, SetupError};
use crate::search::{SEARCH_RESULTS_MAX, SearchHit, SearchQuery};

/// A folder and where its index lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentsSettings {
    /// The source's name in the configuration.
    pub name: String,
    /// The folder; it has to exist.
    pub folder: PathBuf,
    /// The index, a SQLite file of this source alone, outside the folder or hidden in it. It is made where it is
    /// missing, may be deleted while nobody uses it, and may be shared by several processes.
    pub index_file: PathBuf,
    /// How much is read.
    pub limits: DocumentLimits,
}

/// How much of a folder is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentLimits {
    /// Most files; what is beyond, in order of the paths, is left out. It protects the index from a folder such as `/`.
    pub files_max: usize,
    /// Largest file. It protects memory: a file is read as a whole.
    pub file_bytes_max: u64,
    /// Longest text of one file, in bytes of UTF-8; the rest is left out. It protects the index from a small file that
    /// unpacks to a large text.
    pub text_bytes_max: usize,
    /// Longest time to read one file. It protects the index from a file that no end is found to.
    pub extract_timeout: Duration,
    /// How old the last look at the folder may be when a search begins.
    pub refresh_after: Duration,
}

impl DocumentLimits {
    /// 20,000 files of up to 32 MiB and 4 MiB of text, 20 seconds for one file, a look at the folder every 5 seconds.
    pub const STANDARD: Self = Self {
        files_max: 20_000,
        file_bytes_max: 32 * 1024 * 1024,
        text_bytes_max: 4 * 1024 * 1024,
        extract_timeout: Duration::from_secs(20),
        refresh_after: Duration::from_secs(5),
    };
}

/// What a look at the folder found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Files that were not in the index.
    pub added: u64,
    /// Files whose content changed.
    pub changed: u64,
    /// Files that are gone.
    pub removed: u64,
    /// Files as they were.
    pub unchanged: u64,
    /// Files that are not read: hidden, symbolic links, other types.
    pub skipped: u64,
    /// Files in the index now.
    pub documents: u64,
    /// Passages in the index now.
    pub passages: u64,
    /// Files that could not be read, or not wholly, at this look or an earlier one; at most 1,000.
    pub warnings: Vec<IndexWarning>,
}

/// A file that could not be read, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexWarning {
    /// Its path below the folder.
    pub path: String,
    /// Why.
    pub message: String,
}

/// An index over a folder.
#[derive(Debug)]
pub struct Documents {
    name: String,
    folder: PathBuf,
    limits: DocumentLimits,
    index: Index,
    extractor: Extractor,
    /// When the last look at the folder ended; held while one is under way, so that there is one at a time.
    looked: Arc<Mutex<Option<Instant>>>,
    /// Set when this is dropped, so that a look under way ends after its file and does not hold up the process.
    closed: Arc<AtomicBool>,
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl Documents {
    /// Opens the index, and makes it where it is missing. The folder is not looked at yet.
    ///
    /// # Errors
    /// [`SetupError::Documents`] where the folder does not exist, or the index file is not one or cannot be written.
    pub fn open(settings: DocumentsSettings) -> Result<Self, SetupError> {
        let DocumentsSettings {
            name,
            folder,
            index_file,
            limits,
        } = settings;
        let folder = match folder.canonicalize() {
            Ok(found) if found.is_dir() => found,
            found => {
                let reason =
                    found.map_or_else(|error| error.to_string(), |_| "it is no folder".to_owned());
                let path = folder.display().to_string();
                let advice = "set `path` to a folder of documents";
                return Err(SetupError::Documents {
                    name,
                    path,
                    reason,
                    advice,
                });
            }
        };
        let index = Index::open(&index_file, &folder).map_err(|reason| SetupError::Documents {
            name: name.clone(),
            path: index_file.display().to_string(),
            reason,
            advice: "delete that file if it is only this index, or let the data folder be written",
        })?;
        let extractor = Extractor::new(limits);
        Ok(Self {
            name,
            folder,
            limits,
            index,
            extractor,
            looked: Arc::default(),
            closed: Arc::default(),
        })
    }

    /// The source's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks at the folder and brings the index up to date: new and changed files are read, those that are gone vanish.
    /// One look runs at a time; it goes on when the caller gives up, until `self` is dropped.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] where the index file cannot be written, or the folder is gone.
    pub async fn refresh(&self) -> Result<IndexReport, ProviderError> {
        let mut looked = Arc::clone(&self.looked).lock_owned().await;
        let (folder, index) = (self.folder.clone(), self.index.clone());
        let (extractor, files_max) = (self.extractor.clone(), self.limits.files_max);
        let closed = Arc::clone(&self.closed);
        let work = tokio::task::spawn_blocking(move || {
            let goes_on = || !closed.load(Ordering::Relaxed);
            let report = update::refresh(&index, &extractor, &folder, files_max, &goes_on);
            if report.is_ok() {
                *looked = Some(Instant::now());
            }
            report
        });
        self.finished(work.await)
    }

    /// Searches; looks at the folder first where the last look is too old. While a first look at a large folder goes
    /// on, what is in the index so far is searched after half of the query's time.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] where the index cannot be read, [`ProviderError::TimedOut`] after the query's
    /// time.
    pub async fn search(&self, query: &SearchQuery) -> Result<Vec<SearchHit>, ProviderError> {
        let deadline = Instant::now() + query.timeout;
        if let Ok(refreshed) = timeout(query.timeout / 2, self.refresh_if_old()).await {
            refreshed?;
        }
        let (index, folder, name) = (self.index.clone(), self.folder.clone(), self.name.clone());
        let (text, most) = (
            query.text.clone(),
            query.max_results.min(SEARCH_RESULTS_MAX),
        );
        let work = tokio::task::spawn_blocking(move || {
            let found = index.search(&text, usize::try_from(most).unwrap_or(usize::MAX))?;
            Ok(found
                .into_iter()
                .map(|found| found.into_hit(&folder, &name, &text))
                .collect())
        });
        match timeout_at(deadline, work).await {
            Ok(done) => self.finished(done),
            Err(_elapsed) => Err(ProviderError::TimedOut {
                provider: self.name.clone(),
                after: query.timeout,
                reached: Reached::No,
            }),
        }
    }

    async fn refresh_if_old(&self) -> Result<(), ProviderError> {
        let looked = *self.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < self.limits.refresh_after) {
            return Ok(());
        }
        let report = self.refresh().await?;
        if report.added + report.changed + report.removed > 0 {
            tracing::info!(
                source.name = self.name,
                documents = report.documents,
                passages = report.passages,
                warnings = report.warnings.len(),
                "indexed documents"
            );
        }
        Ok(())
    }

    /// The result of work on a blocking thread.
    fn finished<T>(
        &self,
        done: Result<Result<T, String>, tokio::task::JoinError>,
    ) -> Result<T, ProviderError> {
        let message = match done {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(message)) => message,
            Err(join) => format!("the index's thread ended early: {join}"),
        };
        Err(ProviderError::Unavailable {
            provider: self.name.clone(),
            message,
            reached: Reached::No,
        })
    }
}

#[cfg(test)]
mod tests;
