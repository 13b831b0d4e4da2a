//! `/v1/schedules`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use troupe_workflow::Schedule;

use super::App;
use super::body::{Body, Listing, OfId, Params, limit_of};
use super::error::ApiError;
use super::idempotency::Key;
use super::view;
use crate::clock;
use crate::operations::OperationError;
use crate::records;
use crate::schedules::{self, StoredSchedule};

pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body<Value>,
) -> Result<Response, ApiError> {
    let journal = &*app.node.journal;
    let key = Key::of(&headers, "schedules", &body.bytes)?;
    if let Some(id) = earlier(&app, key.as_ref()).await? {
        return created(&app, &id).await;
    }
    let schedule = Schedule::read(&body.value).map_err(OperationError::Faults)?;
    schedules::check(journal, &schedule).await?;
    let stored = StoredSchedule::new(clock::new_id("sched"), schedule, clock::now());
    let records = key
        .iter()
        .map(|key| key.record(&stored.id))
        .collect::<Result<_, _>>()?;
    match schedules::create(journal, &stored, records).await {
        Ok(()) => created(&app, &stored.id).await,
        // Perhaps the same request came twice at the same moment.
        Err(error) => match earlier(&app, key.as_ref()).await? {
            Some(id) => created(&app, &id).await,
            None => Err(error.into()),
        },
    }
}

async fn earlier(app: &App, key: Option<&Key>) -> Result<Option<String>, ApiError> {
    match key {
        Some(key) => key.earlier(&*app.node.journal).await,
        None => Ok(None),
    }
}

async fn created(app: &App, id: &str) -> Result<Response, ApiError> {
    app.node.look();
    let stored: StoredSchedule = records::find(&*app.node.journal, id).await?;
    Ok((StatusCode::CREATED, axum::Json(stored.to_json())).into_response())
}

pub(super) async fn list(
    State(app): State<App>,
    Params(params): Params<Listing>,
) -> Result<Response, ApiError> {
    let limit = limit_of(params.limit)?;
    let found: Vec<StoredSchedule> =
        records::list(&*app.node.journal, params.cursor, limit + 1).await?;
    let data = found.iter().map(StoredSchedule::to_json).collect();
    Ok(axum::Json(view::page(data, limit)).into_response())
}

pub(super) async fn get(State(app): State<App>, OfId(id): OfId) -> Result<Response, ApiError> {
    let stored: StoredSchedule = records::find(&*app.node.journal, &id).await?;
    Ok(axum::Json(stored.to_json()).into_response())
}

pub(super) async fn patch(
    State(app): State<App>,
    OfId(id): OfId,
    body: Body<Value>,
) -> Result<Response, ApiError> {
    let stored = schedules::patch(&*app.node.journal, &id, &body.value, clock::now).await?;
    app.node.look();
    Ok(axum::Json(stored.to_json()).into_response())
}

pub(super) async fn delete(State(app): State<App>, OfId(id): OfId) -> Result<Response, ApiError> {
    schedules::delete(&*app.node.journal, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
