//! Executions as the journal has them, back in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use troupe_journal::{ExecutionRow, Journal, ReadError, Stored};
use troupe_workflow::{Definition, Event, Execution, ExecutionId, WorkflowDigest};

use crate::driver::DriveError;

/// An execution and its row, read at the same time.
pub(crate) struct Loaded {
    pub(crate) row: ExecutionRow,
    pub(crate) execution: Execution,
}

/// Definitions that were compiled, by the digests of their documents: many executions are runs of the same.
#[derive(Default)]
pub(crate) struct Definitions {
    compiled: Mutex<BTreeMap<WorkflowDigest, Arc<Definition>>>,
}

/// Definitions that are kept; then all are forgotten, which costs compiling them once more.
const DEFINITIONS_MAX: usize = 1_000;

impl Definitions {
    /// The definition of a stored document.
    fn get(&self, stored: &Stored) -> anyhow::Result<Arc<Definition>> {
        let digest = &stored.row.digest;
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = compiled.get(digest) {
            return Ok(Arc::clone(definition));
        }
        let definition = Definition::compile(&stored.document).map_err(|faults| {
            anyhow::anyhow!(
                "the workflow of {} can no longer be read by this version:\n{faults}",
                stored.row.id
            )
        })?;
        if compiled.len() >= DEFINITIONS_MAX {
            compiled.clear();
        }
        let definition = Arc::new(definition);
        compiled.insert(digest.clone(), Arc::clone(&definition));
        Ok(definition)
    }

    /// An execution as the journal has it, with the definition it began with.
    pub(crate) async fn load(
        &self,
        journal: &dyn Journal,
        id: ExecutionId,
    ) -> anyhow::Result<Loaded> {
        let stored = journal.load(id).await?;
        let definition = self.get(&stored)?;
        let row = stored.row.clone();
        let execution = restored(journal, stored, definition)
            .await
            .with_context(|| format!("the journal of {id} cannot be followed"))?;
        Ok(Loaded { row, execution })
    }
}

/// The state that a stored execution is in: from its snapshot, where this build understands it, and the events after
/// it; else from all events.
pub(crate) async fn restored(
    journal: &dyn Journal,
    stored: Stored,
    definition: Arc<Definition>,
) -> Result<Execution, DriveError> {
    let id = stored.row.id;
    let Some(snapshot) = stored.snapshot else {
        return Ok(Execution::replay(id, definition, &stored.events)?);
    };
    match Execution::restore(id, Arc::clone(&definition), &snapshot) {
        Ok(mut execution) => {
            for event in &stored.events {
                execution.apply(event)?;
            }
            Ok(execution)
        }
        Err(error) => {
            tracing::debug!(execution.id = %id, %error, "a snapshot is not used");
            let events = journal.all_events(id).await?;
            Ok(Execution::replay(id, definition, &events)?)
        }
    }
}

/// All events of an execution after a position.
pub(crate) async fn events_after(
    journal: &dyn Journal,
    id: ExecutionId,
    after: u64,
) -> Result<Vec<Event>, ReadError> {
    /// Bounds what one read asks of the database.
    const PAGE: u32 = 1_000;
    let mut all = Vec::new();
    loop {
        let read = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let page = journal.events(id, after.saturating_add(read), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
