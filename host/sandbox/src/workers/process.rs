//! One worker, as the process sees it that started it: the process itself, what it is told and says, and its end.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::outgoing::Outgoing;
use super::{Suspects, WorkerProgram, lock};
use crate::component::{Component, ComponentDigest};
use crate::error::SandboxError;
use crate::guest_memory::HeldShare;
use crate::machine::kept::Then;
use crate::outcome::Report;
use crate::protocol::{
    self, Ask, CallNumber, Confinement, Fault, FromWorker, HEAD_BYTES, Order, Orders, ToWorker,
};

/// How long a worker may take to begin.
const START_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether a worker still says something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks without a word after which a worker that has calls is asked whether it lives, and after which it is ended. It
/// answers between two ticks of its guests, unless something holds it for good.
const SILENT_LOOKS: (u32, u32) = (5, 60);
/// Components that a worker holds; the oldest is forgotten. Bounds its memory.
const COMPONENTS_MAX: usize = 64;
/// Messages of one call that nobody has taken yet: it waits for the answer to one, and may be ended meanwhile.
const SAID_MAX: usize = 4;
/// Bytes of what a worker said before it ended that are told.
const LAST_WORDS_BYTES_MAX: u64 = 2 << 10;
/// Bytes of a message that room is made for before they are there. Bounds what a length alone can cost.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// A worker. Dropping it ends it.
pub(super) struct Worker {
    outgoing: Outgoing,
    routes: Arc<Mutex<Routes>>,
    next: AtomicU64,
    calls_max: u32,
}

/// What a worker says of one call.
pub(super) enum Said {
    /// The guest asks.
    Asked(Box<Ask>),
    /// The interpreter of a session is there.
    Kept,
    /// A program of a session has ended.
    Reported(Box<Report>, Then),
    /// The call has ended.
    Ended(Box<Result<Report, Fault>>),
}

/// Where what a worker says goes to.
#[derive(Default)]
struct Routes {
    child: Option<Child>,
    calls: BTreeMap<CallNumber, Route>,
    /// The components that it holds, the oldest first.
    loaded: VecDeque<ComponentDigest>,
    /// Why it ended, or is being ended.
    end: Option<String>,
}

struct Route {
    component: ComponentDigest,
    /// Who made the call; none: it was given up, and has not ended yet.
    caller: Option<mpsc::Sender<Said>>,
    /// What the guest holds of the memory of all.
    _share: Arc<HeldShare>,
}

impl Worker {
    /// Starts a worker, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or does not begin.
    pub(super) async fn start(
        program: &WorkerProgram,
        orders: Orders,
        suspects: &Suspects,
    ) -> Result<Arc<Worker>, SandboxError> {
        let cannot = |error: io::Error| failed(format!("a worker cannot be started: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
        let outgoing = Outgoing::new(ours.try_clone().map_err(cannot)?);
        let routes: Arc<Mutex<Routes>> = Arc::default();
        let worker = Arc::new(Worker {
            outgoing: outgoing.clone(),
            routes: Arc::clone(&routes),
            next: AtomicU64::new(0),
            calls_max: orders.calls_max,
        });
        worker.say(&ToWorker::Begin(orders))?;
        let (ready, is_ready) = oneshot::channel();
        let reader = Reader {
            socket: ours,
            outgoing: outgoing.clone(),
            routes,
            suspects: Arc::clone(suspects),
            silent_looks: 0,
        };
        let program = program.clone();
        // The process is started by the thread that lives as long as it: the kernel ends it with that thread.
        thread("worker-reader", move || reader.run(&program, theirs, ready)).map_err(cannot)?;
        thread("worker-writer", move || outgoing.write()).map_err(cannot)?;
        match tokio::time::timeout(START_MAX, is_ready).await {
            Ok(Ok(confinement)) => {
                tell(confinement);
                Ok(worker)
            }
            Ok(Err(_dropped)) => Err(worker.why()),
            Err(_elapsed) => {
                let seconds = START_MAX.as_secs();
                worker.end_for(format!("it was not ready within {seconds} s"));
                Err(worker.why())
            }
        }
    }

    /// Its process, while there is one.
    pub(super) fn id(&self) -> Option<u32> {
        lock(&self.routes).child.as_ref().map(Child::id)
    }

    /// Calls that it makes at once.
    pub(super) fn calls_max(&self) -> u32 {
        self.calls_max
    }

    /// Whether it makes no more calls.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.routes).end.is_some()
    }

    /// Has it make a call of which the number is still open; what it says of it comes from the receiver.
    ///
    /// # Errors
    /// It has ended, or the call cannot be put into words.
    pub(super) fn begin(
        self: &Arc<Self>,
        component: &Component,
        mut order: Order,
        share: Arc<HeldShare>,
    ) -> Result<Begun, SandboxError> {
        let Some(file) = &component.compiled else {
            let message = "the compiled component could not be stored, and a worker has it from its file only; see to the room in the folder of compiled components";
            return Err(failed(message.to_owned()));
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        order.call = number;
        let digest = *component.digest();
        let call = frame(&ToWorker::Call(Box::new(order)))?;
        let (caller, said) = mpsc::channel(SAID_MAX);
        let mut routes = lock(&self.routes);
        if routes.end.is_some() {
            drop(routes);
            return Err(self.why());
        }
        if !routes.loaded.contains(&digest) {
            self.say(&ToWorker::Load {
                component: digest,
                role: component.role.clone(),
                path: file.path.clone(),
            })?;
            routes.loaded.push_back(digest);
        }
        if routes.loaded.len() > COMPONENTS_MAX
            && let Some(oldest) = routes.loaded.pop_front()
        {
            self.say(&ToWorker::Forget(oldest))?;
        }
        let route = Route {
            component: digest,
            caller: Some(caller),
            _share: share,
        };
        routes.calls.insert(number, route);
        // Under the lock: nobody has the component forgotten in between.
        self.outgoing.say(call);
        drop(routes);
        Ok(Begun {
            worker: Arc::clone(self),
            number,
            said,
        })
    }

    /// Says something.
    ///
    /// # Errors
    /// It cannot be put into words.
    pub(super) fn say(&self, message: &impl Serialize) -> Result<(), SandboxError> {
        self.outgoing.say(frame(message)?);
        Ok(())
    }

    /// Ends it, when its work is done.
    pub(super) fn end(&self) {
        self.outgoing.close();
    }

    /// Ends it because of what it did.
    pub(super) fn end_for(&self, reason: String) {
        end_for(&self.routes, reason);
        self.outgoing.close();
    }

    /// Why it makes no calls.
    fn why(&self) -> SandboxError {
        failed(self.reason())
    }

    /// What it did not end of a call that it had begun.
    pub(super) fn interrupted(&self) -> SandboxError {
        SandboxError::Interrupted {
            message: self.reason(),
        }
    }

    fn reason(&self) -> String {
        let end = lock(&self.routes).end.clone();
        end.unwrap_or_else(|| "it is being ended".to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// A call that a worker makes. Dropping it gives the call up.
pub(super) struct Begun {
    pub(super) worker: Arc<Worker>,
    pub(super) number: CallNumber,
    said: mpsc::Receiver<Said>,
}

impl Begun {
    /// What the worker says next; none: it has ended.
    pub(super) async fn next(&mut self) -> Option<Said> {
        self.said.recv().await
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut routes = lock(&self.worker.routes);
        let Some(route) = routes.calls.get_mut(&self.number) else {
            return;
        };
        route.caller = None;
        drop(routes);
        if let Ok(frame) = protocol::frame(&ToWorker::Cancel(self.number)) {
            self.worker.outgoing.say(frame);
        }
    }
}

/// The thread that reads what a worker says.
struct Reader {
    socket: UnixStream,
    outgoing: Outgoing,
    routes: Arc<Mutex<Routes>>,
    suspects: Suspects,
    silent_looks: u32,
}

impl Reader {
    fn run(
        mut self,
        program: &WorkerProgram,
        theirs: UnixStream,
        ready: oneshot::Sender<Confinement>,
    ) {
        // Where it is not ready, whoever waits learns that when it is known why: at the end.
        let mut ready = Some(ready);
        let words = match self.spawn(program, theirs) {
            Ok(words) => words,
            Err(error) => {
                let program = program.program.display();
                end_for(
                    &self.routes,
                    format!("{program} cannot be started: {error}"),
                );
                return self.outgoing.close();
            }
        };
        let end = self.listen(&mut ready);
        self.outgoing.close();
        self.bury(end.err(), words);
    }

    fn spawn(&self, program: &WorkerProgram, theirs: UnixStream) -> io::Result<File> {
        self.socket.set_read_timeout(Some(LOOK_EVERY))?;
        let words = tempfile::tempfile()?;
        let child = Command::new(&program.program)
            .args(&program.arguments)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(words.try_clone()?)
            .spawn()?;
        lock(&self.routes).child = Some(child);
        Ok(words)
    }

    fn listen(&mut self, ready: &mut Option<oneshot::Sender<Confinement>>) -> Result<(), String> {
        match self.read()? {
            Some(FromWorker::Ready(confinement)) => {
                // Where nobody waits any more the socket is closed.
                let _ = ready.take().map(|ready| ready.send(confinement));
            }
            Some(_) => return Err("it did not say first that it is ready".to_owned()),
            None => return Ok(()),
        }
        while let Some(message) = self.read()? {
            match message {
                FromWorker::Ready(_) => return Err("it said twice that it is ready".to_owned()),
                FromWorker::Asked { call, ask } => self.pass(call, Said::Asked(ask))?,
                FromWorker::Kept(call) => self.pass(call, Said::Kept)?,
                FromWorker::Reported { call, report, then } => {
                    self.pass(call, Said::Reported(report, then))?;
                }
                FromWorker::Ended { call, end } => {
                    self.pass(call, Said::Ended(end))?;
                    lock(&self.routes).calls.remove(&call);
                }
                FromWorker::Pong => {}
            }
        }
        Ok(())
    }

    /// Passes something on to who made the call; where nobody waits for it, it is lost.
    fn pass(&self, call: CallNumber, said: Said) -> Result<(), String> {
        let routes = lock(&self.routes);
        let caller = routes
            .calls
            .get(&call)
            .and_then(|route| route.caller.as_ref());
        match caller.map(|caller| caller.try_send(said)) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                Err("it asked for more before it was answered".to_owned())
            }
            Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) | None => Ok(()),
        }
    }

    /// The next message; none: the worker has ended.
    fn read(&mut self) -> Result<Option<FromWorker>, String> {
        let Some(head) = self.bytes(HEAD_BYTES)? else {
            return Ok(None);
        };
        let head = head.try_into().map_err(|_other| "no head".to_owned())?;
        let Some(message) = self.bytes(protocol::length(head)?)? else {
            return Ok(None);
        };
        protocol::read(&message).map(Some)
    }

    fn bytes(&mut self, length: usize) -> Result<Option<Vec<u8>>, String> {
        let mut bytes = Vec::with_capacity(length.min(READ_AHEAD_BYTES));
        while bytes.len() < length {
            let left = u64::try_from(length - bytes.len()).unwrap_or(u64::MAX);
            match (&self.socket).take(left).read_to_end(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(_) => self.silent_looks = 0,
                Err(error) if is_timeout(&error) => self.look()?,
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    /// Nothing was said for a while.
    fn look(&mut self) -> Result<(), String> {
        if lock(&self.routes).calls.is_empty() {
            self.silent_looks = 0;
            return Ok(());
        }
        self.silent_looks += 1;
        let (ping, end) = SILENT_LOOKS;
        if self.silent_looks == ping
            && let Ok(frame) = protocol::frame(&ToWorker::Ping)
        {
            self.outgoing.say(frame);
        }
        match self.silent_looks < end {
            true => Ok(()),
            false => Err(format!("it did not answer for {end} s")),
        }
    }

    /// Sees to it that the process is gone, and tells those who wait for it.
    fn bury(self, broke: Option<String>, words: File) {
        let child = lock(&self.routes).child.take();
        let status = child.and_then(|mut child| {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().ok()
        });
        let status = status.map_or_else(|| "it is gone".to_owned(), |status| status.to_string());
        let words = last_words(words);
        let reason = broke.unwrap_or(status);
        let mut routes = lock(&self.routes);
        let calls = std::mem::take(&mut routes.calls);
        let is_expected = calls.is_empty() && routes.end.is_none();
        let reason = routes
            .end
            .get_or_insert(format!("it ended: {reason}{words}"))
            .clone();
        // Before anybody learns of it and tries again.
        let mut suspects = lock(&self.suspects);
        for route in calls.values() {
            if suspects.len() >= super::SUSPECTS_MAX {
                suspects.pop_first();
            }
            suspects.insert(route.component);
        }
        drop(suspects);
        drop(routes);
        if !is_expected {
            tracing::error!(
                reason,
                calls = calls.len(),
                "a worker ended while it had calls"
            );
        }
    }
}

/// Notes why a worker ends, unless that is known.
fn end_for(routes: &Mutex<Routes>, reason: String) {
    lock(routes).end.get_or_insert(reason);
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// The end of what a worker wrote to standard error. It may be a stranger's text by then.
fn last_words(mut words: File) -> String {
    let mut bytes = Vec::new();
    let length = words.metadata().map_or(0, |about| about.len());
    let from = length.saturating_sub(LAST_WORDS_BYTES_MAX);
    let read = words
        .seek(io::SeekFrom::Start(from))
        .and_then(|_| words.take(LAST_WORDS_BYTES_MAX).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    match (read, text.trim()) {
        (Ok(_), text) if !text.is_empty() => format!("; {}", text.replace(char::is_control, " ")),
        _ => String::new(),
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
}

fn frame(message: &impl Serialize) -> Result<Vec<u8>, SandboxError> {
    protocol::frame(message).map_err(failed)
}

fn failed(message: String) -> SandboxError {
    SandboxError::NoWorker { message }
}

/// Says once what this kernel does not have.
fn tell(confinement: Confinement) {
    static TOLD: Once = Once::new();
    let Confinement {
        files,
        system_calls,
    } = confinement;
    if !(files && system_calls) {
        TOLD.call_once(|| {
            tracing::warn!(
                landlock = files,
                seccomp = system_calls,
                "this kernel does not lock workers in as far as others do: a guest that breaks out of the engine reaches what this user may reach"
            );
        });
    }
}
