//! What this process and its workers say to each other over a socket: frames of a length, four bytes, the lowest first, and
//! a message in postcard's format. Both ends are the same build of the same program, so the format has no versions.
//!
//! A worker runs strangers' code: whoever reads its messages holds them for lies that are well-formed at best.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::call::{Invocation, Program};
use crate::capability::Grants;
use crate::component::ComponentDigest;
use crate::function::Function;
use crate::host_calls::{Error, HostCalls, LogLine, MemoryAnswer, MemoryRequest, ToolAnswer};
use crate::http_exchange::{HttpFault, HttpRequest, HttpResponse};
use crate::limits::Limits;
use crate::linked::Role;
use crate::machine::kept::Then;
use crate::outcome::Report;
use crate::{budget, human, llm, search, tools};

/// Bytes of one message. Protects who reads it; no honest message is nearly as long: what guests hand over and what is
/// answered has 16 MiB at most.
pub(crate) const FRAME_BYTES_MAX: usize = 256 << 20;
/// Bytes in which a frame says how long it is.
pub(crate) const HEAD_BYTES: usize = 4;

/// The number of a call, among all of one worker.
pub(crate) type CallNumber = u64;

/// What a worker is told first, and its name for what it may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Calls at once.
    pub(crate) calls_max: u32,
    /// The folder of compiled components.
    pub(crate) cache_dir: PathBuf,
    /// Folders that guests may read.
    pub(crate) read: Vec<PathBuf>,
    /// Folders that guests may write too.
    pub(crate) write: Vec<PathBuf>,
}

/// What is said to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// The first message, and only that.
    Begin(Orders),
    /// A component that calls will name, as a file of native code.
    Load {
        component: ComponentDigest,
        role: Role,
        path: PathBuf,
    },
    /// No more calls will name it.
    Forget(ComponentDigest),
    /// Makes a call.
    Call(Box<Order>),
    /// The answer to what a call asked.
    Answer {
        call: CallNumber,
        answer: Box<Answer>,
        beside: Beside,
    },
    /// The next program of a session, after the report of the one before it.
    Program {
        call: CallNumber,
        program: Box<Program>,
        started_at: SystemTime,
    },
    /// Ends a call.
    Cancel(CallNumber),
    /// Asks whether the worker lives.
    Ping,
}

/// What [`HostCalls`] says when it has answered, beside the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// [`HostCalls::time`]
    pub(crate) time: Option<SystemTime>,
    /// [`HostCalls::recorded`]
    pub(crate) recorded: u64,
}

impl Beside {
    /// What it says now.
    pub(crate) fn of(host: &dyn HostCalls) -> Self {
        Beside {
            time: host.time(),
            recorded: host.recorded(),
        }
    }
}

/// A call to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) call: CallNumber,
    pub(crate) component: ComponentDigest,
    pub(crate) task: Task,
    pub(crate) agent: String,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) seed: [u8; 32],
    pub(crate) started_at: SystemTime,
    /// Memory that a single call can have, and what it has already, in bytes.
    pub(crate) memory_bytes: (u64, u64),
}

/// What is called, as [`crate::entry::Entry`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Agent(Invocation),
    Program(Program),
    Command(Invocation),
    /// With its arguments as JSON.
    Function(Function, String),
    /// An interpreter that is kept for the programs that follow.
    Session,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// The first message: it is ready for calls, and confined so far.
    Ready(Confinement),
    /// A guest asks; its call waits for the answer.
    Asked { call: CallNumber, ask: Box<Ask> },
    /// An interpreter that is kept is there.
    Kept(CallNumber),
    /// A program of a session has ended; another can follow unless that was the last one.
    Reported {
        call: CallNumber,
        report: Box<Report>,
        then: Then,
    },
    /// A call has ended.
    Ended {
        call: CallNumber,
        end: Box<Result<Report, Fault>>,
    },
    /// It lives.
    Pong,
}

/// How far a worker has locked itself in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// The kernel keeps it from files (landlock).
    pub(crate) files: bool,
    /// The kernel keeps it from system calls (seccomp).
    pub(crate) system_calls: bool,
}

/// A function of [`crate::HostCalls`] with its arguments, or more memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Complete(Vec<llm::Request>),
    Search(Vec<search::Query>),
    Tools(Vec<String>),
    CallTools(Vec<tools::CallRequest>, u64),
    Fetch(Vec<HttpRequest>),
    Inputs,
    Output(String),
    Steps,
    Human(human::Question),
    Budget(budget::Remaining),
    Remember(MemoryRequest),
    Log(LogLine),
    /// Bytes that are needed, and bytes that would be welcome.
    Memory(u64, u64),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Completions(Vec<Result<llm::Completion, Error>>),
    Found(Vec<Result<search::Answer, Error>>),
    Tools(Result<Vec<tools::Tool>, Error>),
    Called(Vec<ToolAnswer>),
    Fetched(Vec<Result<HttpResponse, HttpFault>>),
    Inputs(String),
    Output(Result<String, Error>),
    Steps(Vec<String>),
    Human(Result<human::Answer, Error>),
    Budget(budget::Remaining),
    Remembered(Result<MemoryAnswer, Error>),
    Logged,
    /// Bytes that were given; none: there are none, and all wait.
    Memory(Option<u64>),
}

/// [`crate::SandboxError`] as far as a worker knows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    Busy(String),
    OutOfMemory(String),
    Instantiate(String),
    Panicked(String),
    Engine(String),
}

/// A message with its length in front.
///
/// # Errors
/// It is longer than any may be, or holds what cannot be written, such as a path that is no text.
pub(crate) fn frame(message: &impl Serialize) -> Result<Vec<u8>, String> {
    let bytes = postcard::to_extend(message, vec![0; HEAD_BYTES])
        .map_err(|error| format!("a message to or from a worker cannot be written: {error}"))?;
    let length = bytes.len() - HEAD_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(format!(
            "a message to or from a worker has {length} bytes, at most {FRAME_BYTES_MAX} are allowed"
        ));
    }
    let mut bytes = bytes;
    let head = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    bytes[..HEAD_BYTES].copy_from_slice(&head);
    Ok(bytes)
}

/// How long the message is that begins with this head.
///
/// # Errors
/// Longer than any may be.
pub(crate) fn length(head: [u8; HEAD_BYTES]) -> Result<usize, String> {
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    match length <= FRAME_BYTES_MAX {
        true => Ok(length),
        false => Err(format!("a message claims to have {length} bytes")),
    }
}

/// Reads a message.
///
/// # Errors
/// It is none.
pub(crate) fn read<T: DeserializeOwned>(message: &[u8]) -> Result<T, String> {
    postcard::from_bytes(message).map_err(|error| format!("a message cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let message = ToWorker::Cancel(7);
        let frame = frame(&message).expect("it is small");
        let (head, rest) = frame.split_at(HEAD_BYTES);
        let head = head.try_into().expect("a head");
        assert_eq!(length(head), Ok(rest.len()));
        assert!(matches!(read(rest), Ok(ToWorker::Cancel(7))));
        assert!(length(u32::MAX.to_le_bytes()).is_err());
    }

    proptest! {
        /// Whatever a worker writes is a message or none, and no length in it makes room for more than is there.
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<FromWorker>(&bytes);
            let _ = read::<ToWorker>(&bytes);
        }
    }
}
