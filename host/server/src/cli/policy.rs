//! `troupe policy`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::{Value, json};
use troupe_workflow::{Agent, AgentKind, CodeAgent, CodeSource, Definition, Faults};

use super::{CliError, Common, End, document, output};
use crate::components::{Components, named, needs};
use crate::grants::{Granting, Own, Verdict};
use crate::limits;
use crate::models::Reach;
use crate::services::open_components;

/// A secret leaves the host in a header of a request, and has no import of its own.
const SECRETS_ARE_USED_THROUGH: &str = "hosts";

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say what each code agent of a workflow is given, and why
    Explain {
        /// The workflow document
        file: PathBuf,
        /// Only this agent
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
    async fn agents(&self, only: Option<&str>) -> Result<Vec<Value>, CliError> {
        let mut agents = Vec::new();
        for agent in self.definition.agents() {
            if only.is_some_and(|id| id != agent.id.as_str()) {
                continue;
            }
            if let AgentKind::Code(code) = &agent.kind {
                agents.push(self.agent(agent, code).await?);
            }
        }
        if agents.is_empty() {
            let name = self.definition.name();
            return Err(CliError::Caller(match only {
                Some(id) => anyhow!("`{name}` has no code agent `{id}`"),
                None => anyhow!(
                    "`{name}` has no code agents; others run no foreign code, and are given nothing"
                ),
            }));
        }
        Ok(agents)
    }

    async fn agent(&self, agent: &Agent, code: &CodeAgent) -> anyhow::Result<Value> {
        let component = self.components.loaded(named(&code.source)?).await?;
        let imported = needs(&component.inspection().imports);
        let grants = self
            .granting
            .effective(self.definition, (agent, code));
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
        let unasked: Vec<Value> = match &code.source {
            CodeSource::Inline { .. } => Vec::new(),
            CodeSource::Component { .. } => imported
                .iter()
                .filter(|(grant, _)| !grants.iter().any(|one| one.capability == *grant))
                .map(|(grant, import)| json!({ "grant": grant, "import": import }))
                .collect(),
        };
        let (source, runs) = match &code.source {
            CodeSource::Component { reference } => (reference.clone(), "component"),
            CodeSource::Inline { language, .. } => {
                (format!("{} source", language.as_str()), "interpreter")
            }
        };
        Ok(json!({
            "agent": agent.id.as_str(),
            "source": source,
            "runs": runs,
            "grants": asked,
            "denied": unasked,
            "limits": limits::to_json(&limits::within(self.ceilings, &code.limits)),
        }))
    }
}

fn print(about: &Value) {
    let text = |value: &Value| output::one_line(value.as_str().unwrap_or("-"));
    output::line(&format!(
        "{}  ({})",
        text(&about["agent"]),
        text(&about["source"])
    ));
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
    for one in list(&about["denied"]) {
        output::line(&format!(
            "  denied    {}: its component imports {}, and the workflow does not grant it",
            text(&one["grant"]),
            text(&one["import"])
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
