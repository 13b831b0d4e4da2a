//! Workers: what they are kept from, and what becomes of calls whose worker ends.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;
use troupe_sandbox::{
    Call, Component, Error, FilesGrant, FolderAccess, FolderGrant, HostCalls, HostFuture, LlmGrant,
    Outcome, Report, Sandbox, SandboxError, llm,
};

use crate::hostile::leaks::{self, Measured};
use crate::hostile::returning;
use crate::sessions;
use crate::support::{self, MEMORY, RUN, agent_wasm, call, invocation, limited, target};

/// A sandbox with so many shared workers.
fn sandbox(count: usize) -> Sandbox {
    let mut config = support::config(target().join("compiled"));
    config.calls_max = 16;
    if let troupe_sandbox::Isolation::Processes(program) = &mut config.isolation {
        program.count = Some(count);
    }
    Sandbox::new(config).expect("a sandbox")
}

/// An agent that returns `null`.
fn good() -> bytes::Bytes {
    agent_wasm(&returning(4, ""))
}

/// An agent that never ends.
fn endless() -> bytes::Bytes {
    agent_wasm(&format!(
        "(module {MEMORY} {RUN} (loop (br 0)) (unreachable)))"
    ))
}

async fn run(sandbox: &Sandbox, wasm: bytes::Bytes, call: Call) -> Result<Report, SandboxError> {
    let component = sandbox.load(wasm).await.expect("a component");
    sandbox
        .call_agent(&component, invocation("do", "null"), call)
        .await
}

async fn is_well(sandbox: &Sandbox) {
    let report = run(sandbox, good(), call())
        .await
        .expect("the host is well");
    assert_eq!(report.outcome, Outcome::Returned("null".to_owned()));
}

/// Runs something beside the test.
#[expect(
    clippy::disallowed_methods,
    reason = "the test waits for it itself, and has nothing to shut down"
)]
fn beside<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

/// Fuel that lasts for minutes.
fn patient() -> Call {
    limited(|limits| {
        limits.fuel = u64::MAX;
        limits.time_max = Duration::from_secs(600);
    })
}

fn status(id: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or_else(|| panic!("no {field} in {status}"))
        .trim()
        .to_owned()
}

/// Threads of a process by the value of a field of their status.
fn of_threads(id: u32, field: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("a process");
    let threads = threads.map(|thread| thread.expect("a thread").path().join("status"));
    let statuses = threads.map(|path| std::fs::read_to_string(path).expect("a status"));
    statuses
        .map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.expect("the field").trim().to_owned()
        })
        .collect()
}

fn kill(id: u32) {
    let id = i32::try_from(id).expect("a process id");
    kill_process(Pid::from_raw(id).expect("a process id"), Signal::KILL).expect("it was there");
}

#[tokio::test]
async fn a_worker_has_no_environment_and_few_files_and_the_kernel_watches_its_calls() {
    let sandbox = sandbox(1);
    assert!(sandbox.worker_ids().is_empty(), "none before it is needed");
    is_well(&sandbox).await;
    let [id] = sandbox.worker_ids()[..] else {
        panic!("one worker")
    };
    let environment = std::fs::read(format!("/proc/{id}/environ")).expect("a process");
    assert_eq!(String::from_utf8_lossy(&environment), "");
    assert_ne!(id, std::process::id());
    // The thread of libtest has neither; the one that works and those that it started have.
    assert!(
        of_threads(id, "Seccomp:")
            .iter()
            .filter(|mode| *mode == "2")
            .count()
            >= 2
    );
    assert!(of_threads(id, "NoNewPrivs:").contains(&"1".to_owned()));
    let files = std::fs::read_dir(format!("/proc/{id}/fd"))
        .expect("a process")
        .count();
    assert!(files < 20, "{files} files");
    assert_eq!(
        std::fs::read_to_string(format!("/proc/{id}/oom_score_adj"))
            .expect("a process")
            .trim(),
        "1000"
    );
    assert_eq!(status(id, "PPid:"), std::process::id().to_string());
}

#[tokio::test]
async fn a_worker_has_no_file_that_the_host_left_open() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    // As whoever starts the host may leave one, or a library in it.
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).expect("it is open");
    let sandbox = sandbox(1);
    is_well(&sandbox).await;
    for id in sandbox.worker_ids() {
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("a process");
        for file in files.flatten() {
            let target = std::fs::read_link(file.path()).unwrap_or_default();
            assert_ne!(target, secret.path());
        }
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_costs_its_calls_and_nothing_else() {
    let sandbox = sandbox(1);
    is_well(&sandbox).await;
    let victim = beside({
        let sandbox = sandbox.clone();
        async move { run(&sandbox, endless(), patient()).await }
    });
    let id = sandbox.worker_ids()[0];
    // It has a processor for itself once the guest runs.
    wait_until(|| ticks(id) > 20).await;
    kill(id);
    let error = victim
        .await
        .expect("no panic")
        .expect_err("its worker is gone");
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("signal: 9"), "{error}");
    is_well(&sandbox).await;
    assert_ne!(sandbox.worker_ids(), [id]);
}

#[tokio::test]
async fn a_component_whose_worker_ended_is_called_alone_the_next_time() {
    let sandbox = sandbox(1);
    is_well(&sandbox).await;
    let start = |wasm| {
        let sandbox = sandbox.clone();
        beside(async move { run(&sandbox, wasm, patient()).await })
    };
    let first = start(endless());
    let shared = sandbox.worker_ids()[0];
    wait_until(|| ticks(shared) > 20).await;
    kill(shared);
    drop(
        first
            .await
            .expect("no panic")
            .expect_err("its worker is gone"),
    );
    is_well(&sandbox).await;
    let shared = sandbox.worker_ids();
    // The next one is in a process of its own, which is none of the shared ones.
    let again = start(endless());
    let alone = || {
        let ids = sandbox.worker_ids();
        ids.into_iter().find(|id| !shared.contains(id))
    };
    wait_until(|| alone().is_some_and(|id| ticks(id) > 20)).await;
    kill(alone().expect("it has one"));
    drop(
        again
            .await
            .expect("no panic")
            .expect_err("its worker is gone"),
    );
    is_well(&sandbox).await;
    assert_eq!(sandbox.worker_ids(), shared, "nobody else was hurt");
}

#[tokio::test]
async fn a_session_has_a_worker_of_its_own_and_ends_with_it() {
    let sandbox = sandbox(1);
    is_well(&sandbox).await;
    let shared = sandbox.worker_ids();
    let wasm = std::fs::read(target().join("plugins/javascript.wasm")).expect("it is built");
    let component = sandbox.load(wasm.into()).await.expect("a component");
    let open = || sessions::open_in(&sandbox, (&component, sessions::LONG), patient());
    let idle = open().await.expect("a session");
    assert_eq!(idle.result("let x = 1; x").await, 1);
    let alone = || {
        let ids = sandbox.worker_ids();
        ids.into_iter().find(|id| !shared.contains(id))
    };
    kill(alone().expect("it has one"));
    // It ends although nobody calls it.
    wait_until(|| idle.session.end().is_some()).await;
    let error = idle.try_run("x").await.expect_err("its worker is gone");
    let text = error.to_string();
    assert!(text.contains("its state is gone: the worker"), "{text}");
    assert!(text.contains("signal: 9"), "{text}");

    let busy = open().await.expect("another session");
    let running = beside({
        let session = busy.session.clone();
        let endless = support::program("a", "for (;;) {}");
        async move { session.execute(endless, std::time::UNIX_EPOCH).await }
    });
    wait_until(|| alone().is_some_and(|id| ticks(id) > 20)).await;
    kill(alone().expect("it has one"));
    let error = running
        .await
        .expect("no panic")
        .expect_err("its worker is gone");
    assert!(error.to_string().contains("signal: 9"), "{error}");
    assert!(busy.session.end().is_some());
    is_well(&sandbox).await;
    assert_eq!(sandbox.worker_ids(), shared, "nobody else was hurt");
}

#[tokio::test]
async fn workers_end_with_their_sandbox() {
    let sandbox = sandbox(2);
    for _ in 0..2 {
        is_well(&sandbox).await;
    }
    let ids = sandbox.worker_ids();
    assert!(!ids.is_empty());
    drop(sandbox);
    for id in ids {
        wait_until(|| !is_there(id)).await;
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_in_its_worker() {
    let sandbox = sandbox(1);
    is_well(&sandbox).await;
    let id = sandbox.worker_ids()[0];
    let given_up = run(&sandbox, endless(), patient());
    let given_up = tokio::time::timeout(Duration::from_millis(200), given_up).await;
    assert!(given_up.is_err());
    // A worker whose guest went on would go on using its processor.
    wait_until(|| {
        let before = ticks(id);
        std::thread::sleep(Duration::from_millis(300));
        ticks(id) <= before + 2
    })
    .await;
    is_well(&sandbox).await;
    assert_eq!(sandbox.worker_ids(), [id]);
}

/// With a folder of the machine, so that it has a worker of its own.
fn with_folder(call: Call, path: &std::path::Path) -> Call {
    let mut call = call;
    call.grants.files = Some(FilesGrant {
        folders: vec![FolderGrant {
            at: "/in".to_owned(),
            access: FolderAccess::Read {
                path: path.to_owned(),
                to_write: "write `rw`".to_owned(),
            },
        }],
        scratch: None,
    });
    call
}

#[tokio::test]
async fn callers_that_have_all_own_workers_do_not_keep_tools_waiting() {
    /// As many as there are workers of one call.
    const CALLERS: usize = 16;
    let sandbox = sandbox(1);
    let folder = tempfile::tempdir().expect("a folder");
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (sandbox, call) = (sandbox.clone(), with_folder(patient(), folder.path()));
            beside(async move { run(&sandbox, endless(), call).await })
        })
        .collect();
    wait_until(|| sandbox.worker_ids().len() == CALLERS).await;
    let tool = with_folder(call(), folder.path());
    let report = run(&sandbox.for_tools(), good(), tool).await;
    assert_eq!(
        report.expect("the host is well").outcome,
        Outcome::Returned("null".to_owned())
    );
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A world that tells that it was asked, and never answers.
#[derive(Default)]
struct Silent {
    asked: Notify,
}

impl HostCalls for Silent {
    fn complete(&self, _request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        Box::pin(async move {
            self.asked.notify_one();
            std::future::pending().await
        })
    }
}

/// Kills the worker of a guest that waits for the host: the last one that was started.
async fn kill_while_it_waits(sandbox: &Sandbox, asking: &Component) {
    let world = Arc::new(Silent::default());
    let mut call = call();
    call.host = Arc::clone(&world) as Arc<dyn HostCalls>;
    call.grants.llm = Some(LlmGrant {
        models: vec!["silent".to_owned()],
    });
    let asked = invocation("llm.complete", "null");
    let called = sandbox.call_agent(asking, asked, call);
    let killing = async {
        world.asked.notified().await;
        let last = sandbox.worker_ids().pop();
        kill(last.expect("it works for the guest"));
    };
    let (ended, ()) = futures::future::join(called, killing).await;
    let error = ended.expect_err("its worker is gone");
    assert!(error.to_string().contains("signal: 9"), "{error}");
}

#[test]
fn workers_that_are_killed_leave_nothing_behind() {
    let name = "workers::workers_that_are_killed_leave_nothing_behind";
    if leaks::is_alone(name) {
        leaks::runtime().block_on(async {
            let sandbox = sandbox(1);
            let wasm = std::fs::read(target().join("guests/wasm32-wasip2/guest/examples/ask.wasm"));
            let asking = sandbox.load(wasm.expect("it is built").into()).await;
            let asking = asking.expect("a component");
            let round = async || {
                // The shared one first; then one of its own, for a component that is not trusted any more.
                kill_while_it_waits(&sandbox, &asking).await;
                kill_while_it_waits(&sandbox, &asking).await;
                let report = sandbox.call_agent(&asking, invocation("log.write", "[]"), call());
                let report = report.await.expect("the host is well");
                assert!(matches!(report.outcome, Outcome::Returned(_)), "{report:?}");
                is_well(&sandbox).await;
            };
            round().await;
            let before = Measured::settled().await;
            for _ in 0..leaks::ROUNDS {
                round().await;
            }
            before.is_back().await;
            is_well(&sandbox).await;
        });
    }
}

/// Processor time of a process, in hundredths of a second.
fn ticks(id: u32) -> u64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
        return 0;
    };
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split(' ').collect();
    [11, 12]
        .iter()
        .filter_map(|field| fields.get(*field)?.parse::<u64>().ok())
        .sum()
}

fn is_there(id: u32) -> bool {
    std::path::Path::new(&format!("/proc/{id}")).exists()
}

async fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to that");
}
