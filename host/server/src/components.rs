//! The components that this machine has: those that ship with Troupe, and those that workflows name.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OnceCell, Semaphore};
use troupe_sandbox::{Component, ComponentDigest, ComponentKind, LoadError, Sandbox};
use troupe_workflow::{AgentKind, CodeSource, Definition, Language};

use crate::tasks;
use crate::tools;

/// Finds components and loads each once.
pub(crate) struct Components {
    sandbox: Sandbox,
    /// Where added components lie, each under its digest.
    folder: PathBuf,
    plugins: Vec<PathBuf>,
    /// One slot for each component, so that two steps wait for one load instead of doing it twice.
    slots: Mutex<BTreeMap<Which, Arc<Slot>>>,
    /// Bounds how many are read into memory at once to be loaded.
    loads: Semaphore,
    /// Bounds how many are read into memory at once to be looked at. Whoever only looks waits for no compiler.
    looks: Semaphore,
}

/// Components that are loaded at once. They are compiled one after the other; this bounds the bytes that wait for it.
const LOADS_MAX: usize = 2;
/// Components that are looked at at once: bounds their bytes in memory, and the threads that read them.
const LOOKS_MAX: usize = 2;

/// What a component is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Which {
    /// One that was added.
    Added(ComponentDigest),
    /// The interpreter of a language.
    Interpreter(Language),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Added(digest) => digest.fmt(f),
            Which::Interpreter(language) => f.write_str(language.as_str()),
        }
    }
}

/// Where one component is, or will be.
#[derive(Default)]
struct Slot {
    /// Loaded, or why it never will be: what the machine may do better another time is not kept.
    done: OnceCell<Result<Component, Arc<anyhow::Error>>>,
    /// What it is, where somebody asked before it was loaded.
    examined: OnceCell<Examined>,
    /// Somebody loads it, with nobody waiting.
    is_begun: AtomicBool,
}

/// How far a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Calls of it begin at once.
    Ready,
    /// It is being loaded, and compiled where that was not done before. A step that needs it waits.
    Compiling,
    /// It cannot be used, and why.
    Refused(String),
}

/// A component that was looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Examined {
    pub(crate) kind: ComponentKind,
    /// How many functions it has that can be called as tools.
    pub(crate) functions: usize,
}

impl Components {
    pub(crate) fn new(sandbox: Sandbox, data: &Path, plugins: Vec<PathBuf>) -> Self {
        Self {
            sandbox,
            folder: data.join("components"),
            plugins,
            slots: Mutex::new(BTreeMap::new()),
            loads: Semaphore::new(LOADS_MAX),
            looks: Semaphore::new(LOOKS_MAX),
        }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The interpreter of a language.
    pub(crate) async fn interpreter(&self, language: Language) -> anyhow::Result<Component> {
        self.loaded(Which::Interpreter(language)).await
    }

    /// An added component, by its digest.
    pub(crate) async fn added(&self, digest: &ComponentDigest) -> anyhow::Result<Component> {
        self.loaded(Which::Added(*digest)).await
    }

    /// Looks at a component without compiling it. Its file is read once, however many ask.
    ///
    /// # Errors
    /// It is not here, or would be refused.
    pub(crate) async fn examine(&self, which: Which) -> anyhow::Result<Examined> {
        let slot = self.slot(which)?;
        match slot.done.get() {
            Some(Ok(component)) => Ok(Examined {
                kind: component.kind(),
                functions: component.functions().len(),
            }),
            Some(Err(error)) => bail!("{error:#}"),
            None => {
                self.path_of(which)?;
                let examined = slot.examined.get_or_try_init(|| self.look(which));
                examined.await.copied()
            }
        }
    }

    /// Reads the file of a component and says what it is.
    async fn look(&self, which: Which) -> anyhow::Result<Examined> {
        let path = self.path_of(which)?;
        let cannot = || format!("the component {} cannot be used", path.display());
        let _look = self.looks.acquire().await?;
        let wasm = read(&path).await.with_context(cannot)?;
        let sandbox = self.sandbox.clone();
        // A large one takes tenths of a second, which other tasks of the thread would wait for.
        let looking = tokio::task::spawn_blocking(move || sandbox.inspect(&wasm));
        let (inspection, kind) = looking.await?.with_context(cannot)?;
        check_digest(which, &inspection.digest, &path)?;
        Ok(Examined {
            kind: kind.with_context(cannot)?,
            functions: inspection.functions.len(),
        })
    }

    /// Begins to load a component, and says how far it is.
    pub(crate) fn prepare(self: &Arc<Self>, which: Which) -> Readiness {
        let slot = match self.slot(which) {
            Ok(slot) => slot,
            Err(error) => return Readiness::Refused(format!("{error:#}")),
        };
        match slot.done.get() {
            Some(Ok(_)) => return Readiness::Ready,
            Some(Err(error)) => return Readiness::Refused(format!("{error:#}")),
            None => {}
        }
        if !slot.is_begun.swap(true, Ordering::Relaxed) {
            let components = Arc::clone(self);
            // Whoever needs it meanwhile waits for the same load, and is told how it ended.
            tasks::spawn("component", async move {
                if let Err(error) = components.loaded(which).await
                    && !is_given_up(&error)
                {
                    tracing::warn!(error = format!("{error:#}"), "a component cannot be loaded");
                }
                slot.is_begun.store(false, Ordering::Relaxed);
            });
        }
        Readiness::Compiling
    }

    /// The slot of a component that is here: whoever only names one that is not shall take no memory.
    fn slot(&self, which: Which) -> anyhow::Result<Arc<Slot>> {
        let slots = || self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots().get(&which) {
            return Ok(Arc::clone(slot));
        }
        self.path_of(which)?;
        Ok(Arc::clone(slots().entry(which).or_default()))
    }

    /// A component that is loaded; waits until it is.
    pub(crate) async fn loaded(&self, which: Which) -> anyhow::Result<Component> {
        let slot = self.slot(which)?;
        let done = slot.done.get_or_try_init(|| async {
            match self.load(which).await {
                Ok(component) => Ok(Ok(component)),
                Err(error) if is_final(&error) => Ok(Err(Arc::new(error))),
                Err(error) => Err(error),
            }
        });
        match done.await? {
            Ok(component) => Ok(component.clone()),
            Err(error) => Err(anyhow!("{error:#}")),
        }
    }

    async fn load(&self, which: Which) -> anyhow::Result<Component> {
        let path = self.path_of(which)?;
        let _load = self.loads.acquire().await?;
        let component = self
            .compile(&path)
            .await
            .with_context(|| format!("the component {} cannot be used", path.display()))?;
        check_digest(which, component.digest(), &path)?;
        check_kind(which, component.kind())
            .with_context(|| format!("the component {} cannot be used", path.display()))?;
        Ok(component)
    }

    /// Where a component lies.
    fn path_of(&self, which: Which) -> anyhow::Result<PathBuf> {
        match which {
            Which::Added(digest) => {
                let path = self.kept(&digest);
                if !path.is_file() {
                    bail!(
                        "the component {digest} is not on this machine; run the workflow from the file that names it"
                    );
                }
                Ok(path)
            }
            Which::Interpreter(language) => {
                let file = format!("{}.wasm", language.as_str());
                let mut paths = self.plugins.iter().map(|folder| folder.join(&file));
                paths.find(|path| path.is_file()).with_context(|| {
                    format!(
                        "the interpreter {file} is not in {}; build it with `cargo xtask setup`, or name its folder with --plugins or TROUPE_PLUGINS",
                        self.plugins
                            .iter()
                            .map(|folder| folder.display().to_string())
                            .collect::<Vec<_>>()
                            .join(", ")
                    )
                })
            }
        }
    }

    /// Adds a component from a file, as [`Self::add_bytes`] does.
    pub(crate) async fn add(&self, path: &Path) -> anyhow::Result<ComponentDigest> {
        self.add_bytes(read(path).await?).await
    }

    /// Adds a component: checks it, compiles it, and keeps it under its digest.
    pub(crate) async fn add_bytes(&self, wasm: Vec<u8>) -> anyhow::Result<ComponentDigest> {
        let component = self.sandbox.load(wasm.clone().into()).await?;
        if !tools::is_agent(component.kind()) {
            bail!(
                "it is an interpreter, not an agent: it exports `troupe:agent/interpreter`, not `troupe:agent/guest`"
            );
        }
        self.keep(component.digest(), &wasm)
            .await
            .context("the component cannot be kept")?;
        Ok(*component.digest())
    }

    /// The bytes of a component that was added, where they are what its digest says.
    pub(crate) async fn bytes_of(&self, digest: &ComponentDigest) -> Option<Vec<u8>> {
        let wasm = read(&self.kept(digest)).await.ok()?;
        (ComponentDigest::of(&wasm) == *digest).then_some(wasm)
    }

    /// Puts a component under its digest, whole or not at all, also when several tasks keep the same.
    async fn keep(&self, digest: &ComponentDigest, wasm: &[u8]) -> std::io::Result<()> {
        let kept = self.kept(digest);
        let is_there = tokio::fs::read(&kept)
            .await
            .is_ok_and(|there| ComponentDigest::of(&there) == *digest);
        if is_there {
            return Ok(());
        }
        tokio::fs::create_dir_all(&self.folder).await?;
        let unfinished = kept.with_extension(format!(
            "{:032x}",
            u128::from_le_bytes(crate::clock::entropy())
        ));
        let mut file = tokio::fs::File::create_new(&unfinished).await?;
        file.write_all(wasm).await?;
        file.sync_all().await?;
        tokio::fs::rename(&unfinished, &kept).await
    }

    /// Compiles a component of any kind, so that later loads are quick.
    pub(crate) async fn compile(&self, path: &Path) -> anyhow::Result<Component> {
        Ok(self.sandbox.load(read(path).await?.into()).await?)
    }

    /// Where an added component lies, or would.
    fn kept(&self, digest: &ComponentDigest) -> PathBuf {
        let name = digest.to_string().replace("sha256:", "");
        self.folder.join(format!("{name}.wasm"))
    }
}

/// Which component the source of a code agent is.
///
/// # Errors
/// A reference that is no digest.
pub(crate) fn named(source: &CodeSource) -> anyhow::Result<Which> {
    match source {
        CodeSource::Inline { language, .. } => Ok(Which::Interpreter(*language)),
        CodeSource::Component { reference } if reference.contains("://") => {
            bail!("{}", tools::not_fetched(reference))
        }
        CodeSource::Component { reference } => {
            let digest = reference.parse().with_context(|| {
                format!("`{reference}` is no digest (`sha256:…`); `troupe run` puts the digest of a component's file in its place")
            })?;
            Ok(Which::Added(digest))
        }
    }
}

/// All components that a workflow and those inside of it name; references that are no digests are left out.
pub(crate) fn all(definition: &Definition) -> BTreeSet<Which> {
    let subs = definition.workflows().map(|(_, sub)| sub.as_ref());
    let agents = std::iter::once(definition)
        .chain(subs)
        .flat_map(Definition::agents);
    let named = agents.flat_map(|agent| match &agent.kind {
        AgentKind::Code(code) => named(&code.source).into_iter().collect(),
        AgentKind::Tool(agent) => tools::digests(agent).map(Which::Added).collect(),
        _ => Vec::new(),
    });
    named.collect()
}

/// Checks that a component is of the kind that its place asks for.
pub(crate) fn check_kind(which: Which, kind: ComponentKind) -> anyhow::Result<()> {
    let is_right = match which {
        Which::Added(_) => tools::is_agent(kind),
        Which::Interpreter(_) => kind == ComponentKind::Interpreter,
    };
    if !is_right {
        bail!("it is {kind}, which is of another kind than its use here");
    }
    Ok(())
}

/// An added component is what its digest says.
fn check_digest(which: Which, found: &ComponentDigest, path: &Path) -> anyhow::Result<()> {
    match which {
        Which::Added(digest) if digest != *found => bail!(
            "the file of the component {digest} was changed; remove {} and run the workflow from the file that names it",
            path.display()
        ),
        Which::Added(_) | Which::Interpreter(_) => Ok(()),
    }
}

/// Whether a load would end so again: the component is to blame and not the machine.
fn is_final(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(error) if !matches!(error, LoadError::Host(_)))
}

/// Reads a component's file: a regular one, for a document may come from a stranger and name a device. The
/// sandbox says how large one may be, this only keeps memory from filling.
pub(crate) async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || read_here(&path)).await?
}

fn read_here(path: &Path) -> anyhow::Result<Vec<u8>> {
    const BYTES_MAX: u64 = 1 << 30;
    let cannot = || format!("the component {} cannot be read", path.display());
    if !std::fs::metadata(path).with_context(cannot)?.is_file() {
        bail!("the component {} is no regular file", path.display());
    }
    let file = std::fs::File::open(path).with_context(cannot)?;
    let mut wasm = Vec::new();
    let bytes = file.take(BYTES_MAX + 1).read_to_end(&mut wasm);
    if u64::try_from(bytes.with_context(cannot)?).unwrap_or(u64::MAX) > BYTES_MAX {
        bail!(
            "the component {} has more than {BYTES_MAX} bytes",
            path.display()
        );
    }
    Ok(wasm)
}

/// Whether something was given up because this process ends.
fn is_given_up(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref()
            .is_some_and(tokio::task::JoinError::is_cancelled)
    })
}

/// What imports ask for that has to be granted: the key of `grants`, and the import. All of it may be there without being
/// used: languages link much that a program never calls.
pub(crate) fn needs(imports: &[String]) -> Vec<(&'static str, String)> {
    const GRANTS: &[(&str, &str)] = &[
        ("troupe:agent/llm@", "llm"),
        ("troupe:agent/search@", "search"),
        ("troupe:agent/tools@", "tools"),
        ("troupe:agent/human@", "human"),
        ("troupe:agent/memory@", "memory"),
        ("wasi:http/", "hosts"),
        ("wasi:filesystem/", "files"),
        ("wasi:cli/environment@", "env"),
    ];
    let asked = GRANTS.iter().filter_map(|(interface, grant)| {
        let import = imports.iter().find(|name| name.starts_with(interface))?;
        Some((*grant, import.clone()))
    });
    asked.collect()
}
