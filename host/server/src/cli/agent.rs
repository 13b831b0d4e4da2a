//! `troupe agent`.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};
use troupe_sandbox::{Component, ComponentDigest, ComponentKind, Function, Inspection, Limits};

use super::{CliError, Common, End, output};
use crate::components::{self, Components, needs};
use crate::limits;
use crate::registry::Puller;
use crate::services::open_components;

#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Say what a component is, what can be called, and what it needs
    Inspect {
        /// The component (`.wasm`), or a registry's reference to one, `oci://…`
        #[arg(value_name = "FILE")]
        component: String,
        /// Print it as JSON, with the schemas of all functions
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(common: &Common, command: AgentCommand) -> Result<End, CliError> {
    let AgentCommand::Inspect { component, json } = command;
    let config = common.config()?;
    let limits = limits::ceilings(&config.limits);
    let components = open_components(&config, &common.places()?)?;
    let (about, end) = inspect(&components, &component, limits)
        .await
        .map_err(|error| CliError::Caller(error.context(component)))?;
    if json {
        output::json(&about);
    } else {
        print(&about);
    }
    Ok(end)
}

/// What there is to say. A component that describes itself is compiled for that; others are only read.
async fn inspect(
    components: &Components,
    named: &str,
    limits: Limits,
) -> anyhow::Result<(Value, End)> {
    let (wasm, reference) = if named.contains("://") {
        let puller = Puller::new(components.sandbox().component_bytes_max())?;
        let (wasm, reference) = puller.pull(named, components).await?;
        (wasm, Some(reference))
    } else {
        (components::read(Path::new(named)).await?, None)
    };
    let inspected = components.sandbox().inspect(&wasm);
    let (inspection, kind) = inspected.unwrap_or_else(|error| (unread(&wasm), Err(error)));
    let (kind, mut refusal) = match kind {
        Ok(kind) => (Some(kind), None),
        Err(error) => (None, Some(format!("{:#}", anyhow::Error::new(error)))),
    };
    let describes = inspection
        .exports
        .iter()
        .any(|name| name.starts_with("troupe:agent/description@"));
    let loaded = if refusal.is_none() && describes {
        match components.sandbox().load(wasm.into()).await {
            Ok(component) => Some(component),
            Err(error) => {
                refusal = Some(format!("{:#}", anyhow::Error::new(error)));
                None
            }
        }
    } else {
        None
    };
    let end = if refusal.is_some() {
        End::Failed
    } else {
        End::Done
    };
    let mut about = describe(
        loaded.as_ref().map_or(&inspection, Component::inspection),
        (kind, refusal),
        (loaded.as_ref(), limits),
    );
    if let Some(reference) = reference {
        about["reference"] = reference.into();
    }
    Ok((about, end))
}

/// What there is to say of bytes that are no component.
fn unread(bytes: &[u8]) -> Inspection {
    Inspection {
        digest: ComponentDigest::of(bytes),
        bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        imports: Vec::new(),
        exports: Vec::new(),
        functions: Vec::new(),
        refused: Vec::new(),
    }
}

fn describe(
    inspection: &Inspection,
    (kind, refusal): (Option<ComponentKind>, Option<String>),
    (loaded, limits): (Option<&Component>, Limits),
) -> Value {
    let functions: Vec<Value> = inspection.functions.iter().map(function).collect();
    let refused: Vec<Value> = inspection
        .refused
        .iter()
        .map(|function| json!({ "name": function.name, "reason": function.reason }))
        .collect();
    let description = loaded.and_then(Component::description).map(|about| {
        let actions = about.actions.iter().map(|action| {
            json!({
                "name": action.name, "description": action.description,
                "input": action.input_schema, "output": action.output_schema,
            })
        });
        json!({
            "name": about.name, "version": about.version, "description": about.description,
            "actions": actions.collect::<Vec<_>>(),
        })
    });
    let needs = needs(&inspection.imports).into_iter();
    let needs = needs.map(|(grant, import)| json!({ "grant": grant, "import": import }));
    json!({
        "digest": inspection.digest.to_string(),
        "bytes": inspection.bytes,
        "kind": kind.map(word),
        "refused": refusal,
        "description": description,
        "functions": functions,
        "refused_functions": refused,
        "exports": inspection.exports,
        "imports": inspection.imports,
        "needs": needs.collect::<Vec<_>>(),
        "limits": limits::to_json(&limits),
    })
}

fn word(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Agent => "agent",
        ComponentKind::Interpreter => "interpreter",
        ComponentKind::Command => "command",
        ComponentKind::Tool => "tool",
    }
}

fn function(function: &Function) -> Value {
    json!({
        "name": function.name(),
        "interface": function.interface(),
        "description": function.description(),
        "parameters": function.parameters_schema(),
        "result": function.result_schema(),
        "error": function.error_schema(),
    })
}

fn print(about: &Value) {
    if let Some(reference) = about["reference"].as_str() {
        output::line(&format!("reference {reference}"));
    }
    output::line(&format!("digest    {}", text_of(&about["digest"])));
    output::line(&format!("size      {} bytes", about["bytes"]));
    output::line(&format!("kind      {}", text_of(&about["kind"])));
    if let Some(reason) = about["refused"].as_str() {
        output::line(&format!("refused   {}", output::one_line(reason)));
    }
    print_description(about);
    print_functions(about);
    for part in ["exports", "imports"] {
        let names = list(&about[part]);
        if !names.is_empty() {
            output::line(part);
        }
        for name in names {
            output::line(&output::one_line(&format!("  {}", text_of(name))));
        }
    }
    output::line("needs, where it uses what it imports");
    for need in list(&about["needs"]) {
        let (grant, import) = (text_of(&need["grant"]), text_of(&need["import"]));
        output::line(&output::one_line(&format!("  {grant:<10}{import}")));
    }
    if list(&about["needs"]).is_empty() {
        output::line("  nothing");
    }
    output::line("limits, where a workflow sets no lower ones");
    if let Some(limits) = about["limits"].as_object() {
        for (name, limit) in limits {
            output::line(&format!("  {name:<11}{limit}"));
        }
    }
}

/// What it tells about itself, where it does.
fn print_description(about: &Value) {
    if let Some(description) = about["description"].as_object() {
        let named = |name: &str| output::one_line(description[name].as_str().unwrap_or_default());
        output::line(&format!("name      {} {}", named("name"), named("version")));
        output::line(&format!("about     {}", named("description")));
        for action in list(&description["actions"]) {
            let (name, what) = (text_of(&action["name"]), text_of(&action["description"]));
            output::line(&output::one_line(&format!("  {name}: {what}")));
            output::line(&output::one_line(&format!(
                "    input   {}",
                action["input"]
            )));
            output::line(&output::one_line(&format!(
                "    output  {}",
                action["output"]
            )));
        }
    }
}

/// The functions that can be called and those that cannot, where there are any.
fn print_functions(about: &Value) {
    if ["functions", "refused_functions"]
        .iter()
        .any(|part| !list(&about[part]).is_empty())
    {
        output::line("functions");
    }
    for function in list(&about["functions"]) {
        output::line(&output::one_line(&format!(
            "  {}",
            text_of(&function["name"])
        )));
        if let Some(description) = function["description"].as_str() {
            output::line(&output::one_line(&format!("    {description}")));
        }
        for part in ["parameters", "result", "error"] {
            if !function[part].is_null() {
                output::line(&output::one_line(&format!(
                    "    {part:<11}{}",
                    function[part]
                )));
            }
        }
    }
    for function in list(&about["refused_functions"]) {
        let (name, reason) = (text_of(&function["name"]), text_of(&function["reason"]));
        output::line(&output::one_line(&format!(
            "  {name}: cannot be called: {reason}"
        )));
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
