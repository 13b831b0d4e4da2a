//! Folders of the host: how they are opened, and what is held against wasmtime-wasi's file system before it is asked.

use std::fs;
use std::path::Path;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, FsPerms, OpenMode};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::open::{self, Manner, Opened};
use super::scratch::At;
use super::stream::{HostInput, HostOutput, end_of};
use super::{FolderAccess, HostHandles, LISTED_MAX, RootKind};
use crate::state::State;

/// An open folder of the host.
pub(super) struct HostFolder {
    pub(super) folder: Dir,
    /// What would let the guest write; none: it may.
    pub(super) to_write: Option<String>,
    _handle: OwnedSemaphorePermit,
}

/// Opens a folder as far as it is granted.
pub(super) fn open(access: &FolderAccess, handles: &HostHandles) -> RootKind {
    let (path, perms, to_write) = match access {
        FolderAccess::Read { path, to_write } => (path, FsPerms::ReadOnly, Some(to_write.clone())),
        FolderAccess::Write { path, .. } => (path, FsPerms::ReadWrite, None),
        FolderAccess::Denied { remedy } => {
            return RootKind::Denied {
                remedy: remedy.clone(),
            };
        }
    };
    let mode = match perms {
        FsPerms::ReadOnly => OpenMode::READ,
        FsPerms::ReadWrite => OpenMode::READ | OpenMode::WRITE,
    };
    let denied = |why: String| RootKind::Denied {
        remedy: format!("it is granted, and cannot be opened on this machine: {why}"),
    };
    let Ok(handle) = handles.take_of_all() else {
        return denied(
            "all agents together have as many files open as may be; try again later".to_owned(),
        );
    };
    match open_folder(path) {
        Ok(folder) => RootKind::Host(HostFolder {
            folder: Dir::new(folder, perms, mode, false),
            to_write,
            _handle: handle,
        }),
        Err(error) => denied(error.to_string()),
    }
}

/// Opens a folder and nothing else: opening a pipe would wait for somebody to write to it.
fn open_folder(path: &Path) -> std::io::Result<fs::File> {
    let no_folder = || std::io::Error::from(std::io::ErrorKind::NotADirectory);
    if !fs::metadata(path)?.is_dir() {
        return Err(no_folder());
    }
    let folder = fs::File::open(path)?;
    if !folder.metadata()?.is_dir() {
        return Err(no_folder());
    }
    Ok(folder)
}

/// Entries of a folder, as far as they may be listed, and one more where there are more.
fn count_entries(folder: &fs::File) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in rustix::fs::Dir::read_from(folder)?.take(LISTED_MAX + 1) {
        entry?;
        count += 1;
    }
    Ok(count)
}

impl State {
    /// Checks what is about to be opened: only files and folders are. What does not exist, and what cannot be looked
    /// at, is left to the opening to say.
    pub(super) async fn check_host_open(
        &mut self,
        folder: &Resource<Descriptor>,
        (root, path): (usize, &str),
        (follow, how): (PathFlags, OpenFlags),
    ) -> FsResult<()> {
        let borrowed = Resource::new_borrow(folder.rep());
        let found = self
            .host_files()
            .stat_at(borrowed, follow, path.to_owned())
            .await;
        match found {
            Ok(found) => match found.type_ {
                DescriptorType::RegularFile
                | DescriptorType::Directory
                | DescriptorType::SymbolicLink => Ok(()),
                DescriptorType::BlockDevice
                | DescriptorType::CharacterDevice
                | DescriptorType::Fifo
                | DescriptorType::Socket
                | DescriptorType::Unknown => Err(self.deny_opening(path).into()),
            },
            Err(error) => match error.downcast().map_err(FsError::trap)? {
                ErrorCode::NoEntry if how.contains(OpenFlags::CREATE) => {
                    Ok(self.files.meter.lock().take_entry(root)?)
                }
                _ => Ok(()),
            },
        }
    }

    fn deny_opening(&mut self, path: &str) -> ErrorCode {
        let message = format!(
            "the agent `{}` may not open `{}`, which is neither a file nor a folder",
            self.agent,
            path.escape_debug()
        );
        self.denials.note("files", message);
        ErrorCode::Access
    }

    /// Opens what was checked. It may be something else by now.
    pub(super) async fn open_host(
        &mut self,
        folder: &Resource<Descriptor>,
        path: String,
        manner: Manner,
    ) -> FsResult<Resource<Descriptor>> {
        let synchronous = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        let Descriptor::Dir(dir) = self.table.get(folder)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        if manner.flags.intersects(synchronous) {
            return Err(ErrorCode::Unsupported.into());
        }
        let makes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        if manner.how.contains(OpenFlags::DIRECTORY) && manner.how.intersects(makes) {
            return Err(ErrorCode::Invalid.into());
        }
        let (dir, perms, mode) = (std::sync::Arc::clone(&dir.dir), dir.perms, manner.mode());
        if perms.write_not_permitted() && mode.contains(OpenMode::WRITE) {
            return Err(ErrorCode::NotPermitted.into());
        }
        let walked = path.clone();
        let opening =
            tokio::task::spawn_blocking(move || open::open_beneath(&dir, &walked, manner));
        let opened = match opening.await.map_err(FsError::trap)?? {
            Some(Opened::File(file)) => Descriptor::File(File::new(file, perms, mode, false)),
            Some(Opened::Folder(folder)) => Descriptor::Dir(Dir::new(folder, perms, mode, false)),
            Some(Opened::Neither) => return Err(self.deny_opening(&path).into()),
            // As well as such a kernel can: it was checked a moment ago.
            None => {
                let Manner { follow, how, flags } = manner;
                let folder = Resource::new_borrow(folder.rep());
                let mut files = self.host_files();
                return files.open_at(folder, follow, path, how, flags).await;
            }
        };
        Ok(self.table.push(opened)?)
    }

    /// Counts what a listing of a folder of the host will hold, before it is made as a whole.
    pub(super) async fn count_host_entries(
        &mut self,
        descriptor: &Resource<Descriptor>,
    ) -> FsResult<usize> {
        let Descriptor::Dir(folder) = self.table.get(descriptor)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let folder = std::sync::Arc::clone(&folder.dir);
        let counting = tokio::task::spawn_blocking(move || count_entries(&folder));
        let count = counting.await.map_err(FsError::trap)??;
        if count > LISTED_MAX {
            return Err(ErrorCode::Overflow.into());
        }
        Ok(count)
    }

    /// The open file of a descriptor of the host.
    pub(super) fn host_file(
        &self,
        descriptor: &Resource<Descriptor>,
    ) -> FsResult<std::sync::Arc<fs::File>> {
        match self.table.get(descriptor)? {
            Descriptor::File(file) => Ok(std::sync::Arc::clone(&file.file)),
            Descriptor::Dir(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    /// Takes from the quota what a file will grow by.
    pub(super) fn take_growth(
        &mut self,
        descriptor: &Resource<Descriptor>,
        root: usize,
        (at, count): (At, usize),
    ) -> FsResult<()> {
        let size = self.host_file(descriptor)?.metadata()?.len();
        let end = end_of(at, size, count)?;
        let more = end.saturating_sub(size);
        Ok(self.files.meter.lock().take_bytes(root, more)?)
    }

    /// Puts our stream in the place of wasmtime-wasi's.
    pub(super) fn count_input(
        &mut self,
        stream: Resource<DynInputStream>,
    ) -> FsResult<Resource<DynInputStream>> {
        let inner = self.table.delete(stream)?;
        let handle = self.files.take_handle()?;
        let meter = self.files.meter.clone();
        let counted: DynInputStream = Box::new(HostInput {
            meter,
            inner,
            _handle: handle,
        });
        Ok(self.table.push(counted)?)
    }

    /// The same of a stream that writes.
    pub(super) fn count_output(
        &mut self,
        stream: Resource<DynOutputStream>,
        (file, root): (std::sync::Arc<fs::File>, usize),
        at: At,
    ) -> FsResult<Resource<DynOutputStream>> {
        let inner = self.table.delete(stream)?;
        let handle = self.files.take_handle()?;
        let meter = self.files.meter.clone();
        let counted: DynOutputStream = Box::new(HostOutput {
            _handle: handle,
            meter,
            inner,
            file,
            root,
            at,
        });
        Ok(self.table.push(counted)?)
    }
}
