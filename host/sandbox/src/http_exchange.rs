//! A guest's HTTP request and what came of it, as [`crate::HostCalls`] speaks of them: whole, without streams, so that
//! they can be recorded.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use bytes::Bytes;

/// Bytes of the body of one request. Protects the host, which holds it until the request is sent.
pub const HTTP_REQUEST_BYTES_MAX: u64 = 8 << 20;
/// Bytes of the body of one response. Protects the host and the journal, which keeps it.
pub const HTTP_RESPONSE_BYTES_MAX: u64 = 8 << 20;

/// A request of a guest. Its address was checked against the grants, and is written as the parser of addresses
/// writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// For example `POST`.
    pub method: String,
    /// Scheme, host, port, path and query; no user, no fragment. Where no address can be made of what the guest gave,
    /// it is empty and `refused` says so.
    pub url: String,
    /// Names in lower case, and values. `host`, `content-length` and what is between two machines only are not in it.
    #[serde(with = "crate::octets::headers")]
    pub headers: Vec<(String, Bytes)>,
    /// At most [`HTTP_REQUEST_BYTES_MAX`].
    #[serde(with = "crate::octets")]
    pub body: Bytes,
    /// Which addresses its host may have.
    pub reach: Reach,
    /// What the guest wants to wait; the host waits no longer than it usually does.
    pub timeouts: HttpTimeouts,
    /// The longest body of a response, in bytes.
    pub response_bytes_max: u64,
    /// The secrets that the guest may use. It knows the placeholders alone.
    pub secrets: Vec<SecretUse>,
    /// What was found against it: it must be recorded, and answered so, but not sent.
    pub refused: Option<HttpFault>,
}

/// Which addresses a host may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reach {
    /// Those of the public internet.
    Public,
    /// Also those of private networks and of this machine: the operator said that the name is one of them.
    Private,
    /// The one that the operator wrote down; the address in the request is that one.
    Literal,
}

/// How long a guest wants to wait; none: as long as the host does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTimeouts {
    /// For a connection.
    pub connect: Option<Duration>,
    /// For the first byte of the response, once the request is sent.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the response's body.
    pub between_bytes: Option<Duration>,
}

/// A secret of which the guest has a placeholder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Its name in the grant.
    pub name: String,
    /// What stands for it in the guest. Wherever the secret itself comes back, it is to be put in its place.
    pub placeholder: String,
    /// The header in which the placeholder is to be replaced by the secret; none: not in this request.
    pub header: Option<String>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// For example 200. Redirections are responses like others.
    pub status: u16,
    /// Names in lower case, and values, in the order in which they came.
    #[serde(with = "crate::octets::headers")]
    pub headers: Vec<(String, Bytes)>,
    /// The body as it was sent: whatever its `content-encoding` says was not undone.
    #[serde(with = "crate::octets")]
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{kind}: {message}")]
pub struct HttpFault {
    /// The kind of fault: all that a guest is told, but for [`HttpFaultKind::Other`].
    pub kind: HttpFaultKind,
    /// What happened and what would help, for a person.
    pub message: String,
}

/// Kinds of fault, as `wasi:http` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HttpFaultKind {
    /// Not granted.
    Denied,
    /// The host has an address that may not be reached.
    AddressProhibited,
    /// The address or the method is none, or none that is sent.
    InvalidRequest,
    /// The request's body is too large, not as long as its `content-length` said, or was given up.
    RequestBody,
    /// The host's name has no address.
    NameNotFound,
    /// Nobody listens there.
    ConnectionRefused,
    /// No connection came about in time.
    ConnectionTimeout,
    /// The connection ended before the response did.
    ConnectionTerminated,
    /// No encrypted connection: for example a certificate that is not trusted.
    Tls,
    /// The response did not come in time.
    ResponseTimeout,
    /// The response's headers are too many or too large.
    ResponseHeaders,
    /// The response's body is larger than it may be.
    ResponseBody,
    /// The response is not HTTP.
    Protocol,
    /// Anything else.
    Other,
}

impl HttpFaultKind {
    /// All kinds.
    pub const ALL: [HttpFaultKind; 14] = [
        HttpFaultKind::Denied,
        HttpFaultKind::AddressProhibited,
        HttpFaultKind::InvalidRequest,
        HttpFaultKind::RequestBody,
        HttpFaultKind::NameNotFound,
        HttpFaultKind::ConnectionRefused,
        HttpFaultKind::ConnectionTimeout,
        HttpFaultKind::ConnectionTerminated,
        HttpFaultKind::Tls,
        HttpFaultKind::ResponseTimeout,
        HttpFaultKind::ResponseHeaders,
        HttpFaultKind::ResponseBody,
        HttpFaultKind::Protocol,
        HttpFaultKind::Other,
    ];

    /// Whether it was the grants that kept the request from being sent.
    pub fn is_denial(self) -> bool {
        matches!(
            self,
            HttpFaultKind::Denied | HttpFaultKind::AddressProhibited
        )
    }

    /// A stable word for it, for example `connection_refused`.
    pub fn as_str(self) -> &'static str {
        match self {
            HttpFaultKind::Denied => "denied",
            HttpFaultKind::AddressProhibited => "address_prohibited",
            HttpFaultKind::InvalidRequest => "invalid_request",
            HttpFaultKind::RequestBody => "request_body",
            HttpFaultKind::NameNotFound => "name_not_found",
            HttpFaultKind::ConnectionRefused => "connection_refused",
            HttpFaultKind::ConnectionTimeout => "connection_timeout",
            HttpFaultKind::ConnectionTerminated => "connection_terminated",
            HttpFaultKind::Tls => "tls",
            HttpFaultKind::ResponseTimeout => "response_timeout",
            HttpFaultKind::ResponseHeaders => "response_headers",
            HttpFaultKind::ResponseBody => "response_body",
            HttpFaultKind::Protocol => "protocol",
            HttpFaultKind::Other => "other",
        }
    }
}

impl fmt::Display for HttpFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl HttpFault {
    /// A fault with its message.
    pub fn new(kind: HttpFaultKind, message: impl Into<String>) -> Self {
        HttpFault {
            kind,
            message: message.into(),
        }
    }
}
