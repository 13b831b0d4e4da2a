//! Requests from the moment a guest hands them in until it takes their responses: checked against the grant, counted,
//! paid for, and given to the host's side in the order in which they came.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use url::Url;
use wasmtime_wasi_http::p2::bindings::http::types::{DnsErrorPayload, ErrorCode, Method};
use wasmtime_wasi_http::p2::body::HostIncomingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, FieldMap, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpHooks,
};

use super::body::{Body, Taken, length};
use super::secrets::{Placeholder, Searched};
use super::target::target;
use super::{Got, HttpGrant};
use crate::capability::HOST_CALL_FUEL;
use crate::http_exchange::{
    HTTP_RESPONSE_BYTES_MAX, HttpFault, HttpFaultKind, HttpRequest, HttpResponse, HttpTimeouts,
    Reach, SecretUse,
};
use crate::limits::Limit;
use crate::state::{State, Stop};
use crate::trace::{Ended, HostFunction};

/// Requests of one guest that are under way at once; further ones wait. Protects those who are asked, and bounds what
/// the host holds of responses.
const AT_ONCE_MAX: usize = 8;

/// A request and what became of it.
pub(super) enum Exchange {
    Unsent(Box<Unsent>),
    Over(Result<HttpResponse, HttpFault>),
    /// The guest has its response.
    Taken,
}

impl Exchange {
    pub(super) fn is_over(&self) -> bool {
        !matches!(self, Exchange::Unsent(_))
    }
}

/// A request that was not sent yet.
pub(super) struct Unsent {
    number: u64,
    method: String,
    /// What it says of itself cannot be sent.
    url: Result<Url, HttpFault>,
    headers: Vec<(String, Bytes)>,
    content_length: Option<u64>,
    body: Option<Body>,
    timeouts: HttpTimeouts,
}

impl Unsent {
    pub(super) fn new(
        number: u64,
        request: HostOutgoingRequest,
        body: Option<Body>,
        options: &RequestOptions,
    ) -> Self {
        let HostOutgoingRequest {
            method,
            scheme,
            authority,
            path_with_query,
            headers,
            body: _,
        } = request;
        let method = method_name(method);
        let url = target(
            scheme.as_ref(),
            authority.as_deref(),
            path_with_query.as_deref(),
        );
        let url = url.and_then(|url| check_method(&method).map(|()| url));
        let content_length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let headers = headers
            .iter()
            .filter(|(name, _)| *name != CONTENT_LENGTH && !is_forbidden(name))
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    Bytes::copy_from_slice(value.as_bytes()),
                )
            });
        Unsent {
            number,
            method,
            url,
            headers: headers.collect(),
            content_length,
            body,
            timeouts: HttpTimeouts {
                connect: options.connect_timeout,
                first_byte: options.first_byte_timeout,
                between_bytes: options.between_bytes_timeout,
            },
        }
    }

    /// Bytes of everything but the body.
    pub(super) fn head_bytes(&self) -> u64 {
        let url = self.url.as_ref().map_or(0, |url| url.as_str().len());
        let line = self.method.len().saturating_add(url);
        head_bytes(&self.headers).saturating_add(length(line))
    }

    fn is_whole(&self) -> bool {
        self.body.as_ref().is_none_or(|body| !body.is_open())
    }

    /// The body, and what is wrong with it.
    fn take_body(&self) -> (Bytes, Option<HttpFault>) {
        let fault = |why: String| Some(HttpFault::new(HttpFaultKind::RequestBody, why));
        let body = match self.body.as_ref().map(Body::take) {
            None => Bytes::new(),
            Some(Taken::Whole(body)) => body,
            Some(Taken::Never(why)) => {
                return (
                    Bytes::new(),
                    fault(format!("the request is not sent: {why}")),
                );
            }
            Some(Taken::Open) => {
                let why = "the request is not sent: its response was waited for before its body was finished";
                return (Bytes::new(), fault(why.to_owned()));
            }
        };
        match self.content_length {
            Some(said) if said != length(body.len()) => {
                let why = format!(
                    "the request is not sent: `content-length` says {said}, and its body has {} bytes",
                    body.len()
                );
                (Bytes::new(), fault(why))
            }
            _ => (body, None),
        }
    }
}

impl HttpGrant {
    /// Which addresses the host of `url` may have.
    ///
    /// # Errors
    /// It may not be asked at all: who would have to allow it.
    fn check(grant: Option<&Self>, agent: &str, url: &Url) -> Result<Reach, HttpFault> {
        let origin = url.origin().ascii_serialization();
        let (operator, workflow) = grant.map_or((&[][..], &[][..]), |grant| {
            (&grant.operator, &grant.workflow)
        });
        if !workflow.iter().any(|pattern| pattern.allows(url)) {
            let message = format!(
                "the agent `{agent}` may not send requests to {origin}: add `\"hosts\": [\"{origin}\"]` to the agent's `grants`, and let the operator allow it"
            );
            return Err(HttpFault::new(HttpFaultKind::Denied, message));
        }
        let reach = operator
            .iter()
            .filter(|host| host.pattern.allows(url))
            .map(|host| match (host.pattern.is_address(), host.is_private) {
                (true, _) => Reach::Literal,
                (false, true) => Reach::Private,
                (false, false) => Reach::Public,
            })
            .max();
        reach.ok_or_else(|| {
            let message = format!(
                "the agent `{agent}` may not send requests to {origin}: the workflow grants it in `hosts`, the operator does not; add `hosts = [\"{origin}\"]` to the [[grants]] of this agent in the configuration"
            );
            HttpFault::new(HttpFaultKind::Denied, message)
        })
    }
}

/// What the grants say of a request: which addresses its host may have, and the secrets that it uses.
///
/// # Errors
/// It is not granted, or a placeholder is where it may not be.
pub(super) fn judge(
    (grant, placeholders): (Option<&HttpGrant>, &[Placeholder]),
    agent: &str,
    request: &Searched<'_>,
) -> Result<(Reach, Vec<SecretUse>), HttpFault> {
    let reach = HttpGrant::check(grant, agent, request.url)?;
    let found = placeholders
        .iter()
        .filter_map(|placeholder| placeholder.find(request).transpose());
    Ok((reach, found.collect::<Result<_, _>>()?))
}

impl State {
    /// Has all requests sent that are whole, if the one of this response is among them, and waits for the responses.
    pub(crate) async fn exchange_for(&mut self, future: u32) -> wasmtime::Result<()> {
        let is_due =
            |exchange: &Exchange| matches!(exchange, Exchange::Unsent(unsent) if unsent.is_whole());
        if self.http.exchanges.get(&future).is_some_and(is_due) {
            self.exchange_due().await?;
        }
        Ok(())
    }

    /// The same for the first response among those that pollables wait for; whether there was one.
    pub(crate) async fn exchange_for_pollables(
        &mut self,
        pollables: &[u32],
    ) -> wasmtime::Result<()> {
        for pollable in pollables {
            if let Some(future) = self.http.awaited.get(pollable).copied() {
                self.exchange_for(future).await?;
            }
        }
        Ok(())
    }

    /// Gives requests up that wait for a body which nobody can finish while the guest waits for their responses.
    pub(crate) fn give_up_open(&mut self, pollables: &[u32]) {
        for pollable in pollables {
            let Some(future) = self.http.awaited.get(pollable) else {
                continue;
            };
            if let Some(exchange) = self.http.exchanges.get_mut(future)
                && let Exchange::Unsent(unsent) = exchange
                && let (_, Some(fault)) = unsent.take_body()
            {
                *exchange = Exchange::Over(Err(fault));
            }
        }
    }

    async fn exchange_due(&mut self) -> wasmtime::Result<()> {
        loop {
            let mut due: Vec<(u64, u32)> = self
                .http
                .exchanges
                .iter()
                .filter_map(|(future, exchange)| match exchange {
                    Exchange::Unsent(unsent) if unsent.is_whole() => Some((unsent.number, *future)),
                    _ => None,
                })
                .collect();
            due.sort_unstable();
            due.truncate(AT_ONCE_MAX);
            if due.is_empty() {
                return Ok(());
            }
            self.exchange_these(due.into_iter().map(|(_, future)| future))
                .await?;
        }
    }

    async fn exchange_these(&mut self, futures: impl Iterator<Item = u32>) -> wasmtime::Result<()> {
        let mut due = Vec::new();
        for future in futures {
            let Some(Exchange::Unsent(unsent)) = self.http.exchanges.remove(&future) else {
                continue;
            };
            if self.host_calls.count()?.is_err() {
                let message = "the agent has called the host as often as it may";
                let fault = HttpFault::new(HttpFaultKind::Other, message);
                self.http
                    .exchanges
                    .insert(future, Exchange::Over(Err(fault)));
                continue;
            }
            due.push((future, unsent));
        }
        if due.is_empty() {
            return Ok(());
        }
        self.trace_begins(HostFunction::Http);
        let (mut asked, mut requests) = (Vec::new(), Vec::new());
        for (future, unsent) in due {
            let request = self.admit(*unsent)?;
            self.tracer.count_asked(length(request.body.len()));
            requests.push(request);
            asked.push(future);
        }
        let least = requests.iter().map(|request| request.response_bytes_max);
        let least = least.min().unwrap_or(HTTP_RESPONSE_BYTES_MAX);
        let most = requests.iter().map(|request| request.response_bytes_max);
        let lent = self.memory.lend(most.sum()).await?;
        let host = Arc::clone(&self.host);
        let answers = host.fetch_many(requests).await;
        let held = answers.iter().flatten().map(|it| length(it.body.len()));
        self.memory.settle(lent, held.sum());
        self.move_clock();
        let (ended, owed) = (Ended::of_http(&answers), self.fuel_owed);
        let mut answers = answers.into_iter();
        for future in asked {
            let answer = answers.next().unwrap_or_else(|| {
                let message = "nobody knows how the request ended";
                Err(HttpFault::new(HttpFaultKind::Other, message))
            });
            if let Err(fault) = &answer
                && fault.kind.is_denial()
            {
                self.denials.note("hosts", fault.message.clone());
            }
            self.count_answer(&answer, least)?;
            self.http.exchanges.insert(future, Exchange::Over(answer));
        }
        let fuel = self.fuel_owed.saturating_sub(owed);
        self.trace_ends(&ended, fuel);
        Ok(())
    }

    /// Counts what a request says, and checks it: what is against it goes with it.
    fn admit(&mut self, unsent: Unsent) -> wasmtime::Result<HttpRequest> {
        let head_bytes = unsent.head_bytes();
        let (body, mut refused) = unsent.take_body();
        let (mut reach, mut secrets) = (Reach::Public, Vec::new());
        let url = match &unsent.url {
            Ok(url) => {
                let searched = Searched {
                    url,
                    headers: &unsent.headers,
                    body: &body,
                };
                let granted = (self.grants.http.as_ref(), self.http.placeholders.as_slice());
                match judge(granted, &self.agent, &searched) {
                    Ok(judged) => (reach, secrets) = judged,
                    Err(fault) => refused = Some(fault),
                }
                url.as_str().to_owned()
            }
            Err(fault) => {
                refused = Some(fault.clone());
                String::new()
            }
        };
        self.tracer.count_asked(head_bytes);
        self.host_bytes.count(head_bytes)?;
        let response_bytes_max = self.host_bytes.left().min(HTTP_RESPONSE_BYTES_MAX);
        Ok(HttpRequest {
            method: unsent.method,
            url,
            headers: unsent.headers,
            body,
            reach,
            timeouts: unsent.timeouts,
            response_bytes_max,
            secrets,
            refused,
        })
    }

    /// Counts and charges for what came back, of which at most `bytes_max` were let through.
    fn count_answer(
        &mut self,
        answer: &Result<HttpResponse, HttpFault>,
        bytes_max: u64,
    ) -> wasmtime::Result<()> {
        let bytes = match answer {
            Ok(response) => {
                head_bytes(&response.headers).saturating_add(length(response.body.len()))
            }
            Err(fault)
                if fault.kind == HttpFaultKind::ResponseBody
                    && bytes_max < HTTP_RESPONSE_BYTES_MAX =>
            {
                return Err(Stop(Limit::HostBytes).into());
            }
            Err(_) => 0,
        };
        self.fuel_owed = self
            .fuel_owed
            .saturating_add(HOST_CALL_FUEL)
            .saturating_add(bytes);
        self.tracer.count_answered(bytes);
        Ok(self.host_bytes.count(bytes)?)
    }

    /// The response, for the guest to keep.
    pub(super) fn take_response(&mut self, future: u32) -> wasmtime::Result<Got> {
        let Some(exchange) = self.http.exchanges.get_mut(&future) else {
            return Ok(Some(Err(())));
        };
        let result = match std::mem::replace(exchange, Exchange::Taken) {
            Exchange::Taken => return Ok(Some(Err(()))),
            unsent @ Exchange::Unsent(_) => {
                *exchange = unsent;
                return Ok(None);
            }
            Exchange::Over(result) => result,
        };
        let response = match result {
            Ok(response) => response,
            Err(fault) => return Ok(Some(Ok(Err(error_code(fault))))),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in response.headers {
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_maybe_shared(value),
            ) {
                headers.append(name, value);
            }
        }
        let body = Full::new(response.body).map_err(|never| match never {});
        let response = HostIncomingResponse {
            status: response.status,
            headers: FieldMap::new_immutable(&mut self.http.hooks, headers),
            body: Some(HostIncomingBody::new(body.boxed_unsync())),
        };
        Ok(Some(Ok(Ok(self.table.push(response)?))))
    }
}

/// A fault as `wasi:http` says it.
fn error_code(fault: HttpFault) -> ErrorCode {
    match fault.kind {
        HttpFaultKind::Denied => ErrorCode::HttpRequestDenied,
        HttpFaultKind::AddressProhibited => ErrorCode::DestinationIpProhibited,
        HttpFaultKind::InvalidRequest => ErrorCode::HttpRequestUriInvalid,
        HttpFaultKind::RequestBody => ErrorCode::HttpRequestBodySize(None),
        HttpFaultKind::NameNotFound => ErrorCode::DnsError(DnsErrorPayload {
            rcode: None,
            info_code: None,
        }),
        HttpFaultKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        HttpFaultKind::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        HttpFaultKind::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        HttpFaultKind::Tls => ErrorCode::TlsProtocolError,
        HttpFaultKind::ResponseTimeout => ErrorCode::HttpResponseTimeout,
        HttpFaultKind::ResponseHeaders => ErrorCode::HttpResponseHeaderSectionSize(None),
        HttpFaultKind::ResponseBody => ErrorCode::HttpResponseBodySize(None),
        HttpFaultKind::Protocol => ErrorCode::HttpProtocolError,
        HttpFaultKind::Other => ErrorCode::InternalError(Some(fault.message)),
    }
}

fn method_name(method: Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(other) => other,
    }
}

/// `CONNECT` asks for a tunnel, and `TRACE` for the headers that were sent, secrets among them.
pub(super) fn check_method(method: &str) -> Result<(), HttpFault> {
    let refused = ["CONNECT", "TRACE"]
        .iter()
        .any(|other| other.eq_ignore_ascii_case(method));
    if refused || http::Method::from_bytes(method.as_bytes()).is_err() {
        let message = "the request cannot be sent: its method is none that is sent from here";
        return Err(HttpFault::new(HttpFaultKind::InvalidRequest, message));
    }
    Ok(())
}

/// Headers that are between two machines, or that the host writes itself. (`content-length` may be written, and is
/// compared with the body.)
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
        || [HOST, TE, TRAILER, EXPECT].contains(name)
        || name.as_str().starts_with("proxy-")
}

/// Whether a guest's requests may have a header of this name with what the guest writes into it.
pub fn is_settable(name: &str) -> bool {
    let name = HeaderName::from_bytes(name.as_bytes());
    name.is_ok_and(|name| name != CONTENT_LENGTH && !is_forbidden(&name))
}

fn head_bytes(headers: &[(String, Bytes)]) -> u64 {
    headers
        .iter()
        .map(|(name, value)| length(name.len()).saturating_add(length(value.len())))
        .fold(0, u64::saturating_add)
}

/// What wasmtime-wasi-http asks of us.
pub(super) struct Hooks;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    /// Never asked: `handle` is ours.
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _ended: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(ErrorCode::HttpRequestDenied.into())))
    }
}

/// What sending would return.
type Sent = wasmtime_wasi_http::Result<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
)>;
