//! What a search found for a statement, and how many of the statement's words it holds.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use troupe_sdk::search::Hit;

/// Shortest word that counts: shorter ones are mostly grammar. A number of any length counts.
const WORD_CHARS_MIN: usize = 4;

/// Most words of a query: a search for a whole paragraph finds nothing or everything.
const QUERY_WORDS_MAX: usize = 12;

/// Long words that say nothing about a subject.
const STOP_WORDS: [&str; 32] = [
    "about", "after", "also", "because", "been", "before", "between", "both", "could", "does",
    "from", "have", "into", "more", "most", "much", "only", "other", "over", "some", "such",
    "than", "that", "their", "them", "then", "there", "these", "they", "this", "which", "with",
];

/// The passages that were found for a statement.
pub(crate) struct Evidence {
    /// Best first.
    pub(crate) passages: Vec<Passage>,
    /// The statement's numbers that no passage has.
    pub(crate) numbers_missing: Vec<String>,
}

/// One passage, and the share of the statement's words that it holds, in percent.
pub(crate) struct Passage {
    pub(crate) hit: Hit,
    pub(crate) words_found_percent: u32,
}

impl Evidence {
    /// Compares a statement with what was found for it.
    pub(crate) fn weigh(claim: &str, hits: Vec<Hit>) -> Evidence {
        let wanted = terms(claim);
        let weighed = hits.into_iter().map(|hit| Passage {
            words_found_percent: share(&wanted, &hit),
            hit,
        });
        let mut passages: Vec<Passage> = weighed.collect();
        passages.sort_by_key(|passage| Reverse(passage.words_found_percent));
        let present: BTreeSet<String> = passages
            .iter()
            .flat_map(|passage| terms(&passage.hit.snippet))
            .collect();
        let missing = wanted
            .into_iter()
            .filter(|term| is_number(term) && !present.contains(term));
        Evidence {
            numbers_missing: missing.collect(),
            passages,
        }
    }

    /// The share of the statement's words that the best passage holds, in percent.
    pub(crate) fn words_found_percent(&self) -> u32 {
        self.passages
            .first()
            .map_or(0, |best| best.words_found_percent)
    }

    /// The passages that come near the best one; the others were found by a word or two.
    pub(crate) fn near_the_best(self) -> impl Iterator<Item = Hit> {
        let best = self.words_found_percent();
        let near = self
            .passages
            .into_iter()
            .filter(move |passage| passage.words_found_percent * 2 > best);
        near.map(|passage| passage.hit)
    }
}

/// The words to search for.
pub(crate) fn query(claim: &str, topic: &str) -> String {
    let mut words = Vec::new();
    for word in words_of(claim)
        .chain(words_of(topic))
        .filter(|word| counts(word))
    {
        if !words.contains(&word) && words.len() < QUERY_WORDS_MAX {
            words.push(word);
        }
    }
    words.join(" ")
}

/// The share of `wanted` that a passage holds, in percent.
fn share(wanted: &BTreeSet<String>, hit: &Hit) -> u32 {
    let mut present = terms(&hit.snippet);
    present.extend(terms(&hit.title));
    let found = wanted.intersection(&present).count();
    u32::try_from(found * 100 / wanted.len().max(1)).unwrap_or(100)
}

/// The words of a text that say something, with their endings cut.
fn terms(text: &str) -> BTreeSet<String> {
    words_of(text)
        .filter(|word| counts(word))
        .map(|word| stem(&word))
        .collect()
}

fn words_of(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|character: char| !character.is_alphanumeric() && character != '.');
    words
        .map(|word| word.trim_matches('.').to_lowercase())
        .filter(|word| !word.is_empty())
}

fn counts(word: &str) -> bool {
    is_number(word) || (word.chars().count() >= WORD_CHARS_MIN && !STOP_WORDS.contains(&word))
}

fn is_number(word: &str) -> bool {
    word.starts_with(|character: char| character.is_ascii_digit())
}

/// Cuts the commonest English endings, so that `cools`, `cooled` and `cooling` are one word.
fn stem(word: &str) -> String {
    let stems = ["ing", "ed", "s"]
        .iter()
        .filter_map(|ending| word.strip_suffix(ending));
    let mut long = stems.filter(|stem| stem.chars().count() >= WORD_CHARS_MIN);
    long.next().unwrap_or(word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(snippet: &str) -> Hit {
        Hit {
            title: "A study".into(),
            url: "file:///trees.md".into(),
            snippet: snippet.into(),
            source: "document".into(),
            published_at: None,
            score_permille: 1000,
        }
    }

    fn weigh(claim: &str, snippets: &[&str]) -> (u32, Vec<String>) {
        let evidence =
            Evidence::weigh(claim, snippets.iter().map(|snippet| hit(snippet)).collect());
        (evidence.words_found_percent(), evidence.numbers_missing)
    }

    #[test]
    fn the_best_passage_counts() {
        let claim = "Trees cool streets by 2.5 degrees.";
        assert_eq!(
            weigh(
                claim,
                &[
                    "Bees make honey.",
                    "A tree cooled the street by 2.5 degrees"
                ]
            ),
            (100, vec![])
        );
        assert_eq!(
            weigh(claim, &["Trees cool streets by 9 degrees."]),
            (80, vec!["2.5".to_owned()])
        );
        assert_eq!(weigh(claim, &[]), (0, vec!["2.5".to_owned()]));
    }

    #[test]
    fn the_best_passages_are_the_sources() {
        let hits = vec![
            hit("Bees make honey."),
            hit("Trees cool streets."),
            hit("A cool street."),
        ];
        let evidence = Evidence::weigh("Trees cool streets.", hits);
        let snippets: Vec<String> = evidence.near_the_best().map(|hit| hit.snippet).collect();
        assert_eq!(snippets, ["Trees cool streets.", "A cool street."]);
    }

    #[test]
    fn a_query_is_short_and_says_each_word_once() {
        assert_eq!(
            query("The trees, the trees of that city!", "city trees in summer"),
            "trees city summer"
        );
        let long: String = (0..50).map(|number| format!("word{number} ")).collect();
        assert_eq!(query(&long, "").split(' ').count(), QUERY_WORDS_MAX);
    }
}
