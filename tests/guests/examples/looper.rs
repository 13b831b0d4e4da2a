//! A tool that calls tools: itself, or whatever it is told, alone and several times at once. It returns what it heard.
#![cfg(target_family = "wasm")]
#![allow(
    clippy::all,
    clippy::mem_forget,
    unsafe_code,
    unreachable_pub,
    reason = "the code is generated: its shape is not ours"
)]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package test:looper;
        world looper {
            import troupe:agent/tools@0.1.0;
            export again: func(names: list<string>) -> list<string>;
        }
    ",
    world: "test:looper/looper",
    generate_all,
});

use troupe::agent::tools::{self, CallRequest};

struct Looper;

impl Guest for Looper {
    fn again(names: Vec<String>) -> Vec<String> {
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let arguments = format!("{{\"names\": [{}]}}", quoted.join(", "));
        let requests: Vec<CallRequest> = names
            .into_iter()
            .map(|name| CallRequest {
                name,
                arguments: arguments.clone(),
            })
            .collect();
        let mut heard = vec![format!("{:?}", tools::available())];
        for request in &requests {
            heard.push(format!("{:?}", tools::call(request)));
        }
        for answer in tools::call_many(&requests) {
            heard.push(format!("{answer:?}"));
        }
        heard
    }
}

export!(Looper);
