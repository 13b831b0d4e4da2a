//! An extractive summary: the sentences of the sources that say most about the topic, whole and unchanged, each cited.
//! Pure. It must not write a sentence of its own but the label and plain statements of what is missing.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use super::LABEL;
use super::input::{Input, Source};
use super::phrases::{self, as_f64, overlap};
use super::{sentences, words};

/// Most sentences of a summary, and of one source in it.
const SENTENCES_MAX: usize = 9;
const SENTENCES_PER_SOURCE_MAX: usize = 3;
/// Most sources that are quoted: more would be a list and not a text.
const SOURCES_MAX: usize = 6;
/// Sentences that are compared with each other; the best by their own score.
const CANDIDATES_MAX: usize = 150;
/// Two sentences with more common words than this say the same.
const SAME_OVERLAP: f64 = 0.5;
/// A sentence has to score this share of the best one to be worth reading.
const SCORE_MIN: f64 = 0.08;
/// A source has to hold this share of what the best one holds of the topic's words to be about it.
const COVERAGE_MIN: f64 = 0.6;
/// What being central counts beside being about the topic.
const CENTRALITY_WEIGHT: f64 = 0.8;
/// What standing in a source about the topic counts: it fills a summary that would be short without.
const CONTEXT_WEIGHT: f64 = 0.1;
/// BM25's saturation of repeated words and normalisation of length, at the values in common use.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// A sentence with what is known of it.
struct Candidate {
    text: String,
    stems: Vec<String>,
    source: usize,
    /// Among all sentences of its source.
    place: usize,
    /// How many sentences of its source could be quoted before it.
    quotable_before: usize,
    score: f64,
}

/// The summary as text, label first; at most about `bytes_max` long.
pub(super) fn text(input: &Input, bytes_max: Option<usize>) -> String {
    format!(
        "{LABEL}\n\n{}",
        body(
            input,
            bytes_max.map_or(usize::MAX, |max| max.saturating_sub(LABEL.len() + 2))
        )
    )
}

fn body(input: &Input, bytes_max: usize) -> String {
    let about = if input.topic.is_empty() {
        String::new()
    } else {
        format!(" about “{}”", input.topic)
    };
    if input.sources.is_empty() {
        if input.asks_for_sources && input.prose.trim_end_matches(':').len() <= input.topic.len() {
            return format!("No sources were found{about}.");
        }
        let own = Source {
            text: input.prose.clone(),
            ..Source::default()
        };
        let chosen = choose(
            &input.topic,
            std::slice::from_ref(&own),
            SENTENCES_MAX,
            bytes_max,
        );
        if chosen.is_empty() {
            return key_phrases(input);
        }
        return chosen
            .iter()
            .map(|sentence| sentence.text.as_str())
            .collect::<Vec<_>>()
            .join(" ");
    }
    let chosen = choose(
        &input.topic,
        &input.sources,
        SENTENCES_PER_SOURCE_MAX,
        bytes_max,
    );
    if chosen.is_empty() {
        let found = listed(input.sources.iter().take(SENTENCES_MAX));
        return format!(
            "The sources found{about} hold no whole sentence to quote.\n\nSources:\n{found}"
        );
    }
    cited(&chosen, &input.sources)
}

/// What remains of an input without a sentence.
fn key_phrases(input: &Input) -> String {
    let phrases = phrases::key_phrases(input, 5);
    if phrases.is_empty() {
        return "The input holds no text to summarise.".to_owned();
    }
    format!(
        "The input holds no whole sentence to quote. Its key phrases: {}.",
        phrases.join(", ")
    )
}

/// A paragraph for each source, best source first, its sentences in their own order; then the list of sources.
fn cited(chosen: &[Candidate], sources: &[Source]) -> String {
    let mut order: Vec<usize> = Vec::new();
    for sentence in chosen {
        if !order.contains(&sentence.source) {
            order.push(sentence.source);
        }
    }
    let mut out = String::new();
    for (number, source) in order.iter().enumerate() {
        let mut of_source: Vec<&Candidate> = chosen
            .iter()
            .filter(|sentence| sentence.source == *source)
            .collect();
        of_source.sort_by_key(|sentence| sentence.place);
        let quoted: Vec<String> = of_source
            .iter()
            .map(|sentence| format!("{} [{}]", sentence.text, number + 1))
            .collect();
        out.push_str(&quoted.join(" "));
        out.push_str("\n\n");
    }
    let cited = order.iter().filter_map(|source| sources.get(*source));
    format!("{out}Sources:\n{}", listed(cited))
}

fn listed<'a>(sources: impl Iterator<Item = &'a Source>) -> String {
    let mut out = String::new();
    for (number, source) in sources.enumerate() {
        let break_ = if number == 0 { "" } else { "\n" };
        let title = if source.title.is_empty() {
            &source.url
        } else {
            &source.title
        };
        let url = if source.url.is_empty() || source.url == *title {
            String::new()
        } else {
            format!(" {}", source.url)
        };
        write!(out, "{break_}[{}] {title}{url}", number + 1).expect("a String takes any text");
    }
    out
}

/// The sentences to quote, best first: relevant, different from each other, from several sources.
fn choose(
    topic: &str,
    sources: &[Source],
    per_source_max: usize,
    bytes_max: usize,
) -> Vec<Candidate> {
    let mut candidates = scored(topic, sources);
    candidates.truncate(CANDIDATES_MAX);
    let Some(best) = candidates.first().map(|candidate| candidate.score) else {
        return Vec::new();
    };
    let mut chosen: Vec<Candidate> = Vec::new();
    let mut bytes = 0;
    while chosen.len() < SENTENCES_MAX && !candidates.is_empty() {
        let of_source =
            |source: usize| chosen.iter().filter(|other| other.source == source).count();
        // A source that has been heard has to say more than one that has not.
        let worth = |candidate: &Candidate| {
            candidate.score / (1.0 + 0.4 * as_f64(of_source(candidate.source)))
        };
        let best_place = candidates
            .iter()
            .enumerate()
            .max_by(|a, b| worth(a.1).total_cmp(&worth(b.1)).then(b.0.cmp(&a.0)));
        let Some(place) = best_place.map(|(place, _)| place) else {
            break;
        };
        let candidate = candidates.remove(place);
        let fits = candidate.score >= SCORE_MIN * best
            && of_source(candidate.source) < per_source_max
            && (of_source(candidate.source) > 0 || heard(&chosen) < SOURCES_MAX)
            && (chosen.is_empty() || bytes + candidate.text.len() <= bytes_max)
            && (!sentences::leans(&candidate.text) || follows_one_of(&chosen, &candidate))
            && chosen
                .iter()
                .all(|other| overlap(&candidate.stems, &other.stems) < SAME_OVERLAP);
        if fits {
            bytes += candidate.text.len() + 5;
            chosen.push(candidate);
        }
    }
    if sources.len() == 1 {
        chosen.sort_by_key(|sentence| sentence.place);
    }
    chosen
}

/// Whether the sentence before this one is quoted too.
fn follows_one_of(chosen: &[Candidate], candidate: &Candidate) -> bool {
    chosen
        .iter()
        .any(|other| other.source == candidate.source && other.place + 1 == candidate.place)
}

/// How many sources are quoted.
fn heard(chosen: &[Candidate]) -> usize {
    let sources: BTreeSet<usize> = chosen.iter().map(|sentence| sentence.source).collect();
    sources.len()
}

/// All quotable sentences, best first.
fn scored(topic: &str, sources: &[Source]) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (source, found) in sources.iter().enumerate() {
        let all = sentences::split(&found.text).into_iter().enumerate();
        for (quotable_before, (place, text)) in all
            .filter(|(_, text)| sentences::is_quotable(text))
            .enumerate()
        {
            let mut stems = words::content_stems(&text);
            stems.sort();
            candidates.push(Candidate {
                text,
                stems,
                source,
                place,
                quotable_before,
                score: 0.0,
            });
        }
    }
    let topic_stems = words::content_stems(topic);
    let about: Vec<f64> = sources
        .iter()
        .map(|source| coverage(source, &topic_stems))
        .collect();
    let most_about = about.iter().copied().fold(0.0, f64::max);
    candidates.retain(|candidate| about[candidate.source] >= COVERAGE_MIN * most_about);
    let mut holding: HashMap<&str, f64> = HashMap::new(); // in how many sentences a word is
    for candidate in &candidates {
        for stem in each_once(&candidate.stems) {
            *holding.entry(stem).or_default() += 1.0;
        }
    }
    let count = as_f64(candidates.len());
    let mean_length = candidates
        .iter()
        .map(|c| as_f64(c.stems.len()))
        .sum::<f64>()
        / count.max(1.0);
    let scores: Vec<f64> = candidates
        .iter()
        .map(|candidate| {
            let relevance = bm25(&candidate.stems, &topic_stems, &holding, count, mean_length);
            let relevance = if topic_stems.is_empty() {
                0.0
            } else {
                relevance / as_f64(topic_stems.len())
            };
            let centrality = centrality(&candidate.stems, &holding, count);
            (relevance + CENTRALITY_WEIGHT * centrality + CONTEXT_WEIGHT)
                * about[candidate.source]
                * form(candidate)
        })
        .collect();
    for (candidate, score) in candidates.iter_mut().zip(scores) {
        candidate.score = score;
    }
    candidates.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then(a.source.cmp(&b.source))
            .then(a.place.cmp(&b.place))
    });
    candidates
}

/// The share of the topic's words that a source holds: one that is about another thing counts less.
fn coverage(source: &Source, topic: &[String]) -> f64 {
    if topic.is_empty() {
        return 1.0;
    }
    let held = words::content_stems(&format!("{} {}", source.title, source.text));
    as_f64(topic.iter().filter(|word| held.contains(word)).count()) / as_f64(topic.len())
}

/// How well a sentence answers the topic.
fn bm25(
    stems: &[String],
    topic: &[String],
    holding: &HashMap<&str, f64>,
    count: f64,
    mean_length: f64,
) -> f64 {
    let length = K1 * (1.0 - B + B * as_f64(stems.len()) / mean_length.max(1.0));
    let of_word = |word: &String| {
        let times = as_f64(stems.iter().filter(|stem| *stem == word).count());
        let with = holding.get(word.as_str()).copied().unwrap_or(0.0);
        let rarity = (1.0 + (count - with + 0.5) / (with + 0.5)).ln();
        rarity * times * (K1 + 1.0) / (times + length)
    };
    topic.iter().map(of_word).sum()
}

/// How much of a sentence is what the others speak of too: the mean share of sentences that hold its words.
fn centrality(stems: &[String], holding: &HashMap<&str, f64>, count: f64) -> f64 {
    let different: Vec<&str> = each_once(stems).collect();
    // A word of this sentence alone is no sign that it is central.
    let shares = different
        .iter()
        .map(|stem| (holding.get(stem).copied().unwrap_or(1.0) - 1.0) / count.max(1.0));
    shares.sum::<f64>() / as_f64(different.len().max(1)).sqrt()
}

/// Openings, questions and the end of long documents count less.
fn form(candidate: &Candidate) -> f64 {
    let leaning = if sentences::leans(&candidate.text) {
        0.6
    } else {
        1.0
    };
    let question = if candidate.text.ends_with('?') {
        0.4
    } else {
        1.0
    };
    let early = 1.0 + 0.2 / (1.0 + as_f64(candidate.quotable_before));
    leaning * question * early
}

/// The words of a sorted list, each once.
fn each_once(stems: &[String]) -> impl Iterator<Item = &str> {
    stems
        .iter()
        .enumerate()
        .filter(|(at, stem)| *at == 0 || stems[at - 1] != **stem)
        .map(|(_, stem)| stem.as_str())
}
