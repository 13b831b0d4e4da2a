//! Looks around: everything that WASI shows of the world, and tries at what it should not.
#![cfg(target_family = "wasm")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the sandbox keeps what a guest prints"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a guest has nobody to give it the time"
)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use serde_json::{Value, json};

struct Surroundings;

impl Guest for Surroundings {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let number = || invocation.input.parse::<u64>().unwrap_or(0);
        let seen = match invocation.action.as_str() {
            "look" => look(),
            "sleep" => {
                let began = Instant::now();
                std::thread::sleep(Duration::from_millis(number()));
                json!(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
            }
            "print" => {
                for _ in 0..number() {
                    println!("a line of output");
                    eprintln!("a line of errors");
                }
                Value::Null
            }
            "compute" => json!((0..number()).fold(7_u64, |sum, n| std::hint::black_box(
                sum.wrapping_mul(31) ^ n
            ))),
            _ => Value::Null,
        };
        Ok(seen.to_string())
    }
}

fn look() -> Value {
    json!({
        "arguments": std::env::args().collect::<Vec<_>>(),
        "environment": std::env::vars().collect::<Vec<_>>(),
        "root": describe(std::fs::read_dir("/").map(|entries| entries.count())),
        "passwd": describe(std::fs::read("/etc/passwd")),
        "write": describe(std::fs::write("/tmp/x", "x")),
        "connect": describe(TcpStream::connect("127.0.0.1:80")),
        "listen": describe(TcpListener::bind("127.0.0.1:0")),
        "udp": describe(UdpSocket::bind("127.0.0.1:0")),
        "resolve": describe(std::net::ToSocketAddrs::to_socket_addrs("example.com:80").map(Iterator::count)),
        "stdin": describe(std::io::read_to_string(std::io::stdin())),
        "now_s": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        "random": RandomState::new().hash_one(1).to_string(),
    })
}

fn describe<T: std::fmt::Debug>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => format!("ok: {value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

guests::export!(Surroundings);
