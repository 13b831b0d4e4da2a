//! A small HTTP client: a connection for each request, so that a server that is gone is noticed by nobody else.

use std::fmt;
use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bounds every request: whatever takes longer hangs.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
}

/// A request, not yet sent.
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// Null where there is none.
    pub body: Value,
}

impl Request {
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET",
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self {
            method: "DELETE",
            ..Self::get(path)
        }
    }

    #[must_use]
    pub fn post(path: &str, body: &Value) -> Self {
        Self::post_bytes(path, body.to_string()).header("content-type", "application/json")
    }

    #[must_use]
    pub fn patch(path: &str, body: &Value) -> Self {
        Self {
            method: "PATCH",
            ..Self::post(path, body)
        }
    }

    /// Posts these bytes, and does not say what they are.
    #[must_use]
    pub fn post_bytes(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST",
            body: Some(body.into()),
            ..Self::get(path)
        }
    }

    /// With this header; `host` takes the place of the server's own.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this idempotency key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    fn bytes(&self, address: &str) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nconnection: close\r\n",
            self.method, self.path
        );
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head.push_str(&format!("host: {address}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

impl Client {
    pub(super) fn new(address: String) -> Self {
        Self { address }
    }

    /// The server's address and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request.
    ///
    /// # Errors
    /// A server that is not there, that ends before it has answered, or that does not answer for a minute.
    pub async fn send(&self, request: Request) -> io::Result<Response> {
        let sending = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            // A server may answer, and close, before it has read a body that it does not want.
            let written = stream.write_all(&request.bytes(&self.address)).await;
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes).await;
            match Response::parse(&bytes) {
                Some(response) => Ok(response),
                None => Err(written
                    .err()
                    .or(read.err())
                    .unwrap_or(io::ErrorKind::UnexpectedEof.into())),
            }
        };
        tokio::time::timeout(ANSWER_MAX, sending)
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Response {
    /// Reads a whole answer; none where it ends early.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
        let body = bytes.get(end + 4..end + 4 + length)?;
        let text = || Value::String(String::from_utf8_lossy(body).into_owned());
        let body = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body).unwrap_or_else(|_| text()),
        };
        Some(Self {
            status,
            headers,
            body,
        })
    }

    /// The first header of this name, in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// Its body, if it has this status.
    ///
    /// # Panics
    /// Where it has not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.body
    }

    /// The code of its error, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.body["error"]["code"].as_str()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:#}", self.status, self.body)
    }
}
