//! A component that knows nothing of Troupe: functions of its own, with every type that can be passed.
#![cfg(target_family = "wasm")]
#![allow(
    clippy::all,
    clippy::mem_forget,
    unsafe_code,
    unreachable_pub,
    reason = "the code is generated: its shape is not ours"
)]

wit_bindgen::generate!({
    inline: "
        package acme:toolbox@1.2.0;

        interface values {
            record point { x: s32, y: f64, label: option<string> }
            variant shape { circle(f32), polygon(list<point>), empty }
            enum level { low, medium, high }
            flags rights { read, write, run }
            record everything {
                truth: bool, a: s8, b: u8, c: s16, d: u16, e: s32, f: u32, g: s64, h: u64, i: f32, j: f64,
                letter: char, text: string, bytes: list<u8>, numbers: list<u16>, pair: tuple<string, bool>,
                shapes: list<shape>, level: level, rights: rights, maybe: option<option<u8>>,
                outcome: result<_, string>,
            }
            variant problem { division-by-zero, too-large(s64) }
            resource handle { constructor(); }

            echo: func(value: everything) -> everything;
            divide: func(a: s64, b: s64) -> result<s64, problem>;
            check: func(text: string) -> result<_, string>;
            open: func(name: string) -> handle;
        }

        interface other { divide: func(a: f64) -> f64; }

        world toolbox {
            export values;
            export other;
            export add: func(a: u32, b: u32) -> u32;
            export shout: func(text: string, times: option<u8>) -> string;
            export fail: func(how: string);
            export fill: func(count: u32) -> list<string>;
        }
    ",
    generate_all,
});

use exports::acme::toolbox::{other, values};

struct Toolbox;
struct Handle;

impl values::GuestHandle for Handle {
    fn new() -> Self {
        Handle
    }
}

impl values::Guest for Toolbox {
    type Handle = Handle;

    fn echo(value: values::Everything) -> values::Everything {
        value
    }

    fn divide(a: i64, b: i64) -> Result<i64, values::Problem> {
        if a > 1_000 {
            return Err(values::Problem::TooLarge(a));
        }
        a.checked_div(b).ok_or(values::Problem::DivisionByZero)
    }

    fn check(text: String) -> Result<(), String> {
        if text.is_empty() {
            return Err("the text is empty".to_owned());
        }
        Ok(())
    }

    fn open(_name: String) -> values::Handle {
        values::Handle::new(Handle)
    }
}

impl other::Guest for Toolbox {
    fn divide(a: f64) -> f64 {
        a / 2.0
    }
}

impl Guest for Toolbox {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }

    fn shout(text: String, times: Option<u8>) -> String {
        text.to_uppercase() + &"!".repeat(times.unwrap_or(1).into())
    }

    fn fail(how: String) {
        match how.as_str() {
            "loop" => loop {
                std::hint::black_box(0);
            },
            "exit" => std::process::exit(4),
            _ => panic!("{how}"),
        }
    }

    fn fill(count: u32) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }
}

export!(Toolbox);
