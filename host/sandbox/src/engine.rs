//! Sets wasmtime up, and keeps guests' time.
//!
//! The configuration switches off every proposal that our guests do not need: about half of the security
//! advisories of wasmtime's current line are in those. (The cargo features `gc` and `threads` stay compiled
//! in; builds without them have bugs of their own.)

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, OperatorCost, PoolingAllocationConfig, VariableOperatorCost,
};

use crate::error::StartError;
use crate::limits::{INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};

/// How often running guests are interrupted to look at their time limit and to let others run. It bounds how
/// late a limit or a cancellation takes effect, and how long one guest can keep a thread from its neighbours.
const TICK: Duration = Duration::from_millis(1);

/// Stack of a guest, in bytes: what CPython needs for a recursion of 1,000 calls through C code, with room to
/// spare. Protects the host from unbounded recursion.
const WASM_STACK_BYTES: usize = 32 << 20;
/// What host functions may use on top of it. An overflow there would end the process.
const HOST_STACK_BYTES: usize = 2 << 20;

/// Largest snapshot of a linear memory that is mapped from the compiled file rather than copied at every
/// instantiation. An interpreter's snapshot has about 40 MiB; wasmtime's default of 16 MiB would cost
/// milliseconds in each call.
const SNAPSHOT_BYTES_MAX: u64 = 128 << 20;

/// Fuel for each page of 64 KiB that `memory.grow` asks for, which wasmtime lets pass for nothing: about what
/// it costs to fill a page.
const FUEL_PER_GROWN_PAGE: u8 = 255;

/// Memory of an instance that is wiped by writing over it when the instance ends; what lies beyond is given back to the
/// system, which costs more than writing so much.
const KEPT_MEMORY_BYTES: usize = 256 << 10;
/// The same of a stack, from its top; an agent in Rust goes no deeper.
const KEPT_STACK_BYTES: usize = 16 << 10;
/// The same of a table.
const KEPT_TABLE_BYTES: usize = 32 << 10;
/// Instances whose memory is given back to the system together: each time all processors are told.
pub(crate) const DECOMMITTED_AT_ONCE: usize = 16;
/// Elements of one pooled table. A Python component's has about ten thousand.
const POOLED_TABLE_ELEMENTS: usize = 65_536;
/// Bytes of metadata of one component instance.
const POOLED_COMPONENT_INSTANCE_BYTES: usize = 2 << 20;

/// Where instances get their memory from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool that was reserved at the start: the fast way.
    Pooling,
    /// From the system, at every call, because the pool could not be reserved. Calls take longer to begin.
    OnDemand {
        /// What the system said.
        reason: String,
    },
}

/// What of a guest the engine meters. Every call of a sandbox has both; what they cost is told by an engine that lacks
/// one of them ([`crate::floor`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// Both.
    FuelAndEpochs,
    /// Fuel: units of computation.
    Fuel,
    /// Epochs: ticks at which a guest looks at its time and lets others run.
    Epochs,
    /// Nothing: a guest that computes for ever is never interrupted.
    Nothing,
}

impl Metering {
    pub(crate) fn has_fuel(self) -> bool {
        matches!(self, Metering::FuelAndEpochs | Metering::Fuel)
    }

    pub(crate) fn has_epochs(self) -> bool {
        matches!(self, Metering::FuelAndEpochs | Metering::Epochs)
    }
}

/// Makes the engine for at most `calls_max` calls at the same time.
pub(crate) fn start(calls_max: u32) -> Result<(Engine, Allocation), StartError> {
    start_metering(calls_max, Metering::FuelAndEpochs)
}

/// Makes an engine that differs from that of [`start`] in what it meters.
pub(crate) fn start_metering(
    calls_max: u32,
    metering: Metering,
) -> Result<(Engine, Allocation), StartError> {
    let mut config = config(metering);
    config.allocation_strategy(pool(calls_max));
    match Engine::new(&config) {
        Ok(engine) => Ok((engine, Allocation::Pooling)),
        Err(error) => {
            let reason = format!("{error:#}");
            tracing::warn!(
                reason,
                calls_max,
                "address space for a pool of instances cannot be reserved; calls will begin more slowly. \
                 Lift the limit on address space (`ulimit -v`) or allow fewer calls at once"
            );
            let engine = Engine::new(&self::config(metering)).map_err(StartError::Engine)?;
            Ok((engine, Allocation::OnDemand { reason }))
        }
    }
}

/// Makes an engine that compiles for those that [`start`] makes, and reserves nothing.
pub(crate) fn for_compiling() -> wasmtime::Result<Engine> {
    Engine::new(&config(Metering::FuelAndEpochs))
}

fn config(metering: Metering) -> Config {
    let mut config = Config::new();
    // Multiple memories stay on: wasmtime itself makes such modules, to pass values between the parts of a
    // component, and panics where it may not.
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .gc_support(false)
        .wasm_gc(false)
        .wasm_exceptions(false)
        .wasm_function_references(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_custom_page_sizes(false)
        .wasm_stack_switching(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false);
    config
        .consume_fuel(metering.has_fuel())
        .operator_cost(operator_cost())
        .epoch_interruption(metering.has_epochs())
        .cranelift_nan_canonicalization(true)
        .memory_guaranteed_dense_image_size(SNAPSHOT_BYTES_MAX)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(WASM_STACK_BYTES + HOST_STACK_BYTES)
        .async_stack_zeroing(true);
    config
}

fn operator_cost() -> OperatorCost {
    OperatorCost {
        variable: VariableOperatorCost {
            memory_grow_per_page: FUEL_PER_GROWN_PAGE,
            ..VariableOperatorCost::new()
        },
        ..OperatorCost::new()
    }
}

fn pool(calls_max: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // Every call has its places: one that takes all it may take takes nobody else's.
    // One more each: that by which its parts are counted.
    pool.total_component_instances(calls_max.saturating_mul(2))
        .total_core_instances(calls_max.saturating_mul(INSTANCES_MAX))
        .total_memories(calls_max.saturating_mul(MEMORIES_MAX))
        .total_tables(calls_max.saturating_mul(TABLES_MAX))
        .total_stacks(calls_max)
        .max_core_instances_per_component(INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(POOLED_TABLE_ELEMENTS)
        .max_component_instance_size(POOLED_COMPONENT_INSTANCE_BYTES)
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        .table_keep_resident(KEPT_TABLE_BYTES)
        .async_stack_keep_resident(KEPT_STACK_BYTES)
        .decommit_batch_size(DECOMMITTED_AT_ONCE)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// A thread that advances the engine's epoch while calls are under way, and sleeps while none is.
pub(crate) struct Ticker {
    shared: Arc<TickerState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct TickerState {
    calls: AtomicUsize,
    is_stopping: AtomicBool,
    /// The thread waits for a call, or is about to. To wake one that does not would be a call of the system each time.
    is_asleep: AtomicBool,
    /// Held from when the thread says that it sleeps until it does.
    falling_asleep: Mutex<()>,
    woken: Condvar,
}

impl TickerState {
    /// Who counts a call looks whether the thread sleeps; the thread says that it sleeps, and then looks at the count: one
    /// of the two sees the other.
    fn wake(&self) {
        // Everyone who sees it asleep wakes it: the first to see it may be held up before it comes to that.
        if self.is_asleep.load(Ordering::SeqCst) {
            drop(self.lock());
            self.woken.notify_one();
        }
    }

    /// Sleeps until there is a call. Returns whether there will be none any more.
    fn wait(&self) -> bool {
        let mut asleep = self.lock();
        loop {
            self.is_asleep.store(true, Ordering::SeqCst);
            if self.is_stopping.load(Ordering::SeqCst) {
                return true;
            }
            if self.calls.load(Ordering::SeqCst) > 0 {
                self.is_asleep.store(false, Ordering::SeqCst);
                return false;
            }
            let woken = self.woken.wait(asleep);
            asleep = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A poisoned lock is no danger: it holds nothing.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.falling_asleep
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> Result<Self, StartError> {
        let shared = Arc::<TickerState>::default();
        let thread = std::thread::Builder::new()
            .name("sandbox-ticker".to_owned())
            .spawn({
                let (shared, engine) = (Arc::clone(&shared), engine.clone());
                move || {
                    while !shared.wait() {
                        std::thread::sleep(TICK);
                        engine.increment_epoch();
                    }
                }
            })
            .map_err(StartError::Thread)?;
        Ok(Ticker {
            shared,
            thread: Some(thread),
        })
    }

    /// Keeps the clock going until the returned guard is dropped.
    pub(crate) fn tick_during_call(&self) -> Ticking<'_> {
        self.tick_for_ever();
        Ticking(&self.shared)
    }

    /// Keeps the clock going.
    pub(crate) fn tick_for_ever(&self) {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        self.shared.wake();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that keeps guests' time panicked");
        }
    }
}

/// Keeps the clock going while it lives.
pub(crate) struct Ticking<'a>(&'a TickerState);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hardened_configuration_is_accepted_with_and_without_a_pool() {
        let (_, allocation) = start(2).expect("an engine");
        assert_eq!(allocation, Allocation::Pooling);
        Engine::new(&config(Metering::FuelAndEpochs)).expect("an engine without a pool");
    }

    #[test]
    fn the_ticker_sleeps_when_there_is_no_call_and_is_woken_by_the_next() {
        let (engine, _) = start(1).expect("an engine");
        let ticker = Ticker::start(&engine).expect("a thread");
        let wait_until_asleep = |expected: bool| {
            while ticker.shared.is_asleep.load(Ordering::SeqCst) != expected {
                std::thread::yield_now();
            }
        };
        for _ in 0..20 {
            wait_until_asleep(true);
            let ticking = ticker.tick_during_call();
            let another = ticker.tick_during_call();
            wait_until_asleep(false);
            drop(ticking);
            assert_eq!(ticker.shared.calls.load(Ordering::SeqCst), 1);
            drop(another);
        }
        wait_until_asleep(true);
    }

    /// Whoever holds the guard is interrupted, whatever others begin and end meanwhile.
    #[test]
    fn every_call_is_ticked_among_many_that_begin_and_end() {
        let (engine, _) = start(8).expect("an engine");
        let endless = "(module (func (export \"run\") (loop (br 0))))";
        let module = wasmtime::Module::new(&engine, endless).expect("a module");
        let ticker = Ticker::start(&engine).expect("a thread");
        let interrupted = || {
            let mut store = wasmtime::Store::new(&engine, ());
            store.set_fuel(u64::MAX).expect("fuel");
            let _ticking = ticker.tick_during_call();
            store.set_epoch_deadline(1);
            store.epoch_deadline_trap();
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).expect("an instance");
            let run = instance.get_typed_func::<(), ()>(&mut store, "run");
            run.expect("a function")
                .call(&mut store, ())
                .expect_err("an interrupt");
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| interrupted()));
                scope.spawn(|| (0..20_000).for_each(|_| drop(ticker.tick_during_call())));
            }
        });
    }

    #[test]
    fn a_pool_that_does_not_fit_falls_back_and_says_so() {
        let (_, allocation) = start(u32::MAX).expect("an engine");
        assert!(matches!(allocation, Allocation::OnDemand { .. }));
    }
}
