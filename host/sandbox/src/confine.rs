//! Locks workers and compilers in, by what the kernel has: limits, files (landlock) and system calls (seccomp), both without
//! any way to gain rights again. It is the second wall: who breaks out of the engine finds itself in a process that can
//! reach nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is,
    SeccompCondition as Condition, SeccompFilter, SeccompRule,
};

use crate::protocol::{Confinement, Orders};

/// The newest version of landlock whose rules are known here; an older kernel keeps what it knows.
const LANDLOCK: ABI = ABI::V6;
/// Files that a worker may have open: those of its guests (`files.rs`), and some of its own.
const FILES_MAX: u64 = 1_024;
/// Bytes of a file that a worker without folders to write may make: of nothing but what it says when it breaks.
const MESSAGES_BYTES_MAX: u64 = 1 << 20;
/// What the kernel ends first where memory runs out: a worker, and not the process that has the journal.
const ENDED_FIRST: &str = "1000";

/// Locks this process in for good, which is a worker.
///
/// # Errors
/// What should be there and is not. What this kernel does not have at all is in the answer.
pub(crate) fn worker(orders: &Orders) -> Result<Confinement, String> {
    limit(orders).map_err(|error| format!("cannot limit itself: {error}"))?;
    lock_thread(&Files::of(orders))
}

/// Locks in for good a process that needs no file but those that are open.
///
/// # Errors
/// What should be there and is not. What this kernel does not have at all is in the answer.
pub(crate) fn without_files() -> Result<Confinement, String> {
    lock_thread(&Files::default())
}

/// Folders whose files may be opened.
#[derive(Default)]
struct Files<'a> {
    /// With compiled components.
    compiled: Option<&'a PathBuf>,
    /// Of guests.
    read: &'a [PathBuf],
    write: &'a [PathBuf],
}

impl<'a> Files<'a> {
    fn of(orders: &'a Orders) -> Self {
        Files {
            compiled: Some(&orders.cache_dir),
            read: &orders.read,
            write: &orders.write,
        }
    }
}

/// Takes from this process what it does not need.
fn limit(orders: &Orders) -> std::io::Result<()> {
    // Without it the kernel chooses by size.
    let _ = std::fs::write("/proc/self/oom_score_adj", ENDED_FIRST);
    lower(Resource::Core, 0)?;
    lower(Resource::Nofile, FILES_MAX)?;
    if orders.write.is_empty() {
        lower(Resource::Fsize, MESSAGES_BYTES_MAX)?;
    }
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Lowers a limit of this process for good. Where the machine has a lower one already, that stays.
pub(crate) fn lower(resource: Resource, most: u64) -> std::io::Result<()> {
    let there = getrlimit(resource).maximum;
    let limit = Some(there.map_or(most, |there| there.min(most)));
    setrlimit(
        resource,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    Ok(())
}

/// Locks this thread in, and those that it will start.
fn lock_thread(allowed: &Files<'_>) -> Result<Confinement, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("cannot lock itself in: {what}: {error}")
    };
    let files = lock_files(allowed).map_err(|error| failed("files", &error))?;
    let filter = filter(allowed).map_err(|error| failed("system calls", &error))?;
    let system_calls = match seccompiler::apply_filter(&filter) {
        Ok(()) => true,
        Err(seccompiler::Error::Prctl(_) | seccompiler::Error::Seccomp(_)) => false,
        Err(error) => return Err(failed("system calls", &error)),
    };
    Ok(Confinement {
        files,
        system_calls,
    })
}

/// Leaves it compiled components and its guests' folders, and keeps it from the network and from signals to others.
fn lock_files(allowed: &Files<'_>) -> Result<bool, RulesetError> {
    let read = AccessFs::from_read(LANDLOCK) & !AccessFs::Execute;
    let write = (AccessFs::from_all(LANDLOCK) & !AccessFs::Execute)
        & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::MakeFifo)
        & !(AccessFs::MakeSym | AccessFs::IoctlDev);
    let readable = allowed.read.iter().chain(allowed.compiled);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(allowed.write, write))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// What a worker or a compiler calls the kernel for; everything else is answered with an error. No other process can be
/// reached: no signal, no memory, no limit of another one, no program started, no connection made.
fn filter(allowed: &Files<'_>) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in ALLOWED {
        rules.insert(*call, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    for call in ALLOWED_X86_64 {
        rules.insert(*call, Vec::new());
    }
    if !(allowed.read.is_empty() && allowed.write.is_empty()) {
        for call in ALLOWED_WITH_FOLDERS {
            rules.insert(*call, Vec::new());
        }
    }
    if !allowed.write.is_empty() {
        for call in ALLOWED_TO_WRITE {
            rules.insert(*call, Vec::new());
        }
    }
    let own = u64::from(std::process::id());
    let first_is = |value: u64| one(0, Length::Dword, Is::Eq, value);
    // Threads, and no processes.
    let thread = libc::CLONE_THREAD.unsigned_abs().into();
    rules.insert(
        libc::SYS_clone,
        vec![one(0, Length::Qword, Is::MaskedEq(thread), thread)?],
    );
    // Signals to itself: how a program that breaks ends.
    rules.insert(libc::SYS_tgkill, vec![first_is(own)?]);
    // Its own limits, which cannot be raised.
    rules.insert(libc::SYS_prlimit64, vec![first_is(0)?, first_is(own)?]);
    // The engine asks which pages a guest has written.
    let scan = one(1, Length::Dword, Is::Eq, PAGEMAP_SCAN)?;
    let nonblocking = one(1, Length::Dword, Is::Eq, libc::FIONBIO)?;
    rules.insert(libc::SYS_ioctl, vec![scan, nonblocking]);
    let names = [libc::PR_SET_NAME, libc::PR_SET_VMA];
    let names: Result<Vec<SeccompRule>, BackendError> = names
        .into_iter()
        .map(|name| first_is(name.unsigned_abs().into()))
        .collect();
    rules.insert(libc::SYS_prctl, names?);
    // glibc falls back to `clone`, whose flags can be seen.
    let arch = std::env::consts::ARCH.try_into()?;
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, unknown, SeccompAction::Allow, arch)?.try_into()
}

fn one(
    argument: u8,
    length: Length,
    operator: Is,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![Condition::new(argument, length, operator, value)?])
}

/// `_IOWR('f', 16, struct pm_scan_arg)` of `linux/fs.h`.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// Memory, threads, clocks, files and the socket that it has, and compiled components.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Older names that only this architecture has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_X86_64: &[i64] = &[libc::SYS_arch_prctl, libc::SYS_epoll_wait, libc::SYS_poll];

/// What guests do in folders that they may read.
const ALLOWED_WITH_FOLDERS: &[i64] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_openat2,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_readlinkat,
];

/// What guests do in folders that they may write.
const ALLOWED_TO_WRITE: &[i64] = &[
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::process::Command;

    use rustix::fs::{AtFlags, CWD, Mode, linkat, mkdirat, renameat, symlinkat, unlinkat};

    use super::*;

    /// Does something in a thread that is locked in; nothing where this kernel cannot.
    fn locked_in<T: Send>(orders: &Orders, act: impl FnOnce() -> T + Send) -> Option<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let confinement = lock_thread(&Files::of(orders)).expect("it can be locked in");
                (confinement.files && confinement.system_calls).then(act)
            });
            thread.join().expect("no panic")
        })
    }

    fn orders(cache_dir: &Path) -> Orders {
        Orders {
            calls_max: 1,
            cache_dir: cache_dir.to_owned(),
            read: Vec::new(),
            write: Vec::new(),
        }
    }

    /// A folder with a file.
    fn with_file(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("file"), "text").expect("a file");
        path
    }

    #[test]
    fn a_worker_reads_what_is_compiled_and_reaches_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let [cache, elsewhere] = ["cache", "elsewhere"].map(|name| with_file(folder.path(), name));
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("an address");
        let socket = folder.path().join("socket");
        let _unix = UnixListener::bind(&socket).expect("a socket");
        let other = Command::new("sleep").arg("60").spawn();
        let mut other = other.expect("a process");
        let other_id = i32::try_from(other.id()).expect("an id");
        let done = locked_in(&orders(&cache), || {
            let other = rustix::process::Pid::from_raw(other_id).expect("an id");
            let signal = rustix::process::Signal::KILL;
            let read = fs::read_to_string(cache.join("file"));
            let refused = [
                (
                    "write a compiled component",
                    fs::write(cache.join("file"), "x").is_err(),
                ),
                (
                    "make a compiled component",
                    fs::write(cache.join("new"), "x").is_err(),
                ),
                (
                    "remove a compiled component",
                    unlinkat(CWD, cache.join("file"), AtFlags::empty()).is_err(),
                ),
                ("read elsewhere", fs::read(elsewhere.join("file")).is_err()),
                ("list elsewhere", fs::read_dir(&elsewhere).is_err()),
                (
                    "read its environment",
                    fs::read("/proc/self/environ").is_err(),
                ),
                ("connect", TcpStream::connect(address).is_err()),
                ("listen", TcpListener::bind("127.0.0.1:0").is_err()),
                ("send datagrams", UdpSocket::bind("127.0.0.1:0").is_err()),
                (
                    "connect to a local socket",
                    UnixStream::connect(&socket).is_err(),
                ),
                ("start a program", Command::new("true").status().is_err()),
                (
                    "end a process",
                    rustix::process::kill_process(other, signal).is_err(),
                ),
            ];
            let thread = std::thread::spawn(|| fs::read("/etc/passwd").is_err());
            (read.ok(), refused, thread.join().ok())
        });
        let is_there = other.try_wait().expect("a process").is_none();
        other.kill().expect("a process");
        other.wait().expect("a process");
        let Some((read, refused, in_thread)) = done else {
            return;
        };
        assert_eq!(read.as_deref(), Some("text"));
        for (what, is_refused) in refused {
            assert!(is_refused, "it can {what}");
        }
        assert_eq!(
            in_thread,
            Some(true),
            "threads that it starts are locked in too"
        );
        assert!(is_there);
        assert_eq!(
            fs::read_to_string(cache.join("file")).expect("a file"),
            "text"
        );
    }

    #[test]
    fn a_worker_with_folders_reads_and_writes_those() {
        let folder = tempfile::tempdir().expect("a folder");
        let [cache, read, write] =
            ["cache", "read", "write"].map(|name| with_file(folder.path(), name));
        fs::write(folder.path().join("other"), "text").expect("a file");
        let orders = Orders {
            read: vec![read.clone()],
            write: vec![write.clone()],
            ..orders(&cache)
        };
        let done = locked_in(&orders, || {
            let mode = Mode::RWXU;
            let can = [
                fs::read(read.join("file")).is_ok(),
                fs::read_dir(&read).is_ok(),
                fs::write(write.join("new"), "x").is_ok(),
                renameat(CWD, write.join("new"), CWD, write.join("newer")).is_ok(),
                mkdirat(CWD, write.join("folder"), mode).is_ok(),
                unlinkat(CWD, write.join("newer"), AtFlags::empty()).is_ok(),
            ];
            let cannot = [
                fs::write(read.join("file"), "x").is_ok(),
                unlinkat(CWD, read.join("file"), AtFlags::empty()).is_ok(),
                renameat(CWD, read.join("file"), CWD, write.join("moved")).is_ok(),
                mkdirat(CWD, folder.path().join("new"), mode).is_ok(),
                fs::read(folder.path().join("other")).is_ok(),
                symlinkat("/etc/passwd", CWD, write.join("link")).is_ok(),
                linkat(
                    CWD,
                    read.join("file"),
                    CWD,
                    write.join("link"),
                    AtFlags::empty(),
                )
                .is_ok(),
            ];
            (can, cannot)
        });
        if let Some((can, cannot)) = done {
            assert_eq!((can, cannot), ([true; 6], [false; 7]));
        }
    }
}
