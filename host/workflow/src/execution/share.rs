//! The share of an agent: what the models that it asks itself may cost in one step, out of what its workflow has.
//!
//! It holds for all attempts of the step together, and whatever `on_budget_exceeded` says: a grant is not passed over,
//! and nobody can raise it.

use serde::{Deserialize, Serialize};

use super::budget::ReserveError;
use super::frame::Instance;
use super::{Execution, Role};
use crate::document::AgentKind;
use crate::failure::Failure;
use crate::ids::StepPath;
use crate::money::MicroUsd;

/// What the calls of one step cost that one of its agents made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// What calls that have ended cost.
    pub(crate) settled: MicroUsd,
    /// What calls that have not ended, or whose end is unknown, may cost.
    pub(crate) reserved: MicroUsd,
}

/// The same for each agent that may do the step: a fallback's share is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SpentByRole {
    primary: Spent,
    fallback: Spent,
}

impl SpentByRole {
    pub(crate) fn of(&self, role: Role) -> Spent {
        match role {
            Role::Primary => self.primary,
            Role::Fallback => self.fallback,
        }
    }

    pub(crate) fn of_mut(&mut self, role: Role) -> &mut Spent {
        match role {
            Role::Primary => &mut self.primary,
            Role::Fallback => &mut self.fallback,
        }
    }
}

/// The share of a step's agent.
struct Share {
    budget: MicroUsd,
    left: MicroUsd,
}

impl Execution {
    /// What is left of the share of a step's agent, of which somebody else may allow it less than its workflow; none: it
    /// has no share of its own.
    pub(super) fn share_left(&self, at: Instance, most: Option<MicroUsd>) -> Option<MicroUsd> {
        self.share(at, most).map(|share| share.left)
    }

    /// Why a call of a step that may cost so much does not fit its agent's share.
    pub(super) fn check_share(
        &self,
        at: Instance,
        asked: MicroUsd,
        most: Option<MicroUsd>,
    ) -> Option<Failure> {
        let Share { budget, left } = self.share(at, most)?;
        (asked > left).then(|| {
            let error = ReserveError::Share {
                asked,
                left,
                budget,
            };
            Failure::of_budget(error.to_string(), Some(self.path(at)))
        })
    }

    /// Whether calls are under way that may give back something of what a refused call of a step needs: of a share only
    /// the step's own may.
    pub fn may_be_given_back(&self, path: &StepPath, refused: &Failure) -> bool {
        if refused.cap_of.as_ref() != Some(path) {
            return self.holds_reservations();
        }
        self.find(path)
            .and_then(|at| self.running.contains(&at).then(|| self.step(at))?)
            .is_some_and(super::StepState::holds_reservations)
    }

    fn share(&self, at: Instance, most: Option<MicroUsd>) -> Option<Share> {
        let budget = match &self.agent_of(at)?.kind {
            AgentKind::Code(code) => code.grants.llm_budget.into_iter().chain(most).min()?,
            AgentKind::Llm(_) | AgentKind::Search(_) | AgentKind::Tool(_) | AgentKind::Human(_) => {
                return None;
            }
        };
        let step = self.step(at)?;
        let spent = step.spent.of(step.role);
        Some(Share {
            budget,
            left: budget.saturating_sub(spent.settled + spent.reserved),
        })
    }
}
