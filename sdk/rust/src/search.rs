//! Search services and document indexes, under the names the operator configured.
//!
//! ```no_run
//! # fn main() -> Result<(), troupe_sdk::Error> {
//! let answer = troupe_sdk::search::find("electric vehicle sales India").sources(["news"]).max_results(5).run()?;
//! for hit in &answer.results {
//!     troupe_sdk::log::info(format!("{}: {}", hit.title, hit.url));
//! }
//! # Ok(())
//! # }
//! ```

use crate::Error;
use crate::bindings::troupe::agent::search as wit;

pub use wit::{Answer, Hit, SourceError};

/// What to look for.
#[derive(Debug, Clone)]
pub struct Query(wit::Query);

/// Begins a query with the words to search for.
pub fn find(text: impl Into<String>) -> Query {
    Query(wit::Query {
        text: text.into(),
        sources: Vec::new(),
        max_results: None,
    })
}

impl Query {
    /// Where to search: `web`, `news`, `academic`, `document`, or the name of a configured source.
    /// Without it every source that is granted is searched.
    #[must_use]
    pub fn sources<S: Into<String>>(mut self, sources: impl IntoIterator<Item = S>) -> Query {
        self.0.sources = sources.into_iter().map(Into::into).collect();
        self
    }

    /// The most results for each source; without it 10.
    #[must_use]
    pub fn max_results(mut self, count: u32) -> Query {
        self.0.max_results = Some(count);
        self
    }

    /// Searches, and waits for all sources to answer. A source that fails is named in the answer's
    /// `errors` while another answers.
    ///
    /// # Errors
    /// The host's, see [`Error`]; also where every source failed.
    pub fn run(self) -> Result<Answer, Error> {
        wit::search(&self.0).map_err(Error::from_wit)
    }
}

/// Searches several times at once; the answers come in the order of the queries.
pub fn many(queries: impl IntoIterator<Item = Query>) -> Vec<Result<Answer, Error>> {
    let queries: Vec<wit::Query> = queries.into_iter().map(|query| query.0).collect();
    wit::search_many(&queries)
        .into_iter()
        .map(|answer| answer.map_err(Error::from_wit))
        .collect()
}

/// The sources that are granted, by the names [`Query::sources`] takes.
pub fn sources() -> Vec<String> {
    wit::sources()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_what_it_is_given() {
        let query = find("bees").sources(["web", "news"]).max_results(3).0;
        assert_eq!((query.text.as_str(), query.max_results), ("bees", Some(3)));
        assert_eq!(query.sources, ["web", "news"]);
    }
}
