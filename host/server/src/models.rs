//! The models that workflows may name, and which service answers for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use troupe_providers::{
    ANTHROPIC_BASE_URL, Anthropic, AnthropicSettings, HttpClient, ModelPrice, ModelProvider,
    OFFLINE_MODEL, OPENAI_BASE_URL, Offline, OpenAi, OpenAiSettings, PriceTable,
};
use troupe_workflow::{ExecutionId, nearest};

use crate::clock::SystemClock;
use crate::config::{ModelConfig, ProviderConfig, ProviderKind, SecretSource, ServerConfig};
use crate::gate::{Gate, Pass};
use crate::rates::{Rates, RatesConfig};

/// Names that are there without any configuration: the name, its provider, the provider's name for it.
const MODELS: [(&str, &str, &str); 10] = [
    ("gpt-5", "openai", "gpt-5"),
    ("gpt-5-mini", "openai", "gpt-5-mini"),
    ("gpt-5-nano", "openai", "gpt-5-nano"),
    ("gpt-4.1", "openai", "gpt-4.1"),
    ("gpt-4.1-mini", "openai", "gpt-4.1-mini"),
    ("gpt-4o-mini", "openai", "gpt-4o-mini"),
    ("claude-4.5-sonnet", "anthropic", "claude-sonnet-4-5"),
    ("claude-4.5-haiku", "anthropic", "claude-haiku-4-5"),
    ("claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
    ("claude-haiku-4-5", "anthropic", "claude-haiku-4-5"),
];

/// Protects the resolver from routes that name each other.
const ROUTE_DEPTH_MAX: usize = 8;
/// Requests at once to one provider where the configuration says nothing.
const CONCURRENCY: usize = 16;

/// Whether real services are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    Online,
    /// The built-in model and the document index answer for all.
    Offline,
}

/// All models of the configuration.
pub(crate) struct Models {
    reach: Reach,
    client: HttpClient,
    settings: BTreeMap<String, ProviderConfig>,
    /// Made when they are first needed: only then is a key read, or a command run that prints one.
    providers: Mutex<BTreeMap<String, Result<Arc<Service>, String>>>,
    models: BTreeMap<String, ModelConfig>,
    prices: PriceTable,
}

/// A provider with its own limits of requests at once and in a minute.
pub(crate) struct Service {
    pub(crate) provider: ModelProvider,
    gate: Gate,
    rates: Rates,
}

/// A call that may be made now; dropping it lets the next one in.
pub(crate) struct Admission<'a> {
    rates: &'a Rates,
    /// Tokens that it is charged with.
    charged: u64,
    _pass: Pass,
}

/// One model that a name stands for.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) service: Arc<Service>,
    /// As the provider names it.
    pub(crate) model: String,
    /// None: the table has no price for it.
    pub(crate) price: Option<ModelPrice>,
    /// Whether it costs nothing, so that no price is needed.
    pub(crate) is_free: bool,
}

impl Service {
    /// Waits until a call of an execution may be made, in fairness to the calls of others.
    pub(crate) async fn admit(&self, execution: ExecutionId, tokens: u64) -> Admission<'_> {
        // A place first: what the rates let through is then made at once, and not together with what waited before it.
        let pass = self.gate.enter(execution).await;
        self.rates.wait(execution, tokens).await;
        Admission {
            rates: &self.rates,
            charged: tokens,
            _pass: pass,
        }
    }
}

impl Admission<'_> {
    /// Ends the call. None: nobody knows what it used, so it stays charged with what was assumed; so does one that is
    /// dropped, for the provider may be at work on it.
    pub(crate) fn settle(self, used: Option<u64>) {
        if let Some(used) = used {
            self.rates.correct(self.charged, used);
        }
    }
}

impl Models {
    pub(crate) fn new(config: &ServerConfig, reach: Reach, client: &HttpClient) -> Self {
        let mut settings = config.providers.clone();
        for (name, kind, variable) in [
            ("openai", ProviderKind::OpenAi, "OPENAI_API_KEY"),
            ("anthropic", ProviderKind::Anthropic, "ANTHROPIC_API_KEY"),
        ] {
            settings
                .entry(name.to_owned())
                .or_insert_with(|| ProviderConfig::keyed(kind, SecretSource::variable(variable)));
        }
        let mut models: BTreeMap<String, ModelConfig> = MODELS
            .into_iter()
            .map(|(name, provider, model)| {
                let model = ModelConfig::Model {
                    provider: provider.to_owned(),
                    model: model.to_owned(),
                };
                (name.to_owned(), model)
            })
            .collect();
        models.extend(config.models.clone());
        let prices = PriceTable::shipped().with_overrides(config.prices.clone());
        Self {
            reach,
            client: client.clone(),
            settings,
            providers: Mutex::new(BTreeMap::new()),
            models,
            prices,
        }
    }

    /// The service of a provider.
    fn provider(&self, name: &str) -> Option<Result<Arc<Service>, String>> {
        let settings = self.settings.get(name)?;
        let mut providers = self
            .providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let made = providers
            .entry(name.to_owned())
            .or_insert_with(|| service(name, settings, &self.client));
        Some(made.clone())
    }

    /// The models that a name stands for, in the order in which they are tried.
    ///
    /// # Errors
    /// A text that says what to add to the configuration.
    pub(crate) fn resolve(&self, name: &str) -> Result<Vec<Route>, String> {
        if self.reach == Reach::Offline {
            return Ok(vec![offline_route()]);
        }
        let mut routes = Vec::new();
        self.collect(name, 0, &mut routes)?;
        Ok(routes)
    }

    fn collect(&self, name: &str, depth: usize, routes: &mut Vec<Route>) -> Result<(), String> {
        if depth > ROUTE_DEPTH_MAX {
            return Err(format!(
                "the route of the model `{name}` leads in a circle; mend [models] in the configuration"
            ));
        }
        match self.models.get(name) {
            Some(ModelConfig::Route { route }) => {
                for next in route {
                    self.collect(next, depth + 1, routes)?;
                }
                Ok(())
            }
            Some(ModelConfig::Model { provider, model }) => {
                let service = match self.provider(provider) {
                    Some(Ok(service)) => service,
                    Some(Err(reason)) => {
                        return Err(format!(
                            "the model `{name}` is answered by the provider `{provider}`, which cannot be used: {reason}; or run with --offline, without any key"
                        ));
                    }
                    None => {
                        return Err(format!(
                            "the model `{name}` is answered by the provider `{provider}`, which the configuration does not have; add [providers.{provider}]"
                        ));
                    }
                };
                let is_free = matches!(service.provider, ModelProvider::Offline(_));
                let price = self.prices.get(model).or(self.prices.get(name)).cloned();
                routes.push(Route {
                    service,
                    model: model.clone(),
                    price,
                    is_free,
                });
                Ok(())
            }
            None => {
                let hint = nearest(name, self.models.keys().map(String::as_str))
                    .map_or_else(String::new, |known| format!(" (did you mean `{known}`?)"));
                Err(format!(
                    "the configuration knows no model `{name}`{hint}; add it: [models] \"{name}\" = {{ provider = \"…\", model = \"…\" }}"
                ))
            }
        }
    }
}

fn offline_route() -> Route {
    let provider = ModelProvider::Offline(Offline::new("offline"));
    let service = Arc::new(Service {
        provider,
        gate: Gate::new(CONCURRENCY),
        rates: Rates::new(RatesConfig::default(), Arc::new(SystemClock)),
    });
    Route {
        service,
        model: OFFLINE_MODEL.to_owned(),
        price: None,
        is_free: true,
    }
}

fn service(
    name: &str,
    settings: &ProviderConfig,
    client: &HttpClient,
) -> Result<Arc<Service>, String> {
    let api_key = settings
        .api_key
        .as_ref()
        .map(SecretSource::read)
        .transpose()?;
    let base_url = |default: &str| {
        settings
            .base_url
            .clone()
            .unwrap_or_else(|| default.to_owned())
    };
    let provider = match settings.kind {
        ProviderKind::OpenAi => {
            let settings = OpenAiSettings {
                name: name.to_owned(),
                base_url: base_url(OPENAI_BASE_URL),
                api_key,
            };
            ModelProvider::OpenAi(
                OpenAi::new(settings, client.clone()).map_err(|error| error.to_string())?,
            )
        }
        ProviderKind::Anthropic => {
            let settings = AnthropicSettings {
                name: name.to_owned(),
                base_url: base_url(ANTHROPIC_BASE_URL),
                api_key,
            };
            ModelProvider::Anthropic(
                Anthropic::new(settings, client.clone()).map_err(|error| error.to_string())?,
            )
        }
        ProviderKind::Offline => ModelProvider::Offline(Offline::new(name)),
    };
    let rates = RatesConfig {
        requests_per_minute: settings.requests_per_minute,
        tokens_per_minute: settings.tokens_per_minute,
    };
    Ok(Arc::new(Service {
        provider,
        gate: Gate::new(settings.concurrency.unwrap_or(CONCURRENCY)),
        rates: Rates::new(rates, Arc::new(SystemClock)),
    }))
}
