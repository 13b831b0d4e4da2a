//! The components that this machine has: those that ship with Troupe, and those that workflows name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use troupe_sandbox::{Component, ComponentDigest, ComponentKind, Inspection, LoadError, Sandbox};
use troupe_workflow::Language;

use crate::tools;

/// Finds components and loads each once.
pub(crate) struct Components {
    sandbox: Sandbox,
    /// Where added components lie, each under its digest.
    folder: PathBuf,
    plugins: Vec<PathBuf>,
    /// One slot for each component, so that two steps wait for one load instead of doing it twice.
    loaded: Mutex<BTreeMap<PathBuf, Arc<Mutex<Option<Component>>>>>,
    /// Added components that are loaded: each step asks for one, and shall not ask the disk.
    ready: RwLock<BTreeMap<ComponentDigest, Component>>,
}

impl Components {
    pub(crate) fn new(sandbox: Sandbox, data: &Path, plugins: Vec<PathBuf>) -> Self {
        Self {
            sandbox,
            folder: data.join("components"),
            plugins,
            loaded: Mutex::new(BTreeMap::new()),
            ready: RwLock::default(),
        }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The interpreter of a language.
    pub(crate) async fn interpreter(&self, language: Language) -> anyhow::Result<Component> {
        let file = format!("{}.wasm", language.as_str());
        let Some(path) = self
            .plugins
            .iter()
            .map(|folder| folder.join(&file))
            .find(|path| path.is_file())
        else {
            bail!(
                "the interpreter {file} is not in {}; build it with `cargo xtask setup`, or name its folder with --plugins or TROUPE_PLUGINS",
                self.plugins
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        };
        let is_interpreter = |kind| kind == ComponentKind::Interpreter;
        self.load(&path, is_interpreter).await
    }

    /// An added component, by its digest.
    pub(crate) async fn added(&self, digest: &ComponentDigest) -> anyhow::Result<Component> {
        if let Some(component) = self
            .ready
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
        {
            return Ok(component.clone());
        }
        let path = self.path_of(digest);
        if !path.is_file() {
            bail!(
                "the component {digest} is not on this machine; run the workflow from the file that names it"
            );
        }
        let component = self.load(&path, tools::is_agent).await?;
        if component.digest() != digest {
            bail!(
                "the file of the component {digest} was changed; remove {} and run the workflow from the file that names it",
                path.display()
            );
        }
        self.ready
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(*digest, component.clone());
        Ok(component)
    }

    /// Adds a component from a file: checks it, compiles it, and keeps it under its digest.
    pub(crate) async fn add(&self, path: &Path) -> anyhow::Result<ComponentDigest> {
        let wasm = read(path).await?;
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

    /// Reads what a component is, without adding or compiling it: why it would be refused, too.
    pub(crate) async fn inspect(
        &self,
        path: &Path,
    ) -> anyhow::Result<(Inspection, Result<ComponentKind, LoadError>)> {
        Ok(self.sandbox.inspect(&read(path).await?)?)
    }

    /// Puts a component under its digest, whole or not at all, also when several tasks keep the same.
    async fn keep(&self, digest: &ComponentDigest, wasm: &[u8]) -> std::io::Result<()> {
        let kept = self.path_of(digest);
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

    fn path_of(&self, digest: &ComponentDigest) -> PathBuf {
        let name = digest.to_string().replace("sha256:", "");
        self.folder.join(format!("{name}.wasm"))
    }

    async fn load(
        &self,
        path: &Path,
        is_right: impl FnOnce(ComponentKind) -> bool,
    ) -> anyhow::Result<Component> {
        let slot = Arc::clone(self.loaded.lock().await.entry(path.to_owned()).or_default());
        let mut slot = slot.lock().await;
        if let Some(component) = &*slot {
            return Ok(component.clone());
        }
        let component = self
            .compile(path)
            .await
            .with_context(|| format!("the component {} cannot be used", path.display()))?;
        if !is_right(component.kind()) {
            bail!(
                "the component {} is of another kind than its use here",
                path.display()
            );
        }
        *slot = Some(component.clone());
        Ok(component)
    }
}

/// Reads a component's file: a regular one, for a document may come from a stranger and name a device. The
/// sandbox says how large one may be, this only keeps memory from filling.
async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    const BYTES_MAX: u64 = 1 << 30;
    let cannot = || format!("the component {} cannot be read", path.display());
    if !tokio::fs::metadata(path)
        .await
        .with_context(cannot)?
        .is_file()
    {
        bail!("the component {} is no regular file", path.display());
    }
    let file = tokio::fs::File::open(path).await.with_context(cannot)?;
    let mut wasm = Vec::new();
    let bytes = file
        .take(BYTES_MAX + 1)
        .read_to_end(&mut wasm)
        .await
        .with_context(cannot)?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > BYTES_MAX {
        bail!(
            "the component {} has more than {BYTES_MAX} bytes",
            path.display()
        );
    }
    Ok(wasm)
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
