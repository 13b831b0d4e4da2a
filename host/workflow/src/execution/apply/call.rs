//! Calls of attempts: what they reserve, and what they cost.

use super::super::frame::Instance;
use super::super::{CallRecord, Execution, StepStatus};
use crate::duration::Timestamp;
use crate::event::EventKind;
use crate::ids::StepPath;

impl Execution {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`apply_kind` has thought of every event, and sends only these here"
    )]
    pub(super) fn apply_call(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::CallStarted {
                path,
                attempt,
                call,
                kind,
                request,
                reserved,
                reserved_tokens,
                position,
                ..
            } => {
                let record = CallRecord {
                    kind: *kind,
                    request: request.clone(),
                    position: *position,
                    reserved: *reserved,
                    reserved_tokens: *reserved_tokens,
                    attempt: *attempt,
                    outcome: None,
                    ended_at: None,
                };
                self.call_started(path, *call, record)
            }
            EventKind::CallEnded {
                path,
                attempt,
                call,
                outcome,
                usage,
                cost,
                ..
            } => {
                // Late, from before the execution was tried again: it stays charged at its worst case.
                if self.is_of_earlier_try(path, *attempt) {
                    return Ok(());
                }
                let step = self.found(path)?;
                let position = usize::try_from(*call).map_err(|error| error.to_string())?;
                let state = self.step_mut(step);
                let record = state
                    .calls
                    .get_mut(position)
                    .filter(|record| record.outcome.is_none())
                    .ok_or_else(|| format!("call {call} of `{path}` is not under way"))?;
                record.outcome = Some(outcome.clone());
                record.ended_at = Some(at);
                let (reserved, tokens) = (record.reserved, record.reserved_tokens);
                state.tokens = state.tokens.plus(*usage);
                state.cost += *cost;
                let spent = state.spent.of_mut(state.role);
                spent.reserved = spent.reserved.saturating_sub(reserved);
                spent.settled += *cost;
                for home in self.homes(step.frame).collect::<Vec<_>>() {
                    let account = &mut self.workflow_mut(home).account;
                    account.reserved = account.reserved.saturating_sub(reserved);
                    account.tokens_reserved = account.tokens_reserved.saturating_sub(tokens);
                    account.settled += *cost;
                    account.tokens = account.tokens.plus(*usage);
                }
                self.note_excess();
                self.close_question(step, *call);
                Ok(())
            }
            _ => Err("this is no event of a call".to_owned()),
        }
    }

    pub(super) fn call_started(
        &mut self,
        path: &StepPath,
        call: u32,
        record: CallRecord,
    ) -> Result<(), String> {
        let step: Instance = self.found(path)?;
        let attempt = record.attempt;
        let (reserved, tokens) = (record.reserved, record.reserved_tokens);
        let state = self.step_mut(step);
        if state.status != StepStatus::Running || state.attempts != attempt {
            return Err(format!("attempt {attempt} of `{path}` does not run"));
        }
        let position = usize::try_from(call).map_err(|error| error.to_string())?;
        match position.cmp(&state.calls.len()) {
            std::cmp::Ordering::Equal => state.calls.push(record),
            // Begun anew after an interruption: the earlier try stays charged at its worst case.
            std::cmp::Ordering::Less
                if state.calls[position].outcome.is_none()
                    && state.calls[position].attempt < attempt =>
            {
                state.calls[position] = record;
            }
            std::cmp::Ordering::Less | std::cmp::Ordering::Greater => {
                return Err(format!("call {call} of `{path}` is out of order"));
            }
        }
        state.spent.of_mut(state.role).reserved += reserved;
        for home in self.homes(step.frame).collect::<Vec<_>>() {
            let account = &mut self.workflow_mut(home).account;
            account.reserved += reserved;
            account.tokens_reserved = account.tokens_reserved.saturating_add(tokens);
        }
        self.note_excess();
        Ok(())
    }
}
