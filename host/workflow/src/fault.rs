//! What is wrong with a document: every fault with its place and the way out.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// JSON pointer to the value, for example `/steps/2/input`.
    pub pointer: String,
    /// Column in the text at `pointer`, counted from 1, where the fault lies inside a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong and how it should be.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() {
            "/"
        } else {
            &self.pointer
        };
        match self.column {
            Some(column) => write!(f, "{pointer} (column {column}): {}", self.message),
            None => write!(f, "{pointer}: {}", self.message),
        }
    }
}

/// Faults that are noted; of a document with more, the others are left out. Protects whoever checks a document from
/// one that is nothing but faults: each costs more than the byte that makes it.
const FAULTS_MAX: usize = 200;
/// Bytes of a fault's place, and of its message; the rest is cut off. Both may hold names from the document, which are
/// as long as their author likes.
const TEXT_BYTES_MAX: usize = 2_000;

/// The faults of a document, in its order; at most 200 of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault at a place.
    pub fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.push(Fault {
            pointer: pointer.into(),
            column: None,
            message: message.into(),
        });
    }

    /// Notes a fault at a column of a template.
    pub fn add_at(&mut self, pointer: &str, column: usize, message: impl Into<String>) {
        self.push(Fault {
            pointer: pointer.to_owned(),
            column: Some(column),
            message: message.into(),
        });
    }

    /// Notes a fault that was found elsewhere.
    pub fn push(&mut self, fault: Fault) {
        if self.is_full() {
            return;
        }
        self.0.push(Fault {
            pointer: cut(fault.pointer),
            message: cut(fault.message),
            ..fault
        });
    }

    /// Whether there are so many that no more are noted.
    pub fn is_full(&self) -> bool {
        self.0.len() >= FAULTS_MAX
    }

    /// Puts them into the order in which their places stand in the document.
    pub fn sort_along(&mut self, document: &Value) {
        self.0
            .sort_by_cached_key(|fault| (position(document, &fault.pointer), fault.column));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        if self.is_full() {
            write!(f, "\nfaults beyond the first {FAULTS_MAX} are not listed")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A text without what is beyond its limit.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// Where a pointer leads, as the positions of its parts among their siblings.
fn position(document: &Value, pointer: &str) -> Vec<usize> {
    let mut at = Some(document);
    let mut positions = Vec::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let position = match at {
            Some(Value::Object(map)) => map.keys().position(|key| *key == part),
            Some(Value::Array(_)) => part.parse().ok(),
            _ => None,
        };
        positions.push(position.unwrap_or(usize::MAX));
        at = match at {
            Some(Value::Object(map)) => map.get(&part),
            Some(Value::Array(items)) => position.and_then(|index| items.get(index)),
            _ => None,
        };
    }
    positions
}

/// The known name that a misspelt one most likely means, if any is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| {
            let same_but_for_case = candidate.eq_ignore_ascii_case(name);
            let similarity = if same_but_for_case {
                1.0
            } else {
                strsim::jaro_winkler(name, candidate)
            };
            (candidate, similarity)
        })
        .filter(|(_, similarity)| *similarity >= 0.78)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(candidate, _)| candidate)
}

/// The end of a message about an unknown name: the nearest known one, or all that are known.
pub(crate) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, known.iter().copied()) {
        Some(candidate) => format!("; did you mean `{candidate}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; known are {}", listed(&known)),
    }
}

/// Names in a sentence: `a`, `b` and `c`; cut after 20, so that a message stays readable.
pub(crate) fn listed(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 20;
    let mut quoted: Vec<String> = names
        .iter()
        .take(SHOWN_MAX)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.len() > SHOWN_MAX {
        quoted.push(format!("{} more", names.len() - SHOWN_MAX));
    }
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::definition::Definition;

    /// What a fault keeps of a document must not grow with it: a body of some megabytes would become gigabytes.
    #[test]
    fn a_document_of_faults_has_a_short_list_of_short_ones() {
        let unknown: serde_json::Map<String, Value> =
            (0..100_000).map(|n| (format!("k{n}"), json!(1))).collect();
        let nameless: Vec<Value> = (0..900).map(|_| json!({ "x": 1 })).collect();
        let sub = json!({ "name": "y", "agents": [], "steps": nameless });
        for document in [
            Value::Object(unknown),
            json!({ "name": "x", "agents": [], "steps": nameless, "workflows": { "sub": sub } }),
        ] {
            let faults = Definition::compile(&document).expect_err("faults");
            assert!(faults.is_full());
            assert_eq!(faults.len(), FAULTS_MAX);
            assert!(faults.to_string().len() < FAULTS_MAX * 2 * (TEXT_BYTES_MAX + 100));
        }
        let long = "n".repeat(1_000_000);
        let document = json!({ "name": "x", "agents": [], "steps": [{ "id": "a", "set": 1 }],
            "workflows": { &long: { "name": "y", "agents": [], "steps": [{ "x": 1 }] } } });
        let faults = Definition::compile(&document).expect_err("a name that is too long");
        assert_eq!(faults.to_string().lines().count(), 1, "{faults}");
        let mut faults = Faults::default();
        faults.add("é".repeat(3_000), "m");
        let first = faults.iter().next().expect("one");
        assert!(first.pointer.len() <= TEXT_BYTES_MAX + '…'.len_utf8());
    }
}
