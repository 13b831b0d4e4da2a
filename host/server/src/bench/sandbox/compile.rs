//! Compiling: from bytes to a component that can be called, with nothing in the cache, and again with it there.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use troupe_sandbox::{Metering, Sandbox, SandboxConfig};

use super::super::{millis, now};
use super::side::bare_loop;
use super::{SandboxBench, ratio};

pub(super) async fn measure(
    bench: &SandboxBench<'_>,
    say: &mut impl FnMut(&str),
) -> anyhow::Result<Value> {
    let mut figures = Vec::new();
    for subject in bench.subjects.all() {
        let name = subject.kind.name();
        say(&format!("{name} is compiled with an empty cache …"));
        let settings = |folder: &str| SandboxConfig {
            cache_dir: bench.scratch.path().join(format!("{folder}-{name}")),
            calls_max: 1,
            ..bench.config.clone()
        };
        let config = settings("sandbox");
        let compiled = load(&config, &subject.wasm).await?;
        let again = load(&config, &subject.wasm).await?;
        let floor = bare_loop(&settings("bare"), Metering::FuelAndEpochs, bench.limits)?;
        let begun = now();
        tokio::task::block_in_place(|| floor.load(&subject.wasm))?;
        let bare = begun.elapsed();
        figures.push(json!({
            "what": name,
            "component_bytes": subject.wasm.len(),
            "compiled_ms": millis(compiled),
            "bare_compiled_ms": millis(bare),
            "compiled_times_bare": ratio(compiled, bare),
            "loaded_again_ms": millis(again),
        }));
    }
    Ok(Value::Array(figures))
}

/// How long a new sandbox takes to load a component.
async fn load(config: &SandboxConfig, wasm: &Bytes) -> anyhow::Result<Duration> {
    let sandbox = Sandbox::new(config.clone())?;
    let begun = now();
    sandbox.load(wasm.clone()).await?;
    Ok(begun.elapsed())
}
