//! What is called in a component, and with what.

use std::borrow::Cow;

use crate::call::{Invocation, Program};
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
