//! From a document to a definition: numbers the steps, resolves every name, collects the fields that are read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::inputs::Inputs;
use super::required::{FieldKind, RequiredFields};
use super::scope::{ErrorName, Names, Place};
use super::{
    Compiled, CompiledCondition, Definition, Fallback, IdOrigin, Node, NodeIndex, NodeKind,
    Reference, StepNode, Then,
};
use crate::document::{
    Agent, AgentKind, AgentStepSpec, Config, Document, FallbackSpec, OnError, OnErrorRule,
    StepForm, StepSpec,
};
use crate::expression::{Expression, FieldUse, Presence, UseKind, names, uses};
use crate::fault::{Faults, suggestion};
use crate::ids::{Name, WorkflowDigest};
use crate::retry::{AskedBy, RetryPolicy};
use crate::template::{Template, Text, column, parse_condition};

/// Accessors that every step has; they win over a field of that name unless a schema declares the field.
pub(crate) const ACCESSORS: [&str; 3] = ["output", "status", "error"];

pub(super) fn build(document: Document, stored: &Value, faults: &mut Faults) -> Definition {
    let Document {
        name,
        inputs: schema,
        agents,
        agent_ids,
        steps,
        outputs,
        config,
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
        config,
        nodes: Vec::new(),
        required: BTreeMap::new(),
        inputs: Inputs::new(schema.as_ref()),
        numbering: Vec::new().into_iter(),
    };
    let mut numbering = Vec::new();
    builder.number(&steps, &mut numbering, faults);
    builder.numbering = numbering.into_iter();
    builder.check_names(faults);
    let mut visible = BTreeSet::new();
    builder.add_list(&steps, None, &mut visible, faults);
    let outputs = builder.outputs(outputs, &visible, faults);
    builder.finish(name, stored, outputs)
}

fn unique_agents(agents: Vec<Agent>, faults: &mut Faults) -> BTreeMap<Name, Agent> {
    let mut unique: BTreeMap<Name, Agent> = BTreeMap::new();
    for agent in agents {
        if matches!(agent.kind, AgentKind::Tool(_) | AgentKind::Human(_)) {
            let word = agent.kind.as_str();
            faults.add(
                format!("{}/type", agent.pointer),
                format!("`{word}` agents are not available in this version of Troupe"),
            );
        }
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

struct Builder {
    names: Names,
    agents: BTreeMap<Name, Agent>,
    config: Config,
    nodes: Vec<Node>,
    required: BTreeMap<NodeIndex, RequiredFields>,
    inputs: Inputs,
    /// The steps that the second pass has not met yet.
    numbering: std::vec::IntoIter<Numbered>,
}

impl Builder {
    /// First pass: gives every step its id and place, in the order in which the second pass meets them.
    fn number(&mut self, steps: &[StepSpec], numbering: &mut Vec<Numbered>, faults: &mut Faults) {
        for step in steps {
            let index = NodeIndex(numbering.len());
            let (id, origin) = match &step.id {
                Some(id) => (id.clone(), IdOrigin::Author),
                None => (Name::numbered(index.0 + 1), IdOrigin::Numbered),
            };
            if self
                .names
                .steps
                .insert(id.as_str().to_owned(), index)
                .is_some()
            {
                let message =
                    format!("the step id `{id}` is there already; give each step its own");
                faults.add(format!("{}/id", step.pointer), message);
            }
            numbering.push(Numbered { id, origin });
            match &step.form {
                StepForm::Agent(agent_step) => {
                    let steps = &mut self.names.steps_of_agents;
                    steps
                        .entry(agent_step.agent.clone())
                        .or_default()
                        .push(index);
                    let bears_other_agents_id = step.id.as_ref().is_some_and(|id| {
                        self.agents.contains_key(id) && id.as_str() != agent_step.agent
                    });
                    if bears_other_agents_id {
                        let message =
                            "this is also the id of another agent; a name must mean one thing";
                        faults.add(format!("{}/id", step.pointer), message);
                    }
                }
                StepForm::Parallel(parallel) => {
                    self.names.blocks.insert(index);
                    for branch in &parallel.branches {
                        self.number(branch, numbering, faults);
                    }
                }
                StepForm::Set(_) => {}
            }
        }
    }

    fn check_names(&self, faults: &mut Faults) {
        for name in self.names.declared_inputs.iter().flatten() {
            if self.names.steps.contains_key(name) || self.names.agents.contains(name) {
                let pointer = format!("/inputs/properties/{}", crate::document::escape(name));
                faults.add(
                    pointer,
                    format!("`{name}` is also a step or an agent; a name must mean one thing"),
                );
            }
        }
    }

    /// Second pass: one list of steps. Returns its first node.
    fn add_list(
        &mut self,
        steps: &[StepSpec],
        parent: Option<NodeIndex>,
        visible: &mut BTreeSet<NodeIndex>,
        faults: &mut Faults,
    ) -> Option<NodeIndex> {
        let mut first = None;
        let mut previous: Option<NodeIndex> = None;
        for step in steps {
            let Some(numbered) = self.numbering.next() else {
                break;
            };
            let index = NodeIndex(self.nodes.len());
            // The children of a block come after it: hold its place.
            self.nodes.push(Node {
                id: numbered.id,
                id_origin: numbered.origin,
                next: None,
                parent,
                kind: NodeKind::Parallel {
                    branches: Vec::new(),
                    max_concurrency: 1,
                },
            });
            let kind = self.node_kind(step, index, visible, faults);
            self.nodes[index.0].kind = kind;
            if let Some(previous) = previous {
                self.nodes[previous.0].next = Some(index);
            }
            first = first.or(Some(index));
            previous = Some(index);
            visible.insert(index);
        }
        first
    }

    fn node_kind(
        &mut self,
        step: &StepSpec,
        index: NodeIndex,
        visible: &mut BTreeSet<NodeIndex>,
        faults: &mut Faults,
    ) -> NodeKind {
        match &step.form {
            StepForm::Agent(agent_step) => NodeKind::Step(Box::new(self.step(
                agent_step,
                &step.pointer,
                visible,
                faults,
            ))),
            StepForm::Set(value) => {
                let pointer = format!("{}/set", step.pointer);
                NodeKind::Set(self.compiled(value, &pointer, (visible, ErrorName::Unknown), faults))
            }
            StepForm::Parallel(parallel) => {
                // A branch sees no sibling's names; the steps after the block see them all.
                let before = visible.clone();
                let mut branches = Vec::new();
                for branch in &parallel.branches {
                    let mut inside = before.clone();
                    branches.extend(self.add_list(branch, Some(index), &mut inside, faults));
                    visible.extend(inside);
                }
                let all = branches.len().max(1);
                let max_concurrency = parallel
                    .max_concurrency
                    .map_or(all, |most| usize::try_from(most).unwrap_or(all));
                NodeKind::Parallel {
                    branches,
                    max_concurrency,
                }
            }
        }
    }

    fn step(
        &mut self,
        step: &AgentStepSpec,
        pointer: &str,
        visible: &BTreeSet<NodeIndex>,
        faults: &mut Faults,
    ) -> StepNode {
        let at = (visible, ErrorName::Unknown);
        let agent_name = self.agent_name(&step.agent, &format!("{pointer}/agent"), faults);
        let input_pointer = format!("{pointer}/input");
        let input = self.compiled(&step.input, &input_pointer, at, faults);
        self.note_list_use(&step.agent, &input);
        let condition = step.condition.as_ref().and_then(|text| {
            self.condition(text, &format!("{pointer}/condition"), visible, faults)
        });
        let agent_rule = self
            .agents
            .get(step.agent.as_str())
            .and_then(|agent| agent.on_error.clone());
        let rule = step.on_error.clone().or(agent_rule);
        let (retry, then) = self.policy(rule, visible, faults);
        StepNode {
            system_prompt: self.system_prompt(&step.agent, at, faults),
            agent: agent_name,
            action: step.action.clone(),
            input,
            condition,
            timeout: step.timeout,
            retry,
            then,
            required: RequiredFields::default(),
        }
    }

    fn agent_name(&self, id: &str, pointer: &str, faults: &mut Faults) -> Name {
        if let Some((name, _)) = self.agents.get_key_value(id) {
            return name.clone();
        }
        // An agent with faults of its own is there all the same.
        if !self.names.agents.contains(id) {
            let known = suggestion(id, self.names.agents.iter().map(String::as_str));
            faults.add(pointer, format!("there is no agent `{id}`{known}"));
        }
        Name::numbered(0)
    }

    fn policy(
        &mut self,
        rule: Option<OnError>,
        visible: &BTreeSet<NodeIndex>,
        faults: &mut Faults,
    ) -> (RetryPolicy, Then) {
        let workflow = RetryPolicy {
            retries: self.config.max_retries,
            delay: self.config.retry_delay,
            asked_by: AskedBy::Workflow,
        };
        let none = RetryPolicy {
            retries: 0,
            ..workflow
        };
        let rule = rule.unwrap_or(OnError::Rule(self.config.on_error));
        match rule {
            OnError::Rule(OnErrorRule::Retry) => (workflow, Then::Fail),
            OnError::Rule(OnErrorRule::Stop) => (none, Then::Fail),
            OnError::Rule(OnErrorRule::Continue) => (none, Then::Continue),
            OnError::Detailed { retry, delay, then } => {
                let policy = RetryPolicy {
                    retries: retry.unwrap_or(workflow.retries),
                    delay: delay.unwrap_or(workflow.delay),
                    asked_by: if retry.is_some() {
                        AskedBy::Step
                    } else {
                        AskedBy::Workflow
                    },
                };
                let then = match then {
                    None => Then::Fail,
                    Some(FallbackSpec::Continue) => Then::Continue,
                    Some(FallbackSpec::Agent {
                        agent,
                        action,
                        input,
                        pointer,
                    }) => {
                        let at = (visible, ErrorName::Known);
                        let name = self.agent_name(&agent, &format!("{pointer}/agent"), faults);
                        let input = self.compiled(&input, &format!("{pointer}/input"), at, faults);
                        self.note_list_use(&agent, &input);
                        Then::Fallback(Box::new(Fallback {
                            agent: name,
                            action,
                            input,
                            system_prompt: self.system_prompt(&agent, at, faults),
                            retry: match self.config.on_error {
                                OnErrorRule::Stop => none,
                                OnErrorRule::Retry | OnErrorRule::Continue => workflow,
                            },
                        }))
                    }
                };
                (policy, then)
            }
        }
    }

    fn system_prompt(
        &mut self,
        agent: &str,
        at: (&BTreeSet<NodeIndex>, ErrorName),
        faults: &mut Faults,
    ) -> Option<Compiled> {
        let agent = self.agents.get(agent)?;
        let AgentKind::Llm(llm) = &agent.kind else {
            return None;
        };
        let text = Value::String(llm.system_prompt.clone()?);
        let pointer = format!("{}/system_prompt", agent.pointer);
        Some(self.compiled(&text, &pointer, at, faults))
    }

    fn compiled(
        &mut self,
        value: &Value,
        pointer: &str,
        (visible, error): (&BTreeSet<NodeIndex>, ErrorName),
        faults: &mut Faults,
    ) -> Compiled {
        let template = Template::parse(value, pointer, faults);
        let mut references = BTreeMap::new();
        for (place, expression, kind) in template.expressions() {
            let pointer = format!("{pointer}{place}");
            let text = value
                .pointer(&place)
                .and_then(Value::as_str)
                .unwrap_or_default();
            let at = At {
                visible,
                error,
                pointer: &pointer,
                text,
                kind,
            };
            self.resolve(expression, &at, &mut references, faults);
        }
        Compiled {
            template,
            names: references,
        }
    }

    fn condition(
        &mut self,
        text: &str,
        pointer: &str,
        visible: &BTreeSet<NodeIndex>,
        faults: &mut Faults,
    ) -> Option<CompiledCondition> {
        match parse_condition(text) {
            Ok(expression) => {
                let mut references = BTreeMap::new();
                let at = At {
                    visible,
                    error: ErrorName::Unknown,
                    pointer,
                    text,
                    kind: UseKind::Boolean,
                };
                self.resolve(&expression, &at, &mut references, faults);
                Some(CompiledCondition {
                    expression,
                    names: references,
                })
            }
            Err(fault) => {
                faults.add_at(pointer, column(text, fault.offset), fault.message);
                None
            }
        }
    }

    /// Resolves the names of one expression, and notes the fields it reads of LLM steps.
    fn resolve(
        &mut self,
        expression: &Expression,
        at: &At<'_>,
        references: &mut BTreeMap<String, Reference>,
        faults: &mut Faults,
    ) {
        for (name, offset, presence) in names(expression) {
            let place = Place {
                names: &self.names,
                visible: at.visible,
                error: at.error,
            };
            let column = at.column_of(&name, offset);
            let Some(reference) = place.resolve(&name, at.pointer, column, faults) else {
                continue;
            };
            if matches!(reference, Reference::Input(_)) {
                self.inputs.infer(&name, presence);
            }
            references.insert(name, reference);
        }
        let uses = uses(expression, at.kind.clone());
        self.check_steps_uses(expression, &uses, at, faults);
        for FieldUse {
            name,
            field,
            kind,
            presence,
        } in uses
        {
            match references.get(&name).cloned() {
                Some(Reference::Inputs) => self.note_input(&field, presence, at, faults),
                Some(reference) if presence == Presence::Required => {
                    self.note_use(&reference, &field, FieldKind::of(&kind));
                }
                Some(_) | None => {}
            }
        }
    }

    /// `inputs.X` is a use of the input X.
    fn note_input(&mut self, field: &str, presence: Presence, at: &At<'_>, faults: &mut Faults) {
        let declared = self.names.declared_inputs.as_ref();
        if declared.is_none_or(|declared| declared.contains(field)) {
            self.inputs.infer(field, presence);
        } else {
            let message = format!("`inputs` declares no input `{field}`");
            faults.add_at(at.pointer, at.column_of(field, 0), message);
        }
    }

    /// `steps` gives only the steps that have ended here, each by its id.
    fn check_steps_uses(
        &self,
        expression: &Expression,
        uses: &[FieldUse],
        at: &At<'_>,
        faults: &mut Faults,
    ) {
        let mut fault =
            |message: String| faults.add_at(at.pointer, at.column_of("steps", 0), message);
        let read = names(expression)
            .iter()
            .filter(|(name, ..)| name == "steps")
            .count();
        let by_id: Vec<&FieldUse> = uses.iter().filter(|field| field.name == "steps").collect();
        if read > by_id.len() {
            fault("write `steps.ID`, with the id of a step".to_owned());
        }
        for FieldUse { field, .. } in by_id {
            match self.names.steps.get(field) {
                None => fault(format!("there is no step `{field}`")),
                Some(index) if !at.visible.contains(index) => {
                    fault(format!("the step `{field}` has not ended here"));
                }
                Some(_) => {}
            }
        }
    }

    fn note_use(&mut self, reference: &Reference, field: &str, kind: FieldKind) {
        let nodes = match reference {
            Reference::Step(index) => std::slice::from_ref(index),
            Reference::Agent(nodes) => nodes,
            Reference::Input(_)
            | Reference::Inputs
            | Reference::Steps
            | Reference::Execution
            | Reference::Error => return,
        };
        for index in nodes {
            let NodeKind::Step(step) = &self.nodes[index.0].kind else {
                continue;
            };
            let Some(agent) = self.agents.get(&step.agent) else {
                continue;
            };
            if !matches!(agent.kind, AgentKind::Llm(_)) || is_accessor(agent, field) {
                continue;
            }
            self.required.entry(*index).or_default().add(field, kind);
        }
    }

    /// A field that is the whole input of a search is a list of queries.
    fn note_list_use(&mut self, agent: &str, input: &Compiled) {
        let is_search = self
            .agents
            .get(agent)
            .is_some_and(|agent| matches!(agent.kind, AgentKind::Search(_)));
        let Template::Text(Text::Whole(Expression::Field { of, name: field })) = &input.template
        else {
            return;
        };
        let Expression::Name { name, .. } = of.as_ref() else {
            return;
        };
        if let (true, Some(reference)) = (is_search, input.names.get(name).cloned()) {
            self.note_use(&reference, field, FieldKind::Texts);
        }
    }

    fn outputs(
        &mut self,
        outputs: Option<Vec<(String, Value)>>,
        visible: &BTreeSet<NodeIndex>,
        faults: &mut Faults,
    ) -> Option<Vec<(String, Compiled)>> {
        let compiled = outputs?
            .into_iter()
            .map(|(name, value)| {
                let pointer = format!("/outputs/{}", crate::document::escape(&name));
                let at = (visible, ErrorName::Unknown);
                let template = self.compiled(&value, &pointer, at, faults);
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
        }
    }
}

/// Where an expression stands.
struct At<'a> {
    visible: &'a BTreeSet<NodeIndex>,
    error: ErrorName,
    pointer: &'a str,
    text: &'a str,
    /// What the whole expression is used as.
    kind: UseKind,
}

impl At<'_> {
    /// The column of a name in the whole text. The offset is that within its expression, so the name is
    /// looked for from there on.
    fn column_of(&self, name: &str, offset: usize) -> usize {
        let start = self.text.floor_char_boundary(offset.min(self.text.len()));
        let found = self.text[start..]
            .find(name)
            .map_or(start, |index| start + index);
        column(self.text, found)
    }
}

/// Whether `X.field` is an accessor of this agent's steps, and no field that its schema declares.
pub(crate) fn is_accessor(agent: &Agent, field: &str) -> bool {
    let declared = agent
        .output_schema
        .as_ref()
        .and_then(|schema| schema.get("properties"))
        .is_some_and(|properties| properties.get(field).is_some());
    ACCESSORS.contains(&field) && !declared
}
