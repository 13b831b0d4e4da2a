//! What is called: components, and what is asked of them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};
use troupe_sandbox::floor::Work;
use troupe_sandbox::{Component, Invocation, Program};

use super::super::payload;
use super::SandboxBenchOptions;

/// A kind of component that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SubjectKind {
    /// A component of a dozen lines of WebAssembly text
    Empty,
    /// An agent in Rust: JSON in, JSON out
    Agent,
    /// A tool in Rust with functions of its own
    Tool,
    /// The interpreter of JavaScript
    #[value(name = "javascript")]
    JavaScript,
    /// The interpreter of Python
    Python,
}

impl SubjectKind {
    /// All, the smallest first.
    pub(crate) const ALL: [SubjectKind; 5] = [
        SubjectKind::Empty,
        SubjectKind::Agent,
        SubjectKind::Tool,
        SubjectKind::JavaScript,
        SubjectKind::Python,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            SubjectKind::Empty => "empty",
            SubjectKind::Agent => "agent",
            SubjectKind::Tool => "tool",
            SubjectKind::JavaScript => "javascript",
            SubjectKind::Python => "python",
        }
    }
}

/// A component that is measured.
pub(super) struct Subject {
    pub(super) kind: SubjectKind,
    pub(super) wasm: Bytes,
}

/// What a component is asked to do, before it is loaded.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// Answer at once.
    Empty,
    /// Give back a JSON document of one kibibyte.
    Echo,
    /// A function, and its arguments as JSON.
    Function(&'static str, Arguments),
    /// Run a program that sets `result`. Its input is a number.
    Program(&'static str, u32),
    /// Wait for the host in `context.inputs`, in the first kind of component.
    WaitInEmpty,
    /// The same in an agent.
    WaitInAgent,
}

/// Arguments of a function.
#[derive(Clone, Copy)]
pub(super) enum Arguments {
    /// A text.
    Shout,
    /// Rounds of the work.
    Rounds(u32),
}

impl Arguments {
    fn to_json(self) -> Value {
        match self {
            Arguments::Shout => json!({ "text": "the quick brown fox", "times": 3 }),
            Arguments::Rounds(rounds) => json!({ "rounds": rounds }),
        }
    }
}

impl Ask {
    /// What is asked, in the terms of the loaded component.
    pub(super) fn work(self, component: &Component) -> anyhow::Result<Work> {
        let function = |name: &str, arguments: &Value| {
            let function = component.function(name)?.clone();
            let arguments = function.read_arguments(arguments)?;
            anyhow::Ok(Work::Function(function, arguments))
        };
        Ok(match self {
            Ask::Empty => function("answer", &json!({}))?,
            Ask::WaitInEmpty => function("wait", &json!({}))?,
            Ask::Function(name, arguments) => function(name, &arguments.to_json())?,
            Ask::Echo => Work::Agent(invocation("go", json!(payload()).to_string())),
            Ask::WaitInAgent => Work::Agent(invocation("context.inputs", "null".to_owned())),
            Ask::Program(source, input) => Work::Program(Program {
                source: source.to_owned(),
                filename: "bench".to_owned(),
                input: input.to_string(),
                action: "main".to_owned(),
                stdin: Bytes::new(),
            }),
        })
    }
}

fn invocation(action: &str, input: String) -> Invocation {
    Invocation {
        action: action.to_owned(),
        input,
        execution: "exec_bench".to_owned(),
        workflow: "bench".to_owned(),
        step: "s".to_owned(),
        attempt: 1,
        idempotency_key: "exec_bench/s/1".to_owned(),
    }
}

/// Something that is measured: its name, its component and what is asked of it.
pub(super) struct Case<'a> {
    pub(super) name: String,
    pub(super) wasm: &'a Bytes,
    pub(super) ask: Ask,
    /// How many calls stand for one of a small component.
    pub(super) weight: usize,
}

/// A program of a few lines, as the peers are given it too.
pub(super) struct Snippet {
    pub(super) kind: SubjectKind,
    pub(super) name: &'static str,
    pub(super) source: &'static str,
}

/// The programs that interpreters run. Each sets `result`; whoever runs it gets that out in its own way.
pub(super) const SNIPPETS: [Snippet; 4] = [
    Snippet {
        kind: SubjectKind::JavaScript,
        name: "javascript 1 + 1",
        source: "const result = 1 + 1;",
    },
    Snippet {
        kind: SubjectKind::JavaScript,
        name: "javascript words",
        source: r#"const text = "the quick brown fox jumps over the lazy dog and the cat";
const counts = {};
for (const word of text.match(/\w+/g)) counts[word] = (counts[word] ?? 0) + 1;
const result = JSON.stringify(counts);"#,
    },
    Snippet {
        kind: SubjectKind::Python,
        name: "python 1 + 1",
        source: "result = 1 + 1",
    },
    Snippet {
        kind: SubjectKind::Python,
        name: "python words",
        source: r#"import json, re
text = "the quick brown fox jumps over the lazy dog and the cat"
counts = {}
for word in re.findall(r"\w+", text):
    counts[word] = counts.get(word, 0) + 1
result = json.dumps(counts)"#,
    },
];

/// A component that answers a number, and that can wait for the host. Everything else that is asked of a component is in
/// the others.
const EMPTY: &str = r#"(component
    (import "troupe:agent/context@0.1.0" (instance $context
        (export "inputs" (func (result string)))))
    (core module $room
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
    (core instance $room (instantiate $room))
    (core func $inputs (canon lower (func $context "inputs")
        (memory (core memory $room "memory")) (realloc (core func $room "realloc"))))
    (core module $main
        (import "host" "inputs" (func $inputs (param i32)))
        (func (export "wait") i32.const 16 call $inputs)
        (func (export "answer") (result i32) i32.const 42))
    (core instance $main (instantiate $main
        (with "host" (instance (export "inputs" (func $inputs))))))
    (func (export "answer") (result u32) (canon lift (core func $main "answer")))
    (func (export "wait") (canon lift (core func $main "wait"))))"#;

/// The components that are measured.
pub(super) struct Subjects {
    all: Vec<Subject>,
    guests: PathBuf,
}

impl Subjects {
    /// Reads the components that the options name.
    pub(super) fn read(options: &SandboxBenchOptions) -> anyhow::Result<Self> {
        let wasm = |kind: SubjectKind| match kind {
            SubjectKind::Empty => Ok(wat::parse_str(EMPTY)?.into()),
            SubjectKind::Agent => guest(&options.guests, "echo"),
            SubjectKind::Tool => guest(&options.guests, "toolbox"),
            SubjectKind::JavaScript | SubjectKind::Python => plugin(&options.plugins, kind),
        };
        let kinds = SubjectKind::ALL
            .into_iter()
            .filter(|kind| options.of.contains(kind));
        let subjects = kinds.map(|kind| {
            let wasm = wasm(kind)?;
            anyhow::Ok(Subject { kind, wasm })
        });
        Ok(Subjects {
            all: subjects.collect::<anyhow::Result<_>>()?,
            guests: options.guests.clone(),
        })
    }

    pub(super) fn all(&self) -> &[Subject] {
        &self.all
    }

    pub(super) fn find(&self, kind: SubjectKind) -> Option<&Subject> {
        self.all.iter().find(|subject| subject.kind == kind)
    }

    /// Another of the tests' guests.
    pub(super) fn guest(&self, name: &str) -> anyhow::Result<Bytes> {
        guest(&self.guests, name)
    }

    /// The programs of the interpreters, for whoever wants to run the same elsewhere.
    pub(super) fn programs(&self) -> Value {
        let measured = SNIPPETS.iter().filter(|it| self.find(it.kind).is_some());
        measured
            .map(|it| json!({ "language": it.kind.name(), "name": it.name, "source": it.source }))
            .collect()
    }

    /// What is measured call by call.
    pub(super) fn cases(&self) -> Vec<Case<'_>> {
        let mut cases = Vec::new();
        for Subject { kind, wasm } in &self.all {
            let mut add = |name: &str, ask, weight| {
                cases.push(Case {
                    name: name.to_owned(),
                    wasm,
                    ask,
                    weight,
                });
            };
            match kind {
                SubjectKind::Empty => add(kind.name(), Ask::Empty, 1),
                SubjectKind::Agent => add(kind.name(), Ask::Echo, 1),
                SubjectKind::Tool => {
                    add(kind.name(), Ask::Function("shout", Arguments::Shout), 1);
                }
                SubjectKind::JavaScript | SubjectKind::Python => {
                    // They take so much longer.
                    let weight = if *kind == SubjectKind::Python { 10 } else { 4 };
                    for snippet in SNIPPETS.iter().filter(|snippet| snippet.kind == *kind) {
                        add(snippet.name, Ask::Program(snippet.source, 0), weight);
                    }
                }
            }
        }
        cases
    }
}

fn guest(folder: &Path, name: &str) -> anyhow::Result<Bytes> {
    let path = folder.join(format!("{name}.wasm"));
    let wasm = std::fs::read(&path).with_context(|| {
        format!(
            "the guest {} cannot be read; build it with `cargo xtask setup`, and name its folder with --guests",
            path.display()
        )
    })?;
    Ok(wasm.into())
}

fn plugin(folders: &[PathBuf], kind: SubjectKind) -> anyhow::Result<Bytes> {
    let file = format!("{}.wasm", kind.name());
    let path = folders
        .iter()
        .map(|folder| folder.join(&file))
        .find(|path| path.is_file());
    let path = path.with_context(|| {
        format!("the interpreter {file} is not there; build it with `cargo xtask setup`, or name its folder with --plugins")
    })?;
    let wasm = std::fs::read(&path)
        .with_context(|| format!("the interpreter {} cannot be read", path.display()))?;
    Ok(wasm.into())
}
