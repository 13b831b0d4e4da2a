//! Calls of components' own functions.

use wasmtime::Store;
use wasmtime::component::{Func, Instance, InstancePre, Val};

use super::ending;
use crate::function::Function;
use crate::state::State;

/// Makes an instance and calls one of its functions.
pub(super) async fn call(
    instance: &InstancePre<State>,
    store: &mut Store<State>,
    function: &Function,
    arguments: &[Val],
) -> Result<Option<Val>, ending::Failed> {
    let instance = instance
        .instantiate_async(&mut *store)
        .await
        .map_err(ending::Failed::Instantiate)?;
    let export = (function.interface(), function.export.as_str());
    let callee = find(&instance, store, export).ok_or_else(|| {
        let name = function.name();
        ending::Failed::Instantiate(wasmtime::format_err!("there is no function `{name}`"))
    })?;
    let mut results = vec![Val::Bool(false); usize::from(function.result.is_some())];
    callee
        .call_async(store, arguments, &mut results)
        .await
        .map_err(ending::Failed::Run)?;
    Ok(results.pop())
}

/// An exported function, at the root or in an interface.
pub(super) fn find(
    instance: &Instance,
    store: &mut Store<State>,
    (interface, name): (Option<&str>, &str),
) -> Option<Func> {
    let interface = match interface {
        Some(interface) => Some(instance.get_export_index(&mut *store, None, interface)?),
        None => None,
    };
    let export = instance.get_export_index(&mut *store, interface.as_ref(), name)?;
    instance.get_func(store, export)
}
