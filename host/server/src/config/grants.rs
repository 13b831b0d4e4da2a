//! `[[grants]]`: what the operator lets agents be given. One struct for each key; an entry holds for the agents that
//! it names.
#![cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "who asks comes with the first key that grants something"
    )
)]

use serde::Deserialize;
use toml::Spanned;

/// Entries in the order of the file.
pub(crate) type GrantEntries = Vec<Spanned<GrantEntry>>;

/// One `[[grants]]` entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantEntry {
    /// Whom it is for; several entries may name the same agent.
    pub(crate) agents: Vec<AgentPattern>,
    /// Where the entry begins in the file, from 1; the reader of the file fills it in.
    #[serde(skip)]
    pub(crate) line: usize,
}

/// An agent that asks to be given something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskingAgent<'a> {
    /// The name of its workflow.
    pub(crate) workflow: &'a str,
    /// Its id there.
    pub(crate) id: &'a str,
    /// The digest of its component, `sha256:…`; none: it is source code.
    pub(crate) digest: Option<&'a str>,
}

/// Agents by their id, as `workflow/agent`, or by their component's digest; `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct AgentPattern(String);

impl TryFrom<String> for AgentPattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Err("an agent's name is not empty; \"*\" stands for all agents");
        }
        Ok(Self(text))
    }
}

impl AgentPattern {
    /// The text in the file.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn matches(&self, agent: AskingAgent<'_>) -> bool {
        let pattern = self.0.as_str();
        if pattern.starts_with("sha256:") {
            return agent.digest.is_some_and(|digest| fits(pattern, digest));
        }
        match pattern.rsplit_once('/') {
            Some((workflow, id)) => fits(workflow, agent.workflow) && fits(id, agent.id),
            None => fits(pattern, agent.id),
        }
    }
}

impl GrantEntry {
    pub(crate) fn is_for(&self, agent: AskingAgent<'_>) -> bool {
        self.agents.iter().any(|pattern| pattern.matches(agent))
    }
}

/// Whether a text fits a pattern in which `*` stands for any text. Each star is tried at the first place that fits, which
/// takes time in the product of both lengths at most.
fn fits(pattern: &str, text: &str) -> bool {
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

#[cfg(test)]
mod tests;
