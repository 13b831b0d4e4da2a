//! Requests that others make through us, to hosts that were granted to them: the address is looked up once, checked,
//! and connected to, so that a name cannot mean one machine when it is checked and another when it is used.
//!
//! It follows no redirects, asks no environment and no proxy, undoes no compression, keeps no connection and no cookie,
//! and writes itself what frames a message. What may go to which host is decided before; here is decided which
//! addresses a host may have.

mod address;
mod connection;
mod lookup;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use reqwest::{Method, Url};
use url::Host;

pub use self::address::{AddressClass, address_class};
pub use self::lookup::{Lookup, LookupFuture, SystemLookup};
use crate::error::SetupError;

/// Bounds of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimits {
    /// Until there is a connection: the look-up of the name, and TLS, included.
    pub connect: Duration,
    /// From then until the response's headers are there.
    pub first_byte: Duration,
    /// Between two pieces of the response's body.
    pub between_bytes: Duration,
    /// For all of it: protects from a server that sends a byte now and then for ever.
    pub total: Duration,
    /// Headers of a response. Protects the host, which holds them.
    pub headers_max: usize,
    /// Bytes of the headers of a response, at least 8192.
    pub header_bytes_max: usize,
    /// Bytes of the body of a response, as they are sent. Protects the host, which holds them.
    pub body_bytes_max: u64,
}

impl EgressLimits {
    /// Ten seconds to connect, a minute to answer, half a minute between two pieces, two minutes in all; a hundred
    /// headers of 32 KiB together, a body of 8 MiB.
    pub const STANDARD: Self = Self {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_secs(60),
        between_bytes: Duration::from_secs(30),
        total: Duration::from_secs(120),
        headers_max: 100,
        header_bytes_max: 32 << 10,
        body_bytes_max: 8 << 20,
    };
}

/// Which addresses the host of a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressReach {
    /// Those of the public internet.
    Public,
    /// Also those of private networks and of this machine; never a cloud's metadata.
    OwnNetwork,
    /// The one that stands in the URL: somebody who may granted it as it is written there.
    Literal,
}

/// A request.
#[derive(Debug, Clone)]
pub struct EgressRequest {
    /// Anything but `CONNECT` and `TRACE`.
    pub method: Method,
    /// `http` or `https`, without a user.
    pub url: Url,
    /// What is set here by ourselves is dropped: `host`, `content-length`, and what is between two machines only.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Which addresses the host may have.
    pub reach: EgressReach,
}

impl EgressRequest {
    /// Adds a header. A secret one is never printed.
    ///
    /// # Errors
    /// It is no header.
    pub fn add_header(
        &mut self,
        name: &str,
        value: Bytes,
        secrecy: Secrecy,
    ) -> Result<(), &'static str> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_invalid| "the name of a header is none")?;
        let mut value = HeaderValue::from_maybe_shared(value)
            .map_err(|_invalid| "the value of a header is none")?;
        value.set_sensitive(secrecy == Secrecy::Secret);
        self.headers
            .try_append(name, value)
            .map_err(|_too_many| "there are too many headers")?;
        Ok(())
    }
}

/// Whether a header's value may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// It may.
    Plain,
    /// It holds a secret.
    Secret,
}

/// A response, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressResponse {
    /// For example 302.
    pub status: u16,
    /// Without those that are between two machines only.
    pub headers: Vec<(HeaderName, Bytes)>,
    /// As it was sent.
    pub body: Bytes,
}

/// Why there is no response. Texts name the host, never a header, a body or a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Not a request that is sent from here.
    #[error("the request cannot be sent: {0}")]
    Invalid(&'static str),
    /// All addresses of the host are such that may not be reached.
    #[error("{host} is {address}, {class}, which was not granted")]
    Prohibited {
        /// The host in the URL.
        host: String,
        /// The first of its addresses.
        address: IpAddr,
        /// What it is.
        class: AddressClass,
    },
    /// The host has no address.
    #[error("the name {host} has no address ({reason})")]
    NameNotFound {
        /// The host in the URL.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// Nobody listens there.
    #[error("no connection to {host} ({reason})")]
    NoConnection {
        /// The host in the URL.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// No connection came about in time.
    #[error("no connection to {host} within {} ms", .after.as_millis())]
    ConnectTimedOut {
        /// The host in the URL.
        host: String,
        /// The limit.
        after: Duration,
    },
    /// No encrypted connection.
    #[error("no encrypted connection to {host} ({reason})")]
    Tls {
        /// The host in the URL.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection ended too early.
    #[error("the connection to {host} broke before the response was there ({reason})")]
    Broken {
        /// The host in the URL.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The response took too long.
    #[error("{host} sent no whole response: nothing came for {} ms, or it took longer than it may", .after.as_millis())]
    ResponseTimedOut {
        /// The host in the URL.
        host: String,
        /// The limit that was met.
        after: Duration,
    },
    /// The headers are more than is taken.
    #[error("the headers of the response are too many or too large")]
    HeadersTooLarge,
    /// The body is more than is taken.
    #[error("the body of the response has more than {0} bytes")]
    BodyTooLarge(u64),
    /// The response is not HTTP/1.
    #[error("what {host} sent is no HTTP response ({reason})")]
    Protocol {
        /// The host in the URL.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The way out. A clone is the same.
#[derive(Clone)]
pub struct Egress {
    lookup: Arc<dyn Lookup>,
    tls: connection::Tls,
}

impl Egress {
    /// Asks the system for addresses, and trusts the certificates that the system trusts.
    ///
    /// # Errors
    /// The machine has no usable certificates.
    pub fn new() -> Result<Self, SetupError> {
        Self::with_lookup(Arc::new(SystemLookup::default()))
    }

    /// The same, with another way to find addresses.
    ///
    /// # Errors
    /// The machine has no usable certificates.
    pub fn with_lookup(lookup: Arc<dyn Lookup>) -> Result<Self, SetupError> {
        Ok(Self {
            lookup,
            tls: connection::Tls::new()?,
        })
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// There is none; see [`EgressError`].
    pub async fn send(
        &self,
        mut request: EgressRequest,
        limits: &EgressLimits,
    ) -> Result<EgressResponse, EgressError> {
        check(&request)?;
        let host = request.url.host_str().unwrap_or_default().to_owned();
        drop_framing(&mut request.headers);
        let sending = self.send_checked(&host, request, limits);
        tokio::time::timeout(limits.total, sending)
            .await
            .unwrap_or(Err(EgressError::ResponseTimedOut {
                host: host.clone(),
                after: limits.total,
            }))
    }

    async fn send_checked(
        &self,
        host: &str,
        request: EgressRequest,
        limits: &EgressLimits,
    ) -> Result<EgressResponse, EgressError> {
        let connecting = async {
            let addresses = self.addresses(host, &request).await?;
            let itself = match request.reach {
                EgressReach::Public => connection::Itself::Refused,
                EgressReach::OwnNetwork | EgressReach::Literal => connection::Itself::Allowed,
            };
            self.tls
                .connect(&request.url, host, (&addresses, itself))
                .await
        };
        let stream = tokio::time::timeout(limits.connect, connecting)
            .await
            .map_err(|_elapsed| EgressError::ConnectTimedOut {
                host: host.to_owned(),
                after: limits.connect,
            })??;
        connection::exchange(stream, host, request, limits).await
    }

    /// The addresses of the host that may be connected to; nothing else is.
    async fn addresses(
        &self,
        host: &str,
        request: &EgressRequest,
    ) -> Result<Vec<SocketAddr>, EgressError> {
        let port = request
            .url
            .port_or_known_default()
            .ok_or(EgressError::Invalid("its address has no port"))?;
        let found = match request.url.host() {
            Some(Host::Ipv4(address)) => vec![IpAddr::V4(address)],
            Some(Host::Ipv6(address)) => vec![IpAddr::V6(address)],
            Some(Host::Domain(name)) => {
                if request.reach == EgressReach::Literal {
                    return Err(EgressError::Invalid(
                        "its host is a name where an address was granted",
                    ));
                }
                self.lookup
                    .addresses(name)
                    .await
                    .map_err(|error| EgressError::NameNotFound {
                        host: host.to_owned(),
                        reason: error.to_string(),
                    })?
            }
            None => return Err(EgressError::Invalid("its address has no host")),
        };
        let mut prohibited = None;
        let mut allowed = Vec::new();
        for address in found {
            match address_class(address) {
                Some(class) if !is_within(class, request.reach) => {
                    prohibited.get_or_insert((address, class));
                }
                _ => allowed.push(SocketAddr::new(address, port)),
            }
        }
        allowed.truncate(ADDRESSES_MAX);
        match (allowed.is_empty(), prohibited) {
            (false, _) => Ok(allowed),
            (true, Some((address, class))) => Err(EgressError::Prohibited {
                host: host.to_owned(),
                address,
                class,
            }),
            (true, None) => Err(EgressError::NameNotFound {
                host: host.to_owned(),
                reason: "none was found".to_owned(),
            }),
        }
    }
}

/// Addresses of one name that are tried. Protects from a name with thousands of them.
const ADDRESSES_MAX: usize = 8;

fn is_within(class: AddressClass, reach: EgressReach) -> bool {
    match reach {
        EgressReach::Public => false,
        EgressReach::OwnNetwork => class.is_own_network(),
        EgressReach::Literal => true,
    }
}

fn check(request: &EgressRequest) -> Result<(), EgressError> {
    let url = &request.url;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EgressError::Invalid("its scheme is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EgressError::Invalid("its address holds a user"));
    }
    if request.method == Method::CONNECT || request.method == Method::TRACE {
        return Err(EgressError::Invalid(
            "its method is none that is sent from here",
        ));
    }
    Ok(())
}

/// Drops what frames a message or speaks to the next machine only: both are ours to write.
fn drop_framing(headers: &mut HeaderMap) {
    let ours = [
        CONNECTION,
        CONTENT_LENGTH,
        EXPECT,
        HOST,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            ours.contains(name)
                || name.as_str().starts_with("proxy-")
                || matches!(name.as_str(), "keep-alive" | "http2-settings")
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}
