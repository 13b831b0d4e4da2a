//! The file system as a guest reaches it that keeps to no library's rules: any bytes for a path, any number for a time.

use std::path::PathBuf;

use bytes::Bytes;
use troupe_sandbox::{FilesGrant, Outcome, TrapCode};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::{folder, scratch, writable};
use crate::support::{RUN, call, invocation, sandbox};

/// The part of WASI that these guests use.
const WASI: &str = "
package wasi:filesystem@0.2.0;
interface types {
    enum error-code {
        access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large,
        illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop, too-many-links, message-size,
        name-too-long, no-device, no-entry, no-lock, insufficient-memory, insufficient-space, not-directory, not-empty,
        not-recoverable, unsupported, no-tty, no-such-device, overflow, not-permitted, pipe, read-only, invalid-seek,
        text-file-busy, cross-device,
    }
    flags path-flags { symlink-follow }
    flags open-flags { create, directory, exclusive, truncate }
    flags descriptor-flags {
        read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory,
    }
    record datetime { seconds: u64, nanoseconds: u32 }
    variant new-timestamp { no-change, now, timestamp(datetime) }
    resource descriptor {
        open-at: func(path-flags: path-flags, path: string, open-flags: open-flags, %flags: descriptor-flags)
            -> result<descriptor, error-code>;
        set-times: func(accessed: new-timestamp, modified: new-timestamp) -> result<_, error-code>;
        set-size: func(size: u64) -> result<_, error-code>;
        write: func(buffer: list<u8>, offset: u64) -> result<u64, error-code>;
    }
}
interface preopens {
    use types.{descriptor};
    get-directories: func() -> list<tuple<descriptor, string>>;
}
";

const WORLD: &str = "
package test:raw;
world raw {
    include troupe:agent/agent@0.1.0;
    import wasi:filesystem/preopens@0.2.0;
    import wasi:filesystem/types@0.2.0;
}
";

/// What a guest is told where nothing failed.
const DONE: u32 = 99;
const FILE_TOO_LARGE: u32 = 8;
const INVALID: u32 = 12;
const NAME_TOO_LONG: u32 = 18;
const INSUFFICIENT_SPACE: u32 = 23;
const OVERFLOW: u32 = 30;
const NOT_PERMITTED: u32 = 31;

/// A guest that makes a file of this name in its only folder, and does something with it in `local 0`; it answers with
/// the number of the error.
fn guest(path: &[u8], act: &str) -> Bytes {
    let text: String = path.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let length = path.len();
    let run = RUN.replace("(func ", "(func $run ");
    let module = format!(
        r#"(module
        (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
            (func $open (param i32 i32 i32 i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.set-times"
            (func $set_times (param i32 i32 i64 i32 i32 i64 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.set-size" (func $set_size (param i32 i64 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.write" (func $write (param i32 i32 i32 i64 i32)))
        (memory (export "memory") 1)
        (global $free (mut i32) (i32.const 32768))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.get $free)
            (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 15))
                (i32.const -16))))
        (data (i32.const 1024) "{text}")
        (func $act (param i32) (result i32)
            {act}
            (if (result i32) (i32.load8_u (i32.const 48))
                (then (i32.load8_u (i32.const 49))) (else (i32.const {DONE}))))
        (func $code (result i32)
            (call $folders (i32.const 8))
            (call $open (i32.load (i32.load (i32.const 8))) (i32.const 1) (i32.const 1024) (i32.const {length})
                (i32.const 1) (i32.const 3) (i32.const 32))
            (if (result i32) (i32.load8_u (i32.const 32))
                (then (i32.load8_u (i32.const 36))) (else (call $act (i32.load (i32.const 36))))))
        {run} (local $code i32)
            (local.set $code (call $code))
            (i32.store8 (i32.const 60) (i32.const 34))
            (i32.store8 (i32.const 61) (i32.add (i32.const 48) (i32.div_u (local.get $code) (i32.const 10))))
            (i32.store8 (i32.const 62) (i32.add (i32.const 48) (i32.rem_u (local.get $code) (i32.const 10))))
            (i32.store8 (i32.const 63) (i32.const 34))
            (i32.store8 (i32.const 16) (i32.const 0))
            (i32.store (i32.const 20) (i32.const 60))
            (i32.store (i32.const 24) (i32.const 4))
            (i32.const 16)))"#
    );
    let mut core = wat::parse_str(module).expect("WebAssembly text");
    let mut resolve = wit_parser::Resolve::default();
    let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_dir(wit).expect("our interfaces");
    resolve.push_str("wasi.wit", WASI).expect("WASI's");
    let package = resolve.push_str("raw.wit", WORLD).expect("a world");
    let world = resolve.select_world(&[package], Some("raw"));
    let world = world.expect("the world");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
        .expect("room for metadata");
    let encoder = ComponentEncoder::default().module(&core);
    let mut encoder = encoder.expect("a core module").validate(true);
    Bytes::from(encoder.encode().expect("a component"))
}

/// How it ends in the scratch folder, and in a folder of the host.
async fn outcomes(path: &[u8], act: &str) -> [Outcome; 2] {
    let component = sandbox().load(guest(path, act)).await.expect("a component");
    let host = tempfile::tempdir().expect("a folder");
    let grants = [
        FilesGrant {
            folders: Vec::new(),
            scratch: scratch(10_000, 10),
        },
        FilesGrant {
            folders: vec![folder("/data", writable(host.path()))],
            scratch: None,
        },
    ];
    let mut outcomes = Vec::new();
    for files in grants {
        let mut call = call();
        call.grants.files = Some(files);
        let report = sandbox().call_agent(&component, invocation("do", "null"), call);
        outcomes.push(report.await.expect("the host is well").outcome);
    }
    outcomes.try_into().expect("two")
}

async fn codes(path: &[u8], act: &str) -> [u32; 2] {
    outcomes(path, act).await.map(|outcome| match outcome {
        Outcome::Returned(code) => code.trim_matches('"').parse().expect("a number"),
        other => panic!("{other:?}"),
    })
}

const NOTHING: &str = "";

#[tokio::test]
async fn paths_of_any_bytes_are_refused_or_are_names() {
    assert_eq!(codes(b"plain", NOTHING).await, [DONE; 2]);
    assert_eq!(codes(b"a\0b", NOTHING).await, [INVALID; 2]);
    assert_eq!(codes(&[b'a'; 5_000], NOTHING).await, [NAME_TOO_LONG; 2]);
    assert_eq!(codes(&[b'a'; 300], NOTHING).await, [NAME_TOO_LONG; 2]);
    for path in ["/plain", "../plain", "a/../../plain"] {
        for code in codes(path.as_bytes(), NOTHING).await {
            assert!([NOT_PERMITTED, 20].contains(&code), "{path}: {code}");
        }
    }
    for outcome in outcomes(b"\xff\xfe", NOTHING).await {
        assert!(
            matches!(&outcome, Outcome::Trapped(trap) if trap.code == TrapCode::InvalidData),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn times_of_any_number_are_kept_or_refused() {
    let times = |seconds: i64, nanoseconds: u32| {
        let time = format!("(i32.const 2) (i64.const {seconds}) (i32.const {nanoseconds})");
        format!("(call $set_times (local.get 0) {time} {time} (i32.const 48))")
    };
    assert_eq!(codes(b"f", &times(1_000, 5)).await, [DONE; 2]);
    assert_eq!(codes(b"f", &times(-1, 0)).await, [DONE, OVERFLOW]);
    assert_eq!(codes(b"f", &times(-1, u32::MAX)).await, [INVALID, OVERFLOW]);
    let [_, host] = codes(b"f", &times(i64::MAX, 999_999_999)).await;
    assert!([DONE, INVALID, OVERFLOW].contains(&host), "{host}");
}

#[tokio::test]
async fn sizes_of_any_number_are_refused() {
    let size =
        |bytes: i64| format!("(call $set_size (local.get 0) (i64.const {bytes}) (i32.const 48))");
    assert_eq!(codes(b"f", &size(500)).await, [DONE; 2]);
    for bytes in [1 << 40, i64::MAX, -1] {
        assert_eq!(codes(b"f", &size(bytes)).await, [INSUFFICIENT_SPACE; 2]);
    }
    let write = |offset: i64| {
        let bytes = "(i32.const 1024) (i32.const 1)";
        format!(
            "(call $write (local.get 0) {bytes} (i64.const {offset}) (i32.const 72))
            (i32.store8 (i32.const 48) (i32.load8_u (i32.const 72)))
            (i32.store8 (i32.const 49) (i32.load8_u (i32.const 80)))"
        )
    };
    assert_eq!(codes(b"f", &write(3)).await, [DONE; 2]);
    assert_eq!(codes(b"f", &write(1 << 40)).await, [INSUFFICIENT_SPACE; 2]);
    assert_eq!(codes(b"f", &write(-1)).await, [FILE_TOO_LARGE; 2]);
}
