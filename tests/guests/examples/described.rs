//! A tool that describes itself: one of its functions, and one that it does not have.
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
        package test:described;
        world described {
            include troupe:agent/tool-described@0.1.0;
            export greet: func(name: string, polite: option<bool>) -> string;
            export wave: func();
        }
    ",
    world: "test:described/described",
    generate_all,
});

use exports::troupe::agent::description::{Action, Described, Guest as Description};

struct Tool;

impl Guest for Tool {
    fn greet(name: String, polite: Option<bool>) -> String {
        if polite == Some(true) {
            format!("Good day, {name}.")
        } else {
            format!("Hi {name}!")
        }
    }

    fn wave() {}
}

fn action(name: &str) -> Action {
    Action {
        name: name.to_owned(),
        description: format!("What `{name}` does."),
        input_schema:
            r#"{"type": "object", "properties": {"name": {"type": "string", "examples": ["Ada"]}}}"#
                .to_owned(),
        output_schema: "true".to_owned(),
    }
}

impl Description for Tool {
    fn describe() -> Described {
        // The host gives nothing to who describes himself.
        let denied = troupe::agent::memory::keys("", None);
        Described {
            name: "greeter".to_owned(),
            version: "1.2.3".to_owned(),
            description: format!(
                "Greets, and was given {}.",
                if denied.is_err() {
                    "nothing"
                } else {
                    "something"
                }
            ),
            actions: vec![action("greet"), action("missing")],
        }
    }
}

export!(Tool);
