//! Steps that hold steps, sub-workflows, timers: what each form becomes.

use serde_json::Value;

use super::super::scope::ErrorName;
use super::super::{List, LoopNode, LoopNodeKind, NodeIndex, NodeKind, WaitNode, WorkflowNode};
use super::Builder;
use crate::document::{
    BranchSpec, LoopKind, LoopSpec, ParallelSpec, StepForm, StepSpec, WaitSpec, WorkflowSpec,
};
use crate::expression::UseKind;
use crate::fault::{Faults, suggestion};
use crate::ids::Name;

impl Builder<'_> {
    /// Gives a node its kind, and what depends on its form.
    pub(super) fn add_form(&mut self, step: &StepSpec, index: NodeIndex, faults: &mut Faults) {
        if !matches!(step.form, StepForm::Agent(_))
            && let Some(rule) = &step.on_error
        {
            let (_, then) = self.policy(rule.clone(), faults);
            self.nodes[index.0].then = then;
        }
        let (kind, weight) = match &step.form {
            StepForm::Agent(agent_step) => {
                let kind = self.step(agent_step, step, index, faults);
                (NodeKind::Step(Box::new(kind)), 1)
            }
            StepForm::Set(value) => {
                let place = format!("{}/set", step.pointer);
                let value = self.compiled(value, &place, ErrorName::Unknown, faults);
                (NodeKind::Set(value), 1)
            }
            StepForm::Parallel(parallel) => self.parallel(parallel, index, faults),
            StepForm::Branch(branch) => self.branch(branch, step, index, faults),
            StepForm::Loop(spec) => self.repeated(spec, step, index, faults),
            StepForm::Workflow(spec) => (self.workflow(spec, &step.pointer, faults), 1),
            StepForm::Wait(spec) => (self.wait(spec, &step.pointer, faults), 1),
            StepForm::Faulty => return,
        };
        self.nodes[index.0].kind = kind;
        self.nodes[index.0].weight = weight;
    }

    fn parallel(
        &mut self,
        parallel: &ParallelSpec,
        index: NodeIndex,
        faults: &mut Faults,
    ) -> (NodeKind, usize) {
        // A branch sees no sibling's names; the steps after the block see them all.
        let mut hidden = Vec::new();
        let mut branches = Vec::new();
        for branch in &parallel.branches {
            let mark = self.visible.mark();
            branches.extend(self.add_list(branch, Some(index), faults));
            hidden.extend(self.visible.hide_since(mark));
        }
        self.show(hidden);
        let all = branches.len().max(1);
        let max_concurrency = parallel
            .max_concurrency
            .map_or(all, |most| usize::try_from(most).unwrap_or(all));
        let weight = branches
            .iter()
            .map(|branch| self.weight(Some(*branch)))
            .sum();
        let kind = NodeKind::Parallel {
            branches,
            max_concurrency,
        };
        (kind, weight)
    }

    fn branch(
        &mut self,
        branch: &BranchSpec,
        step: &StepSpec,
        index: NodeIndex,
        faults: &mut Faults,
    ) -> (NodeKind, usize) {
        let place = format!("{}/condition", step.pointer);
        let condition = self.condition(&branch.condition, &place, faults);
        let mark = self.visible.mark();
        let then = self.add_list(&branch.then, Some(index), faults);
        let mut hidden = self.visible.hide_since(mark);
        let otherwise = self.add_list(&branch.otherwise, Some(index), faults);
        hidden.extend(self.visible.hide_since(mark));
        self.show(hidden);
        let weight = self.weight(then) + self.weight(otherwise);
        let kind = NodeKind::Branch {
            condition: condition.unwrap_or_default(),
            then,
            otherwise,
        };
        (kind, weight)
    }

    fn repeated(
        &mut self,
        spec: &LoopSpec,
        step: &StepSpec,
        index: NodeIndex,
        faults: &mut Faults,
    ) -> (NodeKind, usize) {
        let place = format!("{}/loop", step.pointer);
        let mut items = None;
        if let LoopKind::Items {
            items: value,
            variable,
            ..
        } = &spec.kind
        {
            let at = format!("{place}/items");
            let compiled =
                self.compiled_as(value, &at, (ErrorName::Unknown, UseKind::List), faults);
            items = Some(compiled);
            self.check_variable(variable, &format!("{place}/as"), faults);
            self.names.variables.push((variable.clone(), index));
        }
        let mark = self.visible.mark();
        self.names.loops.push(index);
        let body = self.add_list(&spec.steps, Some(index), faults);
        // Asked after a round, in which every step has ended.
        self.names.at = NodeIndex(usize::MAX);
        let mut condition = match &spec.kind {
            LoopKind::Until { condition, .. } => {
                self.condition(condition, &format!("{place}/until"), faults)
            }
            LoopKind::Items { .. } | LoopKind::While { .. } => None,
        };
        // The names of a loop's body end with the loop.
        self.visible.hide_since(mark);
        if let LoopKind::While {
            condition: text, ..
        } = &spec.kind
        {
            self.names.at = index;
            condition = self.condition(text, &format!("{place}/while"), faults);
        }
        self.names.loops.pop();
        if items.is_some() {
            self.names.variables.pop();
        }
        let weight = self.weight(body);
        let body = body.unwrap_or(List {
            first: index,
            last: index,
        });
        let rounds = |most: u32| usize::try_from(most).unwrap_or(usize::MAX);
        let condition = condition.unwrap_or_default();
        let kind = match &spec.kind {
            LoopKind::Items { concurrency, .. } => LoopNodeKind::Items {
                items: items.unwrap_or_else(super::Compiled::null),
                concurrency: rounds(*concurrency),
            },
            LoopKind::Until { rounds_max, .. } => LoopNodeKind::Until {
                condition,
                rounds_max: rounds(*rounds_max),
            },
            LoopKind::While { rounds_max, .. } => LoopNodeKind::While {
                condition,
                rounds_max: rounds(*rounds_max),
            },
        };
        let node = LoopNode { body, weight, kind };
        (NodeKind::Loop(Box::new(node)), weight)
    }

    /// A loop variable is no other name, and hides none.
    fn check_variable(&mut self, variable: &Name, pointer: &str, faults: &mut Faults) {
        let name = variable.as_str();
        let other = if self.names.steps.contains_key(name) {
            Some("a step")
        } else if self.names.agents.contains(name) {
            Some("an agent")
        } else if self
            .names
            .declared_inputs
            .as_ref()
            .is_some_and(|declared| declared.contains(name))
        {
            Some("an input")
        } else if self
            .names
            .variables
            .iter()
            .any(|(known, _)| known == variable)
        {
            Some("the variable of a loop around this one")
        } else {
            None
        };
        match other {
            Some(other) => faults.add(
                pointer,
                format!("`{name}` is also {other}; a name must mean one thing"),
            ),
            None => self.variables.push((variable.clone(), pointer.to_owned())),
        }
    }

    fn workflow(&mut self, spec: &WorkflowSpec, pointer: &str, faults: &mut Faults) -> NodeKind {
        if !self.workflows.contains(&spec.name) {
            let known = suggestion(&spec.name, self.workflows.iter().map(String::as_str));
            let message = format!(
                "there is no workflow `{}` in `workflows`{known}; put it there, or name its file (\"./name.json\")",
                spec.name
            );
            faults.add(format!("{pointer}/workflow"), message);
        }
        let place = format!("{pointer}/inputs");
        let inputs = self.compiled(&spec.inputs, &place, ErrorName::Unknown, faults);
        let given = spec.inputs.as_object();
        NodeKind::Workflow(Box::new(WorkflowNode {
            name: spec.name.clone(),
            inputs,
            pointer: pointer.to_owned(),
            given: given.map(|map| map.keys().cloned().collect()),
        }))
    }

    fn wait(&mut self, spec: &WaitSpec, pointer: &str, faults: &mut Faults) -> NodeKind {
        let mut compiled = |field: &str, value: &Value| {
            let place = format!("{pointer}/wait/{field}");
            self.compiled(value, &place, ErrorName::Unknown, faults)
        };
        NodeKind::Wait(match spec {
            WaitSpec::Seconds(value) => WaitNode::Seconds(compiled("seconds", value)),
            WaitSpec::Until(value) => WaitNode::Until(compiled("until", value)),
        })
    }

    fn show(&mut self, hidden: Vec<NodeIndex>) {
        for index in hidden {
            self.visible.add(index);
        }
    }

    /// What the steps of a list count for.
    fn weight(&self, list: Option<List>) -> usize {
        let mut at = list.map(|list| list.first);
        let mut sum = 0;
        while let Some(index) = at {
            let node = &self.nodes[index.0];
            sum += node.weight;
            at = node.next;
        }
        sum
    }
}
