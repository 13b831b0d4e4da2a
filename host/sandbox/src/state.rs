//! What belongs to one call while it runs: the data of its store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi::ResourceTable;

use crate::capability::denials::Denials;
use crate::capability::files::FilesState;
use crate::capability::http::HttpState;
use crate::capability::log::LogState;
use crate::capability::{Grants, HostBytes, HostCallCount};
use crate::host_calls::HostCalls;
use crate::limits::{Limit, Limits, MemoryLimiter};
use crate::running_time::RunningTime;
use crate::trace::Tracer;
use crate::wasi::Wasi;
use crate::wasi::clock::GuestClock;
use crate::wasi::output::Output;

/// The data of one call's store.
pub(crate) struct State {
    pub(crate) wasi: Wasi,
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimiter,
    pub(crate) time: Arc<RunningTime>,
    pub(crate) clock: Arc<GuestClock>,
    /// When the timers that the guest holds are due on its clock, by their number in the table.
    pub(crate) timers: BTreeMap<u32, u64>,
    pub(crate) time_max: Duration,
    pub(crate) output: Output,
    /// The agent's id, for the texts of denials.
    pub(crate) agent: String,
    pub(crate) grants: Grants,
    pub(crate) host: Arc<dyn HostCalls>,
    pub(crate) host_calls: HostCallCount,
    pub(crate) host_bytes: HostBytes,
    pub(crate) log: LogState,
    pub(crate) http: HttpState,
    pub(crate) files: FilesState,
    pub(crate) denials: Denials,
    pub(crate) tracer: Tracer,
    /// Fuel that the call has from the beginning.
    pub(crate) fuel_max: u64,
    /// Fuel for WASI calls that is not yet taken from the store: WASI's functions cannot reach it.
    /// It is taken when they return to the guest.
    pub(crate) fuel_owed: u64,
    /// Fuel of tools that was taken from the store.
    pub(crate) tool_fuel: u64,
    /// What each host call that is under way owed when guest code called the host from within it, innermost last.
    pub(crate) fuel_put_off: Vec<u64>,
}

impl State {
    /// The time the guest may still compute or sleep.
    pub(crate) fn time_left(&self) -> Duration {
        self.time_max.saturating_sub(self.time.total())
    }

    /// Gives the next program of a session what each has for itself: output, log, questions to the host.
    pub(crate) fn begin_program(&mut self, limits: &Limits) {
        self.output.begin_again(limits.output_bytes_max);
        self.tracer = Tracer::new(limits.traced_calls_max);
        self.log = LogState::new(limits.log_bytes_max);
        self.host_calls = HostCallCount::new(limits.host_calls_max);
        self.host_bytes.begin_again();
        self.memory.begin_again();
        self.files.begin_again();
        self.tool_fuel = 0;
    }

    /// Moves the guest's clock to where its host says it stands after a call.
    pub(crate) fn move_clock(&self) {
        if let Some(time) = self.host.time() {
            self.clock.go_on_to_time(time);
        }
    }

    /// The guest calls the host, or the machine does for it. What is owed already is the debt of a host call further
    /// out, which waits for the guest to make room for its answer: it is put off until that call returns.
    pub(crate) fn host_call_begins(&mut self) {
        let owed = self.take_fuel_owed();
        self.fuel_put_off.push(owed);
    }

    /// The host call returns: what it owes itself, to be taken now.
    pub(crate) fn host_call_ends(&mut self) -> u64 {
        let owed = self.take_fuel_owed();
        self.fuel_owed = self.fuel_put_off.pop().unwrap_or(0);
        owed
    }

    /// Takes all that is owed, when no guest code runs any more.
    pub(crate) fn settle_fuel_owed(&mut self) -> u64 {
        let put_off = std::mem::take(&mut self.fuel_put_off);
        let owed = self.take_fuel_owed();
        put_off.into_iter().fold(owed, u64::saturating_add)
    }

    fn take_fuel_owed(&mut self) -> u64 {
        std::mem::take(&mut self.fuel_owed)
            .saturating_add(self.output.take_fuel_owed())
            .saturating_add(self.http.take_fuel_owed())
            .saturating_add(self.files.take_fuel_owed())
    }
}

/// Travels through wasmtime as an error, from the place that found a limit reached to the end of the call.
#[derive(Debug)]
pub(crate) struct Stop(pub(crate) Limit);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stop {}
