//! Everything that steps turn to, joined once at the start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use troupe_journal::{FailPoint, Journal};
use troupe_providers::{HttpClient, HttpSettings};
use troupe_sandbox::{ComponentDigest, Limits, Sandbox, SandboxConfig};
use troupe_workflow::{Agent, AgentKind, CodeSource, Definition, Faults};

use crate::components::Components;
use crate::config::{LimitsConfig, Places, ServerConfig};
use crate::gate::Gate;
use crate::models::{Models, Reach};
use crate::outgoing::Outgoing;
use crate::run::RunSettings;
use crate::sources::Sources;

/// What one process has.
pub(crate) struct Services {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) models: Models,
    pub(crate) sources: Sources,
    pub(crate) components: Components,
    /// Where guests may send requests, and how.
    pub(crate) outgoing: Outgoing,
    /// Ceilings for every agent.
    pub(crate) limits: Limits,
    /// Bounds the calls of components at once.
    pub(crate) guests: Gate,
    /// Where tests have this process end in the middle of a call.
    pub(crate) fail_point: Option<Arc<FailPoint>>,
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
            models: Models::new(config, outside.reach, &client),
            sources: Sources::new(config, outside.reach, documents, &places.data, &client),
            components: open_components(places)?,
            outgoing: Outgoing::new(config, outside.reach)?,
            limits: ceilings(&config.limits),
            guests: Gate::new(config.server.guests),
            fail_point: config.server.fail_point.clone(),
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
                        "tools are not available in this version of Troupe",
                    );
                }
            }
            AgentKind::Search(search) => {
                self.check_sources(&search.sources, &at("sources"), faults);
            }
            AgentKind::Code(code) => {
                if let Some(models) = &code.grants.llm_models {
                    for (index, model) in models.iter().enumerate() {
                        let place = at(&format!("grants/llm/models/{index}"));
                        self.check_model(model, &place, priced, faults);
                    }
                }
                if let Some(sources) = &code.grants.search {
                    self.check_sources(sources, &at("grants/search"), faults);
                }
                self.outgoing.check(workflow.name(), agent, code, faults);
                let later = |name: &str| {
                    format!("the grant `{name}` is not available in this version of Troupe")
                };
                for name in &code.grants.others {
                    faults.add(at(&format!("grants/{name}")), later(name));
                }
                if code.grants.llm_budget.is_some() {
                    faults.add(at("grants/llm/budget_usd"), later("llm.budget_usd"));
                }
                if let Err(error) = self.check_code(&code.source).await {
                    faults.add(at("component"), format!("{error:#}"));
                }
            }
            AgentKind::Tool(_) => faults.add(
                at("tools"),
                "tools are not available in this version of Troupe",
            ),
            AgentKind::Human(_) => {}
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

    async fn check_code(&self, source: &CodeSource) -> anyhow::Result<()> {
        match source {
            CodeSource::Inline { language, .. } => {
                self.components.interpreter(*language).await?;
            }
            CodeSource::Component { reference } => {
                let digest: ComponentDigest = reference.parse().with_context(|| {
                    format!("`{reference}` is no digest (`sha256:…`); `troupe run` puts the digest of a component's file in its place")
                })?;
                self.components.agent(&digest).await?;
            }
        }
        Ok(())
    }
}

/// The services for each way in which executions are started.
pub(crate) struct ServicesBySettings {
    journal: Arc<dyn Journal>,
    config: ServerConfig,
    places: Places,
    opened: Mutex<BTreeMap<RunSettings, Arc<Services>>>,
    /// One for all of them.
    guests: Gate,
}

/// Ways in which executions may be started at once: a folder of documents is one more.
const SETTINGS_MAX: usize = 64;

impl ServicesBySettings {
    pub(crate) fn new(journal: Arc<dyn Journal>, config: ServerConfig, places: Places) -> Self {
        Self {
            guests: Gate::new(config.server.guests),
            journal,
            config,
            places,
            opened: Mutex::default(),
        }
    }

    /// The services for executions that were started so.
    ///
    /// # Errors
    /// A sandbox or a client that cannot be made.
    pub(crate) fn get(&self, settings: &RunSettings) -> anyhow::Result<Arc<Services>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(services) = opened.get(settings) {
            return Ok(Arc::clone(services));
        }
        let outside = settings.outside();
        let journal = Arc::clone(&self.journal);
        let services = Services::new(journal, &self.config, &self.places, &outside)?;
        let services = Arc::new(Services {
            guests: self.guests.clone(),
            ..services
        });
        if opened.len() >= SETTINGS_MAX {
            opened.clear();
        }
        opened.insert(settings.clone(), Arc::clone(&services));
        Ok(services)
    }
}

/// The components alone, for commands that need no journal.
pub(crate) fn open_components(places: &Places) -> anyhow::Result<Components> {
    let sandbox = Sandbox::new(SandboxConfig::new(&places.cache))?;
    if let troupe_sandbox::Allocation::OnDemand { reason } = sandbox.allocation() {
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

/// The operator's ceilings, over the standard ones.
pub(crate) fn ceilings(config: &LimitsConfig) -> Limits {
    let standard = Limits::STANDARD;
    Limits {
        fuel: config.fuel.unwrap_or(standard.fuel),
        memory_bytes_max: config
            .memory_mb
            .map_or(standard.memory_bytes_max, |mb| mb.saturating_mul(1 << 20)),
        time_max: config
            .timeout_ms
            .map_or(standard.time_max, Duration::from_millis),
        output_bytes_max: config
            .output_kb
            .map_or(standard.output_bytes_max, |kb| kb.saturating_mul(1 << 10)),
        host_calls_max: config.host_calls.unwrap_or(standard.host_calls_max),
        http_requests_max: config.http_requests.unwrap_or(standard.http_requests_max),
        http_bytes_max: config
            .http_kb
            .map_or(standard.http_bytes_max, |kb| kb.saturating_mul(1 << 10)),
        ..standard
    }
}
