//! Owns one execution: asks what is to be done, records it, does it, and records what came of it.
//!
//! Only this task starts work and writes to the execution. What follows from an event is `decide`'s; here is no
//! rule of the language.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use troupe_journal::{Append, AppendError, Epoch};
use troupe_providers::ModelPrice;
use troupe_workflow::{
    BudgetPolicy, CallKind, CallOutcome, Code, Command, Event, EventKind, Execution, Failure,
    MicroUsd, StartStep, StepPath, StepUsage, Usage,
};

use crate::agents::{self, Attempt};
use crate::clock;
use crate::services::Services;

/// Messages of steps that wait for the driver: further ones wait at the sender.
const MESSAGES_MAX: usize = 256;
/// Tries of an append while the disk is full or the file is locked, each a second after the last.
const APPEND_TRIES: u32 = 60;
/// Tokens that are reserved for an answer whose length nothing bounds.
const MAX_TOKENS_DEFAULT: u32 = 4096;
/// An answer shorter than this is not worth its question.
const MAX_TOKENS_LEAST: u32 = 256;

/// What a step that runs asks of its driver.
pub(crate) enum StepMessage {
    /// Record that a call begins; answered with its number once it is on disk, or with why it may not begin.
    StartCall(StartCall, oneshot::Sender<Result<Granted, Failure>>),
    EndCall(EndCall, oneshot::Sender<()>),
    /// Look at the execution.
    Inspect(Box<dyn FnOnce(&Execution) + Send>),
}

pub(crate) struct StartCall {
    pub(crate) path: StepPath,
    pub(crate) attempt: u32,
    pub(crate) kind: CallKind,
    pub(crate) target: String,
    pub(crate) request: String,
    /// What bounds its cost; none: it costs nothing.
    pub(crate) worst: Option<WorstCase>,
}

/// What bounds the cost of a model call.
pub(crate) struct WorstCase {
    pub(crate) price: ModelPrice,
    /// The input's tokens, from above.
    pub(crate) input_tokens: u64,
    /// The answer's limit, where the caller set one.
    pub(crate) max_tokens: Option<u32>,
}

/// A call that may be made: it is on disk.
pub(crate) struct Granted {
    /// Its number among the calls of its step.
    pub(crate) call: u32,
    /// What the answer is limited to; none: the model's own limit.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) reserved: MicroUsd,
}

pub(crate) struct EndCall {
    pub(crate) path: StepPath,
    pub(crate) attempt: u32,
    pub(crate) call: u32,
    pub(crate) outcome: CallOutcome,
    pub(crate) usage: Usage,
    pub(crate) cost: MicroUsd,
}

/// How one attempt ended.
pub(crate) struct AttemptEnd {
    pub(crate) path: StepPath,
    pub(crate) attempt: u32,
    pub(crate) result: Result<Output, Failure>,
    pub(crate) usage: StepUsage,
}

/// What an attempt gave.
pub(crate) struct Output {
    pub(crate) value: serde_json::Value,
    /// An LLM's text, where the value is not just that.
    pub(crate) text: Option<String>,
}

/// Why an execution is no longer driven, though it has not ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriveError {
    #[error(transparent)]
    Journal(#[from] AppendError),
    #[error("this is a fault of Troupe or a damaged journal, please report it")]
    Illegal(#[from] troupe_workflow::IllegalEvent),
}

/// An execution that this process owns.
pub(crate) struct Owned {
    pub(crate) execution: Execution,
    pub(crate) epoch: Epoch,
    pub(crate) origin: Origin,
}

/// How this process came to own an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It began it.
    Created,
    /// Another process began it and ended before it did.
    Recovered(InDoubt),
}

/// What becomes of steps with `idempotent: false` whose end nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InDoubt {
    /// They wait for a person.
    Wait,
    /// A person said that they run again.
    RunAgain,
}

/// Drives one execution.
pub(crate) struct Driver {
    execution: Execution,
    epoch: Epoch,
    origin: Origin,
    services: Arc<Services>,
    /// Told every event after it is on disk.
    observer: Option<mpsc::Sender<Event>>,
    running: JoinSet<AttemptEnd>,
    handles: BTreeMap<StepPath, AbortHandle>,
    messages: mpsc::Receiver<StepMessage>,
    sender: mpsc::Sender<StepMessage>,
    /// Calls that wait until others give back what they reserved.
    parked: Vec<(StartCall, oneshot::Sender<Result<Granted, Failure>>)>,
}

impl Driver {
    pub(crate) fn new(
        owned: Owned,
        services: Arc<Services>,
        observer: Option<mpsc::Sender<Event>>,
    ) -> Self {
        let Owned {
            execution,
            epoch,
            origin,
        } = owned;
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        Self {
            execution,
            epoch,
            origin,
            services,
            observer,
            running: JoinSet::new(),
            handles: BTreeMap::new(),
            messages,
            sender,
            parked: Vec::new(),
        }
    }

    /// Drives until the execution has ended or waits for a person; returns it as it is then.
    ///
    /// # Errors
    /// The journal cannot be written, or another process took the execution over. Nothing is lost: it can be
    /// recovered.
    pub(crate) async fn drive(mut self) -> Result<Execution, DriveError> {
        self.advance(self.taken_up()).await?;
        while !self.is_idle() {
            self.wait().await?;
        }
        Ok(self.execution)
    }

    /// What happened to an execution that this process did not begin: the steps that its journal shows started
    /// and not ended were interrupted.
    fn taken_up(&self) -> Vec<EventKind> {
        let Origin::Recovered(in_doubt) = self.origin else {
            return Vec::new();
        };
        let mut kinds = vec![EventKind::ExecutionRecovered];
        let interrupted = self.execution.running();
        kinds.extend(
            interrupted
                .into_iter()
                .map(|(path, attempt)| EventKind::StepInterrupted { path, attempt }),
        );
        if in_doubt == InDoubt::RunAgain {
            let resumed = self.execution.in_doubt().into_iter();
            kinds.extend(resumed.map(|path| EventKind::StepResumed { path }));
        }
        kinds
    }

    /// Nothing runs and nothing will happen by itself.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.execution.decide(clock::now()).is_empty()
    }

    /// Waits for something to happen, and records it with all that follows.
    async fn wait(&mut self) -> Result<(), DriveError> {
        let wake = self.wake_after();
        tokio::select! {
            ended = self.running.join_next(), if !self.running.is_empty() => {
                match ended {
                    // One that was cancelled may have ended before it could be stopped.
                    Some(Ok(end)) if self.execution.runs(&end.path, end.attempt) => {
                        self.handles.remove(&end.path);
                        self.advance(vec![event_of(end)]).await?;
                        self.unpark().await
                    }
                    // Cancelled, and recorded as such where it was cancelled. Panics are caught in the task.
                    Some(Ok(_) | Err(_)) | None => Ok(()),
                }
            }
            message = self.messages.recv() => match message {
                Some(message) => self.answer(message).await,
                None => Ok(()),
            },
            () = tokio::time::sleep(wake) => self.advance(Vec::new()).await,
        }
    }

    fn wake_after(&self) -> Duration {
        /// No wake-up is further away: clocks are set, and laptops sleep.
        const LONGEST: Duration = Duration::from_secs(60);
        let now = clock::now();
        self.execution
            .decide(now)
            .into_iter()
            .map(|command| match command {
                Command::WakeAt(time) => time.since(now),
                // Something fell due since the last time it was asked.
                Command::Record(_) | Command::Start(_) | Command::Cancel { .. } => Duration::ZERO,
            })
            .min()
            .unwrap_or(LONGEST)
            .min(LONGEST)
    }

    /// Applies events and everything that follows from them, records all in one append, then starts what is to
    /// be started: the intent is on disk before the effect.
    async fn advance(&mut self, kinds: Vec<EventKind>) -> Result<(), DriveError> {
        let before = self.execution.version();
        let mut events = Vec::new();
        let mut starts: Vec<StartStep> = Vec::new();
        for kind in kinds {
            self.apply(kind, &mut events)?;
        }
        loop {
            let commands = self.execution.decide(clock::now());
            let mut has_acted = false;
            for command in commands {
                match command {
                    Command::Record(kind) => self.apply(kind, &mut events)?,
                    Command::Start(start) => {
                        self.apply(start.event(), &mut events)?;
                        starts.push(*start);
                    }
                    Command::Cancel { path } => {
                        if let Some(handle) = self.handles.remove(&path) {
                            handle.abort();
                        }
                        starts.retain(|start| start.path != path);
                        self.apply(EventKind::StepCancelled { path }, &mut events)?;
                    }
                    Command::WakeAt(_) => continue,
                }
                has_acted = true;
                // Every event may change what is to be done with the others.
                if self.execution.status().is_terminal() || self.is_failing(&events) {
                    break;
                }
            }
            if !has_acted {
                break;
            }
        }
        self.record(before, events).await?;
        for start in starts {
            self.start(start);
        }
        Ok(())
    }

    /// Whether the last event was a failure, which may end everything.
    fn is_failing(&self, events: &[Event]) -> bool {
        matches!(
            events.last().map(|event| &event.kind),
            Some(EventKind::StepFailed { .. })
        )
    }

    fn apply(&mut self, kind: EventKind, events: &mut Vec<Event>) -> Result<(), DriveError> {
        let event = Event {
            at: clock::now(),
            kind,
        };
        self.execution.apply(&event)?;
        events.push(event);
        Ok(())
    }

    async fn record(&mut self, expected: u64, events: Vec<Event>) -> Result<(), DriveError> {
        if events.is_empty() {
            return Ok(());
        }
        let append = Append {
            execution: self.execution.id(),
            expected,
            epoch: self.epoch,
            status: self.execution.status(),
            events: events.clone(),
        };
        let mut tries = 0;
        loop {
            match self.services.journal.append(append.clone()).await {
                Ok(_) => break,
                Err(error) if error.is_retryable() && tries < APPEND_TRIES => {
                    tries += 1;
                    tracing::warn!(execution.id = %self.execution.id(), %error, tries, "the journal cannot be written; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(observer) = &self.observer {
            for event in events {
                // Whoever watched may have gone.
                let _ = observer.send(event).await;
            }
        }
        Ok(())
    }

    fn start(&mut self, start: StartStep) {
        let path = start.path.clone();
        let attempt = Attempt {
            services: Arc::clone(&self.services),
            definition: Arc::clone(self.execution.definition()),
            execution: self.execution.id(),
            driver: self.sender.clone(),
            start,
        };
        let (end_path, end_attempt) = (attempt.start.path.clone(), attempt.start.attempt);
        let task = async move {
            let end = std::panic::AssertUnwindSafe(agents::run(attempt))
                .catch_unwind()
                .await;
            end.unwrap_or_else(|_| AttemptEnd {
                path: end_path,
                attempt: end_attempt,
                result: Err(Failure::new(
                    Code::Internal,
                    "the host failed while it did this step; its log has the details",
                )),
                usage: StepUsage::default(),
            })
        };
        let handle = self.running.spawn(task);
        self.handles.insert(path, handle);
    }

    async fn answer(&mut self, message: StepMessage) -> Result<(), DriveError> {
        match message {
            StepMessage::Inspect(look) => {
                look(&self.execution);
                Ok(())
            }
            StepMessage::StartCall(call, answer) => self.start_call(call, answer).await,
            StepMessage::EndCall(call, answer) => {
                self.end_call(call).await?;
                let _ = answer.send(());
                self.unpark().await
            }
        }
    }

    /// Tries the calls again that wait for money: some may have come back.
    async fn unpark(&mut self) -> Result<(), DriveError> {
        for (call, answer) in std::mem::take(&mut self.parked) {
            self.start_call(call, answer).await?;
        }
        Ok(())
    }

    /// Records that a call begins, if the budget allows it. One that does not fit waits while other calls hold
    /// reservations that may come back, and is refused when none does.
    async fn start_call(
        &mut self,
        call: StartCall,
        answer: oneshot::Sender<Result<Granted, Failure>>,
    ) -> Result<(), DriveError> {
        // An attempt that timed out may have left a message behind.
        if !self.execution.runs(&call.path, call.attempt) {
            let _ = answer.send(Err(Failure::new(Code::Cancelled, "the attempt has ended")));
            return Ok(());
        }
        let (reserved, max_tokens) = reserve(&self.execution, call.worst.as_ref());
        if let Err(error) = self.execution.check_reserve(reserved) {
            if self.execution.holds_reservations() {
                self.parked.push((call, answer));
            } else {
                let _ = answer.send(Err(Failure::new(Code::BudgetExceeded, error.to_string())));
            }
            return Ok(());
        }
        let number = self.execution.next_call(&call.path, &call.request);
        let kind = EventKind::CallStarted {
            path: call.path,
            attempt: call.attempt,
            call: number,
            kind: call.kind,
            target: call.target,
            request: call.request,
            reserved,
        };
        self.advance(vec![kind]).await?;
        // The step may have been cancelled meanwhile.
        let _ = answer.send(Ok(Granted {
            call: number,
            max_tokens,
            reserved,
        }));
        Ok(())
    }

    async fn end_call(&mut self, call: EndCall) -> Result<(), DriveError> {
        // What an ended attempt's calls cost stays charged at their worst case.
        if !self.execution.runs(&call.path, call.attempt) {
            return Ok(());
        }
        let kind = EventKind::CallEnded {
            path: call.path,
            attempt: call.attempt,
            call: call.call,
            outcome: call.outcome,
            usage: call.usage,
            cost: call.cost,
        };
        self.advance(vec![kind]).await
    }
}

/// The worst case of a call, and the limit of its answer. Where a budget is kept and the caller set no limit,
/// the answer gets what the budget affords.
fn reserve(execution: &Execution, worst: Option<&WorstCase>) -> (MicroUsd, Option<u32>) {
    let Some(worst) = worst else {
        return (MicroUsd::ZERO, None);
    };
    let most = worst.price.max_output_tokens.unwrap_or(MAX_TOKENS_DEFAULT);
    let is_kept = execution.definition().config().on_budget_exceeded == BudgetPolicy::Stop;
    let max_tokens = match (worst.max_tokens, execution.money_left()) {
        (None, Some(left)) if is_kept => {
            let left = troupe_providers::MicroUsd(left.as_micro_usd());
            let affordable = worst
                .price
                .max_tokens_within(left, worst.input_tokens)
                .unwrap_or(0);
            Some(affordable.min(most).max(MAX_TOKENS_LEAST))
        }
        (asked, _) => asked,
    };
    let output = max_tokens.unwrap_or(most);
    (
        MicroUsd::new(worst.price.worst_case(worst.input_tokens, output).0),
        max_tokens,
    )
}

fn event_of(end: AttemptEnd) -> EventKind {
    let AttemptEnd {
        path,
        attempt,
        result,
        usage,
    } = end;
    match result {
        Ok(Output { value, text }) => EventKind::StepCompleted {
            path,
            attempt,
            output: value,
            text,
            usage,
        },
        Err(failure) => EventKind::StepFailed {
            path,
            attempt,
            failure,
            usage,
        },
    }
}
