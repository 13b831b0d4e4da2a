//! Agents that are functions of the outside.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::Fields;
use super::code::{Limits, check_reference};
use crate::fault::Faults;
use crate::ids::Name;

/// Functions of the outside.
#[derive(Debug, Clone)]
pub struct ToolAgent {
    /// Its tools, in their order.
    pub tools: Vec<Tool>,
}

/// Where functions come from.
#[derive(Debug, Clone)]
pub enum Tool {
    /// The name of a tool that the configuration knows.
    Named(String),
    /// A component, whose functions are the tool.
    Component(ComponentTool),
}

/// A component as a tool.
#[derive(Debug, Clone)]
pub struct ComponentTool {
    /// What its functions are called by, before a point and their own names.
    pub name: Name,
    /// The component's digest, `sha256:…`.
    pub reference: String,
    /// What one call of it may use.
    pub limits: Limits,
}

impl ToolAgent {
    /// The units of computation that one step may need, where a component of its own sets a limit; none: no component
    /// is among its tools.
    pub(crate) fn fuel_asked(&self) -> Option<Option<u64>> {
        let components = self.tools.iter().filter_map(|tool| match tool {
            Tool::Component(component) => Some(component.limits.fuel),
            Tool::Named(_) => None,
        });
        // A single one without a limit may need all there is.
        components.reduce(|most, fuel| Some(most?.max(fuel?)))
    }
}

pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<ToolAgent> {
    fields.required("tools", faults)?;
    let place = fields.at("tools");
    let before = faults.len();
    let items = fields.items("tools", faults);
    if items.len() == 0 && faults.len() == before {
        faults.add(place, "a tool agent needs at least one tool");
    }
    let mut names = BTreeSet::new();
    let mut tools = Vec::new();
    for (place, item) in items {
        let Some(tool) = read_tool(item, &place, faults) else {
            continue;
        };
        let name = match &tool {
            Tool::Named(name) => name.clone(),
            Tool::Component(component) => component.name.to_string(),
        };
        if !names.insert(name.clone()) {
            faults.add(place, format!("the tool `{name}` is there already"));
        }
        tools.push(tool);
    }
    Some(ToolAgent { tools })
}

fn read_tool(value: &Value, place: &str, faults: &mut Faults) -> Option<Tool> {
    if let Some(name) = value.as_str() {
        return Some(Tool::Named(name.to_owned()));
    }
    if !value.is_object() {
        let message = "a tool is its name, or an object with `name` and `component`";
        faults.add(place.to_owned(), message);
        return None;
    }
    let mut fields = Fields::of(value, place, faults)?;
    fields.required("name", faults);
    let name = fields.name("name", faults);
    let reference = fields.required_text("component", faults);
    if let Some(reference) = &reference {
        check_reference(reference, &fields.at("component"), faults);
    }
    let limits = fields
        .value("limits")
        .map(|value| Limits::read(value, &fields.at("limits"), faults))
        .unwrap_or_default();
    fields.finish(faults);
    Some(Tool::Component(ComponentTool {
        name: name?,
        reference: reference?,
        limits,
    }))
}
