//! The search sources of a configuration behind one call.

use crate::documents::Documents;
use crate::error::ProviderError;
use crate::search::{SearchHit, SearchQuery};
use crate::searxng::Searxng;

/// A search service or index of the configuration.
#[derive(Debug)]
pub enum SearchSource {
    /// A SearXNG instance, for one category.
    Searxng(Searxng),
    /// A full-text index over a folder.
    Documents(Documents),
}

impl SearchSource {
    /// The source's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Searxng(source) => source.name(),
            Self::Documents(source) => source.name(),
        }
    }

    /// Searches: hits best first, each address once. It does not retry.
    ///
    /// # Errors
    /// A [`ProviderError`], [`ProviderError::Invalid`] for a query without a word.
    pub async fn search(&self, query: &SearchQuery) -> Result<Vec<SearchHit>, ProviderError> {
        if query.text.trim().is_empty() {
            let message = "the query is empty; give it at least one word".to_owned();
            return Err(ProviderError::Invalid {
                provider: self.name().to_owned(),
                message,
            });
        }
        match self {
            Self::Searxng(source) => source.search(query).await,
            Self::Documents(source) => source.search(query).await,
        }
    }
}
