//! Functions of any component, called with JSON; what describes itself; and values that mean harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_sandbox::{
    ComponentKind, HostCalls, HostFuture, Limit, LoadError, Outcome, Report, ToolAnswer,
    ToolsGrant, TrapCode, UnknownFunction, tools,
};

use crate::support::{
    MEMORY, call, call_tool, guest, limited, returned, sandbox, target, tool_wasm,
};

async fn toolbox(function: &str, arguments: Value) -> Report {
    call_tool(&guest("toolbox").await, function, arguments, call()).await
}

fn everything() -> Value {
    json!({
        "truth": true, "a": -128, "b": 255, "c": -32768, "d": 65535, "e": i32::MIN, "f": u32::MAX,
        "g": i64::MIN.to_string(), "h": u64::MAX.to_string(), "i": 0.1, "j": "-Infinity",
        "letter": "\u{1f600}", "text": "a\u{0}ü\"", "bytes": "AAH/", "numbers": [1, 2, 65535],
        "pair": ["x", false],
        "shapes": [{"circle": 1.5}, {"polygon": [{"x": 1, "y": 2.5, "label": null}]}, "empty"],
        "level": "medium", "rights": ["read", "run"], "maybe": {"some": null}, "outcome": {"err": "no"},
    })
}

#[tokio::test]
async fn every_type_goes_in_and_comes_out() {
    let value = everything();
    assert_eq!(
        returned(toolbox("echo", json!({ "value": value })).await),
        value
    );
    let mut value = everything();
    value["maybe"] = json!({"some": 7});
    value["outcome"] = json!({"ok": null});
    (value["shapes"], value["rights"], value["bytes"]) = (json!([]), json!([]), json!(""));
    (value["g"], value["h"], value["j"]) = (json!(-5), json!(5), json!("NaN"));
    assert_eq!(
        returned(toolbox("echo", json!({ "value": value })).await),
        value
    );
}

#[tokio::test]
async fn functions_have_short_names_and_schemas() {
    let component = guest("toolbox").await;
    assert_eq!(component.kind(), ComponentKind::Tool);
    let mut names: Vec<&str> = component.functions().iter().map(|f| f.name()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "add",
            "check",
            "echo",
            "fail",
            "fill",
            "other.divide",
            "shout",
            "values.divide"
        ]
    );
    let long = component.function("acme:toolbox/values@1.2.0#divide");
    assert_eq!(long.expect("by its full name").name(), "values.divide");
    let divide = component.function("values.divide").expect("it is there");
    let integer = &divide.parameters_schema()["properties"]["a"]["type"];
    assert_eq!(integer, &json!(["integer", "string"]));
    assert_eq!(divide.result_schema()["type"], json!(["integer", "string"]));
    assert!(divide.error_schema().is_some());
    let shout = component.function("shout").expect("it is there");
    assert_eq!(shout.only_string_parameter(), Some("text"));
    assert_eq!(shout.parameters_schema()["required"], json!(["text"]));
    assert_eq!(shout.error_schema(), None);
    let check = component.function("check").expect("it is there");
    assert_eq!(check.result_schema(), json!({ "type": "null" }));

    let error = component.function("divide").expect_err("two bear the name");
    assert!(error.to_string().contains("`values.divide`"), "{error}");
    let error = component.function("open").expect_err("it gives a resource");
    assert!(matches!(&error, UnknownFunction::Refused { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the function `open` cannot be called: its result is or holds a resource (`own`), which cannot be passed as JSON"
    );
}

#[tokio::test]
async fn an_error_of_a_result_is_a_declined_outcome() {
    let divide = async |a: i64, b: i64| toolbox("values.divide", json!({ "a": a, "b": b })).await;
    assert_eq!(returned(divide(7, 2).await), json!(3));
    let declined = |report: Report| match report.outcome {
        Outcome::Declined(failure) => (failure.message, failure.details),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        declined(divide(1, 0).await),
        (
            "`values.divide` declined: division-by-zero".to_owned(),
            Some("\"division-by-zero\"".to_owned())
        )
    );
    let details = r#"{"too-large":2000}"#;
    assert_eq!(
        declined(divide(2_000, 1).await),
        (
            format!("`values.divide` declined: {details}"),
            Some(details.to_owned())
        )
    );
    let (message, _) = declined(toolbox("check", json!({ "text": "" })).await);
    assert_eq!(message, "`check` declined: the text is empty");
    assert_eq!(
        returned(toolbox("check", json!({ "text": "x" })).await),
        json!(null)
    );
}

#[tokio::test]
async fn wrong_arguments_never_reach_a_guest() {
    let component = guest("toolbox").await;
    let wrong = |function: &str, arguments: Value| {
        let function = component.function(function).expect("it is there");
        let error = function
            .read_arguments(&arguments)
            .expect_err("it is wrong");
        error.to_string()
    };
    assert_eq!(
        wrong("add", json!({ "a": 1, "b": -1 })),
        "/b: expected a whole number from 0 to 4294967295, found -1"
    );
    let mut value = everything();
    value["shapes"][1]["polygon"][0]["y"] = json!("far");
    assert_eq!(
        wrong("echo", json!({ "value": value })),
        "/value/shapes/1/polygon/0/y: expected a number, \"NaN\", \"Infinity\" or \"-Infinity\", found the text \"far\""
    );
}

#[tokio::test]
async fn a_function_that_fails_is_reported_as_an_agent_is() {
    let fail = async |how: &str| toolbox("fail", json!({ "how": how })).await;
    assert_eq!(fail("exit").await.outcome, Outcome::Exited(1));
    let report = fail("badly").await;
    assert!(
        matches!(&report.outcome, Outcome::Trapped(trap) if trap.code == TrapCode::Unreachable)
    );
    assert!(report.stderr.text.contains("badly"));
    let small = limited(|limits| limits.fuel = 100_000);
    let endless = call_tool(
        &guest("toolbox").await,
        "fail",
        json!({ "how": "loop" }),
        small,
    )
    .await;
    assert_eq!(endless.outcome, Outcome::LimitHit(Limit::Fuel));
    let short = limited(|limits| limits.output_bytes_max = 1_000);
    let much = call_tool(
        &guest("toolbox").await,
        "fill",
        json!({ "count": 1_000 }),
        short,
    )
    .await;
    assert_eq!(much.outcome, Outcome::LimitHit(Limit::Output));
    // More values at once than the host takes, whatever their text would be.
    let much = toolbox("fill", json!({ "count": 1_000_000 })).await;
    assert_eq!(much.outcome, Outcome::LimitHit(Limit::Output));
}

#[tokio::test]
async fn what_a_tool_says_of_itself_wins() {
    let component = guest("described").await;
    assert_eq!(component.kind(), ComponentKind::Tool);
    let description = component.description().expect("it describes itself");
    assert_eq!(description.name, "greeter");
    assert_eq!(description.description, "Greets, and was given nothing.");
    let greet = component.function("greet").expect("it is there");
    assert_eq!(greet.description(), Some("What `greet` does."));
    let parameters = greet.parameters_schema();
    assert_eq!(parameters["properties"]["name"]["examples"], json!(["Ada"]));
    assert_eq!(greet.result_schema(), json!(true));
    let wave = component.function("wave").expect("it is there");
    assert_eq!(wave.description(), None);
    let arguments = json!({ "name": "Ada", "polite": true });
    let report = call_tool(&component, "greet", arguments, call()).await;
    assert_eq!(returned(report), json!("Good day, Ada."));
}

#[tokio::test]
async fn an_agent_denied_its_tools_hears_so() {
    let report = crate::support::run_guest(
        "tooluser",
        crate::support::invocation("each", r#"[{"name": "calc.add", "arguments": {}}]"#),
        call(),
    )
    .await;
    let answer = returned(report);
    let error = answer["answers"][0]["error"].as_str().expect("an error");
    assert!(error.contains("may not use the tool `calc.add`"), "{error}");
}

/// Whoever asks it for a tool has it called, were it not for the grant; it counts.
#[derive(Default)]
struct Obliging(AtomicU32);

impl HostCalls for Obliging {
    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        _fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        let answer = |_| {
            self.0.fetch_add(1, Ordering::Relaxed);
            ToolAnswer {
                result: Ok("[]".to_owned()),
                fuel: 0,
            }
        };
        Box::pin(std::future::ready(
            requests.into_iter().map(answer).collect(),
        ))
    }
}

#[tokio::test]
async fn a_tool_that_calls_itself_is_denied_and_is_not_called() {
    let looper = guest("looper").await;
    let host = Arc::new(Obliging::default());
    let mut call = call();
    call.host = Arc::clone(&host) as Arc<dyn HostCalls>;
    let names = json!({ "names": ["looper.again", "tester"] });
    let report = call_tool(&looper, "again", names.clone(), call.clone()).await;
    assert_eq!(report.denials.len(), 3, "{:?}", report.denials);
    let heard = returned(report);
    let heard: Vec<&str> = heard
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    // What there is, each alone, and both at once.
    assert_eq!(heard.len(), 5);
    for heard in heard {
        assert!(heard.starts_with("Err(Error::Denied("), "{heard}");
    }
    assert_eq!(host.0.load(Ordering::Relaxed), 0);
    // It is the grant that stops it.
    call.grants.tools = Some(ToolsGrant {
        names: vec!["looper".to_owned()],
    });
    let heard = returned(call_tool(&looper, "again", names, call).await);
    assert_eq!(heard[1], "Ok(\"[]\")");
    assert_eq!(host.0.load(Ordering::Relaxed), 2);
    assert_eq!(
        returned(toolbox("add", json!({ "a": 1, "b": 2 })).await),
        json!(3)
    );
}

/// Calls the function `f` of a world that exports only it.
async fn hostile(signature: &str, module: &str) -> Outcome {
    let world = format!("world tool {{ export f: {signature}; }}");
    let component = sandbox()
        .load(tool_wasm(&world, module))
        .await
        .expect("a component");
    let small = limited(|limits| {
        limits.fuel = 100_000_000;
        limits.memory_bytes_max = 16 << 20;
    });
    let outcome = call_tool(&component, "f", json!({}), small).await.outcome;
    // Whatever happened: the next call is served.
    assert_eq!(
        returned(toolbox("add", json!({ "a": 1, "b": 2 })).await),
        json!(3)
    );
    outcome
}

fn is_invalid(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Trapped(trap) if trap.code == TrapCode::InvalidData)
}

#[tokio::test]
async fn values_that_are_none_end_their_guest() {
    let flat =
        |value: &str| format!("(module (func (export \"f\") (result i32) (i32.const {value})))");
    for value in ["0xd800", "0x110000", "-1"] {
        let outcome = hostile("func() -> char", &flat(value)).await;
        assert!(is_invalid(&outcome), "{value}: {outcome:?}");
    }
    let outcome = hostile(
        "func() -> option<u8>",
        &memory(16, "(data (i32.const 16) \"\\02\")"),
    )
    .await;
    assert!(is_invalid(&outcome), "{outcome:?}");
    let world = "world tool { enum e { a, b } export f: func() -> e; }";
    let component = sandbox().load(tool_wasm(world, &flat("2"))).await;
    let report = call_tool(&component.expect("a component"), "f", json!({}), call()).await;
    assert!(is_invalid(&report.outcome), "{report:?}");
    // A boolean and a small number are what the canonical ABI makes of any number.
    assert_eq!(
        hostile("func() -> bool", &flat("7")).await,
        Outcome::Returned("true".to_owned())
    );
    assert_eq!(
        hostile("func() -> u8", &flat("0x1ff")).await,
        Outcome::Returned("255".to_owned())
    );
}

/// A function that returns what lies at an address, with something put into memory.
fn memory(address: u32, data: &str) -> String {
    format!("(module {MEMORY} {data} (func (export \"f\") (result i32) (i32.const {address})))")
}

/// A pointer and a length at address 16.
fn pointing(pointer: &str, length: &str) -> String {
    memory(16, &format!("(data (i32.const 16) \"{pointer}{length}\")"))
}

#[tokio::test]
async fn lengths_that_lie_end_their_guest() {
    const GIBIBYTE: &str = "\\00\\00\\00\\40";
    for ty in [
        "string",
        "list<u8>",
        "list<u64>",
        "list<string>",
        "list<tuple<u8, list<u8>>>",
    ] {
        let signature = format!("func() -> {ty}");
        for (pointer, length) in [
            ("\\40\\00\\00\\00", GIBIBYTE),
            ("\\40\\00\\00\\00", "\\ff\\ff\\ff\\ff"),
            ("\\f8\\ff\\ff\\ff", "\\01\\00\\00\\00"),
            ("\\00\\00\\01\\00", "\\01\\00\\00\\00"),
        ] {
            let outcome = hostile(&signature, &pointing(pointer, length)).await;
            let is_stopped = is_invalid(&outcome) || outcome == Outcome::LimitHit(Limit::Output);
            assert!(is_stopped, "{ty} {length}: {outcome:?}");
        }
    }
    let outcome = hostile("func() -> string", &memory(0xffff, "")).await;
    assert!(matches!(outcome, Outcome::Trapped(_)), "{outcome:?}");
    let text = memory(
        16,
        "(data (i32.const 16) \"\\40\\00\\00\\00\\01\\00\\00\\00\") (data (i32.const 64) \"\\ff\")",
    );
    let outcome = hostile("func() -> string", &text).await;
    assert!(is_invalid(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn types_that_are_too_deep_or_too_large_are_refused_by_name() {
    let deep = format!("func() -> {}u8{}", "list<".repeat(40), ">".repeat(40));
    let world = format!("world tool {{ export f: {deep}; export g: func() -> u8; }}");
    let module = format!(
        "(module {MEMORY} (func (export \"f\") (result i32) (i32.const 0)) (func (export \"g\") (result i32) (i32.const 0)))"
    );
    let component = sandbox()
        .load(tool_wasm(&world, &module))
        .await
        .expect("g can be called");
    let error = component
        .function("f")
        .expect_err("it is too deep")
        .to_string();
    assert!(
        error.ends_with("its result is nested more than 32 levels deep"),
        "{error}"
    );

    // Types that share their parts: 2^13 of them in a few lines.
    let mut types = "type t0 = tuple<u8>;".to_owned();
    for level in 1..14 {
        types += &format!("type t{level} = tuple<t{0}, t{0}>;", level - 1);
    }
    let world = format!("world tool {{ {types} export f: func() -> list<t13>; }}");
    let error = sandbox().load(tool_wasm(&world, &memory(16, ""))).await;
    let error = error.expect_err("nothing is left to call");
    assert!(matches!(error, LoadError::NothingToCall { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("`f` cannot be called: its result has more than 2000 parts"),
        "{error}"
    );
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_before_it_is_compiled() {
    // The second function would not compile: it is never looked at.
    let broken = "(core module (func (result i32) (i64.const 0)))";
    for (text, reason) in [
        (
            format!("(component {broken})"),
            "exports nothing that can be called",
        ),
        (
            format!(
                "(component {broken} (import \"a:b/c\" (instance)) (import \"d:e/f@1.0.0\" (func)))"
            ),
            "what this host does not offer: a:b/c, d:e/f@1.0.0",
        ),
    ] {
        let wasm = wat::parse_str(&text).expect("WebAssembly text");
        let error = sandbox().load(wasm.into()).await.expect_err("it is no use");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let many = "(core module)".repeat(2_000);
    let wasm = wat::parse_str(format!("(component {many})")).expect("WebAssembly text");
    let error = sandbox()
        .load(wasm.into())
        .await
        .expect_err("it is too much");
    assert!(matches!(error, LoadError::Invalid(_)), "{error}");
    let mut nested = wat::parse_str("(component)").expect("WebAssembly text");
    let head = nested[..8].to_vec();
    for _ in 0..2_000 {
        let mut length = nested.len();
        let mut section = vec![4];
        while length > 0x7f {
            section.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        section.push(u8::try_from(length).expect("seven bits"));
        nested = [head.as_slice(), &section, &nested].concat();
    }
    let error = sandbox()
        .load(nested.into())
        .await
        .expect_err("it is no use");
    assert!(matches!(error, LoadError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn functions_beyond_the_most_are_refused() {
    let names = (0..600).map(|number| format!("(export \"f{number}\" (func $f))"));
    let exports: String = names.collect();
    let text = format!(
        r#"(component (core module $m (func (export "f"))) (core instance $m (instantiate $m))
            (func $f (canon lift (core func $m "f"))) {exports})"#
    );
    let wasm = wat::parse_str(text).expect("WebAssembly text");
    let component = sandbox().load(wasm.into()).await.expect("a component");
    assert_eq!(component.functions().len(), 500);
    let error = component.function("f500").expect_err("it is one too many");
    assert!(error.to_string().contains("more than the 500"), "{error}");
}

#[test]
fn bytes_of_any_kind_are_read_without_harm() {
    let whole = std::fs::read(target().join("guests/wasm32-wasip2/guest/examples/toolbox.wasm"))
        .expect("the guest, from the set-up");
    let end = whole.len();
    let changes = proptest::collection::vec((0..end, proptest::num::u8::ANY), 1..4);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(changes in changes, kept in 8..=end)| {
        let mut bytes = whole.clone();
        for (place, byte) in changes {
            bytes[place.max(8)] = byte;
        }
        // Whatever it says: it comes back.
        let _ = sandbox().inspect(&bytes);
        let _ = sandbox().inspect(&bytes[..kept]);
    });
}
