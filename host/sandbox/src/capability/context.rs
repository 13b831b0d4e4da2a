//! What the workflow knows so far: its inputs and the outputs of earlier steps.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{charge_answer, charge_call};
use crate::host_calls::Error;
use crate::state::State;
use crate::trace::{self, HostFunction};

/// That a guest may read the execution's inputs and the outputs of earlier steps. Every agent of a workflow
/// has it; code that runs by itself has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextGrant;

/// No line of a document grants it: who is denied is no code agent.
const TO_HAVE_OUTPUTS: &str = "code agents of a workflow have them, its tools and code that runs by itself do not; hand over what it needs in its input";

async fn inputs(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<String> {
    charge_call(&mut store, &String::new())?;
    store.data_mut().host_calls.count_or_stop()?;
    if store.data().grants.context.is_none() {
        return Ok("{}".to_owned()); // The function has no way to deny; there are no inputs to see.
    }
    let host = Arc::clone(&store.data().host);
    let inputs = host.context_inputs().await;
    charge_answer(&mut store, Ok(inputs))?.map_err(too_large)
}

async fn output(
    mut store: StoreContextMut<'_, State>,
    step: String,
) -> wasmtime::Result<Result<String, Error>> {
    charge_call(&mut store, &step)?;
    let state = store.data_mut();
    if let Err(refused) = state.host_calls.count()? {
        return Ok(Err(refused));
    }
    if state.grants.context.is_none() {
        return Ok(Err(state.deny_with(
            "context",
            "outputs of other steps",
            TO_HAVE_OUTPUTS,
        )));
    }
    let host = Arc::clone(&state.host);
    let output = host.context_output(step).await;
    charge_answer(&mut store, output)
}

async fn steps(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<Vec<String>> {
    charge_call(&mut store, &String::new())?;
    store.data_mut().host_calls.count_or_stop()?;
    if store.data().grants.context.is_none() {
        return Ok(Vec::new());
    }
    let host = Arc::clone(&store.data().host);
    let steps = host.context_steps().await;
    charge_answer(&mut store, Ok(steps))?.map_err(too_large)
}

/// Ends a guest that asked for something too large through a function that cannot refuse.
fn too_large(error: Error) -> wasmtime::Error {
    match error {
        Error::Unavailable(detail) => wasmtime::format_err!("{detail}"),
        other => wasmtime::format_err!("{other:?}"),
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut context = linker.instance("troupe:agent/context@0.1.0")?;
    trace::link(
        &mut context,
        HostFunction::ContextInputs,
        |store, (): ()| Box::new(async move { Ok((inputs(store).await?,)) }),
    )?;
    trace::link(
        &mut context,
        HostFunction::ContextOutput,
        |store, (step,): (String,)| Box::new(async move { Ok((output(store, step).await?,)) }),
    )?;
    trace::link(&mut context, HostFunction::ContextSteps, |store, (): ()| {
        Box::new(async move { Ok((steps(store).await?,)) })
    })
}
