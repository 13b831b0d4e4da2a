//! What each name in a template means, at the place where it stands.

use std::collections::{BTreeMap, BTreeSet};

use super::build::Visible;
use super::{Node, NodeIndex, NodeKind, Reference, Then};
use crate::fault::{Faults, nearest};
use crate::ids::Name;

/// Names that are known everywhere in a document.
#[derive(Debug)]
pub(super) struct Names {
    /// Every step and block by its id.
    pub(super) steps: BTreeMap<String, NodeIndex>,
    pub(super) agents: BTreeSet<String>,
    /// The steps of each agent, in the document's order.
    pub(super) steps_of_agents: BTreeMap<String, Vec<NodeIndex>>,
    pub(super) agent_of: BTreeMap<NodeIndex, String>,
    /// The loop around each step, by its place.
    pub(super) owners: Vec<Option<NodeIndex>>,
    /// The loops with `until` or `while`.
    pub(super) repeats: BTreeSet<NodeIndex>,
    /// The properties of the `inputs` schema; none: inputs are inferred.
    pub(super) declared_inputs: Option<BTreeSet<String>>,
    /// Where the builder stands: the step, and the loops around it with their variables.
    pub(super) at: NodeIndex,
    pub(super) loops: Vec<NodeIndex>,
    pub(super) variables: Vec<(Name, NodeIndex)>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            steps: BTreeMap::new(),
            agents: BTreeSet::new(),
            steps_of_agents: BTreeMap::new(),
            agent_of: BTreeMap::new(),
            owners: Vec::new(),
            repeats: BTreeSet::new(),
            declared_inputs: None,
            at: NodeIndex(0),
            loops: Vec::new(),
            variables: Vec::new(),
        }
    }
}

/// Whether `error` has a meaning at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorName {
    Known,
    Unknown,
}

/// A place in the document with what can be seen from there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) names: &'a Names,
    /// The nodes that have ended when this place is reached.
    pub(super) visible: &'a Visible,
    /// The nodes that are built so far.
    pub(super) nodes: &'a [Node],
    pub(super) error: ErrorName,
}

impl Place<'_> {
    /// Resolves a name; a fault is added where it means nothing here.
    pub(super) fn resolve(
        &self,
        name: &str,
        pointer: &str,
        column: usize,
        faults: &mut Faults,
    ) -> Option<Reference> {
        let found = match self
            .names
            .variables
            .iter()
            .find(|(known, _)| known.as_str() == name)
        {
            Some((_, index)) => Ok(Reference::Variable(*index)),
            None => self
                .step(name)
                .or_else(|| self.agent(name))
                .or_else(|| self.reserved(name))
                .unwrap_or_else(|| self.input(name)),
        };
        found
            .map_err(|message| faults.add_at(pointer, column, message))
            .ok()
    }

    fn step(&self, name: &str) -> Option<Result<Reference, String>> {
        let index = *self.names.steps.get(name)?;
        if self.visible.contains(index) {
            return Some(Ok(Reference::Step(index)));
        }
        if self.is_of_round_before(index) {
            return Some(Ok(Reference::Previous(index)));
        }
        // An agent whose id an unreachable step bears may have other steps.
        let bears_own_agents_id = self
            .names
            .agent_of
            .get(&index)
            .is_some_and(|agent| agent == name);
        if bears_own_agents_id && self.latest_of(name).next().is_some() {
            return None;
        }
        let inside = self.names.owners.get(index.0).copied().flatten();
        let why = match inside {
            Some(owner) if !self.names.loops.contains(&owner) => {
                "it is inside a loop, whose names end with it; use the loop's `results`"
            }
            _ => "it comes later, or runs at the same time in another branch",
        };
        Some(Err(format!("the step `{name}` has not ended here: {why}")))
    }

    /// Whether a step comes later in a repeated body around this place: then its name means the round before.
    fn is_of_round_before(&self, index: NodeIndex) -> bool {
        let owner = self.names.owners.get(index.0).copied().flatten();
        owner.is_some_and(|owner| {
            index >= self.names.at
                && self.names.repeats.contains(&owner)
                && self.names.loops.contains(&owner)
        })
    }

    fn agent(&self, name: &str) -> Option<Result<Reference, String>> {
        if !self.names.agents.contains(name) {
            return None;
        }
        let mut before: Vec<NodeIndex> = Vec::new();
        for index in self.latest_of(name) {
            before.push(index);
            if self.surely_finishes(index) {
                break;
            }
        }
        if !before.is_empty() {
            before.reverse();
            return Some(Ok(Reference::Agent(before)));
        }
        let steps = self.names.steps_of_agents.get(name);
        let previous = steps
            .into_iter()
            .flatten()
            .rev()
            .find(|index| self.is_of_round_before(**index));
        Some(match previous {
            Some(index) => Ok(Reference::Previous(*index)),
            None => Err(format!("no step of the agent `{name}` has ended here")),
        })
    }

    /// The steps of an agent that can be seen, the latest first.
    fn latest_of(&self, agent: &str) -> impl Iterator<Item = NodeIndex> {
        self.names
            .steps_of_agents
            .get(agent)
            .into_iter()
            .flatten()
            .rev()
            .copied()
            .filter(|index| self.visible.contains(*index))
    }

    /// Whether a step that can be seen has finished for certain, so that none before it can be meant.
    fn surely_finishes(&self, index: NodeIndex) -> bool {
        let is_certain = |node: &Node| node.guard.is_none() && !matches!(node.then, Then::Continue);
        let mut at = Some(index);
        while let Some(index) = at {
            let Some(node) = self.nodes.get(index.0) else {
                return false;
            };
            // A block that has not ended is one around this place: it is being run.
            let is_around = !self.visible.contains(index);
            let is_branch = matches!(node.kind, NodeKind::Branch { .. });
            if !is_around && (!is_certain(node) || is_branch) {
                return false;
            }
            at = node.parent;
        }
        true
    }

    fn input(&self, name: &str) -> Result<Reference, String> {
        let Some(declared) = &self.names.declared_inputs else {
            return Ok(Reference::Input(name.to_owned()));
        };
        if declared.contains(name) {
            return Ok(Reference::Input(name.to_owned()));
        }
        let known = self
            .names
            .steps
            .keys()
            .chain(&self.names.agents)
            .chain(declared)
            .map(String::as_str);
        let hint = nearest(name, known)
            .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
        Err(format!(
            "`{name}` is no step, no agent and no input that `inputs` declares{hint}"
        ))
    }

    /// The words with a meaning of their own.
    fn reserved(&self, name: &str) -> Option<Result<Reference, String>> {
        Some(match (name, self.error) {
            ("inputs", _) => Ok(Reference::Inputs),
            ("steps", _) => Ok(Reference::Steps),
            ("execution", _) => Ok(Reference::Execution),
            ("error", ErrorName::Known) => Ok(Reference::Error),
            ("error", ErrorName::Unknown) => {
                Err("`error` has a meaning only in a fallback's input".to_owned())
            }
            ("loop", _) => Ok(Reference::Loop {
                around: self.names.loops.last().copied(),
                before: self.loop_before(),
            }),
            ("secrets", _) => {
                Err("`secrets` has a meaning only in settings of tools and providers".to_owned())
            }
            _ => return None,
        })
    }

    /// The last loop before this place that has ended here.
    fn loop_before(&self) -> Option<NodeIndex> {
        self.visible.latest().find(|index| {
            self.nodes
                .get(index.0)
                .is_some_and(|node| matches!(node.kind, NodeKind::Loop(_)))
        })
    }
}
