//! What is taken for a component and what is not, and the folder of compiled ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use bytes::Bytes;
use troupe_sandbox::{LoadError, Outcome, Sandbox, SandboxConfig, StartError};

use crate::support::{MEMORY, RUN, agent_wasm, call, config, invocation, sandbox};

fn null_agent() -> Bytes {
    agent_wasm(&format!(
        r#"(module {MEMORY} (data (i32.const 64) "null") {RUN}
            (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 4)) (i32.const 16)))"#
    ))
}

async fn refusal(wasm: impl Into<Bytes>) -> LoadError {
    sandbox()
        .load(wasm.into())
        .await
        .expect_err("this is no component for us")
}

async fn refused_component(text: &str) -> String {
    refusal(wat::parse_str(text).expect("WebAssembly text"))
        .await
        .to_string()
}

#[tokio::test]
async fn what_is_no_component_is_refused_with_a_reason() {
    assert!(matches!(refusal("").await, LoadError::NotWasm));
    assert!(matches!(refusal("\0asm").await, LoadError::NotWasm));
    assert!(
        matches!(refusal("(component)").await, LoadError::NotWasm),
        "text is not taken"
    );
    assert!(matches!(
        refusal(vec![0xa5; 4096]).await,
        LoadError::NotWasm
    ));
    assert!(matches!(
        refusal(wat::parse_str("(module)").expect("text")).await,
        LoadError::CoreModule
    ));
    assert!(matches!(
        refusal(&b"\0asm\x0d\0\x01\0garbage"[..]).await,
        LoadError::Invalid(_)
    ));
    let whole = null_agent();
    assert!(matches!(
        refusal(whole.slice(..whole.len() / 2)).await,
        LoadError::Invalid(_)
    ));
}

#[tokio::test]
async fn native_code_is_never_taken() {
    let compiled = wasmtime::Engine::default()
        .precompile_component(b"(component)")
        .expect("native code");
    assert!(matches!(refusal(compiled).await, LoadError::Precompiled));
}

#[tokio::test]
async fn a_component_that_is_too_large_is_refused_unread() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = SandboxConfig::new(folder.path());
    (config.component_bytes_max, config.calls_max) = (100, 1);
    let error = Sandbox::new(config)
        .expect("a sandbox")
        .load(null_agent())
        .await
        .expect_err("it is too large");
    assert!(matches!(error, LoadError::TooLarge { bytes_max: 100, .. }));
}

#[tokio::test]
async fn imports_that_nobody_offers_are_all_named() {
    let error = refused_component(
        r#"(component (import "wasi:http/incoming-handler@0.2.0" (instance)) (import "their:own/thing" (func))
            (import "troupe:agent/llm@0.9.0" (instance)) (import "wasi:io/poll@0.2.0" (instance)))"#,
    )
    .await;
    assert_eq!(
        error,
        "the component imports what this host does not offer: wasi:http/incoming-handler@0.2.0, their:own/thing, \
         troupe:agent/llm@0.9.0; the host offers the interfaces of `troupe:agent@0.1` and of WASI 0.2"
    );
}

#[tokio::test]
async fn a_component_with_nothing_to_call_says_what_it_has() {
    let error = refused_component("(component)").await;
    assert!(error.ends_with("but nothing"), "{error}");
    let error =
        refused_component(r#"(component (instance $i) (export "a:b/c" (instance $i)))"#).await;
    assert!(error.ends_with("but a:b/c"), "{error}");
}

#[tokio::test]
async fn interfaces_with_other_types_are_refused() {
    let text = r#"(component (instance $i) (export "troupe:agent/guest@0.1.0" (instance $i)))"#;
    assert!(matches!(
        refusal(wat::parse_str(text).expect("text")).await,
        LoadError::WrongTypes(_)
    ));
    let text = r#"(component
        (import "troupe:agent/context@0.1.0" (instance (export "inputs" (func (result u32)))))
        (instance $i) (export "troupe:agent/guest@0.1.0" (instance $i)))"#;
    assert!(matches!(
        refusal(wat::parse_str(text).expect("text")).await,
        LoadError::WrongTypes(_)
    ));
}

/// A component that could be called, with something in it.
fn callable(part: &str) -> Vec<u8> {
    let text = format!(
        r#"(component {part}
            (core module $callable (func (export "f"))) (core instance $callable (instantiate $callable))
            (func (export "f") (canon lift (core func $callable "f"))))"#
    );
    wat::parse_str(text).expect("WebAssembly text")
}

#[tokio::test]
async fn features_that_are_switched_off_are_refused() {
    for module in [
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(tag)",
        "(type (struct))",
        "(func (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0))))",
        "(func $f (return_call $f))",
    ] {
        let error = refusal(callable(&format!("(core module {module})"))).await;
        assert!(matches!(error, LoadError::Invalid(_)), "{module}: {error}");
    }
}

#[tokio::test]
async fn a_component_of_too_many_parts_is_refused() {
    let parts = |part: &str, count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        callable(&format!("(core module $m {part}) {instances}"))
    };
    for (part, count) in [("", 200), ("(memory 1)", 9), ("(table 1 funcref)", 65)] {
        let error = refusal(parts(part, count)).await;
        assert!(matches!(error, LoadError::Invalid(_)), "{part}: {error}");
    }
    let error = refusal(parts("(table 100000 funcref)", 1)).await;
    assert!(
        matches!(error, LoadError::Invalid(_)),
        "a large table: {error}"
    );
}

#[tokio::test]
async fn a_component_is_compiled_once_and_a_damaged_file_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        let mut config = SandboxConfig::new(folder.path().join("compiled"));
        config.calls_max = 2;
        Sandbox::new(config).expect("a sandbox")
    };
    let files = || -> Vec<_> {
        let entries = fs::read_dir(folder.path().join("compiled")).expect("the folder");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let works = async |sandbox: &Sandbox| {
        let component = sandbox.load(null_agent()).await.expect("a component");
        let report = sandbox
            .call_agent(&component, invocation("", ""), call())
            .await
            .expect("the host is well");
        assert_eq!(report.outcome, Outcome::Returned("null".to_owned()));
    };

    works(&start()).await;
    let [file] = &files()[..] else {
        panic!("one file, not {:?}", files())
    };
    let is = || fs::metadata(file).expect("the file").ino();
    let written = is();
    works(&start()).await;
    assert_eq!(is(), written, "compiled twice");

    let whole = fs::read(file).expect("the file");
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 1;
    for damaged in [rotten, whole[..whole.len() / 2].to_vec(), Vec::new()] {
        fs::write(file, damaged).expect("a damaged file");
        works(&start()).await;
        assert_eq!(files().len(), 1);
        assert_eq!(fs::read(&files()[0]).expect("the file").len(), whole.len());
    }
}

#[test]
fn the_folder_of_native_code_is_closed_to_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let compiled = folder.path().join("a/b");
    let mut config = SandboxConfig::new(&compiled);
    config.calls_max = 1;
    fs::create_dir_all(&compiled).expect("a folder");
    fs::set_permissions(&compiled, fs::Permissions::from_mode(0o777)).expect("our own folder");
    let error = Sandbox::new(config.clone())
        .err()
        .expect("anybody could have put native code there");
    assert!(matches!(error, StartError::CacheFolder { source, .. }
        if source.to_string().contains("others can write")));
    // One that others can only read is closed; one that is not there is made closed.
    fs::set_permissions(&compiled, fs::Permissions::from_mode(0o755)).expect("our own folder");
    for folder in [compiled, folder.path().join("new")] {
        config.cache_dir.clone_from(&folder);
        Sandbox::new(config.clone()).expect("a sandbox");
        let mode = fs::metadata(&folder)
            .expect("the folder")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    config.cache_dir = folder.path().join("file");
    fs::write(&config.cache_dir, "").expect("a file");
    let error = Sandbox::new(config).err().expect("a file is no folder");
    assert!(matches!(error, StartError::CacheFolder { .. }));
}

/// An agent that returns a digit, by which it differs from others.
fn numbered(number: u32) -> Bytes {
    agent_wasm(&format!(
        r#"(module {MEMORY} (data (i32.const 64) "{number}") {RUN}
            (i32.store (i32.const 20) (i32.const 64)) (i32.store (i32.const 24) (i32.const 1)) (i32.const 16)))"#
    ))
}

#[tokio::test]
async fn the_folder_of_compiled_components_keeps_what_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = || {
        let entries = fs::read_dir(folder.path()).expect("the folder");
        let files = entries.map(|entry| entry.expect("an entry"));
        let mut files: Vec<(String, u64)> = files
            .map(|file| {
                let bytes = file.metadata().expect("a file").len();
                (file.file_name().to_string_lossy().into_owned(), bytes)
            })
            .collect();
        files.sort();
        files
    };
    let load = async |bytes_max: u64, number: u32| {
        let mut config = config(folder.path());
        (config.compiled_bytes_max, config.calls_max) = (bytes_max, 1);
        let sandbox = Sandbox::new(config).expect("a sandbox");
        let component = sandbox.load(numbered(number)).await.expect("a component");
        (sandbox, component)
    };
    let (sandbox, used) = load(u64::MAX, 1).await;
    let [(first, bytes)] = &files()[..] else {
        panic!("one file: {:?}", files())
    };
    let (_, unused) = load(u64::MAX, 2).await;
    drop(unused);
    assert_eq!(files().len(), 2);
    // A file that was being written when its process was killed; another that somebody writes now.
    fs::write(folder.path().join(".tmpold"), "x").expect("a file");
    fs::write(folder.path().join(".tmpnew"), "x").expect("a file");
    let old = std::time::SystemTime::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_modified(old);
    let unfinished = fs::File::open(folder.path().join(".tmpold")).expect("the file");
    unfinished.set_times(times).expect("its time");
    // There is room for two and a half.
    let (_, third) = load(bytes * 5 / 2, 3).await;
    let names: Vec<String> = files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(first), "it is in use");
    assert!(names.contains(&".tmpnew".to_owned()), "{names:?}");
    // What is in use stays also where there is room for nothing; the others go.
    drop(third);
    let (_, _fourth) = load(1, 4).await;
    let names: Vec<String> = files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names.len(),
        3,
        "the first, the newest, and the unfinished: {names:?}"
    );
    assert!(names.contains(first), "{names:?}");
    // It was there for a worker that opens it only now.
    let report = sandbox
        .call_agent(&used, invocation("do", "null"), call())
        .await
        .expect("the host is well");
    assert_eq!(report.outcome, Outcome::Returned("1".to_owned()));
}
