//! Hostile calls again and again leave nothing behind: no memory, no open files, no threads and no processes, and nothing
//! in the folder for temporary files. All of it is counted in this process and in the workers that it started.

use std::process::Command;
use std::time::Duration;

use troupe_sandbox::{Outcome, Sandbox};

use super::body;
use super::holding::Folders;
use super::lifecycle::{GROW, all, call_good, good};
use crate::support::{agent_wasm, config, invocation, limited, target};

/// Set in the process that measures itself.
const ALONE: &str = "TROUPE_TEST_ALONE";
const NAME: &str = "hostile::leaks::nothing_grows_in_a_hundred_rounds";
pub(crate) const ROUNDS: u32 = 100;
/// How much more memory may be resident after the rounds, in each process. A call that left as little as one page behind
/// would make more of its thousands; what an allocator and the pool of instances keep for the next call is there after
/// the warm-up.
const GROWTH_BYTES_MAX: u64 = 4 << 20;
/// What all guests together may have: less than the rounds would take, were as little as what is lent for one request
/// kept in each.
const GUEST_MEMORY_BYTES_MAX: u64 = 256 << 20;

/// How often it is looked, how many looks in a row find the same where all has ended, and how many there are at most:
/// threads that have nothing to do end after ten seconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS_SAME: u32 = 10;
const LOOKS_MAX: u32 = 600;

/// What this process and those that it started have of the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    processes: usize,
    files: usize,
    threads: usize,
    temporary: usize,
}

impl Measured {
    fn now() -> Self {
        let processes = processes();
        let of_all = |folder: &str| -> usize {
            let counts = processes
                .iter()
                .map(|id| count(&format!("/proc/{id}/{folder}")));
            counts.sum()
        };
        Measured {
            processes: processes.len(),
            files: of_all("fd"),
            threads: of_all("task"),
            temporary: count(std::env::temp_dir().to_str().expect("a text")),
        }
    }

    /// What there is when all that was begun has ended: a worker of one call ends after its call, and so do threads.
    pub(crate) async fn settled() -> Self {
        let (mut last, mut same) = (Measured::now(), 0);
        while same < LOOKS_SAME {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Measured::now();
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        last
    }

    /// Waits until there is what there was before, and no more.
    pub(crate) async fn is_back(&self) {
        let mut now = Measured::now();
        for _ in 0..LOOKS_MAX {
            if now.is_no_more_than(self) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            now = Measured::now();
        }
        panic!("there was {self:?}, and there is {now:?}");
    }

    fn is_no_more_than(&self, before: &Measured) -> bool {
        let Measured {
            processes,
            files,
            threads,
            temporary,
        } = self;
        // Those that compiled end when they had nothing to do for a while.
        (processes, files, temporary) == (&before.processes, &before.files, &before.temporary)
            && *threads <= before.threads
    }
}

/// Entries of a folder; of a process that has ended meanwhile there are none.
fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// This process, and those that it started and that it has not seen the end of.
fn processes() -> Vec<u32> {
    let own = std::process::id();
    let all = std::fs::read_dir("/proc").expect("Linux tells");
    let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| {
        *id == own || status(*id, "PPid:").is_some_and(|parent| parent == u64::from(own))
    })
    .collect()
}

/// A number that Linux tells of a process, if that is there.
fn status(id: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Bytes that are resident, of each process that has calls of others too, by its id.
fn resident(sandbox: &Sandbox) -> Vec<(u32, u64)> {
    let mut ids = sandbox.worker_ids();
    ids.push(std::process::id());
    ids.sort_unstable();
    let bytes = |id| status(id, "VmRSS:").map(|kib| (id, kib << 10));
    ids.into_iter().filter_map(bytes).collect()
}

/// Whether this is the process in which a test of this name is alone; else it runs the test there. Other tests would open
/// files and take memory meanwhile.
pub(crate) fn is_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let temporary = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().expect("the test's own path");
    let output = Command::new(program)
        .args([name, "--exact", "--nocapture", "--test-threads", "1"])
        .env(ALONE, "1")
        .env("TMPDIR", temporary.path())
        .output()
        .expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{error}");
    assert!(told.contains("1 passed"), "{told}");
    false
}

/// A runtime that keeps no threads for later.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_millis(100))
        .build()
        .expect("a runtime")
}

#[test]
fn nothing_grows_in_a_hundred_rounds() {
    if is_alone(NAME) {
        runtime().block_on(rounds());
    }
}

async fn rounds() {
    let mut config = config(target().join("compiled"));
    config.calls_max = 4;
    config.guest_memory_bytes_max = GUEST_MEMORY_BYTES_MAX;
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let folders = Folders::new();
    let (hostile, good) = (all(&sandbox, &folders).await, good(&sandbox).await);
    let round = async || {
        for hostile in &hostile {
            hostile.call_alone(&sandbox).await;
        }
        call_good(&sandbox, &good).await;
    };
    for _ in 0..10 {
        round().await;
    }
    let for_guests = what_guests_may_have(&sandbox).await;
    let (before, resident_before) = (Measured::settled().await, resident(&sandbox));
    for _ in 0..ROUNDS {
        round().await;
    }
    before.is_back().await;
    for ((was, before), (is, after)) in resident_before.into_iter().zip(resident(&sandbox)) {
        assert_eq!(was, is, "another worker");
        let (were, are) = (before >> 10, after >> 10);
        assert!(
            after <= before + GROWTH_BYTES_MAX,
            "{were} KiB were resident, {are} KiB are"
        );
    }
    assert_eq!(what_guests_may_have(&sandbox).await, for_guests);
    call_good(&sandbox, &good).await;
}

/// Memory that a guest gets that takes all there is.
async fn what_guests_may_have(sandbox: &Sandbox) -> u64 {
    let greedy = agent_wasm(&body(&format!("{GROW} unreachable")));
    let greedy = sandbox.load(greedy).await.expect("a component");
    let call = limited(|limits| limits.memory_bytes_max = 4 << 30);
    let called = sandbox.call_agent(&greedy, invocation("do", "null"), call);
    let report = called.await.expect("the host is well");
    let limit = troupe_sandbox::Limit::Memory;
    assert_eq!(report.outcome, Outcome::LimitHit(limit));
    report.usage.memory_bytes_peak
}
