//! `troupe policy`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::{Value, json};
use troupe_workflow::{Agent, AgentKind, CodeAgent, CodeSource, Definition, Faults, Tool};

use super::{CliError, Common, End, document, output};
use crate::components::{Components, named, needs};
use crate::grants::{Granting, Own, Verdict};
use crate::limits;
use crate::models::Reach;
use crate::services::open_components;
use crate::tools;

/// A secret leaves the host in a header of a request, and has no import of its own.
const SECRETS_ARE_USED_THROUGH: &str = "hosts";

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say what each code agent and each tool of a workflow is given, and why
    Explain {
        /// The workflow document
        file: PathBuf,
        /// Only this agent: `ID`, or `WORKFLOW/ID`
        #[arg(long, value_name = "ID")]
        agent: Option<String>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(common: &Common, command: PolicyCommand) -> Result<End, CliError> {
    let PolicyCommand::Explain { file, agent, json } = command;
    let config = common.config()?;
    let places = common.places()?;
    let components = open_components(&config, &places)?;
    let mut faults = Faults::default();
    let mut gathered = document::gather(&file, &mut faults)?;
    gathered
        .add_components((&components, Reach::Online), &mut faults)
        .await;
    let definition = document::compile(&gathered.document, faults)?;
    let explained = Explained {
        granting: Granting::new(&config, &Own::new(&config, &places), Reach::Offline)?,
        ceilings: limits::ceilings(&config.limits),
        definition: &definition,
        components: &components,
    };
    let agents = explained.agents(agent.as_deref()).await?;
    if json {
        output::json(&json!({ "workflow": definition.name(), "agents": agents }));
    } else {
        for about in &agents {
            print(about);
        }
    }
    Ok(End::Done)
}

struct Explained<'a> {
    granting: Granting,
    ceilings: troupe_sandbox::Limits,
    definition: &'a Definition,
    components: &'a Components,
}

impl Explained<'_> {
    /// Agents that run components, of the workflow and of those inside of it.
    async fn agents(&self, only: Option<&str>) -> Result<Vec<Value>, CliError> {
        let mut agents = Vec::new();
        let subs = self.definition.workflows().map(|(_, sub)| sub.as_ref());
        for workflow in std::iter::once(self.definition).chain(subs) {
            for agent in workflow.agents() {
                if only.is_some_and(|only| !is_named(only, workflow, agent)) {
                    continue;
                }
                match &agent.kind {
                    AgentKind::Code(code) => {
                        agents.push(self.code_agent(workflow, agent, code).await?);
                    }
                    AgentKind::Tool(tools) => {
                        for tool in &tools.tools {
                            agents.push(self.tool(workflow, agent, tool).await?);
                        }
                    }
                    AgentKind::Llm(_) | AgentKind::Search(_) | AgentKind::Human(_) => {}
                }
            }
        }
        if agents.is_empty() {
            let name = self.definition.name();
            return Err(CliError::Caller(match only {
                Some(only) => {
                    anyhow!("`{name}` has no code agent `{only}`, and no tool agent of that name")
                }
                None => anyhow!(
                    "`{name}` has neither code agents nor tool agents; others run no foreign code, and are given nothing"
                ),
            }));
        }
        Ok(agents)
    }

    async fn code_agent(
        &self,
        workflow: &Definition,
        agent: &Agent,
        code: &CodeAgent,
    ) -> anyhow::Result<Value> {
        let component = self.components.loaded(named(&code.source)?).await?;
        let imported = needs(&component.inspection().imports);
        let grants = self.granting.effective(workflow, (agent, code));
        let uses = |capability: &str| {
            let grant = match capability {
                "secrets" => SECRETS_ARE_USED_THROUGH,
                other => other,
            };
            imported.iter().any(|(imported, _)| *imported == grant)
        };
        let asked: Vec<Value> = grants
            .iter()
            .map(|one| {
                let (word, why) = match &one.verdict {
                    Verdict::Granted(by) => ("granted", by),
                    Verdict::Withheld(remedy) => ("withheld", remedy),
                };
                json!({
                    "grant": one.capability, "what": one.what, "verdict": word, "why": why,
                    "imported": uses(one.capability),
                })
            })
            .collect();
        // What its component could use, and nobody asks for. An interpreter could use all it imports for any program.
        let mut unasked = match &code.source {
            CodeSource::Inline { .. } => Vec::new(),
            CodeSource::Component { .. } => imported.clone(),
        };
        unasked.retain(|(grant, _)| !grants.iter().any(|one| one.capability == *grant));
        let (source, runs) = match &code.source {
            CodeSource::Component { reference } => (reference.clone(), "component"),
            CodeSource::Inline { language, .. } => {
                (format!("{} source", language.as_str()), "interpreter")
            }
        };
        Ok(json!({
            "workflow": workflow.name(),
            "agent": agent.id.as_str(),
            "name": self.shown(workflow, agent),
            "source": source,
            "runs": runs,
            "grants": asked,
            "denied": denied(&unasked),
            "limits": limits::to_json(&limits::within(self.ceilings, &code.limits)),
        }))
    }

    /// A tool is called with no grants, whoever calls it.
    async fn tool(
        &self,
        workflow: &Definition,
        agent: &Agent,
        tool: &Tool,
    ) -> anyhow::Result<Value> {
        let mut about = json!({
            "workflow": workflow.name(),
            "agent": agent.id.as_str(),
            "name": self.shown(workflow, agent),
            "runs": "tool",
            "grants": [],
            "denied": [],
        });
        match tool {
            Tool::Component(tool) => {
                let loaded = tools::load_one(self.components, tool).await?;
                let imported = needs(&loaded.component.inspection().imports);
                let limits = limits::within(self.ceilings, &tool.limits);
                about["tool"] = json!(loaded.name);
                about["source"] = json!(tool.reference);
                about["denied"] = denied(&imported);
                about["limits"] = limits::to_json(&limits);
            }
            Tool::Named(name) => {
                about["tool"] = json!(name);
                about["refused"] = json!(tools::not_configured(name));
            }
        }
        Ok(about)
    }

    /// What an agent is called here: with its workflow where that is not the one that is explained.
    fn shown(&self, workflow: &Definition, agent: &Agent) -> String {
        match std::ptr::eq(workflow, self.definition) {
            true => agent.id.to_string(),
            false => format!("{}/{}", workflow.name(), agent.id),
        }
    }
}

/// Whether an agent is meant: by its id, or by its workflow's name and its id, as in `agents` of [[grants]].
fn is_named(only: &str, workflow: &Definition, agent: &Agent) -> bool {
    let id = agent.id.as_str();
    match only.rsplit_once('/') {
        Some(named) => named == (workflow.name(), id),
        None => only == id,
    }
}

fn denied(imported: &[(&'static str, String)]) -> Value {
    let imported = imported.iter();
    imported
        .map(|(grant, import)| json!({ "grant": grant, "import": import }))
        .collect()
}

fn print(about: &Value) {
    let text = |value: &Value| output::one_line(value.as_str().unwrap_or("-"));
    let is_tool = about["tool"].is_string();
    let name = text(&about["name"]);
    let source = text(&about["source"]);
    output::line(&match is_tool {
        true => format!("{name}, tool {}  ({source})", text(&about["tool"])),
        false => format!("{name}  ({source})"),
    });
    if about["refused"].is_string() {
        output::line(&format!("  withheld  {}", text(&about["refused"])));
        return;
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for one in list(&about["grants"]) {
        let name = format!("{} {}", text(&one["grant"]), text(&one["what"]));
        let (verdict, why) = (text(&one["verdict"]), text(&one["why"]));
        output::line(&format!("  {verdict:<9} {}: {why}", name.trim_end()));
        if one["imported"] == false {
            output::line(&format!(
                "            its {} does not import this, and cannot use it",
                text(&about["runs"])
            ));
        }
    }
    if is_tool {
        output::line("  granted   nothing: tools have no grants of their own");
    }
    for one in list(&about["denied"]) {
        let (grant, import) = (text(&one["grant"]), text(&one["import"]));
        let why = match is_tool {
            true => "and nothing grants it to a tool",
            false => "and the workflow does not grant it",
        };
        output::line(&format!(
            "  denied    {grant}: its component imports {import}, {why}"
        ));
    }
    let limits = about["limits"].as_object();
    let limits: Vec<String> = limits
        .into_iter()
        .flatten()
        .map(|(name, limit)| format!("{name} {limit}"))
        .collect();
    output::line(&format!("  limits    {}", limits.join(", ")));
}
