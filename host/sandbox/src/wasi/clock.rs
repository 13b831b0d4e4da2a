//! The guest's clock: it stands still while the guest computes, and moves when a host call has ended and when the
//! guest sleeps. So whoever is given the same answers sees the same times. It reads no clock of the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};
use wasmtime_wasi_io::poll::{Pollable, subscribe};

use crate::state::State;

/// A clock that others move.
#[derive(Debug)]
pub(crate) struct GuestClock {
    /// Since the Unix epoch.
    started_at: Duration,
    since_start_ns: AtomicU64,
}

impl GuestClock {
    pub(crate) fn new(started_at: SystemTime) -> Arc<Self> {
        Arc::new(GuestClock {
            started_at: started_at.duration_since(UNIX_EPOCH).unwrap_or_default(),
            since_start_ns: AtomicU64::new(0),
        })
    }

    /// Nanoseconds since the call began.
    pub(crate) fn since_start_ns(&self) -> u64 {
        self.since_start_ns.load(Ordering::Relaxed)
    }

    /// The time of day, since the Unix epoch.
    pub(crate) fn now(&self) -> Duration {
        let since_start = Duration::from_nanos(self.since_start_ns());
        self.started_at.saturating_add(since_start)
    }

    /// Goes on to so many nanoseconds after the call began; never back.
    pub(crate) fn go_on_to(&self, since_start_ns: u64) {
        self.since_start_ns
            .fetch_max(since_start_ns, Ordering::Relaxed);
    }

    /// Goes on to a time of day; never back.
    pub(crate) fn go_on_to_time(&self, time: SystemTime) {
        let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_start = time.saturating_sub(self.started_at).as_nanos();
        self.go_on_to(u64::try_from(since_start).unwrap_or(u64::MAX));
    }
}

/// The clock as WASI's context takes it.
pub(super) struct Shown(pub(super) Arc<GuestClock>);

/// The smallest step that the clocks can make.
const RESOLUTION: Duration = Duration::from_nanos(1);

impl HostWallClock for Shown {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        self.0.now()
    }
}

impl HostMonotonicClock for Shown {
    fn resolution(&self) -> u64 {
        u64::try_from(RESOLUTION.as_nanos()).unwrap_or(1)
    }

    fn now(&self) -> u64 {
        self.0.since_start_ns()
    }
}

/// What stands for a timer in the table; when it is due stands in [`State::timers`].
struct Timer;

#[wasmtime_wasi_io::async_trait]
impl Pollable for Timer {
    /// Nobody asks here: [`State`] waits for timers itself.
    async fn ready(&mut self) {}
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        Ok(self.clock.since_start_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        Ok(u64::try_from(RESOLUTION.as_nanos()).unwrap_or(1))
    }

    fn subscribe_instant(
        &mut self,
        when: monotonic_clock::Instant,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = self.table.push(Timer)?;
        let pollable = subscribe(&mut self.table, timer)?;
        self.timers.insert(pollable.rep(), when);
        Ok(pollable)
    }

    fn subscribe_duration(
        &mut self,
        duration: monotonic_clock::Duration,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.clock.since_start_ns().saturating_add(duration);
        monotonic_clock::Host::subscribe_instant(self, when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_never_back() {
        let began = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let clock = GuestClock::new(began);
        let shown = Shown(Arc::clone(&clock));
        assert_eq!(HostMonotonicClock::now(&shown), 0);
        clock.go_on_to_time(began + Duration::from_millis(5));
        clock.go_on_to_time(began + Duration::from_millis(3));
        clock.go_on_to_time(began - Duration::from_secs(3));
        assert_eq!(HostMonotonicClock::now(&shown), 5_000_000);
        let expected = Duration::from_millis(1_800_000_000_005);
        assert_eq!(HostWallClock::now(&shown), expected);
    }
}
