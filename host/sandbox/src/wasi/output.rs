//! Standard output and error of a guest: kept up to a limit, counted beyond it, paid for in fuel.
//!
//! wasmtime-wasi's own streams either end the guest when they are full, or hand every write to a task whose
//! queue grows with writes of no bytes. Here a write is a copy under a lock and nothing else.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::on_demand::{OnDemand, lock};
use crate::outcome::Captured;

/// What a guest may hand over in one write. WASI lets it ask for a write of so many zeroes, which the host
/// then allocates.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// Fuel for one write, however small, about what it costs the host. Each byte costs one more.
const WRITE_FUEL: u64 = 500;

/// What a guest printed so far.
pub(crate) struct Output {
    /// Bytes that may be kept, of both streams together.
    bytes_max: u64,
    shared: OnDemand<Shared>,
}

struct Shared {
    /// Bytes that may still be kept.
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
        Output {
            bytes_max,
            shared: OnDemand::new(),
        }
    }

    pub(crate) fn stdout(&self) -> GuestStream {
        self.stream(Channel::Stdout)
    }

    pub(crate) fn stderr(&self) -> GuestStream {
        self.stream(Channel::Stderr)
    }

    fn stream(&self, channel: Channel) -> GuestStream {
        let shared = self.shared.shared(|| Shared::new(self.bytes_max));
        GuestStream {
            shared: Arc::clone(shared),
            channel,
        }
    }

    /// What was printed: standard output, then standard error.
    pub(crate) fn captured(&self) -> [Captured; 2] {
        let Some(shared) = self.shared.if_made() else {
            return Default::default();
        };
        shared
            .streams
            .each_ref()
            .map(|kept| Captured::new(&kept.bytes, kept.bytes_total))
    }

    /// Forgets what was printed, and keeps at most `bytes_max` bytes from now on.
    pub(crate) fn begin_again(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
        if let Some(mut shared) = self.shared.if_made() {
            *shared = Shared {
                fuel_owed: shared.fuel_owed,
                ..Shared::new(bytes_max)
            };
        }
    }

    /// Takes what was written to standard output; none where it was not all kept.
    pub(crate) fn take_stdout(&self) -> Option<Vec<u8>> {
        let Some(mut shared) = self.shared.if_made() else {
            return Some(Vec::new());
        };
        let stream = &mut shared.streams[Channel::Stdout as usize];
        let length = u64::try_from(stream.bytes.len()).unwrap_or(u64::MAX);
        if length < stream.bytes_total {
            return None;
        }
        Some(std::mem::take(stream).bytes)
    }

    /// Takes the fuel that the writes so far cost.
    pub(crate) fn take_fuel_owed(&self) -> u64 {
        let shared = self.shared.if_made();
        shared.map_or(0, |mut shared| std::mem::take(&mut shared.fuel_owed))
    }
}

impl Shared {
    fn new(bytes_max: u64) -> Self {
        Shared {
            room: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            streams: Default::default(),
            fuel_owed: 0,
        }
    }

    fn write(&mut self, channel: Channel, bytes: &[u8]) {
        let kept = bytes.len().min(self.room);
        self.room -= kept;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.fuel_owed = self
            .fuel_owed
            .saturating_add(WRITE_FUEL)
            .saturating_add(length);
        let stream = &mut self.streams[channel as usize];
        stream.bytes.extend_from_slice(&bytes[..kept]);
        stream.bytes_total = stream.bytes_total.saturating_add(length);
    }
}

/// One of the two streams, as the guest holds it.
#[derive(Clone)]
pub(crate) struct GuestStream {
    shared: Arc<Mutex<Shared>>,
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
        lock(&self.shared).write(self.channel, &bytes);
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
        lock(&self.shared).write(self.channel, bytes);
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
        let mut output = Output::new(4);
        assert_eq!(output.captured(), <[Captured; 2]>::default());
        let write = |output: &Output, channel, bytes| {
            lock(&output.stream(channel).shared).write(channel, bytes);
        };
        write(&output, Channel::Stdout, b"abc");
        write(&output, Channel::Stderr, b"defg");
        write(&output, Channel::Stdout, b"");
        let [stdout, stderr] = output.captured();
        assert_eq!((stdout.text.as_str(), stdout.bytes_total), ("abc", 3));
        assert_eq!((stderr.bytes_total, stderr.bytes_dropped), (4, 3));
        assert_eq!(output.take_fuel_owed(), 3 * WRITE_FUEL + 7);
        assert_eq!(output.take_fuel_owed(), 0);
        output.begin_again(2);
        write(&output, Channel::Stderr, b"xyz");
        let [stdout, stderr] = output.captured();
        assert_eq!((stdout.text.as_str(), stdout.bytes_total), ("", 0));
        assert_eq!((stderr.bytes_total, stderr.bytes_dropped), (3, 1));
    }
}
