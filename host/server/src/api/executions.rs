//! `/v1/orchestrate/executions`, and what begins them.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use troupe_journal::{AppendError, FirstOwner, Listing, Order, RecordWrite, WorkflowVersion};
use troupe_workflow::{
    Answer, Definition, Execution, ExecutionId, ExecutionStatus, ForkedFrom, Kept, MicroUsd,
    RaisedBudgets, StepPath, Timestamp,
};

use super::App;
use super::body::{Body, OfExecution, OfId, Params, limit_of};
use super::error::ApiError;
use super::idempotency::{self, Key};
use super::{view, workflows};
use crate::clock;
use crate::operations::{OperationError, Said};
use crate::run::{NewRun, RunSettings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunWorkflow {
    inputs: Value,
    /// Overrides of the document's `config`, for this execution.
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunDocument {
    workflow: Value,
    inputs: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    approved: bool,
    #[serde(default)]
    notes: Option<String>,
    #[serde(default)]
    step: Option<String>,
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    approved_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resume {
    #[serde(default)]
    budget_usd: Option<f64>,
    #[serde(default)]
    budget_tokens: Option<u64>,
    #[serde(default)]
    budget_fuel: Option<u64>,
}

impl Resume {
    fn raised(&self) -> Result<RaisedBudgets, ApiError> {
        let usd = self.budget_usd.map(MicroUsd::from_dollars).transpose();
        Ok(RaisedBudgets {
            usd: usd.map_err(|error| ApiError::invalid("budget_usd", error.to_string()))?,
            tokens: self.budget_tokens,
            fuel: self.budget_fuel,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fork {
    from_step: String,
    #[serde(default)]
    inputs: Option<Value>,
    #[serde(default)]
    version: Option<u32>,
}

/// A body in which nothing is said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    workflow_id: Option<String>,
    #[serde(default)]
    sort: Option<String>,
    #[serde(default)]
    created_after: Option<String>,
    #[serde(default)]
    created_before: Option<String>,
}

pub(super) async fn run_workflow(
    State(app): State<App>,
    OfId(id): OfId,
    headers: HeaderMap,
    body: Body<RunWorkflow>,
) -> Result<Response, ApiError> {
    let key = Key::of(&headers, &format!("workflows/{id}/run"), &body.bytes)?;
    if let Some(answer) = answered_earlier(&app, key.as_ref()).await? {
        return Ok(answer);
    }
    let journal = &*app.node.journal;
    let stored = crate::records::find(journal, &id).await?;
    let version = body.value.version;
    let (definition, version) = crate::workflows::definition(journal, &stored, version).await?;
    let definition = crate::workflows::with_config(definition, body.value.config.as_ref())?;
    let settings = RunSettings::default();
    workflows::check(&app, &definition, &settings).await?;
    let run = ToRun {
        definition,
        workflow: Some(version),
        inputs: body.value.inputs,
        settings,
        forked_from: None,
        kept: Vec::new(),
    };
    start(&app, run, key).await
}

pub(super) async fn run_document(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body<RunDocument>,
) -> Result<Response, ApiError> {
    let key = Key::of(&headers, "run", &body.bytes)?;
    if let Some(answer) = answered_earlier(&app, key.as_ref()).await? {
        return Ok(answer);
    }
    let definition = workflows::compile(&app, &body.value.workflow)
        .await
        .map_err(|error| error.within("/workflow"))?;
    let run = ToRun {
        definition: Arc::new(definition),
        workflow: None,
        inputs: body.value.inputs,
        settings: RunSettings::default(),
        forked_from: None,
        kept: Vec::new(),
    };
    start(&app, run, key).await
}

/// The answer to a request that was sent before with the same key.
async fn answered_earlier(app: &App, key: Option<&Key>) -> Result<Option<Response>, ApiError> {
    let Some(key) = key else {
        return Ok(None);
    };
    match key.earlier(&*app.node.journal).await? {
        Some(id) => {
            let id = id.parse().map_err(|_wrong| {
                ApiError::conflict(
                    "idempotency_key_reused",
                    "this idempotency key was used for something else; use a new one",
                )
            })?;
            Ok(Some(
                (StatusCode::ACCEPTED, shown(app, id).await?).into_response(),
            ))
        }
        None => Ok(None),
    }
}

/// What is to be run.
struct ToRun {
    definition: Arc<Definition>,
    workflow: Option<WorkflowVersion>,
    inputs: Value,
    settings: RunSettings,
    forked_from: Option<ForkedFrom>,
    kept: Vec<Kept>,
}

async fn start(app: &App, run: ToRun, key: Option<Key>) -> Result<Response, ApiError> {
    let ToRun {
        definition,
        workflow,
        inputs,
        settings,
        forked_from,
        kept,
    } = run;
    definition
        .check_inputs(&inputs)
        .map_err(|faults| ApiError::from(OperationError::Faults(faults)).within("/inputs"))?;
    app.node.check_room().await.map_err(ApiError::from)?;
    let id = clock::new_execution_id();
    let records = records(key.as_ref(), id)?;
    let new = NewRun {
        definition,
        inputs,
        settings,
        workflow,
        forked_from,
        kept,
        planned: None,
        first_owner: FirstOwner::Anyone,
        records,
    };
    match app.node.create(id, new).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, shown(app, id).await?).into_response()),
        // The same request came twice at the same moment.
        Err(AppendError::Record {
            kind: idempotency::KIND,
            ..
        }) => {
            let earlier = answered_earlier(app, key.as_ref()).await?;
            earlier.ok_or_else(|| ApiError::busy("the same request is being done; try again"))
        }
        Err(error) => Err(OperationError::from(error).into()),
    }
}

fn records(key: Option<&Key>, id: ExecutionId) -> Result<Vec<RecordWrite>, ApiError> {
    key.iter().map(|key| key.record(&id.to_string())).collect()
}

pub(super) async fn get(
    State(app): State<App>,
    OfExecution(id): OfExecution,
) -> Result<Response, ApiError> {
    Ok(shown(&app, id).await?.into_response())
}

async fn shown(app: &App, id: ExecutionId) -> Result<axum::Json<Value>, ApiError> {
    let loaded = app
        .node
        .definitions
        .load(&*app.node.journal, id)
        .await
        .map_err(OperationError::from)?;
    Ok(axum::Json(view::execution(&loaded.row, &loaded.execution)))
}

pub(super) async fn list(
    State(app): State<App>,
    Params(params): Params<ListParams>,
) -> Result<Response, ApiError> {
    let limit = limit_of(params.limit)?;
    let listing = listing_of(params, limit + 1)?;
    let rows = app
        .node
        .journal
        .list(listing)
        .await
        .map_err(OperationError::from)?;
    let data = rows.iter().map(view::row).collect();
    Ok(axum::Json(view::page(data, limit)).into_response())
}

fn listing_of(params: ListParams, limit: u32) -> Result<Listing, ApiError> {
    let order = match params.sort.as_deref() {
        None | Some("-created_at") => Order::NewestFirst,
        Some("created_at") => Order::OldestFirst,
        Some(_) => {
            return Err(ApiError::invalid(
                "sort",
                "sort by `created_at` or `-created_at`",
            ));
        }
    };
    let statuses = params.status.iter().flat_map(|words| words.split(','));
    let statuses = statuses
        .map(|word| {
            ExecutionStatus::from_word(word).ok_or_else(|| {
                let words = ExecutionStatus::ALL.map(ExecutionStatus::as_str).join(", ");
                ApiError::invalid("status", format!("a status is one of {words}"))
            })
        })
        .collect::<Result<_, _>>()?;
    let after = params
        .cursor
        .map(|cursor| cursor.parse())
        .transpose()
        .map_err(|_wrong| ApiError::invalid("cursor", "this is no cursor of this list"))?;
    let time = |name: &str, text: Option<String>| {
        text.map(|text| {
            Timestamp::parse(&text)
                .ok_or_else(|| ApiError::invalid(name, "write a time as `2026-01-31T12:00:00Z`"))
        })
        .transpose()
    };
    Ok(Listing {
        statuses,
        workflow: params.workflow_id,
        created_after: time("created_after", params.created_after)?,
        created_before: time("created_before", params.created_before)?,
        updated_before: None,
        after,
        order,
        limit,
    })
}

pub(super) async fn cancel(
    State(app): State<App>,
    OfExecution(id): OfExecution,
    headers: HeaderMap,
    body: Body<Nothing>,
) -> Result<Response, ApiError> {
    let request = Request::of(&app, (id, "cancel"), &headers, &body.bytes).await?;
    if let Some(records) = request.records()? {
        let done = app.desk().cancel(id, records).await;
        request.settle(&app, done).await?;
        app.node.look_at(id);
    }
    Ok(shown(&app, id).await?.into_response())
}

pub(super) async fn approve(
    State(app): State<App>,
    OfExecution(id): OfExecution,
    headers: HeaderMap,
    body: Body<Approve>,
) -> Result<Response, ApiError> {
    let request = Request::of(&app, (id, "approve"), &headers, &body.bytes).await?;
    if let Some(records) = request.records()? {
        let said = Said {
            step: body.value.step,
            answer: Answer {
                // An open server knows nobody: it believes what it is told.
                by: body.value.approved_by.unwrap_or_else(|| "api".to_owned()),
                approved: body.value.approved,
                notes: body.value.notes,
                data: body.value.data,
            },
        };
        let done = app.desk().answer(id, &said, records).await;
        request.settle(&app, done).await?;
        app.node.look_at(id);
    }
    Ok(shown(&app, id).await?.into_response())
}

pub(super) async fn resume(
    State(app): State<App>,
    OfExecution(id): OfExecution,
    headers: HeaderMap,
    body: Body<Resume>,
) -> Result<Response, ApiError> {
    let request = Request::of(&app, (id, "resume"), &headers, &body.bytes).await?;
    if let Some(records) = request.records()? {
        let raised = body.value.raised()?;
        let done = app.desk().resume(id, &raised, records).await;
        request.settle(&app, done).await?;
        app.node.look_at(id);
    }
    Ok(shown(&app, id).await?.into_response())
}

pub(super) async fn pause(
    State(app): State<App>,
    OfExecution(id): OfExecution,
    headers: HeaderMap,
    body: Body<Pause>,
) -> Result<Response, ApiError> {
    let request = Request::of(&app, (id, "pause"), &headers, &body.bytes).await?;
    if let Some(records) = request.records()? {
        let why = (None, body.value.reason.as_deref());
        let done = app.desk().pause(id, why, records).await;
        request.settle(&app, done).await?;
        app.node.look_at(id);
    }
    Ok(shown(&app, id).await?.into_response())
}

pub(super) async fn retry(
    State(app): State<App>,
    OfExecution(id): OfExecution,
    headers: HeaderMap,
    body: Body<Resume>,
) -> Result<Response, ApiError> {
    let request = Request::of(&app, (id, "retry"), &headers, &body.bytes).await?;
    if let Some(records) = request.records()? {
        let raised = body.value.raised()?;
        let done = app.desk().retry(id, (None, &raised), records).await;
        request.settle(&app, done).await?;
        app.node.look_at(id);
    }
    Ok(shown(&app, id).await?.into_response())
}

pub(super) async fn fork(
    State(app): State<App>,
    OfExecution(id): OfExecution,
    headers: HeaderMap,
    body: Body<Fork>,
) -> Result<Response, ApiError> {
    let key = Key::of(&headers, &format!("executions/{id}/fork"), &body.bytes)?;
    if let Some(answer) = answered_earlier(&app, key.as_ref()).await? {
        return Ok(answer);
    }
    let Fork {
        from_step,
        inputs,
        version,
    } = body.value;
    let from = StepPath::new(from_step);
    let forked = app.desk().fork(id, &from).await?;
    let (definition, workflow) = match (version, &forked.row.workflow) {
        (None, workflow) => (Arc::clone(forked.execution.definition()), workflow.clone()),
        (Some(version), Some(workflow)) => {
            let journal = &*app.node.journal;
            let stored = crate::records::find(journal, &workflow.id).await?;
            let (definition, version) =
                crate::workflows::definition(journal, &stored, Some(version)).await?;
            (definition, Some(version))
        }
        (Some(_), None) => {
            let message = "the execution is no run of a stored workflow, so there are no versions";
            return Err(ApiError::invalid("version", message));
        }
    };
    let settings = serde_json::from_str(&forked.row.settings)
        .map_err(|error| OperationError::Host(error.into()))?;
    workflows::check(&app, &definition, &settings).await?;
    let run = ToRun {
        definition,
        workflow,
        inputs: inputs.unwrap_or_else(|| forked.execution.inputs().clone()),
        settings,
        forked_from: Some(ForkedFrom {
            execution: id,
            step: from,
        }),
        kept: forked.kept,
    };
    start(&app, run, key).await
}

pub(super) async fn delete(
    State(app): State<App>,
    OfExecution(id): OfExecution,
) -> Result<Response, ApiError> {
    match app.node.journal.delete(id).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(false) => Err(ApiError::not_found(format!("there is no execution {id}"))),
        Err(error @ AppendError::NotEnded(_)) => {
            Err(ApiError::conflict("not_ended", error.to_string()))
        }
        Err(error) => Err(OperationError::from(error).into()),
    }
}

/// A request that changes an execution.
struct Request {
    id: ExecutionId,
    key: Option<Key>,
    /// Whether it was done before.
    is_done: bool,
}

impl Request {
    async fn of(
        app: &App,
        (id, what): (ExecutionId, &str),
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let key = Key::of(headers, &format!("executions/{id}/{what}"), body)?;
        let is_done = match &key {
            Some(key) => key.earlier(&*app.node.journal).await?.is_some(),
            None => false,
        };
        Ok(Self { id, key, is_done })
    }

    /// What is recorded with the change; none: it was done before.
    fn records(&self) -> Result<Option<Vec<RecordWrite>>, ApiError> {
        if self.is_done {
            return Ok(None);
        }
        records(self.key.as_ref(), self.id).map(Some)
    }

    /// What came of it. Where it was refused, the same request may have come twice at the same moment, and the other
    /// was done.
    async fn settle(
        &self,
        app: &App,
        done: Result<Execution, OperationError>,
    ) -> Result<(), ApiError> {
        let Err(error) = done else {
            return Ok(());
        };
        if let Some(key) = &self.key
            && key.earlier(&*app.node.journal).await?.is_some()
        {
            return Ok(());
        }
        Err(error.into())
    }
}
