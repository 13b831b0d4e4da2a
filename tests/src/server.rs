//! `troupe serve` as a process that a test starts, asks, stalls, kills and starts again.
//!
//! ```no_run
//! # async fn example() {
//! use e2e::server::Server;
//! use e2e::troupe::Workplace;
//! use serde_json::json;
//!
//! let place = Workplace::new();
//! let server = Server::start(place.serve()).await;
//! let created = server.post("/v1/orchestrate/workflows", &json!({})).await;
//! assert_eq!(created.status, 422, "{created}");
//! server.kill().await;
//! # }
//! ```

mod client;
mod orchestrate;
pub mod scene;

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;

pub use self::client::{Client, Request, Response};
pub use self::orchestrate::{EXECUTIONS, WORKFLOWS, id_of, of};
use crate::troupe::{Call, Workplace};

/// Bounds every wait for a server: what takes longer hangs, and the test has failed.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether something has happened.
const POLL: Duration = Duration::from_millis(20);

impl Workplace {
    /// A call that serves on a free port, with this folder's data and configuration.
    pub fn serve(&self) -> Call {
        self.serve_with::<&str>([])
    }

    /// The same with more arguments.
    pub fn serve_with<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Call {
        let mut all = vec!["serve".to_owned(), "--listen=127.0.0.1:0".to_owned()];
        all.extend(arguments.into_iter().map(|one| one.as_ref().to_owned()));
        self.troupe(all)
    }
}

/// A server's process. It is killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    client: Client,
    said: Arc<Mutex<Vec<u8>>>,
    /// What it writes to standard output after its address.
    _rest: JoinHandle<()>,
}

impl Server {
    /// Starts a server and waits until it takes work.
    ///
    /// # Panics
    /// Where it does not; with what it said.
    pub async fn start(call: Call) -> Self {
        let server = Self::launch(call)
            .await
            .unwrap_or_else(|said| panic!("the server ended before it listened; it said:\n{said}"));
        server.wait_ready().await;
        server
    }

    /// Starts a server and waits until it listens, whether or not it takes work. The error is what it said before it
    /// ended without listening.
    pub async fn launch(call: Call) -> Result<Self, String> {
        let mut command = call.into_command();
        let mut child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("the binary cannot be started: {error}"));
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let stderr = child.stderr.take().expect("a pipe");
        let saying = spawn(collect(stderr, Arc::clone(&said)));
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let Some(address) = address(&mut stdout).await else {
            drop(child.kill().await);
            drop(saying.await);
            return Err(text_of(&said));
        };
        let rest = spawn(async move { drop(stdout.read_to_end(&mut Vec::new()).await) });
        Ok(Self {
            child,
            client: Client::new(address),
            said,
            _rest: rest,
        })
    }

    /// Waits until it takes work.
    ///
    /// # Panics
    /// After a minute, or where it has ended.
    pub async fn wait_ready(&self) {
        let ready = until(
            async || match self.client.send(Request::get("/readyz")).await {
                Ok(response) => (response.status == 200).then_some(()),
                Err(_) => None,
            },
        );
        assert!(
            ready.await.is_some(),
            "the server takes no work; it said:\n{}",
            self.said()
        );
    }

    /// A client of it, which outlives it.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What is at a path.
    ///
    /// # Panics
    /// Where no answer comes.
    pub async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path)).await
    }

    /// Posts JSON to a path.
    ///
    /// # Panics
    /// Where no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Request::post(path, body)).await
    }

    /// Sends a request.
    ///
    /// # Panics
    /// Where no answer comes.
    pub async fn send(&self, request: Request) -> Response {
        let shown = request.to_string();
        match self.client.send(request).await {
            Ok(response) => response,
            Err(error) => panic!("{shown}: {error}; the server said:\n{}", self.said()),
        }
    }

    /// The number of its process.
    ///
    /// # Panics
    /// Where it has ended, and that was seen.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a process that was not waited for")
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn said(&self) -> String {
        text_of(&self.said)
    }

    /// Stops its process without ending it: it does nothing until [`Server::go_on`].
    pub async fn stall(&self) {
        self.signal("STOP").await;
    }

    /// Lets a stalled process go on.
    pub async fn go_on(&self) {
        self.signal("CONT").await;
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// After a minute.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Asks it to end.
    pub async fn ask_to_end(&self) {
        self.signal("TERM").await;
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) {
        // One that was killed at a fail point is gone already.
        drop(self.child.kill().await);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After a minute.
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(WAIT_MAX, self.child.wait()).await {
            Ok(status) => status.expect("a child of this process"),
            Err(_) => panic!(
                "the server did not end within {WAIT_MAX:?}; it said:\n{}",
                self.said()
            ),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = tokio::process::Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .await;
        assert!(
            sent.expect("`kill` can be started").success(),
            "SIG{name} cannot be sent to {pid}"
        );
    }
}

/// Asks until there is an answer; none within a minute is no answer.
pub async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, asking).await.ok()
}

/// Where a server says that it listens.
async fn address(stdout: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut line = String::new();
    let reading = tokio::time::timeout(WAIT_MAX, stdout.read_line(&mut line)).await;
    reading.ok()?.ok()?;
    Some(line.trim().strip_prefix("listening on http://")?.to_owned())
}

async fn collect(mut pipe: impl AsyncRead + Unpin, into: Arc<Mutex<Vec<u8>>>) {
    let mut part = vec![0; 16 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut part).await {
        into.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&part[..count]);
    }
}

fn text_of(said: &Mutex<Vec<u8>>) -> String {
    let bytes = said.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "reads a pipe until the process at its other end is gone"
)]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}
