//! Runs a call of a linked component in this process, from its beginning to its end: a fresh store, the guest's code, and
//! what became of it. Who may call, and when, was decided before.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::Semaphore;
use wasmtime::{CallHook, Engine, Store, UpdateDeadline};

use crate::call::Call;
use crate::capability::denials::Denials;
use crate::capability::files::{FilesState, HOST_HANDLES_MAX, HostHandles};
use crate::capability::http::HttpState;
use crate::capability::log::LogState;
use crate::capability::{self, HostBytes, HostCallCount};
use crate::engine::Ticker;
use crate::entry::Entry;
use crate::error::{SandboxError, StartError};
use crate::guest_memory::Share;
use crate::limits::{Limit, Limits, MemoryLimiter};
use crate::linked::Linked;
use crate::outcome::{Outcome, Report, Usage};
use crate::running_time::RunningTime;
use crate::state::{State, Stop};
use crate::trace::Tracer;
use crate::wasi::clock::GuestClock;
use crate::wasi::output::Output;
use crate::wasi::{self, Start, Wasi};

mod command;
pub(crate) mod ending;
mod function;
pub(crate) mod guest;
mod instances;
pub(crate) mod kept;

/// Fuel after which a guest hands over what it has counted. While it runs it has the count in a register, which is lost
/// where its time limit or a cancellation ends it: its usage is short of at most so much, less than a millisecond's work.
const FUEL_KNOWN_EVERY: u64 = 10_000_000;

/// What a guest may hand to the host in one call, in bytes: arguments of a host call, or its result. The host
/// allocates it before it can look at it. A larger [`crate::Limits::output_bytes_max`] raises it.
const HANDED_BYTES_MAX: u64 = 16 << 20;
/// Room for what surrounds a result of the largest allowed size.
const HANDED_BYTES_ROOM: u64 = 64 << 10;
/// Handles of resources that one guest may hold; each costs the host memory.
const HANDLES_MAX: usize = 4_096;

/// What calls in this process have in common.
pub(crate) struct Machine {
    engine: Engine,
    ticker: Ticker,
    /// Handles of the process for files that guests hold open.
    host_handles: Arc<Semaphore>,
}

impl Machine {
    /// Begins to keep the time of guests.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(engine: &Engine) -> Result<Self, StartError> {
        Ok(Machine {
            engine: engine.clone(),
            ticker: Ticker::start(engine)?,
            host_handles: Arc::new(Semaphore::new(HOST_HANDLES_MAX)),
        })
    }

    /// Calls a component in a fresh instance, with memory from `share`. Dropping the future ends the call.
    ///
    /// # Errors
    /// The host failed, or the component has no such entry. Whatever the guest does is in the report.
    pub(crate) async fn run(
        &self,
        linked: &Linked,
        entry: Entry<'_>,
        (call, share): (Call, Share),
    ) -> Result<Report, SandboxError> {
        let (limits, cancel) = (call.limits, call.cancel.clone());
        let _ticking = self.ticker.tick_during_call();
        let (entry, start) = guest::start(entry, &call);
        let mut store = self.store((call, share), start)?;
        let time = Arc::clone(&store.data().time);
        let mut ended = None;
        {
            // Pinned where it is made, and what comes of it put where it belongs: both are large, and would be copied from
            // hand to hand.
            let running = pin!(async {
                let running = pin!(guest::run(linked, &mut store, entry, &limits));
                ended = Some(time.measure(running).await);
            });
            cancel.unless(guarded(running)).await.transpose()?;
        }
        let fuel_left = settle(&mut store).map_err(SandboxError::Engine)?;
        let instances = instances::made(&mut store, linked, ended.as_ref()).await;
        report(&mut store, ended, (&limits, fuel_left, instances))
    }

    fn store(
        &self,
        (call, share): (Call, Share),
        start: Start,
    ) -> Result<Store<State>, SandboxError> {
        let Call {
            agent,
            grants,
            limits,
            host,
            seed,
            started_at,
            cancel: _,
        } = call;
        let time = Arc::new(RunningTime::new());
        let clock = GuestClock::new(started_at);
        let output = Output::new(limits.output_bytes_max);
        let host_bytes = HostBytes::new(limits.host_bytes_max);
        let http = HttpState::new(grants.http.as_ref(), &seed);
        let state = State {
            wasi: Wasi::new(start, seed),
            files: match &grants.files {
                None => FilesState::none(),
                Some(grant) => {
                    let handles = HostHandles::new(limits.open_files_max, &self.host_handles);
                    let scratch_max = MemoryLimiter::set_aside_max(&share);
                    let bytes_max = (limits.disk_bytes_max, scratch_max);
                    FilesState::open(grant, bytes_max, (handles, &clock))
                }
            },
            denials: Denials::default(),
            tracer: Tracer::new(limits.traced_calls_max),
            table: wasi::resource_table(),
            memory: MemoryLimiter::new(&limits, share),
            time,
            clock,
            timers: BTreeMap::new(),
            time_max: limits.time_max,
            output,
            agent,
            grants,
            host,
            host_calls: HostCallCount::new(limits.host_calls_max),
            host_bytes,
            log: LogState::new(limits.log_bytes_max),
            http,
            fuel_max: limits.fuel,
            fuel_owed: 0,
            tool_fuel: 0,
            fuel_put_off: Vec::new(),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter_async(|state| &mut state.memory);
        store
            .fuel_async_yield_interval(Some(FUEL_KNOWN_EVERY))
            .and_then(|()| store.set_fuel(limits.fuel))
            .map_err(SandboxError::Engine)?;
        let handed =
            HANDED_BYTES_MAX.max(limits.output_bytes_max.saturating_add(HANDED_BYTES_ROOM));
        store.set_hostcall_fuel(usize::try_from(handed).unwrap_or(usize::MAX));
        store.set_max_component_handles(HANDLES_MAX);
        watch(&mut store);
        Ok(store)
    }
}

/// Has the guest pay when it comes back from the host, and looks at its time at every tick.
fn watch(store: &mut Store<State>) {
    // Only here: while guest code runs it has the fuel in a register, and overwrites what is set. It does so also
    // when it grows its memory or a tick interrupts it, which are calls of the host for this hook: they owe nothing,
    // and what is owed by the call that asked the guest for room must outlast them.
    store.call_hook(|mut store, transition| match transition {
        CallHook::CallingHost => {
            if store.data().tracer.is_on() {
                let left = store.get_fuel()?;
                let state = store.data_mut();
                state.tracer.note_fuel(state.fuel_max.saturating_sub(left));
            }
            store.data_mut().host_call_begins();
            Ok(())
        }
        CallHook::ReturningFromHost => {
            let owed = store.data_mut().host_call_ends();
            capability::charge(&mut store, owed)
        }
        CallHook::CallingWasm | CallHook::ReturningFromWasm => Ok(()),
    });
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        if store.data().time_left().is_zero() {
            return Err(Stop(Limit::Time).into());
        }
        Ok(UpdateDeadline::Yield(1))
    });
}

/// What a guest used that has ended, and what became of it; none: it was cancelled.
fn report(
    store: &mut Store<State>,
    ended: Option<ending::Ended>,
    (limits, fuel_left, instances): (&Limits, Option<u64>, u32),
) -> Result<Report, SandboxError> {
    let outcome = match ended {
        None => Outcome::Cancelled,
        Some(_) if fuel_left.is_none() => Outcome::LimitHit(Limit::Fuel),
        Some(ended) => ending::outcome(ended, limits, &store.data().memory)?,
    };
    let usage = usage(
        store.data(),
        limits.fuel.saturating_sub(fuel_left.unwrap_or(0)),
    );
    let denials = store.data_mut().take_denials();
    let trace = store.data_mut().take_trace();
    let [stdout, stderr] = store.data().output.captured();
    let output_bytes = match &outcome {
        Outcome::Returned(result) => u64::try_from(result.len()).unwrap_or(u64::MAX),
        _ => 0,
    };
    Ok(Report {
        outcome,
        usage: Usage {
            instances,
            output_bytes,
            stdout_bytes: stdout.bytes_total,
            stderr_bytes: stderr.bytes_total,
            ..usage
        },
        stdout,
        stderr,
        denials,
        trace,
    })
}

/// Takes the fuel that is still owed and returns what is left; none where it does not suffice.
fn settle(store: &mut Store<State>) -> wasmtime::Result<Option<u64>> {
    let owed = store.data_mut().settle_fuel_owed();
    Ok(store.get_fuel()?.checked_sub(owed))
}

fn usage(state: &State, fuel: u64) -> Usage {
    let files = state.files.used();
    Usage {
        fuel,
        tool_fuel: state.tool_fuel,
        memory_bytes_peak: state.memory.bytes_peak(),
        duration: state.time.total(),
        host_calls: state.host_calls.total(),
        host_bytes: state.host_bytes.total(),
        log_bytes: state.log.bytes,
        log_lines_dropped: state.log.lines_dropped,
        files_opened: files.opened,
        open_files_peak: files.open_peak,
        file_bytes_read: files.bytes_read,
        file_bytes_written: files.bytes_written,
        scratch_bytes_peak: files.scratch_bytes_peak,
        ..Usage::default()
    }
}

/// Turns a panic into an error. The store of the call is dropped afterwards and nothing else was touched by it;
/// an implementation of [`HostCalls`] answers for its own state.
pub(crate) async fn guarded<T>(call: impl Future<Output = T>) -> Result<T, SandboxError> {
    AssertUnwindSafe(call)
        .catch_unwind()
        .await
        .map_err(|payload: Box<dyn Any + Send>| {
            let message = payload
                .downcast_ref::<&str>()
                .map(|message| (*message).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            tracing::error!(message, "the host panicked during a guest's call");
            SandboxError::Panicked { message }
        })
}
