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
    compiled: Mutex<Compiled>,
}

#[derive(Default)]
struct Compiled {
    by_digest: BTreeMap<WorkflowDigest, Arc<Definition>>,
    /// The length of their documents.
    bytes: usize,
}

/// Definitions that are kept; then all are forgotten, which costs compiling them once more.
const DEFINITIONS_MAX: usize = 1_000;
/// Bytes of their documents: who sends documents decides how long they are, and a compiled one takes several times as
/// much.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;

impl Compiled {
    fn insert(&mut self, definition: &Arc<Definition>) {
        let bytes = definition.document().to_string().len();
        let is_full = self.by_digest.len() >= DEFINITIONS_MAX
            || self.bytes.saturating_add(bytes) > DOCUMENT_BYTES_MAX;
        if is_full {
            *self = Self::default();
        }
        let digest = definition.digest().clone();
        if self
            .by_digest
            .insert(digest, Arc::clone(definition))
            .is_none()
        {
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

impl Definitions {
    /// The definition of a stored document.
    fn get(&self, stored: &Stored) -> anyhow::Result<Arc<Definition>> {
        let digest = &stored.row.digest;
        let compiled = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = compiled().by_digest.get(digest) {
            return Ok(Arc::clone(definition));
        }
        // Others do not wait for it: a long document takes a while.
        let definition = Definition::compile(&stored.document).map_err(|faults| {
            anyhow::anyhow!(
                "the workflow of {} can no longer be read by this version:\n{faults}",
                stored.row.id
            )
        })?;
        let definition = Arc::new(definition);
        compiled().insert(&definition);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_of_long_documents_is_bounded() {
        let mut compiled = Compiled::default();
        for number in 0..40 {
            let text = "x".repeat(2 << 20);
            let document = json!({
                "name": format!("w{number}"), "agents": [], "steps": [{ "id": "a", "set": text }],
            });
            let definition = Arc::new(Definition::compile(&document).unwrap());
            compiled.insert(&definition);
            compiled.insert(&definition);
            assert!(compiled.by_digest.contains_key(definition.digest()));
            assert!(compiled.bytes <= DOCUMENT_BYTES_MAX);
            assert!(compiled.by_digest.len() <= DOCUMENT_BYTES_MAX / (2 << 20));
        }
    }
}
