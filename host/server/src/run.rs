//! Creates executions, takes up those that were left, and drives them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use troupe_journal::{
    AppendError, Brought, Document, Epoch, FirstOwner, Journal, NewExecution, RecordWrite, Release,
    WorkflowVersion,
};
use troupe_workflow::{
    Definition, Event, EventKind, Execution, ExecutionId, ForkedFrom, Kept, Timestamp,
};

use crate::agents::Agents;
use crate::clock::{self, Clock as _, SystemClock};
use crate::driver::{Driver, Origin, Owned, Patience, Works};
use crate::models::Reach;
use crate::services::{Outside, Services};
use crate::stored::{Definitions, events_after};
use crate::tasks;

/// What an execution was started with, kept beside it so that whoever goes on with it uses the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RunSettings {
    #[serde(default)]
    pub(crate) offline: bool,
    #[serde(default)]
    pub(crate) documents: Option<PathBuf>,
}

impl RunSettings {
    pub(crate) fn outside(&self) -> Outside {
        let reach = if self.offline {
            Reach::Offline
        } else {
            Reach::Online
        };
        Outside {
            reach,
            documents: self.documents.clone(),
        }
    }
}

/// The schedule that started an execution, and the moment it was planned for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// `sched_…`
    pub(crate) schedule: String,
    pub(crate) at: Timestamp,
}

impl Planned {
    /// What the settings of an execution say about it.
    pub(crate) fn read(settings: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Of {
            planned: Option<Planned>,
        }
        serde_json::from_str::<Of>(settings).ok()?.planned
    }
}

/// What is kept beside an execution, as its settings. Whoever goes on with it needs the first part alone.
#[derive(Serialize)]
struct Noted<'a> {
    #[serde(flatten)]
    settings: &'a RunSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    planned: Option<&'a Planned>,
}

/// Drives an execution until it has ended or waits for a person.
pub(crate) async fn drive(
    owned: Owned,
    services: Arc<Services>,
    observer: Option<mpsc::Sender<Event>>,
    patience: Patience,
) -> anyhow::Result<Execution> {
    let (id, epoch) = (owned.execution.id(), owned.epoch);
    let journal = Arc::clone(&services.journal);
    let works = Works {
        journal: Arc::clone(&journal),
        clock: Arc::new(SystemClock),
        performer: Arc::new(Agents { services }),
    };
    let lost = Arc::new(Notify::new());
    let beating = tasks::spawn(
        "beat",
        beat(Arc::clone(&journal), (id, epoch), Arc::clone(&lost)),
    );
    let _beating = tasks::AbortOnDrop(beating);
    let mut owned = owned;
    loop {
        // Another process may have brought it to its end between a look at it and taking it over.
        if !owned.execution.status().is_terminal() {
            let driver = Driver::new(owned, works.clone(), observer.clone())
                .with_patience(patience)
                .with_loss(Arc::clone(&lost));
            let watcher = watch(Arc::clone(&journal), id, driver.waker());
            let _watcher = tasks::AbortOnDrop(tasks::spawn("watch", watcher));
            let driven = driver.drive().await;
            owned = Owned {
                execution: driven.with_context(|| {
                    format!(
                        "the execution {id} was left where it is; `troupe recover {id}` goes on with it"
                    )
                })?,
                epoch,
                origin: Origin::Created,
            };
        }
        match give_back(&*journal, owned, &observer).await? {
            GivenBack::All(execution) => return Ok(execution),
            GivenBack::Not(again) => owned = again,
        }
    }
}

/// Whether an execution was given back to the journal.
pub(crate) enum GivenBack {
    All(Execution),
    /// Somebody brought something at the last moment, and saw that its owner lives.
    Not(Owned),
}

/// Gives an execution back that has ended, or that waits.
pub(crate) async fn give_back(
    journal: &dyn Journal,
    owned: Owned,
    observer: &Option<mpsc::Sender<Event>>,
) -> anyhow::Result<GivenBack> {
    let Owned {
        mut execution,
        epoch,
        origin,
    } = owned;
    let (id, version) = (execution.id(), execution.version());
    let now = SystemClock.now();
    let release = Release {
        execution: id,
        epoch,
        version,
        due_at: execution.wake_at(now),
        snapshot: None,
    };
    match journal.release(release).await {
        Ok(true) => return Ok(GivenBack::All(execution)),
        Ok(false) => {}
        // Whoever finds it in this process's hands without anybody working on it gives it back.
        Err(AppendError::Unknown { .. }) => return Ok(GivenBack::All(execution)),
        Err(error) => return Err(error.into()),
    }
    for event in events_after(journal, id, version).await? {
        execution.apply(&event)?;
        if let Some(observer) = observer {
            let _ = observer.send(event).await;
        }
    }
    Ok(GivenBack::Not(Owned {
        execution,
        epoch,
        origin,
    }))
}

/// Gives an execution back in the middle of its work: whoever takes it next sees its steps as interrupted.
pub(crate) async fn hand_over(
    journal: &dyn Journal,
    id: ExecutionId,
    epoch: Epoch,
) -> Result<(), AppendError> {
    let Ok(row) = journal.find(id).await else {
        return Ok(());
    };
    let release = Release {
        execution: id,
        epoch,
        version: row.version,
        due_at: Some(SystemClock.now()),
        snapshot: None,
    };
    journal.release(release).await.map(|_is_released| ())
}

/// Gives signs of life for as long as it is not dropped, and says when this process, taken for dead, owns the execution
/// no longer. Who has ended it or given it back does not listen any more.
async fn beat(journal: Arc<dyn Journal>, owned: (ExecutionId, Epoch), lost: Arc<Notify>) {
    loop {
        // One that is lost is followed by the next.
        match journal.beat(clock::machine_time()).await {
            Ok(beat) => clock::set_offset(beat.clock_offset_ms),
            Err(error) => {
                tracing::warn!(%error, "the journal does not take this process's sign of life");
            }
        }
        // A journal that cannot be read now may be readable later.
        if let Ok(all) = journal.owned().await
            && !all.contains(&owned)
        {
            lost.notify_one();
        }
        tokio::time::sleep(journal.beat_every()).await;
    }
}

/// Wakes a driver when its execution's record has grown: a person answered, or wants it to end.
async fn watch(journal: Arc<dyn Journal>, id: ExecutionId, wake: Arc<Notify>) {
    loop {
        journal.changed().await;
        // A journal that cannot be read now may be readable later.
        if let Ok(written) = journal.written_by_others().await
            && written.iter().any(|(other, _)| *other == id)
        {
            wake.notify_one();
        }
    }
}

/// Records what a person brings to an execution, whoever owns it: `make` says what that is, from the execution as
/// it is then. `records` are written with it.
///
/// # Errors
/// What `make` says, or a journal that cannot be read or written.
pub(crate) async fn bring<E>(
    (journal, definitions): (&dyn Journal, &Definitions),
    (id, records): (ExecutionId, Vec<RecordWrite>),
    make: impl Fn(&Execution) -> Result<Vec<EventKind>, E> + Send + Sync + 'static,
) -> Result<Execution, E>
where
    E: From<anyhow::Error> + Send + 'static,
{
    /// Answers of the journal that may be lost, one after the other.
    const TRIES: u32 = 10;
    let make = Arc::new(make);
    let mut doubtful: Option<(u64, Vec<Event>)> = None;
    for _ in 0..TRIES {
        let execution = definitions.load(journal, id).await?.execution;
        if let Some((expected, events)) = &doubtful
            && is_recorded(journal, id, (*expected, events)).await?
        {
            return Ok(execution);
        }
        let lost = doubtful.take();
        let known = execution.version();
        let made: Arc<Mutex<Option<Result<Made, E>>>> = Arc::default();
        let decide = {
            let (make, made, records) = (Arc::clone(&make), Arc::clone(&made), records.clone());
            move |others: Vec<Event>| {
                // What was on its way when its answer was lost may have arrived just now.
                let has_arrived = lost.as_ref().is_some_and(|(expected, events)| {
                    let before = expected.checked_sub(known).map(usize::try_from);
                    let since = before.and_then(|before| others.get(before.ok()?..));
                    since.is_some_and(|since| since.starts_with(events))
                });
                let nothing = |_: &Execution| Ok(Vec::new());
                let result = if has_arrived {
                    Made::after(execution.clone(), &others, &nothing)
                } else {
                    Made::after(execution.clone(), &others, &*make)
                };
                let brought = result.as_ref().ok().filter(|_| !has_arrived);
                let brought = brought.map(|made| Brought {
                    events: made.events.clone(),
                    status: made.execution.status(),
                    records: records.clone(),
                });
                *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                brought
            }
        };
        let recorded = journal.bring(id, known, Arc::new(decide)).await;
        let made = made.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (recorded, made) {
            (Ok(_), Some(made)) => return made.map(|made| made.execution),
            // Whether it was written is looked at before it is tried again.
            (Err(AppendError::Unknown { source }), made) => {
                tracing::warn!(execution.id = %id, source, "an answer of the journal was lost; trying again");
                if let Some(Ok(made)) = made {
                    doubtful = Some((made.expected, made.events));
                }
            }
            (Err(error), _) => return Err(anyhow::Error::from(error).into()),
            (Ok(_), None) => break,
        }
    }
    let source = format!("whether {id} was written stays unknown");
    Err(anyhow::Error::from(AppendError::Unknown {
        source: source.into(),
    })
    .into())
}

/// What somebody brings, made from an execution as it is.
struct Made {
    /// How many events it had before.
    expected: u64,
    events: Vec<Event>,
    /// As it is with them.
    execution: Execution,
}

impl Made {
    /// `others` are events that `execution` has not seen.
    fn after<E: From<anyhow::Error>>(
        mut execution: Execution,
        others: &[Event],
        make: &impl Fn(&Execution) -> Result<Vec<EventKind>, E>,
    ) -> Result<Self, E> {
        for event in others {
            execution.apply(event).map_err(anyhow::Error::from)?;
        }
        let expected = execution.version();
        let mut events = Vec::new();
        for kind in make(&execution)? {
            let at = clock::now();
            let event = Event { at, kind };
            execution.apply(&event).map_err(anyhow::Error::from)?;
            events.push(event);
        }
        Ok(Self {
            expected,
            events,
            execution,
        })
    }
}

/// Whether these events are what follows the first `expected` ones of an execution.
async fn is_recorded(
    journal: &dyn Journal,
    id: ExecutionId,
    (expected, events): (u64, &[Event]),
) -> anyhow::Result<bool> {
    let limit = u32::try_from(events.len()).unwrap_or(u32::MAX);
    Ok(journal.events(id, expected, limit).await? == events)
}

/// An execution that is to be created.
pub(crate) struct NewRun {
    pub(crate) definition: Arc<Definition>,
    pub(crate) inputs: Value,
    pub(crate) settings: RunSettings,
    /// The stored workflow that it is a run of.
    pub(crate) workflow: Option<WorkflowVersion>,
    pub(crate) first_owner: FirstOwner,
    /// The execution whose steps it keeps, and those steps.
    pub(crate) forked_from: Option<ForkedFrom>,
    pub(crate) kept: Vec<Kept>,
    /// The schedule that starts it.
    pub(crate) planned: Option<Planned>,
    /// Written with it.
    pub(crate) records: Vec<RecordWrite>,
}

/// Records a new execution. It is durable when this returns.
///
/// # Errors
/// What the journal says.
pub(crate) async fn create(
    journal: &dyn Journal,
    id: ExecutionId,
    run: NewRun,
) -> Result<Owned, AppendError> {
    let definition = run.definition;
    let kind = EventKind::ExecutionCreated {
        workflow: definition.name().to_owned(),
        digest: definition.digest().clone(),
        inputs: run.inputs,
        forked_from: run.forked_from,
        kept: run.kept,
    };
    let created = Event {
        at: clock::now(),
        kind,
    };
    let execution = Execution::replay(id, Arc::clone(&definition), std::slice::from_ref(&created));
    let noted = Noted {
        settings: &run.settings,
        planned: run.planned.as_ref(),
    };
    let new = NewExecution {
        id,
        document: Document {
            digest: definition.digest().clone(),
            name: definition.name().to_owned(),
            text: definition.document().to_string(),
        },
        workflow: run.workflow,
        settings: serde_json::to_string(&noted)?,
        created,
        first_owner: run.first_owner,
        records: run.records,
    };
    let first_owner = new.first_owner;
    let epoch = match journal.create(new).await {
        // Nobody else has this id.
        Err(AppendError::Unknown { source }) => match (journal.find(id).await, first_owner) {
            (Ok(_), FirstOwner::Creator) => Epoch::FIRST,
            (Ok(_), FirstOwner::Anyone) => Epoch::NONE,
            (Err(_), _) => return Err(AppendError::Unknown { source }),
        },
        other => other?,
    };
    let execution = execution.expect("the first event fits every definition");
    Ok(Owned {
        execution,
        epoch,
        origin: Origin::Created,
    })
}

/// Takes an execution over and reads it as it is then.
pub(crate) async fn take_over(
    (journal, definitions): (&dyn Journal, &Definitions),
    id: ExecutionId,
) -> anyhow::Result<Owned> {
    let epoch = journal.take(id).await?.epoch;
    let execution = definitions.load(journal, id).await?.execution;
    Ok(Owned {
        execution,
        epoch,
        origin: Origin::Recovered,
    })
}
