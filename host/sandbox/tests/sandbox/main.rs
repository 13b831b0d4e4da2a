//! The sandbox with real WebAssembly: hostile components as text, agents from `tests/guests`, the interpreters.

mod agents;
mod capabilities;
mod clock;
mod commands;
mod determinism;
mod files;
mod floor;
mod hostile;
mod http;
mod javascript;
mod loading;
mod packages;
mod programs;
mod python;
mod sessions;
mod support;
mod tools;
mod trace;

/// Where the guests of these tests run.
pub(crate) fn isolation() -> troupe_sandbox::Isolation {
    troupe_sandbox::Isolation::InProcess
}
