//! Streams of files: of the scratch folder, and of host folders, where wasmtime's own are counted and held to a quota.

use std::fs;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::scratch::{At, NodeId};
use super::{Handle, IO_BYTES_MAX, Meter};

/// Reads a file of the scratch folder.
pub(super) struct ScratchInput {
    pub(super) meter: Meter,
    pub(super) node: NodeId,
    pub(super) offset: u64,
}

#[async_trait]
impl Pollable for ScratchInput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for ScratchInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let size = size.min(IO_BYTES_MAX);
        let mut shared = self.meter.lock();
        let (bytes, is_at_end) = shared
            .scratch(|scratch| scratch.read(self.node, size, self.offset))
            .map_err(failed)?;
        shared.count_read(bytes.len());
        if is_at_end {
            return Err(StreamError::Closed);
        }
        self.offset = self.offset.saturating_add(as_u64(bytes.len()));
        Ok(bytes.into())
    }
}

/// Writes a file of the scratch folder.
pub(super) struct ScratchOutput {
    pub(super) meter: Meter,
    pub(super) node: NodeId,
    pub(super) at: At,
}

#[async_trait]
impl Pollable for ScratchOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for ScratchOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut shared = self.meter.lock();
        shared.count_call(bytes.len());
        let end = shared
            .write_scratch(self.node, &bytes, self.at)
            .map_err(failed)?;
        shared.count_written(bytes.len());
        if let At::Offset(offset) = &mut self.at {
            *offset = end;
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(IO_BYTES_MAX)
    }
}

/// Reads a file of a host folder.
pub(super) struct HostInput {
    pub(super) meter: Meter,
    pub(super) inner: DynInputStream,
    pub(super) _handle: Handle,
}

#[async_trait]
impl Pollable for HostInput {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl InputStream for HostInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.inner.read(size);
        self.meter
            .lock()
            .count_read(read.as_ref().map_or(0, Bytes::len));
        read
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.inner.blocking_read(size).await;
        self.meter
            .lock()
            .count_read(read.as_ref().map_or(0, Bytes::len));
        read
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// Writes a file of a host folder.
pub(super) struct HostOutput {
    pub(super) meter: Meter,
    pub(super) inner: DynOutputStream,
    pub(super) file: Arc<fs::File>,
    /// The folder whose quota it takes from.
    pub(super) root: usize,
    pub(super) at: At,
    pub(super) _handle: Handle,
}

impl HostOutput {
    /// Counts a write, and takes from the quota what the file will grow by.
    fn admit(&mut self, count: usize) -> StreamResult<()> {
        let mut shared = self.meter.lock();
        shared.count_call(count);
        let size = self
            .file
            .metadata()
            .map_err(|error| StreamError::LastOperationFailed(error.into()))?
            .len();
        let end = end_of(self.at, size, count).map_err(failed)?;
        shared
            .take_bytes(self.root, end.saturating_sub(size))
            .map_err(failed)?;
        shared.count_written(count);
        if let At::Offset(offset) = &mut self.at {
            *offset = end;
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for HostOutput {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for HostOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.admit(bytes.len())?;
        self.inner.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        // What was written before must be in the file, for its size says how much it grows.
        self.inner.ready().await;
        self.admit(bytes.len())?;
        self.inner.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.inner.check_write()?.min(IO_BYTES_MAX))
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// Where a write ends in a file of this size.
pub(super) fn end_of(at: At, size: u64, count: usize) -> Result<u64, ErrorCode> {
    let begin = match at {
        At::Offset(offset) => offset,
        At::End => size,
    };
    begin
        .checked_add(as_u64(count))
        .ok_or(ErrorCode::FileTooLarge)
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A failed operation of a stream. Guests are told of it as they are of the system's errors.
fn failed(code: ErrorCode) -> StreamError {
    use rustix::io::Errno;
    let errno = match code {
        ErrorCode::InsufficientSpace => Errno::NOSPC,
        ErrorCode::InsufficientMemory => Errno::NOMEM,
        ErrorCode::FileTooLarge => Errno::FBIG,
        ErrorCode::IsDirectory => Errno::ISDIR,
        ErrorCode::BadDescriptor => Errno::BADF,
        _ => Errno::IO,
    };
    StreamError::LastOperationFailed(io::Error::from(errno).into())
}
