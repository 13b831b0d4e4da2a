//! A server's process, and a shell above it that ends it when the test's process is gone, however that went.
//!
//! The shell holds the other end of a pipe. A signal's name in the pipe is passed on to the server. The end of the pipe
//! means that nobody is left who could ask for anything: the server is ended, and its folder removed. The shell itself
//! ends when the server does, also where the server ended by itself.

mod account;

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub(crate) use self::account::Account;

/// Ports are looked for from here on, below those that systems give to connections: a client that knocks at the port of
/// a server that is away could be given the same port for its own side, and would talk to itself.
const PORT_FIRST: u16 = 20_000;
/// How many ports there are to choose from.
const PORT_COUNT: u16 = 10_000;
/// How often it is looked whether a server is up, or down.
const POLL: Duration = Duration::from_millis(20);
/// Bounds every wait for a server: what takes longer has failed. Recovery after a kill takes the most.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Its arguments: the folder, then the server's command.
const SUPERVISOR: &str = r#"
folder=$1
shift
exec 3<&0
"$@" 3<&- &
server=$!
(
    if read -r signal; then
        kill -"$signal" "$server"
    else
        : >"$folder/abandoned"
        kill -QUIT "$server"
    fi
) <&3 >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$server"
kill "$watch" 2>/dev/null
if [ -e "$folder/abandoned" ]; then rm -rf "$folder"; fi
"#;

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    /// In order: connections are ended, then a checkpoint is made.
    Fast,
    /// At once, as when the machine fails.
    Immediate,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// A server that runs. It is ended at once when this is dropped.
#[derive(Debug)]
pub(crate) struct Supervised {
    shell: Child,
}

impl Supervised {
    /// Starts a server's command with its output in `log`.
    pub(crate) fn start(server: Command, folder: &Path, log: File, account: &Account) -> Self {
        let mut shell = Command::new("/bin/sh");
        let variables = server.get_envs();
        shell
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(folder)
            .arg(server.get_program())
            .args(server.get_args())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log);
        account.run_as(&mut shell);
        Self {
            shell: shell.spawn().expect("a shell can be started"),
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.shell.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Asks it to stop and waits for its end; false where there was none.
    pub(crate) fn stop(mut self, signal: Signal) -> bool {
        self.send(signal);
        self.wait()
    }

    fn send(&mut self, signal: Signal) {
        if let Some(pipe) = &mut self.shell.stdin {
            // Where the shell has ended already, nothing is left to be stopped.
            let _ = writeln!(pipe, "{}", signal.name());
        }
    }

    fn wait(&mut self) -> bool {
        until(|| self.has_ended().then_some(())).is_some()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.send(Signal::Immediate);
            self.wait();
        }
    }
}

/// Asks until there is an answer; none in [`WAIT_MAX`] is no answer.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let times = WAIT_MAX.as_millis() / POLL.as_millis();
    for _ in 0..times {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        std::thread::sleep(POLL);
    }
    None
}

/// A port on which nobody listens. Processes begin at different places, so that they seldom meet.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(PORT_COUNT)) * 17;
    for _ in 0..PORT_COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + step) % u32::from(PORT_COUNT)).expect("below a u16");
        let port = PORT_FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free from {PORT_FIRST} on");
}
