//! Standard output and error of a guest: kept up to a limit, counted beyond it, paid for in fuel.
//!
//! wasmtime-wasi's own streams either end the guest when they are full, or hand every write to a task whose
//! queue grows with writes of no bytes. Here a write is a copy under a lock and nothing else.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::outcome::Captured;

/// What a guest may hand over in one write. WASI lets it ask for a write of so many zeroes, which the host
/// then allocates.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// Fuel for one write, however small, about what it costs the host. Each byte costs one more.
const WRITE_FUEL: u64 = 500;

/// What a guest printed so far.
#[derive(Clone)]
pub(crate) struct Output {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// Bytes that may still be kept, of both streams together.
    room: usize,
    streams: [Kept; 2],
    fuel_owed: u64,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    bytes_total: u64,
}

#[derive(Clone, Copy)]
enum Channel {
    Stdout = 0,
    Stderr = 1,
}

impl Output {
    /// Keeps at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let room = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let shared = Shared {
            room,
            streams: Default::default(),
            fuel_owed: 0,
        };
        Output {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    pub(crate) fn stdout(&self) -> GuestStream {
        GuestStream {
            output: self.clone(),
            channel: Channel::Stdout,
        }
    }

    pub(crate) fn stderr(&self) -> GuestStream {
        GuestStream {
            output: self.clone(),
            channel: Channel::Stderr,
        }
    }

    /// What was printed: standard output, then standard error.
    pub(crate) fn captured(&self) -> [Captured; 2] {
        let shared = self.lock();
        shared
            .streams
            .each_ref()
            .map(|kept| Captured::new(&kept.bytes, kept.bytes_total))
    }

    /// Forgets what was printed, and keeps at most `bytes_max` bytes from now on.
    pub(crate) fn begin_again(&self, bytes_max: u64) {
        let mut shared = self.lock();
        shared.room = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        shared.streams = Default::default();
    }

    /// Takes what was written to standard output; none where it was not all kept.
    pub(crate) fn take_stdout(&self) -> Option<Vec<u8>> {
        let mut shared = self.lock();
        let stream = &mut shared.streams[Channel::Stdout as usize];
        let length = u64::try_from(stream.bytes.len()).unwrap_or(u64::MAX);
        if length < stream.bytes_total {
            return None;
        }
        Some(std::mem::take(stream).bytes)
    }

    /// Takes the fuel that the writes so far cost.
    pub(crate) fn take_fuel_owed(&self) -> u64 {
        std::mem::take(&mut self.lock().fuel_owed)
    }

    fn write(&self, channel: Channel, bytes: &[u8]) {
        let mut shared = self.lock();
        let kept = bytes.len().min(shared.room);
        shared.room -= kept;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        shared.fuel_owed = shared
            .fuel_owed
            .saturating_add(WRITE_FUEL)
            .saturating_add(length);
        let stream = &mut shared.streams[channel as usize];
        stream.bytes.extend_from_slice(&bytes[..kept]);
        stream.bytes_total = stream.bytes_total.saturating_add(length);
    }

    /// A poisoned lock is no danger: nothing in here can panic half-way but an allocation.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the two streams, as the guest holds it.
#[derive(Clone)]
pub(crate) struct GuestStream {
    output: Output,
    channel: Channel,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.write(self.channel, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.output.write(self.channel, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_share_the_room_and_everything_is_counted() {
        let output = Output::new(4);
        output.write(Channel::Stdout, b"abc");
        output.write(Channel::Stderr, b"defg");
        output.write(Channel::Stdout, b"");
        let [stdout, stderr] = output.captured();
        assert_eq!((stdout.text.as_str(), stdout.bytes_total), ("abc", 3));
        assert_eq!((stderr.bytes_total, stderr.bytes_dropped), (4, 3));
        assert_eq!(output.take_fuel_owed(), 3 * WRITE_FUEL + 7);
        assert_eq!(output.take_fuel_owed(), 0);
        output.begin_again(2);
        output.write(Channel::Stderr, b"xyz");
        let [stdout, stderr] = output.captured();
        assert_eq!((stdout.text.as_str(), stdout.bytes_total), ("", 0));
        assert_eq!((stderr.bytes_total, stderr.bytes_dropped), (3, 1));
    }
}
