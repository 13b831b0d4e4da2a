//! One run of a workflow: the state that its events lead to, and what is to be done next.
//!
//! State changes only in [`Execution::apply`]; [`Execution::decide`] only reads. Starting, recovering and
//! testing all go through these two.

mod apply;
mod approval;
mod budget;
mod decide;
mod earlier;
mod fork;
mod frame;
mod lookup;
mod operation;
mod scope;
mod share;
mod snapshot;
mod step_state;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::{Definition, RequiredFields};
use crate::document::Config;
use crate::duration::Timestamp;
use crate::event::{Event, ForkedFrom};
use crate::failure::Failure;
use crate::ids::{ExecutionId, Name, StepPath};

use self::budget::Budgets;
use self::earlier::Earlier;
use self::frame::{Account, Frame, FrameId, Instance};
pub use approval::AnswerError;
pub use budget::{BudgetKind, BudgetVerdict, GivenFuel, RaisedBudgets, ReserveError};
pub use fork::ForkError;
pub use operation::{OperationError, Pause};
pub use snapshot::{Snapshot, SnapshotError};
pub(crate) use step_state::Role;
pub use step_state::{Approval, CallRecord, OpenQuestion, Series, StepState, StepStatus, WaitsFor};
pub use view::{Progress, StepView, WaitingApproval};

/// An event that does not fit the state: our bug, or a journal that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {position} does not fit: {message}")]
pub struct IllegalEvent {
    /// The event's position in the execution's journal, from 1.
    pub position: u64,
    pub message: String,
}

/// How far an execution has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// It is recorded, and nobody has begun with it.
    Queued,
    Running,
    /// All that is left waits for people.
    WaitingApproval,
    /// All that is left waits for timers.
    Waiting,
    /// A person must say how it goes on: somebody paused it, or a step is in doubt, or a budget has nothing left.
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl ExecutionStatus {
    /// Every status there is.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::WaitingApproval,
        Self::Waiting,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The status of a word, as [`as_str`](Self::as_str) gives it.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The word in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::WaitingApproval => "waiting_approval",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// What is to be done next.
#[derive(Debug, Clone)]
pub enum Command {
    /// Record this: nothing outside has to happen.
    Record(crate::event::EventKind),
    /// Record the intent ([`StartStep::event`]), then do the step.
    Start(Box<StartStep>),
    /// End a running step, then record that it was cancelled.
    Cancel { path: StepPath },
    /// Ask again at this time, if nothing happens before.
    WakeAt(Timestamp),
}

/// One attempt of a step that is to be started.
#[derive(Debug, Clone)]
pub struct StartStep {
    pub path: StepPath,
    pub attempt: u32,
    /// The workflow that the step belongs to: its agents are meant.
    pub definition: Arc<Definition>,
    pub agent: Name,
    pub action: String,
    pub input: Value,
    /// An LLM agent's instructions, rendered.
    pub system_prompt: Option<String>,
    /// The fields of the output that later steps read.
    pub required: RequiredFields,
    /// The same at every attempt.
    pub idempotency_key: String,
    pub timeout: Option<Duration>,
    /// What the budget leaves it of units of computation; none: there is no budget.
    pub fuel: Option<GivenFuel>,
    /// The run that it begins or goes on with; none until its start is recorded, where it begins one.
    pub series: Option<Series>,
    /// The calls that an interrupted attempt made before: their answers are not asked for twice.
    pub recorded: Vec<CallRecord>,
}

/// An execution in memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Execution {
    id: ExecutionId,
    /// Not stored with the state: a snapshot belongs to a definition.
    #[serde(skip, default = "snapshot::unlinked")]
    definition: Arc<Definition>,
    /// How many events led here.
    version: u64,
    created_at: Timestamp,
    last_event_at: Timestamp,
    /// When the time limit's clock began: at the creation, or when it was tried again.
    timed_from: Timestamp,
    /// Time that does not count for the time limit: nobody drove it, or it only waited.
    idle: Duration,
    /// Since when all that is left waits.
    at_rest_since: Option<Timestamp>,
    /// Until when its time is accounted for: the last event that its owner recorded, or the end of a rest. What
    /// people bring may be recorded while nobody drives it.
    driven_until: Timestamp,
    frames: Vec<Frame>,
    budgets: Budgets,
    /// Steps for which something can be decided now.
    ready: BTreeSet<Instance>,
    running: BTreeSet<Instance>,
    /// Steps that are tried again at a time.
    retries: BTreeSet<(Timestamp, Instance)>,
    /// Steps that wait for a moment.
    timers: BTreeSet<(Timestamp, Instance)>,
    /// Steps that people are asked about, and when those with a deadline have it.
    approvals: BTreeSet<Instance>,
    deadlines: BTreeSet<(Timestamp, Instance)>,
    /// Steps with `idempotent: false` that a crash interrupted.
    in_doubt: BTreeSet<Instance>,
    /// Steps for which a budget has nothing left.
    unpaid: BTreeSet<Instance>,
    /// Workflows of which a step failed, and which end once nothing in them runs any more.
    failing: BTreeMap<FrameId, (Failure, Option<StepPath>)>,
    /// Nothing new begins as long as it lasts.
    pause: Option<Pause>,
    /// What is known of steps from before this execution, or from before it was tried again.
    earlier: BTreeMap<StepPath, Box<Earlier>>,
    /// What workflows in it had used before it was tried again, by what stands before the paths in them.
    accounts: BTreeMap<String, Account>,
    forked_from: Option<ForkedFrom>,
    is_cancelling: bool,
    has_reached_end: bool,
    end: Option<End>,
}

/// Two executions of one definition are equal where their states are.
impl PartialEq for Execution {
    fn eq(&self, other: &Self) -> bool {
        let state = |execution: &Self| {
            let sets = (
                execution.ready.clone(),
                execution.running.clone(),
                execution.retries.clone(),
                execution.timers.clone(),
                execution.approvals.clone(),
                execution.deadlines.clone(),
                execution.in_doubt.clone(),
                execution.unpaid.clone(),
                execution.failing.clone(),
            );
            let times = (
                execution.created_at,
                execution.timed_from,
                execution.last_event_at,
                execution.idle,
                execution.at_rest_since,
                execution.driven_until,
            );
            let flags = (
                execution.version,
                execution.is_cancelling,
                execution.has_reached_end,
            );
            let pause = execution.pause.clone();
            let budgets = execution.budgets.clone();
            (execution.id, sets, times, flags, pause, budgets)
        };
        let is_same_before = self.earlier == other.earlier && self.forked_from == other.forked_from;
        state(self) == state(other)
            && is_same_before
            && self.accounts == other.accounts
            && self.frames == other.frames
            && self.end == other.end
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum End {
    Completed(Value),
    Failed(Failure, Option<StepPath>),
    Cancelled,
}

impl Execution {
    /// The state that events lead to.
    ///
    /// # Errors
    /// The first event that does not fit.
    pub fn replay(
        id: ExecutionId,
        definition: Arc<Definition>,
        events: &[Event],
    ) -> Result<Self, IllegalEvent> {
        let mut execution = Self::empty(id, definition);
        for event in events {
            execution.apply(event)?;
        }
        Ok(execution)
    }

    fn empty(id: ExecutionId, definition: Arc<Definition>) -> Self {
        Self {
            id,
            budgets: Budgets::of(definition.config()),
            definition,
            version: 0,
            created_at: Timestamp::default(),
            timed_from: Timestamp::default(),
            last_event_at: Timestamp::default(),
            idle: Duration::ZERO,
            at_rest_since: None,
            driven_until: Timestamp::default(),
            frames: Vec::new(),
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            retries: BTreeSet::new(),
            timers: BTreeSet::new(),
            approvals: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            unpaid: BTreeSet::new(),
            failing: BTreeMap::new(),
            pause: None,
            earlier: BTreeMap::new(),
            accounts: BTreeMap::new(),
            forked_from: None,
            is_cancelling: false,
            has_reached_end: false,
            end: None,
        }
    }

    pub fn id(&self) -> ExecutionId {
        self.id
    }

    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// How many events led here.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn config(&self) -> &Config {
        self.definition.config()
    }

    /// The steps that a journal shows started and not ended: after a restart, the interrupted ones.
    pub fn running(&self) -> Vec<(StepPath, u32)> {
        self.running
            .iter()
            .filter_map(|at| Some((self.path(*at), self.step(*at)?.attempts)))
            .collect()
    }

    /// The steps that were interrupted, may not be repeated unasked, and wait for a person to say.
    pub fn in_doubt(&self) -> Vec<StepPath> {
        self.in_doubt.iter().map(|at| self.path(*at)).collect()
    }

    /// The steps that wait for a budget, with what is missing.
    pub fn unpaid(&self) -> Vec<(StepPath, Failure)> {
        self.unpaid
            .iter()
            .filter_map(|at| Some((self.path(*at), self.step(*at)?.failure.clone()?)))
            .collect()
    }

    /// Whether this attempt runs: only then may it begin and end calls.
    pub fn runs(&self, path: &StepPath, attempt: u32) -> bool {
        self.find(path).is_some_and(|at| {
            self.running.contains(&at) && self.step(at).is_some_and(|step| step.attempts == attempt)
        })
    }

    /// The number of the next call of a step that runs: that of its earlier try, where `request` was begun and
    /// nobody knows how it ended.
    pub fn next_call(&self, path: &StepPath, request: &str, position: Option<u32>) -> u32 {
        let Some(step) = self.find(path).and_then(|at| self.step(at)) else {
            return 0;
        };
        let begun = step.calls.iter().position(|call| {
            call.outcome.is_none()
                && call.attempt < step.attempts
                && (call.request.as_str(), call.position) == (request, position)
        });
        u32::try_from(begun.unwrap_or(step.calls.len())).unwrap_or(u32::MAX)
    }

    /// The run of a step that was started: the attempt that the present one goes on with.
    pub fn series(&self, path: &StepPath) -> Option<Series> {
        self.step(self.find(path)?)?.series
    }

    /// When the outcome of a step's call was recorded.
    pub fn call_ended_at(&self, path: &StepPath, call: u32) -> Option<Timestamp> {
        let step = self.step(self.find(path)?)?;
        step.calls.get(usize::try_from(call).ok()?)?.ended_at
    }

    /// Whether somebody wants it to end.
    pub fn is_cancelling(&self) -> bool {
        self.is_cancelling
    }

    /// Whether nothing will happen but by people, whom nobody here can wait for.
    pub fn waits_for_people(&self) -> bool {
        self.is_at_rest() && (self.timers.is_empty() || self.pause.is_some())
    }

    /// Whether all that is left waits for people, timers or a pause's end.
    pub fn is_at_rest(&self) -> bool {
        let is_open = self.version > 0 && self.end.is_none() && !self.is_cancelling;
        // Somebody's pause holds all that does not run.
        let is_held = || {
            let has_ended = self.has_reached_end || !self.failing.is_empty();
            let is_due = !self.ready.is_empty() || !self.retries.is_empty();
            self.pause.is_some() || !(has_ended || is_due)
        };
        is_open && self.running.is_empty() && is_held()
    }
}

#[cfg(test)]
mod tests;
