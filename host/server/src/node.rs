//! One process that works on executions: it takes those that are due, drives them, and gives them back.
//!
//! An execution that waits is nowhere but in the journal. A wake-up carries nothing: whoever is woken looks there.

mod at_work;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use troupe_journal::{
    AppendError, Claim, Claimed, Epoch, FirstOwner, Journal, ReadError, RecordWrite, Release,
};
use troupe_workflow::{ExecutionId, Timestamp, WorkflowDigest};

use crate::agents::Agents;
use crate::clock::{self, SystemClock};
use crate::config::RetentionSection;
use crate::driver::{DriveError, Driver, Origin, Owned, Patience, Performer, Works};
use crate::operations::OperationError;
use crate::retention;
use crate::run::{self, GivenBack, NewRun, RunSettings, give_back};
use crate::schedules::Room;
use crate::services::ServicesBySettings;
use crate::stored::Definitions;
use crate::tasks;
use crate::upkeep::{self, Found};
use at_work::{AtWork, Employed};

/// Executions that are taken before there is a place for them, so that a place is never empty while a claim is under
/// way. Small: what one process has taken, no other can work on.
const AHEAD: usize = 32;
/// Executions that one claim takes at most: bounds the transaction.
const CLAIM_MAX: usize = 64;
/// Timers that end sooner are waited for in memory: giving an execution back and taking it again costs more.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// No look at the journal is further away: clocks are set, and hints get lost.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(30);
/// How late a process sees what falls due while something is due that nobody can act on, a damaged schedule for instance.
const LOOK_IN_VAIN: Duration = Duration::from_secs(5);
/// How long it is believed that there is room in the queue, or none: measuring it reads as many rows as wait.
const ROOM_KNOWN_FOR: Duration = Duration::from_millis(500);
/// How often it is looked whether something has been kept long enough; one process of all does it once a minute.
const UPKEEP_EVERY: Duration = Duration::from_secs(20);
/// How late a process that can take no execution sees that something else is due.
const BUSY_LOOK: Duration = Duration::from_secs(1);
/// How long an execution is left alone whose needs this machine does not meet.
const UNMET_PAUSE: Duration = Duration::from_secs(60);

/// What a node is made of.
pub(crate) struct NodeParts {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) services: ServicesBySettings,
    /// Executions at work at once.
    pub(crate) concurrency: usize,
    /// Executions of one workflow among them.
    pub(crate) of_one_workflow: usize,
    /// Executions that may wait for a place, in all processes on one database; then new ones are refused.
    pub(crate) queue_max: u32,
    /// How long steps that run may go on when the process is to end.
    pub(crate) grace: Duration,
    pub(crate) retention: RetentionSection,
    /// What looks on, where something does.
    pub(crate) taps: Option<Taps>,
}

/// Puts something between drivers and what does their steps.
type Between = dyn Fn(Arc<dyn Performer>) -> Arc<dyn Performer> + Send + Sync;

/// What looks on while a node works, to measure it.
#[derive(Clone)]
pub(crate) struct Taps {
    /// Stands between drivers and what does their steps.
    pub(crate) performer: Arc<Between>,
    /// Told of each execution that is no longer at work here.
    pub(crate) left: Arc<dyn Fn(ExecutionId) + Send + Sync>,
}

/// A process that works on executions.
pub(crate) struct Node {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) services: ServicesBySettings,
    pub(crate) definitions: Definitions,
    places: Arc<Semaphore>,
    concurrency: usize,
    of_one_workflow: usize,
    queue_max: u32,
    /// When the queue was last measured, by a clock that nobody sets, and whether there was room.
    room: Mutex<Option<(tokio::time::Instant, Room)>>,
    grace: Duration,
    retention: RetentionSection,
    /// Those that are driven here, with what wakes their drivers.
    at_work: Mutex<AtWork>,
    /// Says: something may be due.
    look: Notify,
    adopted: mpsc::Sender<Adopted>,
    adoptions: Mutex<Option<mpsc::Receiver<Adopted>>>,
    drain: watch::Sender<bool>,
    taps: Option<Taps>,
}

impl Node {
    pub(crate) fn new(parts: NodeParts) -> Arc<Self> {
        let (adopted, adoptions) = mpsc::channel(parts.concurrency.max(1));
        Arc::new(Self {
            journal: parts.journal,
            services: parts.services,
            definitions: Definitions::default(),
            places: Arc::new(Semaphore::new(parts.concurrency.max(1))),
            concurrency: parts.concurrency.max(1),
            of_one_workflow: parts.of_one_workflow.max(1),
            queue_max: parts.queue_max,
            room: Mutex::new(None),
            grace: parts.grace,
            retention: parts.retention,
            at_work: Mutex::default(),
            look: Notify::new(),
            adopted,
            adoptions: Mutex::new(Some(adoptions)),
            drain: watch::channel(false).0,
            taps: parts.taps,
        })
    }

    /// Works until [`Node::drain`] is called; then finishes what runs, or hands it over.
    pub(crate) async fn run(self: Arc<Self>) {
        let adoptions = self
            .adoptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut adoptions) = adoptions else {
            return;
        };
        let beating = tasks::spawn("beat", Arc::clone(&self).beat());
        let mut beating = tasks::AbortOnDrop(beating);
        let keeping = tasks::spawn("retention", Arc::clone(&self).keep_house());
        let _keeping = tasks::AbortOnDrop(keeping);
        let mut workers = JoinSet::new();
        let mut drain = self.drain.subscribe();
        // Whether more may be due than there was room for.
        let mut is_more_due = true;
        let mut look_at = tokio::time::Instant::now();
        let mut changed = self.journal.changed();
        while !*drain.borrow() {
            let look = tokio::select! {
                biased;
                _ = drain.changed() => false,
                () = self.look.notified() => true,
                Some(adopted) = adoptions.recv() => {
                    let owned = &adopted.owned;
                    let digest = owned.execution.definition().digest().clone();
                    let owner = (owned.execution.id(), owned.epoch, digest);
                    self.employ(&mut workers, owner, Some(adopted));
                    false
                }
                Some(_) = workers.join_next(), if !workers.is_empty() => {
                    while workers.try_join_next().is_some() {}
                    is_more_due
                }
                // Kept over the rounds, as the time is: other things happen all the time.
                () = &mut changed => {
                    changed = self.journal.changed();
                    true
                }
                () = tokio::time::sleep_until(look_at) => true,
            };
            if !look {
                continue;
            }
            let wait = match self.take_due(&mut workers).await {
                Ok(Due::Nothing(wait)) => {
                    is_more_due = false;
                    wait
                }
                Ok(Due::More(wait)) => {
                    is_more_due = true;
                    wait
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the journal cannot be looked at; trying again"
                    );
                    Duration::from_secs(1)
                }
            };
            look_at = tokio::time::Instant::now() + wait;
        }
        drop(changed);
        self.finish(workers).await;
        // A sign of life after it would enter this process again.
        beating.0.abort();
        let _ = (&mut beating.0).await;
        self.journal.leave().await;
    }

    /// Starts nothing new from now on.
    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Whether it takes work.
    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Executions that are at work here.
    pub(crate) fn at_work(&self) -> usize {
        self.at_work_map().len()
    }

    /// Somebody wrote to an execution, or made one.
    pub(crate) fn look_at(&self, id: ExecutionId) {
        match self.at_work_map().get(id) {
            Some(employed) => employed.wake.notify_one(),
            None => self.look.notify_one(),
        }
    }

    /// Something may be due sooner than it was.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Records a new execution, and works on it at once where there is a place.
    ///
    /// # Errors
    /// What the journal says.
    pub(crate) async fn create(&self, id: ExecutionId, mut new: NewRun) -> Result<(), AppendError> {
        let digest = new.definition.digest();
        let is_full = self.at_work_map().count(digest) >= self.of_one_workflow;
        let place = if self.is_draining() || is_full {
            None
        } else {
            Arc::clone(&self.places).try_acquire_owned().ok()
        };
        new.first_owner = match place {
            Some(_) => FirstOwner::Creator,
            None => FirstOwner::Anyone,
        };
        let settings = new.settings.clone();
        let owned = run::create(&*self.journal, id, new).await?;
        match place {
            // Where it cannot be sent the process ends: what it owns is handed over there.
            Some(place) => {
                let _ = self
                    .adopted
                    .send(Adopted {
                        owned,
                        settings,
                        place,
                    })
                    .await;
            }
            None => self.look.notify_one(),
        }
        Ok(())
    }

    /// Whether one more execution may be created: what waits is bounded, or it would only grow.
    ///
    /// # Errors
    /// [`OperationError::Full`] where it may not.
    pub(crate) async fn check_room(&self) -> Result<(), OperationError> {
        let full = |why: &str| Err(OperationError::Full(why.to_owned()));
        if self.is_draining() {
            return full("this server is about to end");
        }
        match self.room(clock::now()).await? {
            Room::Free => Ok(()),
            Room::Full => full("more executions wait than `[server] queue_max` allows"),
        }
    }

    /// Whether fewer executions wait than may wait.
    ///
    /// # Errors
    /// A journal that cannot be read at the moment.
    pub(crate) async fn room(&self, now: Timestamp) -> Result<Room, ReadError> {
        let measured_at = tokio::time::Instant::now();
        let known = *self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, room)) = known
            && measured_at.duration_since(at) < ROOM_KNOWN_FOR
        {
            return Ok(room);
        }
        let room = if self.journal.queued(now, self.queue_max).await? < self.queue_max {
            Room::Free
        } else {
            Room::Full
        };
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = Some((measured_at, room));
        Ok(room)
    }

    /// Writes and reads a little, to see whether the journal takes it.
    pub(crate) async fn probe(&self) -> anyhow::Result<()> {
        let kind = upkeep::PROBE;
        let id = self.journal.node().to_owned();
        let known = self.journal.record(kind, id.clone()).await?;
        let write = RecordWrite {
            kind,
            id,
            expected: known.map_or(0, |record| record.version),
            due_at: Some(clock::now().plus(upkeep::PROBE_KEPT_FOR)),
            body: Some("{}".to_owned()),
        };
        match self.journal.write(Vec::new(), vec![write]).await {
            // Two probes at once.
            Ok(()) | Err(AppendError::Record { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn at_work_map(&self) -> MutexGuard<'_, AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is due and wakes those that others wrote to. Answers when to look again.
    async fn take_due(self: &Arc<Self>, workers: &mut JoinSet<()>) -> Result<Due, anyhow::Error> {
        for (id, _) in self.journal.written_by_others().await? {
            if let Some(employed) = self.at_work_map().get(id) {
                employed.wake.notify_one();
            }
        }
        let now = clock::now();
        match self.journal.next_due().await? {
            Some(due) if due <= now => {}
            Some(due) => return Ok(Due::Nothing(due.since(now).min(LOOK_AT_LEAST_EVERY))),
            None => return Ok(Due::Nothing(LOOK_AT_LEAST_EVERY)),
        }
        let found = upkeep::run_due(self, now).await?;
        let room = (self.concurrency + AHEAD).saturating_sub(workers.len());
        if room == 0 || self.journal.queued(now, 1).await? == 0 {
            return Ok(match found {
                Found::Something => Due::More(Duration::ZERO),
                Found::Nothing if room == 0 => Due::More(BUSY_LOOK),
                Found::Nothing => Due::Nothing(LOOK_IN_VAIN),
            });
        }
        let limit = u32::try_from(room.min(CLAIM_MAX)).unwrap_or(u32::MAX);
        let except = self.at_work_map().full(self.of_one_workflow);
        let claimed = self.journal.claim(Claim { now, limit, except }).await?;
        if claimed.is_empty() {
            // What is due is others' by now, or of workflows that have all the places they may have.
            return Ok(match found {
                Found::Something => Due::More(Duration::ZERO),
                Found::Nothing => Due::More(BUSY_LOOK),
            });
        }
        for Claimed { id, digest, epoch } in claimed {
            if self.at_work_map().count(&digest) >= self.of_one_workflow {
                run::hand_over(&*self.journal, id, epoch).await?;
                continue;
            }
            self.employ(workers, (id, epoch, digest), None);
        }
        Ok(Due::More(Duration::ZERO))
    }

    /// Starts to work on an execution that this process owns.
    fn employ(
        self: &Arc<Self>,
        workers: &mut JoinSet<()>,
        (id, epoch, digest): (ExecutionId, Epoch, WorkflowDigest),
        adopted: Option<Adopted>,
    ) {
        let wake = Arc::new(Notify::new());
        let lost = Arc::new(Notify::new());
        let employed = Employed {
            digest,
            epoch,
            wake: Arc::clone(&wake),
            lost: Arc::clone(&lost),
        };
        self.at_work_map().insert(id, employed);
        let node = Arc::clone(self);
        let entry = Place {
            node: Arc::clone(self),
            id,
            wake: Arc::clone(&wake),
        };
        workers.spawn(async move {
            let _entry = entry;
            let places = Arc::clone(&node.places);
            let (known, _place) = match adopted {
                Some(adopted) => (Some((adopted.owned, adopted.settings)), Ok(adopted.place)),
                None => (None, places.acquire_owned().await),
            };
            if let Err(error) = node.work((id, epoch), known, (wake, lost)).await {
                node.leave((id, epoch), &error).await;
            }
        });
    }

    /// Drives an execution until nothing more can be done now, and gives it back.
    async fn work(
        &self,
        (id, epoch): (ExecutionId, Epoch),
        known: Option<(Owned, RunSettings)>,
        (wake, lost): (Arc<Notify>, Arc<Notify>),
    ) -> anyhow::Result<()> {
        let (mut owned, settings) = match known {
            Some(known) => known,
            None => self.load((id, epoch)).await?,
        };
        let services = self.services.get(&settings)?;
        if let Err(faults) = services.check(owned.execution.definition()).await
            && !owned.execution.is_cancelling()
        {
            return Err(Unmet(faults.to_string()).into());
        }
        let agents: Arc<dyn Performer> = Arc::new(Agents { services });
        let works = Works {
            journal: Arc::clone(&self.journal),
            clock: Arc::new(SystemClock),
            performer: match &self.taps {
                Some(taps) => (taps.performer)(agents),
                None => agents,
            },
        };
        loop {
            if !owned.execution.status().is_terminal() {
                let driver = Driver::new(owned, works.clone(), None)
                    .with_patience(Patience::For(SHORT_WAIT))
                    .with_drain(self.drain.subscribe())
                    .with_waker(Arc::clone(&wake))
                    .with_loss(Arc::clone(&lost));
                let execution = driver.drive().await?;
                // What has ended is nobody's any more.
                if execution.status().is_terminal() {
                    return Ok(());
                }
                owned = Owned {
                    execution,
                    epoch,
                    origin: Origin::Created,
                };
            }
            match give_back(&*self.journal, owned, &None).await? {
                GivenBack::All(_) => return Ok(()),
                GivenBack::Not(again) => owned = again,
            }
        }
    }

    /// Reads an execution that was taken.
    async fn load(
        &self,
        (id, epoch): (ExecutionId, Epoch),
    ) -> anyhow::Result<(Owned, RunSettings)> {
        let loaded = self.definitions.load(&*self.journal, id).await?;
        let settings = serde_json::from_str(&loaded.row.settings)?;
        let owned = Owned {
            execution: loaded.execution,
            epoch,
            origin: if loaded.row.version == 1 {
                Origin::Created
            } else {
                Origin::Recovered
            },
        };
        Ok((owned, settings))
    }

    /// What becomes of an execution that cannot be worked on.
    async fn leave(&self, (id, epoch): (ExecutionId, Epoch), error: &anyhow::Error) {
        let due_at = match trouble_of(error) {
            Trouble::Lost => {
                tracing::info!(execution.id = %id, "another process works on it now");
                return;
            }
            // What cannot be written now is found in this process's hands later, see `take_stock`.
            Trouble::Passing => {
                tracing::warn!(execution.id = %id, error = format!("{error:#}"), "an execution is left for a while");
                return;
            }
            Trouble::Unmet => {
                tracing::warn!(execution.id = %id, error = format!("{error:#}"), "an execution is left for a while");
                Some(clock::now().plus(UNMET_PAUSE))
            }
            Trouble::Ours => {
                tracing::error!(execution.id = %id, error = format!("{error:#}"), "an execution cannot be worked on; it is left until somebody writes to it");
                None
            }
        };
        let Ok(row) = self.journal.find(id).await else {
            return;
        };
        let release = Release {
            execution: id,
            epoch,
            version: row.version,
            due_at,
            snapshot: None,
        };
        if let Err(error) = self.journal.release(release).await {
            tracing::warn!(execution.id = %id, %error, "an execution cannot be given back");
        }
    }

    /// Gives signs of life, drops what is no longer this process's own, and gives back what nobody here works on.
    async fn beat(self: Arc<Self>) {
        let mut forgotten = Vec::new();
        loop {
            match self.journal.beat(clock::machine_time()).await {
                Ok(beat) => {
                    clock::set_offset(beat.clock_offset_ms);
                    if beat.freed > 0 {
                        tracing::info!(
                            executions = beat.freed,
                            "a process ended, and left executions"
                        );
                        self.look.notify_one();
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the journal does not take this process's sign of life");
                }
            }
            if let Err(error) = self.take_stock(&mut forgotten).await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the journal cannot be looked at"
                );
            }
            tokio::time::sleep(self.journal.beat_every()).await;
        }
    }

    /// Removes what has been kept long enough.
    async fn keep_house(self: Arc<Self>) {
        loop {
            match retention::run(&*self.journal, &self.retention, clock::now()).await {
                Ok(0) => {}
                Ok(executions) => {
                    tracing::info!(executions, "executions that ended long ago were removed");
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "what has been kept long enough cannot be removed"
                ),
            }
            tokio::time::sleep(UPKEEP_EVERY).await;
        }
    }

    /// Holds what this process owns against what it works on.
    ///
    /// What it works on and does not own was taken away while it gave no sign of life, and the work on it ends at once;
    /// or it has just ended. An execution that it owns and does not work on, at two looks in a row, is given back: the
    /// answer of a claim was lost, or that of a release, or the journal could not be written when its driver left it.
    async fn take_stock(&self, before: &mut Vec<(ExecutionId, Epoch)>) -> anyhow::Result<()> {
        // First what is at work: what is taken from now on is owned and not among it, never the other way round.
        let at_work = self.at_work_map().all();
        let owned: BTreeSet<_> = self.journal.owned().await?.into_iter().collect();
        for (id, epoch) in at_work.difference(&owned) {
            self.at_work_map().lose(*id, *epoch);
        }
        let forgotten: Vec<_> = {
            let at_work = self.at_work_map();
            owned
                .into_iter()
                .filter(|(id, _)| at_work.get(*id).is_none())
                .collect()
        };
        for (id, epoch) in forgotten.iter().filter(|one| before.contains(one)) {
            run::hand_over(&*self.journal, *id, *epoch).await?;
            self.look.notify_one();
        }
        *before = forgotten;
        Ok(())
    }

    /// Lets what runs come to its end, for a while; then hands over what is left.
    async fn finish(&self, mut workers: JoinSet<()>) {
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, all).await.is_err() {
            tracing::warn!(
                executions = workers.len(),
                "steps still run; their executions are handed over"
            );
            workers.shutdown().await;
        }
        let left = self.journal.owned().await.unwrap_or_default();
        for (id, epoch) in left {
            if let Err(error) = run::hand_over(&*self.journal, id, epoch).await {
                tracing::warn!(execution.id = %id, %error, "an execution cannot be handed over; others take it when this process is gone");
            }
        }
    }
}

/// An execution that was made here, and has a place.
struct Adopted {
    owned: Owned,
    settings: RunSettings,
    place: OwnedSemaphorePermit,
}

/// What a look at the journal found.
enum Due {
    /// Nothing is due for so long.
    Nothing(Duration),
    /// More is due, or may be: to be looked at again when there is room, and after so long.
    More(Duration),
}

/// An execution is at work as long as this lives.
struct Place {
    node: Arc<Node>,
    id: ExecutionId,
    wake: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.node.at_work_map().leave(self.id, &self.wake);
        if let Some(taps) = &self.node.taps {
            (taps.left)(self.id);
        }
    }
}

/// This machine lacks what an execution needs.
#[derive(Debug, thiserror::Error)]
#[error("this machine's configuration lacks what it needs:\n{0}")]
struct Unmet(String);

/// Why an execution cannot be worked on.
enum Trouble {
    /// Another process has it.
    Lost,
    /// The database may be back soon.
    Passing,
    /// The configuration may change.
    Unmet,
    /// Our fault, or a damaged journal.
    Ours,
}

fn trouble_of(error: &anyhow::Error) -> Trouble {
    let append = |error: &AppendError| match error {
        AppendError::Fenced | AppendError::NotFound(_) => Trouble::Lost,
        AppendError::Database { .. } | AppendError::Unknown { .. } | AppendError::Closed => {
            Trouble::Passing
        }
        _ => Trouble::Ours,
    };
    let read = |error: &ReadError| match error {
        ReadError::NotFound(_) => Trouble::Lost,
        ReadError::Database { .. } | ReadError::Closed => Trouble::Passing,
        ReadError::NoDocument(_) | ReadError::Corrupt { .. } => Trouble::Ours,
    };
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<AppendError>() {
            return append(error);
        }
        if let Some(error) = cause.downcast_ref::<ReadError>() {
            return read(error);
        }
        match cause.downcast_ref::<DriveError>() {
            Some(DriveError::Journal(error)) => return append(error),
            Some(DriveError::Read(error)) => return read(error),
            Some(DriveError::Illegal(_)) => return Trouble::Ours,
            None => {}
        }
        if cause.is::<Unmet>() {
            return Trouble::Unmet;
        }
    }
    Trouble::Ours
}
