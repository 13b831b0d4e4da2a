//! Compiles in processes of their own: what a hostile component can do to a compiler is to use all memory, to take for
//! ever, or to find a fault in it, and none of that may happen to the process that has the journal and the keys.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Resource, Signal};
use tempfile::NamedTempFile;

use crate::confine::{self, lower};
use crate::{engine, inherited};

/// How to start a process that compiles: a program that does what [`compile`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments. A last one is added: how much memory it may have, in bytes.
    pub arguments: Vec<OsString>,
    /// Variables of its environment. It has no others.
    pub variables: Vec<(OsString, OsString)>,
    /// Address space that it may have, in bytes. Protects the machine.
    pub memory_bytes_max: u64,
    /// How long it may take. Protects the processors, and those who wait for other components.
    pub time_max: Duration,
}

/// Why there is no compiled component.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The compiler's answer: the component is not valid.
    Invalid(String),
    /// It took more than it may, or broke the compiler.
    TooCostly(String),
    /// The process could not be started or spoken to.
    Host(io::Error),
}

/// Bytes of a compiled component. Protects the disk.
const COMPILED_BYTES_MAX: u64 = 1 << 30;
/// Bytes of what a compiler says of a component that it refuses.
const MESSAGE_BYTES_MAX: u64 = 4 << 10;
/// How often it is looked whether a compiler has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How a compiler ends that has refused a component.
const REFUSED: u8 = 3;
/// How one ends that could not make itself ready, which is no component's fault.
const NOT_READY: u8 = 4;

impl Compiler {
    /// Has a component compiled into `target`. It blocks.
    pub(crate) fn run(&self, wasm: &[u8], target: &NamedTempFile) -> Result<(), Fault> {
        let (mut source, mut said) = (file_with(wasm)?, file_with(b"")?);
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .arg(self.memory_bytes_max.to_string())
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(source.try_clone()?)
            .stdout(target.reopen()?)
            .stderr(said.try_clone()?);
        source.rewind()?;
        let child = KilledOnDrop(command.spawn()?);
        let status = self.wait(child)?;
        let mut message = Vec::new();
        said.rewind()?;
        said.take(MESSAGE_BYTES_MAX).read_to_end(&mut message)?;
        let message = String::from_utf8_lossy(&message).trim_end().to_owned();
        match status.code() {
            Some(0) => Ok(()),
            Some(code) if code == i32::from(REFUSED) => Err(Fault::Invalid(message)),
            Some(code) if code == i32::from(NOT_READY) => {
                Err(Fault::Host(io::Error::other(message)))
            }
            _ => Err(Fault::TooCostly(format!("{}: {message}", ended(status)))),
        }
    }

    fn wait(&self, mut child: KilledOnDrop) -> Result<ExitStatus, Fault> {
        // As many looks as there is time for: nobody needs a clock for that.
        let looks = self.time_max.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..=looks {
            if let Some(status) = child.0.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let millis = self.time_max.as_millis();
        Err(Fault::TooCostly(format!("it took more than {millis} ms")))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Host(error)
    }
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("the compiler ended with code {code}"),
        None => "the compiler was killed or broke, for which too little memory is the usual reason"
            .to_owned(),
    }
}

fn file_with(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    Ok(file)
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the process does that a [`Compiler`] starts: reads a component, and writes it compiled. It first takes from itself
/// what it does not need. It must be called while the process has one thread and has opened nothing: whatever is open but
/// the standard three is closed.
///
/// # Errors
/// The component is not valid, or it could not be read or written. `code` is how the process should end then.
pub fn compile(
    memory_bytes_max: u64,
    mut from: impl Read,
    mut to: impl Write,
) -> Result<(), (String, u8)> {
    let failed = |error: io::Error| (error.to_string(), 1);
    let not_ready = |error: io::Error| (error.to_string(), NOT_READY);
    inherited::close().map_err(not_ready)?;
    limit(memory_bytes_max).map_err(not_ready)?;
    // Who breaks the compiler is to find nothing. What this kernel has none of is said of workers, once.
    let _confinement = confine::without_files().map_err(|reason| (reason, NOT_READY))?;
    let mut wasm = Vec::new();
    from.read_to_end(&mut wasm).map_err(failed)?;
    let compiled = engine::for_compiling()
        .and_then(|engine| engine.precompile_component(&wasm))
        .map_err(|error| (format!("{error:#}"), REFUSED))?;
    to.write_all(&compiled).map_err(failed)
}

/// Limits this process, which is one that only compiles.
fn limit(memory_bytes_max: u64) -> io::Result<()> {
    lower(Resource::As, memory_bytes_max)?;
    lower(Resource::Fsize, COMPILED_BYTES_MAX)?;
    lower(Resource::Core, 0)?;
    // It has all files that it needs; a thread pool needs none.
    lower(Resource::Nofile, 64)?;
    // Whoever started it waits for it: without them it is of no use.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}
