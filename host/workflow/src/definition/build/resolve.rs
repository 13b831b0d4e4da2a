//! Templates and conditions of a document: parsed, every name resolved, and the fields noted that they read.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::required::FieldKind;
use super::super::scope::{ErrorName, Place};
use super::super::{Compiled, CompiledCondition, Reference, is_accessor};
use super::Builder;
use crate::document::{AgentKind, ResponseFormat};
use crate::expression::{Expression, FieldUse, Presence, UseKind, names, uses};
use crate::fault::Faults;
use crate::template::{Template, Text, column, parse_condition};

impl Compiled {
    /// A template of nothing, for a place that has a fault.
    pub(super) fn null() -> Self {
        Self {
            template: Template::Literal(Value::Null),
            names: BTreeMap::new(),
        }
    }
}

impl Default for CompiledCondition {
    /// A condition that is false, for a place that has a fault.
    fn default() -> Self {
        Self {
            expression: Expression::Literal(Value::Bool(false)),
            names: BTreeMap::new(),
        }
    }
}

/// Where an expression stands.
struct At<'a> {
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

impl Builder<'_> {
    pub(super) fn compiled(
        &mut self,
        value: &Value,
        pointer: &str,
        error: ErrorName,
        faults: &mut Faults,
    ) -> Compiled {
        self.compiled_as(value, pointer, (error, UseKind::Any), faults)
    }

    /// A template whose whole value is used as something.
    pub(super) fn compiled_as(
        &mut self,
        value: &Value,
        pointer: &str,
        (error, used_as): (ErrorName, UseKind),
        faults: &mut Faults,
    ) -> Compiled {
        let template = Template::parse(value, pointer, faults);
        let mut references = BTreeMap::new();
        let is_whole = matches!(template, Template::Text(Text::Whole(_)));
        for (place, expression, kind) in template.expressions() {
            let pointer = format!("{pointer}{place}");
            let text = value
                .pointer(&place)
                .and_then(Value::as_str)
                .unwrap_or_default();
            let at = At {
                error,
                pointer: &pointer,
                text,
                kind: if is_whole { used_as.clone() } else { kind },
            };
            self.resolve(expression, &at, &mut references, faults);
        }
        Compiled {
            template,
            names: references,
        }
    }

    pub(super) fn condition(
        &mut self,
        text: &str,
        pointer: &str,
        faults: &mut Faults,
    ) -> Option<CompiledCondition> {
        match parse_condition(text) {
            Ok(expression) => {
                let mut references = BTreeMap::new();
                let at = At {
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
                visible: &self.visible,
                nodes: &self.nodes,
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
        Self::check_loop_uses(expression, &uses, (at, references), faults);
        for FieldUse {
            name,
            field,
            kind,
            presence,
        } in uses
        {
            if presence == Presence::Required
                && let Some(agent) = references
                    .get(&name)
                    .and_then(|known| self.text_agent(known, &field))
            {
                let message = format!(
                    "the agent `{agent}` answers with text (`response_format`), which has no field `{field}`"
                );
                faults.add_at(at.pointer, at.column_of(&name, 0), message);
            }
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
        let read = count(expression, "steps");
        let by_id: Vec<&FieldUse> = uses.iter().filter(|field| field.name == "steps").collect();
        if read > by_id.len() {
            fault("write `steps.ID`, with the id of a step".to_owned());
        }
        for FieldUse { field, .. } in by_id {
            match self.names.steps.get(field) {
                None => fault(format!("there is no step `{field}`")),
                Some(index) if !self.visible.contains(*index) => {
                    fault(format!("the step `{field}` has not ended here"));
                }
                Some(_) => {}
            }
        }
    }

    /// `loop` has two fields, each with a meaning only where there is such a loop.
    fn check_loop_uses(
        expression: &Expression,
        uses: &[FieldUse],
        (at, references): (&At<'_>, &BTreeMap<String, Reference>),
        faults: &mut Faults,
    ) {
        let Some(Reference::Loop { around, before }) = references.get("loop") else {
            return;
        };
        let fields: Vec<&FieldUse> = uses.iter().filter(|field| field.name == "loop").collect();
        let mut fault =
            |message: &str| faults.add_at(at.pointer, at.column_of("loop", 0), message.to_owned());
        if count(expression, "loop") > fields.len() {
            fault("write `loop.index` or `loop.results`");
        }
        for FieldUse { field, .. } in fields {
            match (field.as_str(), around, before) {
                ("index", Some(_), _) | ("results", _, Some(_)) => {}
                ("index", None, _) => fault("there is no loop around this"),
                ("results", _, None) => fault("there is no loop before this that has ended here"),
                _ => fault(&format!(
                    "`loop` has no field `{field}`; it has `index` and `results`"
                )),
            }
        }
    }

    /// The agent of a step whose value is always a text, and which a field is read of.
    fn text_agent(&self, reference: &Reference, field: &str) -> Option<String> {
        let index = match reference {
            Reference::Step(index) | Reference::Previous(index) => index,
            Reference::Agent(nodes) => nodes.last()?,
            _ => return None,
        };
        let agent = self.agents.get(self.names.agent_of.get(index)?.as_str())?;
        match &agent.kind {
            AgentKind::Llm(llm)
                if llm.response_format == ResponseFormat::Text && !is_accessor(agent, field) =>
            {
                Some(agent.id.to_string())
            }
            _ => None,
        }
    }

    fn note_use(&mut self, reference: &Reference, field: &str, kind: FieldKind) {
        let nodes = match reference {
            Reference::Step(index) | Reference::Previous(index) => std::slice::from_ref(index),
            Reference::Agent(nodes) => nodes,
            Reference::Variable(_)
            | Reference::Loop { .. }
            | Reference::Input(_)
            | Reference::Inputs
            | Reference::Steps
            | Reference::Execution
            | Reference::Error => return,
        };
        for index in nodes {
            let agent = self
                .names
                .agent_of
                .get(index)
                .and_then(|id| self.agents.get(id.as_str()));
            let Some(agent) = agent else { continue };
            // A step of another kind may have a model as its fallback.
            if !is_accessor(agent, field) {
                self.required.entry(*index).or_default().add(field, kind);
            }
        }
    }

    /// A field that is the whole input of a search is a list of queries.
    pub(super) fn note_list_use(&mut self, agent: &str, input: &Compiled) {
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
}

fn count(expression: &Expression, name: &str) -> usize {
    names(expression)
        .iter()
        .filter(|(known, ..)| known == name)
        .count()
}
