//! Creates executions, takes up those that were left, and drives them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use troupe_journal::{ExecutionRow, Journal, NewExecution};
use troupe_workflow::{Definition, Event, EventKind, Execution};

use crate::clock;
use crate::driver::{Driver, InDoubt, Origin, Owned};
use crate::models::Reach;
use crate::services::{Outside, Services};

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

impl Owned {
    /// Drives it until it has ended or waits for a person.
    pub(crate) async fn drive(
        self,
        services: Arc<Services>,
        observer: Option<mpsc::Sender<Event>>,
    ) -> anyhow::Result<Execution> {
        let (id, epoch) = (self.execution.id(), self.epoch);
        let journal = services.journal.clone();
        let driven = Driver::new(self, services, observer).drive().await;
        let execution = driven.with_context(|| {
            format!(
                "the execution {id} was left where it is; `troupe recover {id}` goes on with it"
            )
        })?;
        if !execution.status().is_terminal() {
            journal.release(id, epoch).await?;
        }
        Ok(execution)
    }
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
pub(crate) async fn take_over(
    journal: &Journal,
    row: &ExecutionRow,
    in_doubt: InDoubt,
) -> anyhow::Result<Owned> {
    let epoch = journal.claim(row).await?;
    let execution = load(journal, row).await?;
    Ok(Owned {
        execution,
        epoch,
        origin: Origin::Recovered(in_doubt),
    })
}
