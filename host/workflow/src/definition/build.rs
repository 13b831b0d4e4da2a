//! From a document to a definition: numbers the steps and gives each its place.

mod blocks;
mod resolve;
mod step;
mod visible;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

pub(super) use self::visible::Visible;
use super::inputs::Inputs;
use super::required::RequiredFields;
use super::scope::{ErrorName, Names};
use super::{Compiled, Definition, IdOrigin, List, Node, NodeIndex, NodeKind, Then};
use crate::document::{
    Agent, AgentKind, Config, Document, LoopKind, OnErrorRule, StepForm, StepSpec, escape,
};
use crate::fault::{Faults, suggestion};
use crate::ids::{Name, WorkflowDigest};
use crate::retry::{AskedBy, RetryPolicy};

/// Builds a document and the workflows it holds.
pub(super) fn build_all(document: Document, stored: &Value, faults: &mut Faults) -> Definition {
    let mut document = document;
    let subs = std::mem::take(&mut document.workflows);
    let known: BTreeSet<String> = subs.iter().map(|(name, _)| name.clone()).collect();
    let mut workflows = BTreeMap::new();
    for (name, sub) in subs {
        let place = format!("/workflows/{}", escape(&name));
        let text = stored.pointer(&place).unwrap_or(&Value::Null);
        let built = build(sub, text, &known, faults);
        workflows.insert(name, Arc::new(built));
    }
    let mut root = build(document, stored, &known, faults);
    root.workflows = workflows;
    check_given_inputs(&root, faults);
    root
}

/// Notes inputs that a workflow step gives and its workflow does not take, or takes and is not given.
fn check_given_inputs(root: &Definition, faults: &mut Faults) {
    let all = root.workflows.values().map(Arc::as_ref).chain([root]);
    for node in all.flat_map(|definition| &definition.nodes) {
        let NodeKind::Workflow(step) = &node.kind else {
            continue;
        };
        let (Some(target), Some(given)) = (root.workflow(&step.name), &step.given) else {
            continue;
        };
        let wanted = target.inputs().known();
        for name in given
            .iter()
            .filter(|name| !wanted.contains_key(name.as_str()))
        {
            let known = suggestion(name, wanted.keys().copied());
            let message = format!("the workflow `{}` has no input `{name}`{known}", step.name);
            faults.add(format!("{}/inputs/{}", step.pointer, escape(name)), message);
        }
        for (name, _) in wanted.iter().filter(|(_, is_required)| **is_required) {
            if !given.iter().any(|given| given == name) {
                let message = format!("the workflow `{}` needs the input `{name}`", step.name);
                faults.add(step.pointer.as_str(), message);
            }
        }
    }
}

fn build(
    document: Document,
    stored: &Value,
    workflows: &BTreeSet<String>,
    faults: &mut Faults,
) -> Definition {
    let Document {
        name,
        inputs: schema,
        agents,
        agent_ids,
        steps,
        outputs,
        config,
        pointer,
        ..
    } = document;
    let agents = unique_agents(agents, faults);
    let mut builder = Builder {
        names: Names {
            agents: agent_ids,
            declared_inputs: declared_inputs(schema.as_ref()),
            ..Names::default()
        },
        agents,
        workflows,
        config,
        nodes: Vec::new(),
        required: BTreeMap::new(),
        inputs: Inputs::new(schema.as_ref()),
        visible: Visible::default(),
        numbering: Vec::new().into_iter(),
        variables: Vec::new(),
    };
    let mut numbering = Vec::new();
    builder.number(&steps, None, &mut numbering, faults);
    builder.numbering = numbering.into_iter();
    builder.check_names(&pointer, faults);
    builder.add_list(&steps, None, faults);
    let outputs = builder.outputs(outputs, &pointer, faults);
    builder.check_variables(faults);
    builder.finish(name, stored, outputs)
}

fn unique_agents(agents: Vec<Agent>, faults: &mut Faults) -> BTreeMap<Name, Agent> {
    let mut unique: BTreeMap<Name, Agent> = BTreeMap::new();
    for agent in agents {
        if let Some(first) = unique.get(&agent.id) {
            faults.add(
                format!("{}/id", agent.pointer),
                format!(
                    "the agent `{}` is there already, at {}",
                    agent.id, first.pointer
                ),
            );
        } else {
            unique.insert(agent.id.clone(), agent);
        }
    }
    let tools: BTreeSet<Name> = unique
        .values()
        .filter(|agent| matches!(agent.kind, AgentKind::Tool(_)))
        .map(|agent| agent.id.clone())
        .collect();
    for agent in unique.values() {
        let (named, field) = match &agent.kind {
            AgentKind::Llm(llm) => (llm.tools.as_slice(), "tools"),
            AgentKind::Code(code) => (
                code.grants.tools.as_deref().unwrap_or_default(),
                "grants/tools",
            ),
            AgentKind::Search(_) | AgentKind::Tool(_) | AgentKind::Human(_) => continue,
        };
        // Any other name is a tool of the configuration's.
        for (index, tool) in named.iter().enumerate() {
            if unique.contains_key(tool.as_str()) && !tools.contains(tool.as_str()) {
                let message = format!("`{tool}` is an agent, but no tool agent");
                faults.add(format!("{}/{field}/{index}", agent.pointer), message);
            }
        }
    }
    unique
}

/// The inputs that a schema declares; with a schema, what it does not name is none.
fn declared_inputs(schema: Option<&Value>) -> Option<BTreeSet<String>> {
    let properties = schema?.get("properties").and_then(Value::as_object);
    Some(
        properties
            .into_iter()
            .flat_map(|map| map.keys().cloned())
            .collect(),
    )
}

/// One step with its id, numbered in the document's order.
struct Numbered {
    id: Name,
    origin: IdOrigin,
}

struct Builder<'a> {
    names: Names,
    agents: BTreeMap<Name, Agent>,
    /// The workflows that steps may name.
    workflows: &'a BTreeSet<String>,
    config: Config,
    nodes: Vec<Node>,
    required: BTreeMap<NodeIndex, RequiredFields>,
    inputs: Inputs,
    visible: Visible,
    /// The steps that the second pass has not met yet.
    numbering: std::vec::IntoIter<Numbered>,
    /// Every loop variable, with the place of its name.
    variables: Vec<(Name, String)>,
}

impl Builder<'_> {
    /// First pass: gives every step its id and place, in the order in which the second pass meets them.
    fn number(
        &mut self,
        steps: &[StepSpec],
        owner: Option<NodeIndex>,
        numbering: &mut Vec<Numbered>,
        faults: &mut Faults,
    ) {
        for step in steps {
            let index = NodeIndex(numbering.len());
            let (id, origin) = match &step.id {
                Some(id) => (id.clone(), IdOrigin::Author),
                None => (Name::numbered(index.0 + 1), IdOrigin::Numbered),
            };
            let known = self.names.steps.insert(id.as_str().to_owned(), index);
            if known.is_some() {
                let message =
                    format!("the step id `{id}` is there already; give each step its own");
                let place = match origin {
                    IdOrigin::Author => format!("{}/id", step.pointer),
                    IdOrigin::Numbered => step.pointer.clone(),
                };
                faults.add(place, message);
            }
            self.names.owners.push(owner);
            numbering.push(Numbered { id, origin });
            self.number_form(step, (index, owner), numbering, faults);
        }
    }

    fn number_form(
        &mut self,
        step: &StepSpec,
        (index, owner): (NodeIndex, Option<NodeIndex>),
        numbering: &mut Vec<Numbered>,
        faults: &mut Faults,
    ) {
        let mut own_agent = None;
        match &step.form {
            StepForm::Agent(agent_step) => {
                let steps = &mut self.names.steps_of_agents;
                steps
                    .entry(agent_step.agent.clone())
                    .or_default()
                    .push(index);
                self.names.agent_of.insert(index, agent_step.agent.clone());
                own_agent = Some(agent_step.agent.as_str());
            }
            StepForm::Parallel(parallel) => {
                for branch in &parallel.branches {
                    self.number(branch, owner, numbering, faults);
                }
            }
            StepForm::Branch(branch) => {
                self.number(&branch.then, owner, numbering, faults);
                self.number(&branch.otherwise, owner, numbering, faults);
            }
            StepForm::Loop(spec) => {
                if !matches!(spec.kind, LoopKind::Items { .. }) {
                    self.names.repeats.insert(index);
                }
                self.number(&spec.steps, Some(index), numbering, faults);
            }
            StepForm::Workflow(_) | StepForm::Wait(_) | StepForm::Set(_) | StepForm::Faulty => {}
        }
        let bears_other_agents_id = step.id.as_ref().is_some_and(|id| {
            self.names.agents.contains(id.as_str()) && own_agent != Some(id.as_str())
        });
        if bears_other_agents_id && !matches!(step.form, StepForm::Faulty) {
            let message = "this is also the id of another agent; a name must mean one thing";
            faults.add(format!("{}/id", step.pointer), message);
        }
    }

    fn check_names(&self, pointer: &str, faults: &mut Faults) {
        for name in self.names.declared_inputs.iter().flatten() {
            if let Err(message) = Name::parse(name) {
                faults.add(
                    format!("{pointer}/inputs/properties/{}", escape(name)),
                    message,
                );
            }
            if self.names.steps.contains_key(name) || self.names.agents.contains(name) {
                faults.add(
                    format!("{pointer}/inputs/properties/{}", escape(name)),
                    format!("`{name}` is also a step or an agent; a name must mean one thing"),
                );
            }
        }
    }

    /// A loop variable may not hide an input that is read elsewhere.
    fn check_variables(&self, faults: &mut Faults) {
        for (name, pointer) in &self.variables {
            if self.names.declared_inputs.is_none() && self.inputs.reads(name.as_str()) {
                let message = format!(
                    "`{name}` is also an input, read outside the loop; a name must mean one thing"
                );
                faults.add(pointer.as_str(), message);
            }
        }
    }

    /// Second pass: one list of steps. None where it is empty, which is a fault already.
    fn add_list(
        &mut self,
        steps: &[StepSpec],
        parent: Option<NodeIndex>,
        faults: &mut Faults,
    ) -> Option<List> {
        let mut list: Option<List> = None;
        for step in steps {
            let Some(numbered) = self.numbering.next() else {
                break;
            };
            let index = NodeIndex(self.nodes.len());
            let (retry, then) = self.failing();
            // The children of a block come after it: hold its place.
            self.nodes.push(Node {
                id: numbered.id,
                id_origin: numbered.origin,
                next: None,
                parent,
                owner: self.names.owners.get(index.0).copied().flatten(),
                guard: None,
                retry,
                then,
                weight: 1,
                kind: NodeKind::Set(Compiled::null()),
            });
            self.names.at = index;
            if let Some(text) = &step.guard {
                let place = format!("{}/condition", step.pointer);
                self.nodes[index.0].guard = self.condition(text, &place, faults);
            }
            self.add_form(step, index, faults);
            if let Some(list) = &mut list {
                self.nodes[list.last.0].next = Some(index);
                list.last = index;
            } else {
                list = Some(List {
                    first: index,
                    last: index,
                });
            }
            self.visible.add(index);
        }
        list
    }

    /// What holds for a step that says nothing and is none of an agent's.
    fn failing(&self) -> (RetryPolicy, Then) {
        let then = match self.config.on_error {
            OnErrorRule::Continue => Then::Continue,
            OnErrorRule::Retry | OnErrorRule::Stop => Then::Fail,
        };
        (self.no_retries(), then)
    }

    fn no_retries(&self) -> RetryPolicy {
        RetryPolicy {
            retries: 0,
            ..self.workflow_retries()
        }
    }

    fn workflow_retries(&self) -> RetryPolicy {
        RetryPolicy {
            retries: self.config.max_retries,
            delay: self.config.retry_delay,
            asked_by: AskedBy::Workflow,
        }
    }

    fn outputs(
        &mut self,
        outputs: Option<Vec<(String, Value)>>,
        pointer: &str,
        faults: &mut Faults,
    ) -> Option<Vec<(String, Compiled)>> {
        self.names.at = NodeIndex(usize::MAX);
        let compiled = outputs?
            .into_iter()
            .map(|(name, value)| {
                let place = format!("{pointer}/outputs/{}", escape(&name));
                let template = self.compiled(&value, &place, ErrorName::Unknown, faults);
                (name, template)
            })
            .collect();
        Some(compiled)
    }

    fn finish(
        mut self,
        name: String,
        stored: &Value,
        outputs: Option<Vec<(String, Compiled)>>,
    ) -> Definition {
        for (index, required) in self.required {
            if let NodeKind::Step(step) = &mut self.nodes[index.0].kind {
                step.required = required;
            }
        }
        let by_id = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.id.clone(), NodeIndex(index)))
            .collect();
        Definition {
            name,
            digest: WorkflowDigest::of(stored.to_string().as_bytes()),
            document: stored.clone(),
            config: self.config,
            agents: self.agents,
            nodes: self.nodes,
            by_id,
            inputs: self.inputs,
            outputs,
            workflows: BTreeMap::new(),
        }
    }
}
