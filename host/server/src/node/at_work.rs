//! The executions that one process works on at this moment, and how the work on one of them is ended from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;
use troupe_journal::Epoch;
use troupe_workflow::{ExecutionId, WorkflowDigest};

/// The executions that are driven here.
#[derive(Default)]
pub(super) struct AtWork {
    employed: BTreeMap<ExecutionId, Employed>,
    /// How many there are of each workflow.
    counts: BTreeMap<WorkflowDigest, usize>,
}

/// An execution that is driven here.
pub(super) struct Employed {
    pub(super) digest: WorkflowDigest,
    pub(super) epoch: Epoch,
    /// Wakes its driver.
    pub(super) wake: Arc<Notify>,
    /// Ends its driver: it is not this process's any longer.
    pub(super) lost: Arc<Notify>,
}

impl AtWork {
    pub(super) fn insert(&mut self, id: ExecutionId, employed: Employed) {
        // This process lost it and took it again: what it did for the earlier epoch ends.
        if let Some(earlier) = self.employed.get(&id) {
            earlier.lost.notify_one();
        }
        self.remove(id);
        *self.counts.entry(employed.digest.clone()).or_default() += 1;
        self.employed.insert(id, employed);
    }

    pub(super) fn get(&self, id: ExecutionId) -> Option<&Employed> {
        self.employed.get(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.employed.len()
    }

    pub(super) fn all(&self) -> BTreeSet<(ExecutionId, Epoch)> {
        let all = self.employed.iter();
        all.map(|(id, employed)| (*id, employed.epoch)).collect()
    }

    /// Ends the work on what was taken away, where it has not ended and no other epoch's goes on.
    pub(super) fn lose(&self, id: ExecutionId, epoch: Epoch) {
        if let Some(employed) = self.employed.get(&id)
            && employed.epoch == epoch
        {
            employed.lost.notify_one();
        }
    }

    fn remove(&mut self, id: ExecutionId) {
        let Some(Employed { digest, .. }) = self.employed.remove(&id) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&digest);
            }
        }
    }

    /// What this process lost, and took again, is at work until the later of the two ends.
    pub(super) fn leave(&mut self, id: ExecutionId, wake: &Arc<Notify>) {
        let is_it = self
            .employed
            .get(&id)
            .is_some_and(|employed| Arc::ptr_eq(&employed.wake, wake));
        if is_it {
            self.remove(id);
        }
    }

    pub(super) fn count(&self, digest: &WorkflowDigest) -> usize {
        self.counts.get(digest).copied().unwrap_or(0)
    }

    /// The workflows of which so many are at work.
    pub(super) fn full(&self, most: usize) -> Vec<WorkflowDigest> {
        let full = self.counts.iter().filter(|(_, count)| **count >= most);
        full.map(|(digest, _)| digest.clone()).collect()
    }
}
