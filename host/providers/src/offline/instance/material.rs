//! What values are found in: an input with its words and numbers, each worked out once. Pure.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::{Number, Value};

use super::names;
use crate::offline::input::Input;
use crate::offline::{phrases, summary, words};

/// Longest summary in a value, in bytes.
const SUMMARY_BYTES_MAX: usize = 4_000;
/// Most numbers of an input.
const NUMBERS_MAX: usize = 1_000;
/// Words that turn what follows them around.
const NEGATIONS: [&str; 8] = [
    "cannot", "doesn't", "isn't", "never", "no", "none", "not", "without",
];
/// How far a negation reaches, in words.
const NEGATION_REACH: usize = 3;

/// An input to find values in.
pub(super) struct Material {
    pub(super) input: Input,
    text: String,
    stems: OnceCell<Vec<String>>,
    counts: OnceCell<HashMap<String, usize>>,
    numbers: OnceCell<Vec<Value>>,
    summary: OnceCell<String>,
}

impl Material {
    pub(super) fn new(input: Input) -> Self {
        let text = input.all_text();
        let (stems, counts, numbers) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self {
            input,
            text,
            stems,
            counts,
            numbers,
            summary: OnceCell::new(),
        }
    }

    fn stems(&self) -> &[String] {
        self.stems
            .get_or_init(|| words::split(&self.text).map(words::stem).collect())
    }

    /// How often the input speaks of something: the rarest of its words.
    pub(super) fn mentions(&self, what: &str) -> usize {
        let counts = self.counts.get_or_init(|| {
            let mut counts = HashMap::new();
            for stem in self.stems() {
                *counts.entry(stem.clone()).or_default() += 1;
            }
            counts
        });
        let times = names::words_of(what)
            .into_iter()
            .map(|word| counts.get(&words::stem(&word)).copied().unwrap_or(0));
        times.min().unwrap_or(0)
    }

    /// Whether the input says what a name is about, and does not deny it.
    pub(super) fn says(&self, name: &str) -> bool {
        let wanted = names::subject_of(name);
        let place = |word: &String| {
            self.stems()
                .iter()
                .position(|said| *said == words::stem(word))
        };
        let places: Option<Vec<usize>> = wanted.iter().map(place).collect();
        let Some(first) = places.and_then(|places| places.into_iter().min()) else {
            return false;
        };
        let before = &self.stems()[first.saturating_sub(NEGATION_REACH)..first];
        !before.iter().any(|word| NEGATIONS.contains(&word.as_str()))
    }

    /// All numbers of the input, in order.
    pub(super) fn numbers(&self) -> &[Value] {
        self.numbers.get_or_init(|| numbers(&self.text))
    }

    /// The number nearest to the words of a name, in the part of a sentence that holds them all.
    pub(super) fn number_beside(&self, name: &str) -> Option<Value> {
        let wanted: Vec<String> = names::words_of(name)
            .iter()
            .map(|word| words::stem(word))
            .collect();
        if wanted.is_empty() {
            return None;
        }
        let parts = self
            .text
            .split(['\n', ';'])
            .flat_map(|part| part.split(". "))
            .flat_map(|part| part.split(", "));
        parts
            .filter_map(|part| nearest_number(part, &wanted))
            .next()
    }

    /// The summary of the input, label first.
    pub(super) fn summary(&self) -> &str {
        self.summary
            .get_or_init(|| summary::text(&self.input, Some(SUMMARY_BYTES_MAX)))
    }

    /// The first key phrase; empty where there is none.
    pub(super) fn key_phrase(&self) -> String {
        phrases::key_phrases(&self.input, 1)
            .into_iter()
            .next()
            .unwrap_or_default()
    }
}

/// All numbers of a text, in order.
pub(super) fn numbers(text: &str) -> Vec<Value> {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '.' | ',' | '-');
    let found = text.split(|c: char| !inside(c)).filter_map(|word| {
        let word = word.trim_end_matches(['.', ',', '-']).replace(',', "");
        let digits = word.strip_prefix('-').unwrap_or(&word);
        let plain = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        word.parse::<f64>()
            .ok()
            .filter(|number| plain && number.is_finite())
            .map(number_of)
    });
    found.take(NUMBERS_MAX).collect()
}

fn nearest_number(part: &str, wanted: &[String]) -> Option<Value> {
    let said: Vec<&str> = words::split(part).collect();
    let place = |word: &String| said.iter().position(|other| words::stem(other) == *word);
    let places: Option<Vec<usize>> = wanted.iter().map(place).collect();
    let named = places?.into_iter().max()?;
    let found = said
        .iter()
        .enumerate()
        .filter_map(|(at, word)| Some((at, numbers(word).into_iter().next()?)));
    found
        .min_by_key(|(at, _)| at.abs_diff(named))
        .map(|(_, number)| number)
}

/// A whole number as an integer, any other as it is.
pub(super) fn number_of(number: f64) -> Value {
    /// Whole numbers below this are exact.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and exact")]
    if number.fract() == 0.0 && number.abs() < EXACT_MAX {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::from(0), Value::Number)
}
