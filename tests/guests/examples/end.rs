//! Ends in the way its action names.
#![cfg(target_family = "wasm")]
#![expect(clippy::print_stdout, reason = "the sandbox keeps what a guest prints")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};

struct End;

impl Guest for End {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        println!("before the end");
        let input = || invocation.input.parse().unwrap_or(0);
        match invocation.action.as_str() {
            "decline" => Err(Failure {
                message: "The invoice has no total.".to_owned(),
                transient: false,
                details: Some(r#"{"missing":["total"]}"#.to_owned()),
            }),
            "decline for now" => Err(Failure {
                message: "Try again later.".to_owned(),
                transient: true,
                details: None,
            }),
            "decline badly" => Err(Failure {
                message: "Bad details follow.".to_owned(),
                transient: false,
                details: Some("not JSON".to_owned()),
            }),
            "panic" => panic!("this guest panics"),
            "exit" => std::process::exit(3),
            "return no JSON" => Ok("{\"a\": tru".to_owned()),
            "return a deep document" => Ok("[".repeat(10_000) + &"]".repeat(10_000)),
            "return much" => Ok(format!("\"{}\"", "x".repeat(input()))),
            "allocate" => Ok(allocate().to_string()),
            "recurse" => Ok(recurse(1).to_string()),
            "divide" => Ok((1 / input()).to_string()),
            other => panic!("there is no way to end named {other}"),
        }
    }
}

fn allocate() -> usize {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

#[expect(unconditional_recursion, reason = "it is what this guest is for")]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box([depth; 16])[0] + recurse(std::hint::black_box(depth + 1))
}

guests::export!(End);
