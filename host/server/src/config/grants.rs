//! `[[grants]]`: what the operator lets agents be given. One struct for each key; an entry holds for the agents that
//! it names.

mod files;
mod hosts;
mod secrets;
mod variables;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use toml::Spanned;
use troupe_sandbox::fits;
use troupe_workflow::MicroUsd;

pub(crate) use files::FolderEntry;
pub(crate) use hosts::HostEntry;
pub(crate) use secrets::{SecretEntry, check_header};
pub(crate) use variables::{VariableEntry, VariableName};

/// Entries in the order of the file.
pub(crate) type GrantEntries = Vec<Spanned<GrantEntry>>;

/// One `[[grants]]` entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantEntry {
    /// Whom it is for; several entries may name the same agent.
    #[serde(deserialize_with = "somebody")]
    pub(crate) agents: Vec<AgentPattern>,
    /// Where they may send HTTP requests.
    #[serde(default)]
    pub(crate) hosts: Vec<HostEntry>,
    /// Secrets that they may use without knowing them.
    #[serde(default)]
    pub(crate) secrets: Vec<SecretEntry>,
    /// Folders of the machine.
    #[serde(default)]
    pub(crate) files: Vec<FolderEntry>,
    /// Environment variables, with their values.
    #[serde(default)]
    pub(crate) env: BTreeMap<VariableName, VariableEntry>,
    /// Most that the models which they ask may cost in one step.
    #[serde(default, deserialize_with = "dollars")]
    pub(crate) llm_budget_usd: Option<MicroUsd>,
    /// The only models of those that a workflow grants; `*` stands for any text, here and below.
    pub(crate) models: Option<Vec<String>>,
    /// The only sources.
    pub(crate) search: Option<Vec<String>>,
    /// The only tools.
    pub(crate) tools: Option<Vec<String>>,
    /// The only people.
    pub(crate) human: Option<Vec<String>>,
    /// Whether they may remember something, where their workflow grants that.
    pub(crate) memory: Option<bool>,
    /// Where the entry begins in the file, from 1; the reader of the file fills it in. 0: it is the command line's.
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

/// Before the digits of a digest.
const DIGEST: &str = "sha256:";

impl TryFrom<String> for AgentPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an agent's name is not empty; \"*\" stands for all agents".to_owned());
        }
        if let Some(digits) = text.strip_prefix(DIGEST)
            && !is_of_digest(digits)
        {
            return Err(format!(
                "`{text}` fits no digest, which has 64 digits 0-9 and a-f after `{DIGEST}`; copy all of them from `troupe agent inspect`, or write `*` for those that are left out"
            ));
        }
        Ok(Self(text))
    }
}

/// Whether there are digests whose digits fit this.
fn is_of_digest(digits: &str) -> bool {
    const DIGITS: usize = 64;
    let stars = digits.matches('*').count();
    let count = digits.len() - stars;
    let is_known = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '*');
    digits.chars().all(is_known) && (count == DIGITS || count < DIGITS && stars > 0)
}

/// An entry is for somebody: one that is for nobody grants nothing, and was not meant so.
fn somebody<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<AgentPattern>, D::Error> {
    let agents = Vec::<AgentPattern>::deserialize(from)?;
    if agents.is_empty() {
        return Err(serde::de::Error::custom(
            "`agents` names nobody, so the entry grants nothing; name whom it is for, or write [\"*\"] for all agents",
        ));
    }
    Ok(agents)
}

impl AgentPattern {
    pub(crate) fn matches(&self, agent: AskingAgent<'_>) -> bool {
        let pattern = self.0.as_str();
        if pattern.starts_with(DIGEST) {
            return agent.digest.is_some_and(|digest| fits(pattern, digest));
        }
        match pattern.rsplit_once('/') {
            Some((workflow, id)) => fits(workflow, agent.workflow) && fits(id, agent.id),
            None => fits(pattern, agent.id),
        }
    }
}

impl GrantEntry {
    /// An entry that was given on the command line: TOML, in which `agents` may be left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn from_command_line(text: &str) -> Result<Spanned<Self>, String> {
        let said = |error: toml::de::Error| error.message().to_owned();
        let mut entry: toml::Table = toml::from_str(text).map_err(said)?;
        let all = || toml::Value::from(vec!["*"]);
        entry.entry("agents").or_insert_with(all);
        let entry = entry.try_into().map_err(said)?;
        Ok(Spanned::new(0..0, entry))
    }

    /// Where it stands, for people.
    pub(crate) fn place(&self) -> String {
        match self.line {
            0 => "`--grant`".to_owned(),
            line => format!("the [[grants]] at line {line} of the configuration"),
        }
    }

    pub(crate) fn is_for(&self, agent: AskingAgent<'_>) -> bool {
        self.agents.iter().any(|pattern| pattern.matches(agent))
    }
}

fn dollars<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MicroUsd>, D::Error> {
    let dollars = f64::deserialize(from)?;
    MicroUsd::from_dollars(dollars)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
