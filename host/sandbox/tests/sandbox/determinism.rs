//! The same call uses the same: what a call is given decides how much fuel and memory it needs, whatever else the machine
//! does, and however often its instance's place was used before.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde_json::{Value, json};
use troupe_sandbox::{
    Component, Error, HostCalls, HostFuture, MemoryAnswer, MemoryRequest, Report, Sandbox,
    SandboxConfig, Usage, memory,
};

use crate::clock::interview_call;
use crate::support::{
    artefact, call, call_tool, config, guest, invocation, program, run_guest, sandbox, target,
};

/// What must be the same of two calls.
fn essence(report: &Report) -> (String, Usage) {
    let usage = Usage {
        // Of the machine, not of the call.
        duration: Duration::ZERO,
        ..report.usage
    };
    (format!("{:?}", report.outcome), usage)
}

/// Where the interpreters are.
const PYTHON_AT: &str = "plugins/python.wasm";
const JAVASCRIPT_AT: &str = "plugins/javascript.wasm";

/// Source code that allocates, draws random numbers, goes through sets in the order of their hashes, fails, prints, and
/// computes for many ticks.
const PYTHON: &str = r#"
import random, time, json, sys
words = {f"word {random.random()}" for _ in range(2000)}
total = 0
for word in words:
    total = (total * 31 + len(word) + hash(word)) % 1000003
try:
    [][1]
except IndexError as error:
    print(error, time.time(), file=sys.stderr)
time.sleep(0.01)
text = "x" * 3_000_000
for i in range(150_000):
    total = (total * 7 + i * i) % 1000003
print(json.dumps({"total": total}))
with open("/tmp/a", "w") as file:
    file.write(text[:100_000])
result = [total, len(open("/tmp/a").read()), 0.1 * total]
"#;

const JAVASCRIPT: &str = r#"
const words = new Map();
for (let i = 0; i < 5000; i++) words.set(`word ${Math.random()}`, i);
let total = 0;
for (const [word, i] of words) total = (total * 31 + word.length + i + word.charCodeAt(7)) % 1000003;
for (let i = 0; i < 400000; i++) total = (total * 7 + i * i) % 1000003;
console.log(total, Date.now());
result = [total, Math.sqrt(total), Math.random()];
"#;

/// Runs a source file, with a scratch folder.
async fn run_program(
    sandbox: &Sandbox,
    component: &Component,
    (file, source): (&str, &str),
) -> Report {
    let mut call = call();
    call.grants.files = Some(troupe_sandbox::FilesGrant {
        folders: Vec::new(),
        scratch: Some(troupe_sandbox::ScratchGrant {
            at: "/tmp".to_owned(),
            bytes_max: 1 << 20,
            entries_max: 10,
        }),
    });
    let run = sandbox.execute(component, program(file, source), call);
    run.await.expect("the host is well")
}

async fn run_agent(name: &str, action: &str, input: &Value) -> Report {
    run_guest(name, invocation(action, &input.to_string()), call()).await
}

#[tokio::test]
async fn an_agent_a_program_and_a_tool_use_the_same_again() {
    let command = guest("command").await;
    let toolbox = guest("toolbox").await;
    let mut seen: Vec<Vec<(String, Usage)>> = Vec::new();
    for _ in 0..5 {
        let run = sandbox().run_command(&command, invocation("told", "[1, 2, 3]"), call());
        let command = run.await.expect("the host is well");
        let tool = call_tool(&toolbox, "fill", json!({ "count": 20_000 }), call());
        seen.push(vec![
            essence(&run_agent("surroundings", "look", &json!(null)).await),
            essence(&run_agent("surroundings", "print", &json!(100)).await),
            essence(&run_agent("ask", "log.write", &json!(["a", "b"])).await),
            essence(&command),
            essence(&tool.await),
        ]);
    }
    let first = seen.first().expect("five").clone();
    assert!(
        first
            .iter()
            .all(|(_, usage)| usage.fuel > 0 && usage.instances > 0),
        "{first:?}"
    );
    for other in seen {
        assert_eq!(other, first);
    }
}

#[tokio::test]
async fn a_repeated_call_with_the_recorded_answers_uses_the_same() {
    let run = async |slowness: u64| {
        let call = interview_call(Duration::from_millis(slowness), 1);
        let question = json!({ "assignees": ["ann"], "message": "May I?" });
        let input = json!({ "questions": [question, question] }).to_string();
        essence(&run_guest("interview", invocation("ask", &input), call).await)
    };
    let first = run(0).await;
    assert_eq!(run(0).await, first);
    assert_eq!(run(30).await, first, "slow answers");
}

#[tokio::test]
async fn python_and_javascript_use_the_same_in_a_first_and_in_a_used_place() {
    for (path, file, source) in [
        (PYTHON_AT, "a.py", PYTHON),
        (JAVASCRIPT_AT, "a.js", JAVASCRIPT),
    ] {
        let component = artefact(path).await;
        let first = essence(&run_program(sandbox(), &component, (file, source)).await);
        assert!(first.0.starts_with("Returned"), "{first:?}");
        for _ in 0..3 {
            let again = essence(&run_program(sandbox(), &component, (file, source)).await);
            assert_eq!(again, first, "{file}");
        }
        // Another engine, whose places nobody has used; in this process, wherever the others ran.
        let settings = SandboxConfig::new(target().join("compiled"));
        let fresh = Sandbox::new(settings).expect("a sandbox");
        let wasm = std::fs::read(target().join(path)).expect("the plugin");
        let component = fresh.load(Bytes::from(wasm)).await.expect("a component");
        let other = essence(&run_program(&fresh, &component, (file, source)).await);
        assert_eq!(other, first, "{file}, fresh");
    }
}

/// A guest that makes room for an answer grows its memory in the middle of a call of the host: what the call costs must
/// not be lost in that, whatever ticks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn room_for_large_answers_costs_the_same() {
    let run = || async {
        let requests: Vec<Value> = (0..40).map(|i| json!(["get", format!("{i}")])).collect();
        let mut call = call();
        call.grants.memory = Some(troupe_sandbox::MemoryGrant);
        call.limits.output_bytes_max = 8 << 20;
        call.host = Arc::new(Large);
        let invocation = invocation("keep", &json!(requests).to_string());
        run_guest("keeper", invocation, call).await
    };
    let first = run().await;
    assert!(first.usage.memory_bytes_peak > 2 << 20, "{first:?}");
    let first = essence(&first);
    for report in join_all((0..64).map(|_| run())).await {
        assert_eq!(essence(&report), first);
    }
}

/// A memory with a large value under each key.
struct Large;

impl HostCalls for Large {
    fn remember(&self, _request: MemoryRequest) -> HostFuture<'_, Result<MemoryAnswer, Error>> {
        let value = format!("\"{}\"", "v".repeat(60_000));
        let entry = memory::Entry { value, version: 7 };
        Box::pin(std::future::ready(Ok(MemoryAnswer::Entry(Some(entry)))))
    }
}

/// Ticks, yields and waiting for memory are the machine's, and nothing of the guest's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn load_beside_it_changes_nothing() {
    let mut settings = config(target().join("compiled"));
    settings.calls_max = 64;
    let crowded = Arc::new(Sandbox::new(settings).expect("a sandbox"));
    for (path, file, source) in [
        (PYTHON_AT, "a.py", PYTHON),
        (JAVASCRIPT_AT, "a.js", JAVASCRIPT),
    ] {
        let wasm = std::fs::read(target().join(path)).expect("the plugin");
        let component = crowded.load(Bytes::from(wasm)).await.expect("a component");
        let alone = essence(&run_program(&crowded, &component, (file, source)).await);
        let together = (0..64).map(|_| run_program(&crowded, &component, (file, source)));
        for report in join_all(together).await {
            assert_eq!(essence(&report), alone, "{file}");
        }
    }
}
