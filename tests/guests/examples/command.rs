//! A command-line program: what it does is its first argument, its input and its output are JSON.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::disallowed_methods,
    reason = "this is what a program of its own does"
)]

use std::io::Read as _;
use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut input = String::new();
    if std::io::stdin().read_to_string(&mut input).is_err() {
        return ExitCode::from(9);
    }
    let action = std::env::args().nth(1).unwrap_or_default();
    let input: Value = serde_json::from_str(&input).unwrap_or_default();
    match action.as_str() {
        "told" => {
            let environment: Value = std::env::vars()
                .map(|(name, value)| (name, Value::from(value)))
                .collect::<serde_json::Map<_, _>>()
                .into();
            let arguments: Vec<String> = std::env::args().collect();
            println!(
                "{}",
                json!({ "input": input, "arguments": arguments, "environment": environment })
            );
        }
        "nothing" => {}
        "text" => println!("Good day"),
        "much" => println!("\"{}\"", "x".repeat(2 << 20)),
        "leave" => {
            println!("7");
            std::process::exit(0);
        }
        _ => {
            println!("\"half\"");
            eprintln!("{}cannot {action}", "…\n".repeat(2_000));
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}
