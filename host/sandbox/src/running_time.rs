//! Measures how long a guest ran. It decides nothing: `call.rs` compares it with the limit.

use std::future::Future;
use std::pin::pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

/// No turn is under way, or none was so far.
const NONE: u64 = u64::MAX;

/// What times are told from: some moment before all calls.
#[expect(
    clippy::disallowed_methods,
    reason = "metering a guest needs the machine's own clock, in tests too"
)]
static BEFORE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time a guest spent computing, in host functions that do not wait, and sleeping.
///
/// It is the sum of the turns in which the call's future was polled: while the guest waits for a model or for
/// its turn on a busy machine, nobody polls it and nothing is counted. It is exact to the microsecond, where
/// counting epoch ticks would say zero for every call shorter than a tick.
pub(crate) struct RunningTime {
    /// When the first turn began, after [`BEFORE`].
    began_ns: AtomicU64,
    counted_ns: AtomicU64,
    turn_began_ns: AtomicU64,
}

impl RunningTime {
    pub(crate) fn new() -> Self {
        RunningTime {
            began_ns: AtomicU64::new(NONE),
            counted_ns: AtomicU64::new(0),
            turn_began_ns: AtomicU64::new(NONE),
        }
    }

    /// Time since the guest's first turn began, or since this was asked first, waiting included.
    pub(crate) fn since_start(&self) -> Duration {
        Duration::from_nanos(self.now_ns())
    }

    /// The running time up to now, the turn under way included.
    pub(crate) fn total(&self) -> Duration {
        let counted = self.counted_ns.load(Ordering::Relaxed);
        let turn = match self.turn_began_ns.load(Ordering::Relaxed) {
            NONE => 0,
            began => self.now_ns().saturating_sub(began),
        };
        Duration::from_nanos(counted.saturating_add(turn))
    }

    /// Counts a time in which the guest slept: it chose to hold its instance for so long.
    pub(crate) fn add_sleep(&self, slept: Duration) {
        self.counted_ns
            .fetch_add(nanoseconds(slept), Ordering::Relaxed);
    }

    /// Runs `future` and counts the turns in which it makes progress.
    pub(crate) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            let began = self.now_ns();
            self.turn_began_ns.store(began, Ordering::Relaxed);
            let poll: Poll<F::Output> = future.as_mut().poll(cx);
            self.turn_began_ns.store(NONE, Ordering::Relaxed);
            let turn = self.now_ns().saturating_sub(began);
            self.counted_ns.fetch_add(turn, Ordering::Relaxed);
            poll
        })
        .await
    }

    fn now_ns(&self) -> u64 {
        let now = nanoseconds(BEFORE.elapsed());
        match self.began_ns.load(Ordering::Relaxed) {
            // To look at the clock once more for it would cost a small call as much as all that is done here.
            NONE => {
                self.began_ns.store(now, Ordering::Relaxed);
                0
            }
            began => now.saturating_sub(began),
        }
    }
}

/// 584 years fit into 64 bits.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_does_not_count_and_sleeping_does() {
        let time = RunningTime::new();
        time.measure(tokio::time::sleep(Duration::from_millis(30)))
            .await;
        assert!(
            time.total() < Duration::from_millis(20),
            "counted {:?}",
            time.total()
        );
        assert!(time.since_start() >= Duration::from_millis(30));
        time.add_sleep(Duration::from_secs(1));
        assert!(time.total() >= Duration::from_secs(1));
    }
}
