//! Accepts components: checks them, compiles them once, and tells what they are.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::cache::{Compiled, CompiledCache, CompiledFile, hex};
use crate::compiler::{Compiler, Fault};
use crate::description::{self, Description};
use crate::error::LoadError;
use crate::function::{self, Function, UnknownFunction};
use crate::inspection::{Inspection, describe_function};
use crate::linked::{Linked, Role};
use crate::state::State;

/// The first bytes of a WebAssembly binary.
const WASM_MAGIC: &[u8] = b"\0asm";
/// Version and layer of a component, the four bytes after the magic. A core module has `01 00 00 00`.
const COMPONENT_VERSION: &[u8] = &[0x0d, 0x00, 0x01, 0x00];

/// The SHA-256 digest of a component's bytes, printed as `sha256:…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ComponentDigest([u8; 32]);

impl ComponentDigest {
    /// Computes the digest of a component's bytes.
    pub fn of(wasm: &[u8]) -> Self {
        ComponentDigest(Sha256::digest(wasm).into())
    }

    /// The 64 hexadecimal digits, without the prefix.
    pub(crate) fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ComponentDigest> for String {
    fn from(digest: ComponentDigest) -> String {
        digest.to_string()
    }
}

/// A text is no component digest.
#[derive(Debug, thiserror::Error)]
#[error("a component digest is `sha256:` and 64 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for ComponentDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let digits = text
            .strip_prefix("sha256:")
            .ok_or(ParseDigestError)?
            .as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 2 * digest.len() {
            return Err(ParseDigestError);
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (digit(pair[0])?, digit(pair[1])?);
            *byte = high << 4 | low;
        }
        Ok(ComponentDigest(digest))
    }
}

fn digit(character: u8) -> Result<u8, ParseDigestError> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(ParseDigestError),
    }
}

impl TryFrom<String> for ComponentDigest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, ParseDigestError> {
        text.parse()
    }
}

/// What a component can be called as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentKind {
    /// It exports `guest`: [`crate::Sandbox::call_agent`].
    Agent,
    /// It exports `interpreter`: [`crate::Sandbox::execute`].
    Interpreter,
    /// It is a program, and exports `wasi:cli/run`: [`crate::Sandbox::run_command`].
    Command,
    /// It exports functions of its own: [`crate::Sandbox::call_function`].
    Tool,
}

impl fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ComponentKind::Agent => "an agent",
            ComponentKind::Interpreter => "an interpreter",
            ComponentKind::Command => "a command-line program",
            ComponentKind::Tool => "a tool",
        })
    }
}

/// A component that was checked, compiled and linked. Clones share everything.
#[derive(Clone)]
pub struct Component {
    inspection: Arc<Inspection>,
    description: Option<Arc<Description>>,
    pub(crate) role: Role,
    pub(crate) linked: Linked,
    /// Its file of native code; none where it could not be stored.
    pub(crate) compiled: Option<Arc<CompiledFile>>,
    /// The most memory that its last call used, in bytes.
    memory_bytes_last: Arc<AtomicU64>,
}

impl Component {
    /// The memory that its next call will need as likely as not, in bytes; 0: nobody knows yet.
    pub(crate) fn memory_likely(&self) -> u64 {
        self.memory_bytes_last.load(Ordering::Relaxed)
    }

    /// Notes what a call needed.
    pub(crate) fn note_memory(&self, bytes: u64) {
        // It is nearly always the same, and to write it would take it from the other processors.
        if bytes != self.memory_likely() {
            self.memory_bytes_last.store(bytes, Ordering::Relaxed);
        }
    }

    /// The digest of the bytes it was loaded from.
    pub fn digest(&self) -> &ComponentDigest {
        &self.inspection.digest
    }

    /// What its bytes say of it; where it describes itself its functions say that.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What it tells about itself, where it does.
    pub fn description(&self) -> Option<&Description> {
        self.description.as_deref()
    }

    /// The functions that can be called with JSON, whatever its kind.
    pub fn functions(&self) -> &[Function] {
        &self.inspection.functions
    }

    /// A function by its name, or by that of its interface and its own with a `#` or a point between.
    ///
    /// # Errors
    /// There is none, or it cannot be called: which there are, or why.
    pub fn function(&self, name: &str) -> Result<&Function, UnknownFunction> {
        function::find(&self.inspection.functions, &self.inspection.refused, name)
    }

    /// Adds what the component told about itself to its functions.
    pub(crate) fn describe(&mut self, description: Description) {
        let mut inspection = Inspection::clone(&self.inspection);
        for function in &mut inspection.functions {
            let mut actions = description.actions.iter();
            let action = actions.find(|action| action.name == function.name);
            function.described = action.cloned().map(Arc::new);
        }
        self.inspection = Arc::new(inspection);
        self.description = Some(Arc::new(description));
    }

    /// The function by which it describes itself, where it does.
    pub(crate) fn describe_function(&self) -> Option<Function> {
        let interface = self.inspection.export_of(description::INTERFACE, "0.1")?;
        Some(describe_function(interface))
    }

    /// Whether it is an interpreter that can keep its state from one program to the next.
    pub fn keeps_state(&self) -> bool {
        self.inspection
            .exports_interface("troupe:agent/session", "0.1")
    }

    /// What it can be called as.
    pub fn kind(&self) -> ComponentKind {
        self.role.kind()
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("digest", self.digest())
            .field("kind", &self.kind())
            .finish()
    }
}

/// Loads components: everything that stays the same from one to the next.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: CompiledCache,
    pub(crate) component_bytes_max: u64,
    pub(crate) compiler: Option<Compiler>,
    /// One compilation uses every processor; a second one at the same time would only use twice the memory,
    /// or do the same work again.
    pub(crate) compiling: Mutex<()>,
}

impl Loader {
    /// Checks, compiles and links a component. It blocks: a large component compiles for seconds.
    pub(crate) fn load(&self, wasm: &[u8]) -> Result<Component, LoadError> {
        let inspection = self.inspect(wasm)?;
        check_imports(&inspection)?;
        let role = role_of(&inspection)?;
        let compiled = match self.cache.load(&self.engine, &inspection.digest) {
            Some(compiled) => compiled.map_err(LoadError::Invalid)?,
            None => self.compile(wasm, &inspection.digest)?,
        };
        let linked = Linked::new(&self.linker, &compiled.component, &role);
        Ok(Component {
            inspection: Arc::new(inspection),
            description: None,
            role,
            linked: linked.map_err(LoadError::WrongTypes)?,
            compiled: compiled.file.map(Arc::new),
            memory_bytes_last: Arc::default(),
        })
    }

    /// Reads what a component is, without compiling it.
    pub(crate) fn inspect(&self, wasm: &[u8]) -> Result<Inspection, LoadError> {
        self.check_bytes(wasm)?;
        Inspection::read(wasm).map_err(LoadError::Invalid)
    }

    fn check_bytes(&self, wasm: &[u8]) -> Result<(), LoadError> {
        let bytes = u64::try_from(wasm.len()).unwrap_or(u64::MAX);
        if bytes > self.component_bytes_max {
            return Err(LoadError::TooLarge {
                bytes,
                bytes_max: self.component_bytes_max,
            });
        }
        if Engine::detect_precompiled(wasm).is_some() {
            return Err(LoadError::Precompiled);
        }
        let Some(version) = wasm.strip_prefix(WASM_MAGIC).and_then(|rest| rest.get(..4)) else {
            return Err(LoadError::NotWasm);
        };
        // wasmtime would also take WebAssembly text here, which is for our tests only.
        if version != COMPONENT_VERSION {
            Err(LoadError::CoreModule)
        } else {
            Ok(())
        }
    }

    fn compile(&self, wasm: &[u8], digest: &ComponentDigest) -> Result<Compiled, LoadError> {
        let _one_at_a_time = self
            .compiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = self.cache.load(&self.engine, digest) {
            return compiled.map_err(LoadError::Invalid); // Somebody compiled it while we waited.
        }
        let compiled = match &self.compiler {
            Some(compiler) => self.compile_apart(compiler, wasm, digest)?,
            None => {
                let compiled = self.engine.precompile_component(wasm);
                let compiled = compiled.map_err(LoadError::Invalid)?;
                self.cache.store(&self.engine, digest, &compiled)
            }
        };
        compiled.map_err(LoadError::Invalid)
    }

    fn compile_apart(
        &self,
        compiler: &Compiler,
        wasm: &[u8],
        digest: &ComponentDigest,
    ) -> Result<wasmtime::Result<Compiled>, LoadError> {
        let host = |error: std::io::Error| LoadError::Host(error.into());
        let compiled = self.cache.unfinished().map_err(host)?;
        compiler.run(wasm, &compiled).map_err(|fault| match fault {
            Fault::Invalid(reason) => LoadError::Invalid(wasmtime::Error::msg(reason)),
            Fault::TooCostly(reason) => LoadError::TooCostly { reason },
            Fault::Host(error) => host(error),
        })?;
        let adopted = self.cache.adopt(&self.engine, digest, compiled);
        adopted.map_err(host)
    }
}

/// Refuses what the host does not have, all at once, before anything is compiled.
pub(crate) fn check_imports(inspection: &Inspection) -> Result<(), LoadError> {
    let names = inspection.imports.iter();
    let imports: Vec<String> = names.filter(|name| !is_offered(name)).cloned().collect();
    if imports.is_empty() {
        Ok(())
    } else {
        Err(LoadError::UnknownImports { imports })
    }
}

/// What a component is called as: our own worlds before others.
pub(crate) fn role_of(inspection: &Inspection) -> Result<Role, LoadError> {
    if inspection.exports_interface("troupe:agent/guest", "0.1") {
        Ok(Role::Agent)
    } else if inspection.exports_interface("troupe:agent/interpreter", "0.1") {
        Ok(Role::Interpreter)
    } else if let Some(interface) = inspection.export_of("wasi:cli/run", "0.2") {
        Ok(Role::Command(interface.to_owned()))
    } else if !inspection.functions.is_empty() {
        Ok(Role::Tool)
    } else {
        Err(LoadError::NothingToCall {
            exports: inspection.exports.clone(),
            refused: inspection.refused.clone(),
        })
    }
}

/// Whether the host offers an interface: ours, and those of WASI 0.2 that `wasi.rs` links. Patch versions
/// of both are compatible; the linker checks the functions themselves.
fn is_offered(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else {
        return false;
    };
    if interface == "troupe:agent/types" || crate::capability::INTERFACES.contains(&interface) {
        return version.starts_with("0.1.");
    }
    let wasi = [crate::wasi::INTERFACES, crate::capability::http::INTERFACES];
    wasi.iter()
        .any(|interfaces| interfaces.contains(&interface))
        && version.starts_with("0.2.")
}

/// Loads in the background: a compilation must not hold up the calls that share the async runtime's threads.
pub(crate) async fn load_in_background(
    loader: Arc<Loader>,
    wasm: bytes::Bytes,
) -> Result<Component, LoadError> {
    tokio::task::spawn_blocking(move || loader.load(&wasm))
        .await
        .map_err(|error| LoadError::Host(error.into()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_printed_and_read() {
        let digest = ComponentDigest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<ComponentDigest>().expect("a digest"), digest);
        for wrong in [
            "",
            "sha256:",
            "sha256:e3",
            &text[7..],
            &text.to_uppercase(),
            &format!("{text}00"),
            "sha256:é",
        ] {
            assert!(
                wrong.parse::<ComponentDigest>().is_err(),
                "{wrong} was taken for a digest"
            );
        }
    }

    #[test]
    fn only_what_is_linked_is_offered() {
        for offered in [
            "troupe:agent/llm@0.1.0",
            "troupe:agent/types@0.1.0",
            "wasi:io/poll@0.2.9",
            "wasi:http/outgoing-handler@0.2.0",
        ] {
            assert!(is_offered(offered), "{offered}");
        }
        for other in [
            "troupe:agent/llm@0.2.0",
            "wasi:http/incoming-handler@0.2.0",
            "wasi:io/poll@0.3.0",
            "env",
            "",
        ] {
            assert!(!is_offered(other), "{other}");
        }
    }
}
