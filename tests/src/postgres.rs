//! A PostgreSQL server of the tests' own: on a free port of this machine, with a password, in a folder that goes with
//! it. It can be stopped, killed and started again, and it never outlives the process that started it.
//!
//! Its methods block: a server is up or down within a second, and a test has nothing else to do until then. What is
//! measured while a server is away belongs into a task of a runtime with several threads, or into a process.
//!
//! ```no_run
//! use e2e::postgres::Postgres;
//!
//! let url = Postgres::shared().database();
//! let mut own = Postgres::start();
//! own.stop_immediate();
//! own.start_again();
//! ```

mod programs;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use self::programs::Programs;
use crate::supervised::{Account, Signal, Supervised, free_port, until};

/// Two servers may choose the same port at the same moment; the one that comes late chooses again, so many times.
const START_TRIES: u32 = 5;
/// How much of a server's log is shown when it does not start.
const LOG_LINES_SHOWN: usize = 30;

/// A server, and the folder with its data.
#[derive(Debug)]
pub struct Postgres {
    programs: Programs,
    account: Account,
    password: String,
    port: u16,
    databases: AtomicU32,
    process: Option<Supervised>,
    folder: TempDir,
}

impl Postgres {
    /// A new server that nobody else uses, and that may therefore be stopped.
    ///
    /// # Panics
    /// Where there is no PostgreSQL, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("troupe-pg-")
            .tempdir()
            .expect("a folder for the server");
        let account = Account::for_servers_in(folder.path());
        let programs = Programs::find().readable_by(&account, folder.path());
        let mut server = Self {
            programs,
            account,
            password: random_text(),
            port: 0,
            databases: AtomicU32::new(0),
            process: None,
            folder,
        };
        server.make_data_folder();
        for _ in 0..START_TRIES {
            server.port = free_port();
            match server.launch() {
                Ok(()) => return server,
                Err(log) if log.contains("could not bind") => {}
                Err(log) => panic!("PostgreSQL did not start:\n{log}"),
            }
        }
        panic!("PostgreSQL found each of {START_TRIES} free ports in use");
    }

    /// The server that all tests of this process share. It goes on until the process ends, and is never stopped: a test
    /// asks for a database of its own, and for a server of its own where it needs faults.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The address of the server's first database, which nobody should fill.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes an empty database and returns its address.
    ///
    /// # Panics
    /// Where the server is away.
    #[must_use]
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.sql(&self.url(), &format!("CREATE DATABASE {name}"));
        self.url_of(&name)
    }

    /// The server's password, which no log or answer may show.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// What a statement answers: a line for each row, with `|` between its columns.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn sql(&self, url: &str, statement: &str) -> String {
        self.try_sql(url, statement)
            .unwrap_or_else(|error| panic!("`{statement}` failed: {error}"))
    }

    /// The same, with the server's or the client's complaint where it fails.
    ///
    /// # Errors
    /// A statement that fails, a server that is away.
    pub fn try_sql(&self, url: &str, statement: &str) -> Result<String, String> {
        let mut psql = self.programs.command("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1", "--no-password"])
            .args(["--dbname", url, "--command", statement])
            .env("PGCONNECT_TIMEOUT", "10");
        let output = psql.output().expect("psql can be started");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Runs a file of statements, a dump for instance.
    ///
    /// # Panics
    /// Where one of them fails.
    #[track_caller]
    pub fn load(&self, url: &str, file: &Path) {
        let mut psql = self.programs.command("psql");
        psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"])
            .args(["--no-password", "--dbname", url, "--file"])
            .arg(file);
        let output = psql.output().expect("psql can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", file.display());
    }

    /// Ends every connection to the database at `url`, as an administrator or a failing network does, and returns how
    /// many there were.
    ///
    /// # Panics
    /// Where the server is away.
    pub fn kill_connections(&self, url: &str) -> usize {
        let killed = self.sql(
            url,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        killed.parse().expect("a number of connections")
    }

    /// Stops the server in order, which ends every connection, and starts it again.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn restart(&mut self) {
        self.stop(Signal::Fast);
        self.start_again();
    }

    /// Stops the server at once, without a checkpoint: when it starts again it recovers from its log, as after a loss of
    /// power.
    ///
    /// # Panics
    /// Where it is not running.
    pub fn stop_immediate(&mut self) {
        self.stop(Signal::Immediate);
    }

    /// Starts a stopped server, on the port that it had.
    ///
    /// # Panics
    /// Where it is running, or does not start.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server is running");
        if let Err(log) = self.launch() {
            panic!("PostgreSQL did not start again:\n{log}");
        }
    }

    fn stop(&mut self, signal: Signal) {
        let process = self.process.take().expect("the server is running");
        assert!(
            process.stop(signal),
            "PostgreSQL did not stop:\n{}",
            self.log()
        );
    }

    fn url_of(&self, database: &str) -> String {
        let Self { password, port, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}")
    }

    fn make_data_folder(&self) {
        let secret = self.folder.path().join("password");
        std::fs::write(&secret, &self.password).expect("a file in the server's folder");
        self.account.give(&secret);
        let mut initdb = self.programs.command("initdb");
        // Texts are in the order of their bytes, whatever languages this machine has.
        initdb
            .args(["--username=postgres", "--auth=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg("--pgdata")
            .arg(self.folder.path().join("data"))
            .arg("--pwfile")
            .arg(&secret)
            .current_dir(self.folder.path());
        self.account.run_as(&mut initdb);
        let output = initdb.output().expect("initdb can be started");
        assert!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts the server and waits until it answers; the error is what it wrote to its log.
    fn launch(&mut self) -> Result<(), String> {
        let log = File::create(self.folder.path().join("log")).expect("a log of the server's");
        let command = self.server_command();
        let mut process = Supervised::start(command, self.folder.path(), log, &self.account);
        let is_up = until(|| {
            let answers = self.try_sql(&self.url(), "SELECT 1").is_ok();
            (answers || process.has_ended()).then_some(answers)
        });
        if is_up != Some(true) {
            drop(process);
            return Err(self.log());
        }
        self.process = Some(process);
        Ok(())
    }

    fn server_command(&self) -> Command {
        let mut server = self.programs.command("postgres");
        server.arg("-D").arg(self.folder.path().join("data"));
        let settings = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", String::new()),
            ("max_connections", "100".to_owned()),
            ("fsync", "on".to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            // Its library is large, and set-up does not fetch it.
            ("jit", "off".to_owned()),
        ];
        for (name, value) in settings {
            server.arg("-c").arg(format!("{name}={value}"));
        }
        server
    }

    /// The end of what the server wrote since it was started last.
    fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// The folder with everything that the server has on disk.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Text that nobody guesses, of letters that need no escape in an address.
fn random_text() -> String {
    use std::io::Read as _;
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .expect("the system's source of random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
