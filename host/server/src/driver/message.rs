//! What an attempt and the driver of its execution tell each other.

use tokio::sync::{mpsc, oneshot};
use troupe_providers::ModelPrice;
use troupe_workflow::{
    CallKind, CallOutcome, Execution, ExecutionId, Failure, MicroUsd, StartStep, StepPath,
    StepUsage, Usage,
};

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
    pub result: Result<Output, Failure>,
    pub usage: StepUsage,
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
    StartCall(StartCall, oneshot::Sender<Result<Granted, Failure>>),
    EndCall(EndCall, oneshot::Sender<()>),
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

pub struct EndCall {
    pub path: StepPath,
    pub attempt: u32,
    pub call: u32,
    pub outcome: CallOutcome,
    pub usage: Usage,
    pub cost: MicroUsd,
}
