//! `/v1/orchestrate/workflows`.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_workflow::Definition;

use super::App;
use super::body::{Body, Params};
use super::error::ApiError;
use super::idempotency::Key;
use super::view;
use crate::clock;
use crate::operations::OperationError;
use crate::run::RunSettings;
use crate::workflows;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfVersion {
    #[serde(default)]
    version: Option<u32>,
}

pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body<Value>,
) -> Result<Response, ApiError> {
    let journal = &*app.node.journal;
    let key = Key::of(&headers, "workflows", &body.bytes)?;
    if let Some(key) = &key
        && let Some(id) = key.earlier(journal).await?
    {
        return created(&app, &id).await;
    }
    let definition = compile(&app, &body.value).await?;
    let id = clock::new_id("wf");
    let records = key
        .iter()
        .map(|key| key.record(&id))
        .collect::<Result<_, _>>()?;
    let stored = workflows::create(journal, &definition, records, id.clone()).await;
    // Where it was refused, the same request may have come twice at the same moment, and the other was done.
    if let (Err(_), Some(key)) = (&stored, &key)
        && let Some(id) = key.earlier(journal).await?
    {
        return created(&app, &id).await;
    }
    created(&app, &stored?.id).await
}

async fn created(app: &App, id: &str) -> Result<Response, ApiError> {
    let stored = workflows::find(&*app.node.journal, id).await?;
    let (definition, version) = workflows::definition(&*app.node.journal, &stored, Some(1)).await?;
    let view = view::workflow(&stored, version.version, &definition);
    Ok((StatusCode::CREATED, axum::Json(view)).into_response())
}

pub(super) async fn validate(
    State(app): State<App>,
    body: Body<Value>,
) -> Result<Response, ApiError> {
    let definition = compile(&app, &body.value).await?;
    let warnings: Vec<String> = definition
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect();
    let view = json!({ "valid": true, "warnings": warnings, "inputs_inferred": definition.inferred_inputs() });
    Ok(axum::Json(view).into_response())
}

/// Reads a document, and checks what it needs of this server.
pub(super) async fn compile(app: &App, document: &Value) -> Result<Definition, ApiError> {
    let definition = Definition::compile(document).map_err(OperationError::Faults)?;
    let services = app
        .node
        .services
        .get(&RunSettings::default())
        .map_err(OperationError::Host)?;
    services
        .check(&definition)
        .await
        .map_err(OperationError::Faults)?;
    Ok(definition)
}

pub(super) async fn get(
    State(app): State<App>,
    Path(id): Path<String>,
    Params(params): Params<OfVersion>,
) -> Result<Response, ApiError> {
    let journal = &*app.node.journal;
    let stored = workflows::find(journal, &id).await?;
    let (definition, version) = workflows::definition(journal, &stored, params.version).await?;
    Ok(axum::Json(view::workflow(&stored, version.version, &definition)).into_response())
}

pub(super) async fn list(
    State(app): State<App>,
    Params(params): Params<Listing>,
) -> Result<Response, ApiError> {
    let limit = super::executions::limit_of(params.limit)?;
    let found = workflows::list(&*app.node.journal, params.cursor, limit + 1).await?;
    let data = found.iter().map(view::workflow_row).collect();
    Ok(axum::Json(view::page(data, limit)).into_response())
}
