//! What the operator leaves an agent of the models, sources, tools and people that its workflow grants.

use std::collections::BTreeSet;

use troupe_sandbox::{Narrowed, Withheld, fits};
use troupe_workflow::{Agent, AgentKind, CodeAgent, Definition, Tool};

use super::{Granted, Granting, asking};
use crate::config::{AskingAgent, GrantEntry};

/// A key of the operator's by which an agent is given less than its workflow grants: without it in any entry for the
/// agent, everything that the workflow grants is given.
#[derive(Clone, Copy)]
pub(super) struct Narrowing {
    key: &'static str,
    pub(super) capability: &'static str,
    names: fn(&GrantEntry) -> Option<&Vec<String>>,
}

pub(super) const MODELS: Narrowing = Narrowing {
    key: "models",
    capability: "llm",
    names: |entry| entry.models.as_ref(),
};
pub(super) const SEARCH: Narrowing = Narrowing {
    key: "search",
    capability: "search",
    names: |entry| entry.search.as_ref(),
};
pub(super) const TOOLS: Narrowing = Narrowing {
    key: "tools",
    capability: "tools",
    names: |entry| entry.tools.as_ref(),
};
pub(super) const HUMAN: Narrowing = Narrowing {
    key: "human",
    capability: "human",
    names: |entry| entry.human.as_ref(),
};

/// Tools of which a denial says who has them. Protects the host, which has all of them ready for each call.
const TOOLS_TOLD_MAX: usize = 100;

impl Granting {
    /// Whether the operator leaves an agent something that its workflow grants it, and where that is said.
    pub(super) fn narrowed(
        &self,
        asking: AskingAgent<'_>,
        by: Narrowing,
        name: &str,
    ) -> Granted<String> {
        let mut entries = self.entries_for(asking);
        let leaves = |entry: &&GrantEntry| {
            let mut names = (by.names)(entry).into_iter().flatten();
            names.any(|pattern| fits(pattern, name))
        };
        if let Some(entry) = entries.find(leaves) {
            return Ok(entry.place());
        }
        match self.left(asking, by) {
            None => Ok(NOT_NARROWED.to_owned()),
            Some(left) => Err(left.remedy(name)),
        }
    }

    /// Whether the operator leaves an agent anybody to ask, where its workflow lets it ask whom it likes; and where that is
    /// said.
    pub(super) fn anybody(&self, asking: AskingAgent<'_>) -> Granted<String> {
        let Some(left) = self.left(asking, HUMAN) else {
            return Ok(NOT_NARROWED.to_owned());
        };
        if left.patterns.is_empty() {
            return Err(left.remedy("…"));
        }
        let entries = self.entries_for(asking);
        let mut narrowing = entries.filter(|entry| entry.human.is_some());
        let of_all = |entry: &&GrantEntry| entry.human.iter().flatten().any(|it| it == "*");
        if let Some(entry) = narrowing.find(of_all) {
            return Ok(entry.place());
        }
        let entries = self.entries_for(asking);
        let places = entries.filter(|entry| entry.human.as_ref().is_some_and(|it| !it.is_empty()));
        let places: Vec<String> = places.map(GrantEntry::place).collect();
        Ok(format!(
            "{}, for {} only",
            places.join(" and "),
            left.patterns.join(", ")
        ))
    }

    /// The same for the sandbox, for what is denied by the names that the operator knows. Tools are called by others.
    pub(super) fn narrowed_all(&self, asking: AskingAgent<'_>) -> Vec<Narrowed> {
        let all = [MODELS, SEARCH, HUMAN].into_iter();
        all.filter_map(|by| self.left(asking, by)).collect()
    }

    /// What would grant the tools of a workflow that an agent is not given, by the names by which agents call them.
    pub(super) fn other_tools(
        &self,
        definition: &Definition,
        (agent, code): (&Agent, &CodeAgent),
    ) -> Vec<Withheld> {
        let asking = asking(definition.name(), agent, code);
        let is_asked = |id: &str| code.grants.tools.iter().flatten().any(|it| it == id);
        let (mut all, mut named) = (Vec::new(), BTreeSet::new());
        // Of two tools of one name that is told which was asked for.
        let (asked, others): (Vec<_>, Vec<_>) = definition
            .agents()
            .partition(|tool_agent| is_asked(tool_agent.id.as_str()));
        for tool_agent in asked.into_iter().chain(others) {
            let id = tool_agent.id.as_str();
            let AgentKind::Tool(tools) = &tool_agent.kind else {
                continue;
            };
            let remedy = match is_asked(id) {
                true => match self.narrowed(asking, TOOLS, id) {
                    Ok(_) => continue,
                    Err(remedy) => remedy,
                },
                false => self.to_have_tools(asking, id),
            };
            let names = tools.tools.iter().filter_map(|tool| match tool {
                Tool::Component(tool) => Some(tool.name.to_string()),
                Tool::Named(_) => None,
            });
            all.extend(
                names
                    .filter(|name| named.insert(name.clone()))
                    .map(|name| Withheld {
                        capability: TOOLS.capability.to_owned(),
                        name,
                        remedy: remedy.clone(),
                    }),
            );
        }
        all.truncate(TOOLS_TOLD_MAX);
        all
    }

    /// What would give an agent the tools of a tool agent that its workflow does not grant it.
    fn to_have_tools(&self, asking: AskingAgent<'_>, id: &str) -> String {
        let by_workflow = format!("add `\"tools\": [\"{id}\"]` to the agent's `grants`");
        let left = self.left(asking, TOOLS);
        match left.filter(|left| !left.leaves(id)) {
            Some(left) => format!("{by_workflow}, and {}", left.addition(id)),
            None => by_workflow,
        }
    }

    /// What the operator leaves an agent; none: no entry says anything of it.
    fn left(&self, asking: AskingAgent<'_>, by: Narrowing) -> Option<Narrowed> {
        let (mut patterns, mut last) = (Vec::new(), None);
        for entry in self.entries_for(asking) {
            if let Some(names) = (by.names)(entry) {
                patterns.extend(names.iter().cloned());
                last = Some(entry);
            }
        }
        Some(Narrowed {
            capability: by.capability.to_owned(),
            patterns,
            place: format!("`{}` of {}", by.key, last?.place()),
        })
    }
}

/// Where everything is said that the operator does not narrow.
const NOT_NARROWED: &str = "the workflow; no [[grants]] narrows it";
