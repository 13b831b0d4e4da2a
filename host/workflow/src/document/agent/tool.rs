//! Agents that are functions of the outside.

use super::super::Fields;
use crate::fault::Faults;

/// Functions of the outside.
#[derive(Debug, Clone)]
pub struct ToolAgent {
    /// Names of tools that the configuration knows.
    pub tools: Vec<String>,
}

pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<ToolAgent> {
    let tools = fields.required_texts("tools", faults);
    if tools.as_ref().is_some_and(Vec::is_empty) {
        faults.add(fields.at("tools"), "a tool agent needs at least one tool");
    }
    Some(ToolAgent { tools: tools? })
}
