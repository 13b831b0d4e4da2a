//! A bare loop around wasmtime, for benchmarks: what a call costs where nothing of ours is around it.
//!
//! It has the sandbox's engine, with its pool, fuel and epochs, and does for a call what any program must: a new store
//! with fuel, an epoch deadline and wasmtime's own limits of memory, WASI as wasmtime-wasi has it by default (nothing to
//! read, what is printed thrown away), an instance made from what was linked before, one call, and the end of all of it.
//! It has none of our accounting: no memory that all guests share, no fuel for host calls, no counts, no captured output,
//! no running time, no clock or entropy of the call's own, no report. What is no part of WASI traps when it is called.
//!
//! It is for components that are one's own: it grants nothing, but it also keeps no promise of this crate, and compiles in
//! this process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable, Val};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::bindings::agent::AgentPre;
use crate::bindings::interpreter::SourceInterpreterPre;
use crate::cache::CompiledCache;
use crate::call::{Invocation, Program};
use crate::component::{ComponentKind, role_of};
use crate::engine::{self, DECOMMITTED_AT_ONCE, Metering, Ticker};
use crate::error::{LoadError, StartError};
use crate::function::{Arguments, Function};
use crate::inspection::Inspection;
use crate::limits::Limits;
use crate::machine::guest::{guest_invocation, guest_program};

/// wasmtime by itself, set up as the sandbox sets it up.
pub struct Floor {
    engine: Engine,
    linker: Linker<Bare>,
    cache: CompiledCache,
    metering: Metering,
    limits: Limits,
    /// Fewer than the pool has room for.
    places: Semaphore,
    waiting: Arc<AtomicUsize>,
    _ticker: Ticker,
}

/// A component that was compiled and linked for a [`Floor`].
pub struct FloorComponent {
    instance: InstancePre<Bare>,
    exports: Exports,
}

enum Exports {
    Agent(AgentPre<Bare>),
    Interpreter(SourceInterpreterPre<Bare>),
    Functions,
}

/// What a component is asked to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// An agent's `run`.
    Agent(Invocation),
    /// Source code for an interpreter.
    Program(Program),
    /// A function of a component's own, and its arguments.
    Function(Function, Arguments),
}

/// A call of a [`Floor`] went wrong: what the guest did, or what the machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// It trapped, hit a limit, or was not of the kind that was called.
    #[error("the call of the bare loop failed")]
    Call(#[source] wasmtime::Error),
    /// It failed in its own words.
    #[error("the guest failed in the bare loop: {0}")]
    Guest(String),
}

/// The data of a store: what WASI and wasmtime's limits need, and nothing else.
struct Bare {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
    waiting: Arc<AtomicUsize>,
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Floor {
    /// Starts an engine for `calls_max` calls at once. Compiled components are kept in `cache_dir`, where a sandbox's that
    /// meters the same may be too.
    ///
    /// # Errors
    /// As [`crate::Sandbox::new`].
    pub fn new(
        cache_dir: &Path,
        calls_max: u32,
        metering: Metering,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let pooled = calls_max.saturating_add(places_between_calls());
        let (engine, _) = engine::start_metering(pooled, metering)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(StartError::Engine)?;
        link_waiting(&mut linker).map_err(StartError::Engine)?;
        let ticker = Ticker::start(&engine)?;
        if metering.has_epochs() {
            ticker.tick_for_ever();
        }
        Ok(Floor {
            cache: CompiledCache::open(cache_dir, u64::MAX, &engine)?,
            linker,
            metering,
            limits,
            places: Semaphore::new(usize::try_from(calls_max).unwrap_or(Semaphore::MAX_PERMITS)),
            waiting: Arc::new(AtomicUsize::new(0)),
            _ticker: ticker,
            engine,
        })
    }

    /// Compiles a component in this process, unless that was done before, and links it. It blocks.
    ///
    /// # Errors
    /// It is no component that could be called.
    pub fn load(&self, wasm: &[u8]) -> Result<FloorComponent, LoadError> {
        let inspection = Inspection::read(wasm).map_err(LoadError::Invalid)?;
        let kind = role_of(&inspection)?.kind();
        let component = match self.cache.load(&self.engine, &inspection.digest) {
            Some(component) => component,
            None => {
                let compiled = self.engine.precompile_component(wasm);
                let compiled = compiled.map_err(LoadError::Invalid)?;
                self.cache
                    .store(&self.engine, &inspection.digest, &compiled)
            }
        };
        let component = component.map_err(LoadError::Invalid)?;
        let mut linker = self.linker.clone();
        link_traps(&mut linker, &component.component, &self.engine)
            .map_err(LoadError::WrongTypes)?;
        let instance = linker
            .instantiate_pre(&component.component)
            .map_err(LoadError::WrongTypes)?;
        let exports = match kind {
            ComponentKind::Agent => AgentPre::new(instance.clone()).map(Exports::Agent),
            ComponentKind::Interpreter => {
                SourceInterpreterPre::new(instance.clone()).map(Exports::Interpreter)
            }
            ComponentKind::Command | ComponentKind::Tool => Ok(Exports::Functions),
        };
        Ok(FloorComponent {
            instance,
            exports: exports.map_err(LoadError::WrongTypes)?,
        })
    }

    /// Makes a fresh instance, calls it once, and drops it. Where all places are taken it waits.
    ///
    /// # Errors
    /// The guest failed, or the machine did.
    pub async fn call(&self, component: &FloorComponent, work: &Work) -> Result<(), FloorError> {
        let place = self.places.acquire().await;
        let _place = place.map_err(|closed| FloorError::Call(wasmtime::Error::new(closed)))?;
        let mut store = self.store().map_err(FloorError::Call)?;
        run(&mut store, component, (work, &self.limits))
            .await
            .map_err(FloorError::Call)?
            .map_err(FloorError::Guest)
    }

    /// How many guests wait in `context.inputs`, which is never answered here: so that live instances can be counted.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn store(&self) -> wasmtime::Result<Store<Bare>> {
        let memory_bytes_max = usize::try_from(self.limits.memory_bytes_max).unwrap_or(usize::MAX);
        let bare = Bare {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            limits: StoreLimitsBuilder::new()
                .memory_size(memory_bytes_max)
                .build(),
            waiting: Arc::clone(&self.waiting),
        };
        let mut store = Store::new(&self.engine, bare);
        store.limiter(|bare| &mut bare.limits);
        if self.metering.has_fuel() {
            store.set_fuel(self.limits.fuel)?;
        }
        if self.metering.has_epochs() {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        }
        Ok(store)
    }
}

/// Places that are nobody's for a moment: their memory is being given back by some thread, and wasmtime refuses another
/// call rather than wait. (A sandbox has room for its tools' calls beside that of agents.)
fn places_between_calls() -> u32 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let places = threads.saturating_mul(DECOMMITTED_AT_ONCE);
    u32::try_from(places).unwrap_or(u32::MAX)
}

/// The one function of ours that does not trap: its interface and name.
const WAITING: (&str, &str) = ("troupe:agent/context@0.1.0", "inputs");

/// The functions that are no part of WASI. (`define_unknown_imports_as_traps` would take WASI of another patch version
/// for unknown too.)
fn link_traps(
    linker: &mut Linker<Bare>,
    component: &Component,
    engine: &Engine,
) -> wasmtime::Result<()> {
    for (interface, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        if interface.starts_with("wasi:") {
            continue;
        }
        let mut linked = linker.instance(interface)?;
        for (name, export) in instance.exports(engine) {
            if matches!(export.ty, ComponentItem::ComponentFunc(_)) && (interface, name) != WAITING
            {
                let called = format!("{interface}#{name}");
                linked.func_new(name, move |_, _, _, _| {
                    wasmtime::bail!("the bare loop has no `{called}`")
                })?;
            }
        }
    }
    Ok(())
}

/// `context.inputs`, as a call that is never answered.
fn link_waiting(linker: &mut Linker<Bare>) -> wasmtime::Result<()> {
    let (interface, name) = WAITING;
    linker
        .instance(interface)?
        .func_wrap_async(name, |store, (): ()| {
            store.data().waiting.fetch_add(1, Ordering::Relaxed);
            Box::new(std::future::pending::<wasmtime::Result<(String,)>>())
        })
}

/// What programs' random numbers follow from here.
const SEED: [u8; 32] = [0; 32];

/// The inner error is the guest's own.
async fn run(
    store: &mut Store<Bare>,
    component: &FloorComponent,
    (work, limits): (&Work, &Limits),
) -> wasmtime::Result<Result<(), String>> {
    match (&component.exports, work) {
        (Exports::Agent(agent), Work::Agent(invocation)) => {
            let guest = agent.instantiate_async(&mut *store).await?;
            let invocation = guest_invocation(invocation.clone(), limits);
            let result = guest
                .troupe_agent_guest()
                .call_run(store, &invocation)
                .await?;
            Ok(result.map(drop).map_err(|failure| failure.message))
        }
        (Exports::Interpreter(interpreter), Work::Program(program)) => {
            let guest = interpreter.instantiate_async(&mut *store).await?;
            let program = guest_program(program.clone(), (&SEED, "interpreter"));
            let result = guest
                .troupe_agent_interpreter()
                .call_execute(store, &program)
                .await?;
            Ok(result.map(drop).map_err(|raised| raised.traceback))
        }
        (_, Work::Function(function, arguments)) => {
            let instance = component.instance.instantiate_async(&mut *store).await?;
            let interface = match function.interface() {
                Some(name) => instance.get_export_index(&mut *store, None, name),
                None => None,
            };
            let callee = instance
                .get_export_index(&mut *store, interface.as_ref(), &function.export)
                .and_then(|export| instance.get_func(&mut *store, export));
            let callee = callee.ok_or_else(|| {
                wasmtime::format_err!("there is no function `{}`", function.name())
            })?;
            let mut results = vec![Val::Bool(false); usize::from(function.result.is_some())];
            callee.call_async(store, &arguments.0, &mut results).await?;
            Ok(Ok(()))
        }
        _ => wasmtime::bail!("the component is not of the kind that was called"),
    }
}
