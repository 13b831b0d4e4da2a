//! An execution that failed is tried again: what was completed is kept, and all else begins anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::earlier::Earlier;
use super::super::frame::{Account, FrameId, FramePlace, Instance};
use super::super::{End, Execution, StepState, StepStatus};
use crate::duration::Timestamp;
use crate::ids::StepPath;

impl Execution {
    pub(super) fn execution_retried(&mut self, at: Timestamp) -> Result<(), String> {
        if !matches!(self.end, Some(End::Failed(..))) || self.frames.is_empty() {
            return Err("only what has failed is tried again".to_owned());
        }
        let inputs = self.inputs().clone();
        self.remember_accounts();
        self.remember_steps();
        self.frames.clear();
        self.forget_what_was_due();
        self.end = None;
        self.timed_from = at;
        self.driven_until = at;
        self.idle = Duration::ZERO;
        self.at_rest_since = None;
        let definition = Arc::clone(&self.definition);
        self.open_workflow(definition, None, inputs, String::new());
        Ok(())
    }

    fn forget_what_was_due(&mut self) {
        for set in [
            &mut self.ready,
            &mut self.running,
            &mut self.approvals,
            &mut self.in_doubt,
            &mut self.unpaid,
        ] {
            set.clear();
        }
        for set in [&mut self.retries, &mut self.timers, &mut self.deadlines] {
            set.clear();
        }
        self.failing.clear();
        self.pause = None;
        self.is_cancelling = false;
        self.has_reached_end = false;
    }

    /// What was spent stays spent, in sub-workflows too; only progress begins anew.
    fn remember_accounts(&mut self) {
        for frame in &self.frames {
            if let FramePlace::Workflow(workflow) = &frame.place {
                let account = Account {
                    fuel_reserved: 0,
                    steps_total: 0,
                    steps_completed: 0,
                    ..workflow.account
                };
                self.accounts.insert(frame.prefix.clone(), account);
            }
        }
    }

    fn remember_steps(&mut self) {
        let places = self.frames.iter().enumerate().flat_map(|(index, frame)| {
            frame.steps.keys().map(move |node| Instance {
                frame: FrameId(index),
                node: *node,
            })
        });
        let mut found: BTreeMap<StepPath, Box<Earlier>> = BTreeMap::new();
        for at in places {
            let is_kept = self.is_keepable(at);
            let Some(state) = self.step(at) else { continue };
            if !is_kept && state.attempts == 0 {
                continue;
            }
            let agent = self.node(at).agent_in(state.role);
            let earlier = Earlier {
                agent: agent.map(|agent| agent.as_str().to_owned()),
                state: if is_kept { state.clone() } else { begun(state) },
            };
            found.insert(self.path(at), Box::new(earlier));
        }
        self.earlier.extend(found);
    }

    /// The state in which a step is entered: attempts that were made before keep their numbers, and the answers that
    /// they got.
    pub(super) fn first_state(&mut self, at: Instance) -> StepState {
        if self.earlier.is_empty() {
            return StepState::new();
        }
        let path = self.path(at);
        match self.earlier.get(&path) {
            Some(earlier) if earlier.state.status != StepStatus::Completed => {
                let earlier = self.earlier.remove(&path);
                earlier.map_or_else(StepState::new, |earlier| earlier.state)
            }
            _ => StepState::new(),
        }
    }

    /// Whether a step may have had its effect before the execution was tried again, and may not be repeated unasked.
    pub(super) fn is_doubtful(&self, at: Instance) -> bool {
        self.step(at).is_some_and(|step| step.has_open_end)
            && self.agent_of(at).is_some_and(|agent| !agent.idempotent)
    }

    /// Whether an attempt was made before the execution was tried again.
    pub(super) fn is_of_earlier_try(&self, path: &StepPath, attempt: u32) -> bool {
        let is_before = |state: &StepState| attempt <= state.attempts_before;
        let entered = self.find(path).and_then(|at| self.step(at));
        let earlier = self.earlier.get(path).map(|earlier| &earlier.state);
        entered.is_some_and(is_before) || earlier.is_some_and(is_before)
    }
}

/// What is left of a step that is done again.
fn begun(state: &StepState) -> StepState {
    StepState {
        attempts: state.attempts,
        attempts_before: state.attempts,
        has_open_end: state.has_open_end,
        usage: state.usage,
        tokens: state.tokens,
        cost: state.cost,
        spent: state.spent,
        calls: state.calls.clone(),
        ..StepState::new()
    }
}
