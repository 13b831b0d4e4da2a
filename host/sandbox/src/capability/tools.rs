//! Tools of the workflow. In this version a granted tool answers that it is not available yet.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, charge_call, not_available};
use crate::bindings::agent::troupe::agent::tools::{CallRequest, Tool};
use crate::host_calls::Error;
use crate::state::State;

/// The tools a guest may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolsGrant {
    /// Names of tools, as the operator configured them.
    pub names: Vec<String>,
}

impl TextBytes for CallRequest {
    fn text_bytes(&self) -> usize {
        self.name.len() + self.arguments.len()
    }
}

impl State {
    /// Refuses a call of a tool: it was not granted, or it is not there yet.
    fn refuse_tool(&mut self, name: &str) -> wasmtime::Result<Error> {
        if let Err(refused) = self.host_calls.count()? {
            return Ok(refused);
        }
        let granted = self
            .grants
            .tools
            .as_ref()
            .is_some_and(|grant| grant.names.iter().any(|it| it == name));
        if granted {
            return Ok(not_available("tools"));
        }
        let asked = format!("the tool `{name}`");
        let grant = format!("[\"{name}\"]");
        Ok(self.deny("tools", name, (&asked, &grant)))
    }
}

fn available(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<Result<Vec<Tool>, Error>> {
    charge_call(&mut store, &Vec::<String>::new())?;
    let state = store.data_mut();
    if let Err(refused) = state.host_calls.count()? {
        return Ok(Err(refused));
    }
    Ok(Err(match state.grants.tools {
        Some(_) => not_available("tools"),
        None => state.deny("tools", "", ("tools", "[\"…\"]")),
    }))
}

fn call(
    mut store: StoreContextMut<'_, State>,
    request: &CallRequest,
) -> wasmtime::Result<Result<String, Error>> {
    charge_call(&mut store, request)?;
    Ok(Err(store.data_mut().refuse_tool(&request.name)?))
}

fn call_many(
    mut store: StoreContextMut<'_, State>,
    requests: Vec<CallRequest>,
) -> wasmtime::Result<Vec<Result<String, Error>>> {
    charge_call(&mut store, &requests)?;
    requests
        .into_iter()
        .map(|request| Ok(Err(store.data_mut().refuse_tool(&request.name)?)))
        .collect()
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut tools = linker.instance("troupe:agent/tools@0.1.0")?;
    tools.func_wrap("available", |store, (): ()| Ok((available(store)?,)))?;
    tools.func_wrap("call", |store, (request,): (CallRequest,)| {
        Ok((call(store, &request)?,))
    })?;
    tools.func_wrap("call-many", |store, (requests,): (Vec<CallRequest>,)| {
        Ok((call_many(store, requests)?,))
    })
}
