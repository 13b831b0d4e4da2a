//! A place at which the process kills itself, so that tests can show what a crash there leaves behind.
//!
//! Only builds with debug assertions have it.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// On which side of an append's commit the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailSide {
    Before,
    After,
}

/// The n-th append of this process, counted from 1, written `append:N:before` or `append:N:after`.
#[derive(Debug)]
pub struct FailPoint {
    append: u64,
    side: FailSide,
    seen: AtomicU64,
}

impl FromStr for FailPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no fail point; write `append:3:before` or `append:3:after`");
        let mut parts = text.split(':');
        let (Some("append"), Some(append), Some(side), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let side = match side {
            "before" => FailSide::Before,
            "after" => FailSide::After,
            _ => return Err(wrong()),
        };
        let append = append
            .parse()
            .map_err(|error| format!("{}: {error}", wrong()))?;
        Ok(Self {
            append,
            side,
            seen: AtomicU64::new(0),
        })
    }
}

impl FailPoint {
    /// Passes one side of an append; does not return if this is the one.
    pub(crate) fn pass(&self, side: FailSide) {
        let append = match side {
            FailSide::Before => self.seen.fetch_add(1, Ordering::SeqCst) + 1,
            FailSide::After => self.seen.load(Ordering::SeqCst),
        };
        if cfg!(debug_assertions) && append == self.append && side == self.side {
            kill_this_process();
        }
    }
}

/// The end that `kill -9` brings: no destructor runs, no buffer is written.
fn kill_this_process() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is delivered before the call returns to user code; should it ever not be, wait for it.
    loop {
        std::thread::park();
    }
}
