//! A server on 127.0.0.1 that answers each request as a function of the test says, and remembers what it was asked.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's server is ended by its own drop"
)]

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Longest body of a request that is read; a test that sends more is wrong.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// For example `GET`.
    pub method: String,
    /// With the query, as it was sent.
    pub target: String,
    /// Empty where there was none.
    pub authorization: String,
    /// The body.
    pub body: String,
}

type Script = dyn Fn(&Asked) -> Response + Send + Sync;
/// What was asked so far.
type All = Arc<Mutex<Vec<Asked>>>;

/// The running server; it ends when it is dropped.
pub struct Scripted {
    host: String,
    asked: All,
    serving: AbortHandle,
}

impl Scripted {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn start(script: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound listener's address");
        let asked = Arc::default();
        let script: Arc<Script> = Arc::new(script);
        let state = (Arc::clone(&asked), script);
        let app = Router::new().fallback(answer).with_state(state);
        let serving = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Self {
            host: address.to_string(),
            asked,
            serving: serving.abort_handle(),
        }
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Every request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    State((all, script)): State<(All, Arc<Script>)>,
    request: Request,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = head.headers.get("authorization");
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let asked = Asked {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        authorization: header.map_or_else(String::new, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        }),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let answer = script(&asked);
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(asked);
    answer
}
