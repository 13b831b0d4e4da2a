//! `wasi:filesystem`, function by function: each finds whether its descriptor is the host's or the scratch folder's.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
    Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator};

use super::open::Manner;
use super::scratch::{At, NodeId, Scratch};
use super::stream::{ScratchInput, ScratchOutput};
use super::{CALL_FUEL, IO_BYTES_MAX, Object, Opened, RootKind, SYNC_FUEL, check_path};
use crate::state::State;

/// Links the file system in the place of wasmtime-wasi's.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// Stands in the table for a descriptor that is not the host's.
struct Placeholder;

/// The rest of a listing of the scratch folder.
struct Listing(std::vec::IntoIter<DirectoryEntry>);

impl preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut folders = Vec::new();
        for root in 0..self.files.roots.len() {
            self.files.meter.lock().count_call(0);
            // They come on top of what it may open: the first time that it asks, it is given them whatever its limit is.
            let is_room = self.files.open.len() < self.files.roots.len();
            if !is_room && self.files.check_room().is_err() {
                wasmtime::bail!("the guest holds too many open folders");
            }
            let at = self.files.roots[root].at.clone();
            let (object, descriptor) = match &self.files.roots[root].kind {
                // The same handle as the root's.
                RootKind::Host(folder) => {
                    let folder = Descriptor::Dir(folder.folder.clone());
                    (Object::Host, self.table.push(folder)?)
                }
                RootKind::Scratch => {
                    let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
                    (Object::Scratch(Scratch::ROOT, flags), self.placeholder()?)
                }
                RootKind::Denied { .. } => (Object::Denied, self.placeholder()?),
            };
            let opened = Opened { root, object };
            self.files.open.insert(descriptor.rep(), opened);
            folders.push((descriptor, at));
        }
        self.files.note_open();
        Ok(folders)
    }
}

impl State {
    fn placeholder(&mut self) -> wasmtime::Result<Resource<Descriptor>> {
        let placeholder = self.table.push(Placeholder)?;
        Ok(Resource::new_own(placeholder.rep()))
    }

    /// A descriptor of the scratch folder that may be read, or written.
    fn scratch_handle(flags: DescriptorFlags, needed: DescriptorFlags) -> Result<(), ErrorCode> {
        if flags.contains(needed) {
            Ok(())
        } else {
            Err(ErrorCode::BadDescriptor)
        }
    }

    fn scratch_output(&mut self, node: NodeId, at: At) -> FsResult<Resource<DynOutputStream>> {
        if self.scratch(|scratch| scratch.is_folder(node))? {
            return Err(ErrorCode::IsDirectory.into());
        }
        let meter = self.files.meter.clone();
        let stream: DynOutputStream = Box::new(ScratchOutput { meter, node, at });
        Ok(self.table.push(stream)?)
    }

    /// Opens what lies in the scratch folder.
    fn open_scratch(
        &mut self,
        (root, folder): (usize, NodeId),
        path: &str,
        (how, flags): (OpenFlags, DescriptorFlags),
    ) -> FsResult<Resource<Descriptor>> {
        let node = self.scratch(|scratch| scratch.open(folder, path, (how, flags)))?;
        let descriptor = match self.placeholder() {
            Ok(descriptor) => descriptor,
            Err(error) => {
                self.scratch(|scratch| {
                    scratch.close(node);
                    Ok(())
                })?;
                return Err(FsError::trap(error));
            }
        };
        let opened = Opened {
            root,
            object: Object::Scratch(node, flags),
        };
        self.files.open.insert(descriptor.rep(), opened);
        Ok(descriptor)
    }
}

impl types::Host for State {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.host_files(), error)
    }
}

impl HostDescriptor for State {
    fn read_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        match self.object(&descriptor)?.object {
            Object::Host => {
                let stream = self.host_files().read_via_stream(descriptor, offset)?;
                self.count_input(stream)
            }
            Object::Scratch(node, flags) => {
                if self.scratch(|scratch| scratch.is_folder(node))? {
                    return Err(ErrorCode::IsDirectory.into());
                }
                Self::scratch_handle(flags, DescriptorFlags::READ)?;
                let meter = self.files.meter.clone();
                let stream: DynInputStream = Box::new(ScratchInput {
                    meter,
                    node,
                    offset,
                });
                Ok(self.table.push(stream)?)
            }
            Object::Denied => Err(ErrorCode::IsDirectory.into()),
        }
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let Opened { root, object } = self.object(&descriptor)?;
        self.check_writable(root)?;
        let at = At::Offset(offset);
        match object {
            Object::Host => {
                let file = self.host_file(&descriptor)?;
                let stream = self.host_files().write_via_stream(descriptor, offset)?;
                self.count_output(stream, (file, root), at)
            }
            Object::Scratch(node, flags) => {
                Self::scratch_handle(flags, DescriptorFlags::WRITE)?;
                self.scratch_output(node, at)
            }
            Object::Denied => Err(ErrorCode::IsDirectory.into()),
        }
    }

    fn append_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let Opened { root, object } = self.object(&descriptor)?;
        self.check_writable(root)?;
        match object {
            Object::Host => {
                let file = self.host_file(&descriptor)?;
                let stream = self.host_files().append_via_stream(descriptor)?;
                self.count_output(stream, (file, root), At::End)
            }
            Object::Scratch(node, flags) => {
                Self::scratch_handle(flags, DescriptorFlags::WRITE)?;
                self.scratch_output(node, At::End)
            }
            Object::Denied => Err(ErrorCode::IsDirectory.into()),
        }
    }

    /// Advice is not taken: reading ahead is work for the host that no fuel pays.
    async fn advise(
        &mut self,
        descriptor: Resource<Descriptor>,
        _offset: Filesize,
        _length: Filesize,
        _advice: Advice,
    ) -> FsResult<()> {
        self.object(&descriptor)?;
        Ok(())
    }

    async fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        match self.object(&descriptor)?.object {
            Object::Host => {
                self.files.meter.lock().charge(SYNC_FUEL);
                self.host_files().sync_data(descriptor).await
            }
            Object::Scratch(..) | Object::Denied => Ok(()),
        }
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        match self.object(&descriptor)?.object {
            Object::Host => {
                self.files.meter.lock().charge(SYNC_FUEL);
                self.host_files().sync(descriptor).await
            }
            Object::Scratch(..) | Object::Denied => Ok(()),
        }
    }

    async fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        match self.object(&descriptor)?.object {
            Object::Host => self.host_files().get_flags(descriptor).await,
            Object::Scratch(_, flags) => Ok(flags),
            Object::Denied => Ok(DescriptorFlags::empty()),
        }
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        match self.object(&descriptor)?.object {
            Object::Host => self.host_files().get_type(descriptor).await,
            Object::Scratch(node, _) => self.scratch(|scratch| Ok(scratch.stat(node)?.type_)),
            Object::Denied => Ok(DescriptorType::Directory),
        }
    }

    async fn set_size(&mut self, descriptor: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let Opened { root, object } = self.object(&descriptor)?;
        self.check_writable(root)?;
        match object {
            Object::Host => {
                self.take_growth(&descriptor, root, (At::Offset(size), 0))?;
                self.host_files().set_size(descriptor, size).await
            }
            Object::Scratch(node, flags) => {
                Self::scratch_handle(flags, DescriptorFlags::WRITE)?;
                let before = self.scratch(|scratch| scratch.size(node))?;
                self.scratch(|scratch| scratch.set_size(node, size))?;
                // What is new is filled with zeroes.
                self.files.meter.lock().charge(size.saturating_sub(before));
                Ok(())
            }
            Object::Denied => Err(ErrorCode::IsDirectory.into()),
        }
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let Opened { root, object } = self.object(&descriptor)?;
        self.check_writable(root)?;
        match object {
            Object::Host => {
                let mut files = self.host_files();
                files.set_times(descriptor, accessed, modified).await
            }
            Object::Scratch(node, _) => {
                self.scratch(|scratch| scratch.set_times(node, accessed, modified))
            }
            Object::Denied => Err(ErrorCode::Access.into()),
        }
    }

    async fn read(
        &mut self,
        descriptor: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let read = match self.object(&descriptor)?.object {
            Object::Host => {
                let mut files = self.host_files();
                files.read(descriptor, length, offset).await?
            }
            Object::Scratch(node, flags) => {
                Self::scratch_handle(flags, DescriptorFlags::READ)?;
                let count = usize::try_from(length)
                    .unwrap_or(usize::MAX)
                    .min(IO_BYTES_MAX);
                self.scratch(|scratch| scratch.read(node, count, offset))?
            }
            Object::Denied => return Err(ErrorCode::IsDirectory.into()),
        };
        self.files.meter.lock().count_read(read.0.len());
        Ok(read)
    }

    async fn write(
        &mut self,
        descriptor: Resource<Descriptor>,
        buffer: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let Opened { root, object } = self.object(&descriptor)?;
        self.files.meter.lock().count_call(buffer.len());
        self.check_writable(root)?;
        let count = buffer.len();
        let written = match object {
            Object::Host => {
                self.take_growth(&descriptor, root, (At::Offset(offset), count))?;
                let mut files = self.host_files();
                files.write(descriptor, buffer, offset).await?
            }
            Object::Scratch(node, flags) => {
                Self::scratch_handle(flags, DescriptorFlags::WRITE)?;
                let mut shared = self.files.meter.lock();
                shared.write_scratch(node, &buffer, At::Offset(offset))?;
                u64::try_from(count).unwrap_or(u64::MAX)
            }
            Object::Denied => return Err(ErrorCode::IsDirectory.into()),
        };
        self.files.meter.lock().count_written(count);
        Ok(written)
    }

    async fn read_directory(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<Resource<ReaddirIterator>> {
        let Opened { root, object } = self.object(&descriptor)?;
        match object {
            Object::Host => {
                self.files.check_listings()?;
                let count = self.count_host_entries(&descriptor).await?;
                self.files.meter.lock().charge_entries(count);
                let listing = self.host_files().read_directory(descriptor).await?;
                self.files.listings += 1;
                Ok(listing)
            }
            Object::Scratch(node, _) => {
                self.files.check_listings()?;
                let entries = self.scratch(|scratch| scratch.list(node))?;
                self.files.meter.lock().charge_entries(entries.len());
                let listing = self.table.push(Listing(entries.into_iter()))?;
                self.files.listings += 1;
                Ok(Resource::new_own(listing.rep()))
            }
            Object::Denied => Err(self.deny_folder(root).into()),
        }
    }

    async fn create_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        self.check_writable(root)?;
        match object {
            Object::Host => {
                self.files.meter.lock().take_entry(root)?;
                let mut files = self.host_files();
                files.create_directory_at(descriptor, path).await
            }
            Object::Scratch(node, _) => {
                self.set_scratch_aside().await?;
                self.scratch(|scratch| scratch.create_folder(node, &path))
            }
            Object::Denied => Err(ErrorCode::Access.into()),
        }
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        let Opened { root, object } = self.object(&descriptor)?;
        match object {
            Object::Host => self.host_files().stat(descriptor).await,
            Object::Scratch(node, _) => self.scratch(|scratch| scratch.stat(node)),
            Object::Denied => Err(self.deny_folder(root).into()),
        }
    }

    async fn stat_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        match object {
            Object::Host => self.host_files().stat_at(descriptor, follow, path).await,
            Object::Scratch(node, _) => self.scratch(|scratch| {
                let node = scratch.at(node, &path)?;
                scratch.stat(node)
            }),
            Object::Denied => Err(self.deny_folder(root).into()),
        }
    }

    async fn set_times_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        self.check_writable(root)?;
        match object {
            Object::Host => {
                let mut files = self.host_files();
                files
                    .set_times_at(descriptor, follow, path, accessed, modified)
                    .await
            }
            Object::Scratch(node, _) => self.scratch(|scratch| {
                let node = scratch.at(node, &path)?;
                scratch.set_times(node, accessed, modified)
            }),
            Object::Denied => Err(ErrorCode::Access.into()),
        }
    }

    /// No links are made: a hard link would carry a file past the folder it was granted in.
    async fn link_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _follow: PathFlags,
        path: String,
        new_descriptor: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let old = self.object_at(&descriptor, &path)?;
        let new = self.object_at(&new_descriptor, &new_path)?;
        self.check_writable(old.root)?;
        self.check_writable(new.root)?;
        Err(ErrorCode::NotPermitted.into())
    }

    async fn open_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        let changes = how.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE)
            || flags.contains(DescriptorFlags::WRITE);
        if changes {
            self.check_writable(root)?;
        }
        self.files.check_room()?;
        let opened = match object {
            Object::Host => {
                if changes {
                    self.check_name(&path)?;
                }
                let handle = self.files.take_handle()?;
                self.check_host_open(&descriptor, (root, &path), (follow, how))
                    .await?;
                let manner = Manner { follow, how, flags };
                let opened = self.open_host(&descriptor, path, manner).await?;
                let object = Object::Host;
                self.files.handles.insert(opened.rep(), handle);
                self.files
                    .open
                    .insert(opened.rep(), Opened { root, object });
                opened
            }
            Object::Scratch(node, _) => {
                if changes {
                    self.set_scratch_aside().await?;
                }
                self.open_scratch((root, node), &path, (how, flags))?
            }
            Object::Denied => return Err(self.deny_folder(root).into()),
        };
        let mut shared = self.files.meter.lock();
        shared.used.opened = shared.used.opened.saturating_add(1);
        drop(shared);
        self.files.note_open();
        Ok(opened)
    }

    async fn readlink_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<String> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        match object {
            Object::Host => self.host_files().readlink_at(descriptor, path).await,
            Object::Scratch(node, _) => {
                self.scratch(|scratch| scratch.at(node, &path))?;
                Err(ErrorCode::Invalid.into())
            }
            Object::Denied => Err(self.deny_folder(root).into()),
        }
    }

    async fn remove_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        self.check_writable(root)?;
        match object {
            Object::Host => {
                let mut files = self.host_files();
                files.remove_directory_at(descriptor, path).await
            }
            Object::Scratch(node, _) => self.scratch(|scratch| scratch.remove_folder(node, &path)),
            Object::Denied => Err(ErrorCode::Access.into()),
        }
    }

    async fn rename_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
        new_descriptor: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let old = self.object_at(&descriptor, &path)?;
        let new = self.object_at(&new_descriptor, &new_path)?;
        self.check_writable(old.root)?;
        self.check_writable(new.root)?;
        if old.root != new.root {
            // Each folder has a quota of its own.
            return Err(ErrorCode::CrossDevice.into());
        }
        match (old.object, new.object) {
            (Object::Host, Object::Host) => {
                self.check_name(&path)?;
                self.check_name(&new_path)?;
                let mut files = self.host_files();
                files
                    .rename_at(descriptor, path, new_descriptor, new_path)
                    .await
            }
            (Object::Scratch(old, _), Object::Scratch(new, _)) => {
                self.scratch(|scratch| scratch.rename((old, &path), (new, &new_path)))
            }
            (Object::Host | Object::Scratch(..) | Object::Denied, _) => {
                Err(ErrorCode::CrossDevice.into())
            }
        }
    }

    /// No links are made: what a symbolic link leads to may change after it was looked at.
    async fn symlink_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        check_path(&target)?;
        let root = self.object_at(&descriptor, &path)?.root;
        self.check_writable(root)?;
        Err(ErrorCode::NotPermitted.into())
    }

    async fn unlink_file_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        self.check_writable(root)?;
        match object {
            Object::Host => {
                self.check_name(&path)?;
                self.host_files().unlink_file_at(descriptor, path).await
            }
            Object::Scratch(node, _) => self.scratch(|scratch| scratch.remove_file(node, &path)),
            Object::Denied => Err(ErrorCode::Access.into()),
        }
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.files.meter.lock().charge(CALL_FUEL);
        let object = |it: &Resource<Descriptor>| self.files.open.get(&it.rep()).copied();
        match (object(&one), object(&other)) {
            (Some(a), Some(b)) => match (a.object, b.object) {
                (Object::Host, Object::Host) => self.host_files().is_same_object(one, other).await,
                (Object::Scratch(a, _), Object::Scratch(b, _)) => Ok(a == b),
                (Object::Denied, Object::Denied) => Ok(a.root == b.root),
                (Object::Host | Object::Scratch(..) | Object::Denied, _) => Ok(false),
            },
            _ => Ok(false),
        }
    }

    async fn metadata_hash(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<MetadataHashValue> {
        let Opened { root, object } = self.object(&descriptor)?;
        match object {
            Object::Host => self.host_files().metadata_hash(descriptor).await,
            Object::Scratch(node, _) => Ok(Scratch::hash(node)),
            Object::Denied => Err(self.deny_folder(root).into()),
        }
    }

    async fn metadata_hash_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let Opened { root, object } = self.object_at(&descriptor, &path)?;
        match object {
            Object::Host => {
                let mut files = self.host_files();
                files.metadata_hash_at(descriptor, follow, path).await
            }
            Object::Scratch(node, _) => {
                self.scratch(|scratch| Ok(Scratch::hash(scratch.at(node, &path)?)))
            }
            Object::Denied => Err(self.deny_folder(root).into()),
        }
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        let rep = descriptor.rep();
        self.files.handles.remove(&rep);
        match self.files.open.remove(&rep).map(|opened| opened.object) {
            Some(Object::Scratch(node, _)) => {
                let mut shared = self.files.meter.lock();
                if let Some(scratch) = &mut shared.scratch {
                    scratch.close(node);
                }
                drop(shared);
                self.table.delete(Resource::<Placeholder>::new_own(rep))?;
                Ok(())
            }
            Some(Object::Denied) => {
                self.table.delete(Resource::<Placeholder>::new_own(rep))?;
                Ok(())
            }
            Some(Object::Host) | None => HostDescriptor::drop(&mut self.host_files(), descriptor),
        }
    }
}

impl HostDirectoryEntryStream for State {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<ReaddirIterator>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.files.meter.lock().count_call(0);
        let listing = Resource::<Listing>::new_borrow(stream.rep());
        if let Ok(listing) = self.table.get_mut(&listing) {
            return Ok(listing.0.next());
        }
        self.host_files().read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<ReaddirIterator>) -> wasmtime::Result<()> {
        self.files.listings = self.files.listings.saturating_sub(1);
        let listing = Resource::<Listing>::new_borrow(stream.rep());
        if self.table.get(&listing).is_ok() {
            let listing = Resource::<Listing>::new_own(stream.rep());
            self.table.delete(listing)?;
            return Ok(());
        }
        HostDirectoryEntryStream::drop(&mut self.host_files(), stream)
    }
}
