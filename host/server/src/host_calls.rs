//! What a guest asks of the world, answered with the workflow's models, sources, people and earlier outputs, and with
//! the record of what it asked before.

mod completion;
mod fetch;
mod memory;
mod question;
mod tool;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use serde_json::Value;
use troupe_sandbox::{
    BudgetKind, CancelFlag, Denial, Denied, Error, HostCalls, HostFuture, HttpFault, HttpRequest,
    HttpResponse, LogLevel, LogLine, MemoryAnswer, MemoryRequest, ToolAnswer, Usage, budget, human,
    llm, search, tools,
};
use troupe_workflow::{CallKind, CallOutcome, Code, ExecutionId, Failure, MicroUsd};

use crate::agents::Attempt;
use crate::call_gateway::CallGateway;
use crate::driver::AskedQuestion;
use crate::memory::Owner;
use crate::replay::{Place, Replay, hash_of};
use crate::secret_search::SecretSearch;
use crate::services::Services;
use crate::sources::Question;
use crate::tools::LoadedTool;

/// Results of a source where the guest says nothing.
const RESULTS_DEFAULT: u32 = 10;

/// The world of one call.
pub(crate) struct GuestHost {
    gateway: CallGateway,
    replay: Replay,
    services: Arc<Services>,
    idempotency_key: String,
    agent: String,
    /// Whose memory is its own.
    memory: Owner,
    /// The tools that the component may call.
    tools: Vec<LoadedTool>,
    /// The component's own, from which those of its tools follow.
    seed: [u8; 32],
    began_at: SystemTime,
    execution: ExecutionId,
    /// Ends the call.
    cancel: CancelFlag,
    stop: Mutex<Option<Stop>>,
    /// What the guest may use without knowing it, by name.
    secrets: BTreeMap<String, Arc<SecretSearch>>,
    /// Requests that were answered from the record.
    recorded: AtomicU64,
    /// What tools used that were called in this run, and the most that those may use that are under way.
    tool_fuel: AtomicU64,
}

/// Why the host ended a call.
pub(crate) enum Stop {
    /// People are to be asked; the component is run again when they have answered.
    Asked(AskedQuestion),
    /// It asked something else than the record says.
    Diverged(Failure),
}

#[deny(
    clippy::missing_trait_methods,
    reason = "what is missing would be denied"
)]
impl HostCalls for GuestHost {
    fn complete(&self, request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        let many = self.complete_many(vec![request]);
        Box::pin(async { many.await.pop().unwrap_or(Err(Error::Interrupted)) })
    }

    fn complete_many(
        &self,
        requests: Vec<llm::Request>,
    ) -> HostFuture<'_, Vec<Result<llm::Completion, Error>>> {
        Box::pin(async move {
            let places = self.places(CallKind::Model, &requests).await;
            let asked = requests.into_iter().zip(&places);
            join_all(asked.map(|(request, place)| self.complete_at(request, place))).await
        })
    }

    fn search(&self, query: search::Query) -> HostFuture<'_, Result<search::Answer, Error>> {
        let many = self.search_many(vec![query]);
        Box::pin(async { many.await.pop().unwrap_or(Err(Error::Interrupted)) })
    }

    fn search_many(
        &self,
        queries: Vec<search::Query>,
    ) -> HostFuture<'_, Vec<Result<search::Answer, Error>>> {
        Box::pin(async move {
            let places = self.places(CallKind::Search, &queries).await;
            let asked = queries.into_iter().zip(&places);
            join_all(asked.map(|(query, place)| self.search_at(query, place))).await
        })
    }

    fn fetch_many(
        &self,
        requests: Vec<HttpRequest>,
    ) -> HostFuture<'_, Vec<Result<HttpResponse, HttpFault>>> {
        Box::pin(self.fetch_all(requests))
    }

    fn ask(&self, question: human::Question) -> HostFuture<'_, Result<human::Answer, Error>> {
        Box::pin(async move {
            let place = self.place(CallKind::Human, &question).await;
            let question = question::read(question)?;
            let Some(outcome) = place.last() else {
                return self.end_with(Stop::Asked(question.asked_at(place))).await;
            };
            let answer = self.gateway.replayed::<question::Recorded>(outcome);
            answer
                .map(Into::into)
                .map_err(|failure| error_of("human", &failure))
        })
    }

    fn remember(&self, request: MemoryRequest) -> HostFuture<'_, Result<MemoryAnswer, Error>> {
        Box::pin(self.remember_at(request))
    }

    fn budget_left(&self, own: budget::Remaining) -> HostFuture<'_, budget::Remaining> {
        Box::pin(async move {
            let place = self.place(CallKind::Budget, &"left").await;
            let told = place
                .last()
                .and_then(|outcome| self.gateway.replayed(outcome).ok());
            if let Some(told) = told {
                return told;
            }
            let left = budget::Remaining {
                microdollars: self.microdollars_left().await,
                ..own
            };
            if let Ok(value) = serde_json::to_value(left) {
                let outcome = CallOutcome::Answered(value);
                // Where the driver is gone the whole call ends.
                let _ = self.gateway.note(CallKind::Budget, &place, outcome).await;
            }
            left
        })
    }

    fn time(&self) -> Option<SystemTime> {
        let millis = u64::try_from(self.gateway.last_end()?.as_millis()).unwrap_or(0);
        Some(UNIX_EPOCH + Duration::from_millis(millis))
    }

    fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    fn tools(&self, _granted: Vec<String>) -> HostFuture<'_, Result<Vec<tools::Tool>, Error>> {
        Box::pin(self.list_tools())
    }

    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        Box::pin(async move {
            let places = self.places(CallKind::Tool, &requests).await;
            let asked = requests.into_iter().zip(&places);
            let answers = asked.map(|(request, place)| self.call_tool_at(request, fuel_max, place));
            join_all(answers).await
        })
    }

    fn context_inputs(&self) -> HostFuture<'_, String> {
        Box::pin(async {
            let inputs = self
                .gateway
                .inspect_step(|execution, path| execution.inputs_of(path).to_string())
                .await;
            inputs.unwrap_or_else(|_gone| "{}".to_owned())
        })
    }

    fn context_output(&self, step: String) -> HostFuture<'_, Result<String, Error>> {
        Box::pin(async move {
            let name = step.clone();
            let output = self
                .gateway
                .inspect_step(move |execution, path| execution.output_of(path, &name))
                .await;
            match output.map_err(|failure| error_of("context", &failure))? {
                Some(output) => Ok(output.to_string()),
                None => Err(Error::NotFound(format!("no step `{step}` has ended"))),
            }
        })
    }

    fn context_steps(&self) -> HostFuture<'_, Vec<String>> {
        Box::pin(async {
            let names = self
                .gateway
                .inspect_step(troupe_workflow::Execution::output_names)
                .await;
            names.unwrap_or_default()
        })
    }

    fn log(&self, line: LogLine) -> HostFuture<'_, ()> {
        let (agent, message, fields) = (
            &self.agent,
            &line.message,
            line.fields.as_deref().unwrap_or("{}"),
        );
        let id = self.execution;
        match line.level {
            LogLevel::Debug => tracing::debug!(execution.id = %id, agent, fields, "{message}"),
            LogLevel::Info => tracing::info!(execution.id = %id, agent, fields, "{message}"),
            LogLevel::Warn => tracing::warn!(execution.id = %id, agent, fields, "{message}"),
            LogLevel::Error => tracing::error!(execution.id = %id, agent, fields, "{message}"),
        }
        Box::pin(std::future::ready(()))
    }
}

impl GuestHost {
    /// The world of an attempt by an agent, in a run of a component.
    pub(crate) fn new(
        attempt: &Attempt,
        agent: &str,
        tools: Vec<LoadedTool>,
        (secrets, share): (BTreeMap<String, Arc<SecretSearch>>, Option<MicroUsd>),
        (seed, began_at): ([u8; 32], SystemTime),
    ) -> Self {
        let start = &attempt.start;
        let driver = attempt.driver.clone();
        let gateway = CallGateway::new(&attempt.services, attempt.execution, start, driver);
        Self {
            gateway: gateway.with_share(share),
            replay: Replay::new(&start.recorded),
            services: Arc::clone(&attempt.services),
            idempotency_key: start.idempotency_key.clone(),
            agent: agent.to_owned(),
            memory: Owner {
                workflow: attempt.definition().name().to_owned(),
                agent: agent.to_owned(),
            },
            tools,
            seed,
            began_at,
            execution: attempt.execution,
            cancel: attempt.cancel.clone(),
            stop: Mutex::new(None),
            secrets,
            recorded: AtomicU64::new(0),
            tool_fuel: AtomicU64::new(0),
        }
    }

    /// Records what the component was denied. Requests over HTTP are on record already, each at its place.
    pub(crate) async fn record_denials(&self, denials: &[Denied]) {
        for denied in denials {
            tracing::warn!(
                execution.id = %self.execution, agent = self.agent, capability = denied.capability,
                count = denied.count, "{}", denied.message
            );
            if denied.capability != "hosts" {
                // Where the driver is gone the whole call ends.
                let _ = self
                    .gateway
                    .note_denial(&denied.capability, &denied.message)
                    .await;
            }
        }
    }

    /// What a call used of which this is the report. Tools are counted here: a report knows nothing of those whose answers
    /// it was still waiting for when it was cancelled, and has those in it that are on record. These were paid by the
    /// attempt that called them, and the guest is charged for them again only so that its fuel ends where it did.
    pub(crate) fn fuel_used(&self, usage: &Usage) -> u64 {
        let own = usage.fuel.saturating_sub(usage.tool_fuel);
        own.saturating_add(self.tool_fuel.load(Ordering::Relaxed))
    }

    /// Why the host ended the call, where it did.
    pub(crate) fn take_stop(&self) -> Option<Stop> {
        self.stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether a guest that has ended asked all that is on record.
    ///
    /// # Errors
    /// What it did not ask.
    pub(crate) fn check_ended(&self) -> Result<(), Failure> {
        self.replay.check_ended()
    }

    /// Ends the call; the future ends with it.
    async fn end_with<T>(&self, stop: Stop) -> T {
        self.stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(stop);
        self.cancel.cancel();
        std::future::pending().await
    }

    /// The places of requests made at once; ends the call where one is not what is on record.
    async fn places<T: serde::Serialize>(&self, kind: CallKind, requests: &[T]) -> Vec<Place> {
        let hashes: Result<Vec<String>, Failure> = requests.iter().map(hash_of).collect();
        let places = hashes.and_then(|hashes| self.replay.places(kind, hashes));
        match places {
            Ok(places) => {
                let recorded = places
                    .iter()
                    .filter(|place| place.is_answered(kind))
                    .count();
                let recorded = u64::try_from(recorded).unwrap_or(u64::MAX);
                self.recorded.fetch_add(recorded, Ordering::Relaxed);
                places
            }
            Err(failure) => self.end_with(Stop::Diverged(failure)).await,
        }
    }

    async fn place<T: serde::Serialize>(&self, kind: CallKind, request: &T) -> Place {
        let places = self.places(kind, std::slice::from_ref(request)).await;
        match places.into_iter().next() {
            Some(place) => place,
            None => std::future::pending().await,
        }
    }

    async fn complete_at(
        &self,
        request: llm::Request,
        place: &Place,
    ) -> Result<llm::Completion, Error> {
        let model = request.model.clone().unwrap_or_default();
        let request = completion::request_of(request, &self.idempotency_key)?;
        let routes = self
            .services
            .models
            .resolve(&model)
            .map_err(|_unknown| Error::NotFound(model.clone()))?;
        let answer = self
            .gateway
            .complete((&model, &routes), request, Some(place))
            .await
            .map_err(|failure| error_of("llm", &failure))?;
        Ok(completion::completion_of(answer))
    }

    async fn search_at(
        &self,
        query: search::Query,
        place: &Place,
    ) -> Result<search::Answer, Error> {
        let question = Question {
            text: query.text,
            sources: query.sources,
            max_results: query.max_results.unwrap_or(RESULTS_DEFAULT),
            max_results_of: BTreeMap::new(),
        };
        let answer = self
            .gateway
            .search(&self.services.sources, &question, Some(place))
            .await
            .map_err(|failure| error_of("search", &failure))?;
        let results = answer.results.into_iter().map(|hit| search::Hit {
            title: hit.title,
            url: hit.url,
            snippet: hit.snippet,
            source: hit.source,
            published_at: hit.published_at,
            score_permille: hit.score_permille,
        });
        let errors = answer.errors.into_iter().map(|error| search::SourceError {
            source: error.source,
            message: error.message,
        });
        Ok(search::Answer {
            results: results.collect(),
            errors: errors.collect(),
        })
    }

    /// What is left of the execution's money; none where no budget was set.
    async fn microdollars_left(&self) -> Option<u64> {
        let left = self.gateway.money_left().await;
        left.ok().flatten().map(MicroUsd::as_micro_usd)
    }
}

fn parse_json(text: &str, what: &str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Invalid(format!("{what} is no JSON: {error}")))
}

/// A failure in the guest's own terms.
fn error_of(capability: &str, failure: &Failure) -> Error {
    let message = || failure.message.clone();
    match failure.code {
        Code::RateLimited => Error::RateLimited(failure.retry_after_ms),
        Code::Overloaded | Code::Unavailable => Error::Unavailable(message()),
        Code::TimedOut => Error::TimedOut,
        Code::Denied => Error::Denied(Denial {
            capability: capability.to_owned(),
            message: message(),
        }),
        Code::BudgetExceeded => Error::BudgetSpent(BudgetKind::Usd),
        Code::Cancelled => Error::Cancelled,
        Code::InputInvalid | Code::OutputInvalid => Error::Invalid(message()),
        Code::GuestFailed
        | Code::GuestTrap
        | Code::ReplayDiverged
        | Code::LimitFuel
        | Code::LimitMemory
        | Code::LimitTime
        | Code::LimitOutput
        | Code::LimitHostCalls
        | Code::LimitHostBytes
        | Code::LimitInstances
        | Code::ConditionType
        | Code::TemplateFailed
        | Code::MaxIterations
        | Code::LoopItemsType
        | Code::ApprovalTimeout
        | Code::ComponentUnavailable
        | Code::Internal => Error::Unavailable(message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_denied_is_what_was_asked_for() {
        let failure = Failure::new(Code::Denied, "the key was rejected");
        let Error::Denied(denial) = error_of("search", &failure) else {
            panic!("not denied")
        };
        assert_eq!(denial.capability, "search");
        assert_eq!(denial.message, "the key was rejected");
    }
}
