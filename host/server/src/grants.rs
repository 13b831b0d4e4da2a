//! What agents are given: what both the operator's file and the workflow allow. [`Granting::effective`] says it for
//! people, with the reasons; [`Granting::given`] says it to the sandbox.

mod effective;
mod machine;
mod narrowing;
mod own;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use troupe_providers::{Egress, EgressLimits};
use troupe_sandbox::{
    ContextGrant, EnvGrant, FilesGrant, FolderAccess, FolderGrant, Grants, HttpGrant, HumanGrant,
    LlmGrant, MemoryGrant, OperatorHost, ScratchGrant, SearchGrant, SecretGrant, ToolsGrant,
    Withheld,
};
use troupe_workflow::{
    Agent, CodeAgent, CodeSource, Definition, Faults, FileGrant, MicroUsd,
    SecretGrant as AskedSecret,
};

use crate::config::{AskingAgent, FolderEntry, GrantEntries, GrantEntry, ServerConfig};
use crate::models::Reach;
use crate::secret_search::SecretSearch;
use crate::tools::LoadedTool;

use self::narrowing::{HUMAN, MODELS, Narrowing, SEARCH, TOOLS};

pub(crate) use effective::Verdict;
pub(crate) use own::Own;

/// Files and folders that a call may make in one folder. Protects the file system, and the host's memory.
pub(crate) const ENTRIES_MAX: u32 = 10_000;

/// The operator's grants, and the way out for those of hosts.
pub(crate) struct Granting {
    /// None: the executions of these services run offline.
    pub(crate) egress: Option<Egress>,
    /// Bounds of one request.
    pub(crate) limits: EgressLimits,
    entries: GrantEntries,
}

/// What one agent is given.
pub(crate) struct Given {
    pub(crate) grants: Grants,
    /// By name.
    pub(crate) secrets: BTreeMap<String, Arc<SecretSearch>>,
    /// Most that the models it asks may cost in one step, as the operator says; its workflow may say less.
    pub(crate) share: Option<MicroUsd>,
}

/// Where something is granted, or why not and what would grant it.
type Granted<T> = Result<T, String>;

impl Granting {
    /// Prepares the way out; connects to nothing.
    ///
    /// # Errors
    /// A folder that is not to be granted, no usable certificates.
    pub(crate) fn new(config: &ServerConfig, own: &Own, reach: Reach) -> anyhow::Result<Self> {
        for entry in config.grants.iter().map(toml::Spanned::get_ref) {
            for folder in &entry.files {
                own.check(&access(folder, String::new()))
                    .map_err(|reason| anyhow::anyhow!("{}: {reason}", entry.place()))?;
            }
        }
        Ok(Self {
            egress: match reach {
                Reach::Online => Some(Egress::new()?),
                Reach::Offline => None,
            },
            limits: EgressLimits::STANDARD,
            entries: config.grants.clone(),
        })
    }

    /// The ids of the tool agents whose tools an agent is given; none: it is given no tools.
    pub(crate) fn tool_agents(
        &self,
        workflow: &str,
        (agent, code): (&Agent, &CodeAgent),
    ) -> Option<Vec<String>> {
        let asking = asking(workflow, agent, code);
        let ids = code.grants.tools.as_ref()?.iter();
        let left = ids.filter(|id| self.narrowed(asking, TOOLS, id).is_ok());
        Some(left.cloned().collect())
    }

    /// What an agent is given, with the tools that were loaded for it.
    ///
    /// # Errors
    /// Something that is not there; creation has checked for that, but the operator's file may have changed.
    pub(crate) fn given(
        &self,
        definition: &Definition,
        (agent, code): (&Agent, &CodeAgent),
        tools: &[LoadedTool],
    ) -> Result<Given, String> {
        let asking = asking(definition.name(), agent, code);
        let asked = &code.grants;
        let mut withheld = Vec::new();
        let mut narrow = |names: &[String], by: Narrowing| -> Vec<String> {
            let (given, others): (Vec<_>, Vec<_>) = names
                .iter()
                .map(|name| (name, self.narrowed(asking, by, name)))
                .partition(|(_, verdict)| verdict.is_ok());
            let others = others.into_iter().filter_map(|(name, verdict)| {
                Some(Withheld {
                    capability: by.capability.to_owned(),
                    name: name.clone(),
                    remedy: verdict.err()?,
                })
            });
            withheld.extend(others);
            given.into_iter().map(|(name, _)| name.clone()).collect()
        };
        let llm = asked.llm_models.as_deref();
        let llm = llm.map(|models| LlmGrant {
            models: narrow(models, MODELS),
        });
        let search = asked.search.as_deref();
        let search = search.map(|sources| SearchGrant {
            sources: narrow(sources, SEARCH),
        });
        // Those that are left were loaded.
        let granted_tools = asked.tools.as_ref().map(|_ids| ToolsGrant {
            names: tools.iter().map(|tool| tool.name.clone()).collect(),
        });
        let human = asked.human.as_ref().map(|people| HumanGrant {
            // Anybody: those whom the operator leaves, which is in `narrowed`.
            assignees: people.assignees.as_deref().map(|all| narrow(all, HUMAN)),
        });
        let memory = asked.memory.then(|| self.memory(asking));
        withheld.extend(memory.iter().filter_map(withheld_memory));
        withheld.extend(self.other_tools(definition, (agent, code)));
        let secrets = self.secrets(asking, &asked.secrets)?;
        let env = self.env(asking, &asked.env)?;
        let http = HttpGrant {
            operator: self.operator_hosts(asking),
            workflow: asked
                .hosts
                .iter()
                .filter_map(|host| host.parse().ok())
                .collect(),
            secrets: secrets.iter().map(|(grant, _)| grant.clone()).collect(),
        };
        Ok(Given {
            grants: Grants {
                llm,
                search,
                tools: granted_tools,
                human,
                memory: memory.and_then(Result::ok).map(|_by| MemoryGrant),
                // What a step may read in its templates anyway.
                context: Some(ContextGrant),
                http: Some(http),
                files: self.files(asking, &asked.files),
                env: Some(env),
                withheld,
                narrowed: self.narrowed_all(asking),
            },
            secrets: secrets
                .into_iter()
                .map(|(grant, secret)| (grant.name, secret))
                .collect(),
            share: self.share(asking).map(|(share, _)| share),
        })
    }

    /// Checks what an agent asks for of what has to be there by name.
    pub(crate) fn check(
        &self,
        workflow: &str,
        (agent, code): (&Agent, &CodeAgent),
        faults: &mut Faults,
    ) {
        let pointer = format!("{}/grants", agent.pointer());
        let asking = asking(workflow, agent, code);
        let mut add = |place: &str, index: usize, fault: String| {
            faults.add(format!("{pointer}/{place}/{index}"), fault);
        };
        for (index, host) in code.grants.hosts.iter().enumerate() {
            if let Err(error) = host.parse::<troupe_sandbox::HostPattern>() {
                add("hosts", index, format!("`{host}` is no host: {error}"));
            }
        }
        let secrets = &code.grants.secrets;
        for (index, asked) in secrets.iter().enumerate() {
            if let Err(fault) = self.secret(asking, (asked, &secrets[..index])) {
                add("secrets", index, fault);
            }
        }
        for (index, name) in code.grants.env.iter().enumerate() {
            if let Err(fault) = self.variable(asking, name) {
                add("env", index, fault);
            }
        }
        for (index, file) in code.grants.files.iter().enumerate() {
            if file.path != FileGrant::SCRATCH
                && let Err(fault) = self.folder(asking, file)
            {
                add("files", index, fault);
            }
        }
    }

    fn entries_for<'a>(
        &'a self,
        asking: AskingAgent<'a>,
    ) -> impl Iterator<Item = &'a GrantEntry> + 'a {
        let entries = self.entries.iter().map(toml::Spanned::get_ref);
        entries.filter(move |entry| entry.is_for(asking))
    }

    /// Whether the models that an agent asks must have prices, so that what it may spend can be kept.
    pub(crate) fn bounds_money(&self, workflow: &str, (agent, code): (&Agent, &CodeAgent)) -> bool {
        let asking = asking(workflow, agent, code);
        code.grants.llm_budget.is_some() || self.share(asking).is_some()
    }

    /// The least of what the operator's entries let an agent spend on models in one step, and where that is said.
    fn share(&self, asking: AskingAgent<'_>) -> Option<(MicroUsd, String)> {
        let entries = self.entries_for(asking);
        let shares = entries.filter_map(|entry| Some((entry.llm_budget_usd?, entry)));
        let (share, entry) = shares.min_by_key(|(share, _)| *share)?;
        Some((share, entry.place()))
    }

    /// Whether the operator leaves an agent the memory that its workflow grants it.
    fn memory(&self, asking: AskingAgent<'_>) -> Granted<String> {
        let mut narrowing = None;
        for entry in self.entries_for(asking) {
            match entry.memory {
                Some(true) => return Ok(entry.place()),
                Some(false) => narrowing = Some(entry),
                None => {}
            }
        }
        match narrowing {
            None => Ok("the workflow; no [[grants]] narrows it".to_owned()),
            Some(entry) => Err(format!(
                "the workflow grants it, the operator does not: write `memory = true` in {}",
                entry.place()
            )),
        }
    }

    fn operator_hosts(&self, asking: AskingAgent<'_>) -> Vec<OperatorHost> {
        let hosts = self.entries_for(asking).flat_map(|entry| &entry.hosts);
        hosts.map(|host| host.0.clone()).collect()
    }

    fn secrets(
        &self,
        asking: AskingAgent<'_>,
        asked: &[AskedSecret],
    ) -> Result<Vec<(SecretGrant, Arc<SecretSearch>)>, String> {
        let secrets = asked.iter().enumerate().map(|(index, one)| {
            let found = self.secret(asking, (one, &asked[..index]))?;
            Ok((found.grant, found.secret))
        });
        secrets.collect()
    }

    fn env(&self, asking: AskingAgent<'_>, asked: &[String]) -> Result<EnvGrant, String> {
        let values = asked.iter().map(|name| {
            let (value, _place) = self.variable(asking, name)?;
            Ok((name.clone(), value))
        });
        Ok(EnvGrant {
            values: values.collect::<Result<_, String>>()?,
        })
    }

    fn files(&self, asking: AskingAgent<'_>, asked: &[FileGrant]) -> Option<FilesGrant> {
        if asked.is_empty() {
            return None;
        }
        let mut grant = FilesGrant::default();
        for file in asked {
            if file.path == FileGrant::SCRATCH {
                grant.scratch = Some(ScratchGrant {
                    at: file.at.clone(),
                    // The limit on disk space bounds it.
                    bytes_max: u64::MAX,
                    entries_max: ENTRIES_MAX,
                });
                continue;
            }
            let access = match self.folder(asking, file) {
                Err(remedy) => FolderAccess::Denied { remedy },
                Ok((folder, place)) if file.is_writable => access(folder, to_write(file, &place)),
                Ok((folder, place)) => FolderAccess::Read {
                    path: folder.path.clone(),
                    to_write: to_write(file, &place),
                },
            };
            grant.folders.push(FolderGrant {
                at: file.at.clone(),
                access,
            });
        }
        Some(grant)
    }
}

/// What the text of a denial says of a memory that the operator withholds.
fn withheld_memory(verdict: &Granted<String>) -> Option<Withheld> {
    Some(Withheld {
        capability: "memory".to_owned(),
        name: String::new(),
        remedy: verdict.as_ref().err()?.clone(),
    })
}

/// All that the operator grants of a folder; `to_write` is what would let a guest write, where he does not.
fn access(folder: &FolderEntry, to_write: String) -> FolderAccess {
    let path = folder.path.clone();
    match folder.is_writable() {
        true => FolderAccess::Write {
            path,
            bytes_max: u64::MAX,
            entries_max: ENTRIES_MAX,
        },
        false => FolderAccess::Read { path, to_write },
    }
}

/// What would let a guest write in a folder that it may read.
fn to_write(file: &FileGrant, place: &str) -> String {
    if file.is_writable {
        format!(
            "the operator grants it for reading; write `mode = \"rw\"` for it in `files` of {place}"
        )
    } else {
        "the workflow grants it for reading; write `\"mode\": \"rw\"` for it in the agent's `grants`"
            .to_owned()
    }
}

/// What is not granted, and the lines that would grant it.
fn remedy(asking: AskingAgent<'_>, what: &str, line: &str) -> String {
    format!(
        "{what} is not granted to the agent `{id}`; the operator grants it with [[grants]] agents = [\"{id}\"], {line}",
        id = asking.id
    )
}

fn asking<'a>(workflow: &'a str, agent: &'a Agent, code: &'a CodeAgent) -> AskingAgent<'a> {
    AskingAgent {
        workflow,
        id: agent.id.as_str(),
        digest: match &code.source {
            CodeSource::Component { reference } => Some(reference),
            CodeSource::Inline { .. } => None,
        },
    }
}
