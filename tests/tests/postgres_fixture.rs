//! The tests' own PostgreSQL server: it keeps what was committed, it fails when it is told to, and nothing of it is
//! left behind.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::postgres::Postgres;

/// Set for the process that is to be killed.
const TO_BE_KILLED: &str = "POSTGRES_FIXTURE_TO_BE_KILLED";

/// Looks again and again, for half a minute.
#[track_caller]
fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if is_true() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it never came true that {what}");
}

/// The address in a URL of the server, for a connection without a client.
fn address(url: &str) -> String {
    let (_, behind) = url.split_once('@').unwrap();
    behind.split('/').next().unwrap().to_owned()
}

#[test]
fn databases_of_the_shared_server_are_apart() {
    let server = Postgres::shared();
    let (one, other) = (server.database(), server.database());
    assert_eq!(server.sql(&one, "SELECT 1"), "1");
    server.sql(&one, "CREATE TABLE t (n int)");
    let missing = server.try_sql(&other, "SELECT * FROM t").unwrap_err();
    assert!(missing.contains("does not exist"), "{missing}");
}

#[test]
fn a_wrong_password_is_refused() {
    let server = Postgres::shared();
    let url = server.url().replace(server.password(), "guessed");
    let refused = server.try_sql(&url, "SELECT 1").unwrap_err();
    assert!(
        refused.contains("password authentication failed"),
        "{refused}"
    );
}

#[test]
fn connections_can_be_killed() {
    let server = Postgres::shared();
    let url = server.database();
    assert_eq!(server.kill_connections(&url), 0);
    let error = std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| server.try_sql(&url, "SELECT pg_sleep(600)").unwrap_err());
        wait_until("a connection was killed", || {
            server.kill_connections(&url) == 1
        });
        sleeper.join().unwrap()
    });
    assert!(!error.is_empty());
}

#[test]
fn a_server_keeps_what_was_committed_and_goes_without_a_trace() {
    let mut server = Postgres::start();
    let url = server.database();
    server.sql(&url, "CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
    assert_eq!(server.sql(&url, "SHOW fsync"), "on");

    server.stop_immediate();
    assert!(server.try_sql(&url, "SELECT 1").is_err());
    assert!(TcpStream::connect(address(&url)).is_err());
    server.start_again();
    assert_eq!(server.sql(&url, "SELECT n FROM t"), "7");

    server.restart();
    assert_eq!(server.sql(&url, "SELECT n FROM t"), "7");

    let folder = server.folder().to_owned();
    drop(server);
    assert!(!folder.exists());
    assert!(TcpStream::connect(address(&url)).is_err());
}

#[test]
fn a_killed_test_leaves_no_server() {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        let server = Postgres::start();
        println!("\nstarted {} {}", server.url(), server.folder().display());
        loop {
            std::thread::park();
        }
    }
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_no_server", "--nocapture"])
        .env(TO_BE_KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let started = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("started ").map(str::to_owned))
        .unwrap();
    let (url, folder) = started.split_once(' ').unwrap();
    assert!(TcpStream::connect(address(url)).is_ok());

    test.kill().unwrap();
    test.wait().unwrap();
    wait_until("the server is gone", || {
        TcpStream::connect(address(url)).is_err()
    });
    wait_until("its folder is gone", || !Path::new(folder).exists());
}
