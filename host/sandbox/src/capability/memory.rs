//! Remembering from one execution to the next: whether a guest may, and how long its keys and values may be. What lies
//! there, and how much all of it may be, is the host's to know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, charge_answer, charge_call};
use crate::bindings::agent::troupe::agent::memory::{Entry, SetOutcome};
use crate::host_calls::{Error, MemoryAnswer, MemoryRequest};
use crate::state::State;
use crate::trace::{self, HostFunction};

/// Bytes of a key. Protects the index of the host's database.
pub const MEMORY_KEY_BYTES_MAX: usize = 512;
/// Bytes of a value. Protects the record of an execution, which holds every value that was stored or read.
pub const MEMORY_VALUE_BYTES_MAX: usize = 64 * 1024;

/// That a guest may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryGrant;

impl TextBytes for MemoryRequest {
    fn text_bytes(&self) -> usize {
        match self {
            MemoryRequest::Get { key } | MemoryRequest::Delete { key } => key.len(),
            MemoryRequest::Set { key, value, .. } => key.len().saturating_add(value.len()),
            MemoryRequest::Keys { prefix, after } => {
                prefix.len().saturating_add(after.text_bytes())
            }
        }
    }
}

impl TextBytes for MemoryAnswer {
    fn text_bytes(&self) -> usize {
        match self {
            MemoryAnswer::Entry(entry) => entry.as_ref().map_or(0, |entry| entry.value.len()),
            MemoryAnswer::Keys(keys) => keys.text_bytes(),
            MemoryAnswer::Set(_) | MemoryAnswer::Deleted => 0,
        }
    }
}

impl State {
    /// Checks the grant, and what can be seen from the request alone.
    fn admit_memory(&mut self, request: &MemoryRequest) -> wasmtime::Result<Result<(), Error>> {
        if let Err(refused) = self.host_calls.count()? {
            return Ok(Err(refused));
        }
        Ok(match self.grants.memory {
            Some(MemoryGrant) => check(request).map_err(Error::Invalid),
            None => Err(self.deny("memory", "", ("a memory of its own", "true"))),
        })
    }
}

/// What is wrong with a request.
pub(crate) fn check(request: &MemoryRequest) -> Result<(), String> {
    match request {
        MemoryRequest::Get { key } | MemoryRequest::Delete { key } => check_key(key),
        MemoryRequest::Set { key, value, .. } => {
            check_key(key)?;
            let bytes = value.len();
            if bytes > MEMORY_VALUE_BYTES_MAX {
                return Err(format!(
                    "the value has {bytes} bytes, at most {MEMORY_VALUE_BYTES_MAX} are kept under one key; divide it among several"
                ));
            }
            crate::json::check(value).map_err(|error| format!("the value is no JSON: {error}"))
        }
        MemoryRequest::Keys { prefix, after } => {
            check_text("the prefix", prefix)?;
            after
                .as_ref()
                .map_or(Ok(()), |after| check_text("`after`", after))
        }
    }
}

fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("a key is not empty".to_owned());
    }
    check_text("the key", key)
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    let bytes = text.len();
    if bytes > MEMORY_KEY_BYTES_MAX {
        return Err(format!(
            "{what} has {bytes} bytes, a key has at most {MEMORY_KEY_BYTES_MAX}; use a shorter one, a hash for instance"
        ));
    }
    match text.contains('\0') {
        true => Err(format!("{what} holds the character U+0000, a key does not")),
        false => Ok(()),
    }
}

/// Asks the host; `read` takes the answer that fits the request.
async fn remember<T>(
    mut store: StoreContextMut<'_, State>,
    request: MemoryRequest,
    read: impl FnOnce(MemoryAnswer) -> Option<T>,
) -> wasmtime::Result<Result<T, Error>> {
    charge_call(&mut store, &request)?;
    if let Err(error) = store.data_mut().admit_memory(&request)? {
        return Ok(Err(error));
    }
    let host = Arc::clone(&store.data().host);
    let answer = host.remember(request).await;
    store.data().move_clock();
    let answer = charge_answer(&mut store, answer)?;
    // A host that answers something else has not said how the request ended.
    Ok(answer.and_then(|answer| read(answer).ok_or(Error::Interrupted)))
}

fn entry(answer: MemoryAnswer) -> Option<Option<Entry>> {
    match answer {
        MemoryAnswer::Entry(entry) => Some(entry),
        MemoryAnswer::Set(_) | MemoryAnswer::Deleted | MemoryAnswer::Keys(_) => None,
    }
}

fn outcome(answer: MemoryAnswer) -> Option<SetOutcome> {
    match answer {
        MemoryAnswer::Set(outcome) => Some(outcome),
        MemoryAnswer::Entry(_) | MemoryAnswer::Deleted | MemoryAnswer::Keys(_) => None,
    }
}

fn deleted(answer: MemoryAnswer) -> Option<()> {
    match answer {
        MemoryAnswer::Deleted => Some(()),
        MemoryAnswer::Entry(_) | MemoryAnswer::Set(_) | MemoryAnswer::Keys(_) => None,
    }
}

fn keys(answer: MemoryAnswer) -> Option<Vec<String>> {
    match answer {
        MemoryAnswer::Keys(keys) => Some(keys),
        MemoryAnswer::Entry(_) | MemoryAnswer::Set(_) | MemoryAnswer::Deleted => None,
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut memory = linker.instance("troupe:agent/memory@0.1.0")?;
    trace::link(
        &mut memory,
        HostFunction::MemoryGet,
        |store, (key,): (String,)| {
            let request = MemoryRequest::Get { key };
            Box::new(async move { Ok((remember(store, request, entry).await?,)) })
        },
    )?;
    trace::link(
        &mut memory,
        HostFunction::MemorySet,
        |store, (key, value, expected_version): (String, String, Option<u64>)| {
            let request = MemoryRequest::Set {
                key,
                value,
                expected_version,
            };
            Box::new(async move { Ok((remember(store, request, outcome).await?,)) })
        },
    )?;
    trace::link(
        &mut memory,
        HostFunction::MemoryDelete,
        |store, (key,): (String,)| {
            let request = MemoryRequest::Delete { key };
            Box::new(async move { Ok((remember(store, request, deleted).await?,)) })
        },
    )?;
    trace::link(
        &mut memory,
        HostFunction::MemoryKeys,
        |store, (prefix, after): (String, Option<String>)| {
            let request = MemoryRequest::Keys { prefix, after };
            Box::new(async move { Ok((remember(store, request, keys).await?,)) })
        },
    )
}
