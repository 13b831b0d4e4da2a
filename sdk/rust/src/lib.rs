//! Agents for Troupe, written in Rust.
//!
//! An agent is a type with one function; [`export!`] makes a component of it.
//!
//! ```
//! use serde::Deserialize;
//! use troupe_sdk::{Agent, Failure, Invocation, llm};
//!
//! struct Summarizer;
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     text: String,
//! }
//!
//! impl Agent for Summarizer {
//!     type Input = Input;
//!     type Output = String;
//!
//!     fn run(input: Input, _: &Invocation) -> Result<String, Failure> {
//!         Ok(llm::ask(format!("Summarize in one sentence:\n\n{}", input.text))?)
//!     }
//! }
//!
//! troupe_sdk::export!(Summarizer);
//! ```
//!
//! Build it with `cargo build --target wasm32-wasip2`, as a library of `crate-type = ["cdylib"]`.
//!
//! What an agent can ask for has a module each: [`llm`], [`search`], [`tools`], [`human`], [`memory`],
//! [`context`], [`budget`] and [`log`]. Nothing else exists for it: no network, no key, and no file or
//! environment variable that the operator did not grant. A capability that was not granted answers
//! [`Error::Denied`], with the text that would grant it.
//!
//! The crate compiles for every target, so that an agent's own logic can be tested as usual. Calls of the
//! host work inside a component only; elsewhere they end the process, except for the log.

mod agent;
pub mod budget;
pub mod context;
mod description;
mod error;
mod failure;
pub mod human;
mod json;
pub mod llm;
pub mod log;
pub mod memory;
pub mod search;
pub mod tools;

pub use agent::{Agent, Invocation};
pub use description::{Action, Describe, Description};
pub use error::{BudgetKind, Error};
pub use failure::Failure;

/// What the macros of this crate expand to. No part of the public API.
#[doc(hidden)]
pub mod bindings;

/// What the macros of this crate call. No part of the public API.
#[doc(hidden)]
pub mod glue {
    pub use crate::agent::run;
    pub use crate::description::describe;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
