//! `troupe exec --session`: programs come as lines of JSON on standard input, and each is answered with one on standard
//! output.

use std::io::{self, BufRead, Read as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::{RangedU64ValueParser, TypedValueParser};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use troupe_sandbox::{Program, Session, SessionError, SessionTimes};

use super::super::{CliError, End, output, serve};
use super::program::{READ_BYTES_MAX, check_integers};
use super::{ExecArgs, Prepared, answer};
use crate::limits::{AskedIn, Remedies};
use crate::{clock, tasks};

/// How long a session lasts where nothing else is said: an hour, and ten minutes without a program.
pub(super) const TIME_MS_DEFAULT: u64 = 60 * 60 * 1_000;
pub(super) const IDLE_MS_DEFAULT: u64 = 10 * 60 * 1_000;
/// The longest that can be said: a day. Protects the machine from sessions that are forgotten.
const TIME_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Bytes of a line. Protects memory from a line without end.
const LINE_BYTES_MAX: u64 = READ_BYTES_MAX;

/// What `--session-timeout-ms` and `--idle-timeout-ms` take.
pub(super) fn times() -> impl TypedValueParser<Value = u64> {
    RangedU64ValueParser::<u64>::new().range(1..=TIME_MS_MAX)
}

/// What a line holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    code: String,
    #[serde(default)]
    input: Value,
    action: Option<String>,
}

/// A line of standard input.
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

pub(super) async fn run(prepared: Prepared, args: &ExecArgs) -> Result<End, CliError> {
    let times = SessionTimes {
        time_max: Duration::from_millis(args.session_timeout_ms),
        idle_max: Duration::from_millis(args.idle_timeout_ms),
    };
    let sandbox = prepared.components.sandbox();
    let opened = sandbox.open_session(&prepared.component, prepared.call, times);
    let (session, task) = opened.await.map_err(anyhow::Error::from)?;
    let task = tasks::spawn("session", task);
    let lines = lines().context("standard input cannot be read")?;
    let conversation = Conversation {
        session,
        action: args.action.as_deref().unwrap_or_default(),
        remedies: Remedies {
            ceiling: prepared.ceiling,
            asked: &prepared.asked,
            asked_in: AskedIn::Options,
        },
        is_traced: args.trace,
        count: 0,
    };
    let was_over = tokio::select! {
        was_over = conversation.hold(lines) => was_over,
        () = serve::ended() => false,
    };
    // Whoever had the session has dropped it: it is being closed.
    let end = task.await.context("the session")?;
    if was_over {
        output::note(&end.to_string());
        return Ok(End::Failed);
    }
    Ok(End::Done)
}

struct Conversation<'a> {
    session: Session,
    /// The function that is called where a line names none.
    action: &'a str,
    /// What helps where a program meets a limit.
    remedies: Remedies<'a>,
    /// Whether answers list what programs asked of the host.
    is_traced: bool,
    /// Programs so far.
    count: u64,
}

impl Conversation<'_> {
    /// Answers every line until there are no more. Whether the session was over before.
    async fn hold(mut self, mut lines: mpsc::Receiver<Line>) -> bool {
        while let Some(line) = lines.recv().await {
            if let Some(answer) = self.answer(line).await {
                output::line(&answer.to_string());
            }
        }
        self.session.end().is_some()
    }

    /// The answer to a line; none to one with nothing in it.
    async fn answer(&mut self, line: Line) -> Option<Value> {
        let asked = match line {
            Line::Whole(bytes) if bytes.trim_ascii().is_empty() => return None,
            Line::Whole(bytes) => {
                read(&bytes).map_err(|reason| format!("this line is no program: {reason}"))
            }
            Line::TooLong => Err(format!("this line has more than {LINE_BYTES_MAX} bytes")),
        };
        let mut answer = match asked {
            Ok(asked) => self.run(asked).await,
            Err(reason) => refusal(
                "invalid_line",
                &format!(
                    "{reason}; write {{\"code\": \"…\"}} in one line, with \"input\" and \"action\" where they are needed"
                ),
            ),
        };
        answer["session_ended"] = json!(self.session.end().map(|end| end.code()));
        Some(answer)
    }

    async fn run(&mut self, asked: Asked) -> Value {
        self.count += 1;
        let program = Program {
            source: asked.code,
            filename: format!("<program {}>", self.count),
            input: asked.input.to_string(),
            action: asked.action.unwrap_or_else(|| self.action.to_owned()),
            stdin: bytes::Bytes::new(),
        };
        match self.session.execute(program, clock::system_time()).await {
            Ok(mut report) => {
                self.remedies.complete(&mut report.denials);
                let traced = self.is_traced.then_some(&report.trace);
                answer(&report, &self.remedies, traced).0
            }
            Err(SessionError::Over(end)) => refusal("session_ended", &end.to_string()),
            Err(SessionError::Host(error)) => {
                let message = match self.session.end() {
                    Some(end) => end.to_string(),
                    None => error.to_string(),
                };
                refusal("session_ended", &message)
            }
        }
    }
}

/// What a line asks for.
fn read(line: &[u8]) -> Result<Asked, String> {
    // A list would be read as the fields in their order.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object".to_owned());
    }
    let asked = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    check_integers(line)?;
    Ok(asked)
}

/// An answer that says why nothing was run.
fn refusal(code: &str, message: &str) -> Value {
    json!({
        "result": null,
        "stdout": "",
        "stderr": "",
        "stdout_left_out": 0,
        "stderr_left_out": 0,
        "error": { "code": code, "message": message, "line": null },
        "denied": [],
        "usage": null,
    })
}

/// The lines of standard input. They are read by a thread of their own, which is not waited for: nobody can tell standard
/// input that nothing more is wanted.
fn lines() -> io::Result<mpsc::Receiver<Line>> {
    let (sender, receiver) = mpsc::channel(1);
    let read = move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(line)) = next_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("session-lines".to_owned())
        .spawn(read)?;
    Ok(receiver)
}

/// The next line, without its end; none: there are no more.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let mut limited = input.by_ref().take(LINE_BYTES_MAX + 1);
    if limited.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        return Ok(Some(Line::Whole(bytes)));
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) <= LINE_BYTES_MAX {
        return Ok(Some(Line::Whole(bytes)));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Line::TooLong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_one_is_read() {
        let long = usize::try_from(LINE_BYTES_MAX).expect("it is small") + 2;
        let text = [&b"{}\n"[..], &vec![b'x'; long], b"\n\nlast"].concat();
        let mut input = &text[..];
        let mut next = || next_line(&mut input).expect("it is in memory");
        assert!(matches!(next(), Some(Line::Whole(line)) if line == b"{}"));
        assert!(matches!(next(), Some(Line::TooLong)));
        assert!(matches!(next(), Some(Line::Whole(line)) if line.is_empty()));
        assert!(matches!(next(), Some(Line::Whole(line)) if line == b"last"));
        assert!(next().is_none());
    }
}
