//! What one call may use, and the part of it that wasmtime asks us about: memories, tables, instances.
//! Fuel and time are enforced in `call.rs`, output in `wasi/output.rs`, host calls in `capability.rs`.

use std::fmt;
use std::time::Duration;

use wasmtime::ResourceLimiter;

/// What one call of a guest may use. There is no default: the operator's file or [`Limits::STANDARD`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Outgoing HTTP requests, each of which is a host call too. Protects those who are asked, and the journal.
    pub http_requests_max: u32,
    /// Bytes of HTTP requests and responses together: addresses, headers, bodies. Protects the network and the journal.
    pub http_bytes_max: u64,
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
        http_requests_max: 200,
        http_bytes_max: 64 << 20,
    };
}

/// A limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// [`Limits::http_requests_max`].
    HttpRequests,
    /// [`Limits::http_bytes_max`].
    HttpBytes,
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
            Limit::HttpRequests => "limit_http_requests",
            Limit::HttpBytes => "limit_http_bytes",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Fuel => {
                "the agent used up its fuel; give it less to do, or raise `fuel` in its `limits`"
            }
            Limit::Memory => {
                "the agent needed more memory than it may have; raise `memory_mb` in its `limits`"
            }
            Limit::Time => {
                "the agent computed for longer than it may; raise `timeout_ms` in its `limits`"
            }
            Limit::Output => {
                "the agent's result is larger than it may be; return less, or raise `output_kb` in its `limits`"
            }
            Limit::HostCalls => {
                "the agent called the host more often than it may; raise `host_calls` in its `limits`"
            }
            Limit::HttpRequests => {
                "the agent sent more HTTP requests than it may; raise `http_requests` in its `limits`"
            }
            Limit::HttpBytes => {
                "the agent sent and received more over HTTP than it may; raise `http_kb` in its `limits`"
            }
        })
    }
}

/// Core instances of one component. A Python component has about thirty; the cap protects the host's memory
/// from a component that is nothing but instances.
pub(crate) const INSTANCES_MAX: u32 = 64;
/// Linear memories of one component; toolchains make one or two.
pub(crate) const MEMORIES_MAX: u32 = 2;
/// Tables of one component; toolchains make a handful.
pub(crate) const TABLES_MAX: u32 = 8;
/// What one table element costs the host.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// Keeps the sum over all memories and tables of a store below the limit. (wasmtime's own `StoreLimits`
/// limits each memory by itself, so that fifty memories would get fifty times as much.)
pub(crate) struct MemoryLimiter {
    bytes_max: u64,
    bytes: u64,
    bytes_peak: u64,
    refused: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(bytes_max: u64) -> Self {
        MemoryLimiter {
            bytes_max,
            bytes: 0,
            bytes_peak: 0,
            refused: false,
        }
    }

    /// The most that was in use at one time, in bytes.
    pub(crate) fn bytes_peak(&self) -> u64 {
        self.bytes_peak
    }

    /// Whether the guest ever asked for more than it may have.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, more: u64) -> bool {
        match self.bytes.checked_add(more) {
            Some(bytes) if bytes <= self.bytes_max => {
                self.bytes = bytes;
                self.bytes_peak = self.bytes_peak.max(bytes);
                true
            }
            _ => {
                self.refused = true;
                false
            }
        }
    }
}

fn difference(desired: usize, current: usize) -> u64 {
    u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX)
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(difference(desired, current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(difference(desired, current).saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX as usize
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

    #[test]
    fn the_sum_over_all_memories_is_limited() {
        let mut limiter = MemoryLimiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).expect("never fails"));
        assert!(!limiter.memory_growing(0, 60, None).expect("never fails"));
        assert!(limiter.memory_growing(60, 100, None).expect("never fails"));
        assert!(!limiter.table_growing(0, 1, None).expect("never fails"));
        assert_eq!(limiter.bytes_peak(), 100);
        assert!(limiter.has_refused());
    }

    #[test]
    fn a_memorys_own_maximum_is_no_refusal_of_ours() {
        let mut limiter = MemoryLimiter::new(100);
        assert!(
            !limiter
                .memory_growing(0, 60, Some(50))
                .expect("never fails")
        );
        assert!(!limiter.has_refused());
    }

    #[test]
    fn a_table_of_any_size_is_counted_without_overflow() {
        let mut limiter = MemoryLimiter::new(u64::MAX - 1);
        assert!(
            !limiter
                .table_growing(0, usize::MAX, None)
                .expect("never fails")
        );
        assert_eq!(limiter.bytes_peak(), 0);
    }
}
