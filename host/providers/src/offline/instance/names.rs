//! What a property's name says about its value. Pure.

use serde_json::Value;

/// Words of a name that say what kind of value it is, not what it is about.
const KIND_WORDS: [&str; 14] = [
    "are", "can", "contains", "flag", "has", "is", "must", "need", "needs", "require", "requires",
    "should", "the", "was",
];
/// Words of a name that ask for a yes or a no, for a number, for a list.
const BOOLS: [&str; 16] = [
    "approved", "can", "complete", "done", "enough", "flagged", "has", "is", "must", "needed",
    "needs", "required", "requires", "safe", "should", "valid",
];
const NUMBERS: [&str; 10] = [
    "amount",
    "confidence",
    "count",
    "number",
    "percent",
    "percentage",
    "price",
    "rating",
    "score",
    "total",
];
const LISTS: [&str; 3] = ["array", "items", "list"];

/// What a schema asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
    Text,
    Number,
    Integer,
    Bool,
    Null,
}

impl Kind {
    /// What a schema asks for; by the property's name where it allows anything.
    pub(super) fn of(schema: &Value, name: &str) -> Self {
        let stated = match schema.get("type") {
            Some(Value::String(word)) => Self::of_word(word),
            Some(Value::Array(words)) => {
                let kinds: Vec<Self> = words
                    .iter()
                    .filter_map(|word| Self::of_word(word.as_str()?))
                    .collect();
                kinds
                    .iter()
                    .find(|kind| **kind != Self::Null)
                    .or(kinds.first())
                    .copied()
            }
            _ if schema.get("properties").is_some() || schema.get("allOf").is_some() => {
                Some(Self::Object)
            }
            _ if schema.get("items").is_some() => Some(Self::List),
            _ => None,
        };
        stated.unwrap_or_else(|| Self::of_name(name))
    }

    fn of_word(word: &str) -> Option<Self> {
        match word {
            "object" => Some(Self::Object),
            "array" => Some(Self::List),
            "string" => Some(Self::Text),
            "number" => Some(Self::Number),
            "integer" => Some(Self::Integer),
            "boolean" => Some(Self::Bool),
            "null" => Some(Self::Null),
            _ => None,
        }
    }

    fn of_name(name: &str) -> Self {
        let words = words_of(name);
        let (Some(first), Some(last)) = (words.first(), words.last()) else {
            return Self::Text;
        };
        let plural = last.ends_with('s')
            && !["ss", "us", "is"].iter().any(|end| last.ends_with(end))
            && last.len() > 3;
        if BOOLS.contains(&first.as_str()) || BOOLS.contains(&last.as_str()) {
            Self::Bool
        } else if NUMBERS.contains(&last.as_str()) {
            Self::Number
        } else if plural || LISTS.contains(&last.as_str()) {
            Self::List
        } else {
            Self::Text
        }
    }
}

/// `requires_humanReview` as `requires`, `human`, `review`.
pub(super) fn words_of(name: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && after_lower {
            spaced.push(' ');
        }
        after_lower = c.is_lowercase();
        spaced.extend(c.to_lowercase());
    }
    spaced
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The words of a name that say what it is about.
pub(super) fn subject_of(name: &str) -> Vec<String> {
    words_of(name)
        .into_iter()
        .filter(|word| !KIND_WORDS.contains(&word.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_in_every_style() {
        assert_eq!(
            words_of("requires_humanReview"),
            ["requires", "human", "review"]
        );
        assert_eq!(words_of("URL-list"), ["url", "list"]);
        assert_eq!(subject_of("requires_human_review"), ["human", "review"]);
        for (name, kind) in [
            ("queries", Kind::List),
            ("status", Kind::Text),
            ("is_spam", Kind::Bool),
            ("confidence_score", Kind::Number),
            ("word_list", Kind::List),
            ("", Kind::Text),
        ] {
            assert_eq!(Kind::of(&Value::Null, name), kind, "{name}");
        }
    }
}
