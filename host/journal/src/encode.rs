//! The stored form of events: JSON with a checksum, and large values apart from it, each stored once.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use troupe_workflow::{Event, ExecutionId};

use self::fields::Fields;
use crate::error::ReadError;

mod fields;

/// An event whose JSON is longer has its large fields stored apart: rows stay small to read through, and a value that
/// is one step's output and the next one's input is stored once.
const BODY_BYTES_MAX: usize = 8 << 10;
/// A field that is shorter stays where it is.
const PAYLOAD_BYTES_MIN: usize = 2 << 10;

/// An event as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventRow {
    pub(crate) position: u64,
    /// JSON, without the fields that are stored apart.
    pub(crate) body: String,
    /// JSON: the names of the fields that are stored apart, and the digests of their values.
    pub(crate) payloads: Option<String>,
    /// CRC-32 over what the row says and where it stands.
    pub(crate) checksum: u32,
}

/// A value that is stored apart, under the SHA-256 of its text in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) text: String,
}

/// Events as rows, the first of them at the position after `version`.
pub(crate) fn encode(
    id: ExecutionId,
    version: u64,
    events: &[Event],
) -> Result<(Vec<EventRow>, Vec<Blob>), serde_json::Error> {
    let id = id.to_string();
    let mut rows = Vec::with_capacity(events.len());
    let mut blobs = Vec::new();
    for (position, event) in (version + 1..).zip(events) {
        let mut body = serde_json::to_string(event)?;
        let mut payloads = None;
        if body.len() > BODY_BYTES_MAX {
            (body, payloads) = take_payloads(&body, &mut blobs)?;
        }
        let checksum = checksum(&id, position, &body, payloads.as_deref());
        rows.push(EventRow {
            position,
            body,
            payloads,
            checksum,
        });
    }
    Ok((rows, blobs))
}

/// Moves the large fields of an event into blobs; answers what is left, and which they were.
fn take_payloads(
    body: &str,
    blobs: &mut Vec<Blob>,
) -> Result<(String, Option<String>), serde_json::Error> {
    let Fields(mut fields) = serde_json::from_str(body)?;
    let mut taken = Map::new();
    fields.retain(|(name, value)| {
        let text = value.get();
        let is_small = text.len() < PAYLOAD_BYTES_MIN;
        if !is_small {
            let digest = digest_of(text);
            taken.insert(name.clone(), Value::String(digest.clone()));
            let text = text.to_owned();
            blobs.push(Blob { digest, text });
        }
        is_small
    });
    let left = serde_json::to_string(&Fields(fields))?;
    let taken = (!taken.is_empty()).then(|| Value::Object(taken).to_string());
    Ok((left, taken))
}

/// The digests of the values that a row has stored apart.
pub(crate) fn payload_digests(payloads: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
    let names: std::collections::BTreeMap<String, String> = serde_json::from_str(payloads)?;
    Ok(names.into_iter().collect())
}

/// The event of a row. `blob` gives the text of a digest.
pub(crate) fn decode(
    id: ExecutionId,
    row: &EventRow,
    blob: impl Fn(&str) -> Result<Option<String>, ReadError>,
) -> Result<Event, ReadError> {
    let corrupt = |message: String| ReadError::Corrupt {
        place: format!("event {} of {id}", row.position),
        message,
    };
    let found = checksum(
        &id.to_string(),
        row.position,
        &row.body,
        row.payloads.as_deref(),
    );
    if found != row.checksum {
        return Err(corrupt("its checksum does not fit".to_owned()));
    }
    let Some(payloads) = &row.payloads else {
        return serde_json::from_str(&row.body).map_err(|error| corrupt(error.to_string()));
    };
    let read = |error: serde_json::Error| corrupt(error.to_string());
    let mut fields: Map<String, Value> = serde_json::from_str(&row.body).map_err(read)?;
    for (name, digest) in payload_digests(payloads).map_err(read)? {
        let text = blob(&digest)?
            .ok_or_else(|| corrupt(format!("its `{name}` is missing (blob {digest})")))?;
        if digest_of(&text) != digest {
            return Err(corrupt(format!(
                "its `{name}` is not what was stored (blob {digest})"
            )));
        }
        fields.insert(name, serde_json::from_str(&text).map_err(read)?);
    }
    serde_json::from_value(Value::Object(fields)).map_err(read)
}

/// Checks that rows are all there, in order, after a position.
pub(crate) fn check_dense(id: ExecutionId, after: u64, rows: &[EventRow]) -> Result<(), ReadError> {
    for (expected, row) in (after + 1..).zip(rows) {
        if row.position != expected {
            return Err(ReadError::Corrupt {
                place: format!("event {expected} of {id}"),
                message: "it is missing".to_owned(),
            });
        }
    }
    Ok(())
}

/// The checksum of an event's row: of its execution, its position, its text, and what it has apart.
fn checksum(id: &str, position: u64, body: &str, payloads: Option<&str>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id.as_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.update(body.as_bytes());
    if let Some(payloads) = payloads {
        hasher.update(&[0]);
        hasher.update(payloads.as_bytes());
    }
    hasher.finalize()
}

pub(crate) fn digest_of(text: &str) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests;
