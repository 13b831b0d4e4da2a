//! The HTTP API: handlers extract, call, and convert; what is done is in `operations`, `workflows`,
//! `schedules` and `node`.

mod body;
mod checks;
mod error;
mod executions;
pub(crate) mod idempotency;
mod schedules;
mod view;
mod workflows;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::Semaphore;

pub(crate) use idempotency::KIND as IDEMPOTENCY;

use crate::node::Node;
use crate::operations::Desk;
use error::ApiError;

/// A request with a larger body is refused: a workflow document and its inputs fit, and memory is bounded.
const BODY_BYTES_MAX: usize = 8 << 20;

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct App {
    node: Arc<Node>,
    /// Where the server listens, for the check of `Host`.
    listens_at: SocketAddr,
    /// Places for large bodies.
    large_bodies: Arc<Semaphore>,
}

impl App {
    fn desk(&self) -> Desk<'_> {
        Desk {
            journal: &*self.node.journal,
            definitions: &self.node.definitions,
        }
    }
}

/// Everything that is answered.
pub(crate) fn router(node: Arc<Node>, listens_at: SocketAddr) -> Router {
    let app = App {
        node,
        listens_at,
        large_bodies: Arc::new(Semaphore::new(body::LARGE_AT_ONCE)),
    };
    let orchestrate = Router::new()
        .route("/run", post(executions::run_document))
        .route("/workflows", post(workflows::create).get(workflows::list))
        .route("/workflows/validate", post(workflows::validate))
        .route("/workflows/{id}", get(workflows::get))
        .route("/workflows/{id}/run", post(executions::run_workflow))
        .route("/executions", get(executions::list))
        .route(
            "/executions/{id}",
            get(executions::get).delete(executions::delete),
        )
        .route("/executions/{id}/cancel", post(executions::cancel))
        .route("/executions/{id}/approve", post(executions::approve))
        .route("/executions/{id}/resume", post(executions::resume))
        .route("/executions/{id}/pause", post(executions::pause))
        .route("/executions/{id}/retry", post(executions::retry))
        .route("/executions/{id}/fork", post(executions::fork));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .nest("/v1/orchestrate", orchestrate)
        .route(
            "/v1/schedules",
            post(schedules::create).get(schedules::list),
        )
        .route(
            "/v1/schedules/{id}",
            get(schedules::get)
                .patch(schedules::patch)
                .delete(schedules::delete),
        )
        .fallback(async || ApiError::not_found("there is nothing at this address"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), checks::check))
        .with_state(app)
}

/// The process answers.
async fn healthz() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

/// The process takes work: its journal can be read and written, and it is not about to end.
async fn readyz(State(app): State<App>) -> Response {
    let refused = |why: String| {
        let body = axum::Json(json!({ "status": "unavailable", "reason": why }));
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    };
    if app.node.is_draining() {
        return refused("the server is about to end".to_owned());
    }
    match app.node.probe().await {
        Ok(()) => {
            axum::Json(json!({ "status": "ready", "executions_at_work": app.node.at_work() }))
                .into_response()
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the journal cannot be probed");
            refused("the journal cannot be read and written at the moment".to_owned())
        }
    }
}
