//! What an attempt and the driver of its execution tell each other.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use troupe_providers::ModelPrice;
use troupe_workflow::{
    CallKind, CallOutcome, Execution, ExecutionId, Failure, MicroUsd, StartStep, StepPath,
    StepUsage, Timestamp, Usage,
};

use crate::memory::Operation;

/// One attempt of one step, with its way to the driver.
pub struct Attempt {
    pub execution: ExecutionId,
    pub driver: mpsc::Sender<StepMessage>,
    pub start: StartStep,
}

/// How one attempt ended.
pub struct AttemptEnd {
    pub path: StepPath,
    pub attempt: u32,
    pub result: Result<Ended, Failure>,
    pub usage: StepUsage,
}

/// An end of an attempt that is no failure.
pub enum Ended {
    Output(Output),
    /// It asks people, and goes on when there is an answer.
    Asked(AskedQuestion),
    /// What ran it ended before it did, for this reason: as if this process had ended.
    Interrupted(String),
}

/// What a component asks people.
pub struct AskedQuestion {
    /// Which of the component's requests it is, from 0.
    pub position: u32,
    /// SHA-256 of the request, in hex.
    pub request: String,
    pub assignees: Vec<String>,
    pub message: String,
    pub context: Option<serde_json::Value>,
    /// JSON schema of what an approval's `data` must be.
    pub form: Option<serde_json::Value>,
    /// None: it waits for ever.
    pub answer_within: Option<Duration>,
}

/// What an attempt gave.
pub struct Output {
    pub value: serde_json::Value,
    /// An LLM's text, where the value is not just that.
    pub text: Option<String>,
}

/// What a step that runs asks of its driver.
pub enum StepMessage {
    /// Record that a call begins; answered with its number once it is on disk, or with why it may not begin.
    StartCall(StartCall, oneshot::Sender<Result<Granted, Refused>>),
    /// Record how a call ended; answered with the time of that once it is on disk, none where the attempt has ended.
    EndCall(EndCall, oneshot::Sender<Option<Timestamp>>),
    /// Record a call of which the outcome is known; answered like the end of one.
    NoteCall(StartCall, CallOutcome, oneshot::Sender<Option<Timestamp>>),
    /// Do something with a component's memory and record it; answered with what came of it and when once it is on disk,
    /// none where the attempt has ended.
    Remember(
        StartCall,
        Operation,
        oneshot::Sender<Option<(CallOutcome, Option<Timestamp>)>>,
    ),
    /// Look at the execution.
    Inspect(Box<dyn FnOnce(&Execution) + Send>),
}

pub struct StartCall {
    pub path: StepPath,
    pub attempt: u32,
    pub kind: CallKind,
    pub target: String,
    /// SHA-256 of the request, in hex.
    pub request: String,
    /// Which of a component's requests it is for, from 0; none: the step is no component's.
    pub position: Option<u32>,
    /// What bounds its cost; none: it costs nothing.
    pub worst: Option<WorstCase>,
}

/// What bounds the cost of a call.
pub enum WorstCase {
    /// An answer of a model.
    Model {
        /// None: the model is free, or nobody knows its price and there is no money budget.
        price: Option<ModelPrice>,
        /// The input's tokens, from above.
        input_tokens: u64,
        /// The answer's limit, where the caller set one.
        max_tokens: Option<u32>,
        /// Most that all calls of the step's agent may cost in it, as the operator says.
        share: Option<MicroUsd>,
    },
    /// A call that costs no more than is known before.
    Fixed { usd: MicroUsd, tokens: u64 },
}

/// A call that may be made: it is on disk.
pub struct Granted {
    /// Its number among the calls of its step.
    pub call: u32,
    /// What the answer is limited to; none: the model's own limit.
    pub max_tokens: Option<u32>,
    pub reserved: MicroUsd,
}

/// A call that may not be made.
#[derive(Debug)]
pub struct Refused {
    pub failure: Failure,
    /// When that was recorded: what a component is told is.
    pub at: Option<Timestamp>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, at: None }
    }
}

pub struct EndCall {
    pub path: StepPath,
    pub attempt: u32,
    pub call: u32,
    pub outcome: CallOutcome,
    pub usage: Usage,
    pub cost: MicroUsd,
}
