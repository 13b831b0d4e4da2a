//! The body of a request while the guest writes it: kept here whole, and sent when the guest has finished it. A write
//! never waits, so that a guest may write all of a body before it sends the request.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::capability::HostBytes;
use crate::http_exchange::HTTP_REQUEST_BYTES_MAX;
use crate::limits::{Lent, MemoryLimiter};
use crate::on_demand::lock;

/// What a guest may hand over in one write. WASI lets it ask for a write of so many zeroes, which the host then
/// allocates.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// Fuel for one write, however small, about what it costs the host. Each byte costs one more.
const WRITE_FUEL: u64 = 500;

/// What all bodies of a call share.
#[derive(Debug)]
pub(super) struct Written {
    /// What passes between the guest and the host.
    pub(super) host_bytes: HostBytes,
    /// Fuel that the writes cost and that was not taken yet.
    pub(super) fuel_owed: u64,
}

/// A body. Clones are the same body.
#[derive(Clone)]
pub(super) struct Body {
    shared: Arc<Mutex<Shared>>,
    written: Arc<Mutex<Written>>,
}

struct Shared {
    bytes: Vec<u8>,
    progress: Progress,
    /// The memory that it may take, until it has ended.
    lent: Option<Lent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    Finished,
    /// Given up by the guest.
    Aborted,
    TooLarge,
}

/// How far a body is.
pub(super) enum Taken {
    /// The guest still writes it.
    Open,
    /// Whole.
    Whole(Bytes),
    /// It will never be: why not.
    Never(&'static str),
}

impl Body {
    pub(super) fn new(written: &Arc<Mutex<Written>>, lent: Lent) -> Self {
        let shared = Shared {
            bytes: Vec::new(),
            progress: Progress::Open,
            lent: Some(lent),
        };
        Body {
            shared: Arc::new(Mutex::new(shared)),
            written: Arc::clone(written),
        }
    }

    /// The stream by which the guest writes it.
    pub(super) fn stream(&self) -> Box<dyn OutputStream> {
        Box::new(BodyStream(self.clone()))
    }

    /// No more is written.
    pub(super) fn finish(&self, memory: &MemoryLimiter) {
        self.end(Progress::Finished, memory);
    }

    /// The guest dropped it before it was finished.
    pub(super) fn abort(&self, memory: &MemoryLimiter) {
        self.end(Progress::Aborted, memory);
    }

    fn end(&self, progress: Progress, memory: &MemoryLimiter) {
        let mut shared = lock(&self.shared);
        if shared.progress == Progress::Open {
            shared.progress = progress;
        }
        if shared.progress != Progress::Finished {
            shared.bytes = Vec::new();
        }
        if let Some(lent) = shared.lent.take() {
            memory.settle(lent, length(shared.bytes.len()));
        }
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.shared).progress == Progress::Open
    }

    /// Takes what was written, once it is whole.
    pub(super) fn take(&self) -> Taken {
        let mut shared = lock(&self.shared);
        match shared.progress {
            Progress::Open => Taken::Open,
            Progress::Finished => Taken::Whole(Bytes::from(std::mem::take(&mut shared.bytes))),
            Progress::Aborted => Taken::Never("its body was dropped before it was finished"),
            Progress::TooLarge => Taken::Never("its body is larger than a request's may be"),
        }
    }
}

pub(super) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

struct BodyStream(Body);

#[async_trait]
impl Pollable for BodyStream {
    async fn ready(&mut self) {}
}

impl OutputStream for BodyStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let more = length(bytes.len());
        {
            let mut written = lock(&self.0.written);
            written.fuel_owed = written
                .fuel_owed
                .saturating_add(WRITE_FUEL)
                .saturating_add(more);
            if let Err(stop) = written.host_bytes.count(more) {
                return Err(StreamError::Trap(stop.into()));
            }
        }
        let mut shared = lock(&self.0.shared);
        if shared.progress != Progress::Open {
            return Err(StreamError::Closed);
        }
        if length(shared.bytes.len()).saturating_add(more) > HTTP_REQUEST_BYTES_MAX {
            shared.progress = Progress::TooLarge;
            shared.bytes = Vec::new();
            let message =
                format!("the body of a request has at most {HTTP_REQUEST_BYTES_MAX} bytes");
            return Err(StreamError::LastOperationFailed(wasmtime::Error::msg(
                message,
            )));
        }
        shared.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.0.is_open() {
            Ok(WRITE_BYTES_MAX)
        } else {
            Err(StreamError::Closed)
        }
    }
}
