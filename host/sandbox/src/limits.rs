//! What one call may use, and the part of it that wasmtime asks us about: memories, tables, instances.
//! What all calls have together is in `guest_memory.rs`.
//! Fuel and time are enforced in `call.rs`, output in `wasi/output.rs`, host calls in `capability.rs`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use wasmtime::ResourceLimiterAsync;

use crate::guest_memory::Share;

/// What one call of a guest may use. There is no default: the operator's file or [`Limits::STANDARD`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Units of computation, about one for each WebAssembly instruction; host calls cost fuel too.
    /// Protects the host's processors, and is the same for the same work on every machine.
    pub fuel: u64,
    /// Bytes of all linear memories and tables together. Protects the host's memory. The guest's stack is not
    /// in it: 32 MiB of addresses for each call, of which the host pays for the pages that were touched.
    pub memory_bytes_max: u64,
    /// How long the guest may compute or sleep. Waiting for the host (a model, a person) does not count.
    /// Protects the processors where fuel misjudges what an instruction costs.
    pub time_max: Duration,
    /// Bytes of the result; and bytes that are kept of standard output and error together. Protects the
    /// journal and everyone who shows a result.
    pub output_bytes_max: u64,
    /// Bytes of log messages and their fields. What comes after is dropped and counted. Protects the log.
    pub log_bytes_max: u64,
    /// Calls of the interfaces `llm`, `search`, `tools`, `human`, `memory` and `context`; a call of
    /// `complete-many` counts once for each request. `budget` may be read as often again. Protects services and the
    /// journal.
    pub host_calls_max: u32,
    /// Bytes of all that passes between the guest and the host in these calls, questions and answers together. Protects
    /// the journal and the host's memory.
    pub host_bytes_max: u64,
    /// Bytes by which a call may make the files of the folders grow that it may write, and as many that its scratch
    /// folder may hold. Protects the disk, and the host's memory, in which the scratch folder lies.
    pub disk_bytes_max: u64,
    /// Files and folders that the guest may hold open at one time beside the folders that it is given, at most
    /// [`OPEN_FILES_MAX`]. Protects the process: each costs it a handle, of which systems allow a thousand or a few
    /// thousand.
    pub open_files_max: u32,
    /// Core instances that the component is made of, at most 64. Protects the host's memory from a component that is
    /// nothing but instances.
    pub instances_max: u32,
    /// Calls of the host that are listed in [`crate::Report::trace`]; 0: none, and nothing is spent on it. Protects whoever
    /// reads the list: a guest may make millions.
    pub traced_calls_max: u32,
}

impl Limits {
    /// What an agent gets where nobody asked for anything else.
    pub const STANDARD: Limits = Limits {
        fuel: 10_000_000_000,
        memory_bytes_max: 512 << 20,
        time_max: Duration::from_secs(60),
        output_bytes_max: 1 << 20,
        log_bytes_max: 256 << 10,
        host_calls_max: 1_000,
        host_bytes_max: 64 << 20,
        disk_bytes_max: 64 << 20,
        open_files_max: 128,
        instances_max: INSTANCES_MAX,
        traced_calls_max: 0,
    };
}

/// A limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// [`Limits::fuel`].
    Fuel,
    /// [`Limits::memory_bytes_max`].
    Memory,
    /// [`Limits::time_max`].
    Time,
    /// [`Limits::output_bytes_max`].
    Output,
    /// [`Limits::host_calls_max`].
    HostCalls,
    /// [`Limits::host_bytes_max`].
    HostBytes,
    /// [`Limits::instances_max`], or more memories or tables than any component may have.
    Instances,
}

impl Limit {
    /// The stable code of this failure, for example `limit_fuel`.
    pub fn code(self) -> &'static str {
        match self {
            Limit::Fuel => "limit_fuel",
            Limit::Memory => "limit_memory",
            Limit::Time => "limit_time",
            Limit::Output => "limit_output",
            Limit::HostCalls => "limit_host_calls",
            Limit::HostBytes => "limit_host_bytes",
            Limit::Instances => "limit_instances",
        }
    }
}

/// What was reached. What would give more is known to whoever set the limits.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Fuel => "the agent used up its fuel",
            Limit::Memory => "the agent needed more memory than it may have",
            Limit::Time => "the agent computed for longer than it may",
            Limit::Output => "the agent's result is larger than it may be",
            Limit::HostCalls => "the agent called the host more often than it may",
            Limit::HostBytes => "the agent exchanged more bytes with the host than it may",
            Limit::Instances => {
                "the component is made of more instances, memories or tables than it may be"
            }
        })
    }
}

/// Core instances of one component, for which the pool of instances has room. A Python component has about thirty.
pub const INSTANCES_MAX: u32 = 64;
/// Files and folders that one guest may hold open. All guests of a process have twice as many of the machine's, so that no
/// single one takes them all.
pub const OPEN_FILES_MAX: u32 = 256;
/// Linear memories of one component; toolchains make one or two.
pub(crate) const MEMORIES_MAX: u32 = 2;
/// Tables of one component; toolchains make a handful.
pub(crate) const TABLES_MAX: u32 = 8;
/// One part in so many of what all guests may have is lent to one call at once at most, and may be its scratch folder.
const LENT_PART: u64 = 4;
/// What one table element costs the host.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// Keeps the sum over all memories and tables of a store below the limit, and takes it from what all guests have
/// together. (wasmtime's own `StoreLimits` limits each memory by itself, so that fifty memories would get fifty times
/// as much.)
///
/// What was granted and then failed for another reason stays counted: wasmtime reports some failures that it never
/// asked about in the same way, and a guest could have memory forgotten by provoking those.
pub(crate) struct MemoryLimiter {
    bytes_max: u64,
    bytes: u64,
    bytes_peak: u64,
    instances_max: u32,
    share: Share,
    refused: Refused,
}

/// Memory that the host may use for a call, until it is known how much it needs.
#[derive(Debug)]
#[must_use = "what is not settled is kept until the call ends"]
pub(crate) struct Lent(u64);

/// What a guest was told that asked for more memory than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It never asked for too much.
    Never,
    /// It was refused, and went on: it got a smaller piece afterwards, or asked the host for something else.
    Before,
    /// It was refused, and has done nothing since that would show that it can live with that.
    Now,
}

impl MemoryLimiter {
    pub(crate) fn new(limits: &Limits, share: Share) -> Self {
        MemoryLimiter {
            bytes_max: limits.memory_bytes_max.min(share.bytes_max()),
            bytes: 0,
            bytes_peak: 0,
            instances_max: limits.instances_max.min(INSTANCES_MAX),
            share,
            refused: Refused::Never,
        }
    }

    /// The most that can be set aside, in bytes.
    pub(crate) fn set_aside_max(share: &Share) -> u64 {
        share.bytes_max() / LENT_PART
    }

    /// Takes memory that lies outside of the guest until the call ends, of what all guests may have together, and waits
    /// for it where it must. Whether there can be so much beside what the guest has: its own ends there from now on.
    pub(crate) async fn set_aside(&mut self, bytes: u64) -> wasmtime::Result<bool> {
        let left = self.share.bytes_max().saturating_sub(bytes);
        if self.bytes > left {
            self.refused = Refused::Now;
            return Ok(false);
        }
        self.share.take(bytes).await?;
        self.bytes_max = self.bytes_max.min(left);
        Ok(true)
    }

    /// Takes so many bytes for the host to hold; of a ceiling that is small beside them only a part, for a call that
    /// waits for what it holds itself would wait for ever.
    pub(crate) async fn lend(&self, bytes: u64) -> wasmtime::Result<Lent> {
        let bytes = bytes.min(self.share.bytes_max() / LENT_PART);
        self.share.take(bytes).await?;
        Ok(Lent(bytes))
    }

    /// Gives back what was lent but for the bytes that are really held; those are counted until the call ends.
    pub(crate) fn settle(&self, lent: Lent, held: u64) {
        self.share.put_back(lent.0.saturating_sub(held));
    }

    /// From now on no instance is made any more.
    pub(crate) fn refuse_instances(&mut self) {
        self.instances_max = 0;
    }

    /// The most that was in use at one time, in bytes.
    pub(crate) fn bytes_peak(&self) -> u64 {
        self.bytes_peak
    }

    /// A new program begins: the most that it uses is at least what is in use now.
    pub(crate) fn begin_again(&mut self) {
        self.bytes_peak = self.bytes;
        self.refused = Refused::Never;
    }

    /// Whether the guest asked for more than it may have.
    pub(crate) fn refused(&self) -> Refused {
        self.refused
    }

    /// The guest goes on with other things.
    pub(crate) fn goes_on(&mut self) {
        if self.refused == Refused::Now {
            self.refused = Refused::Before;
        }
    }

    /// Grows by so much, or refuses it. What has to be waited for is waited for in the future; all else is done at once.
    fn grow<'a>(&'a mut self, more: u64) -> Answer<'a> {
        let Some(bytes) = self.bytes.checked_add(more) else {
            return self.refuse();
        };
        if bytes > self.bytes_max {
            return self.refuse();
        }
        if self.share.take_now(more) {
            self.grown_to(bytes);
            return Box::pin(AtOnce::<true>);
        }
        Box::pin(async move {
            self.share.take(more).await?;
            self.grown_to(bytes);
            Ok(true)
        })
    }

    fn grown_to(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.bytes_peak = self.bytes_peak.max(bytes);
        self.goes_on();
    }

    fn refuse(&mut self) -> Answer<'static> {
        self.refused = Refused::Now;
        Box::pin(AtOnce::<false>)
    }
}

/// What wasmtime is answered that wants to grow a memory or a table: whether it may.
type Answer<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<bool>> + Send + 'a>>;

/// An answer that nobody has to wait for. It has no size: a box of it is no allocation.
struct AtOnce<const MAY_GROW: bool>;

impl<const MAY_GROW: bool> Future for AtOnce<MAY_GROW> {
    type Output = wasmtime::Result<bool>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(MAY_GROW))
    }
}

fn difference(desired: usize, current: usize) -> u64 {
    u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX)
}

/// Written out where `async_trait` would make a box of each call, also of those that wait for nothing.
impl ResourceLimiterAsync for MemoryLimiter {
    fn memory_growing<'a, 'b>(
        &'a mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Box::pin(AtOnce::<false>);
        }
        self.grow(difference(desired, current))
    }

    fn table_growing<'a, 'b>(
        &'a mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Box::pin(AtOnce::<false>);
        }
        self.grow(difference(desired, current).saturating_mul(TABLE_ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        self.instances_max as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_memory::{GuestMemory, Patience};

    fn limiter(bytes_max: u64, all: u64) -> MemoryLimiter {
        let limits = Limits {
            memory_bytes_max: bytes_max,
            ..Limits::STANDARD
        };
        let share = GuestMemory::new(all).enter(Patience::Waits);
        MemoryLimiter::new(&limits, Share::Held(share))
    }

    #[tokio::test]
    async fn the_sum_over_all_memories_is_limited() {
        let mut limiter = limiter(100, 1_000);
        assert!(
            limiter
                .memory_growing(0, 60, None)
                .await
                .expect("an answer")
        );
        assert!(
            !limiter
                .memory_growing(0, 60, None)
                .await
                .expect("an answer")
        );
        assert_eq!(limiter.refused(), Refused::Now);
        assert!(
            limiter
                .memory_growing(60, 100, None)
                .await
                .expect("an answer")
        );
        assert_eq!(limiter.refused(), Refused::Before, "it got a smaller piece");
        assert!(!limiter.table_growing(0, 1, None).await.expect("an answer"));
        assert_eq!(limiter.bytes_peak(), 100);
        assert_eq!(limiter.refused(), Refused::Now);
    }

    #[tokio::test]
    async fn no_call_waits_for_more_than_there_is() {
        let mut limiter = limiter(100, 50);
        assert!(
            !limiter
                .memory_growing(0, 60, None)
                .await
                .expect("an answer")
        );
        assert!(
            limiter
                .memory_growing(0, 50, None)
                .await
                .expect("an answer")
        );
    }

    #[tokio::test]
    async fn a_memorys_own_maximum_is_no_refusal_of_ours() {
        let mut limiter = limiter(100, 1_000);
        let grown = limiter.memory_growing(0, 60, Some(50)).await;
        assert!(!grown.expect("an answer"));
        assert_eq!(limiter.refused(), Refused::Never);
    }

    #[tokio::test]
    async fn a_table_of_any_size_is_counted_without_overflow() {
        let mut limiter = limiter(u64::MAX - 1, u64::MAX);
        let grown = limiter.table_growing(0, usize::MAX, None).await;
        assert!(!grown.expect("an answer"));
        assert_eq!(limiter.bytes_peak(), 0);
    }
}
