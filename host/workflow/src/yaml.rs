//! YAML as another way to write JSON: text to value and back.
//!
//! It reads YAML 1.2 (core schema: `no` and `on` are texts) and refuses what JSON cannot say, such as tags and
//! fields whose names are no texts. It knows nothing of workflows; whoever calls it bounds the text's size.

mod read;
mod scalar;
mod write;

pub use read::parse_yaml;
pub use write::to_yaml;

/// Lists and objects within each other: what a JSON reader takes, ours included.
const NESTING_MAX: usize = 127;

/// What is wrong with a YAML text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlFault {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong and how it should be.
    pub message: String,
}

#[cfg(test)]
mod tests;
