//! `troupe bench sandbox`: that every figure is there beside its floor. How large they are depends on the machine, and no
//! test says.

use e2e::troupe::{Ended, Workplace, guest};
use serde_json::Value;

const CALLS: [&str; 4] = ["--calls", "4", "--at-once", "1,2"];

/// A folder with the guests that are measured.
async fn bench(options: &[&str]) -> Ended {
    let place = Workplace::new();
    for name in ["echo", "toolbox", "ask", "work"] {
        place.write(&format!("guests/{name}.wasm"), guest(name));
    }
    let arguments = [&["bench", "sandbox", "--guests", "guests"], options].concat();
    place.troupe(arguments).end().await
}

fn each<'a>(figures: &'a Value, part: &str) -> &'a [Value] {
    let list = figures[part].as_array();
    list.unwrap_or_else(|| panic!("no {part}: {figures:#}"))
}

#[track_caller]
fn are_positive(figures: &Value, names: &[&str]) {
    for name in names {
        let pointer = format!("/{}", name.replace('.', "/"));
        let number = figures.pointer(&pointer).and_then(Value::as_f64);
        assert!(
            number.is_some_and(|number| number > 0.0),
            "{name}: {figures:#}"
        );
    }
}

const BOTH_SIDES: [&str; 7] = [
    "sandbox.p50_us",
    "sandbox.p99_us",
    "sandbox.calls_per_second",
    "bare.p50_us",
    "bare.p99_us",
    "bare.calls_per_second",
    "calls",
];

#[tokio::test]
async fn small_components_are_measured_in_every_way() {
    let options = [
        &CALLS[..],
        &[
            "--of",
            "empty,agent,tool",
            "--instances",
            "3",
            "--work",
            "1",
        ],
    ]
    .concat();
    let figures = bench(&options).await.expect_code(0).json();
    let calls = each(&figures, "calls");
    let measured: Vec<_> = calls
        .iter()
        .map(|it| (it["what"].as_str(), it["at_once"].as_u64()))
        .collect();
    let expected =
        ["empty", "agent", "tool"].map(|what| [1, 2].map(|at_once| (Some(what), Some(at_once))));
    assert_eq!(measured, expected.as_flattened());
    for call in calls {
        are_positive(call, &BOTH_SIDES);
        are_positive(call, &["p50_times_bare"]);
    }
    let memory = each(&figures, "memory");
    let held: Vec<_> = memory
        .iter()
        .map(|it| (it["what"].as_str(), it["instances"].as_u64()))
        .collect();
    assert_eq!(held, [(Some("empty"), Some(3)), (Some("agent"), Some(3))]);
    let meters = each(&figures, "meters");
    assert_eq!(meters.len(), 1, "{figures:#}");
    are_positive(
        &meters[0],
        &[
            "unmetered_us",
            "fuel_times_unmetered",
            "epochs_times_unmetered",
            "both_times_unmetered",
            "sandbox_times_unmetered",
        ],
    );
    let compiled = each(&figures, "compile");
    assert_eq!(compiled.len(), 3, "{figures:#}");
    for component in compiled {
        are_positive(
            component,
            &[
                "component_bytes",
                "compiled_ms",
                "bare_compiled_ms",
                "loaded_again_ms",
            ],
        );
    }
}

#[tokio::test]
async fn programs_are_measured_beside_the_machines_own_interpreters() {
    let options = [
        &CALLS[..],
        &["--of", "javascript,python", "--parts", "calls,processes"],
    ]
    .concat();
    let figures = bench(&options).await.expect_code(0).json();
    let programs = each(&figures, "programs");
    assert_eq!(programs.len(), 4, "{figures:#}");
    assert_eq!(each(&figures, "calls").len(), 8, "{figures:#}");
    for measured in each(&figures, "processes") {
        if measured["missing"] == true {
            continue; // Not every machine has both.
        }
        are_positive(measured, &BOTH_SIDES[..6]);
        are_positive(measured, &["of_process.p50_us", "process_times_sandbox"]);
    }
    assert_eq!(figures["memory"], Value::Null, "it was not asked for");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let place = Workplace::new();
    let ended = place
        .troupe(["bench", "sandbox", "--guests", "nowhere"])
        .end()
        .await
        .expect_code(1);
    assert!(
        ended.stderr.contains("nowhere/echo.wasm") && ended.stderr.contains("cargo xtask setup"),
        "{ended}"
    );
    let ended = place.troupe(["bench"]).end().await.expect_code(2);
    assert!(ended.stderr.contains("--component FILE"), "{ended}");
}
