//! Errors in the API's words. Only here do they become HTTP.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use troupe_workflow::Faults;

use super::checks::RequestId;
use crate::operations::OperationError;

/// When somebody who was turned away for lack of room may ask again.
const RETRY_AFTER: &str = "5";

/// An answer that says why something was not done.
#[derive(Debug)]
pub(super) struct ApiError(Box<Content>);

#[derive(Debug)]
struct Content {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// A JSON pointer or the name of a parameter.
    param: Option<String>,
    details: Option<Value>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Content {
            status,
            code,
            message: message.into(),
            param: None,
            details: None,
        }))
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn invalid(param: &str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message);
        error.0.param = Some(param.to_owned());
        error
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "this address does not take this method";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        )
    }

    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    fn faults(faults: &Faults) -> Self {
        let details: Vec<Value> = faults
            .iter()
            .map(|fault| json!({ "param": fault.pointer, "message": fault.message }))
            .collect();
        let first = faults.iter().next();
        let message = first.map_or_else(String::new, |fault| fault.message.clone());
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message);
        error.0.param = first.map(|fault| fault.pointer.clone());
        error.0.details = Some(Value::Array(details));
        error
    }

    /// The same, where what has the faults is a part of the body.
    pub(super) fn within(mut self, part: &str) -> Self {
        let inside = |pointer: &str| format!("{part}{pointer}");
        self.0.param = self.0.param.as_deref().map(inside);
        for detail in self
            .0
            .details
            .iter_mut()
            .filter_map(Value::as_array_mut)
            .flatten()
        {
            if let Some(pointer) = detail["param"].as_str().map(inside) {
                detail["param"] = Value::String(pointer);
            }
        }
        self
    }

    /// The word for errors of this status.
    fn kind(&self) -> &'static str {
        match self.0.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            409 => "conflict_error",
            429 => "rate_limit_error",
            400..=499 => "validation_error",
            _ => "api_error",
        }
    }

    /// The answer to a request.
    pub(super) fn answer(self, request: &RequestId) -> Response {
        let mut error = json!({
            "code": self.0.code,
            "message": self.0.message,
            "type": self.kind(),
            "param": self.0.param,
            "request_id": request.0,
        });
        if let Some(details) = &self.0.details {
            error["details"] = details.clone();
        }
        let body = axum::Json(json!({ "error": error }));
        let mut response = (self.0.status, body).into_response();
        if self.0.status == StatusCode::SERVICE_UNAVAILABLE {
            let after = HeaderValue::from_static(RETRY_AFTER);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::NotFound { .. } => Self::not_found(error.to_string()),
            OperationError::Conflict(message) => Self::conflict("conflict", message),
            OperationError::Invalid(message) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
            }
            OperationError::Faults(faults) => Self::faults(&faults),
            OperationError::Full(message) => Self::busy(message),
            OperationError::Busy(message) => {
                tracing::warn!(error = message, "a request is turned away");
                Self::busy("the journal cannot be written at the moment; try again")
            }
            OperationError::Host(error) => {
                tracing::error!(error = format!("{error:#}"), "a request failed");
                let message = "the server failed; its log has the details under this request's id";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

/// The request's id is only known around the handler, so the error goes with the answer to where it is.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response
            .extensions_mut()
            .insert(std::sync::Arc::new(std::sync::Mutex::new(Some(self))));
        response
    }
}

/// An error on its way out.
pub(super) type Carried = std::sync::Arc<std::sync::Mutex<Option<ApiError>>>;
