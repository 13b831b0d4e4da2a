//! A gate that bounds how much runs at once and is fair between executions.
//!
//! Places that become free go round robin between the executions that wait, and within one in the order in which they
//! asked: one with a thousand calls does not hold up one with a single call. Only what waits takes memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use troupe_workflow::ExecutionId;

/// Places for work that runs at once.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    state: Arc<Mutex<State>>,
}

/// A place inside; dropping it gives it to the next.
#[derive(Debug)]
pub(crate) struct Pass {
    /// None: it was given on already.
    gate: Option<Gate>,
}

#[derive(Debug)]
struct State {
    /// Places that nobody has; there are none while somebody waits.
    free: usize,
    /// Whose turn it is, least first: each key that waits is in here once.
    turns: BTreeMap<u64, ExecutionId>,
    lines: BTreeMap<ExecutionId, Line>,
    /// The next number for a turn or a ticket.
    next: u64,
}

/// Those of one execution that wait.
#[derive(Debug)]
struct Line {
    /// Its place in [`State::turns`].
    turn: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, oneshot::Sender<Pass>>,
}

/// Takes a waiter out of its line when it is dropped, so that one that gives up leaves nothing behind.
struct Waiter<'a> {
    gate: &'a Gate,
    key: ExecutionId,
    ticket: u64,
}

impl Gate {
    /// A gate with this many places, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State {
            free: capacity.max(1),
            turns: BTreeMap::new(),
            lines: BTreeMap::new(),
            next: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Waits for a place. Whoever stops waiting has taken none.
    pub(crate) async fn enter(&self, key: ExecutionId) -> Pass {
        loop {
            let (answer, answered) = oneshot::channel();
            let Some(ticket) = self.lock().take_or_wait(key, answer) else {
                return self.pass();
            };
            let _waiter = Waiter {
                gate: self,
                key,
                ticket,
            };
            // The other end stays in its line until it answers.
            if let Ok(pass) = answered.await {
                return pass;
            }
        }
    }

    fn pass(&self) -> Pass {
        Pass {
            gate: Some(self.clone()),
        }
    }

    /// Gives a place to the next that still wants it.
    fn release(&self) {
        loop {
            let Some(next) = self.lock().next_waiting() else {
                return;
            };
            // Outside the lock, for it wakes a stranger.
            let Err(mut refused) = next.send(self.pass()) else {
                return;
            };
            refused.gate = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a free place, or stands in line and gets a ticket.
    fn take_or_wait(&mut self, key: ExecutionId, answer: oneshot::Sender<Pass>) -> Option<u64> {
        if self.free > 0 {
            self.free -= 1;
            return None;
        }
        let ticket = self.number();
        match self.lines.get_mut(&key) {
            Some(line) => {
                line.waiting.insert(ticket, answer);
            }
            None => {
                let turn = self.number();
                self.turns.insert(turn, key);
                let waiting = BTreeMap::from([(ticket, answer)]);
                self.lines.insert(key, Line { turn, waiting });
            }
        }
        Some(ticket)
    }

    /// Takes out the next that waits, and puts its execution at the end of the round; frees the place where nobody
    /// waits.
    fn next_waiting(&mut self) -> Option<oneshot::Sender<Pass>> {
        while let Some((_, key)) = self.turns.pop_first() {
            let turn = self.number();
            let Some(line) = self.lines.get_mut(&key) else {
                continue;
            };
            let next = line.waiting.pop_first();
            if line.waiting.is_empty() {
                self.lines.remove(&key);
            } else {
                line.turn = turn;
                self.turns.insert(turn, key);
            }
            if let Some((_, answer)) = next {
                return Some(answer);
            }
        }
        self.free += 1;
        None
    }

    fn leave(&mut self, key: ExecutionId, ticket: u64) {
        if let Some(line) = self.lines.get_mut(&key)
            && line.waiting.remove(&ticket).is_some()
            && line.waiting.is_empty()
        {
            self.turns.remove(&line.turn);
            self.lines.remove(&key);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.release();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.gate.lock().leave(self.key, self.ticket);
    }
}

#[cfg(test)]
mod tests;
