//! Owns one execution: asks what is to be done, records it, does it, and records what came of it.
//!
//! Only this task starts work and writes to the execution. What follows from an event is `decide`'s; here is no
//! rule of the language.

mod memory;
mod message;
mod question;
mod reserve;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use troupe_journal::{Append, AppendError, Epoch, Journal, ReadError, RecordWrite, Retry, Writer};
use troupe_workflow::{
    BudgetVerdict, CallOutcome, Code, Command, Event, EventKind, Execution, Failure, Snapshot,
    StartStep, StepPath, StepUsage, Timestamp,
};

use crate::clock::Clock;
use crate::stored::{events_after, restored};
use reserve::{Reserve, reserve};

pub use message::{
    AskedQuestion, Attempt, AttemptEnd, EndCall, Ended, Granted, Output, Refused, StartCall,
    StepMessage, WorstCase,
};

/// Messages of steps that wait for the driver: further ones wait at the sender.
const MESSAGES_MAX: usize = 256;
/// Tries of an append while the disk is full or the file is locked, each a second after the last.
const APPEND_TRIES: u32 = 60;
/// Appends of others that one append gives way to, before something must be wrong.
const CONFLICTS_MAX: u32 = 100;

/// Events that one append takes: what needs nothing from outside could go on without end, and neither be stopped nor
/// end on disk meanwhile.
const EVENTS_MAX: usize = 1_000;

/// Events after which a snapshot is considered: fewer are read faster than one.
const SNAPSHOT_EVERY: usize = 200;

/// Does the attempts of steps.
pub trait Performer: Send + Sync {
    /// Does one attempt to its end. Dropping the future ends it.
    fn perform(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd>;
}

/// What a driver works with.
#[derive(Clone)]
pub struct Works {
    pub journal: Arc<dyn Journal>,
    pub clock: Arc<dyn Clock>,
    pub performer: Arc<dyn Performer>,
}

/// Why an execution is no longer driven, though it has not ended.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(transparent)]
    Journal(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("this is a fault of Troupe or a damaged journal, please report it")]
    Illegal(#[from] troupe_workflow::IllegalEvent),
}

/// An execution that this process owns.
pub struct Owned {
    pub execution: Execution,
    pub epoch: Epoch,
    pub origin: Origin,
}

/// How this process came to own an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It began it.
    Created,
    /// Another process began it and ended before it did.
    Recovered,
}

/// Drives one execution.
pub struct Driver {
    execution: Execution,
    epoch: Epoch,
    origin: Origin,
    works: Works,
    /// Told every event after it is on disk.
    observer: Option<mpsc::Sender<Event>>,
    running: JoinSet<AttemptEnd>,
    handles: BTreeMap<StepPath, AbortHandle>,
    messages: mpsc::Receiver<StepMessage>,
    sender: mpsc::Sender<StepMessage>,
    /// Calls that wait until others give back what they reserved.
    parked: Vec<(StartCall, oneshot::Sender<Result<Granted, Refused>>)>,
    /// Says: look into the journal, others may have written there.
    wake: Arc<Notify>,
    /// Says: another process may own the execution by now, this one does not.
    lost: Arc<Notify>,
    patience: Patience,
    /// True: nothing new is started, and it returns when nothing runs any more.
    drain: watch::Receiver<bool>,
    /// Events since the last snapshot.
    unsaved: usize,
    /// How many of them make the next one worth considering.
    save_at: usize,
}

/// What a driver waits for when nothing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Timers, however long.
    ForTimers,
    /// Timers that end within this time; for others it returns.
    For(Duration),
    /// Nothing: it returns.
    None,
}

impl Driver {
    pub fn new(owned: Owned, works: Works, observer: Option<mpsc::Sender<Event>>) -> Self {
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
            works,
            observer,
            running: JoinSet::new(),
            handles: BTreeMap::new(),
            messages,
            sender,
            parked: Vec::new(),
            wake: Arc::new(Notify::new()),
            lost: Arc::new(Notify::new()),
            patience: Patience::ForTimers,
            // The sender may go: what it said last stays.
            drain: watch::channel(false).1,
            unsaved: 0,
            save_at: SNAPSHOT_EVERY,
        }
    }

    /// Has it start nothing new, and return when nothing runs, once this says true.
    #[must_use]
    pub fn with_drain(mut self, drain: watch::Receiver<bool>) -> Self {
        self.drain = drain;
        self
    }

    /// What it waits for when nothing runs; timers, where this is not called.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Has it woken by `wake`, which the caller keeps over several drivers of one execution.
    #[must_use]
    pub fn with_waker(mut self, wake: Arc<Notify>) -> Self {
        self.wake = wake;
        self
    }

    /// Has it end, with all that runs, when `lost` says that this process does not own the execution any longer: others
    /// do by then what it does, and nothing of it could be recorded.
    #[must_use]
    pub fn with_loss(mut self, lost: Arc<Notify>) -> Self {
        self.lost = lost;
        self
    }

    /// Wakes the driver: it reads what others have written to its execution.
    pub fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Drives until the execution has ended or waits for a person; returns it as it is then.
    ///
    /// # Errors
    /// The journal cannot be written, or another process took the execution over. Nothing is lost: it can be
    /// recovered.
    pub async fn drive(mut self) -> Result<Execution, DriveError> {
        self.advance(self.taken_up()).await?;
        while !self.is_idle() {
            self.wait().await?;
            // What held the money back may have been cancelled.
            if !self.parked.is_empty() && !self.execution.holds_reservations() {
                self.unpark().await?;
            }
        }
        Ok(self.execution)
    }

    /// What happened to an execution that this process did not begin: the steps that its journal shows started
    /// and not ended were interrupted.
    fn taken_up(&self) -> Vec<EventKind> {
        if self.origin == Origin::Created {
            return Vec::new();
        }
        // Time in which it only waited is nobody's work anyway.
        if self.execution.is_at_rest() {
            return Vec::new();
        }
        let interrupted = self.execution.running().into_iter();
        let interrupted =
            interrupted.map(|(path, attempt)| EventKind::StepInterrupted { path, attempt });
        std::iter::once(EventKind::ExecutionRecovered)
            .chain(interrupted)
            .collect()
    }

    /// Nothing runs, and nothing will happen but by people, or by timers that nobody here waits for.
    fn is_idle(&self) -> bool {
        let execution = &self.execution;
        let is_left = match self.patience {
            Patience::ForTimers => execution.waits_for_people(),
            Patience::For(most) => execution.is_at_rest() && self.wake_after() > most,
            Patience::None => execution.is_at_rest(),
        };
        let is_left = is_left || execution.status().is_terminal() || self.is_draining();
        self.running.is_empty() && is_left
    }

    fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Waits for something to happen, and records it with all that follows.
    async fn wait(&mut self) -> Result<(), DriveError> {
        let wake = self.works.clock.sleep(self.wake_after());
        tokio::select! {
            ended = self.running.join_next(), if !self.running.is_empty() => {
                match ended {
                    // One that was cancelled may have ended before it could be stopped.
                    Some(Ok(end)) if self.execution.runs(&end.path, end.attempt) => {
                        self.handles.remove(&end.path);
                        let kind = self.event_of(end);
                        self.advance(vec![kind]).await?;
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
            () = self.wake.notified() => {
                self.read_others().await?;
                self.advance(Vec::new()).await
            }
            () = wake => self.advance(Vec::new()).await,
            // What it ended itself is nobody's, and was not lost.
            () = self.lost.notified(), if !self.execution.status().is_terminal() => {
                Err(AppendError::Fenced.into())
            }
            // Looked at in `is_idle`.
            Ok(()) = self.drain.changed() => Ok(()),
        }
    }

    fn wake_after(&self) -> Duration {
        /// No wake-up is further away: clocks are set, and laptops sleep.
        const LONGEST: Duration = Duration::from_secs(60);
        let now = self.works.clock.now();
        self.execution
            .decide(now)
            .into_iter()
            .map(|command| match command {
                Command::WakeAt(time) => time.since(now),
                Command::Start(_) if self.is_draining() => LONGEST,
                // Something fell due since the last time it was asked.
                Command::Record(_) | Command::Start(_) | Command::Cancel { .. } => Duration::ZERO,
            })
            .min()
            .unwrap_or(LONGEST)
            .min(LONGEST)
    }

    /// Applies events and everything that follows from them, records all in one append, then starts what is to
    /// be started: the intent is on disk before the effect. Where others wrote meanwhile, it is all done again on
    /// what they wrote.
    async fn advance(&mut self, kinds: Vec<EventKind>) -> Result<(), DriveError> {
        self.advance_with(kinds, Vec::new()).await
    }

    /// The same with records that are written in the transaction of the first events. A record that was changed meanwhile
    /// refuses all, and the execution is then as it was.
    async fn advance_with(
        &mut self,
        mut kinds: Vec<EventKind>,
        mut records: Vec<RecordWrite>,
    ) -> Result<(), DriveError> {
        let mut conflicts = 0;
        while conflicts < CONFLICTS_MAX {
            let before = self.execution.version();
            let given = kinds.len();
            let (events, starts, left) = self.follow(kinds)?;
            match self.record(before, events, &records).await {
                Ok(()) => {
                    records.clear();
                    for start in starts {
                        self.start(start);
                    }
                    if left == Left::Nothing {
                        return Ok(());
                    }
                    kinds = Vec::new();
                }
                Err(Unrecorded {
                    events,
                    error: AppendError::Conflict { .. },
                }) => {
                    conflicts += 1;
                    kinds = events
                        .into_iter()
                        .take(given)
                        .map(|event| event.kind)
                        .collect();
                    self.reload(before).await?;
                }
                Err(Unrecorded { error, .. }) => {
                    if matches!(error, AppendError::Record { .. }) {
                        self.reload(before).await?;
                    }
                    return Err(error.into());
                }
            }
        }
        let actual = self.execution.version();
        Err(AppendError::Conflict {
            expected: actual,
            actual,
        }
        .into())
    }

    /// Applies events and what is decided after them, as much as one append takes.
    fn follow(
        &mut self,
        kinds: Vec<EventKind>,
    ) -> Result<(Vec<Event>, Vec<StartStep>, Left), DriveError> {
        let mut events = Vec::new();
        let mut starts: Vec<StartStep> = Vec::new();
        for kind in kinds {
            self.apply(kind, &mut events)?;
        }
        loop {
            let commands = self.execution.decide(self.works.clock.now());
            let mut has_acted = false;
            for command in commands {
                match command {
                    Command::Record(kind) => self.apply(kind, &mut events)?,
                    Command::Start(_) if self.is_draining() => continue,
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
                // A failure may end what the other commands are about.
                if self.execution.status().is_terminal() || is_failure(&events) {
                    break;
                }
            }
            if !has_acted {
                return Ok((events, starts, Left::Nothing));
            }
            if events.len() >= EVENTS_MAX {
                return Ok((events, starts, Left::More));
            }
        }
    }

    fn apply(&mut self, kind: EventKind, events: &mut Vec<Event>) -> Result<(), DriveError> {
        let event = Event {
            at: self.works.clock.now(),
            kind,
        };
        self.execution.apply(&event)?;
        events.push(event);
        Ok(())
    }

    /// Reads what others wrote after what is known here.
    async fn read_others(&mut self) -> Result<(), DriveError> {
        let (id, version) = (self.execution.id(), self.execution.version());
        let events = events_after(&*self.works.journal, id, version).await?;
        for event in &events {
            self.execution.apply(event)?;
        }
        self.tell(events).await;
        Ok(())
    }

    /// Forgets what could not be recorded, and reads the execution anew; events after `known` are others'.
    async fn reload(&mut self, known: u64) -> Result<(), DriveError> {
        let id = self.execution.id();
        let definition = Arc::clone(self.execution.definition());
        let journal = Arc::clone(&self.works.journal);
        let stored = journal.load(id).await?;
        self.execution = restored(&*journal, stored, definition).await?;
        if self.observer.is_some() {
            let events = events_after(&*journal, id, known).await?;
            self.tell(events).await;
        }
        Ok(())
    }

    async fn tell(&self, events: Vec<Event>) {
        if let Some(observer) = &self.observer {
            for event in events {
                // Whoever watched may have gone.
                let _ = observer.send(event).await;
            }
        }
    }

    async fn record(
        &mut self,
        expected: u64,
        events: Vec<Event>,
        records: &[RecordWrite],
    ) -> Result<(), Unrecorded> {
        if events.is_empty() {
            return Ok(());
        }
        let (mut tries, mut doubt) = (0, Doubt::None);
        loop {
            let (tried, doubted) = ((&events[..], records), &mut doubt);
            match self.append(expected, tried, doubted).await {
                Ok(()) => break,
                Err(error) if error.is_retryable() && tries < APPEND_TRIES => {
                    tries += 1;
                    tracing::warn!(execution.id = %self.execution.id(), %error, tries, "the journal cannot be written; trying again");
                    self.works.clock.sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(Unrecorded { events, error }),
            }
        }
        self.tell(events).await;
        Ok(())
    }

    /// Appends once. Where an answer was lost, now or at an earlier try, what is there says whether it was written.
    async fn append(
        &mut self,
        expected: u64,
        (events, records): (&[Event], &[RecordWrite]),
        doubt: &mut Doubt,
    ) -> Result<(), AppendError> {
        let id = self.execution.id();
        let append = Append {
            execution: id,
            expected,
            writer: Writer::Owner(self.epoch),
            status: self.execution.status(),
            events,
            snapshot: self.snapshot_after(events.len()),
            records: records.to_vec(),
        };
        let error = match self.works.journal.append(append).await {
            Ok(_version) => return Ok(()),
            Err(AppendError::Unknown { source }) => {
                *doubt = Doubt::MayBeWritten;
                AppendError::Database {
                    retry: Retry::Later,
                    source,
                }
            }
            // What an earlier try wrote is in this one's way, and may have ended the ownership with the execution.
            Err(error @ (AppendError::Conflict { .. } | AppendError::Fenced))
                if *doubt == Doubt::MayBeWritten =>
            {
                error
            }
            Err(error) => return Err(error),
        };
        let limit = u32::try_from(events.len()).unwrap_or(u32::MAX);
        match self.works.journal.events(id, expected, limit).await {
            Ok(found) if found == events => Ok(()),
            // Another try fits, or says that somebody else was faster.
            Ok(_) => Err(error),
            Err(unread) => Err(AppendError::Database {
                retry: Retry::Later,
                source: unread.into(),
            }),
        }
    }

    /// The state, where enough events lie behind the last one that was kept. A snapshot costs what the state holds, so
    /// one is made when at least as many events came, which makes its cost per event the same at any size.
    fn snapshot_after(&mut self, events: usize) -> Option<Snapshot> {
        self.unsaved = self.unsaved.saturating_add(events);
        if self.unsaved < self.save_at {
            return None;
        }
        self.save_at = SNAPSHOT_EVERY.max(self.execution.size_hint());
        if self.unsaved < self.save_at {
            return None;
        }
        self.unsaved = 0;
        match self.execution.snapshot() {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                tracing::warn!(execution.id = %self.execution.id(), %error, "no snapshot can be made");
                None
            }
        }
    }

    fn start(&mut self, mut start: StartStep) {
        let path = start.path.clone();
        // Where the attempt begins a run, its recorded start is the run's.
        start.series = self.execution.series(&path);
        let attempt = Attempt {
            execution: self.execution.id(),
            driver: self.sender.clone(),
            start,
        };
        let (end_path, end_attempt) = (attempt.start.path.clone(), attempt.start.attempt);
        let doing = self.works.performer.perform(attempt);
        let task = async move {
            let end = std::panic::AssertUnwindSafe(doing).catch_unwind().await;
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
                let at = self.end_call(call).await?;
                let _ = answer.send(at);
                self.unpark().await
            }
            StepMessage::NoteCall(call, outcome, answer) => {
                let _ = answer.send(self.note_call(call, outcome).await?);
                Ok(())
            }
            StepMessage::Remember(call, operation, answer) => {
                let _ = answer.send(self.remember(&call, &operation).await?);
                Ok(())
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
        answer: oneshot::Sender<Result<Granted, Refused>>,
    ) -> Result<(), DriveError> {
        // An attempt that timed out may have left a message behind.
        if !self.execution.runs(&call.path, call.attempt) {
            let failure = Failure::new(Code::Cancelled, "the attempt has ended");
            let _ = answer.send(Err(failure.into()));
            return Ok(());
        }
        let reserve = reserve(&self.execution, &call.path, call.worst.as_ref());
        let verdict = self.execution.check_reserve_within(
            &call.path,
            (reserve.usd, reserve.tokens),
            reserve.share,
        );
        match verdict {
            BudgetVerdict::Allowed => self.grant(call, reserve, answer).await,
            BudgetVerdict::Refused(failure) | BudgetVerdict::Paused(failure)
                if self.execution.may_be_given_back(&call.path, &failure) =>
            {
                self.parked.push((call, answer));
                Ok(())
            }
            BudgetVerdict::Refused(failure) => {
                // A component may do one thing or the other by it, and must be told the same again.
                let at = match call.position {
                    Some(_) => {
                        let outcome = CallOutcome::Failed(failure.clone());
                        self.note_call(call, outcome).await?
                    }
                    None => None,
                };
                let _ = answer.send(Err(Refused { failure, at }));
                Ok(())
            }
            BudgetVerdict::Paused(reason) => self.pause(call, reason).await,
        }
    }

    async fn grant(
        &mut self,
        call: StartCall,
        reserve: Reserve,
        answer: oneshot::Sender<Result<Granted, Refused>>,
    ) -> Result<(), DriveError> {
        let number = self
            .execution
            .next_call(&call.path, &call.request, call.position);
        let kind = EventKind::CallStarted {
            path: call.path,
            attempt: call.attempt,
            call: number,
            kind: call.kind,
            target: call.target,
            request: call.request,
            reserved: reserve.usd,
            reserved_tokens: reserve.tokens,
            position: call.position,
        };
        self.advance(vec![kind]).await?;
        // The step may have been cancelled meanwhile.
        let _ = answer.send(Ok(Granted {
            call: number,
            max_tokens: reserve.max_tokens,
            reserved: reserve.usd,
        }));
        Ok(())
    }

    /// Ends an attempt for which a budget has nothing left; it goes on, with the answers it got, when somebody
    /// raises it.
    async fn pause(&mut self, call: StartCall, reason: Failure) -> Result<(), DriveError> {
        if let Some(handle) = self.handles.remove(&call.path) {
            handle.abort();
        }
        let kind = EventKind::StepPaused {
            path: call.path,
            attempt: call.attempt,
            reason,
            usage: None,
            raises: self.execution.budget_raises(),
        };
        self.advance(vec![kind]).await
    }

    /// What the end of an attempt is.
    fn event_of(&self, end: AttemptEnd) -> EventKind {
        let AttemptEnd {
            path,
            attempt,
            result,
            usage,
        } = end;
        match result {
            Ok(Ended::Asked(question)) => self.asked((path, attempt), question, usage),
            Ok(Ended::Interrupted(reason)) => {
                tracing::warn!(execution.id = %self.execution.id(), step.path = %path, reason, "a step was interrupted");
                EventKind::StepInterrupted { path, attempt }
            }
            Ok(Ended::Output(Output { value, text })) => EventKind::StepCompleted {
                path,
                attempt,
                output: value,
                text,
                usage,
            },
            Err(failure) => self
                .execution
                .failed_attempt((path, attempt), failure, usage),
        }
    }

    async fn end_call(&mut self, call: EndCall) -> Result<Option<Timestamp>, DriveError> {
        // What an ended attempt's calls cost stays charged at their worst case.
        if !self.execution.runs(&call.path, call.attempt) {
            return Ok(None);
        }
        let (path, number) = (call.path.clone(), call.call);
        let kind = EventKind::CallEnded {
            path: call.path,
            attempt: call.attempt,
            call: call.call,
            outcome: call.outcome,
            usage: call.usage,
            cost: call.cost,
        };
        self.advance(vec![kind]).await?;
        Ok(self.execution.call_ended_at(&path, number))
    }
}

/// Whether there is more to be decided at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    More,
}

/// Whether events may be on disk though nobody said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    MayBeWritten,
}

/// Events that could not be recorded, and why.
struct Unrecorded {
    events: Vec<Event>,
    error: AppendError,
}

/// Whether the last event was a failure.
fn is_failure(events: &[Event]) -> bool {
    matches!(
        events.last().map(|event| &event.kind),
        Some(EventKind::StepFailed { .. })
    )
}
