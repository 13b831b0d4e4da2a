//! What may still be spent. It needs no grant: it is about the guest itself.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::charge_call;
use crate::bindings::agent::troupe::agent::budget::Remaining;
use crate::state::State;
use crate::trace::{self, HostFunction};

async fn left(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<Remaining> {
    charge_call(&mut store, &String::new())?;
    store.data_mut().host_calls.count_read()?;
    let host = Arc::clone(&store.data().host);
    let fuel = store.get_fuel()?;
    let state = store.data();
    let left = Remaining {
        microdollars: None,
        fuel,
        time_ms: u64::try_from(state.time_left().as_millis()).unwrap_or(u64::MAX),
        host_calls: u64::from(state.host_calls.left()),
    };
    let left = host.budget_left(left).await;
    store.data().move_clock();
    Ok(left)
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut budget = linker.instance("troupe:agent/budget@0.1.0")?;
    trace::link(&mut budget, HostFunction::BudgetLeft, |store, (): ()| {
        Box::new(async move { Ok((left(store).await?,)) })
    })
}
