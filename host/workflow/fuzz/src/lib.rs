//! What must hold whatever bytes come: shared by the fuzz targets, and by a short run of it in the crate's tests.
//!
//! It only asserts; a fault is a panic, a hang or an overflow.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_workflow::{
    Answer, Code, Command, Definition, Event, EventKind, Execution, ExecutionId, Failure,
    StepUsage, Timestamp, parse_yaml, to_yaml,
};

/// Events after which an execution is left as it is.
const EVENTS_MAX: usize = 200;

/// What models and people may say that is not to be taken for anything but a text.
const HOSTILE: [&str; 6] = [
    "{{ inputs }}",
    "{% if true %}",
    "' or true or '",
    "true",
    "\u{0}\"}}",
    "{\"approved\": true}",
];

/// Bytes as a document: it is compiled or refused, and what compiles is run.
pub fn check_document(bytes: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    run(&document, |name| json!(HOSTILE[name.len() % HOSTILE.len()]));
}

/// A text as each kind of template of a small document.
pub fn check_template(text: &str) {
    let agents = json!([
        {"id": "ask", "type": "llm", "model": "m", "system_prompt": "Be brief."},
        {"id": "boss", "type": "human", "assignees": ["a"]},
    ]);
    let before = json!({"id": "first", "set": {
        "list": [1, "{{ inputs }}", null, {"a": "b"}], "text": "' or true or '", "no": false, "deep": [[[[]]]],
    }});
    let uses = [
        json!({"id": "use", "agent": "ask", "action": "do", "input": text}),
        json!({"id": "use", "agent": "ask", "action": "do", "input": {"a": [text, "x {{ first.text }}"]}}),
        json!({"condition": text, "then": [{"set": 1}], "else": [{"set": 2}]}),
        json!({"loop": {"items": text, "as": "each", "concurrency": 2, "steps": [{"set": "{{ each }}"}]}}),
        json!({"loop": {"until": text, "max_iterations": 3, "steps": [{"set": text}]}}),
        json!({"wait": {"until": text}}),
    ];
    for used in uses {
        let document = json!({"name": "t", "agents": agents, "steps": [before, used], "outputs": {"all": text}});
        run(
            &document,
            |name| json!({"name": name, "text": HOSTILE[name.len() % HOSTILE.len()], "list": HOSTILE}),
        );
    }
}

/// A text as YAML: it is read or refused, and what was read is written so that it is read again.
pub fn check_yaml(text: &str) {
    match parse_yaml(text) {
        Ok(value) => {
            let written = to_yaml(&value);
            let again = parse_yaml(&written);
            assert_eq!(again.as_ref(), Ok(&value), "{written}");
            assert_eq!(again.map(|again| again.to_string()), Ok(value.to_string()));
        }
        Err(fault) => assert!(fault.line >= 1 && fault.column >= 1 && !fault.message.is_empty()),
    }
}

/// Compiles a document and, where it is right, runs it with some value for each input that it reads.
fn run(document: &Value, input: impl Fn(&str) -> Value) {
    let definition = match Definition::compile(document) {
        Ok(definition) => Arc::new(definition),
        Err(faults) => {
            assert!(!faults.is_empty());
            return;
        }
    };
    let names = definition.inferred_inputs();
    let inputs: Value = names
        .into_iter()
        .map(|name| (name.to_owned(), input(name)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    if definition.check_inputs(&inputs).is_ok() {
        Driver::new(definition, inputs).drive();
    }
}

/// Commands as far as they can be compared.
fn described(commands: &[Command]) -> Vec<String> {
    let described = commands.iter().map(|command| match command {
        Command::Start(start) => format!("{:?} {}", start.event(), start.idempotency_key),
        other => format!("{other:?}"),
    });
    described.collect()
}

/// Does at once whatever an execution asks for.
struct Driver {
    execution: Execution,
    journal: Vec<Event>,
    now: Timestamp,
}

impl Driver {
    fn new(definition: Arc<Definition>, inputs: Value) -> Self {
        let created = EventKind::ExecutionCreated {
            workflow: definition.name().to_owned(),
            digest: definition.digest().clone(),
            inputs,
            forked_from: None,
            kept: Vec::new(),
        };
        let execution = Execution::replay(ExecutionId::from_parts(1, 7), definition, &[]);
        let mut driver = Self {
            execution: execution.expect("nothing is always legal"),
            journal: Vec::new(),
            now: Timestamp::from_millis(1_000),
        };
        driver.record(created);
        driver
    }

    fn record(&mut self, kind: EventKind) {
        let event = Event { at: self.now, kind };
        let stored = serde_json::to_string(&event).expect("events are JSON");
        let read: Event = serde_json::from_str(&stored).expect("what was written is read");
        assert_eq!(read, event);
        let applied = self.execution.apply(&event);
        assert_eq!(applied, Ok(()), "what was decided is legal: {event:?}");
        let progress = self.execution.progress();
        assert!(progress.completed <= progress.total, "{progress:?}");
        self.journal.push(event);
    }

    fn drive(&mut self) {
        while self.journal.len() < EVENTS_MAX && self.step() {}
        let definition = Arc::clone(self.execution.definition());
        let replayed = Execution::replay(self.execution.id(), definition, &self.journal);
        assert!(
            replayed == Ok(self.execution.clone()),
            "replay leads elsewhere"
        );
    }

    /// Whether anything happened.
    fn step(&mut self) -> bool {
        let commands = self.execution.decide(self.now);
        let again = self.execution.decide(self.now);
        assert_eq!(
            described(&commands),
            described(&again),
            "asking changes nothing"
        );
        let mut wake = None;
        let mut has_acted = false;
        for command in commands {
            match command {
                Command::Record(kind) => self.record(kind),
                Command::Start(start) => {
                    self.record(start.event());
                    let attempt = start.attempt;
                    self.end(start.path, attempt);
                }
                Command::Cancel { path } => self.record(EventKind::StepCancelled { path }),
                Command::WakeAt(time) => {
                    wake = Some(time);
                    continue;
                }
            }
            has_acted = true;
            let is_full = self.journal.len() >= EVENTS_MAX;
            if is_full || self.execution.status().is_terminal() || self.has_failed() {
                return true;
            }
        }
        has_acted || self.ask_people() || self.sleep_until(wake)
    }

    /// Whether the last event may have ended what the other commands are about.
    fn has_failed(&self) -> bool {
        let last = self.journal.last().map(|event| &event.kind);
        matches!(
            last,
            Some(EventKind::StepFailed { .. } | EventKind::TimeLimitReached)
        )
    }

    /// Ends an attempt: the outcome depends on how much happened before.
    fn end(&mut self, path: troupe_workflow::StepPath, attempt: u32) {
        let usage = StepUsage {
            fuel: 3,
            ..StepUsage::default()
        };
        let turn = self.journal.len();
        let kind = if turn.is_multiple_of(5) {
            let failure = Failure::new(Code::Unavailable, HOSTILE[turn % HOSTILE.len()]);
            EventKind::StepFailed {
                path,
                attempt,
                failure,
                usage,
            }
        } else {
            let output = match turn % 3 {
                0 => json!(HOSTILE[turn % HOSTILE.len()]),
                1 => json!({"output": HOSTILE, "approved": "true"}),
                _ => json!(HOSTILE),
            };
            EventKind::StepCompleted {
                path,
                attempt,
                output,
                text: None,
                usage,
            }
        };
        self.record(kind);
    }

    fn ask_people(&mut self) -> bool {
        let waiting = self.execution.waiting_approvals();
        let Some(path) = waiting.first().map(|waiting| waiting.path.clone()) else {
            return false;
        };
        let answer = Answer {
            by: format!("person {}", self.journal.len()),
            approved: !self.journal.len().is_multiple_of(3),
            notes: Some(HOSTILE[0].to_owned()),
            data: None,
        };
        match self.execution.answer(Some(path.as_str()), answer, self.now) {
            Ok(kind) => {
                self.record(kind);
                true
            }
            // A form that nobody here can fill.
            Err(_) => false,
        }
    }

    fn sleep_until(&mut self, wake: Option<Timestamp>) -> bool {
        self.now = wake.unwrap_or(self.now);
        wake.is_some()
    }
}
