//! Guests in processes of their own: which process makes which call, and what becomes of a call whose process ends.
//!
//! There are as many shared workers as processors, each with many calls at once. A call has a worker of its own, for this
//! one call, where its guest is given folders of the machine, which are then all that the worker can open; and where its
//! component was at work in a worker that ended: so who breaks one twice breaks nothing of others. A session has a worker
//! of its own as long as it lasts.

mod call;
mod guard;
mod outgoing;
mod process;
pub(crate) mod session;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{AcquireError, OnceCell, Semaphore};

use self::process::Worker;
use crate::call::Call;
use crate::capability::files::{FolderAccess, FolderGrant};
use crate::component::{Component, ComponentDigest};
use crate::entry::Entry;
use crate::error::SandboxError;
use crate::guest_memory::{HeldShare, Patience};
use crate::outcome::Report;
use crate::protocol::Orders;

/// Where guests run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In this process: the fast way. A fault of the engine that a guest finds is a fault of this process.
    InProcess,
    /// In processes of their own, which hold no key, no journal and no connection. One that breaks costs its own calls.
    Processes(WorkerProgram),
}

/// How to start a process that runs guests: a program that does what [`crate::work`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// How many share the calls; none: as many as there are processors.
    pub count: Option<usize>,
}

/// Workers of one call each that there are at the same time, and as many for calls that another call waits for; further
/// such calls wait. Protects the machine.
const OWN_WORKERS_MAX: usize = 16;
/// Calls of a shared worker beyond its share: calls that were given up and have not ended yet.
const CALLS_TO_SPARE: u32 = 8;
/// Components that are remembered for having been at work when a worker ended. Bounds memory; who is forgotten is
/// trusted again.
const SUSPECTS_MAX: usize = 1_000;

/// Components that were at work when a worker ended. Each has its next call alone, and is trusted again when that ended.
pub(crate) type Suspects = Arc<Mutex<BTreeSet<ComponentDigest>>>;

/// The workers of a sandbox.
pub(crate) struct Workers {
    program: WorkerProgram,
    cache_dir: PathBuf,
    calls_max: u32,
    shared: Mutex<Vec<Place>>,
    /// Places for workers of one call.
    own_places: OwnPlaces,
    /// Workers of one call that there are.
    own: Mutex<Vec<Weak<Worker>>>,
    suspects: Suspects,
}

/// Places for workers of one call. Who is waited for by another call has other places than that one: else callers could
/// have all of them, and wait for each other.
struct OwnPlaces {
    callers: Semaphore,
    called: Semaphore,
}

impl OwnPlaces {
    fn of(&self, share: &HeldShare) -> &Semaphore {
        match share.patience() {
            Patience::Waits => &self.callers,
            Patience::None => &self.called,
        }
    }
}

/// Where a shared worker is, or will be when somebody needs it.
struct Place {
    worker: Arc<OnceCell<Arc<Worker>>>,
    /// Calls that it has.
    calls: Arc<AtomicUsize>,
}

/// A call's place in a worker, until it is dropped.
struct Seat {
    worker: Arc<OnceCell<Arc<Worker>>>,
    calls: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// For so many calls at once. Processes are started when they are needed.
    pub(crate) fn new(program: WorkerProgram, at_once: u32, cache_dir: &Path) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = program.count.unwrap_or_else(processors).max(1);
        let each = at_once.div_ceil(u32::try_from(count).unwrap_or(u32::MAX));
        let place = || Place {
            worker: Arc::default(),
            calls: Arc::default(),
        };
        Workers {
            program,
            cache_dir: cache_dir.to_owned(),
            calls_max: each.saturating_add(CALLS_TO_SPARE),
            shared: Mutex::new(std::iter::repeat_with(place).take(count).collect()),
            own_places: OwnPlaces {
                callers: Semaphore::new(OWN_WORKERS_MAX),
                called: Semaphore::new(OWN_WORKERS_MAX),
            },
            own: Mutex::default(),
            suspects: Suspects::default(),
        }
    }

    /// The processes that are there, by their ids.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let places = lock(&self.shared);
        let shared = places
            .iter()
            .filter_map(|place| place.worker.get().cloned());
        let own = lock(&self.own);
        let workers = shared.chain(own.iter().filter_map(Weak::upgrade));
        workers.filter_map(|worker| worker.id()).collect()
    }

    /// Has a worker make a call.
    ///
    /// # Errors
    /// The host failed, or the worker ended.
    pub(crate) async fn call(
        &self,
        component: &Component,
        entry: Entry<'_>,
        (call, share): (Call, HeldShare),
    ) -> Result<Report, SandboxError> {
        let (digest, cancel) = (component.digest(), call.cancel.clone());
        let folders = folders(&call);
        let is_suspect = lock(&self.suspects).contains(digest);
        if folders.is_empty() && !is_suspect {
            let seat = self.sit_down();
            let start = || Worker::start(&self.program, self.orders(&[]), &self.suspects);
            let started = cancel.unless(seat.worker.get_or_try_init(start));
            return match started.await.transpose()? {
                Some(worker) => call::make(worker, component, entry, (call, share)).await,
                None => Ok(Report::cancelled_early()),
            };
        }
        let permit = cancel.unless(self.own_places.of(&share).acquire()).await;
        let Some(permit) = permit.transpose().map_err(closed)? else {
            return Ok(Report::cancelled_early());
        };
        let start = Worker::start(&self.program, self.orders(&folders), &self.suspects);
        let Some(worker) = cancel.unless(start).await.transpose()? else {
            return Ok(Report::cancelled_early());
        };
        self.remember(&worker);
        let report = call::make(&worker, component, entry, (call, share)).await;
        worker.end();
        drop(permit);
        if report.is_ok() {
            lock(&self.suspects).remove(digest);
        }
        report
    }

    /// A place in the shared worker that has the fewest calls; one that has ended is replaced.
    fn sit_down(&self) -> Seat {
        let mut places = lock(&self.shared);
        for place in places.iter_mut() {
            if place.worker.get().is_some_and(|worker| worker.is_over()) {
                place.worker = Arc::default();
                place.calls = Arc::default();
            }
        }
        let calls = |place: &&Place| place.calls.load(Ordering::Relaxed);
        let (worker, calls) = match places.iter().min_by_key(calls) {
            Some(place) => (Arc::clone(&place.worker), Arc::clone(&place.calls)),
            // There is always one.
            None => (Arc::default(), Arc::default()),
        };
        calls.fetch_add(1, Ordering::Relaxed);
        Seat { worker, calls }
    }

    /// Keeps a worker of one call among those that there are.
    fn remember(&self, worker: &Arc<Worker>) {
        let mut own = lock(&self.own);
        own.retain(|worker| worker.strong_count() > 0);
        own.push(Arc::downgrade(worker));
    }

    fn orders(&self, folders: &[&FolderAccess]) -> Orders {
        let read = folders.iter().filter_map(|access| match access {
            FolderAccess::Read { path, .. } => Some(path.clone()),
            FolderAccess::Write { .. } | FolderAccess::Denied { .. } => None,
        });
        let write = folders.iter().filter_map(|access| match access {
            FolderAccess::Write { path, .. } => Some(path.clone()),
            FolderAccess::Read { .. } | FolderAccess::Denied { .. } => None,
        });
        Orders {
            calls_max: if folders.is_empty() {
                self.calls_max
            } else {
                1
            },
            cache_dir: self.cache_dir.clone(),
            read: read.collect(),
            write: write.collect(),
        }
    }
}

fn closed(closed: AcquireError) -> SandboxError {
    SandboxError::Engine(wasmtime::Error::new(closed))
}

/// Folders of the machine that a call's guest is given.
fn folders(call: &Call) -> Vec<&FolderAccess> {
    let folders = call.grants.files.iter().flat_map(|files| &files.folders);
    let accesses = folders.map(|FolderGrant { access, .. }| access);
    accesses
        .filter(|access| !matches!(access, FolderAccess::Denied { .. }))
        .collect()
}

/// A poisoned lock is no danger: what is behind it is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
