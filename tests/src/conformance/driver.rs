//! Runs a case through the driver, with a journal on disk, scripted agents, and a clock that goes when nobody is busy.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::oneshot;
use troupe_journal::{Append, Document, Epoch, FirstOwner, Journal, NewExecution, Release, Writer};
use troupe_server::clock::Clock;
use troupe_server::driver::{
    Attempt, AttemptEnd, Driver, EndCall, Ended, Origin, Output, Owned, Performer, StartCall,
    StepMessage, Works, WorstCase,
};
use troupe_workflow::{
    CallKind, CallOutcome, Code, Command, Definition, Event, EventKind, Execution, ExecutionId,
    Failure, StepUsage, Timestamp, Usage,
};

use super::case::{Act, ActKind, Case};
use super::core::{after_begin, created, events_of, forked, micro_usd, note_refusal};
use super::script::{Plan, Script, told};
use super::{BEGIN_MS, Observed};

/// How often it is looked whether everybody sleeps, before they are taken to.
const QUIET_LOOKS: usize = 12;

/// Forks have ids that no case has.
const FORKS_BEGIN: u64 = 1_000_000;
/// No case forks more often.
const FORKS_MAX: u64 = 100;

/// Runs a case to its end, or to where nothing happens any more. `number` makes the execution's id.
pub async fn run(
    case: &Case,
    definition: &Arc<Definition>,
    (journal, number): (&Arc<dyn Journal>, u64),
) -> Observed {
    let clock = SimClock::new();
    let performer = Arc::new(Scripted {
        script: Mutex::new(Script::of(case)),
        clock: clock.clone(),
    });
    let works = Works {
        journal: Arc::clone(journal),
        clock: Arc::new(clock.clone()),
        performer,
    };
    let mut stage = Stage {
        id: ExecutionId::from_parts(number, 7),
        journal: Arc::clone(journal),
        clock,
        complaints: Vec::new(),
        forks: number * FORKS_MAX,
    };
    let mut definition = Arc::clone(definition);
    let first = created(&definition, case.inputs());
    let mut epoch = stage.create(&definition, first).await;
    let mut owned = Some(stage.owned(&definition, (epoch, Origin::Created)).await);
    let mut acts = case.acts.iter().peekable();
    let until = case.until_ms.map(after_begin);
    loop {
        if let Some(owned) = owned.take() {
            let driver = Driver::new(owned, works.clone(), None);
            if stage.drive(driver, (&mut acts, until), &definition).await == Stopped::ByTheCase {
                break;
            }
        }
        // The driver has returned, for all that is left is people's: wait for their acts, or their deadline.
        let execution = stage.replay(&definition).await.0;
        let act = acts.peek().map(|act| after_begin(act.at_ms));
        let next = stage.wake(&execution).into_iter().chain(act).min();
        let Some(next) = next.filter(|next| until.is_none_or(|until| *next <= until)) else {
            break;
        };
        stage.clock.go_to(next);
        if act.is_some_and(|at| at <= next)
            && let Some(act) = acts.next()
        {
            if let Some((forked, first)) = stage.fork(&execution, act).await {
                definition = forked;
                epoch = first;
                owned = Some(stage.owned(&definition, (epoch, Origin::Created)).await);
                continue;
            }
            stage.act(&definition, act).await;
        }
        if stage.replay(&definition).await.0.status().is_terminal() {
            continue;
        }
        let now = stage.replay(&definition).await.0;
        stage.release(&now, epoch).await;
        epoch = journal
            .take(stage.id)
            .await
            .expect("nobody else owns it")
            .epoch;
        owned = Some(stage.owned(&definition, (epoch, Origin::Recovered)).await);
    }
    let (execution, events) = stage.replay(&definition).await;
    Observed {
        execution,
        events,
        complaints: stage.complaints,
    }
}

/// Why a driver no longer drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// The execution has ended, or waits for people.
    ByItself,
    /// The case says when to look.
    ByTheCase,
}

/// One execution and its surroundings.
struct Stage {
    id: ExecutionId,
    journal: Arc<dyn Journal>,
    clock: SimClock,
    complaints: Vec<String>,
    /// Makes the ids of forks.
    forks: u64,
}

impl Stage {
    /// Drives while the clock goes and people act.
    async fn drive(
        &mut self,
        driver: Driver,
        (acts, until): (&mut Peekable<std::slice::Iter<'_, Act>>, Option<Timestamp>),
        definition: &Arc<Definition>,
    ) -> Stopped {
        let wake = driver.waker();
        let driving = driver.drive();
        tokio::pin!(driving);
        loop {
            tokio::select! {
                biased;
                driven = &mut driving => {
                    driven.unwrap_or_else(|error| panic!("{}: {error}", self.id));
                    return Stopped::ByItself;
                }
                () = self.clock.everybody_sleeps() => {}
            }
            let act = acts.peek().map(|act| after_begin(act.at_ms));
            let next = self.clock.next().into_iter().chain(act).min();
            let Some(next) = next.filter(|next| until.is_none_or(|until| *next <= until)) else {
                return Stopped::ByTheCase;
            };
            self.clock.go_to(next);
            if act == Some(next)
                && let Some(act) = acts.next()
            {
                self.act(definition, act).await;
                wake.notify_one();
            }
        }
    }

    /// When something of an execution falls due by itself.
    fn wake(&self, execution: &Execution) -> Option<Timestamp> {
        let now = self.clock.now();
        let due = execution
            .decide(now)
            .into_iter()
            .map(|command| match command {
                Command::WakeAt(at) => at,
                Command::Record(_) | Command::Start(_) | Command::Cancel { .. } => now,
            });
        due.min()
    }

    /// What comes next is about a fork of an execution that has ended or rests; none: the act is no fork.
    async fn fork(&mut self, execution: &Execution, act: &Act) -> Option<(Arc<Definition>, Epoch)> {
        let ActKind::Fork { step, workflow } = &act.kind else {
            return None;
        };
        let (created, definition) = forked(execution, step, workflow.as_ref()).ok()?;
        let (number, entropy) = (self.forks + FORKS_BEGIN, 7);
        self.forks += 1;
        self.id = ExecutionId::from_parts(number, entropy);
        let epoch = self.create(&definition, created).await;
        Some((definition, epoch))
    }

    async fn create(&self, definition: &Definition, created: EventKind) -> Epoch {
        let new = NewExecution {
            id: self.id,
            document: Document {
                digest: definition.digest().clone(),
                name: definition.name().to_owned(),
                text: definition.document().to_string(),
            },
            workflow: None,
            first_owner: FirstOwner::Creator,
            records: Vec::new(),
            settings: "{}".to_owned(),
            created: Event {
                at: self.clock.now(),
                kind: created,
            },
        };
        self.journal.create(new).await.expect("it can be created")
    }

    async fn release(&self, execution: &Execution, epoch: Epoch) {
        let release = Release {
            execution: self.id,
            epoch,
            version: execution.version(),
            due_at: None,
            snapshot: Some(execution.snapshot().expect("every state can be kept")),
        };
        self.journal
            .release(release)
            .await
            .expect("it can be given back");
    }

    async fn owned(&self, definition: &Arc<Definition>, (epoch, origin): (Epoch, Origin)) -> Owned {
        let (replayed, _) = self.replay(definition).await;
        let stored = self.journal.load(self.id).await.expect("it can be read");
        if let Some(snapshot) = &stored.snapshot {
            let restored = Execution::restore(self.id, Arc::clone(definition), snapshot);
            let mut restored = restored.expect("the snapshot is of this build");
            for event in &stored.events {
                restored.apply(event).expect("what was recorded fits");
            }
            assert!(
                restored == replayed,
                "{}: the snapshot leads elsewhere",
                self.id
            );
        }
        Owned {
            execution: replayed,
            epoch,
            origin,
        }
    }

    async fn replay(&self, definition: &Arc<Definition>) -> (Execution, Vec<Event>) {
        let events = self
            .journal
            .all_events(self.id)
            .await
            .expect("it can be read");
        let execution = Execution::replay(self.id, Arc::clone(definition), &events)
            .unwrap_or_else(|error| panic!("{error}: {events:#?}"));
        (execution, events)
    }

    /// Records what a person does, as somebody who does not own the execution.
    async fn act(&mut self, definition: &Arc<Definition>, act: &Act) {
        let (mut execution, _) = self.replay(definition).await;
        if let ActKind::Fork { step, .. } = &act.kind {
            // One that can be done was done already.
            let refused = execution.fork(&troupe_workflow::StepPath::new(step.clone()));
            let message = refused.err().map_or_else(
                || "what is driven is not forked here".to_owned(),
                |error| error.to_string(),
            );
            return note_refusal(act, &message, &mut self.complaints);
        }
        let expected = execution.version();
        let kinds = match events_of(&execution, &act.kind, self.clock.now()) {
            Ok(kinds) => kinds,
            Err(message) => return note_refusal(act, &message, &mut self.complaints),
        };
        if let Some(says) = &act.refused {
            self.complaints
                .push(format!("an act was not refused with {says:?}: {act:?}"));
        }
        let mut events = Vec::new();
        for kind in kinds {
            let event = Event {
                at: self.clock.now(),
                kind,
            };
            execution.apply(&event).expect("an act fits");
            events.push(event);
        }
        let append = Append {
            execution: self.id,
            expected,
            writer: Writer::Outside,
            status: execution.status(),
            events: &events,
            snapshot: None,
            records: Vec::new(),
        };
        self.journal
            .append(append)
            .await
            .expect("nobody else writes");
    }
}

/// Agents that do what a case says.
struct Scripted {
    script: Mutex<Script>,
    clock: SimClock,
}

impl Performer for Scripted {
    fn perform(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        let plan = self
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .plan(&attempt.start);
        let awake = Awake::new(&self.clock);
        Box::pin(async move {
            let (path, number) = (attempt.start.path.clone(), attempt.start.attempt);
            let usage = plan.usage;
            let result = perform(&attempt, plan, &awake).await;
            AttemptEnd {
                path,
                attempt: number,
                usage: if is_refusal(&result) {
                    StepUsage::default()
                } else {
                    usage
                },
                result: result.map(Ended::Output),
            }
        })
    }
}

fn is_refusal(result: &Result<Output, Failure>) -> bool {
    matches!(result, Err(failure) if failure.code == Code::BudgetExceeded)
}

async fn perform(attempt: &Attempt, plan: Plan, awake: &Awake) -> Result<Output, Failure> {
    if plan.calls.is_empty() {
        awake.sleep(plan.slice).await;
    }
    let (path, number) = (&attempt.start.path, attempt.start.attempt);
    for (index, (request, call)) in plan.calls.into_iter().enumerate() {
        let (answer, answered) = oneshot::channel();
        let start = StartCall {
            path: path.clone(),
            attempt: number,
            kind: CallKind::Model,
            target: "m".to_owned(),
            request,
            position: None,
            worst: Some(WorstCase::Fixed {
                usd: micro_usd(call.worst_usd),
                tokens: call.worst_tokens,
            }),
        };
        let message = StepMessage::StartCall(start, answer);
        let _ = attempt.driver.send(message).await;
        let granted = awake.wait_for(answered).await?;
        let granted = granted.map_err(|refused| told(path, refused.failure))?;
        awake.sleep(plan.slice).await;
        let (answer, answered) = oneshot::channel();
        let end = EndCall {
            path: path.clone(),
            attempt: number,
            call: granted.call,
            outcome: CallOutcome::Answered(json!(index)),
            usage: Usage {
                input_tokens: call.input_tokens,
                cached_input_tokens: 0,
                output_tokens: call.output_tokens,
            },
            cost: micro_usd(call.cost_usd),
        };
        let _ = attempt.driver.send(StepMessage::EndCall(end, answer)).await;
        awake.wait_for(answered).await?;
    }
    plan.result.map(|(value, text)| Output { value, text })
}

/// A clock that stands still while anybody is busy, and then goes to the next moment that somebody waits for.
#[derive(Clone)]
struct SimClock(Arc<Mutex<Inner>>);

struct Inner {
    now: Timestamp,
    sleepers: BTreeMap<(Timestamp, usize), oneshot::Sender<()>>,
    numbered: usize,
    /// Attempts that neither sleep nor wait for the driver.
    awake: usize,
    /// Drivers that wait for something to happen.
    drivers_asleep: usize,
}

impl SimClock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: Timestamp::from_millis(BEGIN_MS),
            sleepers: BTreeMap::new(),
            numbered: 0,
            awake: 0,
            drivers_asleep: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_sleeper(&self, duration: Duration) -> oneshot::Receiver<()> {
        let mut inner = self.inner();
        let (waker, asleep) = oneshot::channel();
        inner.numbered += 1;
        let key = (inner.now.plus(duration), inner.numbered);
        inner.sleepers.insert(key, waker);
        asleep
    }

    /// The next moment that somebody waits for.
    fn next(&self) -> Option<Timestamp> {
        let mut inner = self.inner();
        inner.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        inner.sleepers.keys().next().map(|(at, _)| *at)
    }

    /// Goes on to a moment, and wakes the first of those who wait for it or for one before.
    fn go_to(&self, moment: Timestamp) {
        let mut inner = self.inner();
        inner.now = inner.now.max(moment);
        let now = inner.now;
        inner.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        if let Some(entry) = inner.sleepers.first_entry()
            && entry.key().0 <= now
        {
            let _ = entry.remove().send(());
        }
    }

    /// Ends when nobody is busy.
    async fn everybody_sleeps(&self) {
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            tokio::task::yield_now().await;
            let inner = self.inner();
            let is_quiet = inner.awake == 0 && inner.drivers_asleep == 1;
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.inner().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let asleep = self.add_sleeper(duration);
        let nap = Nap::new(self);
        Box::pin(async move {
            let _ = asleep.await;
            drop(nap);
        })
    }
}

/// A driver sleeps as long as this lives.
struct Nap(SimClock);

impl Nap {
    fn new(clock: &SimClock) -> Self {
        clock.inner().drivers_asleep += 1;
        Self(clock.clone())
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        self.0.inner().drivers_asleep -= 1;
    }
}

/// An attempt is awake as long as this lives, but while it sleeps or waits.
struct Awake(SimClock);

impl Awake {
    fn new(clock: &SimClock) -> Self {
        clock.inner().awake += 1;
        Self(clock.clone())
    }

    async fn sleep(&self, duration: Duration) {
        let asleep = self.0.add_sleeper(duration);
        let _pause = Pause::new(&self.0);
        let _ = asleep.await;
    }

    async fn wait_for<T>(&self, answered: oneshot::Receiver<T>) -> Result<T, Failure> {
        let _pause = Pause::new(&self.0);
        answered
            .await
            .map_err(|_gone| Failure::new(Code::Cancelled, "the driver has gone"))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.inner().awake -= 1;
    }
}

/// An attempt is not awake as long as this lives.
struct Pause(SimClock);

impl Pause {
    fn new(clock: &SimClock) -> Self {
        clock.inner().awake -= 1;
        Self(clock.clone())
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.inner().awake += 1;
    }
}
