//! The sandbox: loads components, and has them called, in this process or in others.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::cache::CompiledCache;
use crate::call::{Call, Invocation, Program};
use crate::compiler::Compiler;
use crate::component::{
    Component, ComponentKind, Loader, check_imports, load_in_background, role_of,
};
use crate::engine::{self, Allocation};
use crate::entry::Entry;
use crate::error::{LoadError, SandboxError, StartError};
use crate::function::{Arguments, Function};
use crate::guest_memory::{GuestMemory, Patience, Share};
use crate::inspection::Inspection;
use crate::machine::Machine;
use crate::outcome::{Outcome, Report};
use crate::session::{self, Live, Session, SessionEnd, SessionError, SessionTask, SessionTimes};
use crate::state::State;
use crate::workers::{Isolation, Workers};
use crate::{capability, description, wasi};

/// Settings of a sandbox.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Where compiled components are kept. It is made where there is none, and closed to other users.
    pub cache_dir: PathBuf,
    /// Bytes of compiled components that are kept: what was not used for longest is removed. Protects the disk.
    pub compiled_bytes_max: u64,
    /// The largest component that is accepted, in bytes. Protects the machine from compiling for minutes.
    pub component_bytes_max: u64,
    /// How many calls may be under way at once; more wait for their turn. Each reserves address space, and
    /// holds memory while its guest runs or waits for the host.
    pub calls_max: u32,
    /// Memory of all guests together, in bytes: linear memories and tables. A guest that needs more than is left waits
    /// until others have ended. Protects the machine.
    pub guest_memory_bytes_max: u64,
    /// Where guests run.
    pub isolation: Isolation,
    /// Who compiles; none: this process itself, which a hostile component can end. For tests, and for components that are
    /// one's own.
    pub compiler: Option<Compiler>,
}

impl SandboxConfig {
    /// Keeps 4 GiB of compiled components in `cache_dir`, accepts components of 64 MiB, makes 256 calls at once, and gives all
    /// guests together 4 GiB of memory. It compiles and runs them by itself.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        SandboxConfig {
            cache_dir: cache_dir.into(),
            compiled_bytes_max: 4 << 30,
            component_bytes_max: 64 << 20,
            calls_max: 256,
            guest_memory_bytes_max: 4 << 30,
            isolation: Isolation::InProcess,
            compiler: None,
        }
    }
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
/// One session to so many places for calls: each holds an instance and memory for as long as it lasts.
const CALLS_FOR_ONE_SESSION: u32 = 4;

pub(crate) struct Shared {
    loader: Arc<Loader>,
    calls: Semaphore,
    tool_calls: Semaphore,
    sessions: Arc<Semaphore>,
    memory: GuestMemory,
    pub(crate) runner: Runner,
}

/// Who runs guests.
pub(crate) enum Runner {
    /// This process.
    Here(Machine, Allocation),
    /// Processes of their own.
    Apart(Workers),
}

impl Sandbox {
    /// Starts the engine and opens the folder of compiled components.
    ///
    /// # Errors
    /// The machine lacks what WebAssembly needs, or the folder is not ours alone.
    pub fn new(config: SandboxConfig) -> Result<Self, StartError> {
        let tool_calls_max = (config.calls_max / CALLS_FOR_ONE_TOOL).max(1);
        let at_once = config.calls_max.saturating_add(tool_calls_max);
        let sessions_max = (config.calls_max / CALLS_FOR_ONE_SESSION).max(1);
        let (engine, runner) = match config.isolation {
            Isolation::InProcess => {
                let (engine, allocation) = engine::start(at_once.saturating_add(sessions_max))?;
                let machine = Machine::start(&engine)?;
                (engine, Runner::Here(machine, allocation))
            }
            Isolation::Processes(program) => {
                // Nothing runs here, but what no worker has room for is refused here.
                let (engine, _allocation) = engine::start(1)?;
                let workers = Workers::new(program, at_once, &config.cache_dir);
                (engine, Runner::Apart(workers))
            }
        };
        let loader = Loader {
            cache: CompiledCache::open(&config.cache_dir, config.compiled_bytes_max, &engine)?,
            component_bytes_max: config.component_bytes_max,
            compiler: config.compiler,
            compiling: Mutex::new(()),
            linker: linker(&engine).map_err(StartError::Engine)?,
            engine,
        };
        let shared = Shared {
            loader: Arc::new(loader),
            calls: places(config.calls_max),
            tool_calls: places(tool_calls_max),
            sessions: Arc::new(places(sessions_max)),
            memory: GuestMemory::new(config.guest_memory_bytes_max),
            runner,
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

    /// Where instances in this process get their memory from; none: they are made in processes of their own.
    pub fn allocation(&self) -> Option<&Allocation> {
        match &self.shared.runner {
            Runner::Here(_, allocation) => Some(allocation),
            Runner::Apart(_) => None,
        }
    }

    /// The processes in which guests run, by their ids; none where they run in this one.
    pub fn worker_ids(&self) -> Vec<u32> {
        match &self.shared.runner {
            Runner::Here(..) => Vec::new(),
            Runner::Apart(workers) => workers.ids(),
        }
    }

    /// Checks a component, compiles it unless that was done before, and links it.
    ///
    /// # Errors
    /// It is not a component that this host can call; the error says why and what would help.
    pub async fn load(&self, wasm: Bytes) -> Result<Component, LoadError> {
        let mut component = load_in_background(Arc::clone(&self.shared.loader), wasm).await?;
        let Some(function) = component.describe_function() else {
            return Ok(component);
        };
        let (arguments, call) = (Arguments::none(), description::call());
        let report = self.call_function(&component, &function, arguments, call);
        let report = report
            .await
            .map_err(|error| LoadError::Host(Box::new(error)))?;
        component.describe(description::read(report.outcome)?);
        Ok(component)
    }

    /// The largest component that is accepted, in bytes.
    #[must_use]
    pub fn component_bytes_max(&self) -> u64 {
        self.shared.loader.component_bytes_max
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
        let kind = check_imports(&inspection).and_then(|()| role_of(&inspection));
        Ok((inspection, kind.map(|role| role.kind())))
    }

    /// Calls an agent's `run` in a fresh instance. Dropping the future ends the call.
    ///
    /// # Errors
    /// The host failed, or the component is no agent. Whatever the guest does is in the report.
    pub fn call_agent(
        &self,
        component: &Component,
        invocation: Invocation,
        call: Call,
    ) -> impl Future<Output = Result<Report, SandboxError>> + Send {
        self.call(component, Entry::Agent(invocation), call)
    }

    /// Runs source code in a fresh instance of an interpreter. Dropping the future ends the call.
    ///
    /// # Errors
    /// The host failed, or the component is no interpreter. Whatever the guest does is in the report.
    pub fn execute(
        &self,
        component: &Component,
        program: Program,
        call: Call,
    ) -> impl Future<Output = Result<Report, SandboxError>> + Send {
        self.call(component, Entry::Program(program), call)
    }

    /// Opens a session in an interpreter: programs that find what those before them left. The call's limits are those of
    /// each program; its memory and what it may write are the whole session's, as are its grants. The session lives in
    /// the task.
    ///
    /// Fails at once where as many sessions are open as may be, a quarter of [`SandboxConfig::calls_max`].
    ///
    /// # Errors
    /// The host failed, or the component is no interpreter that keeps state, or its limits do not even let it begin.
    pub async fn open_session(
        &self,
        component: &Component,
        call: Call,
        times: SessionTimes,
    ) -> Result<(Session, SessionTask), SessionError> {
        check_kind(component, ComponentKind::Interpreter)?;
        if !component.keeps_state() {
            let digest = *component.digest();
            return Err(SandboxError::NoSessions { digest }.into());
        }
        let permit = self.place_of_session()?;
        let cancel = call.cancel.clone();
        let share = self.shared.memory.enter(self.patience());
        let kept = match &self.shared.runner {
            Runner::Here(machine, _) => {
                let share = Share::Held(share);
                let kept = machine.keep(&component.linked, (call, share)).await?;
                kept.map(|kept| Live::Here(Arc::clone(&self.shared), Box::new(kept)))
            }
            Runner::Apart(workers) => {
                let kept = workers.keep(component, (call, share)).await?;
                kept.map(|apart| Live::Apart(Box::new(apart)))
            }
        };
        let live = kept.map_err(|report| SessionError::Over(SessionEnd::of(&report.outcome)))?;
        Ok(session::serve(live, (times, cancel), permit))
    }

    fn place_of_session(&self) -> Result<OwnedSemaphorePermit, SandboxError> {
        let permit = Arc::clone(&self.shared.sessions).try_acquire_owned();
        permit.map_err(|_none_left| SandboxError::Busy {
            message: "as many sessions are open as may be, a quarter of the calls at once; close one, or try again later"
                .to_owned(),
        })
    }

    /// Runs a program in a fresh instance. Dropping the future ends it.
    ///
    /// It reads the input as JSON on standard input and writes its result as JSON to standard output; nothing
    /// written is `null`. Its arguments are the agent's id, as its own name, and the action; the rest of the
    /// invocation is in the environment: `TROUPE_ACTION`, `TROUPE_EXECUTION`, `TROUPE_WORKFLOW`, `TROUPE_STEP`,
    /// `TROUPE_ATTEMPT` and `TROUPE_IDEMPOTENCY_KEY`. An exit code other than 0 is [`crate::Outcome::Exited`] (with 1:
    /// WASI 0.2 does not tell which).
    ///
    /// # Errors
    /// The host failed, or the component is no program. Whatever the guest does is in the report.
    pub fn run_command(
        &self,
        component: &Component,
        invocation: Invocation,
        call: Call,
    ) -> impl Future<Output = Result<Report, SandboxError>> + Send {
        self.call(component, Entry::Command(invocation), call)
    }

    /// Calls a function of a component in a fresh instance, whatever the component's kind. Dropping the future ends
    /// the call.
    ///
    /// The result of a `result<T, E>` is `T`; its error is [`crate::Outcome::Declined`], with the error's JSON in the
    /// details.
    ///
    /// # Errors
    /// The host failed. Whatever the guest does is in the report.
    pub fn call_function(
        &self,
        component: &Component,
        function: &Function,
        arguments: Arguments,
        call: Call,
    ) -> impl Future<Output = Result<Report, SandboxError>> + Send {
        let entry = Entry::Function(Cow::Borrowed(function), arguments);
        self.call(component, entry, call)
    }

    /// Waits for a place, and has the call made.
    ///
    /// What calls this hands its future on, and does not wait for it itself: it is large, and each who waits would hold it
    /// in a future of its own and so move it once more.
    async fn call(
        &self,
        component: &Component,
        entry: Entry<'_>,
        call: Call,
    ) -> Result<Report, SandboxError> {
        if let Some(wanted) = entry.kind() {
            check_kind(component, wanted)?;
        }
        let Some(permit) = call.cancel.unless(self.places().acquire()).await else {
            return Ok(Report::cancelled_early());
        };
        let _permit =
            permit.map_err(|closed| SandboxError::Engine(wasmtime::Error::new(closed)))?;
        let (memory, patience) = (&self.shared.memory, self.patience());
        let called = match &self.shared.runner {
            Runner::Here(machine, _) => {
                let likely = component.memory_likely().min(LIKELY_BYTES_MAX);
                let likely = likely.min(call.limits.memory_bytes_max);
                let share = Share::Held(memory.enter_with(patience, likely));
                machine.run(&component.linked, entry, (call, share)).await
            }
            Runner::Apart(workers) => {
                let share = memory.enter(patience);
                workers.call(component, entry, (call, share)).await
            }
        };
        if let Ok(report) = &called
            && report.outcome != Outcome::Cancelled
        {
            component.note_memory(report.usage.memory_bytes_peak);
        }
        called
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
}

/// The most memory that a call has from the beginning. Who needs more asks when it does: what is held and not used keeps
/// others waiting, and a call that fills megabytes takes longer than the question.
const LIKELY_BYTES_MAX: u64 = 1 << 20;

/// Everything that guests can call.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    capability::link(&mut linker)?;
    Ok(linker)
}

fn places(count: u32) -> Semaphore {
    let count = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
    Semaphore::new(count.min(Semaphore::MAX_PERMITS))
}

fn check_kind(component: &Component, wanted: ComponentKind) -> Result<(), SandboxError> {
    match component.kind() == wanted {
        true => Ok(()),
        false => Err(SandboxError::WrongKind {
            digest: *component.digest(),
            found: component.kind(),
            wanted,
        }),
    }
}
