//! Writes a shape as a document that compiles: every name in it means something where it stands.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::shape::{Body, Choices, Form, Node, Shape};
use super::templates::{Scope, condition_of, guard, pick, rule_of, value_of};

/// What a document may make happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Budgets, deadlines, time limits.
    Any,
    /// Nothing whose outcome depends on what happens first.
    Calm,
}

/// What a workflow may spend, as its own document says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caps {
    pub(crate) usd: Option<u64>,
    pub(crate) tokens: Option<u64>,
}

/// A document, and what the properties need to know of it.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) document: Value,
    /// What each workflow may spend that does not go on beyond it; the root's name is the empty text.
    pub(crate) caps: BTreeMap<String, Caps>,
    /// The workflow of each step that is one.
    pub(crate) workflow_steps: BTreeMap<String, String>,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.document)
    }
}

pub(crate) fn written(shape: &Shape, mood: Mood) -> Written {
    let names: Vec<String> = (0..shape.subs.len()).map(|sub| format!("w{sub}")).collect();
    let mut writer = Writer {
        mood,
        workflows: &names,
        caps: BTreeMap::new(),
        workflow_steps: BTreeMap::new(),
        prefix: String::new(),
        count: 0,
        is_sub: false,
    };
    let agents = super::agents::agents(shape.agents, mood);
    let mut document = writer.workflow(&shape.root, "", &agents);
    writer.is_sub = true;
    let mut subs = Map::new();
    for (name, body) in names.iter().zip(&shape.subs) {
        writer.prefix = format!("{name}_");
        subs.insert(name.clone(), writer.workflow(body, name, &agents));
    }
    if !subs.is_empty() {
        document["workflows"] = Value::Object(subs);
    }
    Written {
        document,
        caps: writer.caps,
        workflow_steps: writer.workflow_steps,
    }
}

struct Writer<'a> {
    mood: Mood,
    workflows: &'a [String],
    caps: BTreeMap<String, Caps>,
    workflow_steps: BTreeMap<String, String>,
    /// Before each id, so that no two documents share one.
    prefix: String,
    count: usize,
    is_sub: bool,
}

impl Writer<'_> {
    fn workflow(&mut self, body: &Body, name: &str, agents: &Value) -> Value {
        self.count = 0;
        let mut scope = Scope::default();
        let steps = self.list(&body.steps, &mut scope);
        let mut document = json!({
            "name": if name.is_empty() { "root" } else { name },
            "inputs": {
                "type": "object",
                "properties": {"topic": {}, "flag": {}, "entries": {"type": "array"}, "depth": {"type": "integer"}},
                "required": ["topic", "flag", "entries", "depth"],
            },
            "agents": agents,
            "steps": steps,
            "config": self.config(body.config, name),
        });
        if body.config[5] % 3 == 1 {
            let last = value_of([body.config[4], 0, body.config[3], 1, 0, 0], &scope);
            document["outputs"] = json!({"last": last, "topic": "{{ topic }}"});
        }
        document
    }

    fn config(&mut self, choices: Choices, name: &str) -> Value {
        let [rule, retries, policy, usd, tokens, _] = choices;
        let on_error = ["retry", "stop", "continue"][usize::from(rule % 3)];
        let mut config = json!({
            "on_error": on_error,
            "max_retries": retries % 4,
            "retry_delay_ms": u32::from(retries) * 5,
        });
        let mut caps = Caps::default();
        if self.mood == Mood::Calm {
            config["timeout_ms"] = json!(31_536_000_000_u64);
        } else {
            let policy = ["stop", "pause", "continue"][usize::from(policy % 3)];
            config["on_budget_exceeded"] = json!(policy);
            config["timeout_ms"] = json!(2_000 + 1_000 * u32::from(rule));
            if usd % 2 == 1 {
                config["budget_usd"] = json!(f64::from(usd) / 1000.0);
                caps.usd = Some(u64::from(usd) * 1000);
            }
            if tokens % 2 == 1 {
                config["budget_tokens"] = json!(u32::from(tokens) * 10);
                caps.tokens = Some(u64::from(tokens) * 10);
            }
            if tokens % 3 == 1 {
                config["budget_fuel"] = json!(u32::from(tokens) * 20);
            }
            if policy == "continue" {
                caps = Caps::default();
            }
        }
        self.caps.insert(name.to_owned(), caps);
        config
    }

    fn list(&mut self, nodes: &[Node], scope: &mut Scope) -> Vec<Value> {
        nodes.iter().map(|node| self.step(node, scope)).collect()
    }

    fn step(&mut self, node: &Node, scope: &mut Scope) -> Value {
        let id = format!("{}s{}", self.prefix, self.count);
        self.count += 1;
        let choices = node.choices;
        let mut step = self.form(node, (&id, scope));
        if let (Form::Workflow(_), Some(name)) = (&node.form, step["workflow"].as_str()) {
            self.workflow_steps.insert(id.clone(), name.to_owned());
        }
        // A step without an id is named by its agent.
        let is_named = !(matches!(node.form, Form::Agent(_)) && choices[0] % 4 == 1);
        if is_named {
            step["id"] = json!(id);
            scope.steps.push(id.clone());
        }
        if let Form::Agent(agent) = node.form {
            scope.agents.push(super::agents::name(agent));
        }
        if matches!(node.form, Form::Items(_) | Form::Until(_) | Form::While(_)) {
            scope.loops.push(id);
        }
        step
    }

    fn form(&mut self, node: &Node, (id, scope): (&str, &mut Scope)) -> Value {
        let choices = node.choices;
        let before = scope.clone();
        let mut step = match &node.form {
            Form::Set => json!({"set": value_of(choices, scope)}),
            Form::Wait => json!({"wait": match choices[2] % 4 {
                0 => json!({"seconds": 0}),
                1 => json!({"seconds": f64::from(choices[3]) / 50.0}),
                2 => json!({"seconds": "{{ depth + 1 }}"}),
                _ => json!({"until": "1970-01-01T00:00:03Z"}),
            }}),
            Form::Agent(agent) => json!({
                "agent": super::agents::name(*agent), "action": "do", "input": value_of(choices, scope),
            }),
            Form::Workflow(sub) => return self.sub_workflow(*sub, choices, scope),
            Form::Parallel(branches) => return self.parallel(branches, choices, scope),
            Form::Branch(then, otherwise) => {
                return self.branch((then, otherwise), choices, scope);
            }
            Form::Items(steps) => self.items(steps, choices, (id, scope)),
            Form::Until(steps) | Form::While(steps) => {
                self.repeat(steps, (&node.form, choices), (id, scope))
            }
        };
        if let Some(rule) = rule_of(choices, &node.form, &before) {
            step["on_error"] = rule;
        }
        guard(&mut step, choices, &before);
        step
    }

    fn sub_workflow(&mut self, sub: u8, choices: Choices, scope: &Scope) -> Value {
        let Some(name) = pick(self.workflows, sub) else {
            return json!({"set": value_of(choices, scope)});
        };
        let depth = if self.is_sub {
            "{{ depth + 1 }}"
        } else {
            "{{ 0 }}"
        };
        let mut step = json!({"workflow": name, "inputs": {
            "topic": value_of(choices, scope), "flag": "{{ flag }}", "entries": "{{ entries }}", "depth": depth,
        }});
        // So that one that calls itself ends.
        if self.is_sub {
            step["condition"] = json!("depth < 1");
        } else {
            guard(&mut step, choices, scope);
        }
        if let Some(rule) = rule_of(choices, &Form::Workflow(sub), scope) {
            step["on_error"] = rule;
        }
        step
    }

    fn parallel(&mut self, branches: &[Vec<Node>], choices: Choices, scope: &mut Scope) -> Value {
        let before = scope.clone();
        let mut after = scope.clone();
        let mut written = Vec::new();
        for branch in branches {
            let mut inside = before.clone();
            written.push(json!(self.list(branch, &mut inside)));
            after
                .steps
                .extend(inside.steps.split_off(before.steps.len()));
            after
                .loops
                .extend(inside.loops.split_off(before.loops.len()));
            after
                .agents
                .extend(inside.agents.split_off(before.agents.len()));
        }
        *scope = after;
        let mut step = json!({"parallel": written});
        if choices[1] % 2 == 1 {
            step["max_concurrency"] = json!(1 + choices[1] % 3);
        }
        guard(&mut step, choices, &before);
        step
    }

    fn branch(
        &mut self,
        (then, otherwise): (&[Node], &[Node]),
        choices: Choices,
        scope: &mut Scope,
    ) -> Value {
        let condition = condition_of(choices[2], choices[3], scope);
        let before = scope.clone();
        let mut step = json!({"condition": condition, "then": self.list(then, scope)});
        if !otherwise.is_empty() {
            let mut inside = before.clone();
            step["else"] = json!(self.list(otherwise, &mut inside));
            scope
                .steps
                .extend(inside.steps.split_off(before.steps.len()));
            scope
                .loops
                .extend(inside.loops.split_off(before.loops.len()));
            scope
                .agents
                .extend(inside.agents.split_off(before.agents.len()));
        }
        step
    }

    fn items(&mut self, steps: &[Node], choices: Choices, (id, scope): (&str, &Scope)) -> Value {
        let items = match (choices[2] % 6, pick(&scope.steps, choices[3])) {
            (0, _) => json!([1, "{{ topic }}"]),
            (1, _) => json!("{{ entries }}"),
            (2, Some(name)) => json!(format!("{{{{ {name}.list | default([3]) }}}}")),
            (3, _) => json!([]),
            (4, Some(name)) => json!([format!("{{{{ {name} }}}}"), 2, 3]),
            // Rarely a list.
            (_, Some(name)) if choices[4] % 4 == 1 => json!(format!("{{{{ {name} }}}}")),
            _ => json!([1, 2, 3]),
        };
        let mut inside = scope.clone();
        inside.rounds += 1;
        inside.variables.push(format!("{id}_item"));
        json!({"loop": {
            "items": items,
            "as": format!("{id}_item"),
            "concurrency": 1 + choices[4] % 4,
            "steps": self.list(steps, &mut inside),
        }})
    }

    fn repeat(
        &mut self,
        steps: &[Node],
        (form, choices): (&Form, Choices),
        (id, scope): (&str, &Scope),
    ) -> Value {
        let mut inside = scope.clone();
        inside.rounds += 1;
        let body = self.list(steps, &mut inside);
        let most = 1 + choices[4] % 3;
        let by_index = |sign: &str| format!("loop.index {sign} {}", choices[3] % most.max(2));
        // In the condition of a loop itself its own id means nothing yet.
        inside.steps.retain(|step| step != id);
        match form {
            Form::Until(_) => {
                let condition = match choices[2] % 3 {
                    1 => condition_of(choices[3], choices[5], &inside),
                    _ => by_index(">="),
                };
                json!({"loop": {"until": condition, "max_iterations": most, "steps": body}})
            }
            _ => {
                let condition = match choices[2] % 3 {
                    1 => condition_of(choices[3], choices[5], scope),
                    // Names of the body mean the round before.
                    2 if inside.steps.len() > scope.steps.len() => {
                        format!("{}.n | default(0) < 5", inside.steps[scope.steps.len()])
                    }
                    _ => by_index("<"),
                };
                json!({"loop": {"while": condition, "max_iterations": most, "steps": body}})
            }
        }
    }
}
