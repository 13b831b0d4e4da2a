//! OpenAI's chat completions, and everything that speaks them: Ollama, vLLM, LM Studio, OpenRouter and others. It owns
//! the conversation with the service; the bytes are built and read in `wire`.

mod wire;

use tokio::time::Instant;

use crate::error::{ProviderError, SetupError};
use crate::http::{Endpoint, EndpointSettings, HttpClient, KeyHeader, SendError};
use crate::learned::Learned;
use crate::model::{Completion, ModelRequest};
use crate::secret::Secret;

/// OpenAI's own address.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

/// Where a service that speaks chat completions is, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAiSettings {
    /// The provider's name in the configuration, for messages.
    pub name: String,
    /// The address that `/chat/completions` is appended to, for example [`OPENAI_BASE_URL`] or
    /// `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer …`; none for local servers that want none.
    pub api_key: Option<Secret>,
}

/// A client of one service.
#[derive(Debug)]
pub struct OpenAi {
    endpoint: Endpoint,
    token_limit: wire::TokenLimitName,
    learned: Learned,
}

impl OpenAi {
    /// Checks the settings; nothing is sent.
    ///
    /// # Errors
    /// [`SetupError`] for an address or key that cannot work.
    pub fn new(settings: OpenAiSettings, client: HttpClient) -> Result<Self, SetupError> {
        let endpoint = EndpointSettings {
            section: "providers",
            name: &settings.name,
            base_url: &settings.base_url,
            api_key: settings.api_key,
            key_header: KeyHeader::Bearer,
        };
        let endpoint = Endpoint::new(endpoint, client)?;
        let token_limit = wire::TokenLimitName::for_host(endpoint.host());
        Ok(Self {
            endpoint,
            token_limit,
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
            let body = wire::body(request, &refused, self.token_limit);
            let post = self
                .endpoint
                .post("chat/completions")
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
