//! The world of a guest in a worker: everything it asks for goes to the process that started the worker.

use std::sync::Mutex;
use std::time::SystemTime;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::{lock, say};
use crate::call::Program;
use crate::cancel::CancelFlag;
use crate::guest_memory::Busy;
use crate::host_calls::{
    Error, HostCalls, HostFuture, LogLine, MemoryAnswer, MemoryRequest, ToolAnswer,
};
use crate::http_exchange::{HttpFault, HttpRequest, HttpResponse};
use crate::protocol::{Answer, Ask, Beside, CallNumber, FromWorker};
use crate::{budget, human, llm, search, tools};

/// The world of one call.
pub(super) struct World {
    call: CallNumber,
    outgoing: mpsc::Sender<Vec<u8>>,
    /// Where the answer goes to what is asked now: a guest asks one thing at a time.
    asking: Mutex<Option<oneshot::Sender<Answer>>>,
    beside: Mutex<Beside>,
    pub(super) cancel: CancelFlag,
    /// Of a session.
    programs: Option<Programs>,
}

/// Where the programs of a session go.
struct Programs {
    sender: mpsc::Sender<Given>,
    /// Where they come from, until somebody takes it.
    receiver: Mutex<Option<mpsc::Receiver<Given>>>,
}

/// A program, and what the clock says when it begins.
type Given = (Program, SystemTime);

/// Programs of one session that wait: the next one is given after the report of the one before it.
const PROGRAMS_MAX: usize = 1;

impl World {
    pub(super) fn new(call: CallNumber, outgoing: &mpsc::Sender<Vec<u8>>) -> Self {
        World {
            call,
            outgoing: outgoing.clone(),
            asking: Mutex::new(None),
            beside: Mutex::default(),
            cancel: CancelFlag::new(),
            programs: None,
        }
    }

    pub(super) fn of_session(call: CallNumber, outgoing: &mpsc::Sender<Vec<u8>>) -> Self {
        let (sender, receiver) = mpsc::channel(PROGRAMS_MAX);
        World {
            programs: Some(Programs {
                sender,
                receiver: Mutex::new(Some(receiver)),
            }),
            ..World::new(call, outgoing)
        }
    }

    /// The programs of a session, once.
    pub(super) fn take_programs(&self) -> Option<mpsc::Receiver<Given>> {
        lock(&self.programs.as_ref()?.receiver).take()
    }

    /// The other side gives the next program.
    pub(super) fn is_given(&self, program: Program, started_at: SystemTime) -> Result<(), String> {
        let programs = self.programs.as_ref().ok_or("a program for no session")?;
        match programs.sender.try_send((program, started_at)) {
            // Where the session has ended meanwhile nobody takes it.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err("a program before the one before it".to_owned()),
        }
    }

    /// The other side has answered.
    pub(super) fn answered(&self, answer: Answer, beside: Beside) {
        *lock(&self.beside) = beside;
        if let Some(asking) = lock(&self.asking).take() {
            // Where the call was cancelled meanwhile nobody waits for it.
            let _ = asking.send(answer);
        }
    }

    /// Asks for memory.
    pub(super) async fn memory(&self, needed: u64, welcome: u64) -> Result<u64, Busy> {
        match self.send(Ask::Memory(needed, welcome)).await {
            Answer::Memory(Some(given)) => Ok(given),
            _ => Err(Busy),
        }
    }

    async fn send(&self, ask: Ask) -> Answer {
        let (answer, answered) = oneshot::channel();
        *lock(&self.asking) = Some(answer);
        let (call, ask) = (self.call, Box::new(ask));
        say(&self.outgoing, &FromWorker::Asked { call, ask }).await;
        match answered.await {
            Ok(answer) => answer,
            // Only the end of the process drops it unanswered.
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks what has an answer of this kind; any other is none.
    async fn ask_for<T>(&self, ask: Ask, read: impl FnOnce(Answer) -> Option<T>) -> T {
        match read(self.send(ask).await) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// The only answer, to a single question.
fn only<T>(mut answers: Vec<Result<T, Error>>) -> Result<T, Error> {
    answers.pop().unwrap_or(Err(Error::Interrupted))
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is missing would be denied"
)]
impl HostCalls for World {
    fn complete(&self, request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        Box::pin(async { only(self.complete_many(vec![request]).await) })
    }

    fn complete_many(
        &self,
        requests: Vec<llm::Request>,
    ) -> HostFuture<'_, Vec<Result<llm::Completion, Error>>> {
        Box::pin(
            self.ask_for(Ask::Complete(requests), |answer| match answer {
                Answer::Completions(answers) => Some(answers),
                _ => None,
            }),
        )
    }

    fn search(&self, query: search::Query) -> HostFuture<'_, Result<search::Answer, Error>> {
        Box::pin(async { only(self.search_many(vec![query]).await) })
    }

    fn search_many(
        &self,
        queries: Vec<search::Query>,
    ) -> HostFuture<'_, Vec<Result<search::Answer, Error>>> {
        Box::pin(self.ask_for(Ask::Search(queries), |answer| match answer {
            Answer::Found(answers) => Some(answers),
            _ => None,
        }))
    }

    fn tools(&self, granted: Vec<String>) -> HostFuture<'_, Result<Vec<tools::Tool>, Error>> {
        Box::pin(self.ask_for(Ask::Tools(granted), |answer| match answer {
            Answer::Tools(answer) => Some(answer),
            _ => None,
        }))
    }

    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        Box::pin(
            self.ask_for(Ask::CallTools(requests, fuel_max), |answer| match answer {
                Answer::Called(answers) => Some(answers),
                _ => None,
            }),
        )
    }

    fn fetch_many(
        &self,
        requests: Vec<HttpRequest>,
    ) -> HostFuture<'_, Vec<Result<HttpResponse, HttpFault>>> {
        Box::pin(self.ask_for(Ask::Fetch(requests), |answer| match answer {
            Answer::Fetched(answers) => Some(answers),
            _ => None,
        }))
    }

    fn context_inputs(&self) -> HostFuture<'_, String> {
        Box::pin(self.ask_for(Ask::Inputs, |answer| match answer {
            Answer::Inputs(inputs) => Some(inputs),
            _ => None,
        }))
    }

    fn context_output(&self, step: String) -> HostFuture<'_, Result<String, Error>> {
        Box::pin(self.ask_for(Ask::Output(step), |answer| match answer {
            Answer::Output(output) => Some(output),
            _ => None,
        }))
    }

    fn context_steps(&self) -> HostFuture<'_, Vec<String>> {
        Box::pin(self.ask_for(Ask::Steps, |answer| match answer {
            Answer::Steps(steps) => Some(steps),
            _ => None,
        }))
    }

    fn ask(&self, question: human::Question) -> HostFuture<'_, Result<human::Answer, Error>> {
        Box::pin(self.ask_for(Ask::Human(question), |answer| match answer {
            Answer::Human(answer) => Some(answer),
            _ => None,
        }))
    }

    fn budget_left(&self, own: budget::Remaining) -> HostFuture<'_, budget::Remaining> {
        Box::pin(self.ask_for(Ask::Budget(own), |answer| match answer {
            Answer::Budget(left) => Some(left),
            _ => None,
        }))
    }

    fn remember(&self, request: MemoryRequest) -> HostFuture<'_, Result<MemoryAnswer, Error>> {
        Box::pin(self.ask_for(Ask::Remember(request), |answer| match answer {
            Answer::Remembered(answer) => Some(answer),
            _ => None,
        }))
    }

    fn time(&self) -> Option<SystemTime> {
        lock(&self.beside).time
    }

    fn recorded(&self) -> u64 {
        lock(&self.beside).recorded
    }

    fn log(&self, line: LogLine) -> HostFuture<'_, ()> {
        Box::pin(self.ask_for(Ask::Log(line), |answer| match answer {
            Answer::Logged => Some(()),
            _ => None,
        }))
    }
}
