//! The guest's own part of a call: what it is started with, and which of its functions is called.

use std::borrow::Cow;

use wasmtime::Store;

use super::{command, ending, function};
use crate::bindings::agent::AgentPre;
use crate::bindings::agent::troupe::agent::types::Invocation as GuestInvocation;
use crate::bindings::interpreter::SourceInterpreterPre;
use crate::bindings::interpreter::exports::troupe::agent::interpreter::Program as GuestProgram;
use crate::call::{Call, Invocation, Program};
use crate::entry::Entry;
use crate::function::{Arguments, Function};
use crate::limits::Limits;
use crate::linked::{Exports, Linked};
use crate::outcome::Outcome;
use crate::state::State;
use crate::wasi::{self, Start};

/// What the guest is asked, in its own types.
pub(super) enum Asked<'a> {
    Agent(GuestInvocation),
    Program(GuestProgram),
    Command,
    Function(Cow<'a, Function>, Arguments),
}

/// What is asked, and what the guest is started with.
pub(super) fn start<'a>(entry: Entry<'a>, call: &Call) -> (Asked<'a>, Start) {
    match entry {
        Entry::Agent(invocation) => {
            let asked = Asked::Agent(guest_invocation(invocation, &call.limits));
            (asked, Start::default())
        }
        Entry::Program(program) => {
            let start = Start {
                stdin: program.stdin.clone(),
                ..Start::default()
            };
            let seed = (&call.seed, "interpreter");
            (Asked::Program(guest_program(program, seed)), start)
        }
        Entry::Command(invocation) => (Asked::Command, command::start(&call.agent, invocation)),
        Entry::Function(function, arguments) => {
            (Asked::Function(function, arguments), Start::default())
        }
    }
}

/// An invocation as an agent is told it.
pub(crate) fn guest_invocation(invocation: Invocation, limits: &Limits) -> GuestInvocation {
    GuestInvocation {
        action: invocation.action,
        input: invocation.input,
        execution: invocation.execution,
        workflow: invocation.workflow,
        step: invocation.step,
        attempt: invocation.attempt,
        idempotency_key: invocation.idempotency_key,
        time_limit_ms: u64::try_from(limits.time_max.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A program as an interpreter is told it, with entropy for this purpose.
pub(crate) fn guest_program(program: Program, (seed, purpose): (&[u8; 32], &str)) -> GuestProgram {
    GuestProgram {
        source: program.source,
        filename: program.filename,
        input: program.input,
        action: program.action,
        seed: u64::from_le_bytes(wasi::derive(seed, purpose)),
    }
}

/// Makes an instance, and calls what is asked.
pub(super) async fn run(
    linked: &Linked,
    store: &mut Store<State>,
    asked: Asked<'_>,
    limits: &Limits,
) -> Result<Result<String, Outcome>, ending::Failed> {
    match (asked, &linked.exports) {
        (Asked::Agent(invocation), Exports::Agent(agent)) => {
            run_agent(agent, store, &invocation).await
        }
        (Asked::Program(program), Exports::Interpreter(interpreter)) => {
            execute(interpreter, store, &program).await
        }
        (Asked::Command, Exports::Command(interface)) => {
            command::run(linked, store, interface).await
        }
        (Asked::Function(function, arguments), _) => {
            let result = function::call(&linked.instance, store, &function, &arguments.0).await?;
            Ok(match function.outcome(result.as_ref(), limits) {
                Outcome::Returned(json) => Ok(json),
                other => Err(other),
            })
        }
        (Asked::Agent(_) | Asked::Program(_) | Asked::Command, _) => {
            // Who calls has looked at the component's kind.
            let error = wasmtime::format_err!("the component is of another kind");
            Err(ending::Failed::Instantiate(error))
        }
    }
}

async fn run_agent(
    agent: &AgentPre<State>,
    store: &mut Store<State>,
    invocation: &GuestInvocation,
) -> Result<Result<String, Outcome>, ending::Failed> {
    let instance = agent
        .instantiate_async(&mut *store)
        .await
        .map_err(ending::Failed::Instantiate)?;
    let result = instance
        .troupe_agent_guest()
        .call_run(store, invocation)
        .await
        .map_err(ending::Failed::Run)?;
    Ok(result.map_err(Outcome::Declined))
}

async fn execute(
    interpreter: &SourceInterpreterPre<State>,
    store: &mut Store<State>,
    program: &GuestProgram,
) -> Result<Result<String, Outcome>, ending::Failed> {
    let instance = interpreter
        .instantiate_async(&mut *store)
        .await
        .map_err(ending::Failed::Instantiate)?;
    let result = instance
        .troupe_agent_interpreter()
        .call_execute(store, program)
        .await
        .map_err(ending::Failed::Run)?;
    Ok(result.map_err(Outcome::Raised))
}
