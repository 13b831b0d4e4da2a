//! The one place that reads clocks and draws entropy.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use troupe_workflow::{ExecutionId, Timestamp};

/// What drivers take their time from.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;

    /// Ends after this long.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// What is added to this machine's clock, in milliseconds: several machines that share a database go by its clock.
static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Sets what is added to this machine's clock from now on, in milliseconds.
pub(crate) fn set_offset(offset_ms: i64) {
    OFFSET_MS.store(offset_ms, Ordering::Relaxed);
}

/// By how much this machine's clock is wrong, in milliseconds: tests have it go wrong.
static FAULT_MS: AtomicI64 = AtomicI64::new(0);

/// Has this machine's clock go wrong from now on.
pub(crate) fn set_fault(fault_ms: i64) {
    FAULT_MS.store(fault_ms, Ordering::Relaxed);
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    let machine = machine_time().as_millis();
    Timestamp::from_millis(machine.saturating_add(OFFSET_MS.load(Ordering::Relaxed)))
}

/// The time by this machine's clock alone.
pub(crate) fn machine_time() -> Timestamp {
    let since = system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(millis.saturating_add(FAULT_MS.load(Ordering::Relaxed)))
}

/// The time now, as the sandbox takes it.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Bytes that nobody can guess.
pub(crate) fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .expect("the operating system gives entropy, or nothing here is safe");
    bytes
}

/// An id that no execution has.
pub(crate) fn new_execution_id() -> ExecutionId {
    let (millis, random) = new_parts();
    ExecutionId::from_parts(millis, random)
}

/// An id with a prefix, of which there is no second: `prefix_` and 26 characters that sort by time (a ULID).
pub(crate) fn new_id(prefix: &str) -> String {
    let (millis, random) = new_parts();
    format!("{prefix}_{}", ulid::Ulid::from_parts(millis, random))
}

/// Milliseconds and 80 random bits of an id. Those of one process and one millisecond follow each other, so that lists have
/// the order in which things were made.
fn new_parts() -> (u64, u128) {
    static LAST: Mutex<(u64, u128)> = Mutex::new((0, 0));
    let millis = u64::try_from(now().as_millis()).unwrap_or(0);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = following(
        *last,
        (millis, u128::from_le_bytes(entropy()) & RANDOM_BITS),
    );
    *last
}

/// The random bits of a ULID.
const RANDOM_BITS: u128 = (1 << 80) - 1;

/// Parts that were drawn, or where they come before the last ones of the same millisecond, such that come after these.
fn following(last: (u64, u128), drawn: (u64, u128)) -> (u64, u128) {
    // As much further as nobody can guess; where there is no room, which is one time in a trillion, without an order.
    let next = last.1 + 1 + (drawn.1 & u128::from(u32::MAX));
    if drawn.0 == last.0 && drawn.1 <= last.1 && next <= RANDOM_BITS {
        (drawn.0, next)
    } else {
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_millisecond_follow_each_other() {
        assert_eq!(following((5, 100), (5, 200)), (5, 200));
        assert_eq!(following((5, 100), (5, 7)), (5, 108));
        assert_eq!(following((5, 100), (6, 7)), (6, 7));
        // A clock that was set back.
        assert_eq!(following((5, 100), (4, 7)), (4, 7));
        assert_eq!(following((5, RANDOM_BITS), (5, 7)), (5, 7));
        let ids: Vec<String> = (0..1_000).map(|_| new_id("x")).collect();
        assert!(ids.is_sorted_by(|one, other| one < other));
    }
}
