//! What an agent may do, and why: for people.

use troupe_sandbox::{HostPattern, SecretGrant};
use troupe_workflow::{Agent, CodeAgent, Definition, FileGrant};

use super::machine::GivenSecret;
use super::{Granted, Granting, HUMAN, MODELS, Narrowing, SEARCH, TOOLS, asking, remedy, to_write};
use crate::config::AskingAgent;
use crate::tools;

/// One thing that a workflow asks for an agent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    /// The key in the workflow's `grants`.
    pub(crate) capability: &'static str,
    /// What of it, for example a model or a host.
    pub(crate) what: String,
    pub(crate) verdict: Verdict,
}

/// Whether it is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// By whom, and what is to be known of it.
    Granted(String),
    /// What would grant it.
    Withheld(String),
}

impl From<Granted<String>> for Verdict {
    fn from(granted: Granted<String>) -> Self {
        match granted {
            Ok(by) => Self::Granted(by),
            Err(remedy) => Self::Withheld(remedy),
        }
    }
}

impl Effective {
    fn new(capability: &'static str, what: impl Into<String>, granted: Granted<String>) -> Self {
        Self {
            capability,
            what: what.into(),
            verdict: granted.into(),
        }
    }
}

impl Granting {
    /// All that a workflow asks for an agent, in the order of the language's documentation.
    pub(crate) fn effective(
        &self,
        definition: &Definition,
        (agent, code): (&Agent, &CodeAgent),
    ) -> Vec<Effective> {
        let asking = asking(definition.name(), agent, code);
        let mut all = self.of_others(asking, definition, code);
        for host in &code.grants.hosts {
            all.push(Effective::new("hosts", host, self.host(asking, host)));
        }
        all.extend(self.of_machine(asking, code));
        if code.grants.memory {
            all.push(Effective::new("memory", "", self.memory(asking)));
        }
        all
    }

    /// Models, sources, tools, people.
    fn of_others(
        &self,
        asking: AskingAgent<'_>,
        definition: &Definition,
        code: &CodeAgent,
    ) -> Vec<Effective> {
        let asked = &code.grants;
        let mut all = Vec::new();
        let by_workflow = asked
            .llm_budget
            .map(|share| (share, "the workflow".to_owned()));
        let by_operator = asked.llm_models.as_ref().and(self.share(asking));
        let shares = by_workflow.into_iter().chain(by_operator);
        if let Some((share, by)) = shares.min_by_key(|(share, _)| *share) {
            let what = format!("at most {share} in each step");
            all.push(Effective::new("llm", what, Ok(by)));
        }
        let narrowed = |names: Option<&Vec<String>>, by: Narrowing| -> Vec<Effective> {
            let names = names.into_iter().flatten();
            names
                .map(|name| Effective::new(by.capability, name, self.narrowed(asking, by, name)))
                .collect()
        };
        all.extend(narrowed(asked.llm_models.as_ref(), MODELS));
        all.extend(narrowed(asked.search.as_ref(), SEARCH));
        for id in asked.tools.iter().flatten() {
            let known = tools::named(definition, std::slice::from_ref(id));
            let known = known.map_err(|error| format!("{error:#}"));
            let granted = known.and_then(|_tools| self.narrowed(asking, TOOLS, id));
            all.push(Effective::new(TOOLS.capability, id, granted));
        }
        match &asked.human {
            Some(people) if people.assignees.is_none() => {
                let granted = self.anybody(asking);
                all.push(Effective::new(HUMAN.capability, "anybody", granted));
            }
            Some(people) => all.extend(narrowed(people.assignees.as_ref(), HUMAN)),
            None => {}
        }
        all
    }

    /// Secrets, folders, variables.
    fn of_machine(&self, asking: AskingAgent<'_>, code: &CodeAgent) -> Vec<Effective> {
        let asked = &code.grants;
        let mut all = Vec::new();
        for (index, secret) in asked.secrets.iter().enumerate() {
            let what = format!(
                "{} in `{}` of requests to {}",
                secret.name, secret.header, secret.host
            );
            let given = self.secret(asking, (secret, &asked.secrets[..index]));
            all.push(Effective::new("secrets", what, given.map(place_of)));
        }
        for file in &asked.files {
            let mode = if file.is_writable { "rw" } else { "ro" };
            let what = format!("{} at {} ({mode})", file.path, file.at);
            all.push(Effective::new("files", what, self.files_of(asking, file)));
        }
        for name in &asked.env {
            let granted = self.variable(asking, name);
            let granted = granted.map(|(_value, place)| place);
            all.push(Effective::new("env", name, granted));
        }
        all
    }

    fn host(&self, asking: AskingAgent<'_>, text: &str) -> Granted<String> {
        let asked: HostPattern = text
            .parse()
            .map_err(|error| format!("`{text}` is no host: {error}"))?;
        let (mut parts, mut places) = (Vec::new(), Vec::new());
        for entry in self.entries_for(asking) {
            for host in entry.hosts.iter().map(|host| &host.0.pattern) {
                if host.covers(&asked) {
                    return Ok(entry.place());
                }
                if asked.covers(host) {
                    parts.push(host.to_string());
                    places.push(entry.place());
                }
            }
        }
        places.dedup();
        match parts.is_empty() {
            false => Ok(format!(
                "{}, for {} only",
                places.join(" and "),
                parts.join(", ")
            )),
            true => Err(remedy(
                asking,
                &format!("the host {text}"),
                &format!("hosts = [\"{text}\"]"),
            )),
        }
    }

    fn files_of(&self, asking: AskingAgent<'_>, file: &FileGrant) -> Granted<String> {
        if file.path == FileGrant::SCRATCH {
            return Ok("the workflow; it lies in memory, and is empty for each call".to_owned());
        }
        let (folder, place) = self.folder(asking, file)?;
        let path = folder.path.display();
        if file.is_writable && !folder.is_writable() {
            return Ok(format!(
                "{place}: {path}, for reading only: {}",
                to_write(file, &place)
            ));
        }
        Ok(format!("{place}: {path}"))
    }
}

/// Where a secret is granted, and for which of the hosts that the workflow names.
fn place_of(given: GivenSecret) -> String {
    let SecretGrant {
        host,
        workflow_host,
        ..
    } = given.grant;
    match host.covers(&workflow_host) {
        true => given.place,
        false => format!("{}, for {host} only", given.place),
    }
}
