//! Key phrases of an input: runs of meaningful words, scored by how often their words meet others (RAKE), and search
//! phrases made of them. Pure.

use std::collections::BTreeMap;

use super::input::Input;
use super::words;

/// Longest phrase, in words.
const WORDS_MAX: usize = 4;
/// Most runs of words that are scored. It bounds the time for a long input.
const RUNS_MAX: usize = 20_000;
/// Phrases are as different as this share of common words allows.
const OVERLAP_MAX: f64 = 0.7;

/// The best key phrases of the input, best first, each different from the others.
pub(super) fn key_phrases(input: &Input, most: usize) -> Vec<String> {
    let text = if input.prose.is_empty() && input.sources.is_empty() {
        input.topic.clone()
    } else {
        input.all_text()
    };
    let ranked = ranked(&text);
    distinct(ranked.into_iter().map(|(phrase, _)| phrase), most)
}

/// Phrases to search for: the topic first, then parts of it, then the key phrases of the rest. Distinct, `most` at most.
pub(super) fn search_phrases(input: &Input, most: usize) -> Vec<String> {
    let mut candidates = Vec::new();
    if !input.topic.is_empty() {
        let topic = crate::text::cut_chars(&input.topic, 120);
        candidates.push(topic.trim_end_matches(['.', '?', '!', '…']).to_owned());
        candidates.extend(parts_of(&input.topic));
    }
    let about_topic = input.sources.is_empty()
        && input.prose.chars().count() <= 2 * input.topic.chars().count() + 200;
    if !about_topic || candidates.is_empty() {
        let rest = ranked(&input.all_text());
        candidates.extend(
            rest.into_iter()
                .map(|(phrase, _)| phrase)
                .filter(|phrase| phrase.contains(' ')),
        );
    }
    distinct(candidates.into_iter(), most)
}

/// Parts of a topic that can be searched alone: its runs of words, then neighbouring words across them.
fn parts_of(topic: &str) -> Vec<String> {
    let runs = runs(topic);
    let content: Vec<&str> = runs.iter().flatten().copied().collect();
    let mut parts: Vec<String> = runs
        .iter()
        .filter(|run| run.len() > 1)
        .map(|run| run.join(" "))
        .collect();
    for size in [3, 2] {
        // A word pair at the beginning joined with the end keeps the subject: "electric vehicle" + "India".
        if let (Some(first), Some(last)) = (content.get(..size - 1), content.last())
            && content.len() > size
        {
            parts.push(format!("{} {last}", first.join(" ")));
        }
        parts.extend(content.windows(size).map(|window| window.join(" ")));
    }
    parts
}

/// Runs of meaningful words: a stop word, a mark or a line break ends one.
fn runs(text: &str) -> Vec<Vec<&str>> {
    let mut runs = Vec::new();
    let marks = |c: char| {
        matches!(
            c,
            ',' | ';'
                | ':'
                | '!'
                | '?'
                | '('
                | ')'
                | '"'
                | '“'
                | '”'
                | '\n'
                | '|'
                | '/'
                | '['
                | ']'
        )
    };
    let clauses = text.split(marks).flat_map(|clause| clause.split(". "));
    for clause in clauses {
        let mut run = Vec::new();
        for word in words::split(clause) {
            if words::is_stop_word(&word.to_lowercase()) {
                runs.push(std::mem::take(&mut run));
            } else {
                run.push(word);
            }
        }
        runs.push(run);
        if runs.len() > RUNS_MAX {
            break;
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// All phrases of a text with their scores, best first.
fn ranked(text: &str) -> Vec<(String, f64)> {
    let runs: Vec<Vec<&str>> = runs(text)
        .into_iter()
        .filter(|run| run.len() <= WORDS_MAX)
        .collect();
    // RAKE: a word scores the mean length of the runs it is in, so that words of long phrases win over lone ones.
    let mut degree: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for run in &runs {
        for word in run {
            let entry = degree.entry(words::stem(word)).or_default();
            entry.0 += as_f64(run.len());
            entry.1 += 1.0;
        }
    }
    let mut phrases: BTreeMap<Vec<String>, (String, f64, usize)> = BTreeMap::new();
    for (place, run) in runs.iter().enumerate() {
        if run.iter().all(|word| {
            word.chars()
                .all(|c| c.is_ascii_digit() || !c.is_alphanumeric())
        }) {
            continue; // numbers alone say nothing
        }
        let stems: Vec<String> = run.iter().map(|word| words::stem(word)).collect();
        let score: f64 = stems
            .iter()
            .filter_map(|stem| degree.get(stem))
            .map(|(sum, count)| sum / count)
            .sum();
        let entry = phrases
            .entry(stems)
            .or_insert_with(|| (run.join(" "), 0.0, place));
        // What is said again counts more, but less each time.
        entry.1 += if entry.1 == 0.0 { score } else { score / 2.0 };
    }
    let mut phrases: Vec<(String, f64, usize)> = phrases.into_values().collect();
    phrases.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.2.cmp(&b.2)));
    phrases
        .into_iter()
        .map(|(phrase, score, _)| (phrase, score))
        .collect()
}

/// The first phrases that differ enough from those before them.
fn distinct(candidates: impl Iterator<Item = String>, most: usize) -> Vec<String> {
    let mut kept: Vec<(String, Vec<String>)> = Vec::new();
    for phrase in candidates {
        if kept.len() >= most {
            break;
        }
        let stems = words::content_stems(&phrase);
        if !stems.is_empty()
            && kept
                .iter()
                .all(|(_, other)| overlap(&stems, other) <= OVERLAP_MAX)
        {
            kept.push((phrase, stems));
        }
    }
    kept.into_iter().map(|(phrase, _)| phrase).collect()
}

/// Common words of two phrases as a share of all their words.
pub(super) fn overlap(a: &[String], b: &[String]) -> f64 {
    let common = a.iter().filter(|word| b.contains(word)).count();
    let all = a.len() + b.iter().filter(|word| !a.contains(word)).count();
    if all == 0 {
        1.0
    } else {
        as_f64(common) / as_f64(all)
    }
}

/// Counts of words are small: exact as a float.
pub(super) fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
