//! Runs WebAssembly components that nobody vouches for, under limits and grants.
//!
//! A [`Sandbox`] loads a [`Component`] once and calls it many times. Each call gets a fresh instance, its
//! [`Limits`], its [`Grants`] and a [`HostCalls`] to turn to, and ends in a [`Report`]: what came of it, what
//! it used and what it printed. Whatever a guest does is data in that report; an `Err` is always the host's
//! own trouble. An interpreter can be kept for further programs: a [`Session`].
//!
//! This crate knows no workflows, no models and no journal: what a guest may ask of the world is behind the
//! trait [`HostCalls`], which the server implements.

mod bindings;
mod cache;
mod call;
mod cancel;
mod capability;
mod compiler;
mod component;
mod confine;
mod description;
mod engine;
mod entry;
mod error;
pub mod floor;
mod function;
mod guest_memory;
mod host_calls;
mod http_exchange;
mod inherited;
mod inspection;
mod json;
mod limits;
mod linked;
mod machine;
mod octets;
mod on_demand;
mod outcome;
mod protocol;
mod running_time;
mod sandbox;
mod session;
mod state;
mod trace;
mod value;
mod wasi;
mod worker;
mod workers;

pub use bindings::agent::troupe::agent::{budget, human, llm, memory, search, tools};
pub use call::{Call, Invocation, Program};
pub use cancel::CancelFlag;
pub use capability::Grants;
pub use capability::context::ContextGrant;
pub use capability::denials::Withheld;
pub use capability::env::EnvGrant;
pub use capability::files::{FilesGrant, FolderAccess, FolderGrant, ScratchGrant};
pub use capability::http::{
    HostPattern, HttpGrant, OperatorHost, ParseHostError, SecretGrant, is_settable,
};
pub use capability::human::HumanGrant;
pub use capability::llm::LlmGrant;
pub use capability::memory::{MEMORY_KEY_BYTES_MAX, MEMORY_VALUE_BYTES_MAX, MemoryGrant};
pub use capability::narrowed::{Narrowed, fits};
pub use capability::search::SearchGrant;
pub use capability::tools::ToolsGrant;
pub use compiler::{Compiler, compile};
pub use component::{Component, ComponentDigest, ComponentKind, ParseDigestError};
pub use description::{Action, Description};
pub use engine::{Allocation, Metering};
pub use error::{LoadError, SandboxError, StartError};
pub use function::{Arguments, Function, RefusedFunction, UnknownFunction};
pub use host_calls::{
    BudgetKind, Denial, DenyAll, Error, HostCalls, HostFuture, LogLevel, LogLine, MemoryAnswer,
    MemoryRequest, ToolAnswer,
};
pub use http_exchange::{
    HTTP_REQUEST_BYTES_MAX, HTTP_RESPONSE_BYTES_MAX, HttpFault, HttpFaultKind, HttpRequest,
    HttpResponse, HttpTimeouts, Reach, SecretUse,
};
pub use inspection::Inspection;
pub use limits::{INSTANCES_MAX, Limit, Limits, OPEN_FILES_MAX};
pub use outcome::{
    Captured, Denied, Exception, Failure, FilesLimit, Outcome, Report, Trap, TrapCode, Usage,
};
pub use sandbox::{Sandbox, SandboxConfig};
pub use session::{Session, SessionEnd, SessionError, SessionTask, SessionTimes};
pub use trace::{CallEnd, HostFunction, Trace, TracedCall};
pub use value::ReadError;
pub use worker::work;
pub use workers::{Isolation, WorkerProgram};
