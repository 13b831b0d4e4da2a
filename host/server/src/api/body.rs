//! What a request says: its JSON, its path, its query.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use troupe_workflow::ExecutionId;

use super::App;
use super::error::ApiError;

/// From here on a body is large, in bytes: what is made of it takes many times as much memory.
const LARGE_BYTES: u64 = 256 << 10;
/// Large bodies that are read and worked on at once. Bounds the memory that clients can take.
pub(super) const LARGE_AT_ONCE: usize = 2;
/// How long a body may take to arrive, and a large one to wait for its turn: who sends slowly keeps a place from others.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// A JSON body, with the bytes it was read from.
pub(super) struct Body<T> {
    pub(super) value: T,
    pub(super) bytes: Bytes,
    /// The place of a large one, for as long as it is worked on.
    _place: Option<OwnedSemaphorePermit>,
}

/// Waits for a place for a large body.
async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    let waiting = tokio::time::timeout(ARRIVES_WITHIN, Arc::clone(places).acquire_owned());
    match waiting.await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(_)) | Err(_) => Err(ApiError::busy("too many large requests are worked on")),
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let length = request.body().size_hint().upper();
        let place = match length {
            Some(length) if length < LARGE_BYTES => None,
            // It is large, or does not say how large it is.
            Some(_) | None => Some(place(&app.large_bodies).await?),
        };
        let arriving = tokio::time::timeout(ARRIVES_WITHIN, Bytes::from_request(request, app));
        let arrived = arriving.await.map_err(|_elapsed| {
            let seconds = ARRIVES_WITHIN.as_secs();
            ApiError::malformed(format!("the body did not arrive within {seconds} s"))
        })?;
        let bytes = arrived.map_err(|error| {
            if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::too_large("the body is too large")
            } else {
                ApiError::malformed("the body ended early")
            }
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let value = serde_json::from_slice(text)
            .map_err(|error| ApiError::malformed(format!("the body cannot be read: {error}")))?;
        Ok(Self {
            value,
            bytes,
            _place: place,
        })
    }
}

/// The id that the path names, as it was given.
pub(super) struct OfId(pub(super) String);

impl FromRequestParts<App> for OfId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Path(id) = Path::from_request_parts(parts, app)
            .await
            .map_err(|error| ApiError::malformed(error.body_text()))?;
        Ok(Self(id))
    }
}

/// The execution that the path names.
pub(super) struct OfExecution(pub(super) ExecutionId);

impl FromRequestParts<App> for OfExecution {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let OfId(id) = OfId::from_request_parts(parts, app).await?;
        let id = id
            .parse()
            .map_err(|error: troupe_workflow::IdError| ApiError::not_found(error.to_string()))?;
        Ok(Self(id))
    }
}

/// The parameters behind the question mark.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Query(params) = Query::from_request_parts(parts, app)
            .await
            .map_err(|error| ApiError::malformed(error.body_text()))?;
        Ok(Self(params))
    }
}

/// Which page of a list is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    #[serde(default)]
    pub(super) limit: Option<u32>,
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

/// How many entries a page has.
pub(super) fn limit_of(limit: Option<u32>) -> Result<u32, ApiError> {
    /// Entries of a page that does not say how many it wants.
    const LIMIT: u32 = 20;
    /// Entries of any page: bounds what one answer holds.
    const LIMIT_MAX: u32 = 100;
    match limit {
        None => Ok(LIMIT),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        Some(_) => Err(ApiError::invalid(
            "limit",
            format!("a page has 1 to {LIMIT_MAX} entries"),
        )),
    }
}
