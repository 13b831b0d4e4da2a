//! A compiled component that is linked to the host's functions: what instances are made from.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use wasmtime::component::{InstancePre, Linker};

use crate::bindings::agent::AgentPre;
use crate::bindings::interpreter::SourceInterpreterPre;
use crate::component::ComponentKind;
use crate::state::State;

/// What a component is called as, with what is needed to find that in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Agent,
    Interpreter,
    /// The full name of the interface `wasi:cli/run`.
    Command(String),
    Tool,
}

impl Role {
    pub(crate) fn kind(&self) -> ComponentKind {
        match self {
            Role::Agent => ComponentKind::Agent,
            Role::Interpreter => ComponentKind::Interpreter,
            Role::Command(_) => ComponentKind::Command,
            Role::Tool => ComponentKind::Tool,
        }
    }
}

/// The instance to be made. Clones share everything.
#[derive(Clone)]
pub(crate) struct Linked {
    pub(crate) instance: InstancePre<State>,
    pub(crate) exports: Exports,
    /// The core instances that it is made of, once that was counted.
    pub(crate) instances: Arc<OnceLock<u32>>,
}

/// The same, by what it exports.
#[derive(Clone)]
pub(crate) enum Exports {
    Agent(AgentPre<State>),
    Interpreter(SourceInterpreterPre<State>),
    Command(String),
    Tool,
}

impl Linked {
    /// Links a component.
    ///
    /// # Errors
    /// Its types are not those of our interfaces.
    pub(crate) fn new(
        linker: &Linker<State>,
        component: &wasmtime::component::Component,
        role: &Role,
    ) -> wasmtime::Result<Self> {
        let instance = linker.instantiate_pre(component)?;
        let exports = match role {
            Role::Agent => Exports::Agent(AgentPre::new(instance.clone())?),
            Role::Interpreter => Exports::Interpreter(SourceInterpreterPre::new(instance.clone())?),
            Role::Command(interface) => Exports::Command(interface.clone()),
            Role::Tool => Exports::Tool,
        };
        Ok(Linked {
            instance,
            exports,
            instances: Arc::default(),
        })
    }
}
