//! Tools of the workflow: which ones a guest may call. Who makes the calls is the host; a tool that is a component
//! runs in an instance of its own, and its fuel is its caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, ask_many, charge, charge_answer, charge_call};
use crate::bindings::agent::troupe::agent::tools::{CallRequest, Tool};
use crate::host_calls::{Error, ToolAnswer};
use crate::state::State;
use crate::trace::{self, HostFunction};

/// The tools a guest may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsGrant {
    /// Names of tools, as the operator or the workflow names them. A name allows all functions of the tool, which
    /// are called `name.function`.
    pub names: Vec<String>,
}

impl ToolsGrant {
    pub(crate) fn allows(&self, function: &str) -> bool {
        let tool = function.split_once('.').map_or(function, |(tool, _)| tool);
        self.names
            .iter()
            .any(|name| name == tool || name == function)
    }
}

impl TextBytes for CallRequest {
    fn text_bytes(&self) -> usize {
        self.name.len() + self.arguments.len()
    }
}

impl TextBytes for Tool {
    fn text_bytes(&self) -> usize {
        self.name.len() + self.description.len() + self.parameters.len()
    }
}

impl State {
    /// Checks the grant.
    fn admit_tool(&mut self, request: CallRequest) -> wasmtime::Result<Result<CallRequest, Error>> {
        if let Err(refused) = self.host_calls.count()? {
            return Ok(Err(refused));
        }
        let name = &request.name;
        let grant = self.grants.tools.as_ref();
        if grant.is_some_and(|grant| grant.allows(name)) {
            return Ok(Ok(request));
        }
        let tool = name.split_once('.').map_or(name.as_str(), |(tool, _)| tool);
        let asked = format!("the tool `{name}`");
        let grant = format!("[\"{tool}\"]");
        Ok(Err(self.deny("tools", tool, (&asked, &grant))))
    }
}

async fn available(
    mut store: StoreContextMut<'_, State>,
) -> wasmtime::Result<Result<Vec<Tool>, Error>> {
    charge_call(&mut store, &Vec::<String>::new())?;
    let state = store.data_mut();
    if let Err(refused) = state.host_calls.count()? {
        return Ok(Err(refused));
    }
    let Some(grant) = state.grants.tools.clone() else {
        return Ok(Err(state.deny("tools", "", ("tools", "[\"…\"]"))));
    };
    let host = Arc::clone(&state.host);
    let tools = host.tools(grant.names).await;
    store.data().move_clock();
    charge_answer(&mut store, tools)
}

async fn call_many(
    mut store: StoreContextMut<'_, State>,
    requests: Vec<CallRequest>,
) -> wasmtime::Result<Vec<Result<String, Error>>> {
    charge_call(&mut store, &requests)?;
    // Each may use its part of what the caller has left: together they cannot use more.
    let count = u64::try_from(requests.len()).unwrap_or(u64::MAX).max(1);
    let fuel_max = store.get_fuel()? / count;
    let host = Arc::clone(&store.data().host);
    let fuel = AtomicU64::new(0);
    let answers = ask_many(
        requests,
        |request| store.data_mut().admit_tool(request),
        |requests| {
            let (called, fuel) = (host.call_tools(requests, fuel_max), &fuel);
            Box::pin(async move {
                let answers = called.await.into_iter().map(|answer: ToolAnswer| {
                    // The parts of what is left are no more than that: it does not overflow.
                    fuel.fetch_add(answer.fuel.min(fuel_max), Ordering::Relaxed);
                    answer.result
                });
                answers.collect()
            })
        },
    )
    .await?;
    let state = store.data_mut();
    state.move_clock();
    let fuel = fuel.into_inner();
    state.tool_fuel = state.tool_fuel.saturating_add(fuel);
    charge(&mut store, fuel)?;
    answers
        .into_iter()
        .map(|answer| charge_answer(&mut store, answer))
        .collect()
}

async fn call(
    store: StoreContextMut<'_, State>,
    request: CallRequest,
) -> wasmtime::Result<Result<String, Error>> {
    let mut answers = call_many(store, vec![request]).await?;
    Ok(answers.pop().unwrap_or(Err(Error::Interrupted)))
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut tools = linker.instance("troupe:agent/tools@0.1.0")?;
    trace::link(&mut tools, HostFunction::ToolsAvailable, |store, (): ()| {
        Box::new(async move { Ok((available(store).await?,)) })
    })?;
    trace::link(
        &mut tools,
        HostFunction::ToolsCall,
        |store, (request,): (CallRequest,)| {
            Box::new(async move { Ok((call(store, request).await?,)) })
        },
    )?;
    trace::link(
        &mut tools,
        HostFunction::ToolsCallMany,
        |store, (requests,): (Vec<CallRequest>,)| {
            Box::new(async move { Ok((call_many(store, requests).await?,)) })
        },
    )
}
