//! A scripted server on 127.0.0.1 that speaks OpenAI's chat completions, Anthropic's messages and SearXNG's JSON. It
//! records every request and plays a script for each route, faults of the connection included; without a script it
//! answers something plain and valid, the same for the same request. Its HTTP is written by hand, because a fault is a
//! matter of bytes.
//!
//! ```no_run
//! # async fn example() {
//! use e2e::loopback::{Loopback, Reply, Route};
//!
//! let loopback = Loopback::start().await;
//! loopback.script(Route::OpenAi, [Reply::status(429).header("retry-after", "2"), Reply::text("Hello.")]);
//! // … run something against loopback.openai_url() …
//! assert_eq!(loopback.requests_to(Route::OpenAi).len(), 2);
//! # }
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "a test's server is joined by its own drop"
)]

mod answers;
mod reply;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use self::reply::{Body, Fault};
pub use self::reply::{Gate, Reply};
pub use self::wire::Recorded;

/// Longest that [`Loopback::wait_for`] waits before it fails the test.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A service that the server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// `POST /v1/chat/completions`
    OpenAi,
    /// `POST /v1/messages`
    Anthropic,
    /// `GET /search`
    Searxng,
}

impl Route {
    fn of(request: &Recorded) -> Option<Self> {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/chat/completions") => Some(Self::OpenAi),
            ("POST", "/v1/messages") => Some(Self::Anthropic),
            ("GET", "/search") => Some(Self::Searxng),
            _ => None,
        }
    }
}

/// The running server; it ends when it is dropped.
#[derive(Debug)]
pub struct Loopback {
    base_url: String,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct State {
    scripts: Mutex<BTreeMap<Route, Script>>,
    requests: Mutex<Vec<Recorded>>,
    /// How many requests have come: whoever waits looks again.
    arrived: watch::Sender<usize>,
    at_once: Mutex<AtOnce>,
    /// Connections that were accepted and have not ended.
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Reply>,
    then: Option<Reply>,
}

#[derive(Debug, Default)]
struct AtOnce {
    now: usize,
    most: usize,
}

impl Loopback {
    /// Starts the server on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("127.0.0.1 has a free port");
        let port = listener
            .local_addr()
            .expect("a bound listener has an address")
            .port();
        let state = Arc::new(State {
            scripts: Mutex::default(),
            requests: Mutex::default(),
            arrived: watch::Sender::new(0),
            at_once: Mutex::default(),
            open: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Self {
            base_url: format!("http://127.0.0.1:{port}"),
            state,
            accepting,
        }
    }

    /// The server's address, without a path: SearXNG's base address.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The base address for clients of OpenAI's format.
    #[must_use]
    pub fn openai_url(&self) -> String {
        format!("{}/v1", self.base_url)
    }

    /// The base address for clients of Anthropic's format.
    #[must_use]
    pub fn anthropic_url(&self) -> String {
        format!("{}/v1", self.base_url)
    }

    /// The base address for clients of SearXNG.
    #[must_use]
    pub fn searxng_url(&self) -> String {
        self.base_url.clone()
    }

    /// Adds replies to the end of a route's script; each is played once, in order.
    pub fn script(&self, route: Route, replies: impl IntoIterator<Item = Reply>) {
        locked(&self.state.scripts)
            .entry(route)
            .or_default()
            .next
            .extend(replies);
    }

    /// What a route replies when its script is at its end, instead of the plain default.
    pub fn always(&self, route: Route, reply: Reply) {
        locked(&self.state.scripts).entry(route).or_default().then = Some(reply);
    }

    /// Every request so far, in order of arrival, also those that were never answered.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        locked(&self.state.requests).clone()
    }

    /// The requests of one route.
    #[must_use]
    pub fn requests_to(&self, route: Route) -> Vec<Recorded> {
        self.requests()
            .into_iter()
            .filter(|request| Route::of(request) == Some(route))
            .collect()
    }

    /// Waits until as many requests have arrived, in all.
    ///
    /// # Panics
    /// After half a minute: the test has failed.
    pub async fn wait_for(&self, count: usize) {
        let mut arrived = self.state.arrived.subscribe();
        let waiting = arrived.wait_for(|so_far| *so_far >= count);
        let in_time = tokio::time::timeout(WAIT_MAX, waiting).await.is_ok();
        assert!(
            in_time,
            "{count} requests were expected, {} came",
            self.requests().len()
        );
    }

    /// Requests that are being answered at this moment, those that never will be included.
    #[must_use]
    pub fn under_way(&self) -> usize {
        locked(&self.state.at_once).now
    }

    /// Waits until every connection that was made before this call has ended and all that was sent on it is recorded:
    /// whoever made them has to be gone.
    ///
    /// # Panics
    /// After half a minute: somebody is still there.
    pub async fn settled(&self) {
        // Connections are accepted in the order in which they were made: when this one is, all others are.
        let accepted = async {
            let address = self.base_url.trim_start_matches("http://");
            let mut marker = TcpStream::connect(address).await.expect("a connection");
            marker.shutdown().await.expect("the end of what is sent");
            drop(marker.read_to_end(&mut Vec::new()).await);
            let mut open = self.state.open.subscribe();
            let none = open.wait_for(|open| *open == 0).await;
            drop(none.expect("the state has its sender"));
        };
        let settled = tokio::time::timeout(WAIT_MAX, accepted).await;
        assert!(settled.is_ok(), "somebody is still connected");
    }

    /// The most requests that were being answered at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        locked(&self.state.at_once).most
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new(); // aborted with this task
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let open = Open::new(&state);
                    connections.spawn(serve(stream, Arc::clone(&state), open));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers the requests of one connection until either side ends it.
async fn serve(mut stream: TcpStream, state: Arc<State>, _open: Open) {
    while let Ok(Some(request)) = wire::read_request(&mut stream).await {
        let reply = state.take(&request);
        let _answering = state.begin(&request);
        if !answer(&mut stream, &request, reply).await {
            break;
        }
    }
}

/// Plays one reply; whether the connection goes on.
async fn answer(stream: &mut TcpStream, request: &Recorded, reply: Reply) -> bool {
    let client_is_there = tokio::select! {
        () = reply.wait() => true,
        () = wire::closed(stream) => false,
    };
    if !client_is_there {
        return false;
    }
    let body = match (&reply.body, Route::of(request)) {
        (Body::Verbatim(text), _) => text.clone(),
        (Body::Answer(content), Some(Route::OpenAi)) => {
            answers::openai(request, content, &reply).to_string()
        }
        (Body::Answer(content), Some(Route::Anthropic)) => {
            answers::anthropic(request, content, &reply).to_string()
        }
        (Body::Answer(content), Some(Route::Searxng)) => {
            answers::searxng(request, content).to_string()
        }
        (Body::Answer(_), None) => {
            return wire::write(
                stream,
                404,
                &[],
                "{\"error\":{\"message\":\"no such route\"}}",
            )
            .await;
        }
        (Body::Refusal(message), _) => answers::refusal(reply.status, message).to_string(),
    };
    match reply.fault {
        None => wire::write(stream, reply.status, &reply.headers, &body).await,
        Some(Fault::Truncated) => {
            let half = body.floor_char_boundary(body.len() / 2);
            wire::write(stream, reply.status, &reply.headers, &body[..half]).await
        }
        Some(Fault::Hang) => {
            wire::closed(stream).await;
            false
        }
        Some(Fault::Reset) => wire::reset(stream),
        Some(Fault::ClosedMidBody) => wire::write_half(stream, reply.status, &body).await,
    }
}

impl State {
    /// The reply to a request: the script's next one, else what the route always says, else the default.
    fn take(&self, request: &Recorded) -> Reply {
        let Some(route) = Route::of(request) else {
            return Reply::default();
        };
        let mut scripts = locked(&self.scripts);
        let script = scripts.entry(route).or_default();
        script
            .next
            .pop_front()
            .or_else(|| script.then.clone())
            .unwrap_or_default()
    }

    fn begin(self: &Arc<Self>, request: &Recorded) -> Answering {
        let mut at_once = locked(&self.at_once);
        at_once.now += 1;
        at_once.most = at_once.most.max(at_once.now);
        drop(at_once);
        locked(&self.requests).push(request.clone());
        self.arrived.send_modify(|count| *count += 1);
        Answering(Arc::clone(self))
    }
}

/// One connection, until it ends.
struct Open(Arc<State>);

impl Open {
    fn new(state: &Arc<State>) -> Self {
        state.open.send_modify(|count| *count += 1);
        Self(Arc::clone(state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|count| *count -= 1);
    }
}

/// One request being answered, until its connection ends or its answer is written.
struct Answering(Arc<State>);

impl Drop for Answering {
    fn drop(&mut self) {
        locked(&self.0.at_once).now -= 1;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
