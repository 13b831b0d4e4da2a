//! Anthropic's messages. It owns the conversation with the service; the bytes are built and read in `wire`.

mod wire;

use tokio::time::Instant;

use crate::error::{ProviderError, SetupError};
use crate::http::{Endpoint, EndpointSettings, HttpClient, KeyHeader, SendError};
use crate::learned::Learned;
use crate::model::{Completion, ModelRequest};
use crate::secret::Secret;

/// Anthropic's own address.
pub const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com/v1";

/// The limit on output tokens of a request that names none: the format requires one. Every model takes this much.
pub const ANTHROPIC_MAX_TOKENS: u32 = 4_096;

/// Where a service that speaks the messages format is, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnthropicSettings {
    /// The provider's name in the configuration, for messages.
    pub name: String,
    /// The address that `/messages` is appended to, for example [`ANTHROPIC_BASE_URL`].
    pub base_url: String,
    /// Sent as `x-api-key`.
    pub api_key: Option<Secret>,
}

/// A client of one service.
#[derive(Debug)]
pub struct Anthropic {
    endpoint: Endpoint,
    learned: Learned,
}

impl Anthropic {
    /// Checks the settings; nothing is sent.
    ///
    /// # Errors
    /// [`SetupError`] for an address or key that cannot work.
    pub fn new(settings: AnthropicSettings, client: HttpClient) -> Result<Self, SetupError> {
        let endpoint = EndpointSettings {
            section: "providers",
            name: &settings.name,
            base_url: &settings.base_url,
            api_key: settings.api_key,
            key_header: KeyHeader::XApiKey,
        };
        Ok(Self {
            endpoint: Endpoint::new(endpoint, client)?,
            learned: Learned::default(),
        })
    }

    /// The provider's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        self.endpoint.name()
    }

    /// Asks the model and waits for the whole answer.
    ///
    /// # Errors
    /// A [`ProviderError`]; its `sent()` tells whether the call may have cost something.
    pub async fn complete(&self, request: &ModelRequest) -> Result<Completion, ProviderError> {
        let deadline = Instant::now() + request.timeout;
        let mut refused = self.learned.get(&request.model);
        loop {
            let body = wire::body(request, &refused);
            let post = self
                .endpoint
                .post("messages")
                .header("anthropic-version", wire::version(&body))
                .header("idempotency-key", &request.idempotency_key);
            let left = deadline.saturating_duration_since(Instant::now());
            match self.endpoint.send(post.json(&body), left).await {
                Ok(answer) => {
                    return wire::completion(request, &refused, &answer)
                        .map_err(|message| self.endpoint.bad_answer(message));
                }
                Err(SendError::Broken(error)) => return Err(error),
                Err(SendError::Refused(refusal)) => match wire::refused_field(&body, &refusal) {
                    Some(field) if refused.add(field) => {
                        if refusal.is_for_good() {
                            self.learned.add(&request.model, field);
                        }
                    }
                    _ => return Err(refusal.into_error(&self.endpoint)),
                },
            }
        }
    }
}
