//! Everything that steps turn to, joined once at the start.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use troupe_journal::{FailPoint, Journal};
use troupe_providers::{HttpClient, HttpSettings};
use troupe_sandbox::{
    Allocation, Compiler, Isolation, Limits, Sandbox, SandboxConfig, WorkerProgram,
};
use troupe_workflow::{
    Agent, AgentKind, CodeAgent, CodeSource, Definition, Faults, Tool, ToolAgent,
};

use crate::allocator::RESERVE_LITTLE;
use crate::cli::{COMPILE, WORK};
use crate::components::{self, Components};
use crate::config::{IsolationConfig, Places, ServerConfig};
use crate::gate::Gate;
use crate::grants::{Granting, Own};
use crate::limits::ceilings;
use crate::models::{Models, Reach};
use crate::run::RunSettings;
use crate::sources::Sources;
use crate::tools;
use crate::traces::Traces;

/// What one process has.
pub(crate) struct Services {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) models: Arc<Models>,
    pub(crate) sources: Sources,
    pub(crate) components: Arc<Components>,
    /// What agents are given.
    pub(crate) granting: Granting,
    /// Ceilings for every agent.
    pub(crate) limits: Limits,
    /// Bounds the calls of components at once.
    pub(crate) guests: Gate,
    /// Where tests have this process end in the middle of a call.
    pub(crate) fail_point: Option<Arc<FailPoint>>,
    /// What components ask of the host, where somebody wants to see it.
    pub(crate) traces: Option<Arc<Traces>>,
}

/// Whether a model must have a price, so that a budget can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priced {
    Needed,
    NotNeeded,
}

/// How this process reaches the outside.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    pub(crate) reach: Reach,
    pub(crate) documents: Option<PathBuf>,
}

impl Services {
    /// Prepares the sandbox and the clients; connects to nothing.
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        config: &ServerConfig,
        places: &Places,
        outside: &Outside,
    ) -> anyhow::Result<Self> {
        let client = HttpClient::new(&HttpSettings::STANDARD)?;
        let documents = outside.documents.as_deref();
        Ok(Self {
            journal,
            models: Arc::new(Models::new(config, outside.reach, &client)),
            sources: Sources::new(config, outside.reach, documents, &places.data, &client),
            components: Arc::new(open_components(config, places)?),
            granting: Granting::new(config, &Own::new(config, places), outside.reach)?,
            limits: ceilings(&config.limits),
            guests: Gate::new(config.server.guests),
            fail_point: config.server.fail_point.clone(),
            traces: None,
        })
    }

    /// Checks what a definition needs of this machine, so that nothing is started that cannot end.
    ///
    /// # Errors
    /// Each model, source and component that is not there, with its place and what to add.
    pub(crate) async fn check(&self, definition: &Definition) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let subs = definition
            .workflows()
            .map(|(_, workflow)| workflow.as_ref());
        for workflow in std::iter::once(definition).chain(subs) {
            // A sub-workflow draws on the budget around it too.
            let is_capped =
                definition.config().budget.is_some() || workflow.config().budget.is_some();
            let priced = if is_capped {
                Priced::Needed
            } else {
                Priced::NotNeeded
            };
            for agent in workflow.agents() {
                self.check_agent((workflow, agent), priced, &mut faults)
                    .await;
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort_along(definition.document());
        Err(faults)
    }

    async fn check_agent(
        &self,
        (workflow, agent): (&Definition, &Agent),
        priced: Priced,
        faults: &mut Faults,
    ) {
        let at = |field: &str| format!("{}/{field}", agent.pointer());
        if agent.cache.is_some() {
            faults.add(
                at("cache"),
                "`cache` is not available in this version of Troupe",
            );
        }
        match &agent.kind {
            AgentKind::Llm(llm) => {
                self.check_model(&llm.model, &at("model"), priced, faults);
                for (index, model) in llm.fallback_models.iter().enumerate() {
                    let place = at(&format!("fallback_models/{index}"));
                    self.check_model(model, &place, priced, faults);
                }
                if !llm.tools.is_empty() {
                    faults.add(
                        at("tools"),
                        "tools of a language model are not available in this version of Troupe; call them in steps of a tool agent, or from a component that is granted them",
                    );
                }
            }
            AgentKind::Search(search) => {
                self.check_sources(&search.sources, &at("sources"), faults);
            }
            AgentKind::Code(code) => {
                self.check_code_agent((workflow, agent, code), priced, faults)
                    .await;
            }
            AgentKind::Tool(tool) => self.check_tools(tool, &at("tools"), faults).await,
            AgentKind::Human(_) => {}
        }
    }

    async fn check_code_agent(
        &self,
        (workflow, agent, code): (&Definition, &Agent, &CodeAgent),
        priced: Priced,
        faults: &mut Faults,
    ) {
        let at = |field: &str| format!("{}/{field}", agent.pointer());
        let priced = match self.granting.bounds_money(workflow.name(), (agent, code)) {
            true => Priced::Needed,
            false => priced,
        };
        if let Some(models) = &code.grants.llm_models {
            for (index, model) in models.iter().enumerate() {
                let place = at(&format!("grants/llm/models/{index}"));
                self.check_model(model, &place, priced, faults);
            }
        }
        if let Some(sources) = &code.grants.search {
            self.check_sources(sources, &at("grants/search"), faults);
        }
        self.granting.check(workflow.name(), (agent, code), faults);
        if let Some(names) = &code.grants.tools
            && let Err(error) = self.check_granted(workflow, names).await
        {
            faults.add(at("grants/tools"), format!("{error:#}"));
        }
        if let Err(error) = self.check_code(&code.source).await {
            faults.add(at("component"), format!("{error:#}"));
        }
    }

    async fn check_tools(&self, agent: &ToolAgent, pointer: &str, faults: &mut Faults) {
        for (index, tool) in agent.tools.iter().enumerate() {
            match tool {
                Tool::Named(name) => {
                    faults.add(format!("{pointer}/{index}"), tools::not_configured(name));
                }
                Tool::Component(tool) => {
                    if let Err(error) = tools::check(&self.components, tool).await {
                        let place = format!("{pointer}/{index}/component");
                        faults.add(place, format!("{error:#}"));
                    }
                }
            }
        }
    }

    fn check_model(&self, name: &str, pointer: &str, priced: Priced, faults: &mut Faults) {
        match self.models.resolve(name) {
            Err(message) => faults.add(pointer, message),
            Ok(routes) if priced == Priced::Needed => {
                for route in routes
                    .iter()
                    .filter(|route| route.price.is_none() && !route.is_free)
                {
                    faults.add(
                        pointer,
                        format!(
                            "the model `{0}` has no price, so `budget_usd` cannot be kept; add [prices] \"{0}\" = {{ input_usd_per_million = …, output_usd_per_million = … }}",
                            route.model
                        ),
                    );
                }
            }
            Ok(_) => {}
        }
    }

    fn check_sources(&self, names: &[String], pointer: &str, faults: &mut Faults) {
        for (index, name) in names.iter().enumerate() {
            if let Err(message) = self.sources.find(name) {
                faults.add(format!("{pointer}/{index}"), message);
            }
        }
    }

    async fn check_granted(&self, workflow: &Definition, names: &[String]) -> anyhow::Result<()> {
        for tool in tools::named(workflow, names)? {
            tools::check(&self.components, tool).await?;
        }
        Ok(())
    }

    /// Checks that a component is here and can be called, and begins to load it: who creates a workflow does not wait
    /// until it is compiled.
    async fn check_code(&self, source: &CodeSource) -> anyhow::Result<()> {
        let which = components::named(source)?;
        let kind = self.components.examine(which).await?.kind;
        components::check_kind(which, kind)?;
        self.components.prepare(which);
        Ok(())
    }
}

/// The services for each way in which executions are started.
pub(crate) struct ServicesBySettings {
    journal: Arc<dyn Journal>,
    config: ServerConfig,
    places: Places,
    opened: Mutex<Opened>,
    traces: Option<Arc<Traces>>,
}

/// What was opened so far. What bounds how much is done at once is there once for all settings.
#[derive(Default)]
struct Opened {
    by_settings: BTreeMap<RunSettings, Arc<Services>>,
    /// Models by reach: no two differ in anything else.
    models: BTreeMap<Reach, Arc<Models>>,
    components: Option<(Arc<Components>, Gate)>,
}

/// Ways in which executions may be started at once: a folder of documents is one more.
const SETTINGS_MAX: usize = 64;

impl ServicesBySettings {
    pub(crate) fn new(journal: Arc<dyn Journal>, config: ServerConfig, places: Places) -> Self {
        Self {
            journal,
            config,
            places,
            opened: Mutex::default(),
            traces: None,
        }
    }

    /// The same where somebody wants to see what components ask of the host.
    pub(crate) fn with_traces(self, traces: Option<Arc<Traces>>) -> Self {
        Self { traces, ..self }
    }

    /// The services for executions that were started so.
    ///
    /// # Errors
    /// A sandbox or a client that cannot be made.
    pub(crate) fn get(&self, settings: &RunSettings) -> anyhow::Result<Arc<Services>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(services) = opened.by_settings.get(settings) {
            return Ok(Arc::clone(services));
        }
        let services = Arc::new(self.open(&mut opened, &settings.outside())?);
        if opened.by_settings.len() >= SETTINGS_MAX {
            opened.by_settings.clear();
        }
        opened
            .by_settings
            .insert(settings.clone(), Arc::clone(&services));
        Ok(services)
    }

    fn open(&self, opened: &mut Opened, outside: &Outside) -> anyhow::Result<Services> {
        let (config, places) = (&self.config, &self.places);
        let (components, guests) = match opened.components.take() {
            Some(there) => there,
            None => {
                let components = open_components(config, places)?;
                (Arc::new(components), Gate::new(config.server.guests))
            }
        };
        opened.components = Some((Arc::clone(&components), guests.clone()));
        let client = HttpClient::new(&HttpSettings::STANDARD)?;
        let models = opened
            .models
            .entry(outside.reach)
            .or_insert_with(|| Arc::new(Models::new(config, outside.reach, &client)));
        let documents = outside.documents.as_deref();
        Ok(Services {
            journal: Arc::clone(&self.journal),
            models: Arc::clone(models),
            sources: Sources::new(config, outside.reach, documents, &places.data, &client),
            components,
            granting: Granting::new(config, &Own::new(config, places), outside.reach)?,
            limits: ceilings(&config.limits),
            guests,
            fail_point: config.server.fail_point.clone(),
            traces: self.traces.clone(),
        })
    }
}

/// This program, as it compiles: the very one that runs, also where its file has been replaced since.
fn compiler(config: &ServerConfig) -> Compiler {
    let (name, value) = RESERVE_LITTLE;
    Compiler {
        program: "/proc/self/exe".into(),
        arguments: vec![COMPILE.into()],
        variables: vec![(name.into(), value.into())],
        memory_bytes_max: config.server.compile_memory_mb.saturating_mul(1 << 20),
        time_max: Duration::from_millis(config.server.compile_timeout_ms),
    }
}

/// Where guests run: this program again, with another command.
fn isolation(config: &ServerConfig) -> Isolation {
    match config.server.isolation {
        IsolationConfig::InProcess => Isolation::InProcess,
        IsolationConfig::Process => Isolation::Processes(WorkerProgram {
            program: "/proc/self/exe".into(),
            arguments: vec![WORK.into()],
            count: config.server.workers.map(NonZeroUsize::get),
        }),
    }
}

/// The sandbox's settings, as the operator's file has them.
pub(crate) fn sandbox_config(config: &ServerConfig, places: &Places) -> SandboxConfig {
    SandboxConfig {
        guest_memory_bytes_max: config.server.guest_memory_mb.saturating_mul(1 << 20),
        compiled_bytes_max: config.server.compiled_mb.saturating_mul(1 << 20),
        compiler: Some(compiler(config)),
        isolation: isolation(config),
        ..SandboxConfig::new(&places.cache)
    }
}

/// The components alone, for commands that need no journal.
pub(crate) fn open_components(
    config: &ServerConfig,
    places: &Places,
) -> anyhow::Result<Components> {
    let sandbox = Sandbox::new(sandbox_config(config, places))?;
    if let Some(Allocation::OnDemand { reason }) = sandbox.allocation() {
        tracing::warn!(
            reason,
            "instances are allocated on demand, which is slower than the pool"
        );
    }
    Ok(Components::new(
        sandbox,
        &places.data,
        places.plugins.clone(),
    ))
}

#[cfg(test)]
mod tests {
    use troupe_journal::MemoryJournal;

    use super::*;

    /// Folders of documents are many; places at a provider, for guests, and their memory are not.
    #[test]
    fn what_bounds_work_is_there_once_for_all_settings() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            data: folder.path().join("data"),
            cache: folder.path().join("cache"),
            plugins: Vec::new(),
        };
        let journal = Arc::new(MemoryJournal::new("a"));
        let services = ServicesBySettings::new(journal, ServerConfig::default(), places);
        let with_documents = |name: &str| {
            services.get(&RunSettings {
                documents: Some(folder.path().join(name)),
                ..RunSettings::default()
            })
        };
        let (one, other) = (with_documents("a").unwrap(), with_documents("b").unwrap());
        assert!(!Arc::ptr_eq(&one, &other));
        assert!(Arc::ptr_eq(&one.models, &other.models));
        assert!(Arc::ptr_eq(&one.components, &other.components));
    }
}
