//! One call of the binary: what it is given, and how it ended.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Bounds every call: whatever takes longer hangs, and the test has failed.
const TIME_MAX: Duration = Duration::from_secs(120);

/// The signal that ends a process without a word.
const SIGKILL: i32 = 9;

/// One call of the binary, not yet made.
#[derive(Debug)]
pub struct Call {
    command: Command,
    input: Option<String>,
}

impl Call {
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            input: None,
        }
    }

    /// Sets a variable for this call.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Has it started by another program, which gets it as its last arguments.
    ///
    /// # Panics
    /// Where no program is named.
    #[must_use]
    pub fn through<'a>(self, program: impl IntoIterator<Item = &'a str>) -> Self {
        let mut words = program.into_iter();
        let inner = self.command.as_std();
        let mut outer = Command::new(words.next().expect("a program"));
        outer
            .args(words)
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear();
        outer.envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        if let Some(folder) = inner.get_current_dir() {
            outer.current_dir(folder);
        }
        outer
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self {
            command: outer,
            ..self
        }
    }

    /// Gives it this on standard input.
    #[must_use]
    pub fn input(mut self, text: &str) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(text.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where the binary is not there.
    #[must_use]
    pub fn start(mut self) -> Running {
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("the binary cannot be started: {error}"));
        let stdout = collect(child.stdout.take().expect("a pipe"));
        let stderr = collect(child.stderr.take().expect("a pipe"));
        let writing = child.stdin.take().zip(self.input).map(|(mut stdin, text)| {
            // A program that does not read to the end is no fault of this one.
            spawn(async move { drop(stdin.write_all(text.as_bytes()).await) })
        });
        Running {
            child,
            stdout,
            stderr,
            _writing: writing,
        }
    }

    /// What is to be started, for whoever follows it in another way.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Makes the call and waits for its end.
    pub async fn end(self) -> Ended {
        self.start().end().await
    }
}

/// A call that has begun. It is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    _writing: Option<JoinHandle<()>>,
}

impl Running {
    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// Where it is no longer there.
    pub async fn kill(mut self) -> Ended {
        self.child.start_kill().expect("a process that runs");
        self.end().await
    }

    /// Sends it a signal by its name: `STOP` stalls it, `CONT` lets it go on.
    ///
    /// # Panics
    /// Where it is no longer there.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("a process that runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name}");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After two minutes.
    pub async fn end(mut self) -> Ended {
        let Ok(status) = tokio::time::timeout(TIME_MAX, self.child.wait()).await else {
            drop(self.child.start_kill());
            let said = String::from_utf8_lossy(&self.stderr.await.unwrap_or_default()).into_owned();
            panic!("the call did not end within {TIME_MAX:?}; it said:\n{said}");
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended {
            status: status.expect("a child of this process"),
            stdout: text(self.stdout.await.expect("what it wrote")),
            stderr: text(self.stderr.await.expect("what it wrote")),
        }
    }
}

/// How a call ended and what it said.
#[derive(Debug, Clone)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The same, if it ended with this exit code.
    ///
    /// # Panics
    /// Where it did not; with all it said.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Whether it ended by SIGKILL.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(SIGKILL)
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The id of the execution that it names first.
    ///
    /// # Panics
    /// Where it names none.
    #[must_use]
    #[track_caller]
    pub fn id(&self) -> String {
        let words = self.stderr.split_whitespace();
        words
            .into_iter()
            .find(|word| word.starts_with("exec_"))
            .unwrap_or_else(|| panic!("no execution is named: {self}"))
            .to_owned()
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            status,
            stdout,
            stderr,
        } = self;
        write!(f, "{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

fn collect(mut pipe: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> JoinHandle<Vec<u8>> {
    spawn(async move {
        let mut bytes = Vec::new();
        // What came before an error is worth more than the error.
        drop(pipe.read_to_end(&mut bytes).await);
        bytes
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "reads a pipe until the process at its other end is gone"
)]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}
