//! The state of an execution as text, so that it need not be replayed from its first event, and when it is to be
//! looked at again.
//!
//! A snapshot is a shortcut and never the truth: whoever cannot use one replays the journal.

mod check;

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::Execution;
use crate::definition::Definition;
use crate::duration::Timestamp;
use crate::ids::{ExecutionId, WorkflowDigest};

/// The state that the first `version` events of an execution led to.
///
/// It costs what the state holds, not what the history was: every step that was reached with its output, once, and the
/// answers that an attempt under way already has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The build that wrote it: another one may understand the state otherwise.
    pub build: String,
    /// How many events led to it.
    pub version: u64,
    /// JSON that only the same build reads.
    pub state: String,
}

impl Snapshot {
    /// This build: a hash of the scheduler's sources.
    pub const BUILD: &str = env!("TROUPE_WORKFLOW_BUILD");
}

/// Why there is no snapshot, or why one is not used. The journal is replayed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("the state cannot be written: {0}")]
    Unwritable(String),
    #[error("the snapshot is of another build")]
    OtherBuild,
    #[error("the snapshot belongs to another execution, workflow or version")]
    NotItsOwn,
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

/// What is written.
#[derive(Serialize)]
struct Written<'a> {
    digest: &'a WorkflowDigest,
    execution: &'a Execution,
}

/// What is read.
#[derive(Deserialize)]
struct Read {
    digest: WorkflowDigest,
    execution: Execution,
}

impl Execution {
    /// The state as it is now. It takes time and memory for all that the state holds, see [`Execution::size_hint`].
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let written = Written {
            digest: self.definition.digest(),
            execution: self,
        };
        let state = serde_json::to_string(&written)
            .map_err(|error| SnapshotError::Unwritable(error.to_string()))?;
        Ok(Snapshot {
            build: Snapshot::BUILD.to_owned(),
            version: self.version,
            state,
        })
    }

    /// The execution as it was when the snapshot was made. The events after its `version` are still to be applied.
    ///
    /// # Errors
    /// Why it cannot be used. What cannot be read, and what would lead outside the definition, is refused here, so that
    /// damaged bytes do not reach the scheduler.
    pub fn restore(
        id: ExecutionId,
        definition: Arc<Definition>,
        snapshot: &Snapshot,
    ) -> Result<Self, SnapshotError> {
        if snapshot.build != Snapshot::BUILD {
            return Err(SnapshotError::OtherBuild);
        }
        let read: Read = serde_json::from_str(&snapshot.state)
            .map_err(|error| SnapshotError::Damaged(error.to_string()))?;
        let mut execution = read.execution;
        let is_its_own = read.digest == *definition.digest()
            && execution.id == id
            && execution.version == snapshot.version;
        if !is_its_own {
            return Err(SnapshotError::NotItsOwn);
        }
        execution.definition = definition;
        execution.link().map_err(SnapshotError::Damaged)?;
        execution.check_state().map_err(SnapshotError::Damaged)?;
        Ok(execution)
    }

    /// How many steps it holds the state of: what a snapshot costs, and so how often one is worth it. It looks at
    /// every round and sub-workflow, so ask when a snapshot is considered and not after every event.
    pub fn size_hint(&self) -> usize {
        self.frames.iter().map(|frame| frame.steps.len()).sum()
    }

    /// The earliest moment at which something is to be done for an execution that nobody drives: a timer, a deadline
    /// or a retry; now, where something is to be done already. None: only people can move it on, or it has ended.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.end.is_some() || self.version == 0 || self.is_held_by_a_pause() {
            return None;
        }
        if !self.running.is_empty() || !self.ready.is_empty() || self.is_ending() {
            return Some(now);
        }
        let sets = [&self.retries, &self.timers, &self.deadlines];
        let next = sets.into_iter().filter_map(|set| set.first());
        let limit = (!self.is_at_rest()).then(|| self.deadline());
        next.map(|(time, _)| *time)
            .chain(limit)
            .min()
            .map(|time| time.max(now))
    }

    fn is_held_by_a_pause(&self) -> bool {
        self.is_at_rest() && self.paused().is_some()
    }

    /// Whether what is left to do is its end, or that of a workflow in it.
    fn is_ending(&self) -> bool {
        self.is_cancelling || self.has_reached_end || !self.failing.is_empty()
    }
}

/// Stands where a definition is until [`Execution::restore`] has put the right one there.
pub(super) fn unlinked() -> Arc<Definition> {
    static UNLINKED: LazyLock<Arc<Definition>> = LazyLock::new(|| {
        let document = json!({"name": "unlinked", "agents": [], "steps": [{"set": 0}]});
        Arc::new(Definition::compile(&document).expect("the smallest document is right"))
    });
    Arc::clone(&UNLINKED)
}

/// Whether a part of the state is as it was at the beginning, and need not be written.
pub(super) fn is_default<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

/// A value that is there: `null` is one, and is not taken for none.
pub(super) fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Values that several hold.
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(in super::super) fn serialize<S: Serializer>(
        items: &Arc<Vec<Value>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        items.as_slice().serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<Vec<Value>>, D::Error> {
        Vec::deserialize(from).map(Arc::new)
    }
}

#[cfg(test)]
mod tests;
