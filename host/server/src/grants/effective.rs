//! What an agent may do, and why: for people.

use troupe_sandbox::HostPattern;
use troupe_workflow::{Agent, CodeAgent, FileGrant};

use super::{Granted, Granting, HUMAN, MODELS, Narrowing, SEARCH, TOOLS, asking, remedy, to_write};
use crate::config::AskingAgent;

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

impl Granting {
    /// All that a workflow asks for an agent, in the order of the language's documentation.
    pub(crate) fn effective(
        &self,
        workflow: &str,
        (agent, code): (&Agent, &CodeAgent),
    ) -> Vec<Effective> {
        let asking = asking(workflow, agent, code);
        let asked = &code.grants;
        let mut all = Vec::new();
        let mut add = |capability, what: String, granted: Granted<String>| {
            all.push(Effective {
                capability,
                what,
                verdict: granted.into(),
            });
        };
        let by_workflow = asked
            .llm_budget
            .map(|share| (share, "the workflow".to_owned()));
        let by_operator = asked.llm_models.as_ref().and(self.share(asking));
        let shares = by_workflow.into_iter().chain(by_operator);
        if let Some((share, by)) = shares.min_by_key(|(share, _)| *share) {
            add("llm", format!("at most {share} in each step"), Ok(by));
        }
        let mut narrow = |names: &[String], by: Narrowing| {
            for name in names {
                add(by.capability, name.clone(), self.narrowed(asking, by, name));
            }
        };
        narrow(asked.llm_models.as_deref().unwrap_or_default(), MODELS);
        narrow(asked.search.as_deref().unwrap_or_default(), SEARCH);
        narrow(asked.tools.as_deref().unwrap_or_default(), TOOLS);
        if let Some(people) = &asked.human {
            match &people.assignees {
                Some(assignees) => narrow(assignees, HUMAN),
                None => add("human", "anybody".to_owned(), Ok(self.anybody(asking))),
            }
        }
        for host in &asked.hosts {
            add("hosts", host.clone(), self.host(asking, host));
        }
        for secret in &asked.secrets {
            let what = format!(
                "{} in `{}` of requests to {}",
                secret.name, secret.header, secret.host
            );
            let found = self.find_secret(asking, secret);
            let granted = found.map(|(entry, place)| {
                let host = &entry.host;
                match host.to_string() == secret.host {
                    true => place,
                    false => format!("{place}, for {host}"),
                }
            });
            add("secrets", what, granted);
        }
        for file in &asked.files {
            let mode = if file.is_writable { "rw" } else { "ro" };
            let what = format!("{} at {} ({mode})", file.path, file.at);
            add("files", what, self.folder(asking, file));
        }
        for name in &asked.env {
            let granted = self.find_env(asking, name).map(|(place, _)| place);
            add("env", name.clone(), granted);
        }
        if asked.memory {
            add("memory", String::new(), self.memory(asking));
        }
        all
    }

    fn anybody(&self, asking: AskingAgent<'_>) -> String {
        match self.only(asking, HUMAN) {
            None => "the workflow; no [[grants]] narrows it".to_owned(),
            Some(names) => format!("the operator, for {} only", names.join(", ")),
        }
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

    fn folder(&self, asking: AskingAgent<'_>, file: &FileGrant) -> Granted<String> {
        if file.path == FileGrant::SCRATCH {
            return Ok("the workflow; it lies in memory, and is empty for each call".to_owned());
        }
        let (folder, place) = self.find_folder(asking, file)?;
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
