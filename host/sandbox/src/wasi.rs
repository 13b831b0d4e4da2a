//! WASI 0.2 for guests: linked whole, so that any toolchain's output starts, and empty but for what is granted: no
//! arguments, no sockets, no environment of the host's. Clock and entropy are the call's own.

pub(crate) mod clock;
pub(crate) mod output;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chacha20::ChaCha12Rng;
use chacha20::rand_core::{SeedableRng, TryRng};
use sha2::{Digest, Sha256};
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::bindings::wasi::io::poll;

use crate::capability::files;
use crate::limits::Limit;
use crate::state::{State, Stop};

use self::clock::{GuestClock, Shown};

/// The interfaces of WASI 0.2 that are linked.
pub(crate) const INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Streams, pollables and the like that one guest may hold; each costs the host memory.
const RESOURCES_MAX: usize = 4_096;
/// Bytes of entropy in one call; more is asked for in pieces. Bounds an allocation of the host.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Fuel for asking what is ready, about what it costs the host.
const POLL_FUEL: u64 = 2_000;

/// Links WASI. Waiting and files go through [`State`], so that they are counted and limited.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    monotonic_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    files::link(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What a program is started with. Guests of our own worlds are started with nothing.
#[derive(Default)]
pub(crate) struct Start {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) stdin: Bytes,
}

/// wasmtime-wasi's state of one call. It is made when the guest first asks for something of it: to make it costs a good
/// part of what a small call costs, and many guests ask for nothing.
pub(crate) struct Wasi {
    start: Start,
    seed: [u8; 32],
    context: Option<Box<WasiCtx>>,
}

impl Wasi {
    pub(crate) fn new(start: Start, seed: [u8; 32]) -> Self {
        Wasi {
            start,
            seed,
            context: None,
        }
    }

    fn context(
        &mut self,
        (output, clock): (&output::Output, &Arc<GuestClock>),
        variables: impl FnOnce() -> Vec<(String, String)>,
    ) -> &mut WasiCtx {
        let Wasi {
            start,
            seed,
            context,
        } = self;
        context.get_or_insert_with(|| {
            let start = std::mem::take(start);
            let mut builder = WasiCtx::builder();
            builder
                .args(&start.arguments)
                .envs(&start.environment)
                .stdin(MemoryInputPipe::new(start.stdin))
                .stdout(output.stdout())
                .stderr(output.stderr())
                .wall_clock(Shown(Arc::clone(clock)))
                .monotonic_clock(Shown(Arc::clone(clock)))
                .secure_random(Generator::new(seed, "random"))
                .insecure_random(Generator::new(seed, "insecure"))
                .insecure_random_seed(u128::from_le_bytes(derive(seed, "insecure-seed")))
                .max_random_size(RANDOM_BYTES_MAX)
                .envs(&variables());
            Box::new(builder.build())
        })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let State {
            wasi,
            table,
            output,
            clock,
            http,
            grants,
            ..
        } = self;
        let variables = || {
            let mut variables = http.variables();
            variables.extend(grants.env.iter().flat_map(|env| env.values.iter().cloned()));
            variables
        };
        WasiCtxView {
            ctx: wasi.context((output, clock), variables),
            table,
        }
    }
}

/// The table of one call's streams and pollables.
pub(crate) fn resource_table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    table
}

/// Bytes that follow from the call's seed and a purpose, and tell nothing of the seed.
pub(crate) fn derive<const N: usize>(seed: &[u8; 32], purpose: &str) -> [u8; N] {
    const { assert!(N <= 32, "SHA-256 has 32 bytes") };
    let digest = Sha256::new()
        .chain_update(seed)
        .chain_update(purpose.as_bytes())
        .finalize();
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest[..N]);
    bytes
}

/// A generator that is the same for the same seed in every version of ours: ChaCha with 12 rounds. It is made when
/// somebody first asks for a number, which most guests never do.
enum Generator {
    Unused([u8; 32], &'static str),
    Used(Box<ChaCha12Rng>),
}

impl Generator {
    fn new(seed: &[u8; 32], purpose: &'static str) -> Self {
        Generator::Unused(*seed, purpose)
    }

    fn numbers(&mut self) -> &mut ChaCha12Rng {
        if let Generator::Unused(seed, purpose) = self {
            let numbers = ChaCha12Rng::from_seed(derive(seed, purpose));
            *self = Generator::Used(Box::new(numbers));
        }
        match self {
            Generator::Used(numbers) => numbers,
            Generator::Unused(..) => unreachable!("it was just made"),
        }
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.numbers().try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.numbers().try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.numbers().try_fill_bytes(bytes)
    }
}

impl State {
    /// Waits at most for the time the guest has left, and counts the wait as its own: it holds an instance
    /// meanwhile, for no reason but its own.
    async fn sleep<T>(
        &mut self,
        wait: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let left = self.time_left();
        let began = self.time.since_start();
        let ready = tokio::time::timeout(left, wait(&mut self.table)).await;
        self.time
            .add_sleep(self.time.since_start().saturating_sub(began));
        ready.unwrap_or_else(|_elapsed| Err(Stop(Limit::Time).into()))
    }

    /// Sleeps until a timer is due, and moves the guest's clock to that moment, not to when the machine woke up.
    async fn sleep_until(&mut self, due_ns: u64) -> wasmtime::Result<()> {
        let duration = due_ns.saturating_sub(self.clock.since_start_ns());
        if duration > 0 {
            let duration = Duration::from_nanos(duration);
            self.sleep(async |_| {
                tokio::time::sleep(duration).await;
                Ok(())
            })
            .await?;
            self.clock.go_on_to(due_ns);
        }
        Ok(())
    }

    /// Whether a pollable is ready now.
    async fn is_ready(&mut self, rep: u32) -> wasmtime::Result<bool> {
        if let Some(is_ready) = self.http.is_ready(rep) {
            return Ok(is_ready);
        }
        match self.timers.get(&rep) {
            Some(due) => Ok(*due <= self.clock.since_start_ns()),
            None => {
                let pollable = Resource::new_borrow(rep);
                poll::HostPollable::ready(&mut self.table, pollable).await
            }
        }
    }

    /// The places in a list of pollables of those that are ready now.
    async fn ready_places(&mut self, reps: &[u32]) -> wasmtime::Result<Vec<u32>> {
        let mut ready = Vec::new();
        for (place, rep) in (0..).zip(reps) {
            if self.is_ready(*rep).await? {
                ready.push(place);
            }
        }
        Ok(ready)
    }
}

impl poll::Host for State {
    /// Nothing that a guest may hold becomes ready by itself but responses and its timers. Responses are waited for
    /// first, whatever the timers say: which of the two comes first must not depend on the network.
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let count = u64::try_from(pollables.len()).unwrap_or(u64::MAX);
        let fuel = POLL_FUEL.saturating_mul(count.max(1));
        self.fuel_owed = self.fuel_owed.saturating_add(fuel);
        let reps: Vec<u32> = pollables.iter().map(Resource::rep).collect();
        let ready = self.ready_places(&reps).await?;
        if !ready.is_empty() {
            return Ok(ready);
        }
        self.exchange_for_pollables(&reps).await?;
        let ready = self.ready_places(&reps).await?;
        if !ready.is_empty() {
            return Ok(ready);
        }
        let first = reps.iter().filter_map(|rep| self.timers.get(rep)).min();
        match first.copied() {
            Some(due_ns) => {
                self.sleep_until(due_ns).await?;
                self.ready_places(&reps).await
            }
            None if reps.iter().any(|rep| self.http.is_ready(*rep).is_some()) => {
                self.give_up_open(&reps);
                self.ready_places(&reps).await
            }
            None => {
                self.sleep(async |table| poll::Host::poll(table, pollables).await)
                    .await
            }
        }
    }
}

impl poll::HostPollable for State {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.fuel_owed = self.fuel_owed.saturating_add(POLL_FUEL);
        self.exchange_for_pollables(&[pollable.rep()]).await?;
        self.is_ready(pollable.rep()).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.fuel_owed = self.fuel_owed.saturating_add(POLL_FUEL);
        if self.http.is_ready(pollable.rep()).is_some() {
            let reps = [pollable.rep()];
            self.exchange_for_pollables(&reps).await?;
            self.give_up_open(&reps);
            return Ok(());
        }
        match self.timers.get(&pollable.rep()).copied() {
            Some(due_ns) => self.sleep_until(due_ns).await,
            None => {
                self.sleep(async |table| poll::HostPollable::block(table, pollable).await)
                    .await
            }
        }
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.timers.remove(&pollable.rep());
        self.http.forget_pollable(pollable.rep());
        poll::HostPollable::drop(&mut self.table, pollable)
    }
}

#[cfg(test)]
mod tests {
    use chacha20::rand_core::Rng as _;

    use super::*;

    /// What was recorded once is the same in every later version: a component that is run again must see it.
    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut numbers = Generator::new(&[1; 32], "random");
        let mut bytes = [0; 8];
        numbers.fill_bytes(&mut bytes);
        let expected = [151, 246, 86, 124, 134, 41, 3, 101];
        assert_eq!((bytes, numbers.next_u32()), (expected, 833_197_897));
    }

    #[test]
    fn purposes_have_bytes_of_their_own_and_calls_too() {
        let (one, other) = ([1; 32], [2; 32]);
        assert_eq!(derive::<16>(&one, "random"), derive::<16>(&one, "random"));
        assert_ne!(derive::<16>(&one, "random"), derive::<16>(&one, "insecure"));
        assert_ne!(derive::<16>(&one, "random"), derive::<16>(&other, "random"));
    }
}
