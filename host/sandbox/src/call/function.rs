//! Calls of components' own functions, and of `describe`.

use serde_json::Value;
use wasmtime::Store;
use wasmtime::component::{Func, Instance, InstancePre, Val};

use super::{Call, Sandbox, ending};
use crate::component::Component;
use crate::description::{self, Description};
use crate::error::{LoadError, SandboxError};
use crate::function::{Arguments, Function};
use crate::inspection::describe_function;
use crate::outcome::{Outcome, Report};
use crate::state::State;
use crate::wasi::Start;

impl Sandbox {
    /// Calls a function of a component in a fresh instance, whatever the component's kind. Dropping the future ends
    /// the call.
    ///
    /// The result of a `result<T, E>` is `T`; its error is [`Outcome::Declined`], with the error's JSON in the
    /// details.
    ///
    /// # Errors
    /// The host failed. Whatever the guest does is in the report.
    pub async fn call_function(
        &self,
        component: &Component,
        function: &Function,
        arguments: Arguments,
        call: Call,
    ) -> Result<Report, SandboxError> {
        let limits = call.limits;
        self.run(call, Start::default(), async |store| {
            let result = call_in(&component.instance, store, function, &arguments.0).await?;
            Ok(match function.outcome(result.as_ref(), &limits) {
                Outcome::Returned(json) => Ok(json),
                other => Err(other),
            })
        })
        .await
    }

    /// Has a component describe itself, where it can.
    pub(super) async fn described(&self, mut component: Component) -> Result<Component, LoadError> {
        let Some(interface) = component.description_interface() else {
            return Ok(component);
        };
        let function = describe_function(interface);
        let (arguments, call) = (Arguments(Vec::new()), description::call());
        let report = self.call_function(&component, &function, arguments, call);
        let report = report
            .await
            .map_err(|error| LoadError::Host(Box::new(error)))?;
        let reason = match report.outcome {
            Outcome::Returned(json) => match description_of(&json) {
                Ok(description) => {
                    component.describe(description);
                    return Ok(component);
                }
                Err(error) => error.to_string(),
            },
            Outcome::Trapped(trap) => trap.to_string(),
            Outcome::LimitHit(limit) => format!("{} was reached", limit.code()),
            Outcome::Exited(code) => format!("it ended itself with exit code {code}"),
            other => format!("{other:?}"),
        };
        Err(LoadError::Description { reason })
    }
}

fn description_of(json: &str) -> serde_json::Result<Description> {
    serde_json::from_value(serde_json::from_str::<Value>(json)?)
}

/// Makes an instance and calls one of its functions.
async fn call_in(
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
