//! What each name in a template means, at the place where it stands.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeIndex, Reference};
use crate::fault::{Faults, nearest};

/// Names that are known everywhere in a document.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Every step and block by its id.
    pub(super) steps: BTreeMap<String, NodeIndex>,
    /// Those of them that are blocks: they have no value.
    pub(super) blocks: BTreeSet<NodeIndex>,
    pub(super) agents: BTreeSet<String>,
    /// The steps of each agent, in the document's order.
    pub(super) steps_of_agents: BTreeMap<String, Vec<NodeIndex>>,
    /// The properties of the `inputs` schema; none: inputs are inferred.
    pub(super) declared_inputs: Option<BTreeSet<String>>,
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
    pub(super) visible: &'a BTreeSet<NodeIndex>,
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
        let fault = |message: String, faults: &mut Faults| {
            faults.add_at(pointer, column, message);
            None
        };
        if let Some(index) = self.names.steps.get(name) {
            if self.names.blocks.contains(index) {
                let message =
                    format!("`{name}` is a parallel block, which has no value; name a step in it");
                return fault(message, faults);
            }
            if self.visible.contains(index) {
                return Some(Reference::Step(*index));
            }
            return fault(
                format!(
                    "the step `{name}` has not ended here: it comes later, or runs at the same time in another branch"
                ),
                faults,
            );
        }
        if self.names.agents.contains(name) {
            let steps = self
                .names
                .steps_of_agents
                .get(name)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let before: Vec<NodeIndex> = steps
                .iter()
                .copied()
                .filter(|index| self.visible.contains(index))
                .collect();
            if before.is_empty() {
                return fault(
                    format!("no step of the agent `{name}` has ended here"),
                    faults,
                );
            }
            return Some(Reference::Agent(before));
        }
        match self.reserved(name) {
            Some(Ok(reference)) => return Some(reference),
            Some(Err(message)) => return fault(message.to_owned(), faults),
            None => {}
        }
        match &self.names.declared_inputs {
            Some(declared) if !declared.contains(name) => {
                let known = self
                    .names
                    .steps
                    .keys()
                    .chain(&self.names.agents)
                    .chain(declared)
                    .map(String::as_str);
                let hint = nearest(name, known)
                    .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
                fault(
                    format!(
                        "`{name}` is no step, no agent and no input that `inputs` declares{hint}"
                    ),
                    faults,
                )
            }
            _ => Some(Reference::Input(name.to_owned())),
        }
    }

    /// The words with a meaning of their own.
    fn reserved(&self, name: &str) -> Option<Result<Reference, &'static str>> {
        Some(match (name, self.error) {
            ("inputs", _) => Ok(Reference::Inputs),
            ("steps", _) => Ok(Reference::Steps),
            ("execution", _) => Ok(Reference::Execution),
            ("error", ErrorName::Known) => Ok(Reference::Error),
            ("error", ErrorName::Unknown) => {
                Err("`error` has a meaning only in a fallback's input")
            }
            ("loop", _) => Err("there is no loop here"),
            ("secrets", _) => {
                Err("`secrets` has a meaning only in settings of tools and providers")
            }
            _ => return None,
        })
    }
}
