//! What the calls of a trace are called, and how they end: closed lists, so that no text of a guest is among them.

use serde::{Deserialize, Serialize};

use crate::host_calls::Error;
use crate::http_exchange::HttpFaultKind;

/// A function of the host that a guest can call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostFunction {
    /// `troupe:agent/budget.left`
    BudgetLeft,
    /// `troupe:agent/context.inputs`
    ContextInputs,
    /// `troupe:agent/context.output`
    ContextOutput,
    /// `troupe:agent/context.steps`
    ContextSteps,
    /// `troupe:agent/human.ask`
    HumanAsk,
    /// `troupe:agent/llm.complete`
    LlmComplete,
    /// `troupe:agent/llm.complete-many`
    LlmCompleteMany,
    /// `troupe:agent/llm.models`
    LlmModels,
    /// `troupe:agent/log.write`
    LogWrite,
    /// `troupe:agent/memory.delete`
    MemoryDelete,
    /// `troupe:agent/memory.get`
    MemoryGet,
    /// `troupe:agent/memory.keys`
    MemoryKeys,
    /// `troupe:agent/memory.set`
    MemorySet,
    /// `troupe:agent/search.search`
    SearchSearch,
    /// `troupe:agent/search.search-many`
    SearchSearchMany,
    /// `troupe:agent/search.sources`
    SearchSources,
    /// `troupe:agent/tools.available`
    ToolsAvailable,
    /// `troupe:agent/tools.call`
    ToolsCall,
    /// `troupe:agent/tools.call-many`
    ToolsCallMany,
    /// `wasi:http/outgoing-handler.handle`
    Http,
}

impl HostFunction {
    /// Interface and function, for example `troupe:agent/llm.complete`.
    pub fn as_str(self) -> &'static str {
        match self {
            HostFunction::BudgetLeft => "troupe:agent/budget.left",
            HostFunction::ContextInputs => "troupe:agent/context.inputs",
            HostFunction::ContextOutput => "troupe:agent/context.output",
            HostFunction::ContextSteps => "troupe:agent/context.steps",
            HostFunction::HumanAsk => "troupe:agent/human.ask",
            HostFunction::LlmComplete => "troupe:agent/llm.complete",
            HostFunction::LlmCompleteMany => "troupe:agent/llm.complete-many",
            HostFunction::LlmModels => "troupe:agent/llm.models",
            HostFunction::LogWrite => "troupe:agent/log.write",
            HostFunction::MemoryDelete => "troupe:agent/memory.delete",
            HostFunction::MemoryGet => "troupe:agent/memory.get",
            HostFunction::MemoryKeys => "troupe:agent/memory.keys",
            HostFunction::MemorySet => "troupe:agent/memory.set",
            HostFunction::SearchSearch => "troupe:agent/search.search",
            HostFunction::SearchSearchMany => "troupe:agent/search.search-many",
            HostFunction::SearchSources => "troupe:agent/search.sources",
            HostFunction::ToolsAvailable => "troupe:agent/tools.available",
            HostFunction::ToolsCall => "troupe:agent/tools.call",
            HostFunction::ToolsCallMany => "troupe:agent/tools.call-many",
            HostFunction::Http => "wasi:http/outgoing-handler.handle",
        }
    }

    /// The function's own name.
    pub(crate) fn name(self) -> &'static str {
        self.as_str().rsplit_once('.').map_or("", |(_, name)| name)
    }
}

/// How a call of the host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallEnd {
    /// The guest has its answer.
    Ok,
    /// Not granted.
    Denied,
    /// A budget has nothing left for it.
    BudgetSpent,
    /// The request was wrong.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// The service asks to wait.
    RateLimited,
    /// The service cannot be reached, or failed.
    Unavailable,
    /// No answer came in time.
    TimedOut,
    /// The execution is being cancelled.
    Cancelled,
    /// Nobody knows how it ended.
    Interrupted,
    /// An HTTP request has no response.
    Http(HttpFaultKind),
    /// The guest was ended before it had an answer: by a limit, by its host, or with its step.
    Stopped,
}

impl CallEnd {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Denied(_) => CallEnd::Denied,
            Error::BudgetSpent(_) => CallEnd::BudgetSpent,
            Error::Invalid(_) => CallEnd::Invalid,
            Error::NotFound(_) => CallEnd::NotFound,
            Error::RateLimited(_) => CallEnd::RateLimited,
            Error::Unavailable(_) => CallEnd::Unavailable,
            Error::TimedOut => CallEnd::TimedOut,
            Error::Cancelled => CallEnd::Cancelled,
            Error::Interrupted => CallEnd::Interrupted,
        }
    }

    /// The stable word: `ok`, the case of `troupe:agent/types.error` with `_` for `-`, the kind of an HTTP fault, or
    /// `stopped`.
    pub fn as_str(self) -> &'static str {
        match self {
            CallEnd::Ok => "ok",
            CallEnd::Denied => "denied",
            CallEnd::BudgetSpent => "budget_spent",
            CallEnd::Invalid => "invalid",
            CallEnd::NotFound => "not_found",
            CallEnd::RateLimited => "rate_limited",
            CallEnd::Unavailable => "unavailable",
            CallEnd::TimedOut => "timed_out",
            CallEnd::Cancelled => "cancelled",
            CallEnd::Interrupted => "interrupted",
            CallEnd::Http(kind) => kind.as_str(),
            CallEnd::Stopped => "stopped",
        }
    }
}
