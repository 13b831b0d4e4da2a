//! What happened, in the past tense: the only things that change an execution.
//!
//! Stored in the journal as JSON. A field is only ever added, with a default.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration::Timestamp;
use crate::failure::Failure;
use crate::ids::{ExecutionId, StepPath, WorkflowDigest};
use crate::money::MicroUsd;

/// A fact with the moment it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The facts there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The first event of every execution.
    ExecutionCreated {
        workflow: String,
        digest: WorkflowDigest,
        inputs: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forked_from: Option<ForkedFrom>,
        /// Steps that are not done again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<Kept>,
    },
    /// The intent of one attempt, before its effect.
    StepStarted {
        path: StepPath,
        attempt: u32,
        agent: String,
        input: Value,
        /// Units of computation taken from the budget until the attempt ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fuel: Option<u64>,
    },
    /// The intent of one call of an attempt to a model or a search, before its effect. `call` counts from 0.
    CallStarted {
        path: StepPath,
        attempt: u32,
        call: u32,
        kind: CallKind,
        /// The model or the sources asked.
        target: String,
        /// SHA-256 of the request, in hex.
        request: String,
        /// The worst case, taken from the budget until the call ends.
        reserved: MicroUsd,
        #[serde(default, skip_serializing_if = "is_zero")]
        reserved_tokens: u64,
        /// Which of a component's requests it is for, from 0: one request may try several models. None: the step is
        /// no component's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<u32>,
    },
    CallEnded {
        path: StepPath,
        attempt: u32,
        call: u32,
        outcome: CallOutcome,
        usage: Usage,
        cost: MicroUsd,
    },
    StepCompleted {
        path: StepPath,
        attempt: u32,
        output: Value,
        /// An LLM's text, where the output is not just that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default)]
        usage: StepUsage,
    },
    /// A step that was completed before has the value that it had then.
    StepKept {
        path: StepPath,
    },
    /// One attempt failed. What follows from it is the scheduler's to decide.
    StepFailed {
        path: StepPath,
        attempt: u32,
        failure: Failure,
        #[serde(default)]
        usage: StepUsage,
    },
    /// The host stopped while the attempt ran; nobody knows how it ended.
    StepInterrupted {
        path: StepPath,
        attempt: u32,
    },
    /// Its condition was false.
    StepSkipped {
        path: StepPath,
    },
    /// A sibling's failure or a person ended it.
    StepCancelled {
        path: StepPath,
    },
    /// A parallel block with a condition begins.
    ParallelStarted {
        path: StepPath,
    },
    /// The outcome of a block's condition.
    BranchTaken {
        path: StepPath,
        taken: Side,
    },
    /// A loop begins; `items` are what it goes through, none where it repeats.
    LoopStarted {
        path: StepPath,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        items: Option<Vec<Value>>,
    },
    /// Whether a loop that repeats goes on with another round.
    LoopDecided {
        path: StepPath,
        again: bool,
    },
    /// A sub-workflow begins.
    WorkflowStarted {
        path: StepPath,
        inputs: Value,
    },
    WaitStarted {
        path: StepPath,
        until: Timestamp,
    },
    /// People are asked.
    ApprovalRequested {
        path: StepPath,
        attempt: u32,
        agent: String,
        input: Value,
        assignees: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A component asks people. Its attempt ends here without having failed; once there is an answer the component
    /// is run again, up to this call with the answers on record.
    QuestionAsked {
        path: StepPath,
        attempt: u32,
        call: u32,
        /// Which of the component's requests it is, from 0.
        position: u32,
        /// SHA-256 of the request, in hex.
        request: String,
        #[serde(flatten)]
        question: Box<Question>,
        #[serde(default)]
        usage: StepUsage,
    },
    /// One person's answer.
    ApprovalGiven {
        path: StepPath,
        #[serde(flatten)]
        answer: Answer,
    },
    /// Nobody answered in time: others are asked too.
    ApprovalEscalated {
        path: StepPath,
        assignees: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A budget has nothing left for the attempt; it goes on when somebody raises it.
    StepPaused {
        path: StepPath,
        attempt: u32,
        reason: Failure,
        /// What the attempt used; none: it was broken off, and nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<StepUsage>,
        /// How often budgets had been raised when it was decided: one that was raised meanwhile is tried at once.
        #[serde(default)]
        raises: u32,
    },
    /// Somebody raised budgets of the execution; those that are none stay as they are.
    BudgetRaised {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usd: Option<MicroUsd>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fuel: Option<u64>,
    },
    /// The time of the whole execution is up; what runs is stopped first.
    TimeLimitReached,
    /// Somebody wants the execution to end; what runs is stopped first.
    CancelRequested,
    ExecutionCancelled,
    /// Somebody wants nothing new to begin until somebody says so; what runs goes on to its end.
    PauseRequested {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The pause is over: what fell due meanwhile happens at once.
    PauseEnded {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Another process took the execution up. The time since the event before it was nobody's work.
    ExecutionRecovered,
    /// A person said that a step which was interrupted, and may not be repeated unasked, is to run again.
    StepResumed {
        path: StepPath,
    },
    /// A person wants an execution that failed to be tried again: what was completed is kept.
    ExecutionRetried {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    ExecutionCompleted {
        outputs: Value,
    },
    ExecutionFailed {
        failure: Failure,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepPath>,
    },
}

impl EventKind {
    /// Whether a person's wish is recorded, which needs no owner.
    pub(crate) fn is_from_outside(&self) -> bool {
        matches!(
            self,
            Self::ApprovalGiven { .. }
                | Self::BudgetRaised { .. }
                | Self::StepResumed { .. }
                | Self::CancelRequested
                | Self::PauseRequested { .. }
                | Self::PauseEnded { .. }
                | Self::ExecutionRetried { .. }
        )
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The execution that another one was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedFrom {
    pub execution: ExecutionId,
    /// The first step that is done again.
    pub step: StepPath,
}

/// A step that an execution completed, for one that is forked from it: it is not done again, and costs nothing there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub path: StepPath,
    /// Who did it; none: a timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub output: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// The steps of a block that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Then,
    /// Its steps are taken where the condition is false and there are any.
    Else,
}

/// What a component asks people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub assignees: Vec<String>,
    pub message: String,
    /// What they need to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// JSON schema of what an approval's `data` must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// One person's answer to an approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Who answered.
    pub by: String,
    pub approved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// What the form was filled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// What a call asks of the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    Model,
    Search,
    /// A component asks people.
    Human,
    /// A component reads what is left of its budgets.
    Budget,
    /// A component calls a tool, or reads which ones there are.
    Tool,
    /// A component sends an HTTP request.
    Http,
    /// A component reads or changes what it remembers from one execution to the next.
    Memory,
    /// A component was denied something: `target` is the capability, the outcome says what would grant it. Recorded when
    /// the component has ended.
    Denied,
}

impl CallKind {
    /// The word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Search => "search",
            Self::Human => "human",
            Self::Budget => "budget",
            Self::Tool => "tool",
            Self::Http => "http",
            Self::Memory => "memory",
            Self::Denied => "denied",
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// The answer, whole: a step that is run again is given it.
    Answered(Value),
    Failed(Failure),
}

/// Tokens, as the provider counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    #[serde(default)]
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    /// Both sums, which do not overflow.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_input_tokens: self
                .cached_input_tokens
                .saturating_add(other.cached_input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }
}

/// What one attempt used in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepUsage {
    /// Units of computation, about one for each WebAssembly instruction.
    #[serde(default)]
    pub fuel: u64,
    /// Peak of linear memory.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The component's own running time.
    #[serde(default)]
    pub guest_ms: u64,
    /// Bytes of the result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_bytes: u64,
    /// Bytes that it wrote to standard output and error, whether they were kept or not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub printed_bytes: u64,
    /// Bytes of log lines; those that did not fit are not in it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_bytes: u64,
    /// Log lines that did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_lines_dropped: u64,
    /// Calls of the host by the component, as its limit counts them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub host_calls: u64,
    /// Bytes that passed in these calls, questions and answers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub host_bytes: u64,
    /// Bytes that were written to files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disk_bytes: u64,
    /// The most files and folders that were open at one time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open_files: u64,
    /// Core instances that the component was made of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub instances: u64,
}

impl StepUsage {
    /// What both attempts used together: sums; of memory, open files and instances the largest, which
    /// is what their limits are held to.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            fuel: self.fuel.saturating_add(other.fuel),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            guest_ms: self.guest_ms.saturating_add(other.guest_ms),
            output_bytes: self.output_bytes.saturating_add(other.output_bytes),
            printed_bytes: self.printed_bytes.saturating_add(other.printed_bytes),
            log_bytes: self.log_bytes.saturating_add(other.log_bytes),
            log_lines_dropped: self
                .log_lines_dropped
                .saturating_add(other.log_lines_dropped),
            host_calls: self.host_calls.saturating_add(other.host_calls),
            host_bytes: self.host_bytes.saturating_add(other.host_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            open_files: self.open_files.max(other.open_files),
            instances: self.instances.max(other.instances),
        }
    }
}
