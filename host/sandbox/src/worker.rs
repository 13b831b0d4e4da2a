//! A worker: a process that runs guests for another one and can do nothing else. It is told everything over one socket,
//! asks there for whatever its guests ask for, and holds no key, no journal and no other connection. One thread does all:
//! a guest hands over at each tick, and workers are as many as processors.

mod session;
mod world;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use wasmtime::Engine;
use wasmtime::component::Linker;

use self::world::World;
use crate::call::Call;
use crate::component::ComponentDigest;
use crate::confine;
use crate::engine;
use crate::entry::Entry;
use crate::error::SandboxError;
use crate::function::{Arguments, Function};
use crate::guest_memory::{AskedShare, Share};
use crate::inherited;
use crate::linked::{Linked, Role};
use crate::machine::Machine;
use crate::outcome::Report;
use crate::protocol::{self, CallNumber, Fault, FromWorker, HEAD_BYTES, Order, Task, ToWorker};
use crate::sandbox::linker;
use crate::state::State;
use crate::value;

/// Messages that wait to be written. Each call has at most one or two; a full queue holds guests up, and nothing else.
const OUTGOING_MAX: usize = 256;
/// Bytes of a message that room is made for before they are there. Bounds what a length alone can cost.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// What the process does that a [`crate::WorkerProgram`] starts: runs guests for the process at the other end of standard
/// input, until that goes away. It must be called while the process has one thread, which is the one it locks in, and has
/// opened nothing: whatever is open is closed.
///
/// # Errors
/// What keeps it from working, for the log.
pub fn work() -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    inherited::close().map_err(|error| failed("files are open", &error))?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let mut socket = StdUnixStream::from(stdin.map_err(|error| failed("no socket", &error))?);
    let orders = match first(&mut socket)? {
        ToWorker::Begin(orders) => orders,
        other => return Err(format!("not the message to begin with: {other:?}")),
    };
    let (engine, _allocation) =
        engine::start(orders.calls_max).map_err(|error| failed("no engine", &error))?;
    let linker = linker(&engine).map_err(|error| failed("no linker", &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("no runtime", &error))?;
    // From here on it can do no more than it needs; threads that start later are bound as well.
    let confinement = confine::worker(&orders)?;
    let machine = Machine::start(&engine).map_err(|error| failed("no clock", &error))?;
    runtime.block_on(async {
        socket
            .set_nonblocking(true)
            .map_err(|error| failed("no socket", &error))?;
        let socket = UnixStream::from_std(socket).map_err(|error| failed("no socket", &error))?;
        let (reader, writer) = socket.into_split();
        let (outgoing, waiting) = mpsc::channel(OUTGOING_MAX);
        let (started, starting) = mpsc::channel(1);
        let worker = Worker {
            engine,
            linker,
            machine,
            outgoing,
            components: Mutex::default(),
            calls: Mutex::default(),
        };
        worker.say(&FromWorker::Ready(confinement)).await;
        tokio::select! {
            ended = worker.listen(reader, started) => ended,
            ended = write(writer, waiting) => ended,
            never = worker.run(starting) => never,
        }
    })
}

/// The first message, before there is a runtime.
fn first(socket: &mut StdUnixStream) -> Result<ToWorker, String> {
    let cannot = |error: std::io::Error| format!("nobody says what to do: {error}");
    let mut head = [0; HEAD_BYTES];
    socket.read_exact(&mut head).map_err(cannot)?;
    let mut message = vec![0; protocol::length(head)?];
    socket.read_exact(&mut message).map_err(cannot)?;
    protocol::read(&message)
}

/// What a worker has.
struct Worker {
    engine: Engine,
    linker: Linker<State>,
    machine: Machine,
    outgoing: mpsc::Sender<Vec<u8>>,
    /// Linked, or why not.
    components: Mutex<BTreeMap<ComponentDigest, Result<Linked, String>>>,
    /// Calls under way.
    calls: Mutex<BTreeMap<CallNumber, Arc<World>>>,
}

impl Worker {
    async fn say(&self, message: &FromWorker) {
        say(&self.outgoing, message).await;
    }

    /// Does what it is told, until nobody tells it anything any more.
    async fn listen(
        &self,
        mut reader: OwnedReadHalf,
        started: mpsc::Sender<Order>,
    ) -> Result<(), String> {
        while let Some(message) = read(&mut reader).await? {
            match message {
                ToWorker::Begin(orders) => return Err(format!("begun already: {orders:?}")),
                ToWorker::Load {
                    component,
                    role,
                    path,
                } => {
                    let linked = self.load(&path, &role);
                    lock(&self.components).insert(component, linked);
                }
                ToWorker::Forget(component) => {
                    lock(&self.components).remove(&component);
                }
                ToWorker::Call(order) => {
                    let world = match order.task {
                        Task::Session => World::of_session(order.call, &self.outgoing),
                        _ => World::new(order.call, &self.outgoing),
                    };
                    lock(&self.calls).insert(order.call, Arc::new(world));
                    if started.send(*order).await.is_err() {
                        return Ok(());
                    }
                }
                ToWorker::Answer {
                    call,
                    answer,
                    beside,
                } => {
                    // Where the call has ended meanwhile nobody waits for it.
                    let world = lock(&self.calls).get(&call).cloned();
                    if let Some(world) = world {
                        world.answered(*answer, beside);
                    }
                }
                ToWorker::Program {
                    call,
                    program,
                    started_at,
                } => {
                    if let Some(world) = lock(&self.calls).get(&call) {
                        world.is_given(*program, started_at)?;
                    }
                }
                ToWorker::Cancel(call) => {
                    if let Some(world) = lock(&self.calls).get(&call) {
                        world.cancel.cancel();
                    }
                }
                ToWorker::Ping => self.say(&FromWorker::Pong).await,
            }
        }
        Ok(())
    }

    fn load(&self, path: &Path, role: &Role) -> Result<Linked, String> {
        // SAFETY: the file is one of the folder of compiled components, which only our own processes write and which this
        // one cannot; the process that named it has compared its bytes with the digest in its name (`cache.rs`). That it
        // fits this engine is checked by wasmtime itself.
        #[expect(unsafe_code, reason = "loading compiled code")]
        let component =
            unsafe { wasmtime::component::Component::deserialize_file(&self.engine, path) };
        component
            .and_then(|component| Linked::new(&self.linker, &component, role))
            .map_err(|error| format!("{error:#}"))
    }

    /// Makes the calls that come in, all at once.
    async fn run(&self, mut starting: mpsc::Receiver<Order>) -> Result<(), String> {
        let mut running: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                order = starting.recv() => match order {
                    Some(order) => running.push(Box::pin(self.make(order))),
                    None => return Ok(()),
                },
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }

    async fn make(&self, order: Order) {
        let number = order.call;
        let end = self.call(order).await;
        lock(&self.calls).remove(&number);
        let end = Box::new(end);
        self.say(&FromWorker::Ended { call: number, end }).await;
    }

    async fn call(&self, order: Order) -> Result<Report, Fault> {
        let linked = lock(&self.components).get(&order.component).cloned();
        let linked = linked
            .ok_or_else(|| Fault::Engine("the component was not loaded".to_owned()))?
            .map_err(Fault::Instantiate)?;
        let world = lock(&self.calls).get(&order.call).cloned();
        let world = world.ok_or_else(|| Fault::Engine("the call is over".to_owned()))?;
        let task = order.task;
        let asker = Arc::clone(&world);
        let share = AskedShare::new(
            order.memory_bytes,
            Box::new(move |needed, welcome| {
                let world = Arc::clone(&asker);
                Box::pin(async move { world.memory(needed, welcome).await })
            }),
        );
        let call = Call {
            agent: order.agent,
            grants: order.grants,
            limits: order.limits,
            cancel: world.cancel.clone(),
            host: world,
            seed: order.seed,
            started_at: order.started_at,
        };
        let share = Share::Asked(share);
        let Some(entry) = entry(task).map_err(Fault::Engine)? else {
            return self.session(order.call, &linked, (call, share)).await;
        };
        let report = self.machine.run(&linked, entry, (call, share));
        report.await.map_err(fault)
    }
}

/// What is called, with its arguments as values; none: an interpreter is kept.
fn entry(task: Task) -> Result<Option<Entry<'static>>, String> {
    Ok(Some(match task {
        Task::Session => return Ok(None),
        Task::Agent(invocation) => Entry::Agent(invocation),
        Task::Program(program) => Entry::Program(program),
        Task::Command(invocation) => Entry::Command(invocation),
        Task::Function(function, json) => {
            let arguments = arguments(&function, &json)?;
            Entry::Function(Cow::Owned(function), arguments)
        }
    }))
}

fn arguments(function: &Function, json: &str) -> Result<Arguments, String> {
    let json = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let values = value::read_arguments(&function.parameters, &json);
    values.map(Arguments).map_err(|error| error.to_string())
}

fn fault(error: SandboxError) -> Fault {
    match error {
        SandboxError::Busy { message } => Fault::Busy(message),
        SandboxError::OutOfMemory(error) => Fault::OutOfMemory(format!("{error:#}")),
        SandboxError::Instantiate(error) => Fault::Instantiate(format!("{error:#}")),
        SandboxError::Panicked { message } => Fault::Panicked(message),
        SandboxError::Engine(error) => Fault::Engine(format!("{error:#}")),
        other @ (SandboxError::WrongKind { .. }
        | SandboxError::NoSessions { .. }
        | SandboxError::NoWorker { .. }
        | SandboxError::Interrupted { .. }) => Fault::Engine(other.to_string()),
    }
}

/// Puts a message into the queue. Where it cannot be written its call would wait for ever: the process ends with it.
async fn say(outgoing: &mpsc::Sender<Vec<u8>>, message: &FromWorker) {
    let frame = protocol::frame(message).unwrap_or_default();
    if outgoing.send(frame).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Writes what is in the queue.
async fn write(
    mut writer: OwnedWriteHalf,
    mut waiting: mpsc::Receiver<Vec<u8>>,
) -> Result<(), String> {
    while let Some(frame) = waiting.recv().await {
        if frame.is_empty() {
            return Err("a message is too large to be written".to_owned());
        }
        let written = writer.write_all(&frame).await;
        written.map_err(|error| format!("nobody listens: {error}"))?;
    }
    Ok(())
}

/// The next message; none: nobody is there any more.
async fn read(reader: &mut OwnedReadHalf) -> Result<Option<ToWorker>, String> {
    let mut head = [0; HEAD_BYTES];
    if reader.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let length = protocol::length(head)?;
    let mut message = Vec::with_capacity(length.min(READ_AHEAD_BYTES));
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    let read = reader.take(limit).read_to_end(&mut message).await;
    match read {
        Ok(read) if read == length => protocol::read(&message).map(Some),
        _ => Ok(None),
    }
}

/// A poisoned lock is no danger: the maps are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
