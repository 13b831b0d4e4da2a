//! `Idempotency-Key`: the same request, sent again, is done once.
//!
//! The key is recorded in the transaction of what it is for, so there is no moment at which one is there without the
//! other.

use std::time::Duration;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use troupe_journal::{Journal, RecordWrite};

use super::error::ApiError;
use crate::clock;
use crate::operations::OperationError;

/// The kind of the records.
pub(crate) const KIND: &str = "idempotency";
/// How long a key is remembered.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Protects the journal from keys as long as books.
const KEY_BYTES_MAX: usize = 256;

/// A request that names a key.
pub(super) struct Key {
    id: String,
    /// Of the address and the body.
    request: String,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    request: String,
    /// The id of what was made or changed.
    subject: String,
}

impl Key {
    /// The key of a request to `path`, if it names one.
    pub(super) fn of(
        headers: &HeaderMap,
        path: &str,
        body: &[u8],
    ) -> Result<Option<Self>, ApiError> {
        let Some(key) = headers.get("idempotency-key") else {
            return Ok(None);
        };
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let message = format!("an idempotency key has 1 to {KEY_BYTES_MAX} bytes");
            return Err(ApiError::invalid("Idempotency-Key", message));
        }
        let mut request = Sha256::new();
        request.update(path.as_bytes());
        request.update([0]);
        request.update(body);
        Ok(Some(Self {
            id: hex(&Sha256::digest(key.as_bytes())),
            request: hex(&request.finalize()),
        }))
    }

    /// What an earlier request with this key was about.
    pub(super) async fn earlier(&self, journal: &dyn Journal) -> Result<Option<String>, ApiError> {
        let record = journal
            .record(KIND, self.id.clone())
            .await
            .map_err(OperationError::from)?;
        let Some(record) = record else {
            return Ok(None);
        };
        let remembered: Remembered = serde_json::from_str(&record.body)
            .map_err(|error| OperationError::Host(error.into()))?;
        if remembered.request != self.request {
            return Err(ApiError::conflict(
                "idempotency_key_reused",
                "this idempotency key was used for another request; use a new one",
            ));
        }
        Ok(Some(remembered.subject))
    }

    /// What is to be recorded with what `subject` names.
    pub(super) fn record(&self, subject: &str) -> Result<RecordWrite, ApiError> {
        let remembered = Remembered {
            request: self.request.clone(),
            subject: subject.to_owned(),
        };
        let body = serde_json::to_string(&remembered)
            .map_err(|error| OperationError::Host(error.into()))?;
        Ok(RecordWrite {
            kind: KIND,
            id: self.id.clone(),
            expected: 0,
            due_at: Some(clock::now().plus(KEPT_FOR)),
            body: Some(body),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
