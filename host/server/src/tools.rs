//! Tools that are components: their functions, and calls of them with JSON.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::Value;
use troupe_sandbox::{
    Call, Component, ComponentDigest, ComponentKind, Function, Limits, Report, SandboxError, tools,
};
use troupe_workflow::{
    AgentKind, Code, ComponentTool, Definition, Failure, Limits as AskedLimits, Tool, ToolAgent,
};

use crate::components::{Components, Which};
use crate::limits::within;

/// A tool that is a component, loaded.
pub(crate) struct LoadedTool {
    /// What its functions are called by, before a point and their own names.
    pub(crate) name: String,
    pub(crate) component: Component,
    pub(crate) asked: AskedLimits,
}

/// A function of a tool.
pub(crate) struct ToolFunction<'a> {
    pub(crate) tool: &'a LoadedTool,
    pub(crate) function: &'a Function,
}

/// The tools of a tool agent.
///
/// # Errors
/// A component that is not there or is no tool, or a tool that the configuration would have to know.
pub(crate) async fn load(
    components: &Components,
    agent: &ToolAgent,
) -> anyhow::Result<Vec<LoadedTool>> {
    let mut loaded = Vec::new();
    for tool in components_of(agent)? {
        loaded.push(load_one(components, tool).await?);
    }
    Ok(loaded)
}

fn components_of(agent: &ToolAgent) -> anyhow::Result<Vec<&ComponentTool>> {
    let tools = agent.tools.iter().map(|tool| match tool {
        Tool::Component(tool) => Ok(tool),
        Tool::Named(name) => bail!("{}", not_configured(name)),
    });
    tools.collect()
}

/// What a name that stands for no tool is answered.
pub(crate) fn not_configured(name: &str) -> String {
    format!(
        "the tool `{name}` is not known: tools of the configuration are not available in this version of Troupe; \
         write a component here instead, {{\"name\": \"{name}\", \"component\": \"….wasm\"}}"
    )
}

/// Loads a tool's component.
///
/// # Errors
/// A component that is not there or is no tool.
pub(crate) async fn load_one(
    components: &Components,
    tool: &ComponentTool,
) -> anyhow::Result<LoadedTool> {
    let component = components.added(&digest_of(tool)?).await?;
    check_functions(component.kind(), component.functions().len())?;
    Ok(LoadedTool {
        name: tool.name.to_string(),
        component,
        asked: tool.limits.clone(),
    })
}

/// Checks that a tool's component is here and has functions, and begins to load it.
pub(crate) async fn check(
    components: &Arc<Components>,
    tool: &ComponentTool,
) -> anyhow::Result<()> {
    let which = Which::Added(digest_of(tool)?);
    let examined = components.examine(which).await?;
    check_functions(examined.kind, examined.functions)?;
    components.prepare(which);
    Ok(())
}

/// The components of a tool agent; references that are no digests are left out.
pub(crate) fn digests(agent: &ToolAgent) -> impl Iterator<Item = ComponentDigest> {
    agent.tools.iter().filter_map(|tool| match tool {
        Tool::Component(tool) => digest_of(tool).ok(),
        Tool::Named(_) => None,
    })
}

fn digest_of(tool: &ComponentTool) -> anyhow::Result<ComponentDigest> {
    let reference = &tool.reference;
    if reference.contains("://") {
        bail!("{}", not_fetched(reference));
    }
    reference
        .parse()
        .with_context(|| format!("`{reference}` is no digest"))
}

fn check_functions(kind: ComponentKind, count: usize) -> anyhow::Result<()> {
    if count == 0 {
        bail!("the component is {kind}, and has no functions to call as a tool");
    }
    Ok(())
}

/// What an address is answered where no component is fetched: by what a client of the API or a stored document names,
/// no connection is made.
pub(crate) fn not_fetched(reference: &str) -> String {
    format!(
        "the component `{reference}` is not fetched here: store the document with `troupe workflow create`, which fetches \
         components from registries and puts their digests in the place, or name the digest (`sha256:…`) of a component \
         that this machine has"
    )
}

/// The tools that grants name: ids of tool agents, each of which may have several.
///
/// # Errors
/// As of [`load`], or two tools of one name.
pub(crate) async fn granted(
    components: &Components,
    definition: &Definition,
    names: &[String],
) -> anyhow::Result<Vec<LoadedTool>> {
    let mut all = Vec::new();
    for tool in named(definition, names)? {
        all.push(load_one(components, tool).await?);
    }
    Ok(all)
}

/// What grants name, without loading it.
///
/// # Errors
/// A name that stands for no tool agent, or two tools of one name.
pub(crate) fn named<'a>(
    definition: &'a Definition,
    names: &[String],
) -> anyhow::Result<Vec<&'a ComponentTool>> {
    let mut all: Vec<&ComponentTool> = Vec::new();
    for name in names {
        let Some(AgentKind::Tool(agent)) = definition.agent(name).map(|agent| &agent.kind) else {
            bail!(
                "the tool `{name}` is not known: name a tool agent of this workflow, {{\"id\": \"{name}\", \"type\": \"tool\", \"tools\": [{{\"name\": \"{name}\", \"component\": \"….wasm\"}}]}}"
            );
        };
        for tool in components_of(agent)? {
            if all.iter().any(|other| other.name == tool.name) {
                bail!(
                    "two of the granted tools are called `{}`; rename one",
                    tool.name
                );
            }
            all.push(tool);
        }
    }
    Ok(all)
}

/// All functions, by the names that callers use: `tool.function`.
pub(crate) fn list(all: &[LoadedTool]) -> Vec<tools::Tool> {
    let each = all.iter().flat_map(|tool| {
        let functions = tool.component.functions().iter();
        functions.map(|function| tools::Tool {
            name: format!("{}.{}", tool.name, function.name()),
            description: description(&tool.component, function),
            parameters: function.parameters_schema().to_string(),
        })
    });
    each.collect()
}

/// What a function does, as its component says, or how it is called.
fn description(component: &Component, function: &Function) -> String {
    if let Some(description) = function.description() {
        return description.to_owned();
    }
    match component.description() {
        Some(about) => about.description.clone(),
        None => format!("The function `{}`.", function.name()),
    }
}

/// Finds a function by `tool.function`; by its own name where just one tool has one of it; by the tool's name, or any,
/// where there is a single function.
///
/// # Errors
/// There is none, or more than one: which there are.
pub(crate) fn find<'a>(
    all: &'a [LoadedTool],
    name: &str,
    any: AnyName,
) -> Result<ToolFunction<'a>, String> {
    let found = |tool, function| ToolFunction { tool, function };
    if let Some((tool, function)) = name.split_once('.')
        && let Some(tool) = all.iter().find(|other| other.name == tool)
    {
        let function = tool.component.function(function);
        return function
            .map(|function| found(tool, function))
            .map_err(|error| error.to_string());
    }
    let mut own = all.iter().filter_map(|tool| {
        let function = tool.component.function(name).ok()?;
        Some(found(tool, function))
    });
    if let (Some(first), None) = (own.next(), own.next()) {
        return Ok(first);
    }
    if let [tool] = all
        && let [function] = tool.component.functions()
        && (any == AnyName::Taken || tool.name == name)
    {
        return Ok(found(tool, function));
    }
    const NAMED_MAX: usize = 20;
    let known = all.iter().flat_map(|tool| {
        let functions = tool.component.functions().iter();
        functions.map(|function| format!("`{}.{}`", tool.name, function.name()))
    });
    let known: Vec<String> = known.take(NAMED_MAX).collect();
    let refused = all
        .iter()
        .find_map(|tool| match tool.component.function(name) {
            Err(error @ troupe_sandbox::UnknownFunction::Refused { .. }) => Some(error.to_string()),
            _ => None,
        });
    Err(refused.unwrap_or_else(|| {
        format!(
            "there is no function `{name}`; there are {}",
            known.join(", ")
        )
    }))
}

/// Whether a tool that has a single function takes any name for it, as the action of a step is a free text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnyName {
    Taken,
    Refused,
}

/// The arguments of a step's input: an object, or a text for the only parameter that is needed.
pub(crate) fn arguments_of(function: &Function, input: Value) -> Value {
    match (input, function.only_string_parameter()) {
        (Value::String(text), Some(name)) => serde_json::json!({ name: text }),
        (input, _) => input,
    }
}

/// Calls a function of a component.
///
/// # Errors
/// Arguments that do not fit, with the schema of those that would, or a failure of the host.
pub(crate) async fn call(
    sandbox: &troupe_sandbox::Sandbox,
    (component, function): (&Component, &Function),
    arguments: &Value,
    call: Call,
) -> Result<Report, NoReport> {
    let arguments = function.read_arguments(arguments).map_err(|error| {
        let schema = function.parameters_schema();
        let name = function.name();
        Failure::new(
            Code::InputInvalid,
            format!("the input of `{name}` does not fit: {error}; its schema is {schema}"),
        )
    })?;
    sandbox
        .call_function(component, function, arguments, call)
        .await
        .map_err(|error| sandbox_failed(&error))
}

/// Why a component that was called has no report.
pub(crate) enum NoReport {
    /// It was not called, or the host failed.
    Failed(Failure),
    /// The process that ran it ended: it can be run again, with the answers it got.
    Interrupted(Failure),
}

impl From<Failure> for NoReport {
    fn from(failure: Failure) -> Self {
        NoReport::Failed(failure)
    }
}

impl From<NoReport> for Failure {
    fn from(no_report: NoReport) -> Self {
        match no_report {
            NoReport::Failed(failure) | NoReport::Interrupted(failure) => failure,
        }
    }
}

/// A failure of the host, or what it lacks.
pub(crate) fn sandbox_failed(error: &SandboxError) -> NoReport {
    // What it lacks now it may have later, and the answers so far are as good then.
    let code = if error.is_retryable() {
        Code::Overloaded
    } else {
        Code::Internal
    };
    let failure = Failure::new(code, format!("the sandbox failed: {error}"));
    match error {
        SandboxError::Interrupted { .. } => NoReport::Interrupted(failure),
        _ => NoReport::Failed(failure),
    }
}

/// A failure of a component that is not there.
pub(crate) fn unavailable(error: &anyhow::Error) -> Failure {
    Failure::new(Code::ComponentUnavailable, format!("{error:#}"))
}

/// What a component may use as a tool of others, beside what its caller has left.
pub(crate) fn limits(ceiling: Limits, asked: &AskedLimits, fuel_max: u64) -> Limits {
    let limits = within(ceiling, asked);
    Limits {
        fuel: limits.fuel.min(fuel_max),
        ..limits
    }
}

/// The kinds that a code agent's component may be of.
pub(crate) fn is_agent(kind: ComponentKind) -> bool {
    match kind {
        ComponentKind::Agent | ComponentKind::Command | ComponentKind::Tool => true,
        ComponentKind::Interpreter => false,
    }
}
