//! The vocabulary of searches, the same for every source, and how the answers of several are joined. Pure; it must not
//! know a wire format.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ProviderError;

/// Most results of one query that a source returns, whatever is asked. It protects the journal and the models that
/// read the results.
pub const SEARCH_RESULTS_MAX: u32 = 100;
/// Most characters of a passage in a result. It protects the models that read it; a page of a document has 3,000.
pub(crate) const SNIPPET_CHARS_MAX: usize = 2_000;
/// Most characters of a title in a result.
pub(crate) const TITLE_CHARS_MAX: usize = 300;
/// Most bytes of an address in a result; browsers take about as many.
pub(crate) const URL_BYTES_MAX: usize = 2_048;
/// The score of a source's best hit.
pub(crate) const SCORE_MAX: u32 = 1_000;

/// One question to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    /// The words to search for.
    pub text: String,
    /// Most results, at most [`SEARCH_RESULTS_MAX`].
    pub max_results: u32,
    /// A language code such as `en` or `de-DE`, for sources that know languages.
    pub language: Option<String>,
    /// How old results may be, for sources that know ages.
    pub time_range: Option<TimeRange>,
    /// Longest time for the whole search.
    pub timeout: Duration,
}

/// How old results may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeRange {
    /// Not older than a day.
    Day,
    /// Not older than a week.
    Week,
    /// Not older than a month.
    Month,
    /// Not older than a year.
    Year,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchHit {
    /// Its title.
    pub title: String,
    /// Where it is: `https://…`, or `file://…` with `#page=N` for a page of a PDF.
    pub url: String,
    /// The passage that matches.
    pub snippet: String,
    /// The source that found it, by its name in the configuration.
    pub source: String,
    /// The query that found it.
    pub query: String,
    /// When it was published, RFC 3339, where the source says.
    pub published_at: Option<String>,
    /// How well it matches, in thousandths of the best hit of its source for this query.
    pub score_permille: u32,
}

/// What one source answered to one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAnswer {
    /// The source's name in the configuration.
    pub source: String,
    /// Its hits, best first, or why there are none.
    pub outcome: Result<Vec<SearchHit>, ProviderError>,
}

/// What several sources answered together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchAnswer {
    /// The hits, best first, each address once.
    pub results: Vec<SearchHit>,
    /// The sources that failed while another answered.
    pub errors: Vec<SourceFailure>,
}

/// A source that could not answer while another did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFailure {
    /// The source's name in the configuration.
    pub source: String,
    /// The stable code of its error.
    pub code: String,
    /// Its error.
    pub message: String,
}

/// Joins the answers of several sources and queries: best first, each address once, equal scores in the order of the
/// sources. A source that failed becomes an entry of `errors` while another answered. No answers are an empty answer.
///
/// # Errors
/// The first source's error, where every source failed.
pub fn merge(answers: Vec<SourceAnswer>) -> Result<SearchAnswer, ProviderError> {
    let mut hits: Vec<SearchHit> = Vec::new();
    let mut failures: Vec<(String, ProviderError)> = Vec::new();
    let mut answered = false;
    for SourceAnswer { source, outcome } in answers {
        match outcome {
            Ok(found) => {
                answered = true;
                hits.extend(found);
            }
            Err(error) => failures.push((source, error)),
        }
    }
    if !answered && !failures.is_empty() {
        return Err(failures.swap_remove(0).1);
    }
    hits.sort_by_key(|hit| std::cmp::Reverse(hit.score_permille)); // stable: equal scores stay in order
    let mut errors: Vec<SourceFailure> = failures
        .into_iter()
        .map(|(source, error)| failure(source, &error))
        .collect();
    errors.dedup();
    Ok(SearchAnswer {
        results: each_address_once(hits),
        errors,
    })
}

fn failure(source: String, error: &ProviderError) -> SourceFailure {
    SourceFailure {
        source,
        code: error.code().to_owned(),
        message: error.to_string(),
    }
}

/// Keeps the first hit of every address, and from the others what the first one lacks.
fn each_address_once(hits: Vec<SearchHit>) -> Vec<SearchHit> {
    let mut kept: Vec<SearchHit> = Vec::with_capacity(hits.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for hit in hits {
        match places.get(&address_key(&hit.url)) {
            Some(&place) => {
                let first = &mut kept[place];
                if first.snippet.is_empty() {
                    first.snippet = hit.snippet;
                }
                first.published_at = first.published_at.take().or(hit.published_at);
            }
            None => {
                places.insert(address_key(&hit.url), kept.len());
                kept.push(hit);
            }
        }
    }
    kept
}

/// What makes two addresses the same: not the scheme of the web, a `www.`, a closing slash, or a part of the page. The
/// fragment of a file stays: it is a page.
fn address_key(url: &str) -> String {
    if url.starts_with("file:") {
        return url.to_owned();
    }
    let rest = url.split_once('#').map_or(url, |(rest, _)| rest);
    let rest = rest
        .strip_prefix("https://")
        .or_else(|| rest.strip_prefix("http://"))
        .unwrap_or(rest);
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = host.to_ascii_lowercase();
    format!(
        "{}{}",
        host.strip_prefix("www.").unwrap_or(&host),
        path.trim_end_matches('/')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(url: &str, source: &str, score_permille: u32) -> SearchHit {
        SearchHit {
            title: url.to_owned(),
            url: url.to_owned(),
            snippet: String::new(),
            source: source.to_owned(),
            query: "q".to_owned(),
            published_at: None,
            score_permille,
        }
    }

    fn answer(source: &str, hits: Vec<SearchHit>) -> SourceAnswer {
        SourceAnswer {
            source: source.to_owned(),
            outcome: Ok(hits),
        }
    }

    fn failed(source: &str) -> SourceAnswer {
        let error = ProviderError::Denied {
            provider: source.to_owned(),
            message: "no".to_owned(),
        };
        SourceAnswer {
            source: source.to_owned(),
            outcome: Err(error),
        }
    }

    #[test]
    fn joins_best_first_and_each_address_once() {
        let mut dated = hit("http://www.example.com/a/#part", "news", 400);
        dated.published_at = Some("2026-01-01T00:00:00Z".to_owned());
        let web = vec![
            hit("https://Example.com/a", "web", 1_000),
            hit("https://example.com/b", "web", 500),
        ];
        let news = vec![hit("https://example.com/c", "news", 1_000), dated];
        let answer = merge(vec![answer("web", web), answer("news", news)]).unwrap();
        let urls: Vec<&str> = answer.results.iter().map(|hit| hit.url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "https://Example.com/a",
                "https://example.com/c",
                "https://example.com/b"
            ]
        );
        assert_eq!(
            answer.results[0].published_at.as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
    }

    #[test]
    fn pages_of_a_file_are_different_things() {
        assert_ne!(
            address_key("file:///a.pdf#page=1"),
            address_key("file:///a.pdf#page=2")
        );
        assert_eq!(
            address_key("https://a.org/x?q=1"),
            address_key("http://www.a.org/x?q=1#top")
        );
        assert_ne!(
            address_key("https://a.org/x?q=1"),
            address_key("https://a.org/x?q=2")
        );
    }

    #[test]
    fn one_failing_source_does_not_fail_the_search() {
        let answer = merge(vec![failed("web"), answer("news", vec![])]).unwrap();
        assert_eq!(
            (
                answer.results.len(),
                answer.errors[0].source.as_str(),
                answer.errors[0].code.as_str()
            ),
            (0, "web", "denied")
        );
        assert!(
            merge(vec![failed("web"), failed("news")])
                .unwrap_err()
                .to_string()
                .contains("`web`")
        );
        assert_eq!(
            merge(vec![]).unwrap(),
            SearchAnswer {
                results: vec![],
                errors: vec![]
            }
        );
    }
}
