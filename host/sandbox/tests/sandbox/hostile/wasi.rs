//! Agents as WebAssembly text that use WASI as no library would: the raw functions, with any number for an argument.

use std::path::PathBuf;

use bytes::Bytes;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::support::RUN;

/// The part of WASI that these guests use, one text for each package.
const PACKAGES: [&str; 5] = [
    "package wasi:io@0.2.0;
    interface poll {
        resource pollable { block: func(); ready: func() -> bool; }
        poll: func(in: list<borrow<pollable>>) -> list<u32>;
    }
    interface error { resource error; }
    interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream {
            check-write: func() -> result<u64, stream-error>;
            write: func(contents: list<u8>) -> result<_, stream-error>;
        }
    }",
    "package wasi:clocks@0.2.0;
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
    }",
    "package wasi:random@0.2.0;
    interface random { get-random-bytes: func(len: u64) -> list<u8>; }",
    "package wasi:cli@0.2.0;
    interface stdout {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stdout: func() -> output-stream;
    }",
    "package wasi:http@0.2.0;
    interface types { resource fields { constructor(); } }",
];

const WORLD: &str = "package test:wasi;
    world wasi {
        include troupe:agent/agent@0.1.0;
        import wasi:io/poll@0.2.0;
        import wasi:io/streams@0.2.0;
        import wasi:clocks/monotonic-clock@0.2.0;
        import wasi:random/random@0.2.0;
        import wasi:cli/stdout@0.2.0;
        import wasi:http/types@0.2.0;
    }";

const IMPORTS: &str = r#"
    (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.ready" (func $ready (param i32) (result i32)))
    (import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.check-write" (func $check_write (param i32 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $timer (param i64) (result i32)))
    (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
    (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
    (import "troupe:agent/log@0.1.0" "write" (func $log (param i32 i32 i32 i32 i32 i32)))
    (import "troupe:agent/tools@0.1.0" "call" (func $call_tool (param i32 i32 i32 i32 i32)))"#;

/// A guest whose `run` is this code; `$handle` is a local of its own, and `null` is returned where it ends. The host
/// puts what it hands over at address 65536, where there is room for 64 KiB.
pub(super) fn agent(code: &str) -> Bytes {
    agent_with_room(code, "")
}

/// The same of a guest that does this first when the host asks for room.
pub(super) fn agent_with_room(code: &str, first: &str) -> Bytes {
    let module = format!(
        r#"(module {IMPORTS}
        (memory (export "memory") 3)
        (data (i32.const 64) "null")
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {first} (i32.const 65536))
        {RUN} (local $handle i32)
            {code}
            (i32.store8 (i32.const 16) (i32.const 0))
            (i32.store (i32.const 20) (i32.const 64))
            (i32.store (i32.const 24) (i32.const 4))
            (i32.const 16)))"#
    );
    let mut core = wat::parse_str(module).expect("WebAssembly text");
    let mut resolve = wit_parser::Resolve::default();
    let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_dir(wit).expect("our interfaces");
    for package in PACKAGES {
        resolve.push_str("wasi.wit", package).expect("WASI's");
    }
    let package = resolve.push_str("world.wit", WORLD).expect("a world");
    let world = resolve.select_world(&[package], Some("wasi"));
    let world = world.expect("the world");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
        .expect("room for metadata");
    let encoder = ComponentEncoder::default().module(&core);
    let mut encoder = encoder.expect("a core module").validate(true);
    Bytes::from(encoder.encode().expect("a component"))
}
