//! The operator's file, and everything else that is read from the environment, once.

mod grants;
mod secret;

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use troupe_journal::FailPoint;
use troupe_providers::ModelPrice;
use troupe_sandbox::{INSTANCES_MAX, OPEN_FILES_MAX};
use troupe_workflow::ExecutionStatus;

pub(crate) use grants::{
    AskingAgent, FolderEntry, GrantEntries, GrantEntry, SecretEntry, VariableEntry, check_header,
};
pub(crate) use secret::SecretSource;

/// The operator's file: TOML, every section optional, unknown keys refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerConfig {
    /// Where executions are kept, and how workflows are served.
    #[serde(default)]
    pub(crate) server: ServerSection,
    #[serde(default)]
    pub(crate) providers: BTreeMap<String, ProviderConfig>,
    /// What workflows may name as a model.
    #[serde(default)]
    pub(crate) models: BTreeMap<String, ModelConfig>,
    /// Overrides of the price table that ships with Troupe.
    #[serde(default)]
    pub(crate) prices: BTreeMap<String, ModelPrice>,
    #[serde(default)]
    pub(crate) sources: BTreeMap<String, SourceConfig>,
    #[serde(default)]
    pub(crate) tools: Option<toml::Table>,
    #[serde(default)]
    pub(crate) mcp: Option<toml::Table>,
    #[serde(default)]
    pub(crate) limits: LimitsConfig,
    /// How long executions that have ended are kept.
    #[serde(default)]
    pub(crate) retention: RetentionSection,
    /// What agents may be given.
    #[serde(default)]
    pub(crate) grants: GrantEntries,
    /// Where it was read from; none: there is none.
    #[serde(skip)]
    pub(crate) file: Option<PathBuf>,
}

/// Where executions are kept, and how workflows are served.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerSection {
    /// Where the server listens; off loopback it needs keys.
    pub(crate) listen: std::net::SocketAddr,
    /// `sqlite`, a file in the data folder, or the address of a PostgreSQL database, which may hold a password.
    pub(crate) database: SecretSource,
    /// Executions at work at once in this process; further ones wait.
    pub(crate) concurrency: usize,
    /// Executions of one workflow among them, so that one does not take all places; by default all.
    pub(crate) workflow_concurrency: Option<usize>,
    /// Calls of components at once in this process, fair between executions; further ones wait.
    pub(crate) guests: usize,
    /// Memory of all components at work in this process, in MiB; who needs more waits until others have ended.
    pub(crate) guest_memory_mb: u64,
    /// Address space of a process that compiles a component, in MiB.
    pub(crate) compile_memory_mb: u64,
    /// How long it may take.
    pub(crate) compile_timeout_ms: u64,
    /// Compiled components that are kept, in MiB: what was not used for longest is removed.
    pub(crate) compiled_mb: u64,
    /// Where components run.
    pub(crate) isolation: IsolationConfig,
    /// Processes in which they run, with `isolation = "process"`; by default as many as there are processors.
    pub(crate) workers: Option<NonZeroUsize>,
    /// Executions that wait for somebody who works on them; further ones are refused.
    pub(crate) queue_max: u32,
    /// How long a process that ends waits for the steps that run, in milliseconds; then others take them up.
    pub(crate) grace_ms: u64,
    /// How long a process of many on one database counts as alive after its last sign of life, in milliseconds.
    pub(crate) lease_ms: u64,
    /// The point at which this process kills itself, for tests: one, for it counts.
    #[serde(skip)]
    pub(crate) fail_point: Option<Arc<FailPoint>>,
}

/// Where components run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IsolationConfig {
    /// In this process.
    InProcess,
    /// In processes of their own.
    Process,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 7070)),
            database: SecretSource::literal("sqlite"),
            concurrency: 64,
            workflow_concurrency: None,
            guests: 256,
            guest_memory_mb: 4096,
            compile_memory_mb: 3072,
            compile_timeout_ms: 300_000,
            compiled_mb: 4096,
            isolation: IsolationConfig::InProcess,
            workers: None,
            queue_max: 100_000,
            grace_ms: 30_000,
            lease_ms: 15_000,
            fail_point: None,
        }
    }
}

/// How long executions that have ended are kept, in days; none: for ever.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionSection {
    pub(crate) completed_days: Option<u32>,
    pub(crate) failed_days: Option<u32>,
    pub(crate) cancelled_days: Option<u32>,
    /// Executions that are removed before others get their turn.
    pub(crate) batch: u32,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self {
            completed_days: None,
            failed_days: None,
            cancelled_days: None,
            batch: 100,
        }
    }
}

impl RetentionSection {
    /// Days for each end that an execution can come to.
    pub(crate) fn by_status(&self) -> [(ExecutionStatus, Option<u32>); 3] {
        [
            (ExecutionStatus::Completed, self.completed_days),
            (ExecutionStatus::Failed, self.failed_days),
            (ExecutionStatus::Cancelled, self.cancelled_days),
        ]
    }
}

/// A service of language models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderConfig {
    pub(crate) kind: ProviderKind,
    pub(crate) base_url: Option<String>,
    pub(crate) api_key: Option<SecretSource>,
    /// Requests at once; further ones wait.
    pub(crate) concurrency: Option<usize>,
    /// Requests that may begin in a minute; further ones wait.
    pub(crate) requests_per_minute: Option<NonZeroU64>,
    /// Tokens of requests and answers in a minute; further requests wait.
    pub(crate) tokens_per_minute: Option<NonZeroU64>,
}

impl ProviderConfig {
    /// A provider that needs nothing but its key.
    pub(crate) fn keyed(kind: ProviderKind, api_key: SecretSource) -> Self {
        Self {
            kind,
            base_url: None,
            api_key: Some(api_key),
            concurrency: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProviderKind {
    OpenAi,
    Anthropic,
    Offline,
}

/// A name that workflows may use, and what it stands for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
pub(crate) enum ModelConfig {
    /// A model of a provider.
    Model { provider: String, model: String },
    /// Other names, tried in this order.
    Route { route: Vec<String> },
}

/// A search service or index.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum SourceConfig {
    Searxng {
        base_url: String,
        api_key: Option<SecretSource>,
        /// `web`, `news` or `academic`; by default what the source's name says, else `web`.
        category: Option<String>,
    },
    Documents {
        path: PathBuf,
    },
}

/// Ceilings for every agent. A workflow may ask for less.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsConfig {
    pub(crate) fuel: Option<u64>,
    pub(crate) memory_mb: Option<u64>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) output_kb: Option<u64>,
    pub(crate) host_calls: Option<u32>,
    pub(crate) host_kb: Option<u64>,
    pub(crate) log_kb: Option<u64>,
    pub(crate) disk_mb: Option<u64>,
    pub(crate) open_files: Option<u32>,
    pub(crate) instances: Option<u32>,
}

/// Where things lie on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The journal, components and indexes.
    pub(crate) data: PathBuf,
    /// Compiled components, which may be deleted at any time.
    pub(crate) cache: PathBuf,
    /// The components that ship with Troupe.
    pub(crate) plugins: Vec<PathBuf>,
}

/// What the command line says about places.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlaceOptions {
    pub(crate) data: Option<PathBuf>,
    pub(crate) plugins: Option<PathBuf>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read here and nowhere else"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl ServerConfig {
    /// Reads the file given with `--config`, else `TROUPE_CONFIG`, else `troupe.toml` in this folder, else
    /// that in the user's configuration folder; without any the defaults hold.
    pub(crate) fn load(given: Option<&Path>) -> anyhow::Result<Self> {
        let named = given
            .map(Path::to_owned)
            .or(environment("TROUPE_CONFIG").map(PathBuf::from));
        let path = match named {
            Some(path) => path,
            None => match looked_for().find(|path| path.is_file()) {
                Some(path) => path,
                None => return Self::default().with_environment(),
            },
        };
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the configuration {} cannot be read", path.display()))?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{}", fault_of(&path, &text, &error)))?;
        for entry in &mut config.grants {
            let line = line_of(&text, entry.span().start);
            entry.get_mut().line = line;
        }
        // Relative to the file, not to where the command happens to run.
        let base = path.parent().unwrap_or(Path::new("."));
        let folders = config.grants.iter_mut();
        for folder in folders.flat_map(|entry| &mut entry.get_mut().files) {
            folder.path = base.join(&folder.path);
        }
        for source in config.sources.values_mut() {
            if let SourceConfig::Documents { path } = source {
                *path = base.join(&*path);
            }
        }
        config.warn_of_unused();
        config.limits.warn_of_cut();
        config.file = Some(path);
        config.with_environment()
    }

    /// The files that keys and other secrets are read from.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let keys = self.providers.values().map(|one| one.api_key.as_ref());
        let searches = self.sources.values().map(|source| match source {
            SourceConfig::Searxng { api_key, .. } => api_key.as_ref(),
            SourceConfig::Documents { .. } => None,
        });
        let ours = keys
            .chain(searches)
            .flatten()
            .chain([&self.server.database]);
        let granted = self.grants.iter().flat_map(|entry| {
            let entry = entry.get_ref();
            let secrets = entry.secrets.iter().filter_map(|secret| secret.file());
            secrets.chain(entry.env.values().filter_map(|variable| variable.file()))
        });
        ours.filter_map(SecretSource::file).chain(granted)
    }

    /// `TROUPE_DATABASE` stands for `[server] database`.
    fn with_environment(mut self) -> anyhow::Result<Self> {
        if let Some(database) = environment("TROUPE_DATABASE") {
            self.server.database = SecretSource::literal(&database);
        }
        self.server.fail_point = fail_point()?.map(Arc::new);
        Ok(self)
    }

    fn warn_of_unused(&self) {
        let unused = [
            ("[tools]", self.tools.is_some()),
            ("[mcp]", self.mcp.is_some()),
        ];
        for (section, _) in unused.iter().filter(|(_, is_there)| *is_there) {
            tracing::warn!(
                section,
                "this section of the configuration is not used by this version of Troupe"
            );
        }
    }
}

impl LimitsConfig {
    /// The limits that cannot be set as high as they are, each with what was set and what holds.
    fn cut(&self) -> impl Iterator<Item = (&'static str, u32, u32)> {
        let all = [
            ("open_files", self.open_files, OPEN_FILES_MAX),
            ("instances", self.instances, INSTANCES_MAX),
        ];
        let set = all
            .into_iter()
            .filter_map(|(limit, set, most)| Some((limit, set?, most)));
        set.filter(|(_, set, most)| set > most)
    }

    fn warn_of_cut(&self) {
        for (limit, set, most) in self.cut() {
            tracing::warn!(
                limit,
                set,
                most,
                "this limit of the configuration is cut to the most that can be set"
            );
        }
    }
}

impl Places {
    /// `--data`, else `TROUPE_DATA`, else `troupe` in the user's data folder.
    pub(crate) fn find(options: &PlaceOptions) -> anyhow::Result<Self> {
        let data = match options
            .data
            .clone()
            .or(environment("TROUPE_DATA").map(PathBuf::from))
        {
            Some(data) => data,
            None => match user_folder("XDG_DATA_HOME", ".local/share") {
                Some(folder) => folder.join("troupe"),
                None => bail!("no data folder is known: give one with --data or TROUPE_DATA"),
            },
        };
        let cache = environment("TROUPE_CACHE")
            .map(PathBuf::from)
            .or(user_folder("XDG_CACHE_HOME", ".cache").map(|folder| folder.join("troupe")))
            .unwrap_or_else(|| data.join("cache"));
        let given = options
            .plugins
            .clone()
            .or(environment("TROUPE_PLUGINS").map(PathBuf::from));
        let beside = std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.to_owned()));
        let plugins = match (given, beside) {
            (Some(given), _) => vec![given],
            (None, Some(beside)) => ["plugins", "../plugins", "../share/troupe/plugins"]
                .map(|folder| beside.join(folder))
                .into(),
            (None, None) => Vec::new(),
        };
        Ok(Self {
            data,
            cache: cache.join("compiled"),
            plugins,
        })
    }
}

/// Where a configuration is looked for that nobody names: the first that is there holds.
pub(crate) fn looked_for() -> impl Iterator<Item = PathBuf> {
    let of_user = user_folder("XDG_CONFIG_HOME", ".config");
    let of_user = of_user.map(|folder| folder.join("troupe.toml"));
    [Some(PathBuf::from("troupe.toml")), of_user]
        .into_iter()
        .flatten()
}

/// A fault of the file with its place. The line itself is not shown: it may hold a key.
fn fault_of(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = line_of(text, before.len());
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(
        "the configuration {} has a fault at line {line}, column {column}: {}",
        path.display(),
        error.message()
    )
}

/// The number of the line in which a byte of a text lies, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    let before = text.get(..byte).unwrap_or_default();
    before.matches('\n').count() + 1
}

/// The point at which this process kills itself, for tests.
fn fail_point() -> anyhow::Result<Option<FailPoint>> {
    if !cfg!(debug_assertions) {
        return Ok(None);
    }
    environment("TROUPE_FAIL_POINT")
        .map(|text| text.parse().map_err(anyhow::Error::msg))
        .transpose()
}

/// What tests add to this machine's clock, in milliseconds, to have one that goes wrong.
pub(crate) fn clock_fault_ms() -> anyhow::Result<i64> {
    if !cfg!(debug_assertions) {
        return Ok(0);
    }
    let fault = environment("TROUPE_CLOCK_OFFSET_MS").map(|text| text.parse());
    let fault = fault.transpose();
    Ok(fault
        .context("TROUPE_CLOCK_OFFSET_MS is a number of milliseconds")?
        .unwrap_or(0))
}

/// The name of the user at this machine, who answers approvals.
pub(crate) fn user_name() -> Option<String> {
    environment("USER").or_else(|| environment("LOGNAME"))
}

/// Where Docker keeps what it shows registries: `DOCKER_CONFIG`, else `.docker` in the user's folder.
pub(crate) fn docker_folder() -> Option<PathBuf> {
    environment("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(environment("HOME")?).join(".docker")))
}

/// The filter for log lines, in the syntax of `RUST_LOG`.
pub(crate) fn log_filter() -> String {
    environment("TROUPE_LOG").unwrap_or_else(|| "warn".to_owned())
}

/// A folder of the user, by the XDG base directories.
fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    environment(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(environment("HOME")?).join(below_home)))
}

#[cfg(test)]
mod tests;
