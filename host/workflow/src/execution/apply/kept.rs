//! Steps that were completed before and are not done again.

use super::super::earlier::Earlier;
use super::super::{Execution, Role, StepStatus};
use crate::definition::{NodeKind, Then};
use crate::duration::Timestamp;
use crate::event::Kept;
use crate::ids::StepPath;

impl Execution {
    /// Notes what a fork does not do again.
    pub(super) fn keep(&mut self, kept: &[Kept]) {
        self.earlier = kept
            .iter()
            .map(|kept| (kept.path.clone(), Box::new(Earlier::of_fork(kept))))
            .collect();
    }

    pub(super) fn step_kept(&mut self, path: &StepPath, at: Timestamp) -> Result<(), String> {
        let step = self.found(path)?;
        let earlier = self
            .kept_path(step)
            .and_then(|path| self.earlier.remove(&path))
            .ok_or_else(|| format!("nothing of `{path}` was kept"))?;
        self.take_ready(step)?;
        let node = self.node(step);
        let role = match (&node.then, &node.kind) {
            (Then::Fallback(fallback), kind) => {
                let is_own = matches!(kind, NodeKind::Step(own) if earlier.agent.as_deref() == Some(own.agent.as_str()));
                let is_fallbacks = earlier.agent.as_deref() == Some(fallback.agent.as_str());
                if is_fallbacks && !is_own {
                    Role::Fallback
                } else {
                    Role::Primary
                }
            }
            (Then::Fail | Then::Continue, _) => Role::Primary,
        };
        if self.is_block(step) {
            self.add_completed(step.frame, self.node(step).weight);
        }
        let ended_at = earlier.state.ended_at;
        let state = self.step_mut(step);
        *state = earlier.state;
        state.role = role;
        state.is_kept = true;
        self.end_step(step, StepStatus::Completed, at);
        let state = self.step_mut(step);
        // Its times are those in which it was done.
        state.ended_at = ended_at.or(state.ended_at);
        state.started_at = state.started_at.or(Some(at));
        self.leave(step, at);
        Ok(())
    }
}
