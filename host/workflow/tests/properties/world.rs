//! An execution with its journal, driven by hand: what happens next is drawn by lot, and every event is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use troupe_workflow::{
    CallOutcome, Command, Definition, Event, EventKind, Execution, ExecutionId, ExecutionStatus,
    Kept, Progress, StartStep, StepPath, Timestamp,
};

use super::document::Written;
use super::ledger::Ledger;
use super::next::Next;
use super::script::{Dice, Plan, PlannedCall, Script};

/// Protects a test from an execution that never rests.
const EVENTS_MAX: usize = 20_000;

/// What happens besides, of a thousand moments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Disturbances {
    pub(crate) crashes: u64,
    pub(crate) cancels: u64,
    pub(crate) pauses: u64,
    /// Of a thousand failures, how many are tried again.
    pub(crate) retries: u64,
}

/// An attempt under way.
pub(crate) struct Running {
    pub(crate) path: StepPath,
    pub(crate) attempt: u32,
    pub(crate) fuel: Option<u64>,
    pub(crate) plan: Plan,
    /// The calls that it still has to make, the next one last.
    pub(crate) ahead: Vec<PlannedCall>,
    pub(crate) open: Option<(u32, PlannedCall)>,
}

pub(crate) struct World {
    pub(crate) execution: Execution,
    pub(crate) journal: Vec<Event>,
    pub(crate) script: Script,
    pub(crate) dice: Dice,
    /// When it lives on from a snapshot; of its own, so that nothing else changes.
    snapshots: Dice,
    disturbances: Disturbances,
    pub(crate) now: Timestamp,
    pub(crate) running: Vec<Running>,
    pub(crate) late: Vec<(StepPath, u32, u32, PlannedCall)>,
    failed: BTreeMap<StepPath, u32>,
    /// The requests that were answered: nobody asks them again.
    answered: BTreeSet<String>,
    pub(crate) ledger: Ledger,
    progress: Progress,
    crashes_left: u32,
    pub(crate) raises_left: u32,
    retries_left: u32,
}

impl World {
    pub(crate) fn new(written: &Written, script: Script, order: u64) -> Self {
        let definition = Definition::compile(&written.document).map(Arc::new);
        let definition = definition.unwrap_or_else(|faults| panic!("{faults}"));
        let inputs = json!({"topic": "{{ depth }}", "flag": script.seed.is_multiple_of(2), "entries": [0, null], "depth": 0});
        let checked = definition.check_inputs(&inputs);
        checked.unwrap_or_else(|faults| panic!("{faults}"));
        Self::begun(written, script, order, (definition, inputs, Vec::new()))
    }

    /// A fork of an execution that has ended, which keeps what was done before a step.
    pub(crate) fn forked(written: &Written, from: &Self, step: &StepPath, order: u64) -> Self {
        let kept = from.execution.fork(step).expect("the step was reached");
        let definition = Arc::clone(from.execution.definition());
        let inputs = from.execution.inputs().clone();
        Self::begun(written, from.script, order, (definition, inputs, kept))
    }

    fn begun(
        written: &Written,
        script: Script,
        order: u64,
        (definition, inputs, kept): (Arc<Definition>, Value, Vec<Kept>),
    ) -> Self {
        let created = EventKind::ExecutionCreated {
            workflow: definition.name().to_owned(),
            digest: definition.digest().clone(),
            inputs,
            forked_from: None,
            kept,
        };
        let execution = Execution::replay(ExecutionId::from_parts(1, 7), definition, &[]);
        let execution = execution.expect("nothing is always legal");
        let mut world = Self {
            progress: Progress {
                completed: 0,
                total: 0,
            },
            execution,
            journal: Vec::new(),
            script,
            dice: Dice::of(order, "order"),
            snapshots: Dice::of(order, "snapshots"),
            disturbances: Disturbances::default(),
            now: Timestamp::from_millis(1_000),
            running: Vec::new(),
            late: Vec::new(),
            failed: BTreeMap::new(),
            answered: BTreeSet::new(),
            ledger: Ledger::new(written),
            crashes_left: 8,
            raises_left: 3,
            retries_left: 3,
        };
        world.record(created);
        world
    }

    pub(crate) fn disturbed(mut self, disturbances: Disturbances) -> Self {
        self.disturbances = disturbances;
        self
    }

    /// Runs until it has ended, or nothing more can happen.
    pub(crate) fn run(mut self) -> Self {
        while self.journal.len() < EVENTS_MAX {
            self.follow();
            if self.is_tried_again() {
                continue;
            }
            if self.execution.status().is_terminal() {
                return self;
            }
            if self.dice.roll(1_000) < self.disturbances.crashes {
                self.crash();
                continue;
            }
            if self.dice.roll(1_000) < self.disturbances.cancels {
                self.disturbances.cancels = 0;
                self.record(EventKind::CancelRequested);
                continue;
            }
            if self.execution.paused().is_none() && self.dice.roll(1_000) < self.disturbances.pauses
            {
                let pause = self.execution.pause(Some("ann"), None);
                self.record(pause.expect("it goes on, so it can be paused"));
                continue;
            }
            let mut options = self.options();
            // Time is slow: mostly other things happen first.
            if options.len() > 1 && self.dice.roll(12) > 0 {
                options.retain(|next| !matches!(next, Next::Wakes(_)));
            }
            let Some(next) = self.dice.choose(&options).cloned() else {
                self.check_rest();
                return self;
            };
            let millis = i64::try_from(self.dice.roll(60)).unwrap_or_default();
            self.now = Timestamp::from_millis(self.now.as_millis() + millis);
            self.happens(next);
        }
        panic!("it does not end");
    }

    fn is_tried_again(&mut self) -> bool {
        let again = self.execution.status() == ExecutionStatus::Failed
            && self.retries_left > 0
            && self.dice.roll(1_000) < self.disturbances.retries;
        if again {
            self.retries_left -= 1;
            let retry = self.execution.retry(Some("ann"));
            self.progress = Progress {
                completed: 0,
                total: 0,
            };
            // Nobody hears any more of what was stopped before.
            self.late.clear();
            self.record(retry.expect("it has failed"));
        }
        again
    }

    /// Appends and applies an event, and checks what holds after each.
    pub(crate) fn record(&mut self, kind: EventKind) {
        let event = Event { at: self.now, kind };
        let stored = serde_json::to_string(&event).expect("events are JSON");
        let read: Event = serde_json::from_str(&stored).expect("what was written is read");
        assert_eq!(read, event);
        let applied = self.execution.apply(&read);
        assert_eq!(applied, Ok(()), "{event:?}");
        let progress = self.execution.progress();
        assert!(
            progress.completed <= progress.total
                && progress.completed >= self.progress.completed
                && progress.total >= self.progress.total,
            "{progress:?} after {:?}, at {event:?}",
            self.progress
        );
        self.progress = progress;
        if self.execution.status() == ExecutionStatus::Completed {
            assert_eq!(progress.completed, progress.total, "all is done: {event:?}");
        }
        self.ledger.note(&event, &self.execution);
        match &event.kind {
            EventKind::StepFailed { path, .. } => {
                *self.failed.entry(path.clone()).or_default() += 1;
            }
            EventKind::CallStarted { request, .. } => {
                assert!(!self.answered.contains(request), "{request} is asked twice");
            }
            EventKind::CallEnded {
                outcome: CallOutcome::Answered(answer),
                ..
            } => {
                let request = answer["to"].as_str().unwrap_or_default();
                self.answered.insert(request.to_owned());
            }
            _ => {}
        }
        self.journal.push(event);
        if self.snapshots.roll(8) == 0 {
            self.live_on_from_a_snapshot();
        }
    }

    /// A snapshot leads to the same state, and all that comes is checked on what was restored.
    fn live_on_from_a_snapshot(&mut self) {
        let snapshot = self.execution.snapshot().expect("the state is JSON");
        let definition = Arc::clone(self.execution.definition());
        let restored = Execution::restore(self.execution.id(), definition, &snapshot);
        let restored = restored.unwrap_or_else(|error| panic!("{error}: {}", snapshot.state));
        assert!(restored == self.execution, "a snapshot leads elsewhere");
        assert_eq!(
            described(&restored.decide(self.now)),
            described(&self.execution.decide(self.now)),
            "what is to be done is the same"
        );
        self.execution = restored;
    }

    /// Does what is decided until nothing is.
    fn follow(&mut self) {
        loop {
            assert!(self.journal.len() < EVENTS_MAX, "it does not end");
            let commands = self.execution.decide(self.now);
            let again = self.execution.decide(self.now);
            let is_held = self.execution.paused().is_some() && !self.execution.is_cancelling();
            assert!(
                commands.is_empty() || !is_held,
                "a pause holds {commands:?}"
            );
            assert_eq!(
                described(&commands),
                described(&again),
                "asking changes nothing"
            );
            let mut has_acted = false;
            for command in commands {
                match command {
                    Command::Record(kind) => self.record(kind),
                    Command::Start(start) => self.start(*start),
                    Command::Cancel { path } => self.cancel(path),
                    Command::WakeAt(_) => continue,
                }
                has_acted = true;
                let last = self.journal.last().map(|event| &event.kind);
                let has_failed = matches!(last, Some(EventKind::StepFailed { .. }));
                if has_failed || self.execution.status().is_terminal() {
                    break;
                }
            }
            if !has_acted {
                return;
            }
        }
    }

    fn start(&mut self, start: StartStep) {
        self.record(start.event());
        let failed = self.failed.get(&start.path).copied().unwrap_or_default();
        let plan = self.script.attempt(&start.path, failed);
        let is_known = |call: &PlannedCall| {
            start.recorded.iter().any(|known| {
                let is_answered = matches!(known.outcome, Some(CallOutcome::Answered(_)));
                is_answered && known.request == call.request
            })
        };
        let ahead = plan.calls.iter().rev().filter(|call| !is_known(call));
        self.running.push(Running {
            ahead: ahead.cloned().collect(),
            path: start.path,
            attempt: start.attempt,
            fuel: start.fuel.map(|fuel| fuel.units),
            plan,
            open: None,
        });
    }

    fn cancel(&mut self, path: StepPath) {
        let index = self.running.iter().position(|running| running.path == path);
        let stopped = self.running.remove(index.expect("what is cancelled runs"));
        if let Some((call, planned)) = stopped.open {
            self.late
                .push((path.clone(), stopped.attempt, call, planned));
        }
        self.record(EventKind::StepCancelled { path });
    }

    /// The process dies, and another takes the execution up from its journal.
    fn crash(&mut self) {
        if self.crashes_left == 0 {
            return;
        }
        self.crashes_left -= 1;
        self.running.clear();
        self.late.clear();
        self.execution = super::replayed(&self.execution, &self.journal);
        let interrupted = self.execution.running();
        self.record(EventKind::ExecutionRecovered);
        for (path, attempt) in interrupted {
            self.record(EventKind::StepInterrupted { path, attempt });
        }
    }

    /// Nothing can happen: then it waits for people, who do nothing.
    fn check_rest(&self) {
        let status = self.execution.status();
        let rests = matches!(
            status,
            ExecutionStatus::WaitingApproval | ExecutionStatus::Paused
        );
        assert!(
            rests && self.execution.waits_for_people(),
            "it is stuck: {status:?}"
        );
    }
}

/// Commands as far as they can be compared.
fn described(commands: &[Command]) -> Vec<String> {
    let described = commands.iter().map(|command| match command {
        Command::Start(start) => format!("{:?} {}", start.event(), start.idempotency_key),
        other => format!("{other:?}"),
    });
    described.collect()
}
