//! What components asked of the host in the steps that one command drives, for `--trace`. It is about this process, and
//! nothing of it is recorded.

use std::sync::{Arc, Mutex, PoisonError};

use troupe_sandbox::Trace;
use troupe_workflow::StepPath;

/// Calls that are listed, of an attempt and of all together. Protects memory, and who reads them.
pub(crate) const CALLS_MAX: u32 = 10_000;
/// Attempts whose calls are listed. The same.
const ATTEMPTS_MAX: usize = 1_000;

/// Calls of one attempt.
#[derive(Debug)]
pub(crate) struct AttemptTrace {
    pub(crate) path: StepPath,
    pub(crate) attempt: u32,
    pub(crate) agent: String,
    pub(crate) trace: Trace,
    /// All fuel that it used.
    pub(crate) fuel: u64,
}

/// Calls of all attempts that have ended, in the order of their ends.
#[derive(Debug, Default)]
pub(crate) struct Traced {
    pub(crate) attempts: Vec<AttemptTrace>,
    /// Attempts that are not among them.
    pub(crate) left_out: u64,
    calls: usize,
}

/// Where attempts leave their traces.
#[derive(Debug, Default)]
pub(crate) struct Traces(Mutex<Traced>);

impl Traces {
    /// Keeps as much of an attempt's calls as there is room for.
    pub(crate) fn keep(&self, mut attempt: AttemptTrace) {
        let mut traced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if traced.attempts.len() >= ATTEMPTS_MAX {
            traced.left_out += 1;
            return;
        }
        let calls_max = usize::try_from(CALLS_MAX).unwrap_or(usize::MAX);
        let room = calls_max.saturating_sub(traced.calls);
        let calls = &mut attempt.trace.calls;
        let beyond = calls.len().saturating_sub(room);
        calls.truncate(room);
        traced.calls += calls.len();
        let beyond = u64::try_from(beyond).unwrap_or(u64::MAX);
        attempt.trace.left_out = attempt.trace.left_out.saturating_add(beyond);
        traced.attempts.push(attempt);
    }

    /// All that was kept.
    pub(crate) fn take(&self) -> Traced {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Calls that a component's own list may have.
pub(crate) fn calls_max(traces: Option<&Arc<Traces>>) -> u32 {
    traces.map_or(0, |_| CALLS_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use troupe_sandbox::{CallEnd, HostFunction, TracedCall};

    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let call = TracedCall {
            function: HostFunction::LogWrite,
            requests: 1,
            began: Duration::ZERO,
            took: Duration::ZERO,
            asked_bytes: 0,
            answered_bytes: 0,
            fuel_before: 0,
            fuel: 0,
            end: CallEnd::Ok,
            failed: 0,
            recorded: 0,
            status: None,
        };
        let traces = Traces::default();
        for _ in 0..ATTEMPTS_MAX + 2 {
            traces.keep(AttemptTrace {
                path: StepPath::new("s"),
                attempt: 1,
                agent: "a".to_owned(),
                trace: Trace {
                    calls: vec![call; 6_000],
                    left_out: 1,
                },
                fuel: 0,
            });
        }
        let traced = traces.take();
        let listed = traced.attempts.iter().map(|it| it.trace.calls.len());
        assert_eq!(listed.sum::<usize>(), 10_000);
        assert_eq!(traced.attempts[1].trace.left_out, 2_001);
        assert_eq!(traced.attempts[2].trace.left_out, 6_001);
        assert_eq!((traced.attempts.len(), traced.left_out), (1_000, 2));
    }
}
