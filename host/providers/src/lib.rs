//! Clients of the outside: language models, search services and document indexes, behind two vocabularies (models and
//! searches), with one error type and one price table; registries of components; and the way out for requests of others
//! (`egress`). This crate knows no workflows and no Wasm, reads no clock and no environment, and never lets a key into an
//! error or a log line.

mod answer;
mod anthropic;
mod documents;
mod egress;
mod error;
mod http;
mod learned;
mod model;
mod offline;
mod openai;
mod prices;
mod published;
mod registry;
mod search;
mod searxng;
mod secret;
mod sources;
mod structured;
#[cfg(test)]
mod testing;
mod text;

pub use anthropic::{ANTHROPIC_BASE_URL, ANTHROPIC_MAX_TOKENS, Anthropic, AnthropicSettings};
pub use documents::{
    DocumentLimits, Documents, DocumentsSettings, EXTRACTION_THREAD, IndexReport, IndexWarning,
};
pub use egress::{
    AddressClass, Egress, EgressError, EgressLimits, EgressReach, EgressRequest, EgressResponse,
    Lookup, LookupFuture, Secrecy, SystemLookup, address_class,
};
/// An address as all clients here read it.
pub use reqwest::Url;

pub use error::{ProviderError, Reached, SetupError};
pub use http::{HttpClient, HttpSettings};
pub use model::{
    Completion, Finish, Message, ModelProvider, ModelRequest, Schema, Strictness, Temperature,
    ToolCall, ToolDefinition, Usage, UsageSource,
};
pub use offline::{OFFLINE_MODEL, Offline};
pub use openai::{OPENAI_BASE_URL, OpenAi, OpenAiSettings};
pub use prices::{LongInputPrice, MicroUsd, ModelPrice, PriceTable, TokenPrice};
pub use registry::{
    Artifact, CredentialSource, Credentials, Registry, RegistryError, RegistryLimits,
    RegistryReference,
};
pub use search::{
    SEARCH_RESULTS_MAX, SearchAnswer, SearchHit, SearchQuery, SourceAnswer, SourceFailure,
    TimeRange, merge,
};
pub use searxng::{SearchCategory, Searxng, SearxngSettings};
pub use secret::Secret;
pub use sources::SearchSource;
