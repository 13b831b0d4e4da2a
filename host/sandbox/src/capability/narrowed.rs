//! What the operator leaves of a capability, by patterns of names. For models, sources and tools the names that are left are
//! in the grant, and this is for the texts of denials; whom a guest may ask is decided by it, for a workflow may grant
//! anybody.

use serde::{Deserialize, Serialize};

use super::Grants;

/// That the operator leaves an agent only some names of a capability, whatever its workflow grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrowed {
    /// The capability, for example `llm`.
    pub capability: String,
    /// The names that are left; `*` stands for any text.
    pub patterns: Vec<String>,
    /// Where another name would be added.
    pub place: String,
}

impl Narrowed {
    /// Whether a name is left.
    pub fn leaves(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| fits(pattern, name))
    }

    /// What would leave a name that the workflow grants.
    pub fn remedy(&self, name: &str) -> String {
        format!(
            "the workflow grants it, the operator does not: add {}",
            self.addition(name)
        )
    }

    /// What would leave a name, to be read after "add".
    pub fn addition(&self, name: &str) -> String {
        format!("\"{name}\" to {}", self.place)
    }
}

/// Whether a text fits a pattern in which `*` stands for any text. Each star is tried at the first place that fits, which
/// takes time in the product of both lengths at most.
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(head) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, middle)) = parts.split_last() else {
        return true;
    };
    for part in middle {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

impl Grants {
    /// What the operator would have to add, where he leaves the agent no such name; of a capability as a whole where he
    /// leaves it none.
    pub(super) fn not_left(&self, capability: &str, name: &str) -> Option<String> {
        let narrowed = self
            .narrowed
            .iter()
            .find(|it| it.capability == capability)?;
        match name {
            "" => narrowed.patterns.is_empty().then(|| narrowed.addition("…")),
            name => (!narrowed.leaves(name)).then(|| narrowed.addition(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*b*c", "a-b-b-c"),
            ("**", "a"),
            ("a", "a"),
        ] {
            assert!(fits(pattern, text), "{pattern} fits {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "ab"),
            ("a*", "ba"),
            ("a*a", "a"),
            ("*b*", "a"),
        ] {
            assert!(!fits(pattern, text), "{pattern} does not fit {text}");
        }
    }
}
