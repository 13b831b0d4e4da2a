//! One type for each kind of id, so that none is taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

/// One run of a workflow: `exec_` and 26 characters that sort by time of creation (a ULID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecutionId(Ulid);

impl ExecutionId {
    /// An id from its 128 bits: 48 of time in milliseconds, 80 of entropy. The caller draws them.
    pub fn from_parts(timestamp_ms: u64, entropy: u128) -> Self {
        Self(Ulid::from_parts(timestamp_ms, entropy))
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exec_{}", self.0)
    }
}

impl FromStr for ExecutionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("exec_")
            .and_then(|ulid| Ulid::from_string(ulid).ok())
            .map(Self)
            .ok_or_else(|| IdError {
                text: text.chars().take(80).collect(),
                expected: "an execution's id (`exec_` and 26 letters and digits)",
            })
    }
}

impl TryFrom<String> for ExecutionId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ExecutionId> for String {
    fn from(id: ExecutionId) -> Self {
        id.to_string()
    }
}

/// The content of a workflow document: SHA-256 of its compact JSON, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkflowDigest(String);

impl WorkflowDigest {
    /// The digest of a document's bytes as they are stored.
    pub fn of(document: &[u8]) -> Self {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(document) {
            hex.push_str(&format!("{byte:02x}"));
        }
        Self(hex)
    }

    /// A digest that was stored, as it was stored.
    pub fn stored(hex: String) -> Self {
        Self(hex)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkflowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An id that a workflow's author chose, of an agent, a step, an input or a loop variable:
/// `[A-Za-z_][A-Za-z0-9_]*`, at most [`Name::LENGTH_MAX`] characters, no reserved word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Protects journals and messages from ids of any length.
    pub const LENGTH_MAX: usize = 128;

    /// Words with a meaning of their own in templates, which no id may be.
    pub const RESERVED: [&'static str; 18] = [
        "inputs",
        "steps",
        "loop",
        "error",
        "execution",
        "secrets",
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "true",
        "false",
        "none",
        "null",
        "self",
    ];

    /// Reads a name; the error says what a name is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut characters = text.chars();
        let well_formed = characters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !well_formed {
            return Err(format!(
                "`{}` is not an id: use letters, digits and `_`, and begin with a letter or `_`",
                text.chars().take(80).collect::<String>()
            ));
        }
        if text.len() > Self::LENGTH_MAX {
            return Err(format!("an id has at most {} characters", Self::LENGTH_MAX));
        }
        if Self::RESERVED.contains(&text) || ["True", "False", "None"].contains(&text) {
            return Err(format!("`{text}` is a reserved word; choose another id"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The id of a step that was given none: `step_N`.
    pub(crate) fn numbered(position: usize) -> Self {
        Self(format!("step_{position}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Where in an execution a step runs: its id, with the rounds of the loops around it
/// (`each[17].process`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepPath(String);

impl StepPath {
    /// A path from text that a person or the journal gives; whether such a step exists is the
    /// definition's to say.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
