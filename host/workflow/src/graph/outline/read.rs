//! From JSON to an outline. What is not understood is left out; what is too much is cut.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::phrase;
use super::{Flow, Form, Kind, OnError, Outline, Step, Task};

/// Keeps a picture from becoming much larger than any document that may run: steps beyond it are not drawn.
const STEPS_MAX: usize = 10_000;
/// Protects the stack of everything that walks over an outline: blocks that are deeper are not drawn.
const NESTING_MAX: usize = 64;
/// Keeps a picture linear in its document: texts of an agent are shown at each step that names it.
const SHARED_CHARS_MAX: usize = 100;

impl Outline {
    /// Reads a document, or whatever the value is.
    pub(in crate::graph) fn read(document: &Value) -> Self {
        let mut left = STEPS_MAX;
        let root = Reader::of(document, &mut left).flow(document, None);
        let workflows = document
            .get("workflows")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, document)| Reader::of(document, &mut left).flow(document, Some(key)))
            .collect();
        Self { root, workflows }
    }
}

/// Reads one flow: it knows the flow's agents and how many steps may still be drawn.
struct Reader<'a> {
    agents: BTreeMap<&'a str, &'a Value>,
    left: &'a mut usize,
}

impl<'a> Reader<'a> {
    fn of(document: &'a Value, left: &'a mut usize) -> Self {
        let agents = document
            .get("agents")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|agent| Some((agent.get("id")?.as_str()?, agent)))
            .collect();
        Self { agents, left }
    }

    fn flow(&mut self, document: &Value, key: Option<&str>) -> Flow {
        let key = key.map(phrase::one_line);
        let name = text(document, "name").filter(|name| !name.is_empty());
        let inputs = document.get("inputs").and_then(|it| it.get("properties"));
        Flow {
            name: name
                .or_else(|| key.clone())
                .unwrap_or_else(|| "start".to_owned()),
            key,
            inputs: keys(inputs),
            steps: self.steps(document.get("steps"), 0),
            outputs: keys(document.get("outputs")),
        }
    }

    /// A list of steps, or a single one.
    fn steps(&mut self, value: Option<&Value>, depth: usize) -> Vec<Step> {
        let items = match value {
            Some(Value::Array(items)) => items.as_slice(),
            Some(other) => std::slice::from_ref(other),
            None => &[],
        };
        let mut steps = Vec::new();
        for fields in items.iter().filter_map(Value::as_object) {
            let Some(left) = self.left.checked_sub(1) else {
                steps.push(Step::cut());
                break;
            };
            *self.left = left;
            steps.extend(self.step(fields, depth));
        }
        steps
    }

    fn step(&mut self, fields: &Map<String, Value>, depth: usize) -> Option<Step> {
        let form = self.form(fields, depth)?;
        let guard = match form {
            Form::Choice { .. } | Form::Cut => None,
            Form::Agent(_)
            | Form::Parallel { .. }
            | Form::Loop { .. }
            | Form::Workflow(_)
            | Form::Wait(_)
            | Form::Set(_) => fields.get("condition").and_then(phrase::scalar),
        };
        let on_error = match (fields.get("on_error"), &form) {
            (Some(own), _) => self.on_error(own),
            (None, Form::Agent(task)) => match self.agents.get(task.agent.as_str()) {
                Some(agent) => self.shared_on_error(agent),
                None => OnError::Stop,
            },
            (None, _) => OnError::Stop,
        };
        Some(Step {
            name: fields
                .get("id")
                .and_then(Value::as_str)
                .map(phrase::one_line)
                .filter(|name| !name.is_empty()),
            guard,
            on_error,
            form,
        })
    }

    fn form(&mut self, fields: &Map<String, Value>, depth: usize) -> Option<Form> {
        let is_block = ["parallel", "then", "else", "loop"]
            .iter()
            .any(|field| fields.contains_key(*field));
        if is_block && depth >= NESTING_MAX {
            return Some(Form::Cut);
        }
        if let Some(branches) = fields.get("parallel") {
            return Some(Form::Parallel {
                branches: self.branches(branches, depth + 1),
                at_once: fields.get("max_concurrency").and_then(phrase::scalar),
            });
        }
        if fields.contains_key("then") || fields.contains_key("else") {
            let condition = fields.get("condition").and_then(phrase::scalar);
            return Some(Form::Choice {
                condition: condition.unwrap_or_else(|| "?".to_owned()),
                then: self.steps(fields.get("then"), depth + 1),
                otherwise: self.steps(fields.get("else"), depth + 1),
            });
        }
        if let Some(settings) = fields.get("loop") {
            return Some(Form::Loop {
                heading: phrase::repetition(settings),
                steps: self.steps(settings.get("steps"), depth + 1),
            });
        }
        if let Some(name) = fields.get("workflow") {
            let name = name.as_str().map(phrase::one_line);
            return Some(Form::Workflow(name.unwrap_or_else(|| "?".to_owned())));
        }
        if let Some(settings) = fields.get("wait") {
            return Some(Form::Wait(phrase::wait(settings)));
        }
        if let Some(value) = fields.get("set") {
            return Some(Form::Set(phrase::set(value)));
        }
        self.task(fields).map(Form::Agent)
    }

    fn branches(&mut self, value: &Value, depth: usize) -> Vec<Vec<Step>> {
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        items
            .iter()
            .map(|item| self.steps(Some(item), depth))
            .filter(|branch| !branch.is_empty())
            .collect()
    }

    fn on_error(&self, value: &Value) -> OnError {
        if value == "continue" {
            return OnError::Continue;
        }
        match value.get("fallback") {
            Some(fallback) if fallback == "continue" => OnError::Continue,
            Some(Value::Object(fields)) => {
                self.task(fields).map_or(OnError::Stop, OnError::Fallback)
            }
            Some(_) | None => OnError::Stop,
        }
    }

    /// What an agent's own `on_error` says, for a step that has none.
    fn shared_on_error(&self, agent: &Value) -> OnError {
        match agent.get("on_error").map(|value| self.on_error(value)) {
            Some(OnError::Fallback(task)) => OnError::Fallback(Task {
                agent: shared(&task.agent),
                action: shared(&task.action),
                kind: task.kind,
            }),
            Some(other) => other,
            None => OnError::Stop,
        }
    }

    fn task(&self, fields: &Map<String, Value>) -> Option<Task> {
        let id = fields.get("agent")?.as_str()?;
        let word = self.agents.get(id).and_then(|agent| agent.get("type"));
        let kind = Kind::WORDS
            .iter()
            .find(|(known, _)| word.and_then(Value::as_str) == Some(known));
        let action = fields.get("action").and_then(Value::as_str);
        Some(Task {
            agent: phrase::one_line(id),
            action: action.map(phrase::one_line).unwrap_or_default(),
            kind: kind.map_or(Kind::Unknown, |(_, kind)| *kind),
        })
    }
}

impl Step {
    /// Stands for all steps that follow.
    fn cut() -> Self {
        Self {
            name: None,
            guard: None,
            on_error: OnError::Stop,
            form: Form::Cut,
        }
    }
}

fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field)?.as_str().map(phrase::one_line)
}

fn keys(value: Option<&Value>) -> Vec<String> {
    let map = value.and_then(Value::as_object);
    map.into_iter()
        .flat_map(Map::keys)
        .map(|name| phrase::one_line(name))
        .collect()
}

fn shared(text: &str) -> String {
    text.chars().take(SHARED_CHARS_MAX).collect()
}
