//! `isolation = "process"`: components run in processes of their own, which have nothing that is worth having, and whose
//! end costs nobody anything that was answered.

use std::path::Path;
use std::time::Duration;

use e2e::loopback::{Loopback, Reply, Route};
use e2e::server::{Server, until};
use e2e::troupe::{OPENAI_KEY, Workplace, guest, step};
use serde_json::{Value, json};

const ISOLATED: &str = "[server]\nisolation = \"process\"\nworkers = 1\n";

/// Processes whose parent is this one.
fn children(id: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| parent(*child) == Some(id))
        .collect()
}

fn parent(id: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

async fn kill(id: u32) {
    let ended = tokio::process::Command::new("kill")
        .args(["-KILL", &id.to_string()])
        .status();
    assert!(ended.await.expect("it can be started").success());
}

/// Whether the memory that a process can write holds a text.
fn memory_holds(id: u32, text: &str) -> bool {
    use std::io::{Read as _, Seek as _};
    let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).expect("a process of ours");
    let mut memory = std::fs::File::open(format!("/proc/{id}/mem")).expect("a process of ours");
    maps.lines()
        .filter(|line| {
            line.split(' ')
                .nth(1)
                .is_some_and(|rights| rights.starts_with("rw"))
        })
        .any(|line| {
            let range = line.split(' ').next().unwrap_or_default();
            let ends = range.split_once('-').expect("a range");
            let [from, to] =
                [ends.0, ends.1].map(|end| u64::from_str_radix(end, 16).expect("an address"));
            let length = usize::try_from((to - from).min(64 << 20)).expect("a length");
            let mut bytes = vec![0; length];
            let seeked = memory.seek(std::io::SeekFrom::Start(from));
            if seeked.is_err() || memory.read_exact(&mut bytes).is_err() {
                return false;
            }
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
}

#[tokio::test]
async fn source_code_runs_as_it_does_in_one_process() {
    let place = Workplace::new();
    place.write("in/table.csv", "a,b\n1,2\n");
    std::fs::create_dir(place.path("out")).expect("a folder");
    let python = "
import csv, os, sys
rows = list(csv.DictReader(open('/in/table.csv')))
open('/out/rows.txt', 'w').write(str(rows))
os.rename('/out/rows.txt', '/out/renamed.txt')
os.mkdir('/out/folder')
open('/tmp/scratch', 'w').write('x' * 100_000)
big = [bytes(1_000_000) for _ in range(50)]
print('said')
result = [input, os.environ.get('NAME'), sys.stdin.read(), os.listdir('/in'), sorted(os.listdir('/out'))]
";
    place.write("code.py", python);
    place.write(
        "code.js",
        "result = { sum: input.a + 1 }; console.log('said')",
    );
    let options = [
        "exec",
        "code.py",
        "--json",
        "--input",
        "{\"a\": 1}",
        "--env",
        "NAME=value",
        "--stdin",
        "stdin.txt",
        "--folder",
        "/in=in",
        "--folder",
        "/out=out:rw",
    ];
    place.write("stdin.txt", "typed");
    let mut ran = Vec::new();
    for config in ["", ISOLATED] {
        place.write("troupe.toml", config);
        let ended = place.troupe(options).end().await.expect_code(0);
        let shown = ended.json();
        assert_eq!(
            shown["result"],
            json!([{ "a": 1 }, "value", "typed", ["table.csv"], ["folder", "renamed.txt"]]),
            "{ended}"
        );
        assert_eq!(shown["stdout"], "said\n");
        std::fs::remove_file(place.path("out/renamed.txt")).expect("it was written");
        std::fs::remove_dir(place.path("out/folder")).expect("it was made");
        let ended = place
            .troupe(["exec", "code.js", "--json", "--input", "{\"a\": 1}"])
            .end()
            .await;
        let javascript = ended.expect_code(0).json();
        assert_eq!(javascript["result"], json!({ "sum": 2 }));
        ran.push(shown["usage"]["memory_bytes"].clone());
    }
    assert_eq!(ran[0], ran[1], "both are metered alike");
    place.write("code.py", "open('/in/table.csv', 'w')");
    let denied = place.troupe(options).end().await.expect_code(1);
    assert!(
        denied.stdout.contains("add `:rw` to its --folder"),
        "{denied}"
    );
}

#[tokio::test]
async fn a_mistake_in_the_configuration_is_told() {
    let place = Workplace::new();
    place.write("code.js", "result = 1");
    for (config, says) in [
        ("isolation = \"processes\"", "in-process"),
        ("workers = 0", "nonzero"),
    ] {
        place.write("troupe.toml", format!("[server]\n{config}\n"));
        let refused = place.troupe(["exec", "code.js"]).end().await.expect_code(2);
        assert!(refused.stderr.contains(says), "{refused}");
    }
}

/// An agent that asks models, people and a model again.
fn interview(questions: &Value) -> Value {
    json!({
        "name": "Interview",
        "agents": [{
            "id": "reporter", "type": "code", "component": "agent.wasm", "timeout_ms": 60_000,
            "grants": { "llm": { "models": ["gpt-5-mini"] }, "human": true },
        }],
        "steps": [{ "id": "talk", "agent": "reporter", "action": "ask", "input": { "questions": questions } }],
        "config": { "max_retries": 0 },
    })
}

async fn interviewed(questions: &Value) -> (Loopback, Workplace) {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, ISOLATED);
    place.write("agent.wasm", guest("interview"));
    place.write("workflow.json", interview(questions).to_string());
    (loopback, place)
}

#[tokio::test]
async fn models_and_people_are_asked_through_the_process_that_has_the_keys() {
    let question = json!([{ "assignees": ["team@example.com"], "message": "May it?" }]);
    let (loopback, place) = interviewed(&question).await;
    loopback.always(Route::OpenAi, Reply::text("so it is"));
    let ended = place
        .troupe(["run", "workflow.json"])
        .end()
        .await
        .expect_code(3);
    let id = ended.id();
    let approve = place.troupe(["approve", &id, "--by", "ann"]).end().await;
    drop(approve.expect_code(0));
    let shown = place.show(&id).await;
    assert_eq!(shown["status"], "completed", "{shown:#}");
    assert_eq!(
        step(&shown, "talk")["output"]["second"],
        json!(["so it is"])
    );
    assert_eq!(step(&shown, "talk")["output"]["attempt"], 1);
    assert_eq!(loopback.requests().len(), 3, "none was asked twice");
}

/// Starts an interview on a server, and waits until it hangs at its third question to a model.
async fn hanging(loopback: &Loopback, place: &Workplace) -> (Server, String, u32) {
    loopback.script(
        Route::OpenAi,
        [Reply::text("one"), Reply::text("two"), Reply::hang()],
    );
    loopback.always(Route::OpenAi, Reply::text("so it is"));
    let server = Server::start(place.serve()).await;
    let stored = place
        .troupe(["workflow", "create", "workflow.json", "--json"])
        .end()
        .await;
    let stored = stored.expect_code(0).json()["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let started = server
        .post(
            &format!("/v1/orchestrate/workflows/{stored}/run"),
            &json!({ "inputs": {} }),
        )
        .await;
    assert!(started.status < 300, "{started:?}");
    let id = started.body["id"].as_str().expect("an id").to_owned();
    loopback.wait_for(3).await;
    let workers = children(server.pid());
    assert_eq!(workers.len(), 1, "{workers:?}");
    (server, id, workers[0])
}

#[tokio::test]
async fn a_worker_that_is_killed_is_replaced_and_its_step_goes_on_with_the_answers_it_got() {
    let (loopback, place) = interviewed(&json!([])).await;
    let (server, id, worker) = hanging(&loopback, &place).await;
    kill(worker).await;
    let shown = until(async || {
        let path = format!("/v1/orchestrate/executions/{id}");
        let shown = server.get(&path).await.body;
        (shown["status"] == "completed").then_some(shown)
    });
    let shown = shown
        .await
        .unwrap_or_else(|| panic!("it did not end: {}", server.said()));
    let output = &step(&shown, "talk")["output"];
    assert_eq!(output["second"], json!(["so it is"]), "{shown:#}");
    // Two were answered and are not asked again, one had no answer and is.
    assert_eq!(loopback.requests().len(), 4);
    assert!(
        server.said().contains("a worker ended while it had calls"),
        "{}",
        server.said()
    );
    let events = place.events(&id).await;
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    // As if the whole process had ended: no attempt of the step's is used up.
    assert_eq!((count("step_interrupted"), count("step_failed")), (1, 0));
    assert!(server.terminate().await.success());
}

/// Processor time that a process has used, in hundredths of a second.
fn computed(id: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_name, rest) = stat.rsplit_once(')')?;
    rest.split(' ').nth(12)?.parse().ok()
}

#[tokio::test]
async fn a_tool_whose_worker_is_killed_is_paid_at_the_most_that_it_could_use() {
    let place = Workplace::new();
    // The agent in one, its tool in the other.
    let server = ISOLATED.replace("workers = 1", "workers = 2");
    place.write(
        "troupe.toml",
        format!("{server}[limits]\nfuel = 10000000000000\n"),
    );
    for name in ["toolbox", "tooluser"] {
        place.write(&format!("{name}.wasm"), guest(name));
    }
    let tool = json!({ "name": "toolbox", "component": "toolbox.wasm", "limits": { "fuel": 400_000_000_000_u64 } });
    let document = json!({
        "name": "Tools",
        "agents": [
            { "id": "box", "type": "tool", "tools": [tool] },
            { "id": "user", "type": "code", "component": "tooluser.wasm", "grants": { "tools": ["box"] } },
        ],
        "steps": [{
            "id": "it", "agent": "user", "action": "each",
            "input": [{ "name": "toolbox.fail", "arguments": { "how": "loop" } }],
        }],
    });
    place.write("workflow.json", document.to_string());
    let server = Server::start(place.serve()).await;
    let stored = place.troupe(["workflow", "create", "workflow.json", "--json"]);
    let stored = stored.end().await.expect_code(0).json();
    let stored = stored["id"].as_str().expect("an id");
    let path = format!("/v1/orchestrate/workflows/{stored}/run");
    let started = server.post(&path, &json!({ "inputs": {} })).await;
    let id = started.body["id"].as_str().expect("an id").to_owned();
    let busy = until(async || {
        let mut workers = children(server.pid()).into_iter();
        workers.find(|worker| computed(*worker).is_some_and(|hundredths| hundredths > 50))
    });
    kill(busy.await.expect("a worker in which the tool loops")).await;
    let shown = until(async || {
        let path = format!("/v1/orchestrate/executions/{id}");
        let shown = server.get(&path).await.body;
        (shown["status"] == "completed").then_some(shown)
    });
    let shown = shown
        .await
        .unwrap_or_else(|| panic!("it did not end: {}", server.said()));
    let answered = &step(&shown, "it")["output"]["answers"][0];
    assert!(answered["error"].is_string(), "{shown:#}");
    let fuel = step(&shown, "it")["usage"]["fuel"].as_u64();
    let expected = 400_000_000_000..400_100_000_000;
    assert!(
        fuel.is_some_and(|fuel| expected.contains(&fuel)),
        "{shown:#}"
    );
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn a_worker_has_nothing_worth_having() {
    let (loopback, place) = interviewed(&json!([])).await;
    let (server, _id, worker) = hanging(&loopback, &place).await;
    // The server has it in its memory, so that it would be found there.
    assert!(memory_holds(server.pid(), OPENAI_KEY));
    assert!(!memory_holds(worker, OPENAI_KEY));
    let environment = std::fs::read(format!("/proc/{worker}/environ")).expect("ours");
    assert_eq!(environment, b"");
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("ours");
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{status}");
    }
    for entry in std::fs::read_dir(format!("/proc/{worker}/fd"))
        .expect("ours")
        .flatten()
    {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let is_in = |folder: &str| target.starts_with(Path::new(&place.path(folder)));
        assert!(!is_in("data"), "it has {} open", target.display());
    }
    server.kill().await;
    // Who has nobody to work for ends.
    let gone = until(async || (!Path::new(&format!("/proc/{worker}")).exists()).then_some(()));
    let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
    assert!(gone.is_ok_and(|gone| gone.is_some()));
}
