//! The scratch folder: files in the host's memory that live as long as one call.
//!
//! In memory, and not in a folder of the machine, for three reasons: nothing is left after a crash, no path of it leads
//! to anything of the host, and all of it follows from what the guest did: a call that is repeated sees the same
//! times, numbers and order. There are no links in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, MetadataHashValue,
    NewTimestamp, OpenFlags,
};

use crate::wasi::clock::GuestClock;

/// What a file or folder costs the quota beside its content and name, about what it costs the host.
const ENTRY_BYTES: u64 = 256;
/// The longest name of a file, in bytes, as on the systems that programs are written for.
const NAME_BYTES_MAX: usize = 255;
const NANOSECONDS: u32 = 1_000_000_000;

/// A file or folder, as long as it has a name or is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

type Result<T> = std::result::Result<T, ErrorCode>;

/// All files of one call.
pub(super) struct Scratch {
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
    bytes: u64,
    bytes_peak: u64,
    bytes_max: u64,
    entries_max: usize,
    clock: Arc<GuestClock>,
}

struct Node {
    content: Content,
    name_bytes: u64,
    accessed: Datetime,
    modified: Datetime,
    changed: Datetime,
    has_name: bool,
    /// Descriptors that the guest holds.
    open: u32,
}

enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<String, NodeId>),
}

/// Where a path leads.
enum Place {
    /// To a name in a folder, whether there is anything or not.
    Name {
        folder: NodeId,
        name: String,
        is_folder: bool,
    },
    /// To a folder that it names by `.` or `..`.
    Folder(NodeId),
}

/// Where in a file something is written.
#[derive(Clone, Copy)]
pub(super) enum At {
    Offset(u64),
    End,
}

impl Scratch {
    pub(super) const ROOT: NodeId = NodeId(0);

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn new(bytes_max: u64, entries_max: u32, clock: Arc<GuestClock>) -> Self {
        let now = datetime(clock.now());
        let root = Node::new(Content::Folder(BTreeMap::new()), 0, now);
        Scratch {
            nodes: BTreeMap::from([(Self::ROOT, root)]),
            next: 1,
            bytes: 0,
            bytes_peak: 0,
            bytes_max,
            entries_max: usize::try_from(entries_max).unwrap_or(usize::MAX),
            clock,
        }
    }

    /// The most that it held at one time.
    pub(super) fn bytes_peak(&self) -> u64 {
        self.bytes_peak
    }

    pub(super) fn is_folder(&self, node: NodeId) -> Result<bool> {
        Ok(matches!(self.node(node)?.content, Content::Folder(_)))
    }

    /// Opens what a path leads to, making a file where that is asked. It stays until [`Self::close`].
    pub(super) fn open(
        &mut self,
        folder: NodeId,
        path: &str,
        (how, flags): (OpenFlags, DescriptorFlags),
    ) -> Result<NodeId> {
        let (creates, excludes) = (
            how.contains(OpenFlags::CREATE),
            how.contains(OpenFlags::EXCLUSIVE),
        );
        let truncates = how.contains(OpenFlags::TRUNCATE);
        let wants_folder = how.contains(OpenFlags::DIRECTORY);
        if wants_folder && (creates || excludes || truncates) {
            return Err(ErrorCode::Invalid);
        }
        let place = self.locate(folder, path)?;
        let writes = creates || truncates || flags.contains(DescriptorFlags::WRITE);
        let id = match (self.find(&place)?, place) {
            (Some(_), _) if creates && excludes => return Err(ErrorCode::Exist),
            (Some(id), place) => {
                let is_folder = self.is_folder(id)?;
                if !is_folder && (wants_folder || place.is_folder()) {
                    return Err(ErrorCode::NotDirectory);
                }
                if is_folder && writes {
                    return Err(ErrorCode::IsDirectory);
                }
                if truncates {
                    self.set_size(id, 0)?;
                }
                id
            }
            (
                None,
                Place::Name {
                    folder,
                    name,
                    is_folder,
                },
            ) if creates => {
                if is_folder {
                    return Err(ErrorCode::IsDirectory);
                }
                self.add(folder, name, Content::File(Vec::new()))?
            }
            (None, _) => return Err(ErrorCode::NoEntry),
        };
        let node = self.node_mut(id)?;
        node.open = node.open.saturating_add(1);
        Ok(id)
    }

    /// A descriptor is dropped.
    pub(super) fn close(&mut self, id: NodeId) {
        if let Ok(node) = self.node_mut(id) {
            node.open = node.open.saturating_sub(1);
        }
        self.forget_unused(id);
    }

    pub(super) fn create_folder(&mut self, folder: NodeId, path: &str) -> Result<()> {
        let place = self.locate(folder, path)?;
        match (self.find(&place)?, place) {
            (None, Place::Name { folder, name, .. }) => {
                self.add(folder, name, Content::Folder(BTreeMap::new()))?;
                Ok(())
            }
            _ => Err(ErrorCode::Exist),
        }
    }

    pub(super) fn remove_folder(&mut self, folder: NodeId, path: &str) -> Result<()> {
        let place = self.locate(folder, path)?;
        let id = self.find(&place)?.ok_or(ErrorCode::NoEntry)?;
        match &self.node(id)?.content {
            Content::File(_) => return Err(ErrorCode::NotDirectory),
            Content::Folder(entries) if !entries.is_empty() => return Err(ErrorCode::NotEmpty),
            Content::Folder(_) => {}
        }
        match place {
            Place::Name { folder, name, .. } => self.remove(folder, &name),
            Place::Folder(_) => Err(ErrorCode::Invalid),
        }
    }

    pub(super) fn remove_file(&mut self, folder: NodeId, path: &str) -> Result<()> {
        let place = self.locate(folder, path)?;
        let id = self.find(&place)?.ok_or(ErrorCode::NoEntry)?;
        if self.is_folder(id)? {
            return Err(ErrorCode::IsDirectory);
        }
        match place {
            Place::Name {
                folder,
                name,
                is_folder: false,
            } => self.remove(folder, &name),
            Place::Name { .. } | Place::Folder(_) => Err(ErrorCode::NotDirectory),
        }
    }

    pub(super) fn rename(
        &mut self,
        (folder, path): (NodeId, &str),
        (new_folder, new_path): (NodeId, &str),
    ) -> Result<()> {
        let old = self.locate(folder, path)?;
        let new = self.locate(new_folder, new_path)?;
        let id = self.find(&old)?.ok_or(ErrorCode::NoEntry)?;
        let replaced = self.find(&new)?;
        let wants_folder = old.is_folder() || new.is_folder();
        let (
            Place::Name { folder, name, .. },
            Place::Name {
                folder: to,
                name: new_name,
                ..
            },
        ) = (old, new)
        else {
            return Err(ErrorCode::Busy);
        };
        self.check_has_name(to)?;
        let is_folder = self.is_folder(id)?;
        if !is_folder && wants_folder {
            return Err(ErrorCode::NotDirectory);
        }
        if replaced == Some(id) {
            return Ok(());
        }
        if is_folder && self.holds(id, to)? {
            return Err(ErrorCode::Invalid);
        }
        if let Some(replaced) = replaced {
            match (&self.node(replaced)?.content, is_folder) {
                (Content::Folder(_), false) => return Err(ErrorCode::IsDirectory),
                (Content::File(_), true) => return Err(ErrorCode::NotDirectory),
                (Content::Folder(entries), true) if !entries.is_empty() => {
                    return Err(ErrorCode::NotEmpty);
                }
                (Content::Folder(_) | Content::File(_), _) => {}
            }
        }
        let more = length(&new_name).saturating_sub(self.node(id)?.name_bytes);
        self.take(more)?;
        if replaced.is_some() {
            self.remove(to, &new_name)?;
        }
        self.entries(folder)?.remove(&name);
        let fewer = self.node(id)?.name_bytes.saturating_sub(length(&new_name));
        self.bytes = self.bytes.saturating_sub(fewer);
        self.node_mut(id)?.name_bytes = length(&new_name);
        self.entries(to)?.insert(new_name, id);
        self.touch(folder);
        self.touch(to);
        Ok(())
    }

    /// Bytes of a file, and whether its end is reached.
    pub(super) fn read(
        &mut self,
        id: NodeId,
        count: usize,
        offset: u64,
    ) -> Result<(Vec<u8>, bool)> {
        let now = self.now();
        let node = self.node_mut(id)?;
        let Content::File(bytes) = &node.content else {
            return Err(ErrorCode::IsDirectory);
        };
        let begin = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = begin.saturating_add(count).min(bytes.len());
        let read = bytes[begin..end].to_vec();
        let is_at_end = count > 0 && read.is_empty();
        node.accessed = now;
        Ok((read, is_at_end))
    }

    /// Writes all bytes, or none where they do not fit. Returns where they end.
    pub(super) fn write(&mut self, id: NodeId, bytes: &[u8], at: At) -> Result<u64> {
        let size = self.size(id)?;
        let begin = match at {
            At::Offset(offset) => offset,
            At::End => size,
        };
        let end = begin
            .checked_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            .ok_or(ErrorCode::FileTooLarge)?;
        if bytes.is_empty() {
            return Ok(begin);
        }
        self.grow(id, end)?;
        let Content::File(content) = &mut self.node_mut(id)?.content else {
            return Err(ErrorCode::IsDirectory);
        };
        let begin = usize::try_from(begin).map_err(|_too_large| ErrorCode::FileTooLarge)?;
        content[begin..begin + bytes.len()].copy_from_slice(bytes);
        self.touch(id);
        Ok(end)
    }

    pub(super) fn set_size(&mut self, id: NodeId, size: u64) -> Result<()> {
        let before = self.size(id)?;
        self.grow(id, size)?;
        if size < before {
            let Content::File(content) = &mut self.node_mut(id)?.content else {
                return Err(ErrorCode::IsDirectory);
            };
            content.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            content.shrink_to_fit();
            self.bytes = self.bytes.saturating_sub(before - size);
        }
        self.touch(id);
        Ok(())
    }

    /// The size of a file.
    pub(super) fn size(&self, id: NodeId) -> Result<u64> {
        match &self.node(id)?.content {
            Content::File(bytes) => Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Content::Folder(_) => Err(ErrorCode::IsDirectory),
        }
    }

    pub(super) fn stat(&self, id: NodeId) -> Result<DescriptorStat> {
        let node = self.node(id)?;
        Ok(DescriptorStat {
            type_: node.content.kind(),
            link_count: u64::from(node.has_name || id == Self::ROOT),
            size: self.size(id).unwrap_or(0),
            data_access_timestamp: Some(node.accessed),
            data_modification_timestamp: Some(node.modified),
            status_change_timestamp: Some(node.changed),
        })
    }

    /// What a path leads to.
    pub(super) fn at(&self, folder: NodeId, path: &str) -> Result<NodeId> {
        let place = self.locate(folder, path)?;
        let id = self.find(&place)?.ok_or(ErrorCode::NoEntry)?;
        if place.is_folder() && !self.is_folder(id)? {
            return Err(ErrorCode::NotDirectory);
        }
        Ok(id)
    }

    pub(super) fn set_times(
        &mut self,
        id: NodeId,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        let now = self.now();
        let time = |new: NewTimestamp, before: Datetime| match new {
            NewTimestamp::NoChange => Ok(before),
            NewTimestamp::Now => Ok(now),
            NewTimestamp::Timestamp(time) if time.nanoseconds >= NANOSECONDS => {
                Err(ErrorCode::Invalid)
            }
            NewTimestamp::Timestamp(time) => Ok(time),
        };
        let node = self.node_mut(id)?;
        let accessed = time(accessed, node.accessed)?;
        let modified = time(modified, node.modified)?;
        (node.accessed, node.modified, node.changed) = (accessed, modified, now);
        Ok(())
    }

    /// What is in a folder, in the order of the names.
    pub(super) fn list(&self, id: NodeId) -> Result<Vec<DirectoryEntry>> {
        let Content::Folder(entries) = &self.node(id)?.content else {
            return Err(ErrorCode::NotDirectory);
        };
        entries
            .iter()
            .map(|(name, id)| {
                Ok(DirectoryEntry {
                    type_: self.node(*id)?.content.kind(),
                    name: name.clone(),
                })
            })
            .collect()
    }

    /// A number of its own for each file.
    pub(super) fn hash(id: NodeId) -> MetadataHashValue {
        MetadataHashValue {
            lower: id.0,
            upper: u64::MAX,
        }
    }

    fn locate(&self, folder: NodeId, path: &str) -> Result<Place> {
        if path.is_empty() {
            return Err(ErrorCode::NoEntry);
        }
        if path.starts_with('/') {
            return Err(ErrorCode::NotPermitted);
        }
        let mut folders = vec![folder];
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            let folder = *folders.last().ok_or(ErrorCode::NotPermitted)?;
            // Also `.` and `..` are names in a folder, and in no file.
            let entries = match &self.node(folder)?.content {
                Content::Folder(entries) => entries,
                Content::File(_) => return Err(ErrorCode::NotDirectory),
            };
            match name {
                "." => {}
                ".." => {
                    folders.pop();
                    if folders.is_empty() {
                        return Err(ErrorCode::NotPermitted);
                    }
                }
                name if name.len() > NAME_BYTES_MAX => return Err(ErrorCode::NameTooLong),
                name if names.peek().is_none() => {
                    return Ok(Place::Name {
                        folder,
                        name: name.to_owned(),
                        is_folder: path.ends_with('/'),
                    });
                }
                name => folders.push(*entries.get(name).ok_or(ErrorCode::NoEntry)?),
            }
        }
        folders
            .pop()
            .map(Place::Folder)
            .ok_or(ErrorCode::NotPermitted)
    }

    fn find(&self, place: &Place) -> Result<Option<NodeId>> {
        match place {
            Place::Folder(id) => Ok(Some(*id)),
            Place::Name { folder, name, .. } => match &self.node(*folder)?.content {
                Content::Folder(entries) => Ok(entries.get(name).copied()),
                Content::File(_) => Err(ErrorCode::NotDirectory),
            },
        }
    }

    /// Whether a folder is, or is around, another one.
    fn holds(&self, outer: NodeId, inner: NodeId) -> Result<bool> {
        let mut left = vec![outer];
        while let Some(id) = left.pop() {
            if id == inner {
                return Ok(true);
            }
            if let Content::Folder(entries) = &self.node(id)?.content {
                left.extend(entries.values());
            }
        }
        Ok(false)
    }

    fn add(&mut self, folder: NodeId, name: String, content: Content) -> Result<NodeId> {
        self.check_has_name(folder)?;
        // The folder itself is no entry.
        if self.nodes.len() > self.entries_max {
            return Err(ErrorCode::InsufficientSpace);
        }
        let name_bytes = length(&name);
        self.take(ENTRY_BYTES.saturating_add(name_bytes))?;
        let id = NodeId(self.next);
        self.next += 1;
        let now = self.now();
        let mut node = Node::new(content, name_bytes, now);
        node.has_name = true;
        self.nodes.insert(id, node);
        self.entries(folder)?.insert(name, id);
        self.touch(folder);
        Ok(id)
    }

    /// A folder that was removed takes nothing more.
    fn check_has_name(&self, folder: NodeId) -> Result<()> {
        if !self.node(folder)?.has_name && folder != Self::ROOT {
            return Err(ErrorCode::NoEntry);
        }
        Ok(())
    }

    fn remove(&mut self, folder: NodeId, name: &str) -> Result<()> {
        let id = self
            .entries(folder)?
            .remove(name)
            .ok_or(ErrorCode::NoEntry)?;
        self.node_mut(id)?.has_name = false;
        self.touch(folder);
        self.forget_unused(id);
        Ok(())
    }

    fn forget_unused(&mut self, id: NodeId) {
        let is_unused = self
            .node(id)
            .is_ok_and(|node| !node.has_name && node.open == 0 && id != Self::ROOT);
        if is_unused && let Some(node) = self.nodes.remove(&id) {
            let content = match &node.content {
                Content::File(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                Content::Folder(_) => 0,
            };
            let bytes = ENTRY_BYTES
                .saturating_add(node.name_bytes)
                .saturating_add(content);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// Makes a file at least so large; what is new in it is zero, and counts whether it was written or not.
    fn grow(&mut self, id: NodeId, size: u64) -> Result<()> {
        let more = size.saturating_sub(self.size(id)?);
        if more == 0 {
            return Ok(());
        }
        if self
            .bytes
            .checked_add(more)
            .is_none_or(|bytes| bytes > self.bytes_max)
        {
            return Err(ErrorCode::InsufficientSpace);
        }
        let size = usize::try_from(size).map_err(|_too_large| ErrorCode::FileTooLarge)?;
        let Content::File(content) = &mut self.node_mut(id)?.content else {
            return Err(ErrorCode::IsDirectory);
        };
        content
            .try_reserve(size - content.len())
            .map_err(|_no_memory| ErrorCode::InsufficientMemory)?;
        content.resize(size, 0);
        self.take(more)
    }

    fn take(&mut self, more: u64) -> Result<()> {
        match self.bytes.checked_add(more) {
            Some(bytes) if bytes <= self.bytes_max => {
                self.bytes = bytes;
                self.bytes_peak = self.bytes_peak.max(bytes);
                Ok(())
            }
            _ => Err(ErrorCode::InsufficientSpace),
        }
    }

    fn entries(&mut self, folder: NodeId) -> Result<&mut BTreeMap<String, NodeId>> {
        match &mut self.node_mut(folder)?.content {
            Content::Folder(entries) => Ok(entries),
            Content::File(_) => Err(ErrorCode::NotDirectory),
        }
    }

    fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(&id).ok_or(ErrorCode::BadDescriptor)
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or(ErrorCode::BadDescriptor)
    }

    fn touch(&mut self, id: NodeId) {
        let now = self.now();
        if let Ok(node) = self.node_mut(id) {
            (node.modified, node.changed) = (now, now);
        }
    }

    fn now(&self) -> Datetime {
        datetime(self.clock.now())
    }
}

impl Node {
    fn new(content: Content, name_bytes: u64, now: Datetime) -> Self {
        Node {
            content,
            name_bytes,
            accessed: now,
            modified: now,
            changed: now,
            has_name: false,
            open: 0,
        }
    }
}

impl Content {
    fn kind(&self) -> DescriptorType {
        match self {
            Content::File(_) => DescriptorType::RegularFile,
            Content::Folder(_) => DescriptorType::Directory,
        }
    }
}

impl Place {
    /// Whether only a folder may be there.
    fn is_folder(&self) -> bool {
        match self {
            Place::Name { is_folder, .. } => *is_folder,
            Place::Folder(_) => true,
        }
    }
}

fn length(name: &str) -> u64 {
    u64::try_from(name.len()).unwrap_or(u64::MAX)
}

fn datetime(since_epoch: Duration) -> Datetime {
    Datetime {
        seconds: since_epoch.as_secs(),
        nanoseconds: since_epoch.subsec_nanos(),
    }
}
