//! What a guest may ask of the world, as one trait. Who implements it knows models, journals and money;
//! this crate has checked the grant, counted the call and charged for it before it asks.

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::http_exchange::{HttpFault, HttpFaultKind, HttpRequest, HttpResponse};
use crate::{budget, human, llm, memory, search, tools};

pub use crate::bindings::agent::troupe::agent::log::Level as LogLevel;
pub use crate::bindings::agent::troupe::agent::types::{BudgetKind, Denial, Error};

/// A future that a host call returns.
pub type HostFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A line for the execution's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// How important it is.
    pub level: LogLevel,
    /// The text, as the guest wrote it.
    pub message: String,
    /// A JSON object, checked to be one.
    pub fields: Option<String>,
}

/// What a tool answered, and the fuel that its work cost, which its caller pays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolAnswer {
    /// The result, as JSON.
    pub result: Result<String, Error>,
    /// Units of fuel.
    pub fuel: u64,
}

/// What a guest asks of its memory. Keys and values are within the limits of their length, keys hold no U+0000, and values
/// are JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MemoryRequest {
    /// The value under a key.
    Get {
        /// Where it lies.
        key: String,
    },
    /// A value that is to be stored.
    Set {
        /// Where it is to lie.
        key: String,
        /// JSON.
        value: String,
        /// The version at which the key must be, 0: it must not be there; none: whatever is there.
        expected_version: Option<u64>,
    },
    /// A key that is to be forgotten.
    Delete {
        /// Which; one that does not exist is no error.
        key: String,
    },
    /// Keys in order, at most 1,000.
    Keys {
        /// What they begin with.
        prefix: String,
        /// They come after this one.
        after: Option<String>,
    },
}

/// What a memory answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MemoryAnswer {
    /// To [`MemoryRequest::Get`]; none: there is no such key.
    Entry(Option<memory::Entry>),
    /// To [`MemoryRequest::Set`].
    Set(memory::SetOutcome),
    /// To [`MemoryRequest::Delete`].
    Deleted,
    /// To [`MemoryRequest::Keys`].
    Keys(Vec<String>),
}

/// What a guest may ask of the world. What an implementation does not have is denied; one that is to have everything
/// says so with `#[deny(clippy::missing_trait_methods)]`.
///
/// Time spent in these futures is not counted as the guest's, except for what they compute themselves. They
/// are dropped when the call is cancelled. An answer of more than 16 MiB does not reach the guest.
pub trait HostCalls: Send + Sync {
    /// Asks a model. `request.model` is always there and granted.
    fn complete(&self, request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        let _ = request;
        denied("llm")
    }

    /// Asks several times at once. The answers come in the order of the requests, one for each.
    fn complete_many(
        &self,
        requests: Vec<llm::Request>,
    ) -> HostFuture<'_, Vec<Result<llm::Completion, Error>>> {
        Box::pin(futures::future::join_all(
            requests.into_iter().map(|request| self.complete(request)),
        ))
    }

    /// Searches. `query.sources` is never empty, and all of them are granted.
    fn search(&self, query: search::Query) -> HostFuture<'_, Result<search::Answer, Error>> {
        let _ = query;
        denied("search")
    }

    /// Searches several times at once. The answers come in the order of the queries, one for each.
    fn search_many(
        &self,
        queries: Vec<search::Query>,
    ) -> HostFuture<'_, Vec<Result<search::Answer, Error>>> {
        Box::pin(futures::future::join_all(
            queries.into_iter().map(|query| self.search(query)),
        ))
    }

    /// The functions of these tools, which are granted.
    fn tools(&self, granted: Vec<String>) -> HostFuture<'_, Result<Vec<tools::Tool>, Error>> {
        let _ = granted;
        denied("tools")
    }

    /// Calls tools, all of which are granted, at once. The answers come in the order of the requests, one for each.
    /// None may use more than `fuel_max`. A call that is repeated must be told the same, the fuel included.
    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        let _ = fuel_max;
        Box::pin(async move {
            let mut answers = Vec::with_capacity(requests.len());
            for _request in &requests {
                let result = denied("tools").await;
                answers.push(ToolAnswer { result, fuel: 0 });
            }
            answers
        })
    }

    /// Sends HTTP requests, all at once. The answers come in the order of the requests, one for each. Where a request
    /// is `refused`, it is not sent, and that is its answer.
    fn fetch_many(
        &self,
        requests: Vec<HttpRequest>,
    ) -> HostFuture<'_, Vec<Result<HttpResponse, HttpFault>>> {
        let message = "there is no network here: this code runs outside of a workflow";
        let answers = requests
            .into_iter()
            .map(|_| Err(HttpFault::new(HttpFaultKind::Denied, message)));
        Box::pin(std::future::ready(answers.collect()))
    }

    /// The inputs of the execution: a JSON object.
    fn context_inputs(&self) -> HostFuture<'_, String> {
        Box::pin(std::future::ready("{}".to_owned()))
    }

    /// The output of an earlier step, as JSON.
    fn context_output(&self, step: String) -> HostFuture<'_, Result<String, Error>> {
        let _ = step;
        denied("context")
    }

    /// The names that `context_output` takes now.
    fn context_steps(&self) -> HostFuture<'_, Vec<String>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Asks people, all of whom are granted, and waits for their answer. Where that takes longer than an instance
    /// should live, the call may be cancelled meanwhile and repeated later, with the same seed and the same answers.
    fn ask(&self, question: human::Question) -> HostFuture<'_, Result<human::Answer, Error>> {
        let _ = question;
        denied("human")
    }

    /// Reads or changes what the guest remembers from one execution to the next. A change that is repeated must not happen
    /// twice, and must be told the same.
    fn remember(&self, request: MemoryRequest) -> HostFuture<'_, Result<MemoryAnswer, Error>> {
        let _ = request;
        denied("memory")
    }

    /// What is left: `own` is what this crate knows, without the execution's money. A guest may do one thing or the
    /// other by what it is told here, so a call that is repeated must be told the same.
    fn budget_left(&self, own: budget::Remaining) -> HostFuture<'_, budget::Remaining> {
        Box::pin(std::future::ready(own))
    }

    /// Where the guest's clock stands after the calls that have ended so far; none: where it stood before them.
    fn time(&self) -> Option<SystemTime> {
        None
    }

    /// How many of the answers given so far are on record of an earlier run, and were not asked for again.
    fn recorded(&self) -> u64 {
        0
    }

    /// Takes a line for the log. It is within the guest's limit of log bytes.
    fn log(&self, line: LogLine) -> HostFuture<'_, ()> {
        let _ = line;
        Box::pin(std::future::ready(()))
    }
}

/// A world in which there is nothing: no model, no search, no earlier step. For code that runs by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenyAll;

impl HostCalls for DenyAll {}

fn denied<T: Send + 'static>(capability: &str) -> HostFuture<'static, Result<T, Error>> {
    let error = Error::Denied(Denial {
        capability: capability.to_owned(),
        message: format!("there is no `{capability}` here: this code runs outside of a workflow"),
    });
    Box::pin(std::future::ready(Err(error)))
}
