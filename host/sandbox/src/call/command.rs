//! Runs command-line programs as agents: JSON on standard input, JSON on standard output.

use wasmtime::Store;
use wasmtime_wasi::I32Exit;

use super::{Call, Invocation, Sandbox, ending, function, wrong_kind};
use crate::component::{Component, ComponentKind, Exports};
use crate::error::SandboxError;
use crate::limits::Limit;
use crate::outcome::{Outcome, Report};
use crate::state::State;
use crate::wasi::Start;

impl Sandbox {
    /// Runs a program in a fresh instance. Dropping the future ends it.
    ///
    /// It reads the input as JSON on standard input and writes its result as JSON to standard output; nothing
    /// written is `null`. Its arguments are the agent's id, as its own name, and the action; the rest of the
    /// invocation is in the environment: `TROUPE_ACTION`, `TROUPE_EXECUTION`, `TROUPE_WORKFLOW`, `TROUPE_STEP`,
    /// `TROUPE_ATTEMPT` and `TROUPE_IDEMPOTENCY_KEY`. An exit code other than 0 is [`Outcome::Exited`] (with 1: WASI 0.2
    /// does not tell which).
    ///
    /// # Errors
    /// The host failed, or the component is no program. Whatever the guest does is in the report.
    pub async fn run_command(
        &self,
        component: &Component,
        invocation: Invocation,
        call: Call,
    ) -> Result<Report, SandboxError> {
        let Exports::Command(interface) = &component.exports else {
            return Err(wrong_kind(component, ComponentKind::Command));
        };
        let start = start(&call.agent, invocation);
        self.run(call, start, async |store| {
            let instance = component
                .instance
                .instantiate_async(&mut *store)
                .await
                .map_err(ending::Failed::Instantiate)?;
            let run = function::find(&instance, store, (Some(interface), "run"));
            let run = run.and_then(|run| run.typed::<(), (Result<(), ()>,)>(&*store).ok());
            let run = run.ok_or_else(|| {
                let error =
                    wasmtime::format_err!("`{interface}` has no function `run` as it should be");
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
        })
        .await
    }
}

fn start(agent: &str, invocation: Invocation) -> Start {
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
