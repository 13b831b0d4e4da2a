//! What the end-to-end tests share: the built binary at work in a folder of its own, `troupe serve` as a process, a
//! scripted server in place of the outside, a PostgreSQL server, a registry, the conformance cases of the workflow language, and the
//! rules that every journal keeps.

pub mod conformance;
pub mod crash;
pub mod golden;
pub mod journal;
pub mod load;
pub mod loopback;
pub mod operator;
pub mod postgres;
pub mod registry;
pub mod renewal;
pub mod server;
mod supervised;
pub mod troupe;
