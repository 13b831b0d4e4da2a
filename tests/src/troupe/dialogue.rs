//! A call of the binary that is talked to: lines go in, and each is answered with one.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::call::{Call, Ended};

/// Bounds every answer.
const TIME_MAX: Duration = Duration::from_secs(120);

/// A process that answers. It is killed when it is dropped.
#[derive(Debug)]
pub struct Dialogue {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Call {
    /// Starts it, to be talked to.
    ///
    /// # Panics
    /// Where the binary is not there.
    #[must_use]
    pub fn talk(self) -> Dialogue {
        let mut command = self.into_command();
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("the binary cannot be started: {error}"));
        Dialogue {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("a pipe")).lines(),
            child,
        }
    }
}

impl Dialogue {
    /// Its process.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn id(&self) -> u32 {
        self.child.id().expect("a process that runs")
    }

    /// Says a line without waiting for the answer.
    ///
    /// # Panics
    /// Where nobody reads.
    pub async fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        let line = format!("{line}\n");
        stdin.write_all(line.as_bytes()).await.expect("it is read");
    }

    /// Says a line, and waits for the answer.
    ///
    /// # Panics
    /// Where there is none, or it is no JSON.
    pub async fn ask(&mut self, line: &str) -> Value {
        self.say(line).await;
        let answer = tokio::time::timeout(TIME_MAX, self.stdout.next_line()).await;
        let answer = answer.expect("an answer in time").expect("what it wrote");
        let answer = answer.expect("an answer");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Sends it a signal by its name.
    ///
    /// # Panics
    /// Where it is no longer there.
    pub async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name}");
    }

    /// Ends its standard input.
    pub fn fall_silent(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end; what it said beside its answers.
    ///
    /// # Panics
    /// After two minutes.
    pub async fn end(mut self) -> Ended {
        let status = tokio::time::timeout(TIME_MAX, self.child.wait()).await;
        let status = status.expect("it ends").expect("a child of this process");
        let (mut stdout, mut stderr) = (String::new(), String::new());
        while let Some(line) = self.stdout.next_line().await.expect("what it wrote") {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let mut said = self.child.stderr.take().expect("a pipe");
        said.read_to_string(&mut stderr)
            .await
            .expect("what it wrote");
        Ended {
            status,
            stdout,
            stderr,
        }
    }
}
