//! Calls of one attempt to models and searches: reserved and recorded before they happen, settled and recorded
//! after, and not made twice where the answer is in the journal already.

use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use troupe_journal::{Delivery, FailPoint};
use troupe_providers::{Completion, Finish, ModelRequest, ProviderError, SearchAnswer, ToolCall};
use troupe_workflow::{
    CallKind, CallOutcome, CallRecord, Code, ExecutionId, Failure, MicroUsd, StartStep, StepPath,
    Timestamp, Usage,
};

use crate::driver::{EndCall, Granted, StartCall, StepMessage, WorstCase};
use crate::memory::Operation;
use crate::models::Route;
use crate::replay::{Place, hex};
use crate::services::Services;
use crate::sources::{Question, Sources};

/// What an answer is taken for by a provider's rate until it is there, where nothing limits it.
const ANSWER_TOKENS_EXPECTED: u64 = 1_024;

/// What is recorded of a tool's name, which a guest may have made up.
const TOOL_NAME_CHARS_MAX: usize = 200;

/// The way of one attempt to the outside.
pub(crate) struct CallGateway {
    execution: ExecutionId,
    path: StepPath,
    attempt: u32,
    driver: mpsc::Sender<StepMessage>,
    fail_point: Option<Arc<FailPoint>>,
    /// Most that the agent's calls may cost in this step, as the operator says.
    share: Option<MicroUsd>,
    /// Answers that an interrupted attempt got, and nobody has asked for again.
    recorded: Mutex<Vec<CallRecord>>,
    /// When the last call ended, by the record.
    last_end: Mutex<Option<Timestamp>>,
}

/// A model's answer with what it used, as the journal keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) finish: Finish,
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) cost: MicroUsd,
}

impl CallGateway {
    pub(crate) fn new(
        services: &Services,
        execution: ExecutionId,
        start: &StartStep,
        driver: mpsc::Sender<StepMessage>,
    ) -> Self {
        Self {
            execution,
            path: start.path.clone(),
            attempt: start.attempt,
            driver,
            fail_point: services.fail_point.clone(),
            share: None,
            recorded: Mutex::new(start.recorded.clone()),
            last_end: Mutex::new(None),
        }
    }

    /// The same with a share that the operator sets.
    pub(crate) fn with_share(self, share: Option<MicroUsd>) -> Self {
        Self { share, ..self }
    }

    /// What is left of the money for the attempt's step; none where nothing bounds it.
    pub(crate) async fn money_left(&self) -> Result<Option<MicroUsd>, Failure> {
        let share = self.share;
        self.inspect_step(move |execution, path| execution.money_left_within(path, share))
            .await
    }

    /// When the last of the calls that were asked for ended, whether it was made now or is on record.
    pub(crate) fn last_end(&self) -> Option<Timestamp> {
        *self.last_end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when a call ended.
    pub(crate) fn note_end(&self, at: Option<Timestamp>) {
        let mut last = self.last_end.lock().unwrap_or_else(PoisonError::into_inner);
        *last = at.max(*last);
    }

    /// Looks at the execution from the attempt's step.
    pub(crate) async fn inspect_step<T: Send + 'static>(
        &self,
        look: impl FnOnce(&troupe_workflow::Execution, &StepPath) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let path = self.path.clone();
        let (answer, answered) = oneshot::channel();
        let message = StepMessage::Inspect(Box::new(move |execution| {
            let _ = answer.send(look(execution, &path));
        }));
        self.driver
            .send(message)
            .await
            .map_err(|_gone| driver_gone())?;
        answered.await.map_err(|_gone| driver_gone())
    }

    /// Asks the models of a route, one after the other while their services fail. A component's request has a place.
    pub(crate) async fn complete(
        &self,
        (name, routes): (&str, &[Route]),
        request: ModelRequest,
        place: Option<&Place>,
    ) -> Result<Answer, Failure> {
        if let Some(outcome) = place.and_then(Place::settled) {
            return self.replayed(outcome);
        }
        let mut last = place.and_then(Place::last_failure);
        let tried = place.map_or(0, Place::failures);
        for route in routes.iter().skip(tried) {
            let request = ModelRequest {
                model: route.model.clone(),
                ..request.clone()
            };
            match self.complete_one((name, route), request, place).await {
                Err(failure) if failure.code.is_services_fault() => last = Some(failure),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| {
            Failure::new(
                Code::InputInvalid,
                format!("the model `{name}` stands for nothing; mend its route in [models]"),
            )
        }))
    }

    async fn complete_one(
        &self,
        (name, route): (&str, &Route),
        mut request: ModelRequest,
        place: Option<&Place>,
    ) -> Result<Answer, Failure> {
        let hash = match place {
            Some(place) => place.request.clone(),
            None => hash_of_model_request(&request),
        };
        if place.is_none()
            && let Some(outcome) = self.take_recorded(&hash)
        {
            return self.replayed(outcome);
        }
        let worst = WorstCase::Model {
            price: route.price.clone(),
            input_tokens: request.input_tokens_max(),
            max_tokens: request.max_tokens,
            share: self.share,
        };
        let call = StartCall {
            path: self.path.clone(),
            attempt: self.attempt,
            kind: CallKind::Model,
            target: name.to_owned(),
            request: hash,
            position: place.map(|place| place.position),
            worst: Some(worst),
        };
        // Before the call is recorded: one that waits reserves nothing, and a crash does not leave it charged.
        let expected = request.max_tokens.map_or(ANSWER_TOKENS_EXPECTED, u64::from);
        let tokens = request.input_tokens_expected().saturating_add(expected);
        let admission = route.service.admit(self.execution, tokens).await;
        let granted = match self.start(call).await {
            Ok(granted) => granted,
            Err(failure) => {
                admission.settle(Some(0));
                return Err(failure);
            }
        };
        request.max_tokens = granted.max_tokens.or(request.max_tokens);
        // Each call of a step has a key of its own, and the same one when it is made again.
        request.idempotency_key = format!("{}/{}", request.idempotency_key, granted.call);
        let asking = route.service.provider.complete(&request);
        let result = self.effect(asking).await;
        admission.settle(match &result {
            Ok(completion) => {
                let usage = &completion.usage;
                Some(usage.input_tokens.saturating_add(usage.output_tokens))
            }
            Err(error) if error.sent() => None,
            Err(_not_sent) => Some(0),
        });
        self.settle(route, &granted, result).await
    }

    /// Makes a request to the outside, past the place where tests have the process end or an answer get lost.
    async fn effect<T>(&self, asking: impl Future<Output = T>) -> T {
        let Some(fail_point) = &self.fail_point else {
            return asking.await;
        };
        let pass = fail_point.enter("effect");
        let answer = asking.await;
        match fail_point.leave(pass) {
            Delivery::Told => answer,
            // As from a service that goes silent: the step's time-out ends it.
            Delivery::Lost => std::future::pending().await,
        }
    }

    /// Records how a model's call ended, and what it cost.
    async fn settle(
        &self,
        route: &Route,
        granted: &Granted,
        result: Result<Completion, ProviderError>,
    ) -> Result<Answer, Failure> {
        match result {
            Ok(completion) => {
                let answer = answer_of(completion, route);
                let (usage, cost) = (answer.usage, answer.cost);
                let stored = serde_json::to_value(&answer).map_err(|error| {
                    Failure::new(
                        Code::Internal,
                        format!("an answer cannot be stored: {error}"),
                    )
                })?;
                self.end(granted.call, CallOutcome::Answered(stored), (usage, cost))
                    .await?;
                Ok(answer)
            }
            Err(error) => {
                let failure = failure_of(&error);
                // What it cost is unknown: it stays charged at its worst case.
                let cost = if error.sent() {
                    granted.reserved
                } else {
                    MicroUsd::ZERO
                };
                self.end(
                    granted.call,
                    CallOutcome::Failed(failure.clone()),
                    (Usage::default(), cost),
                )
                .await?;
                Err(failure)
            }
        }
    }

    /// Searches once. A component's request has a place.
    pub(crate) async fn search(
        &self,
        sources: &Sources,
        question: &Question,
        place: Option<&Place>,
    ) -> Result<SearchAnswer, Failure> {
        let hash = match place {
            Some(place) => place.request.clone(),
            None => hash_of(&json!([
                "search",
                question.text,
                question.sources,
                question.max_results,
                question.max_results_of,
            ])),
        };
        let recorded = match place {
            // Sources have no others to turn to: what failed is answered.
            Some(place) => place.last(),
            None => self.take_recorded(&hash),
        };
        if let Some(outcome) = recorded {
            return self.replayed(outcome);
        }
        let call = StartCall {
            path: self.path.clone(),
            attempt: self.attempt,
            kind: CallKind::Search,
            target: question.sources.join(", "),
            request: hash,
            position: place.map(|place| place.position),
            worst: None,
        };
        let number = self.start(call).await?.call;
        let result = self
            .effect(sources.search(question))
            .await
            .map_err(|error| failure_of(&error));
        let outcome = match &result {
            Ok(answer) => CallOutcome::Answered(serde_json::to_value(answer).map_err(|error| {
                Failure::new(
                    Code::Internal,
                    format!("an answer cannot be stored: {error}"),
                )
            })?),
            Err(failure) => CallOutcome::Failed(failure.clone()),
        };
        self.end(number, outcome, (Usage::default(), MicroUsd::ZERO))
            .await?;
        result
    }

    /// Has a component's tool called once, or gives what is on record.
    pub(crate) async fn tool(
        &self,
        name: &str,
        place: &Place,
        asking: impl Future<Output = Result<Value, Failure>>,
    ) -> Result<Value, Failure> {
        if let Some(outcome) = place.last() {
            return self.replayed(outcome);
        }
        let call = StartCall {
            path: self.path.clone(),
            attempt: self.attempt,
            kind: CallKind::Tool,
            target: name.chars().take(TOOL_NAME_CHARS_MAX).collect(),
            request: place.request.clone(),
            position: Some(place.position),
            worst: None,
        };
        let number = self.start(call).await?.call;
        let result = self.effect(asking).await;
        let outcome = match &result {
            Ok(answer) => CallOutcome::Answered(answer.clone()),
            Err(failure) => CallOutcome::Failed(failure.clone()),
        };
        self.end(number, outcome, (Usage::default(), MicroUsd::ZERO))
            .await?;
        result
    }

    /// Sends a component's HTTP request, unless its outcome is on record. None to send: it was refused, and that is its
    /// outcome.
    pub(crate) async fn fetch(
        &self,
        target: String,
        place: &Place,
        sending: Result<impl Future<Output = CallOutcome>, CallOutcome>,
    ) -> Result<CallOutcome, Failure> {
        if let Some((outcome, at)) = place.last() {
            self.note_end(at);
            return Ok(outcome);
        }
        let call = StartCall {
            path: self.path.clone(),
            attempt: self.attempt,
            kind: CallKind::Http,
            target,
            request: place.request.clone(),
            position: Some(place.position),
            worst: None,
        };
        let number = self.start(call).await?.call;
        let outcome = match sending {
            Ok(sending) => self.effect(sending).await,
            Err(refused) => refused,
        };
        let nothing = (Usage::default(), MicroUsd::ZERO);
        self.end(number, outcome.clone(), nothing).await?;
        Ok(outcome)
    }

    /// Records a call whose outcome is known already.
    pub(crate) async fn note(
        &self,
        kind: CallKind,
        place: &Place,
        outcome: CallOutcome,
    ) -> Result<(), Failure> {
        let request = (place.request.clone(), Some(place.position));
        self.note_call((kind, String::new()), request, outcome)
            .await
    }

    /// Does something with a component's memory, and records it.
    pub(crate) async fn remember(
        &self,
        place: &Place,
        operation: Operation,
    ) -> Result<(CallOutcome, Option<Timestamp>), Failure> {
        let call = StartCall {
            path: self.path.clone(),
            attempt: self.attempt,
            kind: CallKind::Memory,
            target: operation.target(),
            request: place.request.clone(),
            position: Some(place.position),
            worst: None,
        };
        let (answer, answered) = oneshot::channel();
        self.driver
            .send(StepMessage::Remember(call, operation, answer))
            .await
            .map_err(|_gone| driver_gone())?;
        let outcome = answered.await.map_err(|_gone| driver_gone())?;
        outcome.ok_or_else(driver_gone)
    }

    /// Records that a component was denied something.
    pub(crate) async fn note_denial(&self, capability: &str, message: &str) -> Result<(), Failure> {
        let request = (hash_of(&json!([capability, message])), None);
        let outcome = CallOutcome::Failed(Failure::new(Code::Denied, message));
        let what = (CallKind::Denied, capability.to_owned());
        self.note_call(what, request, outcome).await
    }

    async fn note_call(
        &self,
        (kind, target): (CallKind, String),
        (request, position): (String, Option<u32>),
        outcome: CallOutcome,
    ) -> Result<(), Failure> {
        let call = StartCall {
            path: self.path.clone(),
            attempt: self.attempt,
            kind,
            target,
            request,
            position,
            worst: None,
        };
        let (answer, answered) = oneshot::channel();
        self.driver
            .send(StepMessage::NoteCall(call, outcome, answer))
            .await
            .map_err(|_gone| driver_gone())?;
        self.note_end(answered.await.map_err(|_gone| driver_gone())?);
        Ok(())
    }

    /// What a recorded outcome is to whoever asks again.
    pub(crate) fn replayed<T: DeserializeOwned>(
        &self,
        (outcome, at): (CallOutcome, Option<Timestamp>),
    ) -> Result<T, Failure> {
        self.note_end(at);
        match outcome {
            CallOutcome::Answered(answer) => serde_json::from_value(answer).map_err(|error| {
                Failure::new(
                    Code::Internal,
                    format!("a recorded answer cannot be read: {error}"),
                )
            }),
            CallOutcome::Failed(failure) => Err(failure),
        }
    }

    fn take_recorded(&self, hash: &str) -> Option<(CallOutcome, Option<Timestamp>)> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let position = recorded
            .iter()
            .position(|call| call.outcome.is_some() && call.request == hash)?;
        let call = recorded.remove(position);
        Some((call.outcome?, call.ended_at))
    }

    async fn start(&self, call: StartCall) -> Result<Granted, Failure> {
        let (answer, answered) = oneshot::channel();
        self.driver
            .send(StepMessage::StartCall(call, answer))
            .await
            .map_err(|_gone| driver_gone())?;
        let answer = answered.await.map_err(|_gone| driver_gone())?;
        answer.map_err(|refused| {
            self.note_end(refused.at);
            refused.failure
        })
    }

    async fn end(
        &self,
        call: u32,
        outcome: CallOutcome,
        (usage, cost): (Usage, MicroUsd),
    ) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        let end = EndCall {
            path: self.path.clone(),
            attempt: self.attempt,
            call,
            outcome,
            usage,
            cost,
        };
        self.driver
            .send(StepMessage::EndCall(end, answer))
            .await
            .map_err(|_gone| driver_gone())?;
        self.note_end(answered.await.map_err(|_gone| driver_gone())?);
        Ok(())
    }
}

fn answer_of(completion: Completion, route: &Route) -> Answer {
    let cost = route
        .price
        .as_ref()
        .map_or(0, |price| price.cost(&completion.usage).0);
    Answer {
        text: completion.text,
        tool_calls: completion.tool_calls,
        finish: completion.finish,
        model: completion.model,
        usage: Usage {
            input_tokens: completion.usage.input_tokens,
            cached_input_tokens: completion.usage.cached_input_tokens,
            output_tokens: completion.usage.output_tokens,
        },
        cost: MicroUsd::new(cost),
    }
}

/// A provider's error as the journal keeps it.
pub(crate) fn failure_of(error: &ProviderError) -> Failure {
    let code = match error {
        ProviderError::RateLimited { .. } => Code::RateLimited,
        ProviderError::Overloaded { .. } => Code::Overloaded,
        ProviderError::Unavailable { .. } | ProviderError::BadAnswer { .. } => Code::Unavailable,
        ProviderError::TimedOut { .. } => Code::TimedOut,
        ProviderError::Denied { .. } => Code::Denied,
        ProviderError::Invalid { .. } => Code::InputInvalid,
    };
    let retry_after = error
        .retry_after()
        .map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
    Failure::new(code, error.to_string()).retry_after_ms(retry_after)
}

/// The limit is part of neither the step's input nor the record: it may differ after a crash.
fn hash_of_model_request(request: &ModelRequest) -> String {
    hash_of(&json!([
        "model",
        request.model,
        request.temperature,
        request.system,
        request.messages,
        request.stop,
        request.tools,
        request.schema.as_ref().map(|schema| &schema.json),
    ]))
}

fn hash_of(request: &Value) -> String {
    hex(&Sha256::digest(request.to_string()))
}

/// The driver ends before its steps only when this process gives the execution up.
fn driver_gone() -> Failure {
    Failure::new(
        Code::Cancelled,
        "the execution is no longer driven by this process",
    )
}
