//! Remembering from one execution to the next. In this version a granted memory answers that it is not
//! available yet.

use serde::{Deserialize, Serialize};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, charge_call, not_available};
use crate::bindings::agent::troupe::agent::memory::{Entry, SetOutcome};
use crate::host_calls::Error;
use crate::state::State;

/// That a guest may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryGrant;

/// Refuses a call: it was not granted, or it is not there yet.
fn refuse<T>(
    mut store: StoreContextMut<'_, State>,
    request: &impl TextBytes,
) -> wasmtime::Result<Result<T, Error>> {
    charge_call(&mut store, request)?;
    let state = store.data_mut();
    if let Err(refused) = state.host_calls.count()? {
        return Ok(Err(refused));
    }
    Ok(Err(match state.grants.memory {
        Some(MemoryGrant) => not_available("memory"),
        None => state.deny("memory", "", ("a memory of its own", "true")),
    }))
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut memory = linker.instance("troupe:agent/memory@0.1.0")?;
    memory.func_wrap("get", |store, (key,): (String,)| {
        Ok((refuse::<Option<Entry>>(store, &key)?,))
    })?;
    memory.func_wrap(
        "set",
        |store, (key, value, _version): (String, String, Option<u64>)| {
            Ok((refuse::<SetOutcome>(store, &vec![key, value])?,))
        },
    )?;
    memory.func_wrap("delete", |store, (key,): (String,)| {
        Ok((refuse::<()>(store, &key)?,))
    })?;
    memory.func_wrap(
        "keys",
        |store, (prefix, after): (String, Option<String>)| {
            Ok((refuse::<Vec<String>>(store, &vec![Some(prefix), after])?,))
        },
    )
}
