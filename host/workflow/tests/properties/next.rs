//! What may happen next in a world, and how it happens.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_workflow::{
    AnswerError, BudgetVerdict, CallKind, CallOutcome, Code, Command, EventKind, Failure, MicroUsd,
    RaisedBudgets, StepPath, StepUsage, Timestamp, Usage,
};

use super::document::Mood;
use super::script::PlannedCall;
use super::world::{Running, World};

/// What may happen next.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    Goes(usize),
    Wakes(Timestamp),
    Answers(StepPath),
    Resumes(RaisedBudgets),
    EndsPause,
    /// The end of a call whose step was cancelled meanwhile.
    EndsLate(usize),
}

impl World {
    pub(crate) fn options(&self) -> Vec<Next> {
        let mut options: Vec<Next> = (0..self.running.len())
            .filter(|index| self.may_go(&self.running[*index]))
            .map(Next::Goes)
            .collect();
        let wakes = self.execution.decide(self.now).into_iter();
        options.extend(wakes.filter_map(|command| match command {
            // Where things are calm, nobody waits for the time limit.
            Command::WakeAt(time) if self.script.mood == Mood::Calm && time > self.day_later() => {
                None
            }
            Command::WakeAt(time) => Some(Next::Wakes(time)),
            Command::Record(_) | Command::Start(_) | Command::Cancel { .. } => None,
        }));
        let asked = self.execution.waiting_approvals().into_iter();
        options.extend(asked.filter_map(|waiting| {
            let given = waiting.approval.answers.len();
            self.script.answer(&waiting.path, given)?;
            Some(Next::Answers(waiting.path))
        }));
        if self.execution.paused().is_some() {
            options.push(Next::EndsPause);
        } else if !self.execution.unpaid().is_empty() && self.raises_left > 0 {
            options.push(Next::Resumes(self.ledger.raised()));
        } else if !self.execution.in_doubt().is_empty() {
            options.push(Next::Resumes(RaisedBudgets::default()));
        }
        options.extend((0..self.late.len()).map(Next::EndsLate));
        options
    }

    fn day_later(&self) -> Timestamp {
        self.now.plus(Duration::from_secs(86_400))
    }

    /// A call that does not fit waits while others hold reservations.
    fn may_go(&self, running: &Running) -> bool {
        let Some(call) = running.ahead.last().filter(|_| running.open.is_none()) else {
            return true;
        };
        self.verdict(running, call) == BudgetVerdict::Allowed
            || !self.execution.holds_reservations()
    }

    fn verdict(&self, running: &Running, call: &PlannedCall) -> BudgetVerdict {
        let usd = MicroUsd::new(call.reserved);
        self.execution
            .check_reserve(&running.path, usd, call.reserved_tokens)
    }

    pub(crate) fn happens(&mut self, next: Next) {
        match next {
            Next::Goes(index) => self.goes(index),
            Next::Wakes(time) => self.now = time.max(self.now),
            Next::Answers(path) => {
                let asked = self.execution.waiting_approvals();
                let asked = asked.iter().find(|waiting| waiting.path == path);
                let given = asked.map_or(0, |waiting| waiting.approval.answers.len());
                if let Some(answer) = self.script.answer(&path, given) {
                    let kind = self.execution.answer(Some(path.as_str()), answer, self.now);
                    match kind {
                        Ok(kind) => self.record(kind),
                        // Its deadline is now, and is decided about next.
                        Err(AnswerError::TooLate { .. }) => {}
                        Err(error) => panic!("the answer is right: {error}"),
                    }
                }
            }
            Next::Resumes(raised) => {
                let kinds = self.execution.resume(&raised);
                for kind in kinds.expect("what is raised may be") {
                    self.record(kind);
                }
                self.raises_left = self.raises_left.saturating_sub(1);
            }
            Next::EndsPause => {
                let ended = self.execution.end_pause(None);
                self.record(ended.expect("it is paused"));
            }
            Next::EndsLate(index) => {
                let (path, attempt, call, planned) = self.late.remove(index);
                self.record(call_ended(&path, (attempt, call), &planned));
            }
        }
    }

    /// Goes one bit further in an attempt.
    fn goes(&mut self, index: usize) {
        let (path, attempt) = (
            self.running[index].path.clone(),
            self.running[index].attempt,
        );
        if let Some((call, planned)) = self.running[index].open.take() {
            if self.script.mood == Mood::Any && self.dice.roll(20) == 0 {
                // It takes too long: nobody knows how the call ends.
                let failure = Failure::new(Code::TimedOut, "it took too long");
                return self.ends(index, Err(failure));
            }
            return self.record(call_ended(&path, (attempt, call), &planned));
        }
        let Some(planned) = self.running[index].ahead.pop() else {
            let result = self.running[index].plan.result.clone();
            return self.ends(index, result);
        };
        match self.verdict(&self.running[index], &planned) {
            BudgetVerdict::Allowed => {
                let call = self.execution.next_call(&path, &planned.request, None);
                self.record(EventKind::CallStarted {
                    path,
                    attempt,
                    call,
                    kind: CallKind::Model,
                    target: "m".to_owned(),
                    request: planned.request.clone(),
                    reserved: MicroUsd::new(planned.reserved),
                    reserved_tokens: planned.reserved_tokens,
                    position: None,
                });
                self.running[index].open = Some((call, planned));
            }
            BudgetVerdict::Refused(failure) => self.ends(index, Err(failure)),
            BudgetVerdict::Paused(reason) => {
                self.running.remove(index);
                self.record(EventKind::StepPaused {
                    path,
                    attempt,
                    reason,
                    usage: None,
                    raises: self.execution.budget_raises(),
                });
            }
        }
    }

    fn ends(&mut self, index: usize, result: Result<Value, Failure>) {
        let Running {
            path,
            attempt,
            fuel,
            plan,
            ..
        } = self.running.remove(index);
        let usage = StepUsage {
            // Only of code it is bounded, and only where there is a budget.
            fuel: plan.fuel.min(fuel.unwrap_or_default()),
            memory_bytes: 7,
            guest_ms: 2,
            ..StepUsage::default()
        };
        let text = plan.text;
        self.record(match result {
            Ok(output) => EventKind::StepCompleted {
                path,
                attempt,
                output,
                text,
                usage,
            },
            Err(failure) => EventKind::StepFailed {
                path,
                attempt,
                failure,
                usage,
            },
        });
    }
}

fn call_ended(path: &StepPath, (attempt, call): (u32, u32), planned: &PlannedCall) -> EventKind {
    EventKind::CallEnded {
        path: path.clone(),
        attempt,
        call,
        outcome: match &planned.failure {
            Some(failure) => CallOutcome::Failed(failure.clone()),
            None => CallOutcome::Answered(json!({"to": planned.request})),
        },
        usage: Usage {
            input_tokens: planned.input_tokens,
            cached_input_tokens: 0,
            output_tokens: planned.output_tokens,
        },
        cost: MicroUsd::new(planned.cost),
    }
}
