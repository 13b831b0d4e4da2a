//! Creates executions, takes up those that were left, and drives them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use troupe_journal::{Append, AppendError, ExecutionRow, Journal, NewExecution, Writer};
use troupe_workflow::{Definition, Event, EventKind, Execution, ExecutionId};

use crate::agents::Agents;
use crate::clock::{self, SystemClock};
use crate::driver::{Driver, Origin, Owned, Patience, Works};
use crate::models::Reach;
use crate::services::{Outside, Services};
use crate::tasks;

/// What an execution was started with, kept beside it so that whoever goes on with it uses the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// How often it is looked whether somebody else wrote to an execution that is driven here.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Drives an execution until it has ended or waits for a person.
pub(crate) async fn drive(
    owned: Owned,
    services: Arc<Services>,
    observer: Option<mpsc::Sender<Event>>,
    patience: Patience,
) -> anyhow::Result<Execution> {
    let (id, epoch) = (owned.execution.id(), owned.epoch);
    let journal = services.journal.clone();
    let works = Works {
        journal: journal.clone(),
        clock: Arc::new(SystemClock),
        performer: Arc::new(Agents { services }),
    };
    let mut owned = owned;
    loop {
        // Another process may have brought it to its end between a look at it and taking it over.
        if owned.execution.status().is_terminal() {
            journal.release(id, epoch).await?;
            return Ok(owned.execution);
        }
        let driver = Driver::new(owned, works.clone(), observer.clone()).with_patience(patience);
        let watcher = tasks::spawn("watch", watch(journal.clone(), id, driver.waker()));
        let driven = driver.drive().await;
        watcher.abort();
        let mut execution = driven.with_context(|| {
            format!(
                "the execution {id} was left where it is; `troupe recover {id}` goes on with it"
            )
        })?;
        let known = execution.version();
        if execution.status().is_terminal() || journal.release_at(id, epoch, known).await? {
            return Ok(execution);
        }
        // Somebody brought something at the last moment, and saw that its owner lives.
        for event in journal.events(id, known).await? {
            execution.apply(&event)?;
            if let Some(observer) = &observer {
                let _ = observer.send(event).await;
            }
        }
        owned = Owned {
            execution,
            epoch,
            origin: Origin::Created,
        };
    }
}

/// Wakes a driver when its execution's record has grown: a person answered, or wants it to end.
async fn watch(journal: Journal, id: ExecutionId, wake: Arc<Notify>) {
    let mut known = None;
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        // A journal that cannot be read now may be readable later.
        if let Ok(row) = journal.find(id).await
            && known.replace(row.version) != Some(row.version)
        {
            wake.notify_one();
        }
    }
}

/// Records what a person brings to an execution, whoever owns it: `make` says what that is, from the execution as
/// it is then.
///
/// # Errors
/// What `make` says, or a journal that cannot be read or written.
pub(crate) async fn bring<E>(
    journal: &Journal,
    id: ExecutionId,
    make: impl Fn(&Execution) -> Result<Vec<EventKind>, E>,
) -> Result<(), E>
where
    E: From<anyhow::Error>,
{
    /// Others may write at the same time; each try begins with what they wrote.
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let row = journal.find(id).await.map_err(anyhow::Error::from)?;
        let mut execution = load(journal, &row).await?;
        let expected = execution.version();
        let mut events = Vec::new();
        for kind in make(&execution)? {
            let at = clock::now();
            let event = Event { at, kind };
            execution.apply(&event).map_err(anyhow::Error::from)?;
            events.push(event);
        }
        let append = Append {
            execution: id,
            expected,
            writer: Writer::Outside,
            status: execution.status(),
            events,
        };
        match journal.append(append).await {
            Ok(_) => return Ok(()),
            Err(AppendError::Conflict { .. }) => {}
            Err(error) => return Err(anyhow::Error::from(error).into()),
        }
    }
    Err(anyhow::anyhow!("{id} changes all the time; try again").into())
}

/// Records a new execution. It is durable when this returns.
pub(crate) async fn create(
    services: &Services,
    definition: Arc<Definition>,
    inputs: Value,
    settings: &RunSettings,
) -> anyhow::Result<Owned> {
    let id = clock::new_execution_id();
    let kind = EventKind::ExecutionCreated {
        workflow: definition.name().to_owned(),
        digest: definition.digest().clone(),
        inputs,
        forked_from: None,
        kept: Vec::new(),
    };
    let created = Event {
        at: clock::now(),
        kind,
    };
    let execution = Execution::replay(id, Arc::clone(&definition), std::slice::from_ref(&created))?;
    let epoch = services
        .journal
        .create(NewExecution {
            id,
            workflow: definition.digest().clone(),
            workflow_name: definition.name().to_owned(),
            document: definition.document().to_string(),
            settings: serde_json::to_string(settings)?,
            created,
        })
        .await?;
    Ok(Owned {
        execution,
        epoch,
        origin: Origin::Created,
    })
}

/// An execution as the journal has it, with the definition it began with.
pub(crate) async fn load(journal: &Journal, row: &ExecutionRow) -> anyhow::Result<Execution> {
    let stored = journal.workflow(row.id).await?;
    let definition = Definition::compile(&stored.document).map_err(|faults| {
        anyhow::anyhow!(
            "the workflow of {} can no longer be read by this version:\n{faults}",
            row.id
        )
    })?;
    let events = journal.events(row.id, 0).await?;
    Execution::replay(row.id, Arc::new(definition), &events)
        .with_context(|| format!("the journal of {} cannot be followed", row.id))
}

/// Takes an execution over and reads it as it is then.
pub(crate) async fn take_over(journal: &Journal, row: &ExecutionRow) -> anyhow::Result<Owned> {
    let epoch = journal.claim(row).await?;
    let execution = load(journal, row).await?;
    Ok(Owned {
        execution,
        epoch,
        origin: Origin::Recovered,
    })
}
