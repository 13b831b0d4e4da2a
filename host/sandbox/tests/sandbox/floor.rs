//! The bare loop that benchmarks compare with: it calls what the sandbox calls, as often at once as it has places for, and
//! gives nothing.

use std::sync::Arc;

use serde_json::json;
use troupe_sandbox::floor::{Floor, FloorError, Work};
use troupe_sandbox::{Component, Limits, Metering};

use crate::support::{guest, invocation, target};

fn floor(calls_max: u32, metering: Metering) -> Floor {
    let cache = target().join("compiled");
    Floor::new(&cache, calls_max, metering, Limits::STANDARD).expect("a bare loop")
}

fn wasm(name: &str) -> Vec<u8> {
    let path = format!("guests/wasm32-wasip2/guest/examples/{name}.wasm");
    std::fs::read(target().join(path)).expect("a guest that the set-up built")
}

fn function(component: &Component, name: &str, arguments: &serde_json::Value) -> Work {
    let function = component.function(name).expect("the function").clone();
    let arguments = function.read_arguments(arguments).expect("arguments");
    Work::Function(function, arguments)
}

fn agent(action: &str) -> Work {
    Work::Agent(invocation(action, "null"))
}

#[tokio::test]
async fn what_is_no_part_of_wasi_traps_and_the_rest_is_called() {
    let floor = floor(1, Metering::FuelAndEpochs);
    let ask = floor.load(&wasm("ask")).expect("a component");
    let denied = floor.call(&ask, &agent("llm.models")).await;
    let Err(FloorError::Call(error)) = denied else {
        panic!("{denied:?}");
    };
    assert!(
        format!("{error:#}").contains("the bare loop has no"),
        "{error:#}"
    );
    let called = floor.call(&ask, &agent("nothing")).await;
    assert!(called.is_ok(), "{called:?}");
    let toolbox = floor.load(&wasm("toolbox")).expect("a component");
    let add = function(&guest("toolbox").await, "add", &json!({ "a": 1, "b": 2 }));
    let added = floor.call(&toolbox, &add).await;
    assert!(added.is_ok(), "{added:?}");
    assert!(floor.call(&toolbox, &agent("nothing")).await.is_err());
}

#[tokio::test]
async fn without_meters_the_same_work_is_done() {
    let work = guest("work").await;
    let compute = function(&work, "compute", &json!({ "rounds": 1_000 }));
    for metering in [Metering::Nothing, Metering::Fuel, Metering::Epochs] {
        let floor = floor(1, metering);
        let component = floor.load(&wasm("work")).expect("a component");
        let computed = floor.call(&component, &compute).await;
        assert!(computed.is_ok(), "{metering:?}: {computed:?}");
    }
}

/// What a call leaves is given back to the system together with that of others, and is nobody's meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_calls_as_there_are_places_are_never_refused() {
    let floor = Arc::new(floor(2, Metering::FuelAndEpochs));
    let component = Arc::new(floor.load(&wasm("toolbox")).expect("a component"));
    let add = Arc::new(function(
        &guest("toolbox").await,
        "add",
        &json!({ "a": 1, "b": 2 }),
    ));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (floor, component, add) = (floor.clone(), component.clone(), add.clone());
        callers.spawn(async move {
            for _ in 0..500 {
                floor.call(&component, &add).await?;
            }
            Ok::<_, FloorError>(())
        });
    }
    while let Some(called) = callers.join_next().await {
        let called = called.expect("no panic");
        assert!(called.is_ok(), "{called:?}");
    }
}
