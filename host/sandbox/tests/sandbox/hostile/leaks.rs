//! Hostile calls again and again leave nothing behind in the process: no memory, no open files, no threads.

use std::process::Command;

use super::lifecycle::{all, call_good, good, own_sandbox};

/// Set in the process that measures itself.
const ALONE: &str = "TROUPE_TEST_ALONE";
const NAME: &str = "hostile::leaks::nothing_grows_in_a_hundred_rounds";
const ROUNDS: u32 = 100;
/// How much more memory may be resident after the rounds. A call that left as little as one page behind would make
/// 6 MiB of its 1,700; what an allocator and the pool of instances keep for the next call is there after the warm-up.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

/// Bytes that are resident, open files, threads.
fn measured() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .expect("it is told");
    let count = |folder: &str| std::fs::read_dir(folder).expect("Linux tells").count();
    (
        kib.parse::<u64>().expect("a number") << 10,
        count("/proc/self/fd"),
        count("/proc/self/task"),
    )
}

/// In a process of its own: other tests would open files and take memory meanwhile.
#[test]
fn nothing_grows_in_a_hundred_rounds() {
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().expect("the test's own path");
        let output = Command::new(program)
            .args([NAME, "--exact", "--nocapture", "--test-threads", "1"])
            .env(ALONE, "1")
            .output()
            .expect("it starts");
        let told = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}\n{error}");
        assert!(told.contains("1 passed"), "{told}");
        return;
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(rounds());
}

async fn rounds() {
    let sandbox = own_sandbox(4);
    let (hostile, good) = (all(&sandbox).await, good(&sandbox).await);
    let round = async || {
        for hostile in &hostile {
            hostile.call(&sandbox).await;
        }
        call_good(&sandbox, &good).await;
    };
    for _ in 0..10 {
        round().await;
    }
    let before = measured();
    for _ in 0..ROUNDS {
        round().await;
    }
    let after = measured();
    assert!(
        after.0 <= before.0 + GROWTH_BYTES_MAX,
        "{} KiB were resident, {} KiB are",
        before.0 >> 10,
        after.0 >> 10
    );
    assert_eq!(after.1, before.1, "open files");
    // Those that compiled end when they had nothing to do for a while.
    assert!(
        after.2 <= before.2,
        "threads: {} were, {} are",
        before.2,
        after.2
    );
}
