//! Agents that search.

use std::collections::BTreeMap;

use super::super::Fields;
use crate::fault::Faults;

/// Search services and indexes.
#[derive(Debug, Clone)]
pub struct SearchAgent {
    /// `web`, `news`, `academic`, `document`, `database` or names of configured sources.
    pub sources: Vec<String>,
    /// Most results for each query and source.
    pub max_results: u32,
    /// What a source is asked differently, by its name.
    pub settings: BTreeMap<String, SourceSettings>,
}

/// What one source is asked differently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSettings {
    pub max_results: Option<u32>,
}

/// Results of one query: protects prompts and the journal.
const RESULTS_MAX: u32 = 100;
const RESULTS_DEFAULT: u32 = 10;

pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<SearchAgent> {
    let sources = fields.required_texts("sources", faults);
    if sources.as_ref().is_some_and(Vec::is_empty) {
        faults.add(
            fields.at("sources"),
            "a search agent needs at least one source",
        );
    }
    let max_results = fields
        .count_from_one("max_results", RESULTS_MAX, faults)
        .unwrap_or(RESULTS_DEFAULT);
    let mut settings = BTreeMap::new();
    for source in sources.iter().flatten() {
        if let Some(value) = fields.named_value(source)
            && let Some(mut inner) = Fields::of(value, &fields.at(source), faults)
        {
            let max_results = inner.count_from_one("max_results", RESULTS_MAX, faults);
            inner.finish(faults);
            settings.insert(source.clone(), SourceSettings { max_results });
        }
    }
    Some(SearchAgent {
        sources: sources?,
        max_results,
        settings,
    })
}
