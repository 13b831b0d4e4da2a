//! The search sources that workflows may name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sha2::{Digest, Sha256};
use troupe_providers::{
    DocumentLimits, Documents, DocumentsSettings, HttpClient, ProviderError, SearchAnswer,
    SearchCategory, SearchQuery, SearchSource, Searxng, SearxngSettings, SourceAnswer, merge,
};

use crate::config::{SecretSource, ServerConfig, SourceConfig};
use crate::models::Reach;

/// The names that stand for a kind of source; a configuration gives each its service.
const KINDS: [&str; 5] = ["web", "news", "academic", "document", "database"];
/// How long one search may take.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);

/// All sources of the configuration.
pub(crate) struct Sources {
    reach: Reach,
    sources: BTreeMap<String, Result<Arc<SearchSource>, String>>,
}

/// What one search asks.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) sources: Vec<String>,
    pub(crate) max_results: u32,
    /// Sources that are asked for another number of results.
    pub(crate) max_results_of: BTreeMap<String, u32>,
}

impl Sources {
    /// Opens what the configuration names; `documents` is a folder from the command line, for the source
    /// `document` and, offline, for all. Indexes lie below `data`.
    pub(crate) fn new(
        config: &ServerConfig,
        reach: Reach,
        documents: Option<&Path>,
        data: &Path,
        client: &HttpClient,
    ) -> Self {
        let mut settings = config.sources.clone();
        if let Some(folder) = documents {
            settings.insert(
                "document".to_owned(),
                SourceConfig::Documents {
                    path: folder.to_owned(),
                },
            );
        }
        // Offline no service is asked, and no key read.
        let is_used = |settings: &SourceConfig| {
            reach == Reach::Online || matches!(settings, SourceConfig::Documents { .. })
        };
        let sources = settings
            .iter()
            .filter(|(_, settings)| is_used(settings))
            .map(|(name, settings)| {
                (
                    name.clone(),
                    open(name, settings, data, client).map(Arc::new),
                )
            })
            .collect();
        Self { reach, sources }
    }

    /// The service behind a name.
    ///
    /// # Errors
    /// A text that says what to add to the configuration.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<SearchSource>, String> {
        let name = match self.reach {
            Reach::Offline if KINDS.contains(&name) => "document",
            Reach::Offline | Reach::Online => name,
        };
        match self.sources.get(name) {
            Some(Ok(source)) => Ok(Arc::clone(source)),
            Some(Err(reason)) => Err(format!("the source `{name}` cannot be used: {reason}")),
            None if self.reach == Reach::Offline => Err(
                "offline, all searches are answered from a folder of documents: name it with --docs FOLDER"
                    .to_owned(),
            ),
            None if name == "document" => Err(
                "the configuration has no source `document`; add [sources.document] with kind = \"documents\" and a path, or give --docs FOLDER"
                    .to_owned(),
            ),
            None => Err(format!(
                "the configuration has no source `{name}`; add [sources.{name}] with kind = \"searxng\" and a base_url, or run with --offline --docs FOLDER"
            )),
        }
    }

    /// Asks all sources of a question at once.
    ///
    /// # Errors
    /// The first source's error, where every source failed.
    pub(crate) async fn search(&self, question: &Question) -> Result<SearchAnswer, ProviderError> {
        let mut asked: Vec<(Arc<SearchSource>, u32)> = Vec::new();
        for name in &question.sources {
            let source = self.find(name).map_err(|message| ProviderError::Denied {
                provider: name.clone(),
                message,
            })?;
            // Offline several names are one index; it is asked once.
            if !asked.iter().any(|(known, _)| Arc::ptr_eq(known, &source)) {
                let most = question.max_results_of.get(name);
                asked.push((source, most.copied().unwrap_or(question.max_results)));
            }
        }
        let answers = asked.iter().map(|(source, max_results)| async move {
            let query = SearchQuery {
                text: question.text.clone(),
                max_results: *max_results,
                language: None,
                time_range: None,
                timeout: SEARCH_TIMEOUT,
            };
            SourceAnswer {
                source: source.name().to_owned(),
                outcome: source.search(&query).await,
            }
        });
        merge(join_all(answers).await)
    }
}

fn open(
    name: &str,
    settings: &SourceConfig,
    data: &Path,
    client: &HttpClient,
) -> Result<SearchSource, String> {
    match settings {
        SourceConfig::Searxng {
            base_url,
            api_key,
            category,
        } => {
            let settings = SearxngSettings {
                name: name.to_owned(),
                base_url: base_url.clone(),
                api_key: api_key.as_ref().map(SecretSource::read).transpose()?,
                category: parse_category(category.as_deref(), name)?,
            };
            Searxng::new(settings, client.clone())
                .map(SearchSource::Searxng)
                .map_err(|error| error.to_string())
        }
        SourceConfig::Documents { path } => {
            let settings = DocumentsSettings {
                name: name.to_owned(),
                folder: path.clone(),
                index_file: index_file(path, data)?,
                limits: DocumentLimits::STANDARD,
            };
            Documents::open(settings)
                .map(SearchSource::Documents)
                .map_err(|error| error.to_string())
        }
    }
}

/// One index for each folder, whatever name or configuration it is reached by.
fn index_file(folder: &Path, data: &Path) -> Result<PathBuf, String> {
    let indexes = data.join("indexes");
    std::fs::create_dir_all(&indexes)
        .map_err(|error| format!("the folder {} cannot be made: {error}", indexes.display()))?;
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
    let name: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(indexes.join(format!("{name}.db")))
}

/// The category that is set, else that of the source's name, else the web.
fn parse_category(set: Option<&str>, name: &str) -> Result<SearchCategory, String> {
    match set.unwrap_or(name) {
        "web" => Ok(SearchCategory::Web),
        "news" => Ok(SearchCategory::News),
        "academic" => Ok(SearchCategory::Academic),
        word if set.is_some() => Err(format!(
            "`{word}` is no category; use \"web\", \"news\" or \"academic\""
        )),
        _ => Ok(SearchCategory::Web),
    }
}
