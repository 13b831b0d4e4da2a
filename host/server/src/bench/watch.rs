//! Watches a node at work: when each step begins, and when an execution has left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use troupe_workflow::ExecutionId;

use super::now;
use crate::driver::{Attempt, AttemptEnd, Performer};
use crate::node::Taps;

#[derive(Default)]
pub(super) struct Watch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the last step of an execution began.
    last: BTreeMap<ExecutionId, Instant>,
    /// From the begin of one step of an execution to that of the next.
    steps: Vec<Duration>,
    /// When each step of all began, if that is wanted.
    begun: Vec<Instant>,
    ends: BTreeMap<ExecutionId, oneshot::Sender<()>>,
    left: usize,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the execution has left the node.
    pub(super) fn end_of(&self, id: ExecutionId) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.state().ends.insert(id, sender);
        receiver
    }

    /// The times of steps so far, in order of length.
    pub(super) fn take_steps(&self) -> Vec<Duration> {
        let mut steps = std::mem::take(&mut self.state().steps);
        steps.sort();
        steps
    }

    /// When each step so far began, in order.
    pub(super) fn take_begun(&self) -> Vec<Instant> {
        std::mem::take(&mut self.state().begun)
    }

    /// How many steps have begun so far.
    pub(super) fn begun(&self) -> usize {
        self.state().begun.len()
    }

    /// Executions that have left so far.
    pub(super) fn left(&self) -> usize {
        self.state().left
    }

    fn begins(&self, id: ExecutionId) {
        let at = now();
        let mut state = self.state();
        if let Some(before) = state.last.insert(id, at) {
            state.steps.push(at.duration_since(before));
        }
        state.begun.push(at);
    }

    fn leaves(&self, id: ExecutionId) {
        let mut state = self.state();
        state.last.remove(&id);
        state.left += 1;
        if let Some(end) = state.ends.remove(&id) {
            let _ = end.send(());
        }
    }
}

/// The taps of a node that is watched.
pub(super) fn taps(watch: &Arc<Watch>) -> Taps {
    let (begins, leaves) = (Arc::clone(watch), Arc::clone(watch));
    Taps {
        performer: Arc::new(move |inner| {
            Arc::new(Watched {
                inner,
                watch: Arc::clone(&begins),
            })
        }),
        left: Arc::new(move |id| leaves.leaves(id)),
    }
}

/// The taps of a node that is watched, and whose steps never end.
pub(super) fn stuck(watch: &Arc<Watch>) -> Taps {
    let begins = Arc::clone(watch);
    Taps {
        performer: Arc::new(move |_inner| Arc::new(Stuck(Arc::clone(&begins)))),
        ..taps(watch)
    }
}

/// Begins steps, and leaves them there.
struct Stuck(Arc<Watch>);

impl Performer for Stuck {
    fn perform(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        self.0.begins(attempt.execution);
        Box::pin(std::future::pending())
    }
}

struct Watched {
    inner: Arc<dyn Performer>,
    watch: Arc<Watch>,
}

impl Performer for Watched {
    fn perform(&self, attempt: Attempt) -> BoxFuture<'static, AttemptEnd> {
        self.watch.begins(attempt.execution);
        self.inner.perform(attempt)
    }
}
