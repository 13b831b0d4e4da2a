//! The one HTTP client of all providers: sends a request, bounds what comes back, and turns what goes wrong into a
//! [`ProviderError`]. It never follows a redirect, never reads the environment, and never lets a key into an error.

mod refusal;
pub(crate) mod retry_after;

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};

pub(crate) use self::refusal::Refusal;
use crate::error::{ProviderError, Reached, SetupError};
use crate::secret::Secret;

/// Longest answer that is read. It protects the host's memory; the longest answer a model can give (128k tokens) is
/// about a megabyte.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest refusal that is read. It protects the host's memory from an error page without end.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Idle connections kept to one host, so that a burst does not leave hundreds of sockets open.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// How connections are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Longest time to make a connection, TLS included; a call's own limit runs beside it.
    pub connect_timeout: Duration,
    /// A proxy for all requests, for example `http://proxy.example.com:3128`. The environment is not asked.
    pub proxy: Option<String>,
}

impl HttpSettings {
    /// Ten seconds to connect, no proxy.
    pub const STANDARD: Self = Self {
        connect_timeout: Duration::from_secs(10),
        proxy: None,
    };
}

/// A pool of connections, shared by all providers. A clone is the same pool.
#[derive(Debug, Clone)]
pub struct HttpClient(reqwest::Client);

impl HttpClient {
    /// Makes the pool; nothing is connected yet.
    ///
    /// # Errors
    /// [`SetupError::HttpClient`] where the proxy is no address or the machine has no usable CA certificates.
    pub fn new(settings: &HttpSettings) -> Result<Self, SetupError> {
        let failed = |e: &reqwest::Error| SetupError::HttpClient {
            reason: reason_of(e),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("troupe/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .redirect(reqwest::redirect::Policy::none()) // a redirect would carry the key to another host
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .no_proxy();
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|e| failed(&e))?);
        }
        builder.build().map(Self).map_err(|e| failed(&e))
    }

    /// Starts a request without a key, for who bounds the answer itself.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.0.request(method, url)
    }
}

/// How a key travels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyHeader {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    XApiKey,
}

/// What one provider is built from.
pub(crate) struct EndpointSettings<'a> {
    /// The table of the configuration that holds it, `providers` or `sources`.
    pub(crate) section: &'static str,
    pub(crate) name: &'a str,
    pub(crate) base_url: &'a str,
    pub(crate) api_key: Option<Secret>,
    pub(crate) key_header: KeyHeader,
}

/// One provider's address and key, checked, with the connections to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    section: &'static str,
    name: String,
    base: Url,
    api_key: Option<Secret>,
    key_header: Option<(HeaderName, HeaderValue)>,
    client: HttpClient,
}

/// An answer with a 2xx status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer: the provider refused with a status, or something broke before it could.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The provider answered with a status that is not 2xx.
    Refused(Refusal),
    /// No whole answer.
    Broken(ProviderError),
}

impl Endpoint {
    /// Checks address and key.
    pub(crate) fn new(
        settings: EndpointSettings<'_>,
        client: HttpClient,
    ) -> Result<Self, SetupError> {
        let EndpointSettings {
            section,
            name,
            base_url,
            api_key,
            key_header,
        } = settings;
        let base = parse_base_url(base_url).map_err(|reason| SetupError::BaseUrl {
            section,
            name: name.to_owned(),
            reason: reason.to_owned(),
        })?;
        let api_key = api_key.filter(|key| !key.expose().is_empty());
        if api_key.is_some() && base.scheme() == "http" && !is_loopback(&base) {
            tracing::warn!(
                provider.name = name,
                "the API key travels unencrypted: `base_url` is not https"
            );
        }
        let key_header = match &api_key {
            Some(key) => Some(
                header_of(key, key_header).ok_or_else(|| SetupError::ApiKey {
                    section,
                    name: name.to_owned(),
                })?,
            ),
            None => None,
        };
        Ok(Self {
            section,
            name: name.to_owned(),
            base,
            api_key,
            key_header,
            client,
        })
    }

    /// The provider's name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The host of the base address; empty for an address without one.
    pub(crate) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Starts a POST to `path` below the base address, with the key.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.with_key(self.client.0.post(self.url(path)))
    }

    /// Starts a GET of `path` below the base address, with these parameters and the key.
    pub(crate) fn get(&self, path: &str, parameters: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(parameters);
        self.with_key(self.client.0.get(url))
    }

    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.key_header {
            Some((name, value)) => request.header(name.clone(), value.clone()),
            None => request,
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}/{path}",
            self.base.path().trim_end_matches('/')
        ));
        url
    }

    /// Sends `request` and reads the whole answer within `timeout`.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<Answer, SendError> {
        let mut response = request
            .timeout(timeout)
            .send()
            .await
            .map_err(|e| SendError::Broken(self.broken(&e, timeout)))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        if !status.is_success() {
            // Whatever part of the refusal can be read is enough: the status decides.
            let body = self.read(&mut response, REFUSAL_BYTES_MAX, timeout).await;
            let body = body.unwrap_or_else(|(_, part)| part);
            return Err(SendError::Refused(Refusal::new(
                self, status, &headers, &body,
            )));
        }
        let body = self.read(&mut response, ANSWER_BYTES_MAX, timeout).await;
        let body = body.map_err(|(error, _)| SendError::Broken(error))?;
        Ok(Answer { headers, body })
    }

    /// Reads at most `bytes_max`; an error comes with what was read before it.
    async fn read(
        &self,
        response: &mut reqwest::Response,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Vec<u8>, (ProviderError, Vec<u8>)> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(body),
                Ok(Some(chunk)) if body.len() + chunk.len() > bytes_max => {
                    let message = format!("the answer is larger than {bytes_max} bytes");
                    return Err((self.bad_answer(message), body));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => return Err((self.broken(&error, timeout), body)),
            }
        }
    }

    /// A transport error as ours.
    fn broken(&self, error: &reqwest::Error, timeout: Duration) -> ProviderError {
        let provider = self.name.clone();
        let reached = if error.is_connect() || error.is_builder() {
            Reached::No
        } else {
            Reached::Maybe
        };
        if error.is_timeout() && !error.is_connect() {
            return ProviderError::TimedOut {
                provider,
                after: timeout,
                reached,
            };
        }
        let what = if error.is_connect() {
            format!(
                "no connection to {}",
                self.base.origin().ascii_serialization()
            )
        } else if error.is_body() || error.is_decode() {
            "the connection broke in the middle of the answer".to_owned()
        } else {
            "the connection broke before an answer came".to_owned()
        };
        ProviderError::Unavailable {
            provider,
            message: format!("{what} ({})", self.clean(&reason_of(error))),
            reached,
        }
    }

    /// An answer that cannot be used.
    pub(crate) fn bad_answer(&self, message: String) -> ProviderError {
        ProviderError::BadAnswer {
            provider: self.name.clone(),
            message,
        }
    }

    /// Text of a server for an error message: bounded, on one line, without the key.
    pub(crate) fn clean(&self, text: &str) -> String {
        let scrubbed = match &self.api_key {
            Some(key) => key.scrub(text),
            None => text.to_owned(),
        };
        crate::text::one_line(&scrubbed)
    }

    /// How to set a key that is missing or refused.
    fn key_advice(&self) -> String {
        let verb = if self.api_key.is_some() {
            "check"
        } else {
            "set"
        };
        format!("{verb} `api_key` under [{}.{}]", self.section, self.name)
    }
}

fn parse_base_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_parse_error| "it is no absolute address")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it is neither http nor https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name or password; use `api_key`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it holds a `?` or `#` part");
    }
    Ok(url)
}

/// Whether an address is this machine itself, as it stands there.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn header_of(key: &Secret, header: KeyHeader) -> Option<(HeaderName, HeaderValue)> {
    let (name, text) = match header {
        KeyHeader::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        KeyHeader::XApiKey => (
            HeaderName::from_static("x-api-key"),
            key.expose().to_owned(),
        ),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// The innermost cause: what the operating system or TLS said, without the address again.
pub(crate) fn reason_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
