//! What is said to a worker: written at once where the socket has room, else by a thread, in the order in which it was said.
//! Nobody who says something waits.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::net::{SendFlags, send};

/// The way to a worker. Clones share it.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Shared>);

struct Shared {
    socket: UnixStream,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What could not be written at once. Each call has two messages here at most, so calls bound it.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    /// Whether the thread is writing one that is no longer among them.
    is_writing: bool,
    is_closed: bool,
}

impl Outgoing {
    /// A way through this socket; `write` must be called on a thread.
    pub(super) fn new(socket: UnixStream) -> Self {
        Outgoing(Arc::new(Shared {
            socket,
            queue: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Says something. Where the worker has ended it is lost, and who waits for an answer is told so by others.
    pub(super) fn say(&self, mut frame: Vec<u8>) {
        let mut queue = self.0.lock();
        if queue.is_closed {
            return;
        }
        if queue.frames.is_empty() && !queue.is_writing {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            // What an error means the thread finds out, which meets it too.
            let written = send(&self.0.socket, &frame, flags).unwrap_or(0);
            if written == frame.len() {
                return;
            }
            frame.drain(..written);
        }
        queue.frames.push_back(frame);
        self.0.changed.notify_one();
    }

    /// Says nothing more.
    pub(super) fn close(&self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_one();
        // Where it is closed already there is nothing to do.
        let _ = self.0.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Writes what could not be written at once, until it is closed or nobody reads.
    pub(super) fn write(&self) {
        while let Some(frame) = self.0.next() {
            let mut rest = frame.as_slice();
            while !rest.is_empty() {
                match send(&self.0.socket, rest, SendFlags::NOSIGNAL) {
                    Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return self.close(),
                }
            }
        }
    }
}

impl Shared {
    /// The next frame to write; none: it is closed.
    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        queue.is_writing = false;
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(frame) = queue.frames.pop_front() {
                queue.is_writing = true;
                return Some(frame);
            }
            let changed = self.changed.wait(queue);
            queue = changed.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A poisoned lock is no danger: the queue is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
