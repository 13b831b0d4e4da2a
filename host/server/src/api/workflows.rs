//! `/v1/orchestrate/workflows`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_workflow::Definition;

use super::App;
use super::body::{Body, Listing, OfId, Params, limit_of};
use super::error::ApiError;
use super::idempotency::Key;
use super::view;
use crate::clock;
use crate::components::Components;
use crate::operations::OperationError;
use crate::records;
use crate::run::RunSettings;
use crate::workflows::{self, StoredWorkflow};

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
    let stored = records::find(&*app.node.journal, id).await?;
    let (definition, version) = workflows::definition(&*app.node.journal, &stored, Some(1)).await?;
    let view = view::workflow(&stored, version.version, &definition, &components(app)?);
    Ok((StatusCode::CREATED, axum::Json(view)).into_response())
}

/// The components of this server.
fn components(app: &App) -> Result<Arc<Components>, ApiError> {
    let services = app.node.services.get(&RunSettings::default());
    let services = services.map_err(OperationError::Host)?;
    Ok(Arc::clone(&services.components))
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
    check(app, &definition, &RunSettings::default()).await?;
    Ok(definition)
}

/// Checks what a definition needs of this server: what is begun without it would wait for a change of the
/// configuration, and nobody would be told.
pub(super) async fn check(
    app: &App,
    definition: &Definition,
    settings: &RunSettings,
) -> Result<(), ApiError> {
    let services = app.node.services.get(settings);
    let services = services.map_err(OperationError::Host)?;
    let checked = services.check(definition).await;
    checked.map_err(|faults| OperationError::Faults(faults).into())
}

pub(super) async fn get(
    State(app): State<App>,
    OfId(id): OfId,
    Params(params): Params<OfVersion>,
) -> Result<Response, ApiError> {
    let journal = &*app.node.journal;
    let stored = records::find(journal, &id).await?;
    let (definition, version) = workflows::definition(journal, &stored, params.version).await?;
    let view = view::workflow(&stored, version.version, &definition, &components(&app)?);
    Ok(axum::Json(view).into_response())
}

pub(super) async fn list(
    State(app): State<App>,
    Params(params): Params<Listing>,
) -> Result<Response, ApiError> {
    let limit = limit_of(params.limit)?;
    let found: Vec<StoredWorkflow> =
        records::list(&*app.node.journal, params.cursor, limit + 1).await?;
    let data = found.iter().map(view::workflow_row).collect();
    Ok(axum::Json(view::page(data, limit)).into_response())
}
