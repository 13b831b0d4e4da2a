//! HTTP/1.1 by hand: as much as the clients under test send, and every way to break it off.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head and body that are read; a test that sends more is wrong.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// For example `POST`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The query's parameters, decoded; the last of a name wins.
    pub query: BTreeMap<String, String>,
    /// Names in lower case; the last of a name wins.
    pub headers: BTreeMap<String, String>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Recorded {
    /// A header by its name in lower case; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Reads one request; none at the end of the connection.
pub(super) async fn read_request(stream: &mut TcpStream) -> io::Result<Option<Recorded>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length.min(BODY_BYTES_MAX) {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = parameters
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    Ok(Some(Recorded {
        method,
        path: path.to_owned(),
        query,
        headers,
        body,
    }))
}

/// Writes a whole answer; whether that worked.
pub(super) async fn write(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &str,
) -> bool {
    let mut head = head(status, body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .await
        .is_ok()
}

/// Promises a whole body and writes half of it; the connection has to end then.
pub(super) async fn write_half(stream: &mut TcpStream, status: u16, body: &str) -> bool {
    let half = &body.as_bytes()[..body.len() / 2];
    let head = format!("{}\r\n", head(status, body.len()));
    // A client that went away before has its fault as well.
    drop(stream.write_all(&[head.as_bytes(), half].concat()).await);
    false
}

/// Waits until the client has closed its side. Clients send nothing while they wait for an answer.
pub(super) async fn closed(stream: &TcpStream) {
    let mut byte = [0];
    while stream.peek(&mut byte).await.is_ok_and(|count| count > 0) {
        tokio::task::yield_now().await;
    }
}

/// Makes the end of the connection a reset; it is never open afterwards.
pub(super) fn reset(stream: &TcpStream) -> bool {
    stream
        .set_zero_linger()
        .expect("a connected socket takes the option");
    false
}

fn head(status: u16, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    )
}

/// Percent signs and plus signs of a query.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
