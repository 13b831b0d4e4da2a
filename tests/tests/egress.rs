//! The way out that guests' requests take: names that change their meaning, servers that send too much, too slowly, or
//! something else than HTTP. Each ends as itself, and the next request is answered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use troupe_providers::{
    Egress, EgressError, EgressLimits, EgressReach, EgressRequest, EgressResponse, Lookup,
    LookupFuture, Secrecy,
};

/// A name that means something else each time it is asked for.
struct Names {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |addresses: &&[&str]| {
            let parsed = addresses
                .iter()
                .map(|address| address.parse().expect("an address"));
            parsed.collect()
        };
        Arc::new(Self {
            answers: answers.iter().map(parse).collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Lookup for Names {
    fn addresses<'a>(&'a self, _name: &'a str) -> LookupFuture<'a> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers[number.min(self.answers.len() - 1)].clone();
        Box::pin(async move { Ok(answer) })
    }
}

/// What a server does with a connection when the request has come.
#[derive(Clone)]
enum Plays {
    /// It sends this, and closes.
    Sends(Vec<u8>),
    /// It sends the first, and then the second again and again for as long as anyone listens.
    Repeats(Vec<u8>, Vec<u8>, Duration),
    /// It sends this, and keeps the connection.
    Waits(Vec<u8>),
    /// It answers with the request.
    Echoes,
}

/// A server on loopback; it ends when it is dropped.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Plays this to everyone who connects.
async fn serve(plays: Plays) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("its address");
    let connections = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let connections = Arc::clone(&connections);
        async move {
            let mut playing = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                playing.spawn(play(stream, plays.clone()));
            }
        }
    });
    Server {
        address,
        connections,
        _tasks: tasks,
    }
}

async fn play(mut stream: TcpStream, plays: Plays) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    match plays {
        Plays::Sends(bytes) => {
            // Who was sent enough has gone.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Plays::Repeats(first, again, pause) => {
            let _ = stream.write_all(&first).await;
            while stream.write_all(&again).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        }
        Plays::Waits(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read_u8().await;
        }
        Plays::Echoes => {
            let _ = stream
                .write_all(&[HEAD.as_bytes(), &request].concat())
                .await;
        }
    }
}

/// Short ones, so that a test does not take minutes.
const LIMITS: EgressLimits = EgressLimits {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_millis(300),
    between_bytes: Duration::from_millis(300),
    total: Duration::from_millis(900),
    headers_max: 20,
    header_bytes_max: 8 << 10,
    body_bytes_max: 64 << 10,
};

fn request(url: &str, reach: EgressReach) -> EgressRequest {
    EgressRequest {
        method: Method::GET,
        url: Url::parse(url).expect("a URL"),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        reach,
    }
}

async fn answer(plays: Plays) -> Result<EgressResponse, EgressError> {
    let egress = Egress::new().expect("certificates");
    let server = serve(plays).await;
    let asked = request(&server.url(), EgressReach::Literal);
    let answer = egress.send(asked, &LIMITS).await;
    // Whatever came: the next request is answered.
    let server = serve(sends("HTTP/1.1 200 OK\r\n\r\nwell")).await;
    let next = request(&server.url(), EgressReach::Literal);
    let next = egress.send(next, &LIMITS).await.expect("an answer");
    assert_eq!((next.status, &next.body[..]), (200, &b"well"[..]));
    answer
}

fn sends(text: &str) -> Plays {
    Plays::Sends(text.as_bytes().to_vec())
}

const HEAD: &str = "HTTP/1.1 200 OK\r\n\r\n";

#[tokio::test]
async fn a_name_is_asked_for_once_and_never_leads_to_this_machine() {
    let server = serve(sends(HEAD)).await;
    let url = format!("http://rebound.example:{}/", server.address.port());
    for addresses in [
        ["127.0.0.1"].as_slice(),
        &["::1", "127.0.0.1"],
        &["169.254.169.254"],
        &["10.0.0.1", "192.168.0.1", "172.16.0.1"],
        &["100.64.0.1"],
        &["0.0.0.0"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["fd00::1", "fe80::1"],
    ] {
        let names = Names::new(&[addresses]);
        let egress = Egress::with_lookup(Arc::clone(&names) as _).expect("certificates");
        let error = egress
            .send(request(&url, EgressReach::Public), &LIMITS)
            .await;
        assert!(
            matches!(error, Err(EgressError::Prohibited { .. })),
            "{addresses:?}: {error:?}"
        );
        assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    }
    // Granted for one's own network, the name is asked for once: what it means the second time is never seen.
    let names = Names::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = Egress::with_lookup(Arc::clone(&names) as _).expect("certificates");
    let answer = egress.send(request(&url, EgressReach::OwnNetwork), &LIMITS);
    assert_eq!(answer.await.expect("an answer").status, 200);
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    // A cloud's metadata is nobody's own network.
    let egress = Egress::with_lookup(Names::new(&[&["169.254.169.254"]])).expect("certificates");
    let error = egress.send(request(&url, EgressReach::OwnNetwork), &LIMITS);
    let error = error.await;
    assert!(
        matches!(error, Err(EgressError::Prohibited { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_address_in_any_spelling_is_what_it_is() {
    let server = serve(sends(HEAD)).await;
    let egress = Egress::new().expect("certificates");
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST",
    ] {
        let url = format!("http://{host}:{}/", server.address.port());
        let error = egress
            .send(request(&url, EgressReach::Public), &LIMITS)
            .await;
        assert!(
            matches!(error, Err(EgressError::Prohibited { .. })),
            "{host}: {error:?}"
        );
    }
    let user = format!("http://good.example@{}/", server.address);
    let error = egress
        .send(request(&user, EgressReach::Literal), &LIMITS)
        .await;
    assert!(matches!(error, Err(EgressError::Invalid(_))), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_handed_over_and_not_followed() {
    let other = serve(sends(HEAD)).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\n\r\n", other.url());
    let answer = answer(sends(&redirect)).await.expect("an answer");
    let mut headers = answer.headers.iter();
    assert!(headers.any(|(name, value)| name == "location" && value == other.url().as_bytes()));
    assert_eq!((answer.status, other.connections()), (302, 0));
}

#[tokio::test]
async fn what_was_made_small_is_left_so() {
    // Ten bytes that say that they are a gzip, of whatever size.
    let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n";
    let body = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let answer = answer(Plays::Sends([&head[..], &body].concat())).await;
    assert_eq!(answer.expect("an answer").body[..], body);
}

#[tokio::test]
async fn a_server_that_sends_too_much_is_left() {
    let endless = Plays::Repeats(HEAD.into(), vec![b'x'; 4_096], Duration::ZERO);
    let error = answer(endless).await.expect_err("it never ends");
    assert_eq!(error, EgressError::BodyTooLarge(64 << 10));
    let headers = "x-more: y\r\n".repeat(30);
    let error = answer(sends(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"))).await;
    assert_eq!(error.expect_err("too many"), EgressError::HeadersTooLarge);
    let header = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let error = answer(sends(&header)).await;
    assert_eq!(error.expect_err("too large"), EgressError::HeadersTooLarge);
    let endless = Plays::Repeats(
        "HTTP/1.1 200 OK\r\n".into(),
        "a: b\r\n".repeat(200).into(),
        Duration::ZERO,
    );
    let error = answer(endless).await.expect_err("it never ends");
    assert_eq!(error, EgressError::HeadersTooLarge);
    let hint = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    let endless = Plays::Repeats(hint.clone(), hint, Duration::from_millis(1));
    let error = answer(endless).await.expect_err("it never ends");
    assert!(
        matches!(error, EgressError::ResponseTimedOut { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_slow_is_left() {
    let drips = Duration::from_millis(100);
    let head: Vec<u8> = HEAD.into();
    for plays in [
        Plays::Waits(Vec::new()),
        Plays::Waits(b"HTTP/1.1 200 OK\r\n".into()),
        Plays::Waits(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".into()),
        // A byte now and then is within what may pass between two of them, but not within what all may take.
        Plays::Repeats(head, b"x".into(), drips),
        Plays::Repeats(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into(),
            b"1\r\nx\r\n".into(),
            drips,
        ),
        Plays::Repeats(b"HTTP/1.1 200 OK\r\n".into(), b"a".into(), drips),
    ] {
        let error = answer(plays).await.expect_err("it never ends");
        assert!(
            matches!(error, EgressError::ResponseTimedOut { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_http_is_told() {
    for text in [
        "",
        "\r\n\r\n\r\n",
        "no HTTP at all\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nab",
        "HTTP/1.1 99999 OK\r\n\r\n",
    ] {
        let error = answer(sends(text)).await;
        assert!(
            matches!(
                error,
                Err(EgressError::Broken { .. } | EgressError::Protocol { .. })
            ),
            "{text}: {error:?}"
        );
    }
}

#[tokio::test]
async fn what_frames_a_message_is_ours_to_write() {
    let server = serve(Plays::Echoes).await;
    let mut request = request(&server.url(), EgressReach::Literal);
    for (name, value) in [
        ("x\r\ny", "a"),
        ("x", "a\r\nhost: evil"),
        ("x", "a\0b"),
        ("", "a"),
    ] {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let added = request.add_header(name, value, Secrecy::Plain);
        assert!(added.is_err(), "{name:?}");
    }
    for (name, value) in [
        ("host", "evil"),
        ("Content-Length", "1000"),
        ("transfer-encoding", "chunked"),
        ("proxy-authorization", "x"),
        ("expect", "100-continue"),
        ("upgrade", "h2c"),
        ("x-mine", "kept"),
    ] {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let added = request.add_header(name, value, Secrecy::Plain);
        added.expect("a header");
    }
    let egress = Egress::new().expect("certificates");
    let answer = egress.send(request, &LIMITS).await.expect("an answer");
    let sent = String::from_utf8_lossy(&answer.body);
    let expected = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nx-mine: kept\r\nconnection: close\r\n\r\n",
        server.address
    );
    assert_eq!(sent, expected);
}
