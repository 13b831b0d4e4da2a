//! The tests of `sandbox` once more, with all guests in processes of their own, and what only those have.

mod agents;
mod capabilities;
mod clock;
mod commands;
mod determinism;
mod files;
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
mod workers;

use std::os::unix::fs::FileTypeExt as _;

use troupe_sandbox::{Isolation, WorkerProgram};

/// Where the guests of these tests run: in processes of this very program, which do nothing but this one test.
pub(crate) fn isolation() -> Isolation {
    Isolation::Processes(WorkerProgram {
        program: "/proc/self/exe".into(),
        arguments: ["--exact", "worker", "--nocapture"].map(Into::into).into(),
        count: Some(2),
    })
}

/// No test, but what workers run: they have a socket as standard input.
#[test]
fn worker() {
    let stdin = std::fs::metadata("/proc/self/fd/0");
    if stdin.is_ok_and(|stdin| stdin.file_type().is_socket()) {
        troupe_sandbox::work().expect("a worker");
    }
}
