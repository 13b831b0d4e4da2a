//! SearXNG, a metasearch engine one runs oneself: its JSON interface, read and bounded.

use reqwest::Url;
use serde_json::Value;

use crate::answer;
use crate::error::{ProviderError, SetupError};
use crate::http::{Endpoint, EndpointSettings, HttpClient, KeyHeader, Refusal, SendError};
use crate::published::parse_date;
use crate::search::{
    SCORE_MAX, SEARCH_RESULTS_MAX, SNIPPET_CHARS_MAX, SearchHit, SearchQuery, TITLE_CHARS_MAX,
    TimeRange, URL_BYTES_MAX,
};
use crate::secret::Secret;
use crate::text::{cut_chars, squeeze};

/// Where an instance is and what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearxngSettings {
    /// The source's name in the configuration.
    pub name: String,
    /// The instance's address, for example `http://127.0.0.1:8888`. JSON has to be among its `search.formats`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer …`, for instances behind a proxy that wants it.
    pub api_key: Option<Secret>,
    /// Which of its engines to ask.
    pub category: SearchCategory,
}

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchCategory {
    /// The web at large: SearXNG's `general`.
    Web,
    /// News: SearXNG's `news`.
    News,
    /// Papers: SearXNG's `science`.
    Academic,
}

/// A client of one instance.
#[derive(Debug)]
pub struct Searxng {
    endpoint: Endpoint,
    category: SearchCategory,
}

impl Searxng {
    /// Checks the settings; nothing is sent.
    ///
    /// # Errors
    /// [`SetupError`] for an address or key that cannot work.
    pub fn new(settings: SearxngSettings, client: HttpClient) -> Result<Self, SetupError> {
        let endpoint = EndpointSettings {
            section: "sources",
            name: &settings.name,
            base_url: &settings.base_url,
            api_key: settings.api_key,
            key_header: KeyHeader::Bearer,
        };
        Ok(Self {
            endpoint: Endpoint::new(endpoint, client)?,
            category: settings.category,
        })
    }

    /// The source's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        self.endpoint.name()
    }

    /// Searches.
    ///
    /// # Errors
    /// A [`ProviderError`]. Engines that failed behind the instance are an error only where nothing was found.
    pub async fn search(&self, query: &SearchQuery) -> Result<Vec<SearchHit>, ProviderError> {
        let request = self
            .endpoint
            .get("search", &parameters(query, self.category));
        let answer = match self.endpoint.send(request, query.timeout).await {
            Ok(answer) => answer,
            Err(SendError::Broken(error)) => return Err(error),
            Err(SendError::Refused(refusal)) => return Err(self.refused(refusal)),
        };
        let json = answer::parse_json(&answer.body, "search results")
            .map_err(|e| self.endpoint.bad_answer(e))?;
        let results = json.get("results").and_then(Value::as_array);
        let results = results.ok_or_else(|| {
            self.endpoint.bad_answer(answer::lacks(
                "search results",
                "a list `results`",
                &answer.body,
            ))
        })?;
        let hits = hits(results, query, self.name());
        match failed_engines(&json["unresponsive_engines"]) {
            Some(engines) if hits.is_empty() => Err(ProviderError::Overloaded {
                provider: self.name().to_owned(),
                message: format!(
                    "nothing was found and engines did not answer: {}",
                    self.endpoint.clean(&engines)
                ),
                retry_after: None,
            }),
            _ => Ok(hits),
        }
    }

    /// 403 is what an instance answers whose settings do not list JSON, and 429 its limiter against robots: both are
    /// the operator's own settings.
    fn refused(&self, refusal: Refusal) -> ProviderError {
        let advice = match refusal.status() {
            403 => "add `json` to `search.formats` in the instance's settings.yml",
            429 => {
                "the instance's limiter takes Troupe for a robot: let this machine pass it in limiter.toml"
            }
            _ => return refusal.into_error(&self.endpoint),
        };
        match refusal.into_error(&self.endpoint) {
            ProviderError::Denied { provider, message } => ProviderError::Denied {
                provider,
                message: format!("{message}. Most likely: {advice}"),
            },
            ProviderError::RateLimited {
                provider,
                message,
                retry_after,
            } => ProviderError::RateLimited {
                provider,
                message: format!("{message}. Most likely: {advice}"),
                retry_after,
            },
            other => other,
        }
    }
}

fn parameters(query: &SearchQuery, category: SearchCategory) -> Vec<(&'static str, &str)> {
    let category = match category {
        SearchCategory::Web => "general",
        SearchCategory::News => "news",
        SearchCategory::Academic => "science",
    };
    let mut parameters = vec![
        ("q", query.text.as_str()),
        ("format", "json"),
        ("categories", category),
    ];
    if let Some(language) = &query.language {
        parameters.push(("language", language));
    }
    if let Some(range) = query.time_range {
        let range = match range {
            TimeRange::Day => "day",
            TimeRange::Week => "week",
            TimeRange::Month => "month",
            TimeRange::Year => "year",
        };
        parameters.push(("time_range", range));
    }
    parameters
}

fn hits(results: &[Value], query: &SearchQuery, source: &str) -> Vec<SearchHit> {
    let most = usize::try_from(query.max_results.min(SEARCH_RESULTS_MAX)).unwrap_or(usize::MAX);
    let best = results
        .iter()
        .filter_map(|result| result.get("score")?.as_f64())
        .fold(0.0_f64, f64::max);
    let hit = |(place, result): (usize, &Value)| {
        let text = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or_default();
        let url = web_address(text("url"))?;
        let title = cut_chars(&squeeze(text("title")), TITLE_CHARS_MAX);
        Some(SearchHit {
            title: if title.is_empty() { url.clone() } else { title },
            url,
            snippet: cut_chars(&squeeze(text("content")), SNIPPET_CHARS_MAX),
            source: source.to_owned(),
            query: query.text.clone(),
            published_at: parse_date(text("publishedDate")),
            score_permille: score(result.get("score").and_then(Value::as_f64), best, place),
        })
    };
    results
        .iter()
        .enumerate()
        .filter_map(hit)
        .take(most)
        .collect()
}

/// Only what a reader may open: results come from strangers.
fn web_address(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.as_str().len() <= URL_BYTES_MAX)
        .then(|| url.into())
}

/// The instance's own score beside its best; by place where it gives none.
fn score(score: Option<f64>, best: f64, place: usize) -> u32 {
    match score {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1000 after the clamp"
        )]
        Some(score) if best > 0.0 => {
            ((score / best).clamp(0.0, 1.0) * f64::from(SCORE_MAX)).round() as u32
        }
        _ => SCORE_MAX / u32::try_from(place + 1).unwrap_or(u32::MAX),
    }
}

/// `[["google", "timeout"], …]` as `google (timeout), …`; none where every engine answered.
fn failed_engines(engines: &Value) -> Option<String> {
    let engine = |engine: &Value| {
        Some(format!(
            "{} ({})",
            engine.get(0)?.as_str()?,
            engine.get(1).and_then(Value::as_str).unwrap_or("failed")
        ))
    };
    let engines: Vec<String> = engines.as_array()?.iter().filter_map(engine).collect();
    (!engines.is_empty()).then(|| engines.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn query(max_results: u32) -> SearchQuery {
        SearchQuery {
            text: "solar power".to_owned(),
            max_results,
            language: Some("en".to_owned()),
            time_range: Some(TimeRange::Year),
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn asks_for_a_category() {
        let expected = [
            ("q", "solar power"),
            ("format", "json"),
            ("categories", "science"),
            ("language", "en"),
            ("time_range", "year"),
        ];
        assert_eq!(parameters(&query(5), SearchCategory::Academic), expected);
    }

    #[test]
    fn reads_and_bounds_results() {
        let results = json!([
            {"url": "https://a.org/1", "title": " One\n", "content": "First.", "score": 4.0, "publishedDate": "2026-01-02T03:04:05"},
            {"url": "javascript:alert(1)", "title": "bad", "content": "", "score": 9.0},
            {"url": "https://a.org/2", "title": "", "content": "x".repeat(10_000), "score": 1.0, "publishedDate": "soon"},
            {"title": "no address"},
            {"url": "https://a.org/3", "title": 7, "content": null},
        ]);
        let found = hits(results.as_array().unwrap(), &query(10), "web");
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].title.as_str(), found[0].published_at.as_deref()),
            ("One", Some("2026-01-02T03:04:05Z"))
        );
        assert_eq!(
            (found[1].title.as_str(), found[1].published_at.as_deref()),
            ("https://a.org/2", None)
        );
        assert!(found[1].snippet.chars().count() <= SNIPPET_CHARS_MAX + 1);
        assert_eq!(hits(results.as_array().unwrap(), &query(1), "web").len(), 1);
        assert_eq!(
            (
                score(Some(2.0), 4.0, 3),
                score(None, 0.0, 0),
                score(None, 0.0, 3)
            ),
            (500, 1_000, 250)
        );
    }

    #[test]
    fn names_the_engines_that_failed() {
        let engines = json!([["google", "CAPTCHA"], ["bing"], 3]);
        assert_eq!(
            failed_engines(&engines).as_deref(),
            Some("google (CAPTCHA), bing (failed)")
        );
        assert_eq!(failed_engines(&json!([])), None);
        assert_eq!(failed_engines(&Value::Null), None);
    }
}
