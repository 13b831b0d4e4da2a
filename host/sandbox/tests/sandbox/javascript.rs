//! JavaScript source in the interpreter that ships with Troupe.

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use troupe_sandbox::{
    Call, Component, ContextGrant, Exception, Grants, Limit, Outcome, Program, Report, TrapCode,
};

use crate::support::{artefact, call, limited, program, returned, sandbox};

pub(crate) async fn javascript() -> &'static Component {
    static JAVASCRIPT: OnceCell<Component> = OnceCell::const_new();
    JAVASCRIPT
        .get_or_init(|| artefact("plugins/javascript.wasm"))
        .await
}

pub(crate) async fn execute(program: Program, call: Call) -> Report {
    sandbox()
        .execute(javascript().await, program, call)
        .await
        .expect("the host is well")
}

pub(crate) async fn run(source: &str) -> Report {
    execute(program("agent.js", source), call()).await
}

pub(crate) async fn result(source: &str) -> Value {
    returned(run(source).await)
}

pub(crate) async fn exception(source: &str) -> Exception {
    match run(source).await.outcome {
        Outcome::Raised(exception) => exception,
        other => panic!("{source}: {other:?}"),
    }
}

#[tokio::test]
async fn the_result_is_what_is_returned_or_the_variable_or_the_function() {
    assert_eq!(result("return 1").await, json!(1));
    assert_eq!(result("let result = 2 // the end").await, json!(2));
    assert_eq!(result("result = 3").await, json!(3));
    assert_eq!(
        result("function main(x) { return [x, 'called'] }").await,
        json!([null, "called"])
    );
    assert_eq!(result("const main = (x) => 4").await, json!(4));
    assert_eq!(result("1 + 1").await, json!(null));
    assert_eq!(result("").await, json!(null));
    assert_eq!(
        result("const input = 5, context = 6; return input + context").await,
        json!(11)
    );
    let parse = Program {
        action: "parseInt".to_owned(),
        ..program("agent.js", "1")
    };
    assert_eq!(
        returned(execute(parse, call()).await),
        json!(null),
        "a function that the source did not define"
    );
    let reserved = Program {
        action: "class".to_owned(),
        ..program("agent.js", "return 7")
    };
    assert_eq!(returned(execute(reserved, call()).await), json!(7));
}

#[tokio::test]
async fn the_input_is_a_value_and_never_source() {
    let input = json!({"text": "`${1}\"; throw 1 //\u{2028}"});
    let program = Program {
        input: input.to_string(),
        ..program("agent.js", "return input.text")
    };
    assert_eq!(returned(execute(program, call()).await), input["text"]);
}

#[tokio::test]
async fn the_context_is_read_when_it_is_looked_at() {
    let call = || Call {
        grants: Grants {
            context: Some(ContextGrant),
            ..Grants::none()
        },
        ..call()
    };
    let report = execute(
        program(
            "agent.js",
            "return [context.inputs, Object.keys(context.outputs)]",
        ),
        call(),
    )
    .await;
    assert_eq!(report.usage.host_calls, 2);
    assert_eq!(returned(report), json!([{}, []]));
    let unread = execute(program("agent.js", "return typeof context"), call()).await;
    assert_eq!(unread.usage.host_calls, 0);
}

#[tokio::test]
async fn what_is_printed_is_kept_also_when_the_program_is_stopped() {
    let source = "console.log('é😀', {a: [1]}, undefined, 1n); console.error(new TypeError('no')); while (true);";
    let report = execute(
        program("agent.js", source),
        limited(|limits| limits.fuel = 100_000_000),
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
    assert_eq!(report.stdout.text, "é😀 {\"a\":[1]} undefined 1n\n");
    assert_eq!(report.stderr.text, "TypeError: no\n");
    let long = run("console.log('x'.repeat(100000))").await;
    assert_eq!(long.usage.stdout_bytes, 100_001);
}

#[tokio::test]
async fn an_exception_has_the_authors_line_and_frames_only() {
    let exception_of = exception("const a = 1;\nfunction g() {\n  null.x;\n}\ng();").await;
    assert_eq!(
        (exception_of.kind.as_str(), exception_of.line),
        ("TypeError", Some(3))
    );
    assert_eq!(
        exception_of.traceback,
        "TypeError: cannot read property 'x' of null\n    at g (agent.js:3:3)\n    at agent.js:5:1\n"
    );
    let syntax = exception("const a = 1;\nconst b = ;\n").await;
    assert_eq!(
        (syntax.kind.as_str(), syntax.line),
        ("SyntaxError", Some(2))
    );
    let unfinished = exception("if (true) {\n").await;
    assert_eq!(
        (unfinished.kind.as_str(), unfinished.line),
        ("SyntaxError", Some(2))
    );
    let caused =
        exception("try { null.x } catch (e) { throw new Error('outer', {cause: e}) }").await;
    assert!(
        caused
            .traceback
            .contains("Caused by: TypeError: cannot read"),
        "{}",
        caused.traceback
    );
}

#[tokio::test]
async fn anything_may_be_thrown() {
    assert_eq!(exception("throw 'a text'").await.message, "a text");
    assert_eq!(exception("throw null").await.message, "null");
    assert_eq!(
        exception("throw { get name() { throw 1 }, toString() { throw 2 } }")
            .await
            .kind,
        "Error"
    );
    let hostile = "const e = new Error('\\ud800'); Object.defineProperty(e, 'name', {get() { throw 1 }}); throw e";
    assert_eq!(exception(hostile).await.message, "\u{fffd}");
}

#[tokio::test]
async fn values_become_json_or_the_error_names_their_place() {
    let source = "return {a: undefined, d: new Date(0), s: new Set([1]), m: new Map([['x', null]]), n: -0.5, t: new Uint8Array(2)}";
    let expected = json!({"d": "1970-01-01T00:00:00.000Z", "s": [1], "m": {"x": null}, "n": -0.5, "t": [0, 0]});
    assert_eq!(result(source).await, expected);
    for (source, message) in [
        (
            "return {items: [1, 2n]}",
            "result.items[1] is a BigInt, which has no JSON form; use Number(…) or String(…)",
        ),
        (
            "return {items: [NaN]}",
            "result.items[0] is NaN, which JSON cannot express",
        ),
        (
            "return [undefined]",
            "result[0] is undefined, which has no JSON form",
        ),
        (
            "return {f() {}}",
            "result.f is a function, which has no JSON form",
        ),
        (
            "const a = {}; a.self = {a}; return a",
            "result.self.a contains itself",
        ),
        (
            "return {'a b': '\\ud800'}",
            "result[\"a b\"] holds half a character (a lone surrogate)",
        ),
        (
            "return new Proxy({}, { ownKeys() { throw new Error('a trap') } })",
            "a trap",
        ),
        ("return { toJSON() { throw new Error('mine') } }", "mine"),
        (
            "return { get a() { return this.b } , get b() { throw new Error('got') } }",
            "got",
        ),
    ] {
        assert_eq!(exception(source).await.message, message, "{source}");
    }
    let deep = exception("let a = []; for (let i = 0; i < 500; i++) a = [a]; return a").await;
    assert!(
        deep.message
            .ends_with("is nested more than 120 levels deep"),
        "{}",
        deep.message
    );
}

#[tokio::test]
async fn promises_are_refused_with_a_reason() {
    for source in [
        "async function main() {}",
        "return Promise.resolve(1)",
        "result = (async () => 1)()",
    ] {
        let message = exception(source).await.message;
        assert!(
            message.starts_with("the result is a promise, and promises never settle here"),
            "{source}: {message}"
        );
    }
}

#[tokio::test]
async fn random_differs_between_calls_and_time_is_the_calls() {
    assert_eq!(
        result("return Math.floor(Date.now() / 1000)").await,
        json!(1_800_000_000)
    );
    let random = async |seed: u8| {
        let source = program("agent.js", "return [Math.random(), Math.random()]");
        returned(
            execute(
                source,
                Call {
                    seed: [seed; 32],
                    ..call()
                },
            )
            .await,
        )
    };
    let (one, other) = (random(1).await, random(2).await);
    assert_eq!(one, random(1).await);
    assert_ne!(one, other);
    assert_ne!(one[0], one[1]);
    assert!(one[0].as_f64().expect("a number") < 1.0);
}

#[tokio::test]
async fn there_is_nothing_of_the_host() {
    let source = "return ['require', 'process', 'fetch', 'XMLHttpRequest', 'std', 'os', '__cqjs', 'wit', 'setTimeout']
        .map((name) => typeof globalThis[name])";
    assert_eq!(result(source).await, json!(vec!["undefined"; 9]));
    assert_eq!(exception("import fs from 'fs'").await.kind, "SyntaxError");
    let constructor = "return [].constructor.constructor('return typeof process')()";
    assert_eq!(result(constructor).await, json!("undefined"));
}

#[tokio::test]
async fn a_program_that_needs_too_much_is_stopped_and_the_next_one_runs() {
    let memory = exception("const a = []; while (true) a.push(new Array(100000).fill(1));").await;
    assert_eq!(
        (memory.kind.as_str(), memory.message.as_str()),
        ("InternalError", "out of memory")
    );
    assert_eq!(
        exception("return new ArrayBuffer(4e9)").await.kind,
        "RangeError"
    );
    for recursion in [
        "function f() { return f() + 1 } f()",
        "return JSON.parse('['.repeat(100000))",
    ] {
        let outcome = run(recursion).await.outcome;
        assert!(
            matches!(&outcome, Outcome::Trapped(trap) if trap.code == TrapCode::StackOverflow),
            "{outcome:?}"
        );
    }
    let regex = "return /(a+)+$/.test('a'.repeat(40) + 'b')";
    let report = execute(
        program("agent.js", regex),
        limited(|limits| limits.fuel = 200_000_000),
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
    let sabotage =
        run("Object.prototype.hasOwnProperty = null; globalThis.Object = 1; throw new Error('x')")
            .await;
    assert!(matches!(sabotage.outcome, Outcome::Trapped(_)));
    assert_eq!(result("return 1 + 1").await, json!(2));
}
