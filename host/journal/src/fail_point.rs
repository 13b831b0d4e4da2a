//! A place at which the process kills itself, or loses an answer, so that tests can show what that leaves behind.
//!
//! Only builds with debug assertions have it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::error::AppendError;

/// What happens at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailSide {
    /// The process ends before it.
    Before,
    /// The process ends after it, before anybody is told.
    After,
    /// It is done, and whoever asked for it is told that nobody knows.
    Lost,
}

/// The n-th pass of a kind of place in this process, counted from 1, written `append:N:before`, `append:N:after` or
/// `append:N:lost`. The kinds: every writing call of the journal by its name, `write` for any of them; `renew`, a sign of
/// life, which comes by the clock and counts for no `write`; `upgrade`, the commit that brings what an earlier version wrote
/// to the present format; `effect`, a request to the outside; `attempt`, one attempt
/// of a step, whose start is on disk before it and whose end is not after it, and whose end is never lost.
#[derive(Debug)]
pub struct FailPoint {
    place: String,
    number: u64,
    side: FailSide,
    seen: Mutex<BTreeMap<String, u64>>,
}

impl FromStr for FailPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no fail point; write `append:3:before`, `append:3:after` or `append:3:lost`"
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [place, number, side] = parts[..] else {
            return Err(wrong());
        };
        let side = match side {
            "before" => FailSide::Before,
            "after" => FailSide::After,
            "lost" => FailSide::Lost,
            _ => return Err(wrong()),
        };
        let number = number
            .parse()
            .map_err(|error| format!("{}: {error}", wrong()))?;
        Ok(Self {
            place: place.to_owned(),
            number,
            side,
            seen: Mutex::new(BTreeMap::new()),
        })
    }
}

/// One pass of a place, between its two sides.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    is_this: bool,
}

/// The passes of one piece of writing: of its kind, and of any where it counts for them.
pub(crate) struct Gate<'a>(Option<(&'a FailPoint, Pass, Option<Pass>)>);

impl<'a> Gate<'a> {
    pub(crate) fn enter(fail_point: Option<&'a FailPoint>, name: &str) -> Self {
        Self(fail_point.map(|point| {
            let any = point.enter("write");
            (point, point.enter(name), Some(any))
        }))
    }

    /// For what comes by the clock: counted among the writes it would make their numbers mean nothing.
    pub(crate) fn enter_alone(fail_point: Option<&'a FailPoint>, name: &str) -> Self {
        Self(fail_point.map(|point| (point, point.enter(name), None)))
    }

    /// What the caller is told of what was done.
    pub(crate) fn leave<T>(&self, done: Result<T, AppendError>) -> Result<T, AppendError> {
        let Some((point, named, any)) = self.0 else {
            return done;
        };
        let passes = [Some(named), any].into_iter().flatten();
        let deliveries: Vec<Delivery> = passes.map(|pass| point.leave(pass)).collect();
        if deliveries.contains(&Delivery::Lost) {
            return Err(AppendError::Unknown {
                source: "the answer was lost".into(),
            });
        }
        done
    }
}

/// Whether the answer of what was done gets to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Told,
    Lost,
}

/// Both sides of a place where nobody is told of an answer that could be lost.
pub(crate) struct Passing<'a>(Option<(&'a FailPoint, Pass)>);

impl<'a> Passing<'a> {
    pub(crate) fn enter(fail_point: Option<&'a FailPoint>, name: &str) -> Self {
        Self(fail_point.map(|point| (point, point.enter(name))))
    }

    pub(crate) fn leave(self) {
        if let Some((point, pass)) = self.0 {
            point.leave(pass);
        }
    }
}

impl FailPoint {
    /// Comes to a place; does not return if this is where the process ends.
    pub fn enter(&self, place: &str) -> Pass {
        let is_this = cfg!(debug_assertions) && place == self.place && {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let count = seen.entry(place.to_owned()).or_default();
            *count += 1;
            *count == self.number
        };
        if is_this && self.side == FailSide::Before {
            kill_this_process();
        }
        Pass { is_this }
    }

    /// Leaves a place; does not return if this is where the process ends.
    pub fn leave(&self, pass: Pass) -> Delivery {
        match self.side {
            FailSide::After if pass.is_this => kill_this_process(),
            FailSide::Lost if pass.is_this => Delivery::Lost,
            FailSide::Before | FailSide::After | FailSide::Lost => Delivery::Told,
        }
    }
}

/// The end that `kill -9` brings: no destructor runs, no buffer is written.
fn kill_this_process() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is delivered before the call returns to user code; should it ever not be, wait for it.
    loop {
        std::thread::park();
    }
}
