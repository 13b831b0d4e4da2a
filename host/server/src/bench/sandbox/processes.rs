//! The same programs in processes of the machine's own interpreters, which isolate nothing: `python3 -I` and `node`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};

use super::super::now;
use super::side::{Sides, batch};
use super::subject::{Ask, SNIPPETS, Snippet, SubjectKind};
use super::{SandboxBench, Times, ratio};

/// Processes that are started for each program.
const PROCESSES_MAX: usize = 40;
/// Calls of the sandbox between two of them.
const CALLS_BETWEEN: usize = 5;

pub(super) async fn measure(
    bench: &SandboxBench<'_>,
    say: &mut impl FnMut(&str),
) -> anyhow::Result<Value> {
    let sides = Sides::start(&bench.config, bench.limits)?;
    let mut figures = Vec::new();
    for snippet in &SNIPPETS {
        let Some(subject) = bench.subjects.find(snippet.kind) else {
            continue;
        };
        let (shown, program, arguments) = interpreter(snippet);
        let Some(program) = executable(program) else {
            say(&format!("{program} is not on this machine"));
            figures.push(json!({ "what": snippet.name, "process": shown, "missing": true }));
            continue;
        };
        say(&format!("{}, beside `{shown}` …", snippet.name));
        let ask = Ask::Program(snippet.source, 0);
        let [sandbox, bare] = sides.load(&subject.wasm, ask).await?;
        let [mut of_sandbox, mut of_bare, mut of_process] = [(); 3].map(|()| Times::default());
        let rounds = (bench.options.calls / 50).clamp(1, PROCESSES_MAX);
        for side in [&sandbox, &bare] {
            batch(side, 1, CALLS_BETWEEN).await?;
        }
        for _ in 0..rounds {
            of_bare.add(batch(&bare, 1, CALLS_BETWEEN).await?);
            of_sandbox.add(batch(&sandbox, 1, CALLS_BETWEEN).await?);
            of_process.add(process(&program, &arguments)?);
        }
        figures.push(json!({
            "what": snippet.name,
            "process": shown,
            "sandbox": of_sandbox.figures(),
            "bare": of_bare.figures(),
            "of_process": of_process.figures(),
            "process_times_sandbox": ratio(of_process.p50(), of_sandbox.p50()),
        }));
    }
    Ok(Value::Array(figures))
}

/// The interpreter itself: what is found by its name may be a script that chooses one, and takes longer than it.
fn executable(program: &str) -> Option<PathBuf> {
    let question = match program {
        "node" => ["-p", "process.execPath"],
        _ => ["-c", "import sys; print(sys.executable)"],
    };
    let output = Command::new(program).args(question).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| path.trim().into())
}

/// How a program is run by the machine's own interpreter, so that it prints its result.
fn interpreter(snippet: &Snippet) -> (&'static str, &'static str, Vec<String>) {
    match snippet.kind {
        SubjectKind::Python => {
            let source = format!("{}\nprint(result)", snippet.source);
            let arguments = vec!["-I".to_owned(), "-c".to_owned(), source];
            ("python3 -I", "python3", arguments)
        }
        _ => {
            let source = format!("{}\nconsole.log(result)", snippet.source);
            ("node", "node", vec!["-e".to_owned(), source])
        }
    }
}

fn process(program: &Path, arguments: &[String]) -> anyhow::Result<Times> {
    let begun = now();
    let output = tokio::task::block_in_place(|| Command::new(program).args(arguments).output())?;
    let took = begun.elapsed();
    ensure!(
        output.status.success() && !output.stdout.is_empty(),
        "{} does not run the program of the measurement: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Times {
        each: vec![took],
        took,
    })
}
