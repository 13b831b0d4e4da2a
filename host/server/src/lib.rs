//! The `troupe` program: reads the command line, joins the crates, and says how it ended.
//!
//! What is public is for the program and for tests that drive executions; no other crate builds on it.

mod agents;
mod allocator;
mod api;
mod archive;
mod bench;
mod call_gateway;
mod cli;
pub mod clock;
mod components;
mod config;
pub mod driver;
mod gate;
mod grants;
mod host_calls;
mod limits;
mod memory;
mod migration;
mod models;
mod node;
mod open;
mod operations;
mod rates;
mod records;
mod registry;
mod replay;
mod retention;
mod run;
mod salvage;
mod schedules;
mod secret_search;
mod services;
mod sources;
mod stored;
mod tasks;
mod tools;
mod traces;
mod upkeep;
mod verify;
mod workflows;

pub use cli::main;
