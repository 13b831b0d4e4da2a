//! What is checked of every request, and put on every answer.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

use super::App;
use super::error::{ApiError, Carried};
use crate::clock;

/// Names one request in answers and in the log.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

const REQUEST_ID: &str = "x-request-id";

/// Lets a request through that no page of another site can have sent, and numbers it.
pub(super) async fn check(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = RequestId(clock::new_id("req"));
    let span = tracing::info_span!("request", id = id.0);
    let checked = check_host(request.headers(), app.listens_at)
        .and_then(|()| check_address(request.uri()))
        .and_then(|()| check_type(request.method(), request.headers()));
    request.extensions_mut().insert(id.clone());
    let mut response = match checked {
        Ok(()) => next.run(request).instrument(span).await,
        Err(error) => error.into_response(),
    };
    let carried = response.extensions_mut().remove::<Carried>();
    let error = carried.and_then(|carried| {
        carried
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    });
    if let Some(error) = error {
        response = error.answer(&id);
    }
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A name that a foreign site has pointed at this machine is no name of this server, and a page of a foreign site
/// says whose it is.
fn check_host(headers: &HeaderMap, listens_at: SocketAddr) -> Result<(), ApiError> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| ApiError::malformed("a request needs a `Host` header"))?;
    if !is_ours(host, listens_at) {
        return Err(ApiError::forbidden(format!(
            "this server is not `{}`; it listens at {listens_at}",
            host.chars().take(80).collect::<String>()
        )));
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let is_ours = origin
        .strip_prefix("http://")
        .is_some_and(|host| is_ours(host, listens_at));
    if is_ours {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "pages of other sites may not use this server",
    ))
}

fn is_ours(host: &str, listens_at: SocketAddr) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && !port.ends_with(']') => (name, port.parse().ok()),
        _ => (host, Some(80)),
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_name = name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|address: IpAddr| {
            address == listens_at.ip() || (address.is_loopback() && listens_at.ip().is_loopback())
        });
    is_name && port == Some(listens_at.port())
}

/// No id, name or filter has a U+0000 in it, and not every database could look for one.
fn check_address(address: &Uri) -> Result<(), ApiError> {
    let has_zero = |text: &str| text.contains("%00");
    if has_zero(address.path()) || address.query().is_some_and(has_zero) {
        return Err(ApiError::malformed("the address holds a U+0000"));
    }
    Ok(())
}

/// Bodies are JSON: a form of a foreign page cannot send that.
fn check_type(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        return Ok(());
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::unsupported(
        "send `Content-Type: application/json`, with `{}` where there is nothing to say",
    ))
}
