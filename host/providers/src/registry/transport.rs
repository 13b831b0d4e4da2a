//! Requests to registries: sent, sent on a few times, and read with a bound. What a registry is shown goes to itself and
//! to no other host, and nothing that began with TLS goes on without.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use url::form_urlencoded;

use super::challenge::{self, Challenge, Credentials, Shown, TokenWish};
use super::error::RegistryError;
use super::{RegistryLimits, manifest};
use crate::http::{HttpClient, is_loopback, reason_of, retry_after};
use crate::text;

/// How often one request is sent on. Protects from a circle.
const REDIRECTS_MAX: u32 = 5;
/// The largest manifest, as the specification has it. Protects memory.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// The largest answer with a token. Protects memory.
const TOKEN_BYTES_MAX: u64 = 256 << 10;
/// Longest refusal that is read. Protects memory from an error page without end.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Manifest,
    Token,
    /// Of as many bytes as the manifest says.
    Component {
        bytes: u64,
    },
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Token => "token",
            Self::Component { .. } => "component",
        }
    }

    fn bytes_max(self) -> u64 {
        match self {
            Self::Manifest => MANIFEST_BYTES_MAX,
            Self::Token => TOKEN_BYTES_MAX,
            Self::Component { bytes } => bytes,
        }
    }
}

/// A part as it came.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// Without its parameters.
    pub(super) media_type: Option<String>,
}

/// An answer whose body is not read yet.
pub(super) struct Response {
    inner: reqwest::Response,
    /// Whoever answered.
    host: String,
    /// Whether that is who was asked first.
    is_home: bool,
}

impl Response {
    /// What the registry asks for before it answers. Another host is not answered.
    pub(super) fn challenge(&self, home: &Url) -> Result<Option<Challenge>, RegistryError> {
        if self.inner.status() != StatusCode::UNAUTHORIZED || !self.is_home {
            return Ok(None);
        }
        let challenge = challenge::parse(self.inner.headers(), home);
        challenge
            .map(Some)
            .map_err(|reason| RegistryError::Credentials {
                host: self.host.clone(),
                reason,
            })
    }
}

/// Host and port of an address, for messages.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Sends, with the bounds of one client.
pub(super) struct Transport<'a> {
    pub(super) client: &'a HttpClient,
    pub(super) limits: &'a RegistryLimits,
}

impl Transport<'_> {
    /// Asks for a part, and goes where the registry sends on to.
    pub(super) async fn get(
        &self,
        home: &Url,
        part: Part,
        shown: &Shown,
    ) -> Result<Response, RegistryError> {
        let (mut url, mut is_home) = (home.clone(), true);
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.client.request(Method::GET, url.clone());
            if part == Part::Manifest {
                request = request.header(ACCEPT, manifest::ACCEPT);
            }
            if let (true, Some(header)) = (is_home, &shown.header) {
                request = request.header(AUTHORIZATION, header.clone());
            }
            let inner = self.send(request, &url, part).await?;
            let host = host_of(&url);
            let Some(target) = target_of(&inner) else {
                return Ok(Response {
                    inner,
                    host,
                    is_home,
                });
            };
            let next = next_of(&url, &target).map_err(|reason| RegistryError::Redirected {
                host,
                target: text::cut_chars(&text::squeeze(&target), 200),
                reason,
            })?;
            // Whoever was left once is not shown anything again.
            is_home &= next.origin() == home.origin();
            url = next;
        }
        Err(RegistryError::Redirected {
            host: host_of(home),
            target: host_of(&url),
            reason: "it does so again and again",
        })
    }

    /// Gets a token: with credentials where there are any, else as anybody.
    pub(super) async fn token(
        &self,
        wish: TokenWish,
        credentials: Option<Credentials>,
    ) -> Result<Shown, RegistryError> {
        let TokenWish {
            mut realm,
            service,
            scope,
        } = wish;
        let host = host_of(&realm);
        let failed = |reason: String| RegistryError::Credentials {
            host: host.clone(),
            reason,
        };
        let service = service.as_deref().map(|service| ("service", service));
        let asked = [("scope", scope.as_str())].into_iter().chain(service);
        let (request, used) = match credentials {
            Some(Credentials::IdentityToken(token)) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(asked)
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "troupe")
                    .append_pair("refresh_token", token.expose());
                let request = self
                    .client
                    .request(Method::POST, realm.clone())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.finish());
                (request, Shown::unseen(token))
            }
            other => {
                let used = match &other {
                    Some(credentials) => Shown::basic(credentials).map_err(failed)?,
                    None => Shown::default(),
                };
                realm.query_pairs_mut().extend_pairs(asked);
                let mut request = self.client.request(Method::GET, realm.clone());
                if let Some(header) = &used.header {
                    request = request.header(AUTHORIZATION, header.clone());
                }
                (request, used)
            }
        };
        let response = Response {
            inner: self.send(request, &realm, Part::Token).await?,
            host: host.clone(),
            is_home: true,
        };
        let answer = self.read(response, Part::Token, &used).await?;
        let token = challenge::parse_token(&answer.body)
            .ok_or_else(|| failed("the answer of what gives tokens holds none".to_owned()))?;
        Shown::token(token, used).map_err(failed)
    }

    async fn send(
        &self,
        request: RequestBuilder,
        url: &Url,
        part: Part,
    ) -> Result<reqwest::Response, RegistryError> {
        let host = || host_of(url);
        match timeout(self.limits.answer, request.send()).await {
            Err(_elapsed) => Err(RegistryError::TimedOut {
                host: host(),
                what: part.name(),
                after: self.limits.answer,
            }),
            Ok(Err(error)) if error.is_connect() => Err(RegistryError::NoConnection {
                host: host(),
                reason: text::one_line(&reason_of(&error)),
            }),
            Ok(Err(error)) => Err(broken(host(), part, &error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Reads a part, or why it is refused.
    pub(super) async fn read(
        &self,
        response: Response,
        part: Part,
        shown: &Shown,
    ) -> Result<Answer, RegistryError> {
        let Response {
            mut inner, host, ..
        } = response;
        let status = inner.status();
        if status != StatusCode::OK {
            let (mut body, deadline) = (Vec::new(), Instant::now() + self.limits.answer);
            let reading = Reading::new(&host, part, REFUSAL_BYTES_MAX);
            // Whatever part of the refusal can be read is enough: the status decides.
            drop(
                reading
                    .all(&mut inner, (self.limits.answer, deadline), &mut body)
                    .await,
            );
            return Err(refused(
                (host, part),
                (status, inner.headers(), &body),
                shown,
            ));
        }
        let media_type = inner
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| {
                value
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            });
        let limits = self.limits;
        let (between, total) = match part {
            Part::Component { .. } => (limits.between_bytes, limits.total),
            Part::Manifest | Part::Token => (limits.answer, limits.answer),
        };
        let mut body = Vec::new();
        let times = (between, Instant::now() + total);
        Reading::new(&host, part, part.bytes_max())
            .all(&mut inner, times, &mut body)
            .await?;
        Ok(Answer { body, media_type })
    }
}

/// A body that is being read.
struct Reading<'a> {
    host: &'a str,
    part: Part,
    bytes_max: u64,
}

impl<'a> Reading<'a> {
    fn new(host: &'a str, part: Part, bytes_max: u64) -> Self {
        Self {
            host,
            part,
            bytes_max,
        }
    }

    /// Reads all of a body into memory, which grows as it comes and not as its length says.
    async fn all(
        &self,
        response: &mut reqwest::Response,
        (between, deadline): (Duration, Instant),
        body: &mut Vec<u8>,
    ) -> Result<(), RegistryError> {
        if response.content_length() > Some(self.bytes_max) {
            return Err(self.too_large());
        }
        loop {
            let soonest = deadline.min(Instant::now() + between);
            let chunk = match timeout_at(soonest, response.chunk()).await {
                Err(_elapsed) => {
                    return Err(RegistryError::TimedOut {
                        host: self.host.to_owned(),
                        what: self.part.name(),
                        after: between,
                    });
                }
                Ok(Err(error)) => return Err(broken(self.host.to_owned(), self.part, &error)),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(chunk))) => chunk,
            };
            let bytes = u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX);
            if bytes > self.bytes_max {
                return Err(self.too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn too_large(&self) -> RegistryError {
        RegistryError::TooLarge {
            host: self.host.to_owned(),
            what: self.part.name(),
            bytes_max: self.bytes_max,
        }
    }
}

fn broken(host: String, part: Part, error: &reqwest::Error) -> RegistryError {
    RegistryError::Broken {
        host,
        what: part.name(),
        reason: text::one_line(&reason_of(error)),
    }
}

/// Where an answer sends on to.
fn target_of(response: &reqwest::Response) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let target = response.headers().get(LOCATION)?.to_str().ok()?;
    Some(target.to_owned())
}

/// The address that a target means, where it may be gone to.
pub(super) fn next_of(from: &Url, target: &str) -> Result<Url, &'static str> {
    let next = from
        .join(target)
        .map_err(|_parse_error| "it is no address")?;
    if !next.username().is_empty() || next.password().is_some() {
        return Err("it holds a user");
    }
    match (from.scheme(), next.scheme()) {
        (_, "https") => Ok(next),
        ("http", "http") if is_loopback(&next) => Ok(next),
        ("https", "http") => Err("it gives TLS up"),
        (_, "http") => Err("it is not reached by TLS"),
        _ => Err("it is neither http nor https"),
    }
}

/// A refusal, with the registry's own words and what to do.
fn refused(
    (host, part): (String, Part),
    (status, headers, body): (StatusCode, &HeaderMap, &[u8]),
    shown: &Shown,
) -> RegistryError {
    let advice = match status.as_u16() {
        401 | 403 => "sign in to the registry with `docker login`, and check the name".to_owned(),
        404 => "check the name, the tag and the digest".to_owned(),
        429 => match retry_after::from_headers(headers) {
            Some(wait) => format!("try again in {} s, or sign in", wait.as_secs()),
            None => "try again later, or sign in".to_owned(),
        },
        500.. => "try again later".to_owned(),
        _ => "check the address".to_owned(),
    };
    let said = words_of(body).map(|words| shown.clean(&words));
    RegistryError::Refused {
        host,
        what: part.name(),
        status: status.as_u16(),
        said: said.map_or_else(String::new, |words| format!(": {words}")),
        advice,
    }
}

/// The registry's own words: `{"errors":[{"code":…,"message":…}]}`, or what services of tokens say.
fn words_of(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let error = value.get("errors").and_then(|errors| errors.get(0));
    let error = error.unwrap_or(&value);
    let texts = ["code", "error", "message", "details", "error_description"]
        .into_iter()
        .filter_map(|name| error.get(name).and_then(Value::as_str));
    let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join(": "))
}
