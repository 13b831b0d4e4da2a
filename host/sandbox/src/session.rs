//! Sessions: an interpreter that is kept, so that each program finds what those before it left. A session ends when it is
//! closed, after its time or when nobody used it for long, and when a program was stopped: then its state is gone.
//!
//! What a session has is in a future, its [`SessionTask`]; whoever opens it runs that. So a session ends, and gives its
//! memory back, also when nobody calls it any more.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use crate::call::Program;
use crate::cancel::CancelFlag;
use crate::error::SandboxError;
use crate::limits::Limit;
use crate::machine::kept::{Kept, Then};
use crate::outcome::{Outcome, Report};
use crate::sandbox::{Runner, Shared};
use crate::workers::session::Apart;

/// Programs of one session that wait for the one that runs. More callers wait outside.
const WAITING_MAX: usize = 1;

/// How long a session may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// From its beginning, whatever it does. Protects the memory that it holds, of which others are short.
    pub time_max: Duration,
    /// Without a program. Protects the same from those who forget to close it.
    pub idle_max: Duration,
}

/// A session. When the last one who has it drops it, it is closed.
#[derive(Clone, Debug)]
pub struct Session {
    requests: mpsc::Sender<Request>,
    end: Arc<OnceLock<SessionEnd>>,
}

/// What a session is made of, until it has ended: to be run in the background. Dropping it ends the session.
pub type SessionTask = Pin<Box<dyn Future<Output = SessionEnd> + Send>>;

/// Why a session has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Nobody has it any more.
    Closed,
    /// [`SessionTimes::time_max`] is over.
    TimeOver(Duration),
    /// [`SessionTimes::idle_max`] passed without a program.
    Idle(Duration),
    /// Its [`crate::CancelFlag`] was raised.
    Cancelled,
    /// Whoever waited for a program went away while it ran.
    GivenUp,
    /// A program passed a limit.
    LimitHit(Limit),
    /// A program was stopped or ended its process: how.
    Stopped(String),
    /// The host failed: how. The worker ended, for example.
    Failed(String),
}

impl SessionEnd {
    /// The stable code, for example `time_over`.
    pub fn code(&self) -> &'static str {
        match self {
            SessionEnd::Closed => "closed",
            SessionEnd::TimeOver(_) => "time_over",
            SessionEnd::Idle(_) => "idle",
            SessionEnd::Cancelled => "cancelled",
            SessionEnd::GivenUp => "given_up",
            SessionEnd::LimitHit(limit) => limit.code(),
            SessionEnd::Stopped(_) => "stopped",
            SessionEnd::Failed(_) => "failed",
        }
    }

    /// What a report says that was the last one.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::LimitHit(limit) => SessionEnd::LimitHit(*limit),
            Outcome::Cancelled => SessionEnd::Cancelled,
            Outcome::Trapped(trap) => SessionEnd::Stopped(trap.message.clone()),
            Outcome::Exited(code) => {
                SessionEnd::Stopped(format!("the program ended itself with exit code {code}"))
            }
            Outcome::Returned(_)
            | Outcome::Declined(_)
            | Outcome::Raised(_)
            | Outcome::InvalidResult(_) => {
                SessionEnd::Stopped("the worker says that it cannot go on".to_owned())
            }
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session has ended and its state is gone: ")?;
        match self {
            SessionEnd::Closed => f.write_str("it was closed"),
            SessionEnd::TimeOver(time_max) => {
                write!(f, "it may last {} ms", time_max.as_millis())
            }
            SessionEnd::Idle(idle_max) => {
                write!(f, "it had no program for {} ms", idle_max.as_millis())
            }
            SessionEnd::Cancelled => f.write_str("it was cancelled"),
            SessionEnd::GivenUp => f.write_str("a program was given up while it ran"),
            SessionEnd::LimitHit(limit) => write!(f, "a program was stopped: {limit}"),
            SessionEnd::Stopped(how) => write!(f, "a program was stopped: {how}"),
            SessionEnd::Failed(how) => f.write_str(how),
        }?;
        f.write_str("; open another one")
    }
}

/// A program of a session was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The session has ended.
    #[error("{0}")]
    Over(SessionEnd),
    /// The host failed, and the session has ended with that.
    #[error(transparent)]
    Host(#[from] SandboxError),
}

/// A program, and where its report goes.
#[derive(Debug)]
struct Request {
    program: Program,
    started_at: SystemTime,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Report, SessionError>>;

impl Session {
    /// Runs the next program, which finds what those before it left. It has the session's limits for itself: fuel, time,
    /// output, log, questions to the host; memory and what may be written are the session's. Nothing is on its standard
    /// input. The guest's clock goes on to `started_at`.
    ///
    /// An exception of the program, and a result that is too large or no JSON, leave the session as it is. Dropping the
    /// future ends the session if the program has begun.
    ///
    /// # Errors
    /// The session has ended, or the host failed. Whatever the program does is in the report.
    pub async fn execute(
        &self,
        program: Program,
        started_at: SystemTime,
    ) -> Result<Report, SessionError> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            program,
            started_at,
            answer,
        };
        if self.requests.send(request).await.is_err() {
            return Err(self.over());
        }
        // Dropped unanswered only with all that the session is.
        answered.await.unwrap_or_else(|_dropped| Err(self.over()))
    }

    /// Why it has ended, if it has.
    pub fn end(&self) -> Option<&SessionEnd> {
        self.end.get()
    }

    fn over(&self) -> SessionError {
        SessionError::Over(self.end().cloned().unwrap_or(SessionEnd::Closed))
    }
}

/// An interpreter that is kept, wherever it is.
pub(crate) enum Live {
    Here(Arc<Shared>, Box<Kept>),
    Apart(Box<Apart>),
}

impl Live {
    async fn execute(
        &mut self,
        program: (Program, SystemTime),
    ) -> Result<(Report, Then), SandboxError> {
        match self {
            Live::Here(shared, kept) => match &shared.runner {
                Runner::Here(machine, _) => kept.execute(machine, program).await,
                // Nothing is kept here where guests run elsewhere.
                Runner::Apart(_) => Err(SandboxError::NoWorker {
                    message: "the session is in no worker".to_owned(),
                }),
            },
            Live::Apart(apart) => apart.execute(program).await,
        }
    }

    /// Waits until it fails while no program runs.
    async fn failed(&mut self) -> SandboxError {
        match self {
            Live::Here(..) => std::future::pending().await,
            Live::Apart(apart) => apart.ended().await,
        }
    }

    /// Gives back what it has.
    async fn close(self) {
        match self {
            Live::Here(..) => {}
            Live::Apart(apart) => apart.close().await,
        }
    }
}

/// A session as its task has it.
struct Serving {
    requests: mpsc::Receiver<Request>,
    times: SessionTimes,
    over: Pin<Box<Sleep>>,
    cancel: CancelFlag,
}

/// The session and the task of an interpreter that is kept. `holds` is what it holds beside until it has ended.
pub(crate) fn serve(
    live: Live,
    (times, cancel): (SessionTimes, CancelFlag),
    holds: impl Send + 'static,
) -> (Session, SessionTask) {
    let (requests, receiver) = mpsc::channel(WAITING_MAX);
    let end = Arc::new(OnceLock::new());
    let session = Session {
        requests,
        end: Arc::clone(&end),
    };
    let serving = Serving {
        requests: receiver,
        times,
        over: Box::pin(tokio::time::sleep(times.time_max)),
        cancel,
    };
    let task = async move {
        let ended = serving.run(live, &end).await;
        drop(holds);
        ended
    };
    (session, Box::pin(task))
}

impl Serving {
    async fn run(mut self, mut live: Live, noted: &OnceLock<SessionEnd>) -> SessionEnd {
        let (end, last) = loop {
            let request = match self.next(&mut live).await {
                Ok(request) => request,
                Err(end) => break (end, None),
            };
            let Request {
                program,
                started_at,
                mut answer,
            } = request;
            let ran = tokio::select! {
                biased;
                ran = live.execute((program, started_at)) => ran.map_err(SessionError::Host),
                end = self.ends_meanwhile(&mut answer) => Err(SessionError::Over(end)),
            };
            match ran {
                Ok((report, Then::GoesOn)) => {
                    // Where nobody waits for it any more the next one may be from somebody else.
                    let _ = answer.send(Ok(report));
                }
                Ok((report, Then::IsOver)) => {
                    break (SessionEnd::of(&report.outcome), Some((answer, Ok(report))));
                }
                Err(SessionError::Over(end)) => {
                    break (end.clone(), Some((answer, Err(SessionError::Over(end)))));
                }
                Err(SessionError::Host(error)) => {
                    let end = SessionEnd::Failed(error.to_string());
                    break (end, Some((answer, Err(SessionError::Host(error)))));
                }
            }
        };
        // Noted before anybody learns of it, and all given back before.
        live.close().await;
        let end = noted.get_or_init(|| end).clone();
        self.requests.close();
        if let Some((answer, last)) = last {
            let _ = answer.send(last);
        }
        end
    }

    /// The next program.
    async fn next(&mut self, live: &mut Live) -> Result<Request, SessionEnd> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(SessionEnd::Cancelled),
            error = live.failed() => Err(SessionEnd::Failed(error.to_string())),
            () = &mut self.over => Err(SessionEnd::TimeOver(self.times.time_max)),
            request = self.requests.recv() => request.ok_or(SessionEnd::Closed),
            () = tokio::time::sleep(self.times.idle_max) => {
                Err(SessionEnd::Idle(self.times.idle_max))
            }
        }
    }

    /// Waits for what ends a session while a program runs.
    async fn ends_meanwhile(&mut self, answer: &mut Answer) -> SessionEnd {
        tokio::select! {
            biased;
            () = &mut self.over => SessionEnd::TimeOver(self.times.time_max),
            () = answer.closed() => SessionEnd::GivenUp,
        }
    }
}
