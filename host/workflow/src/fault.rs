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

/// All faults of a document, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault at a place.
    pub fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault {
            pointer: pointer.into(),
            column: None,
            message: message.into(),
        });
    }

    /// Notes a fault at a column of a template.
    pub fn add_at(&mut self, pointer: &str, column: usize, message: impl Into<String>) {
        self.0.push(Fault {
            pointer: pointer.to_owned(),
            column: Some(column),
            message: message.into(),
        });
    }

    /// Notes a fault that was found elsewhere.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
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
        Ok(())
    }
}

impl std::error::Error for Faults {}

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
