//! Bytes that are taken for a component and are none, or are one that asks for what nobody offers.

use bytes::Bytes;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use troupe_sandbox::{LoadError, Outcome, Sandbox};

use super::{good_call, returning};
use crate::support::{agent_wasm, call, config, invocation, limited, sandbox};

async fn refusal(wasm: impl Into<Bytes>) -> LoadError {
    let error = sandbox().load(wasm.into()).await;
    error.expect_err("this is no component for us")
}

/// Bytes that are the same in every run.
pub(super) fn random(seed: u32, length: usize) -> Vec<u8> {
    let mut whole = [0; 32];
    whole[..4].copy_from_slice(&seed.to_le_bytes());
    let mut bytes = vec![0; length];
    TestRng::from_seed(RngAlgorithm::ChaCha, &whole).fill_bytes(&mut bytes);
    bytes
}

#[tokio::test]
async fn random_bytes_are_no_component() {
    for seed in 0..50 {
        let bytes = random(seed, 1 << (seed % 16));
        assert!(matches!(refusal(bytes.clone()).await, LoadError::NotWasm));
        let component = [b"\0asm\x0d\0\x01\0", bytes.as_slice()].concat();
        assert!(matches!(refusal(component).await, LoadError::Invalid(_)));
        let module = [b"\0asm\x01\0\0\0", bytes.as_slice()].concat();
        assert!(matches!(refusal(module).await, LoadError::CoreModule));
    }
    good_call().await;
}

#[tokio::test]
async fn a_component_that_is_cut_is_none() {
    let whole = agent_wasm(&returning(4, ""));
    for end in 0..whole.len() {
        match sandbox().load(whole.slice(..end)).await {
            // Between two of its parts it is a component still, of fewer parts.
            Err(
                LoadError::NotWasm
                | LoadError::Invalid(_)
                | LoadError::WrongTypes(_)
                | LoadError::NothingToCall { .. },
            ) => {}
            Err(error) => panic!("{end}: {error:?}"),
            // All that is missing is what it says of the tools that made it.
            Ok(component) => {
                let report = sandbox().call_agent(&component, invocation("do", "null"), call());
                let outcome = report.await.expect("the host is well").outcome;
                assert_eq!(outcome, Outcome::Returned("null".to_owned()), "{end}");
            }
        }
    }
    good_call().await;
}

#[tokio::test]
async fn a_component_with_a_changed_byte_is_refused_or_ends_as_any_other() {
    let whole = agent_wasm(&returning(4, ""));
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path());
    config.calls_max = 1;
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let changes = random(1, 600);
    let mut ran = 0;
    for change in changes.chunks_exact(3) {
        let mut bytes = whole.to_vec();
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[place] ^= change[2].max(1);
        let Ok(component) = sandbox.load(bytes.into()).await else {
            continue;
        };
        let call = limited(|limits| {
            limits.fuel = 1_000_000;
            limits.memory_bytes_max = 16 << 20;
        });
        let asked = invocation("do", "null");
        // A component that cannot come to life is an error of its own; whatever it is, it is told.
        if sandbox.call_agent(&component, asked, call).await.is_ok() {
            ran += 1;
        }
    }
    assert!(ran > 20, "only {ran} of 200 ran at all");
    good_call().await;
}

/// A component that could be called, with something before it.
fn callable(part: &str) -> Bytes {
    let text = format!(
        r#"(component {part}
            (core module $callable (func (export "f"))) (core instance $callable (instantiate $callable))
            (func (export "f") (canon lift (core func $callable "f"))))"#
    );
    Bytes::from(wat::parse_str(text).expect("WebAssembly text"))
}

#[tokio::test]
async fn types_within_types_have_an_end() {
    sandbox().load(callable("")).await.expect("it is well so");
    let mut nested = "(type $t0 (list u8))".to_owned();
    for depth in 1..3_000 {
        nested.push_str(&format!("(type $t{depth} (list $t{}))", depth - 1));
    }
    // Where nothing can be called with them, types may be as deep as the validator allows.
    let _ = sandbox().load(callable(&nested)).await;
    let mut doubling = "(type $t0 (tuple u8 u8))".to_owned();
    for depth in 1..60 {
        doubling.push_str(&format!("(type $t{depth} (tuple $t{0} $t{0}))", depth - 1));
    }
    let error = refusal(callable(&doubling)).await;
    assert!(matches!(error, LoadError::Invalid(_)), "{error}");
    let instances = format!("{}{}", "(type (component ".repeat(45), "))".repeat(45));
    let _ = sandbox().load(callable(&instances)).await;
    good_call().await;
}

#[tokio::test]
async fn tables_and_memories_of_any_size_are_refused() {
    for part in [
        "(core module $m (table 0xffffffff funcref)) (core instance (instantiate $m))",
        "(core module $m (table 10000001 funcref)) (core instance (instantiate $m))",
        "(core module (memory 65537))",
        "(core module (memory i64 1))",
        "(core module (table i64 1 funcref))",
        "(core module (memory 1 65536 shared))",
        "(core module (tag (param i32)))",
        "(core module (func (throw_ref (unreachable))))",
        "(core module (type (array (mut i8))))",
        "(core module (func (param (ref null any))))",
        "(core module (func (param (ref func))))",
        "(core module (memory 1 (pagesize 1)))",
        "(core module (type $f (func)) (type (cont $f)))",
    ] {
        let error = refusal(callable(part)).await;
        assert!(matches!(error, LoadError::Invalid(_)), "{part}: {error}");
    }
    good_call().await;
}
