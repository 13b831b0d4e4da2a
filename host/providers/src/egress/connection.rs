//! One connection for one request, to an address that was checked: TCP, TLS where the URL says so, HTTP/1.1.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use reqwest::header::{CONNECTION, HOST, HeaderMap, HeaderValue};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::AddressClass;
use super::{EgressError, EgressLimits, EgressRequest, EgressResponse, drop_framing};
use crate::error::SetupError;

/// How connections are encrypted.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

/// A connection, encrypted or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Whether a connection may end at this machine, which a public address of its own does too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Itself {
    Allowed,
    Refused,
}

/// A connection from a machine to itself has the same address at both ends. Nothing was sent over it yet.
fn is_this_machine(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local.ip() == peer.ip(),
        _ => false,
    }
}

impl Tls {
    pub(super) fn new() -> Result<Self, SetupError> {
        let failed = |error: rustls::Error| SetupError::HttpClient {
            reason: error.to_string(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls_platform_verifier::Verifier::new(Arc::clone(&provider)).map_err(failed)?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous() // The name of this function: what it is given verifies by the system's own rules.
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Connects to the first of these addresses that lets us, and to nothing else.
    pub(super) async fn connect(
        &self,
        url: &Url,
        host: &str,
        (addresses, itself): (&[SocketAddr], Itself),
    ) -> Result<Stream, EgressError> {
        let mut last = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) if itself == Itself::Refused && is_this_machine(&stream) => {
                    return Err(EgressError::Prohibited {
                        host: host.to_owned(),
                        address: address.ip(),
                        class: AddressClass::Loopback,
                    });
                }
                Ok(stream) => return self.encrypt(url, host, stream).await,
                Err(error) => last = Some(error),
            }
        }
        Err(EgressError::NoConnection {
            host: host.to_owned(),
            reason: last.map_or_else(|| "it has no address".to_owned(), |error| error.to_string()),
        })
    }

    async fn encrypt(
        &self,
        url: &Url,
        host: &str,
        stream: TcpStream,
    ) -> Result<Stream, EgressError> {
        if url.scheme() == "http" {
            return Ok(Stream::Plain(stream));
        }
        let failed = |reason: String| EgressError::Tls {
            host: host.to_owned(),
            reason,
        };
        let name = host
            .trim_matches(['[', ']'])
            .trim_end_matches('.')
            .to_owned();
        let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
        let stream = self
            .0
            .connect(name, stream)
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Stream::Encrypted(Box::new(stream)))
    }
}

/// Sends the request over the connection and reads the whole response.
pub(super) async fn exchange(
    stream: Stream,
    host: &str,
    request: EgressRequest,
    limits: &EgressLimits,
) -> Result<EgressResponse, EgressError> {
    let timed_out = |after| EgressError::ResponseTimedOut {
        host: host.to_owned(),
        after,
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(limits.headers_max)
        .max_header_size(limits.header_bytes_max)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| fault(host, &error))?;
    let mut connection = Driver {
        connection: Box::pin(connection),
        is_over: false,
    };
    let request = message(request)?;
    let answering = connection.drive(sender.send_request(request));
    let response = tokio::time::timeout(limits.first_byte, answering)
        .await
        .map_err(|_elapsed| timed_out(limits.first_byte))?
        .map_err(|error| fault(host, &error))?;
    let (mut parts, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    loop {
        let reading = connection.drive(incoming.frame());
        let frame = tokio::time::timeout(limits.between_bytes, reading)
            .await
            .map_err(|_elapsed| timed_out(limits.between_bytes))?;
        let Some(frame) = frame else { break };
        // Trailers are not handed on.
        if let Ok(piece) = frame.map_err(|error| fault(host, &error))?.into_data() {
            let length = u64::try_from(body.len().saturating_add(piece.len())).unwrap_or(u64::MAX);
            if length > limits.body_bytes_max {
                return Err(EgressError::BodyTooLarge(limits.body_bytes_max));
            }
            body.extend_from_slice(&piece);
        }
    }
    drop_framing(&mut parts.headers);
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), Bytes::copy_from_slice(value.as_bytes())));
    Ok(EgressResponse {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body: Bytes::from(body),
    })
}

/// The request as it goes over the wire: its target is a path, never a whole address.
fn message(request: EgressRequest) -> Result<hyper::Request<Full<Bytes>>, EgressError> {
    let invalid = || EgressError::Invalid("its address is none that HTTP can carry");
    let authority = match (request.url.host_str(), request.url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(EgressError::Invalid("its address has no host")),
    };
    let target = match request.url.query() {
        Some(query) => format!("{}?{query}", request.url.path()),
        None => request.url.path().to_owned(),
    };
    let mut message = hyper::Request::new(Full::new(request.body));
    *message.method_mut() = request.method;
    *message.uri_mut() = target.parse::<hyper::Uri>().map_err(|_invalid| invalid())?;
    if message.uri().authority().is_some() || message.uri().scheme().is_some() {
        return Err(EgressError::Invalid("its path is an address"));
    }
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 2);
    headers.insert(
        HOST,
        HeaderValue::try_from(authority).map_err(|_invalid| invalid())?,
    );
    headers.extend(request.headers);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    *message.headers_mut() = headers;
    Ok(message)
}

/// A connection, which does its work in the task of whoever waits: nothing is left running when we give up.
struct Driver {
    connection: Pin<Box<http1::Connection<TokioIo<Stream>, Full<Bytes>>>>,
    is_over: bool,
}

impl Driver {
    /// Waits for `future`, and keeps the connection going meanwhile.
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            // What goes wrong with the connection is told by the future too.
            self.is_over = self.is_over || self.connection.as_mut().poll(cx).is_ready();
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// A fault of HTTP as ours.
fn fault(host: &str, error: &hyper::Error) -> EgressError {
    let host = host.to_owned();
    let reason = reason_of(error);
    if error.is_parse_too_large() {
        EgressError::HeadersTooLarge
    } else if error.is_parse() {
        EgressError::Protocol { host, reason }
    } else {
        EgressError::Broken { host, reason }
    }
}

/// The innermost cause: what the operating system or the parser said.
fn reason_of(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_to_this_machine_is_known_by_its_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        assert!(is_this_machine(&stream));
    }
}
