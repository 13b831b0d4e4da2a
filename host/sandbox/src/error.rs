//! What can go wrong on the host's side. What a guest does wrong is in `outcome.rs`.

use std::path::PathBuf;

use crate::component::ComponentKind;
use crate::function::RefusedFunction;

/// The sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// wasmtime refused its configuration, or this machine.
    #[error("the WebAssembly engine does not start on this machine")]
    Engine(#[source] wasmtime::Error),
    /// The thread that keeps guests' time could not be started.
    #[error("the thread that keeps guests' time does not start")]
    Thread(#[source] std::io::Error),
    /// The folder of compiled components cannot be used.
    #[error(
        "the folder of compiled components {path} cannot be used: it must be ours, writable, and closed to all others; name another folder",
        path = path.display()
    )]
    CacheFolder {
        /// The folder.
        path: PathBuf,
        /// What the system said, or what we found.
        #[source]
        source: std::io::Error,
    },
}

/// A component was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is larger than the operator allows.
    #[error("the component has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// [`crate::SandboxConfig::component_bytes_max`].
        bytes_max: u64,
    },
    /// It is native code that claims to be compiled WebAssembly; running it would be running a stranger's program.
    #[error(
        "this is compiled native code (.cwasm), which is never loaded; give the .wasm component it was made from"
    )]
    Precompiled,
    /// It is no WebAssembly.
    #[error("this is not a WebAssembly component: the file does not begin with the bytes of one")]
    NotWasm,
    /// It is a core module.
    #[error(
        "this is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// It is malformed, uses proposals that are switched off, or is made of too many parts.
    #[error(
        "the component is not valid, uses features of WebAssembly that are switched off here, or has more \
         instances, memories or tables than a component may have"
    )]
    Invalid(#[source] wasmtime::Error),
    /// It needs something the host does not have.
    #[error(
        "the component imports what this host does not offer: {}; the host offers the interfaces of `troupe:agent@0.1` and of WASI 0.2",
        imports.join(", ")
    )]
    UnknownImports {
        /// The imports, by name.
        imports: Vec<String>,
    },
    /// It imports or exports one of our interfaces with other types.
    #[error(
        "the component does not fit the interfaces of `troupe:agent@0.1`; build it again with the current wit files"
    )]
    WrongTypes(#[source] wasmtime::Error),
    /// It exports nothing that could be called.
    #[error(
        "the component exports nothing that can be called: neither an agent (`troupe:agent/guest@0.1.0`), nor an \
         interpreter, a program (`wasi:cli/run@0.2`) or a function, but {}{}",
        if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") },
        reasons(refused)
    )]
    NothingToCall {
        /// What it exports, by name.
        exports: Vec<String>,
        /// The functions among that which cannot be called.
        refused: Vec<RefusedFunction>,
    },
    /// It says that it describes itself, and does not.
    #[error("the component's `describe` failed: {reason}")]
    Description {
        /// How.
        reason: String,
    },
    /// Compiling it takes more than it may.
    #[error("the component cannot be compiled here: {reason}; build it of smaller functions")]
    TooCostly {
        /// Of what.
        reason: String,
    },
    /// The host failed while it compiled: not the component's fault.
    #[error("the component could not be compiled")]
    Host(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A call could not be made, or its end is not known: the host's fault, never the guest's.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The component is not of the kind that was called.
    #[error("the component {digest} is {found}, but {wanted} was called")]
    WrongKind {
        /// The component.
        digest: crate::ComponentDigest,
        /// What it is.
        found: ComponentKind,
        /// What the call needs.
        wanted: ComponentKind,
    },
    /// The component keeps no state from one program to the next.
    #[error(
        "the interpreter {digest} keeps no state from one program to the next: it does not export `troupe:agent/session`; build it for the world `session-interpreter`"
    )]
    NoSessions {
        /// The component.
        digest: crate::ComponentDigest,
    },
    /// No instance could be made: the machine is short of memory or slots.
    #[error("no instance of the component could be made")]
    Instantiate(#[source] wasmtime::Error),
    /// All guests together have no memory left, and this call was the youngest of those that waited for some.
    #[error("{message}")]
    Busy {
        /// What happened, and what would help.
        message: String,
    },
    /// The machine has no memory left.
    #[error(
        "the machine has no memory left for a guest; allow fewer calls at once, or lower `guest_memory_mb`"
    )]
    OutOfMemory(#[source] wasmtime::Error),
    /// Our code, or the code behind [`crate::HostCalls`], panicked. The process goes on, the call is lost.
    #[error("the host panicked during the call: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// There is no process to make the call: it could not be started, or not be told.
    #[error("no worker can run the component: {message}")]
    NoWorker {
        /// Why.
        message: String,
    },
    /// The process that made the call ended. What the call did until then is not known.
    #[error("the worker that ran the component ended: {message}")]
    Interrupted {
        /// How.
        message: String,
    },
    /// wasmtime failed in a way that no guest can cause.
    #[error("the WebAssembly engine failed")]
    Engine(#[source] wasmtime::Error),
}

impl SandboxError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            SandboxError::Instantiate(_)
            | SandboxError::Busy { .. }
            | SandboxError::OutOfMemory(_)
            | SandboxError::NoWorker { .. }
            | SandboxError::Interrupted { .. } => true,
            SandboxError::WrongKind { .. }
            | SandboxError::NoSessions { .. }
            | SandboxError::Panicked { .. }
            | SandboxError::Engine(_) => false,
        }
    }
}

/// Why functions cannot be called, as the end of a sentence.
fn reasons(refused: &[RefusedFunction]) -> String {
    const NAMED_MAX: usize = 20;
    let each = refused.iter().take(NAMED_MAX);
    each.map(|function| {
        format!(
            "; `{}` cannot be called: {}",
            function.name, function.reason
        )
    })
    .collect()
}
