//! How a call to the outside can fail: one enum for models and search services, because a caller reacts to both in
//! the same way. It must not hold another crate's error, nor a key.

use std::time::Duration;

use thiserror::Error;

/// Whether a request may have been worked on, and charged for, although no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It surely was not: the connection was never made, or the provider refused before it began.
    No,
    /// It may have been: the cost of the call is unknown.
    Maybe,
}

/// Why a provider gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProviderError {
    /// Too many requests, or too many tokens, in the provider's window.
    #[error("`{provider}` limits the rate of requests: {message}")]
    RateLimited {
        /// The provider's name in the configuration.
        provider: String,
        /// The provider's own words, bounded and free of keys.
        message: String,
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
    },
    /// The provider has no capacity now.
    #[error("`{provider}` is overloaded: {message}")]
    Overloaded {
        /// The provider's name in the configuration.
        provider: String,
        /// The provider's own words, bounded and free of keys.
        message: String,
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
    },
    /// No connection, a connection that broke, or the provider's own fault (5xx).
    #[error("`{provider}` could not be reached or failed: {message}")]
    Unavailable {
        /// The provider's name in the configuration.
        provider: String,
        /// What broke.
        message: String,
        /// Whether the work may have been done.
        reached: Reached,
    },
    /// The caller's own time limit passed.
    #[error("`{provider}` did not answer within {} ms; raise `timeout_ms` if that is too short", after.as_millis())]
    TimedOut {
        /// The provider's name in the configuration.
        provider: String,
        /// The limit that passed.
        after: Duration,
        /// Whether the work may have been done.
        reached: Reached,
    },
    /// The key is missing, wrong, without credit, or not allowed to do this.
    #[error("`{provider}` refused access: {message}")]
    Denied {
        /// The provider's name in the configuration.
        provider: String,
        /// What was refused and which key of the configuration to set.
        message: String,
    },
    /// The request itself was refused (4xx): asking again would be refused again.
    #[error("`{provider}` refused the request: {message}")]
    Invalid {
        /// The provider's name in the configuration.
        provider: String,
        /// The provider's own words, bounded and free of keys.
        message: String,
    },
    /// An answer came that cannot be used: cut off, no JSON, or without what the format requires.
    #[error("`{provider}` answered with something unusable: {message}")]
    BadAnswer {
        /// The provider's name in the configuration.
        provider: String,
        /// What was expected and what came.
        message: String,
    },
}

impl ProviderError {
    /// The stable code for clients: one of the error table of the workflow language.
    ///
    /// An unusable answer counts as `unavailable`: it is a fault of the service, and passes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } | Self::BadAnswer { .. } => "unavailable",
            Self::TimedOut { .. } => "timed_out",
            Self::Denied { .. } => "denied",
            Self::Invalid { .. } => "input_invalid",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::BadAnswer { .. } => true,
            Self::Denied { .. } | Self::Invalid { .. } => false,
        }
    }

    /// How long the provider asks to wait before the next try, where it says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Overloaded { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Whether the provider may have done, and charged for, the work: then the call's cost is unknown. False where it
    /// surely was not: no connection, or a refusal.
    #[must_use]
    pub fn sent(&self) -> bool {
        match self {
            Self::Unavailable { reached, .. } | Self::TimedOut { reached, .. } => {
                *reached == Reached::Maybe
            }
            Self::BadAnswer { .. } => true,
            Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::Denied { .. }
            | Self::Invalid { .. } => false,
        }
    }
}

/// Settings that cannot work; found when a provider is built, before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    /// An address that is no `http` or `https` base.
    #[error(
        "`base_url` of [{section}.{name}] is not usable ({reason}); give an address like https://host/v1, without `?`"
    )]
    BaseUrl {
        /// The table of the configuration, `providers` or `sources`.
        section: &'static str,
        /// The provider's name in that table.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that no header can carry.
    #[error(
        "`api_key` of [{section}.{name}] holds characters that no HTTP header can carry; set the key alone"
    )]
    ApiKey {
        /// The table of the configuration, `providers` or `sources`.
        section: &'static str,
        /// The provider's name in that table.
        name: String,
    },
    /// A folder or index file of documents that cannot be used.
    #[error("[sources.{name}] cannot use {path} ({reason}); {advice}")]
    Documents {
        /// The source's name in the configuration.
        name: String,
        /// The folder or file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The HTTP client could not be made: a bad proxy, or no TLS certificates on this machine.
    #[error(
        "the HTTP client could not be made ({reason}); check the proxy and that CA certificates are installed"
    )]
    HttpClient {
        /// What the library said.
        reason: String,
    },
}
