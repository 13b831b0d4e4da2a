//! The `troupe` program: reads the command line, joins the crates, and says how it ended.
//!
//! What is public is for the program and for tests that drive executions; no other crate builds on it.

mod agents;
mod call_gateway;
mod cli;
pub mod clock;
mod components;
mod config;
pub mod driver;
mod host_calls;
mod models;
mod replay;
mod run;
mod services;
mod sources;
mod tasks;

pub use cli::main;
