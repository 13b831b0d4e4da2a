//! Files: a scratch folder in memory, and folders of the host that the operator grants. Everything goes through here
//! before it reaches either: paths are bounded, calls are paid for in fuel, open files and what is written are counted.
//!
//! Host folders are wasmtime-wasi's, which resolves no path out of its folder. It has no quotas, makes links, and opens
//! whatever a path leads to; here there are quotas, no links can be made, and only files and folders are opened: a pipe
//! or a device could hold a thread for ever.

mod host;
mod open;
mod scratch;
mod stream;
mod wasi;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use serde::{Deserialize, Serialize};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode};
use wasmtime_wasi::p2::{FsError, FsResult};

use self::host::HostFolder;
use self::scratch::{At, NodeId, Scratch};
use crate::limits::OPEN_FILES_MAX;
use crate::on_demand::{OnDemand, lock};
use crate::state::State;
use crate::wasi::clock::GuestClock;

pub(crate) use self::wasi::link;

/// The files a guest may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesGrant {
    /// Folders of the host.
    pub folders: Vec<FolderGrant>,
    /// A folder that is empty when a call begins, and gone when it ends.
    pub scratch: Option<ScratchGrant>,
}

/// A folder of the host, as a guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderGrant {
    /// Where the guest sees it, for example `/data`.
    pub at: String,
    /// What it may do there.
    pub access: FolderAccess,
}

/// What a guest may do in a folder of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FolderAccess {
    /// Read.
    Read {
        /// The folder.
        path: PathBuf,
        /// What would let it write, for the texts of denials.
        to_write: String,
    },
    /// Read and write.
    Write {
        /// The folder.
        path: PathBuf,
        /// Bytes that its files may grow by in one call; what is removed is not given back. Protects the disk.
        bytes_max: u64,
        /// Files and folders that may be made in one call. Protects the file system.
        entries_max: u32,
    },
    /// Nothing: every attempt is denied with a text that says what would grant it.
    Denied {
        /// What would grant it.
        remedy: String,
    },
}

/// A scratch folder, which lies in the host's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchGrant {
    /// Where the guest sees it, for example `/tmp`.
    pub at: String,
    /// Bytes of all files together; names count too, and a hole in a file counts as what it would hold. Protects the
    /// host's memory, of which files that grow take up to twice as much.
    pub bytes_max: u64,
    /// Files and folders at one time. Protects the host's memory.
    pub entries_max: u32,
}

/// What a call did with files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilesUsed {
    pub(crate) opened: u64,
    pub(crate) open_peak: u32,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) scratch_bytes_peak: u64,
}

/// Listings of folders that a guest may hold at once: each is in the host's memory as a whole.
const LISTINGS_MAX: usize = 8;
/// Entries of a folder of the host that can be listed. Protects the host's memory.
const LISTED_MAX: usize = 100_000;
/// Fuel for each entry of a listing, about what it costs the host to look at it.
const ENTRY_FUEL: u64 = 500;
/// Files and folders of the host that all guests of this process together hold open, see
/// [`crate::Limits::open_files_max`].
pub(crate) const HOST_HANDLES_MAX: usize = 2 * OPEN_FILES_MAX as usize;
/// Bytes of a path. Protects the host from paths that it would have to copy and walk for long.
const PATH_BYTES_MAX: usize = 4_096;
/// Files that the host goes by where a command is given beside them. No guest makes, changes or removes one in a folder of
/// the host: the next command would do as the guest wrote.
const NAMES_OF_HOST: [&str; 1] = ["troupe.toml"];
/// What one read or write moves at most. Bounds an allocation of the host.
const IO_BYTES_MAX: usize = 64 << 10;
/// Fuel for one call, about what it costs the host. Each byte costs one more.
const CALL_FUEL: u64 = 3_000;
/// Fuel for having a file reach the disk, which takes milliseconds of it.
const SYNC_FUEL: u64 = 1_000_000;

/// The files of one call.
pub(crate) struct FilesState {
    wasi: WasiFilesystemCtx,
    roots: Vec<Root>,
    /// What the guest holds, by its number in the table.
    open: BTreeMap<u32, Opened>,
    /// The handles of the process behind it, by the same numbers.
    handles: BTreeMap<u32, Handle>,
    /// None where the guest was given no folder: it can open nothing.
    all_handles: Option<HostHandles>,
    /// Listings that the guest holds.
    listings: usize,
    /// Whether the scratch folder has its memory.
    scratch_is_set_aside: bool,
    meter: Meter,
}

/// The handles of the process that a call may have, of those that all calls may have together.
pub(crate) struct HostHandles {
    /// What the guest may hold open, beside the folders that it was given.
    open_max: usize,
    of_call: OnceLock<Arc<Semaphore>>,
    of_all: Arc<Semaphore>,
}

/// The right to one handle of the process, until it is dropped.
struct Handle {
    _of_call: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// Why nothing more can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooManyOpen {
    /// The call has as many as it may.
    OfCall,
    /// All calls of this process together have.
    OfAll,
}

impl From<TooManyOpen> for ErrorCode {
    /// WASI has no word for too many open files; this is what they cost the host.
    fn from(_: TooManyOpen) -> Self {
        ErrorCode::InsufficientMemory
    }
}

impl HostHandles {
    /// Those of a call that may hold so many files open, of `of_all`.
    pub(crate) fn new(open_max: u32, of_all: &Arc<Semaphore>) -> Self {
        let open_max = usize::try_from(open_max.min(OPEN_FILES_MAX));
        HostHandles {
            open_max: open_max.unwrap_or(usize::MAX),
            of_call: OnceLock::new(),
            of_all: Arc::clone(of_all),
        }
    }

    /// A stream holds on to its file when the guest has closed that: there may be as many of them as of files.
    fn take(&self) -> Result<Handle, TooManyOpen> {
        let take = |handles: &Arc<Semaphore>, missing| {
            let taken = Arc::clone(handles).try_acquire_owned();
            taken.map_err(|_none_left| missing)
        };
        let of_call = || Arc::new(Semaphore::new(self.open_max.saturating_mul(2)));
        let of_call = self.of_call.get_or_init(of_call);
        Ok(Handle {
            _of_call: take(of_call, TooManyOpen::OfCall)?,
            _of_all: self.take_of_all()?,
        })
    }

    /// For a folder that the guest is given, which counts among the machine's and not among its own.
    fn take_of_all(&self) -> Result<OwnedSemaphorePermit, TooManyOpen> {
        let taken = Arc::clone(&self.of_all).try_acquire_owned();
        taken.map_err(|_none_left| TooManyOpen::OfAll)
    }
}

/// A folder that the guest begins with.
struct Root {
    at: String,
    kind: RootKind,
}

enum RootKind {
    Host(HostFolder),
    Scratch,
    Denied { remedy: String },
}

/// A descriptor of the guest.
#[derive(Clone, Copy)]
struct Opened {
    /// The folder it was reached from.
    root: usize,
    object: Object,
}

#[derive(Clone, Copy)]
enum Object {
    /// The table holds wasmtime-wasi's descriptor.
    Host,
    Scratch(NodeId, DescriptorFlags),
    Denied,
}

/// Counts what is done with files; streams have it too, which are out of reach of [`State`].
struct Meter {
    disk_bytes_max: u64,
    shared: OnDemand<Shared>,
}

struct Shared {
    scratch: Option<Scratch>,
    /// What is left of the quotas of the folders that may be written.
    quotas: BTreeMap<usize, Quota>,
    /// Bytes by which the files of all these folders together may grow.
    disk_bytes_left: u64,
    used: FilesUsed,
    fuel_owed: u64,
    /// Whether the guest was told that there is no more room.
    is_full: bool,
    /// Whether it was refused a file for those that are open.
    too_many_open: Option<TooManyOpen>,
}

struct Quota {
    bytes_left: u64,
    entries_left: u32,
}

impl FilesState {
    /// No folders at all.
    pub(crate) fn none() -> Self {
        FilesState {
            wasi: WasiFilesystemCtx::default(),
            roots: Vec::new(),
            open: BTreeMap::new(),
            handles: BTreeMap::new(),
            all_handles: None,
            listings: 0,
            scratch_is_set_aside: false,
            meter: Meter {
                disk_bytes_max: 0,
                shared: OnDemand::new(),
            },
        }
    }

    /// Opens the folders, whose files may grow by so many bytes, and those of the scratch folder be so many. One that
    /// cannot be opened is denied: it was granted, and is not there.
    pub(crate) fn open(
        grant: &FilesGrant,
        (disk_bytes_max, scratch_bytes_max): (u64, u64),
        (handles, clock): (HostHandles, &Arc<GuestClock>),
    ) -> Self {
        let mut state = FilesState::none();
        state.meter.disk_bytes_max = disk_bytes_max;
        if let Some(scratch) = &grant.scratch {
            let bytes_max = scratch.bytes_max.min(disk_bytes_max).min(scratch_bytes_max);
            let files = Scratch::new(bytes_max, scratch.entries_max, Arc::clone(clock));
            state.meter.lock().scratch = Some(files);
            state.roots.push(Root {
                at: scratch.at.clone(),
                kind: RootKind::Scratch,
            });
        }
        for folder in &grant.folders {
            if let FolderAccess::Write {
                bytes_max,
                entries_max,
                ..
            } = folder.access
            {
                let quota = Quota {
                    bytes_left: bytes_max,
                    entries_left: entries_max,
                };
                state.meter.lock().quotas.insert(state.roots.len(), quota);
            }
            state.roots.push(Root {
                at: folder.at.clone(),
                kind: host::open(&folder.access, &handles),
            });
        }
        state.all_handles = Some(handles);
        state
    }

    /// Counts what is used from nothing again; what is there, and what is left of the quotas, stays.
    pub(crate) fn begin_again(&self) {
        let Some(mut shared) = self.meter.counted() else {
            return;
        };
        shared.used = FilesUsed::default();
        shared.is_full = false;
        shared.too_many_open = None;
        drop(shared);
        self.note_open();
    }

    pub(crate) fn used(&self) -> FilesUsed {
        let Some(shared) = self.meter.counted() else {
            return FilesUsed::default();
        };
        FilesUsed {
            scratch_bytes_peak: shared.scratch.as_ref().map_or(0, Scratch::bytes_peak),
            ..shared.used
        }
    }

    /// What the scratch folder may take of the host's memory, in bytes.
    fn scratch_bytes_max(&self) -> u64 {
        let shared = self.meter.counted();
        let scratch = shared.as_ref().and_then(|shared| shared.scratch.as_ref());
        scratch.map_or(0, Scratch::bytes_max)
    }

    /// Whether a write was refused because there was no more room. Not every guest is told so: C libraries make an
    /// error of input and output of it.
    pub(crate) fn is_full(&self) -> bool {
        self.meter.counted().is_some_and(|shared| shared.is_full)
    }

    /// Takes the fuel that calls so far cost.
    pub(crate) fn take_fuel_owed(&self) -> u64 {
        let shared = self.meter.counted();
        shared.map_or(0, |mut shared| std::mem::take(&mut shared.fuel_owed))
    }

    fn check_listings(&self) -> Result<(), ErrorCode> {
        match self.listings < LISTINGS_MAX {
            true => Ok(()),
            false => Err(ErrorCode::InsufficientMemory),
        }
    }

    /// Why a file was refused for those that are open, if any was. C libraries say that memory was short.
    pub(crate) fn too_many_open(&self) -> Option<TooManyOpen> {
        self.meter.counted()?.too_many_open
    }

    /// What the guest holds open, beside the folders that it was given.
    fn open_count(&self) -> usize {
        self.open.len().saturating_sub(self.roots.len())
    }

    fn check_room(&self) -> Result<(), ErrorCode> {
        let handles = self.all_handles.as_ref();
        if handles.is_some_and(|handles| self.open_count() < handles.open_max) {
            return Ok(());
        }
        Err(self.note_refused(TooManyOpen::OfCall))
    }

    /// Takes one of the process's handles.
    fn take_handle(&self) -> Result<Handle, ErrorCode> {
        let handles = self.all_handles.as_ref();
        let taken = handles.map_or(Err(TooManyOpen::OfCall), HostHandles::take);
        taken.map_err(|too_many| self.note_refused(too_many))
    }

    fn note_refused(&self, too_many: TooManyOpen) -> ErrorCode {
        self.meter.lock().too_many_open = Some(too_many);
        too_many.into()
    }

    /// Notes what the guest holds open now.
    fn note_open(&self) {
        let open = u32::try_from(self.open_count()).unwrap_or(u32::MAX);
        let mut shared = self.meter.lock();
        shared.used.open_peak = shared.used.open_peak.max(open);
    }
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(self.shared())
    }

    fn shared(&self) -> &Arc<Mutex<Shared>> {
        self.shared.shared(|| Shared {
            scratch: None,
            quotas: BTreeMap::new(),
            disk_bytes_left: self.disk_bytes_max,
            used: FilesUsed::default(),
            fuel_owed: 0,
            is_full: false,
            too_many_open: None,
        })
    }

    /// What was counted, if there was anything to count.
    fn counted(&self) -> Option<MutexGuard<'_, Shared>> {
        self.shared.if_made()
    }
}

/// Clones count together.
impl Clone for Meter {
    fn clone(&self) -> Self {
        Meter {
            disk_bytes_max: self.disk_bytes_max,
            shared: OnDemand::from(Arc::clone(self.shared())),
        }
    }
}

impl Shared {
    fn charge(&mut self, fuel: u64) {
        self.fuel_owed = self.fuel_owed.saturating_add(fuel);
    }

    /// Counts a call that carries so many bytes.
    fn count_call(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.charge(CALL_FUEL.saturating_add(bytes));
    }

    fn count_read(&mut self, bytes: usize) {
        self.count_call(bytes);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.used.bytes_read = self.used.bytes_read.saturating_add(bytes);
    }

    fn count_written(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.used.bytes_written = self.used.bytes_written.saturating_add(bytes);
    }

    /// Charges for a listing.
    fn charge_entries(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.charge(count.saturating_mul(ENTRY_FUEL));
    }

    /// Writes to a file of the scratch folder; a hole before what is written is filled with zeroes, and paid for. Where it
    /// ends.
    fn write_scratch(&mut self, node: NodeId, bytes: &[u8], at: At) -> Result<u64, ErrorCode> {
        let before = self.scratch(|scratch| scratch.size(node))?;
        let end = self.scratch(|scratch| scratch.write(node, bytes, at))?;
        self.charge(end.saturating_sub(before));
        Ok(end)
    }

    fn scratch<T>(
        &mut self,
        act: impl FnOnce(&mut Scratch) -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        let result = act(self.scratch.as_mut().ok_or(ErrorCode::BadDescriptor)?);
        self.is_full |= matches!(result, Err(ErrorCode::InsufficientSpace));
        result
    }

    fn take_bytes(&mut self, root: usize, bytes: u64) -> Result<(), ErrorCode> {
        let quota = self.quotas.get_mut(&root).ok_or(ErrorCode::ReadOnly)?;
        let left = quota
            .bytes_left
            .checked_sub(bytes)
            .zip(self.disk_bytes_left.checked_sub(bytes));
        self.is_full |= left.is_none();
        (quota.bytes_left, self.disk_bytes_left) = left.ok_or(ErrorCode::InsufficientSpace)?;
        Ok(())
    }

    fn take_entry(&mut self, root: usize) -> Result<(), ErrorCode> {
        let quota = self.quotas.get_mut(&root).ok_or(ErrorCode::ReadOnly)?;
        let left = quota.entries_left.checked_sub(1);
        self.is_full |= left.is_none();
        quota.entries_left = left.ok_or(ErrorCode::InsufficientSpace)?;
        Ok(())
    }
}

/// Checks a path before anybody walks it.
fn check_path(path: &str) -> Result<(), ErrorCode> {
    if path.len() > PATH_BYTES_MAX {
        return Err(ErrorCode::NameTooLong);
    }
    if path.contains('\0') {
        return Err(ErrorCode::Invalid);
    }
    Ok(())
}

impl State {
    /// wasmtime-wasi's file system, for what is the host's.
    fn host_files(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.files.wasi,
            table: &mut self.table,
        }
    }

    /// Counts a call, and finds what its descriptor stands for.
    fn object(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<Opened> {
        self.files.meter.lock().count_call(0);
        let opened = self.files.open.get(&descriptor.rep());
        Ok(*opened.ok_or(ErrorCode::BadDescriptor)?)
    }

    /// The same, with the path that the call is about.
    fn object_at(&mut self, descriptor: &Resource<Descriptor>, path: &str) -> FsResult<Opened> {
        let opened = self.object(descriptor)?;
        self.files.meter.lock().count_call(path.len());
        check_path(path)?;
        Ok(opened)
    }

    fn scratch<T>(
        &mut self,
        act: impl FnOnce(&mut Scratch) -> Result<T, ErrorCode>,
    ) -> FsResult<T> {
        Ok(self.files.meter.lock().scratch(act)?)
    }

    /// Takes the memory that the scratch folder may need, which lies outside of the guest, before anything is made in it
    /// for the first time. Most guests that have one never get so far.
    async fn set_scratch_aside(&mut self) -> FsResult<()> {
        if self.files.scratch_is_set_aside {
            return Ok(());
        }
        let set_aside = self.memory.set_aside(self.files.scratch_bytes_max()).await;
        if !set_aside.map_err(FsError::trap)? {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        self.files.scratch_is_set_aside = true;
        Ok(())
    }

    /// Denies a folder that was asked for and not granted.
    fn deny_folder(&mut self, root: usize) -> ErrorCode {
        let Some(Root {
            at,
            kind: RootKind::Denied { remedy },
        }) = self.files.roots.get(root)
        else {
            return ErrorCode::Access;
        };
        let message = format!(
            "the agent `{}` may not use the folder `{at}`: {remedy}",
            self.agent
        );
        self.denials.note("files", message);
        ErrorCode::Access
    }

    /// Denies what would change a file that the host goes by, in whatever folder it lies.
    fn check_name(&mut self, path: &str) -> Result<(), ErrorCode> {
        let name = path.rsplit('/').find(|part| !matches!(*part, "" | "."));
        let Some(name) = name.filter(|name| NAMES_OF_HOST.contains(name)) else {
            return Ok(());
        };
        let message = format!(
            "the agent `{}` may not write a file `{name}`, which commands of the host go by: use another name",
            self.agent
        );
        self.denials.note("files", message);
        Err(ErrorCode::NotPermitted)
    }

    /// Denies what would change a folder, unless it may be written.
    fn check_writable(&mut self, root: usize) -> Result<(), ErrorCode> {
        let Some(Root { at, kind }) = self.files.roots.get(root) else {
            return Err(ErrorCode::BadDescriptor);
        };
        match kind {
            RootKind::Scratch => Ok(()),
            RootKind::Denied { .. } => Err(self.deny_folder(root)),
            RootKind::Host(folder) => match &folder.to_write {
                None => Ok(()),
                Some(remedy) => {
                    let message = format!(
                        "the agent `{}` may not write in the folder `{at}`: {remedy}",
                        self.agent
                    );
                    self.denials.note("files", message);
                    Err(ErrorCode::ReadOnly)
                }
            },
        }
    }
}
