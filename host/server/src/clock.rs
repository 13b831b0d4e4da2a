//! The one place that reads clocks and draws entropy.

use std::sync::atomic::{AtomicI64, Ordering};
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
    let millis = u64::try_from(now().as_millis()).unwrap_or(0);
    ExecutionId::from_parts(millis, u128::from_le_bytes(entropy()))
}

/// An id with a prefix, of which there is no second: `prefix_` and 26 characters that sort by time (a ULID).
pub(crate) fn new_id(prefix: &str) -> String {
    let millis = u64::try_from(now().as_millis()).unwrap_or(0);
    let ulid = ulid::Ulid::from_parts(millis, u128::from_le_bytes(entropy()));
    format!("{prefix}_{ulid}")
}
