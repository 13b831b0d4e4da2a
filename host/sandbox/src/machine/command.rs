//! Runs command-line programs as agents: JSON on standard input, JSON on standard output.

use wasmtime::Store;
use wasmtime_wasi::I32Exit;

use super::{ending, function};
use crate::call::Invocation;
use crate::limits::Limit;
use crate::linked::Linked;
use crate::outcome::Outcome;
use crate::state::State;
use crate::wasi::Start;

/// Runs a program whose interface `wasi:cli/run` has this name.
pub(super) async fn run(
    linked: &Linked,
    store: &mut Store<State>,
    interface: &str,
) -> Result<Result<String, Outcome>, ending::Failed> {
    let instance = linked
        .instance
        .instantiate_async(&mut *store)
        .await
        .map_err(ending::Failed::Instantiate)?;
    let run = function::find(&instance, store, (Some(interface), "run"));
    let run = run.and_then(|run| run.typed::<(), (Result<(), ()>,)>(&*store).ok());
    let run = run.ok_or_else(|| {
        let error = wasmtime::format_err!("`{interface}` has no function `run` as it should be");
        ending::Failed::Run(error)
    })?;
    let ended = run.call_async(&mut *store, ()).await;
    match ended {
        Ok((Ok(()),)) => Ok(result(store)),
        Ok((Err(()),)) => Ok(Err(Outcome::Exited(1))),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => Ok(result(store)),
            _ => Err(ending::Failed::Run(error)),
        },
    }
}

/// What a program is started with.
pub(super) fn start(agent: &str, invocation: Invocation) -> Start {
    let attempt = invocation.attempt.to_string();
    let environment = [
        ("TROUPE_ACTION", invocation.action.clone()),
        ("TROUPE_EXECUTION", invocation.execution),
        ("TROUPE_WORKFLOW", invocation.workflow),
        ("TROUPE_STEP", invocation.step),
        ("TROUPE_ATTEMPT", attempt),
        ("TROUPE_IDEMPOTENCY_KEY", invocation.idempotency_key),
    ];
    Start {
        arguments: vec![agent.to_owned(), invocation.action],
        environment: environment
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        stdin: invocation.input.into(),
    }
}

/// What the program wrote to standard output.
fn result(store: &Store<State>) -> Result<String, Outcome> {
    let Some(bytes) = store.data().output.take_stdout() else {
        return Err(Outcome::LimitHit(Limit::Output));
    };
    let text = String::from_utf8(bytes)
        .map_err(|_other| Outcome::InvalidResult("standard output is not UTF-8".to_owned()))?;
    match text.trim() {
        "" => Ok("null".to_owned()),
        trimmed => Ok(trimmed.to_owned()),
    }
}
