//! Outgoing HTTP, by WASI's own interface: the grant, what a call has under way, the link.
//!
//! The types are those of wasmtime-wasi-http, but nothing is ever sent by it: it would look names up and connect by
//! itself, and run requests beside the guest. Here a request is kept until its body is finished and the guest waits
//! for a response; then all that are due are handed to [`crate::HostCalls`] at once and waited for together. So a
//! guest that is given the same responses sees the same, in the same order: a response is never half there, and no
//! timer of the guest's own overtakes one.

mod body;
mod exchange;
mod host_pattern;
mod second_look;
mod secrets;
mod target;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::p2::{DynOutputStream, DynPollable};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, HostOutgoingRequest as _, Method};
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest,
};
use wasmtime_wasi_http::{FieldMap, RequestOptions, WasiHttpCtxView, WasiHttpView};

use self::body::{Body, Written};
use self::exchange::{Exchange, Hooks, Unsent};
use self::secrets::Placeholder;
use super::{HOST_CALL_FUEL, charge};
use crate::http_exchange::HTTP_REQUEST_BYTES_MAX;
use crate::on_demand::OnDemand;
use crate::state::State;

pub use self::exchange::is_settable;
pub use self::host_pattern::{HostPattern, ParseHostError};
pub(crate) use self::second_look::SecondLook;
pub use self::secrets::SecretGrant;

/// The interfaces that are linked.
pub(crate) const INTERFACES: &[&str] = &["wasi:http/outgoing-handler", "wasi:http/types"];

/// The version of `wasi:http` under which wasmtime-wasi-http links it; the linker serves the other 0.2 versions by it.
const TYPES: &str = "wasi:http/types@0.2.12";
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// Bytes of one set of headers that a guest makes, with what they take in memory. Protects the host: a guest may hold
/// thousands of sets.
const FIELDS_BYTES_MAX: usize = 16 << 10;
/// Bytes of a method, of a host with its port, and of a path with its query. Protects the host: a guest may hold
/// thousands of requests.
const METHOD_BYTES_MAX: usize = 32;
const AUTHORITY_BYTES_MAX: usize = 512;
const PATH_BYTES_MAX: usize = 8 << 10;
/// Fuel for asking for a response, about what it costs the host.
const ASK_FUEL: u64 = 2_000;

/// Where a guest may send requests: where both the operator and the workflow let it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpGrant {
    /// What the operator allows to this agent.
    pub operator: Vec<OperatorHost>,
    /// What the workflow gives it.
    pub workflow: Vec<HostPattern>,
    /// The secrets that it may use.
    pub secrets: Vec<SecretGrant>,
}

/// A host that the operator allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorHost {
    /// The host.
    pub pattern: HostPattern,
    /// Whether its name may have addresses of private networks and of this machine. An address that is written down
    /// as such may be any.
    pub is_private: bool,
}

/// What one call has under way, and what it has used.
pub(crate) struct HttpState {
    ctx: wasmtime_wasi_http::WasiHttpCtx,
    hooks: Hooks,
    placeholders: Vec<Placeholder>,
    written: OnDemand<Written>,
    /// Bodies by the request that they belong to, until it is sent.
    bodies_of_requests: BTreeMap<u32, Body>,
    /// Bodies by the resource by which the guest writes them.
    bodies: BTreeMap<u32, Body>,
    /// By the resource that stands for the response.
    exchanges: BTreeMap<u32, Exchange>,
    /// What pollables wait for: the response's resource.
    awaited: BTreeMap<u32, u32>,
    /// Requests so far, for their order.
    handed_in: u64,
}

impl HttpState {
    pub(crate) fn new(grant: Option<&HttpGrant>, seed: &[u8; 32]) -> Self {
        let mut ctx = wasmtime_wasi_http::WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS_BYTES_MAX);
        HttpState {
            ctx,
            hooks: Hooks,
            placeholders: Placeholder::all(grant, seed),
            written: OnDemand::new(),
            bodies_of_requests: BTreeMap::new(),
            bodies: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            awaited: BTreeMap::new(),
            handed_in: 0,
        }
    }

    /// Environment variables by which the guest learns its placeholders.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        self.placeholders
            .iter()
            .map(Placeholder::variable)
            .collect()
    }

    /// Takes the fuel that writing bodies cost.
    pub(crate) fn take_fuel_owed(&self) -> u64 {
        let written = self.written.if_made();
        written.map_or(0, |mut written| std::mem::take(&mut written.fuel_owed))
    }

    /// Whether the response that a pollable stands for is there; none: it stands for something else.
    pub(crate) fn is_ready(&self, pollable: u32) -> Option<bool> {
        let future = self.awaited.get(&pollable)?;
        Some(self.exchanges.get(future).is_none_or(Exchange::is_over))
    }

    /// Forgets a pollable.
    pub(crate) fn forget_pollable(&mut self, pollable: u32) {
        self.awaited.remove(&pollable);
    }

    fn forget_exchange(&mut self, future: u32) {
        self.exchanges.remove(&future);
        self.awaited.retain(|_, it| *it != future);
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http.hooks,
            table: &mut self.table,
            ctx: &mut self.http.ctx,
        }
    }
}

/// What a guest sets of a request: refused where it is longer than any request has it, and paid for.
fn set(
    mut store: StoreContextMut<'_, State>,
    (text_bytes, bytes_max): (usize, usize),
    set: impl FnOnce(&mut WasiHttpCtxView<'_>) -> wasmtime::Result<Result<(), ()>>,
) -> wasmtime::Result<Result<(), ()>> {
    charge(&mut store, u64::try_from(text_bytes).unwrap_or(u64::MAX))?;
    if text_bytes > bytes_max {
        return Ok(Err(()));
    }
    set(&mut store.data_mut().http())
}

fn text_bytes(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

/// `outgoing-request.body`: a body that is kept here. There is memory for it when this returns, so that writing it
/// waits for nothing.
async fn request_body(
    mut store: StoreContextMut<'_, State>,
    request: Resource<HostOutgoingRequest>,
) -> wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>> {
    let State {
        table,
        http,
        memory,
        host_bytes,
        ..
    } = store.data_mut();
    table.get(&request)?;
    if http.bodies_of_requests.contains_key(&request.rep()) {
        return Ok(Err(()));
    }
    let lent = memory.lend(host_bytes.left().min(HTTP_REQUEST_BYTES_MAX));
    let lent = lent.await?;
    let (resource, _unused) = HostOutgoingBody::new(StreamContext::Request, None, 1, 1);
    let resource = table.push(resource)?;
    let written = http.written.shared(|| Written {
        host_bytes: host_bytes.clone(),
        fuel_owed: 0,
    });
    let body = Body::new(written, lent);
    http.bodies_of_requests.insert(request.rep(), body.clone());
    http.bodies.insert(resource.rep(), body);
    Ok(Ok(resource))
}

/// `outgoing-body.write`: the stream by which the guest writes it, once.
fn body_write(
    mut store: StoreContextMut<'_, State>,
    body: &Resource<HostOutgoingBody>,
) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
    let State { table, http, .. } = store.data_mut();
    // Taken once: the stream of wasmtime-wasi-http is the mark for it, and not used.
    if table.get_mut(body)?.take_output_stream().is_none() {
        return Ok(Err(()));
    }
    let Some(kept) = http.bodies.get(&body.rep()) else {
        return Ok(Err(()));
    };
    let stream: DynOutputStream = kept.stream();
    Ok(Ok(table.push_child(stream, body)?))
}

/// `outgoing-body.finish`.
fn body_finish(
    mut store: StoreContextMut<'_, State>,
    body: Resource<HostOutgoingBody>,
    trailers: Option<Resource<FieldMap>>,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    let State {
        table,
        http,
        memory,
        ..
    } = store.data_mut();
    let kept = http.bodies.remove(&body.rep());
    table.delete(body)?;
    let has_trailers = match trailers {
        Some(trailers) => !table.delete(trailers)?.is_empty(),
        None => false,
    };
    let Some(kept) = kept else {
        return Ok(Ok(()));
    };
    if has_trailers {
        kept.abort(memory);
        return Ok(Err(ErrorCode::HttpRequestTrailerSectionSize(Some(0))));
    }
    kept.finish(memory);
    Ok(Ok(()))
}

/// The end of a body that was not finished.
fn drop_body(mut store: StoreContextMut<'_, State>, rep: u32) -> wasmtime::Result<()> {
    let State {
        table,
        http,
        memory,
        ..
    } = store.data_mut();
    table.delete(Resource::<HostOutgoingBody>::new_own(rep))?;
    if let Some(body) = http.bodies.remove(&rep) {
        body.abort(memory);
    }
    Ok(())
}

fn drop_request(mut store: StoreContextMut<'_, State>, rep: u32) -> wasmtime::Result<()> {
    let State { table, http, .. } = store.data_mut();
    table.delete(Resource::<HostOutgoingRequest>::new_own(rep))?;
    http.bodies_of_requests.remove(&rep);
    Ok(())
}

/// `outgoing-handler.handle`: takes a request in. It is sent when the guest waits for a response.
fn handle(
    mut store: StoreContextMut<'_, State>,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
    let State { table, http, .. } = store.data_mut();
    let options = match options {
        Some(options) => table.delete(options)?,
        None => RequestOptions::default(),
    };
    let body = http.bodies_of_requests.remove(&request.rep());
    let request = table.delete(request)?;
    let unsent = Unsent::new(http.handed_in, request, body, &options);
    let fuel = HOST_CALL_FUEL.saturating_add(unsent.head_bytes());
    // A mark in the table; the exchange itself stands beside it.
    let future = table.push(HostFutureIncomingResponse::Consumed)?;
    http.handed_in += 1;
    http.exchanges
        .insert(future.rep(), Exchange::Unsent(Box::new(unsent)));
    charge(&mut store, fuel)?;
    Ok(Ok(future))
}

/// `future-incoming-response.subscribe`.
fn subscribe(
    mut store: StoreContextMut<'_, State>,
    future: Resource<HostFutureIncomingResponse>,
) -> wasmtime::Result<Resource<DynPollable>> {
    let State { table, http, .. } = store.data_mut();
    let rep = future.rep();
    let pollable = wasmtime_wasi::p2::subscribe(table, future)?;
    http.awaited.insert(pollable.rep(), rep);
    Ok(pollable)
}

/// What `future-incoming-response.get` returns.
type Got = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;

/// `future-incoming-response.get`: the response, which is waited for; none while the guest still writes the request.
async fn get(
    mut store: StoreContextMut<'_, State>,
    future: Resource<HostFutureIncomingResponse>,
) -> wasmtime::Result<Got> {
    charge(&mut store, ASK_FUEL)?;
    let state = store.data_mut();
    state.exchange_for(future.rep()).await?;
    state.take_response(future.rep())
}

fn drop_future(mut store: StoreContextMut<'_, State>, rep: u32) -> wasmtime::Result<()> {
    let State { table, http, .. } = store.data_mut();
    table.delete(Resource::<HostFutureIncomingResponse>::new_own(rep))?;
    http.forget_exchange(rep);
    Ok(())
}

/// Links the functions by which a guest sets texts of a request.
fn link_setters(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |store, (request, method): (Resource<HostOutgoingRequest>, Method)| {
            let bytes = match &method {
                Method::Other(text) => text.len(),
                _ => 0,
            };
            let set = set(store, (bytes, METHOD_BYTES_MAX), |http| {
                http.set_method(request, method)
            });
            Ok((set?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |store, (request, text): (Resource<HostOutgoingRequest>, Option<String>)| {
            let bytes = (text_bytes(text.as_ref()), AUTHORITY_BYTES_MAX);
            let set = set(store, bytes, |http| http.set_authority(request, text));
            Ok((set?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |store, (request, text): (Resource<HostOutgoingRequest>, Option<String>)| {
            let bytes = (text_bytes(text.as_ref()), PATH_BYTES_MAX);
            let set = set(store, bytes, |http| http.set_path_with_query(request, text));
            Ok((set?,))
        },
    )?;
    Ok(())
}

/// Links `wasi:http`, with our own way of everything that sends.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    link_setters(&mut types)?;
    types.func_wrap_async(
        "[method]outgoing-request.body",
        |store, (request,): (Resource<HostOutgoingRequest>,)| {
            Box::new(async move { Ok((request_body(store, request).await?,)) })
        },
    )?;
    types.func_wrap(
        "[method]outgoing-body.write",
        |store, (body,): (Resource<HostOutgoingBody>,)| Ok((body_write(store, &body)?,)),
    )?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |store, (body, trailers): (Resource<HostOutgoingBody>, Option<Resource<FieldMap>>)| {
            Ok((body_finish(store, body, trailers)?,))
        },
    )?;
    types.func_wrap(
        "[method]future-incoming-response.subscribe",
        |store, (future,): (Resource<HostFutureIncomingResponse>,)| {
            Ok((subscribe(store, future)?,))
        },
    )?;
    types.func_wrap_async(
        "[method]future-incoming-response.get",
        |store, (future,): (Resource<HostFutureIncomingResponse>,)| {
            Box::new(async move { Ok((get(store, future).await?,)) })
        },
    )?;
    let body = ResourceType::host::<HostOutgoingBody>();
    types.resource("outgoing-body", body, drop_body)?;
    let request = ResourceType::host::<HostOutgoingRequest>();
    types.resource("outgoing-request", request, drop_request)?;
    let future = ResourceType::host::<HostFutureIncomingResponse>();
    types.resource("future-incoming-response", future, drop_future)?;
    linker.instance(HANDLER)?.func_wrap(
        "handle",
        |store,
         (request, options): (
            Resource<HostOutgoingRequest>,
            Option<Resource<RequestOptions>>,
        )| { Ok((handle(store, request, options)?,)) },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
