//! What is called in a component, and with what.

use std::borrow::Cow;

use crate::call::{Invocation, Program};
use crate::component::ComponentKind;
use crate::function::{Arguments, Function};

/// What is called.
#[derive(Clone, Debug)]
pub(crate) enum Entry<'a> {
    /// An agent's `run`.
    Agent(Invocation),
    /// An interpreter's `execute`.
    Program(Program),
    /// A program's `run`.
    Command(Invocation),
    /// A function of any component.
    Function(Cow<'a, Function>, Arguments),
}

impl Entry<'_> {
    /// The only kind of component that has it; none: any may.
    pub(crate) fn kind(&self) -> Option<ComponentKind> {
        match self {
            Entry::Agent(_) => Some(ComponentKind::Agent),
            Entry::Program(_) => Some(ComponentKind::Interpreter),
            Entry::Command(_) => Some(ComponentKind::Command),
            Entry::Function(..) => None,
        }
    }
}
