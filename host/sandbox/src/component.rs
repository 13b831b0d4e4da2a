//! Accepts components: checks them, compiles them once, and tells what they are.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime::component::types::Component as ComponentType;

use crate::bindings::agent::AgentPre;
use crate::bindings::interpreter::SourceInterpreterPre;
use crate::cache::{CompiledCache, hex};
use crate::error::LoadError;
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
}

impl fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ComponentKind::Agent => "an agent",
            ComponentKind::Interpreter => "an interpreter",
        })
    }
}

/// A component that was checked, compiled and linked. Clones share everything.
#[derive(Clone)]
pub struct Component {
    digest: ComponentDigest,
    pub(crate) exports: Exports,
}

/// The instance to be made, by what it exports.
#[derive(Clone)]
pub(crate) enum Exports {
    Agent(AgentPre<State>),
    Interpreter(SourceInterpreterPre<State>),
}

impl Component {
    /// The digest of the bytes it was loaded from.
    pub fn digest(&self) -> &ComponentDigest {
        &self.digest
    }

    /// What it can be called as.
    pub fn kind(&self) -> ComponentKind {
        match self.exports {
            Exports::Agent(_) => ComponentKind::Agent,
            Exports::Interpreter(_) => ComponentKind::Interpreter,
        }
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("digest", &self.digest)
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
    /// One compilation uses every processor; a second one at the same time would only use twice the memory,
    /// or do the same work again.
    pub(crate) compiling: Mutex<()>,
}

impl Loader {
    /// Checks, compiles and links a component. It blocks: a large component compiles for seconds.
    pub(crate) fn load(&self, wasm: &[u8]) -> Result<Component, LoadError> {
        self.check_bytes(wasm)?;
        let digest = ComponentDigest::of(wasm);
        let component = match self.cache.load(&self.engine, &digest) {
            Some(deserialized) => deserialized.map_err(LoadError::Invalid)?,
            None => self.compile(wasm, &digest)?,
        };
        self.check_imports(&component.component_type())?;
        let exports = self.link(&component)?;
        Ok(Component { digest, exports })
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

    fn compile(
        &self,
        wasm: &[u8],
        digest: &ComponentDigest,
    ) -> Result<wasmtime::component::Component, LoadError> {
        let _one_at_a_time = self
            .compiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(deserialized) = self.cache.load(&self.engine, digest) {
            return deserialized.map_err(LoadError::Invalid); // Somebody compiled it while we waited.
        }
        let compiled = self
            .engine
            .precompile_component(wasm)
            .map_err(LoadError::Invalid)?;
        self.cache
            .store(&self.engine, digest, &compiled)
            .map_err(LoadError::Invalid)
    }

    /// Refuses what the host does not have, all at once, before wasmtime names only the first.
    fn check_imports(&self, ty: &ComponentType) -> Result<(), LoadError> {
        let imports: Vec<String> = ty
            .imports(&self.engine)
            .map(|(name, _)| name.to_owned())
            .filter(|name| !is_offered(name))
            .collect();
        if imports.is_empty() {
            Ok(())
        } else {
            Err(LoadError::UnknownImports { imports })
        }
    }

    fn link(&self, component: &wasmtime::component::Component) -> Result<Exports, LoadError> {
        let ty = component.component_type();
        let exports: Vec<String> = ty
            .exports(&self.engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let has = |interface: &str| {
            exports.iter().any(|name| {
                name.strip_prefix(interface)
                    .is_some_and(|rest| rest.starts_with("@0.1."))
            })
        };
        let (agent, interpreter) = (has("troupe:agent/guest"), has("troupe:agent/interpreter"));
        if !agent && !interpreter {
            return Err(LoadError::NothingToCall { exports });
        }
        let instance = self
            .linker
            .instantiate_pre(component)
            .map_err(LoadError::WrongTypes)?;
        if agent {
            AgentPre::new(instance)
                .map(Exports::Agent)
                .map_err(LoadError::WrongTypes)
        } else {
            SourceInterpreterPre::new(instance)
                .map(Exports::Interpreter)
                .map_err(LoadError::WrongTypes)
        }
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
