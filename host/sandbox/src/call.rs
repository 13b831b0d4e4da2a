//! The sandbox, and a call from its beginning to its end: a fresh store, the guest's code, and what became
//! of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{CallHook, Store, UpdateDeadline};

use crate::bindings::agent::troupe::agent::types::Invocation as GuestInvocation;
use crate::bindings::interpreter::exports::troupe::agent::interpreter::Program as GuestProgram;
use crate::cache::CompiledCache;
use crate::cancel::CancelFlag;
use crate::capability::denials::Denials;
use crate::capability::files::{FilesState, HOST_HANDLES_MAX, HostHandles};
use crate::capability::http::HttpState;
use crate::capability::log::LogState;
use crate::capability::{Grants, HostBytes, HostCallCount};
use crate::compiler::Compiler;
use crate::component::{
    Component, ComponentKind, Exports, Loader, check_imports, kind_of, load_in_background,
};
use crate::engine::{self, Allocation, Ticker};
use crate::error::{LoadError, SandboxError, StartError};
use crate::guest_memory::{GuestMemory, Patience};
use crate::host_calls::HostCalls;
use crate::inspection::Inspection;
use crate::limits::{Limit, Limits, MemoryLimiter};
use crate::outcome::{Outcome, Report, Usage};
use crate::running_time::RunningTime;
use crate::state::{State, Stop};
use crate::wasi::Start;
use crate::wasi::clock::GuestClock;
use crate::wasi::output::Output;
use crate::{capability, wasi};

mod command;
mod ending;
mod function;

/// What a guest may hand to the host in one call, in bytes: arguments of a host call, or its result. The host
/// allocates it before it can look at it. A larger [`Limits::output_bytes_max`] raises it.
const HANDED_BYTES_MAX: u64 = 16 << 20;
/// Room for what surrounds a result of the largest allowed size.
const HANDED_BYTES_ROOM: u64 = 64 << 10;
/// Handles of resources that one guest may hold; each costs the host memory.
const HANDLES_MAX: usize = 4_096;

/// Settings of a sandbox.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Where compiled components are kept. It is made where there is none, and closed to other users.
    pub cache_dir: PathBuf,
    /// The largest component that is accepted, in bytes. Protects the machine from compiling for minutes.
    pub component_bytes_max: u64,
    /// How many calls may be under way at once; more wait for their turn. Each reserves address space, and
    /// holds memory while its guest runs or waits for the host.
    pub calls_max: u32,
    /// Memory of all guests together, in bytes: linear memories and tables. A guest that needs more than is left waits
    /// until others have ended. Protects the machine.
    pub guest_memory_bytes_max: u64,
    /// Who compiles; none: this process itself, which a hostile component can end. For tests, and for components that are
    /// one's own.
    pub compiler: Option<Compiler>,
}

impl SandboxConfig {
    /// Keeps compiled components in `cache_dir`, accepts components of 64 MiB, makes 256 calls at once, and gives all
    /// guests together 4 GiB of memory. It compiles by itself.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        SandboxConfig {
            cache_dir: cache_dir.into(),
            component_bytes_max: 64 << 20,
            calls_max: 256,
            guest_memory_bytes_max: 4 << 30,
            compiler: None,
        }
    }
}

/// What an agent is asked to do. The fields are those of `troupe:agent/types.invocation`; its time limit comes
/// from [`Call::limits`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do, for example `summarize`.
    pub action: String,
    /// The step's input, as JSON.
    pub input: String,
    /// The execution's id.
    pub execution: String,
    /// The workflow's name.
    pub workflow: String,
    /// The step's path.
    pub step: String,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// The same at every attempt of this step.
    pub idempotency_key: String,
}

/// Source code to run. The fields are those of `troupe:agent/interpreter.program`; its seed comes from
/// [`Call::seed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The source code.
    pub source: String,
    /// The name that stands in error messages, for example `rank.py`.
    pub filename: String,
    /// The value of the variable `input`, as JSON.
    pub input: String,
    /// A function of this name that the source defines is called with the input, where nothing else gives
    /// the result.
    pub action: String,
    /// What it reads from standard input.
    pub stdin: bytes::Bytes,
}

/// The circumstances of a call.
#[derive(Clone)]
pub struct Call {
    /// The agent's id, for the texts of denials.
    pub agent: String,
    /// What it may ask for.
    pub grants: Grants,
    /// What it may use.
    pub limits: Limits,
    /// Whom it asks.
    pub host: Arc<dyn HostCalls>,
    /// Entropy: everything random in the guest follows from it. The same where a call is to be repeated exactly.
    pub seed: [u8; 32],
    /// What the guest's wall clock says when the call begins. It moves to [`HostCalls::time`] when a host call ends,
    /// and by the time that the guest sleeps; while the guest computes it stands still.
    pub started_at: SystemTime,
    /// Stops the call.
    pub cancel: CancelFlag,
}

/// Runs components. Clones share everything.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
    level: Level,
}

/// Whose calls a sandbox makes. Those of tools have places of their own: an agent holds its place while it waits
/// for its tool, and all places could be held by such.
#[derive(Clone, Copy)]
enum Level {
    Agents,
    Tools,
}

/// One place for tools to so many places for agents.
const CALLS_FOR_ONE_TOOL: u32 = 4;

struct Shared {
    loader: Arc<Loader>,
    ticker: Ticker,
    calls: Semaphore,
    memory: GuestMemory,
    tool_calls: Semaphore,
    /// Handles of the process for files that guests hold open.
    host_handles: Arc<Semaphore>,
    allocation: Allocation,
}

/// Fuel after which a guest hands over what it has counted. While it runs it has the count in a register, which is lost
/// where its time limit or a cancellation ends it: its usage is short of at most so much, less than a millisecond's work.
const FUEL_KNOWN_EVERY: u64 = 10_000_000;

impl Sandbox {
    /// Starts the engine and opens the folder of compiled components.
    ///
    /// # Errors
    /// The machine lacks what WebAssembly needs, or the folder is not ours alone.
    pub fn new(config: SandboxConfig) -> Result<Self, StartError> {
        let tool_calls_max = (config.calls_max / CALLS_FOR_ONE_TOOL).max(1);
        let (engine, allocation) = engine::start(config.calls_max.saturating_add(tool_calls_max))?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(StartError::Engine)?;
        capability::link(&mut linker).map_err(StartError::Engine)?;
        let loader = Loader {
            cache: CompiledCache::open(&config.cache_dir, &engine)?,
            component_bytes_max: config.component_bytes_max,
            compiler: config.compiler,
            compiling: Mutex::new(()),
            engine: engine.clone(),
            linker,
        };
        let shared = Shared {
            loader: Arc::new(loader),
            ticker: Ticker::start(&engine)?,
            calls: places(config.calls_max),
            tool_calls: places(tool_calls_max),
            host_handles: Arc::new(Semaphore::new(HOST_HANDLES_MAX)),
            memory: GuestMemory::new(config.guest_memory_bytes_max),
            allocation,
        };
        Ok(Sandbox {
            shared: Arc::new(shared),
            level: Level::Agents,
        })
    }

    /// The same sandbox for calls that agents wait for: of tools, which may not wait for agents in turn.
    pub fn for_tools(&self) -> Sandbox {
        Sandbox {
            shared: Arc::clone(&self.shared),
            level: Level::Tools,
        }
    }

    /// Where instances get their memory from.
    pub fn allocation(&self) -> &Allocation {
        &self.shared.allocation
    }

    /// Checks a component, compiles it unless that was done before, and links it.
    ///
    /// # Errors
    /// It is not a component that this host can call; the error says why and what would help.
    pub async fn load(&self, wasm: Bytes) -> Result<Component, LoadError> {
        let component = load_in_background(Arc::clone(&self.shared.loader), wasm).await?;
        self.described(component).await
    }

    /// Reads what a component is, without compiling it, and what the host would refuse about it.
    ///
    /// # Errors
    /// It is not a component at all.
    pub fn inspect(
        &self,
        wasm: &[u8],
    ) -> Result<(Inspection, Result<ComponentKind, LoadError>), LoadError> {
        let inspection = self.shared.loader.inspect(wasm)?;
        let kind = check_imports(&inspection).and_then(|()| kind_of(&inspection));
        Ok((inspection, kind))
    }

    /// Calls an agent's `run` in a fresh instance. Dropping the future ends the call.
    ///
    /// # Errors
    /// The host failed, or the component is no agent. Whatever the guest does is in the report.
    pub async fn call_agent(
        &self,
        component: &Component,
        invocation: Invocation,
        call: Call,
    ) -> Result<Report, SandboxError> {
        let Exports::Agent(agent) = &component.exports else {
            return Err(wrong_kind(component, ComponentKind::Agent));
        };
        let invocation = GuestInvocation {
            action: invocation.action,
            input: invocation.input,
            execution: invocation.execution,
            workflow: invocation.workflow,
            step: invocation.step,
            attempt: invocation.attempt,
            idempotency_key: invocation.idempotency_key,
            time_limit_ms: u64::try_from(call.limits.time_max.as_millis()).unwrap_or(u64::MAX),
        };
        self.run(call, Start::default(), async |store| {
            let instance = agent
                .instantiate_async(&mut *store)
                .await
                .map_err(ending::Failed::Instantiate)?;
            let guest = instance.troupe_agent_guest();
            let result = guest
                .call_run(store, &invocation)
                .await
                .map_err(ending::Failed::Run)?;
            Ok(result.map_err(Outcome::Declined))
        })
        .await
    }

    /// Runs source code in a fresh instance of an interpreter. Dropping the future ends the call.
    ///
    /// # Errors
    /// The host failed, or the component is no interpreter. Whatever the guest does is in the report.
    pub async fn execute(
        &self,
        component: &Component,
        program: Program,
        call: Call,
    ) -> Result<Report, SandboxError> {
        let Exports::Interpreter(interpreter) = &component.exports else {
            return Err(wrong_kind(component, ComponentKind::Interpreter));
        };
        let start = Start {
            stdin: program.stdin,
            ..Start::default()
        };
        let program = GuestProgram {
            source: program.source,
            filename: program.filename,
            input: program.input,
            action: program.action,
            seed: u64::from_le_bytes(wasi::derive(&call.seed, "interpreter")),
        };
        self.run(call, start, async |store| {
            let instance = interpreter
                .instantiate_async(&mut *store)
                .await
                .map_err(ending::Failed::Instantiate)?;
            let guest = instance.troupe_agent_interpreter();
            let result = guest
                .call_execute(store, &program)
                .await
                .map_err(ending::Failed::Run)?;
            Ok(result.map_err(Outcome::Raised))
        })
        .await
    }

    /// Runs `guest` with a store of its own, under the call's limits, and reports.
    async fn run(
        &self,
        call: Call,
        start: Start,
        guest: impl AsyncFnOnce(&mut Store<State>) -> Result<Result<String, Outcome>, ending::Failed>,
    ) -> Result<Report, SandboxError> {
        let (limits, cancel) = (call.limits, call.cancel.clone());
        let permit = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Report::cancelled_early()),
            permit = self.places().acquire() => permit,
        };
        let _permit =
            permit.map_err(|closed| SandboxError::Engine(wasmtime::Error::new(closed)))?;
        let _ticking = self.shared.ticker.tick_during_call();
        let mut store = self.store(call, start)?;
        let time = Arc::clone(&store.data().time);
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            ended = guarded(async {
                let State { memory, files, .. } = store.data();
                let reserved = memory.reserve(files.scratch_bytes_max()).await;
                reserved.map_err(ending::Failed::Run)?;
                time.measure(guest(&mut store)).await
            }) => Some(ended?),
        };
        let fuel_left = settle(&mut store).map_err(SandboxError::Engine)?;
        let outcome = match ended {
            None => Outcome::Cancelled,
            Some(_) if fuel_left.is_none() => Outcome::LimitHit(Limit::Fuel),
            Some(ended) => ending::outcome(ended, &limits, &store.data().memory)?,
        };
        let usage = usage(
            store.data(),
            limits.fuel.saturating_sub(fuel_left.unwrap_or(0)),
        );
        let denials = store.data_mut().take_denials();
        let [stdout, stderr] = store.data().output.captured();
        let output_bytes = match &outcome {
            Outcome::Returned(result) => u64::try_from(result.len()).unwrap_or(u64::MAX),
            _ => 0,
        };
        Ok(Report {
            outcome,
            usage: Usage {
                output_bytes,
                stdout_bytes: stdout.bytes_total,
                stderr_bytes: stderr.bytes_total,
                ..usage
            },
            stdout,
            stderr,
            denials,
        })
    }

    fn places(&self) -> &Semaphore {
        match self.level {
            Level::Agents => &self.shared.calls,
            Level::Tools => &self.shared.tool_calls,
        }
    }

    /// An agent holds its memory while it waits for a tool: a tool that waited for memory might wait for ever.
    fn patience(&self) -> Patience {
        match self.level {
            Level::Agents => Patience::Waits,
            Level::Tools => Patience::None,
        }
    }

    fn store(&self, call: Call, start: Start) -> Result<Store<State>, SandboxError> {
        let Call {
            agent,
            grants,
            limits,
            host,
            seed,
            started_at,
            cancel: _,
        } = call;
        let time = Arc::new(RunningTime::start());
        let clock = GuestClock::new(started_at);
        let output = Output::new(limits.output_bytes_max);
        let host_bytes = HostBytes::new(limits.host_bytes_max);
        let http = HttpState::new(grants.http.as_ref(), &host_bytes, &seed);
        let mut variables = http.variables();
        variables.extend(grants.env.iter().flat_map(|env| env.values.iter().cloned()));
        let state = State {
            wasi: wasi::context(start, (&output, &clock, &seed), variables),
            files: FilesState::open(
                grants.files.as_ref(),
                limits.disk_bytes_max,
                (HostHandles::new(&self.shared.host_handles), &clock),
            ),
            denials: Denials::default(),
            table: wasi::resource_table(),
            memory: MemoryLimiter::new(&limits, self.shared.memory.enter(self.patience())),
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
            fuel_owed: 0,
            fuel_put_off: Vec::new(),
        };
        let mut store = Store::new(&self.shared.loader.engine, state);
        store.limiter_async(|state| &mut state.memory);
        store
            .fuel_async_yield_interval(Some(FUEL_KNOWN_EVERY))
            .and_then(|()| store.set_fuel(limits.fuel))
            .map_err(SandboxError::Engine)?;
        let handed =
            HANDED_BYTES_MAX.max(limits.output_bytes_max.saturating_add(HANDED_BYTES_ROOM));
        store.set_hostcall_fuel(usize::try_from(handed).unwrap_or(usize::MAX));
        store.set_max_component_handles(HANDLES_MAX);
        // Only here: while guest code runs it has the fuel in a register, and overwrites what is set. It does so also
        // when it grows its memory or a tick interrupts it, which are calls of the host for this hook: they owe nothing,
        // and what is owed by the call that asked the guest for room must outlast them.
        store.call_hook(|mut store, transition| match transition {
            CallHook::CallingHost => {
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
        Ok(store)
    }
}

fn places(count: u32) -> Semaphore {
    let count = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
    Semaphore::new(count.min(Semaphore::MAX_PERMITS))
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
        memory_bytes_peak: state.memory.bytes_peak(),
        duration: state.time.total(),
        host_calls: state.host_calls.total(),
        host_bytes: state.host_bytes.total(),
        log_bytes: state.log.bytes,
        log_lines_dropped: state.log.lines_dropped,
        files_opened: files.opened,
        file_bytes_read: files.bytes_read,
        file_bytes_written: files.bytes_written,
        scratch_bytes_peak: files.scratch_bytes_peak,
        ..Usage::default()
    }
}

fn wrong_kind(component: &Component, wanted: ComponentKind) -> SandboxError {
    SandboxError::WrongKind {
        digest: *component.digest(),
        found: component.kind(),
        wanted,
    }
}

/// Turns a panic into an error. The store of the call is dropped afterwards and nothing else was touched by it;
/// an implementation of [`HostCalls`] answers for its own state.
async fn guarded<T>(call: impl Future<Output = T>) -> Result<T, SandboxError> {
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
