//! What guests may send to whom over HTTP: what both the operator's file and the workflow allow, and the way out.

use std::collections::BTreeMap;

use troupe_providers::{Egress, EgressLimits, Secret};
use troupe_sandbox::{HostPattern, HttpGrant, OperatorHost, SecretGrant};
use troupe_workflow::{Agent, CodeAgent, CodeSource, Faults, SecretGrant as AskedSecret};

use crate::config::{AskingAgent, GrantEntries, SecretEntry, ServerConfig};
use crate::models::Reach;

/// The operator's grants of hosts and secrets, and the way out.
pub(crate) struct Outgoing {
    /// None: the executions of these services run offline.
    pub(crate) egress: Option<Egress>,
    /// Bounds of one request.
    pub(crate) limits: EgressLimits,
    grants: GrantEntries,
}

/// What one agent is given.
pub(crate) struct Given {
    pub(crate) grant: HttpGrant,
    /// By name.
    pub(crate) secrets: BTreeMap<String, Secret>,
}

impl Outgoing {
    /// Prepares the way out; connects to nothing.
    pub(crate) fn new(config: &ServerConfig, reach: Reach) -> anyhow::Result<Self> {
        Ok(Self {
            egress: match reach {
                Reach::Online => Some(Egress::new()?),
                Reach::Offline => None,
            },
            limits: EgressLimits::STANDARD,
            grants: config.grants.clone(),
        })
    }

    /// What an agent is given.
    ///
    /// # Errors
    /// A secret that is not there; creation has checked for that, but the operator's file may have changed.
    pub(crate) fn given(
        &self,
        workflow: &str,
        agent: &Agent,
        code: &CodeAgent,
    ) -> Result<Given, String> {
        let asking = asking(workflow, agent, code);
        let mut given = Given {
            grant: HttpGrant {
                operator: self.operator_hosts(asking),
                workflow: code
                    .grants
                    .hosts
                    .iter()
                    .filter_map(|host| host.parse().ok())
                    .collect(),
                secrets: Vec::new(),
            },
            secrets: BTreeMap::new(),
        };
        for asked in &code.grants.secrets {
            let (entry, workflow_host) = self.find_secret(asking, asked)?;
            given.secrets.insert(entry.name.clone(), entry.secret()?);
            given.grant.secrets.push(SecretGrant {
                name: entry.name.clone(),
                host: entry.host.clone(),
                workflow_host,
                header: entry.header.clone(),
            });
        }
        Ok(given)
    }

    /// Checks what an agent asks for.
    pub(crate) fn check(
        &self,
        workflow: &str,
        agent: &Agent,
        code: &CodeAgent,
        faults: &mut Faults,
    ) {
        let pointer = format!("{}/grants", agent.pointer());
        for (index, host) in code.grants.hosts.iter().enumerate() {
            if let Err(error) = host.parse::<HostPattern>() {
                faults.add(
                    format!("{pointer}/hosts/{index}"),
                    format!("`{host}` is no host: {error}"),
                );
            }
        }
        let asking = asking(workflow, agent, code);
        let mut names = Vec::new();
        for (index, asked) in code.grants.secrets.iter().enumerate() {
            let found = self.find_secret(asking, asked);
            let read = found.and_then(|(entry, _)| entry.secret());
            let twice = names.contains(&&asked.name);
            names.push(&asked.name);
            let fault = match read {
                Err(fault) => fault,
                Ok(_) if twice => format!("the secret `{}` is asked for twice", asked.name),
                Ok(_) => continue,
            };
            faults.add(format!("{pointer}/secrets/{index}"), fault);
        }
    }

    fn operator_hosts(&self, asking: AskingAgent<'_>) -> Vec<OperatorHost> {
        let entries = self.grants.iter().map(toml::Spanned::get_ref);
        let hosts = entries
            .filter(|entry| entry.is_for(asking))
            .flat_map(|entry| &entry.hosts);
        hosts.map(|host| host.0.clone()).collect()
    }

    /// The operator's secret that an agent asks for, and where the workflow lets it go.
    fn find_secret(
        &self,
        asking: AskingAgent<'_>,
        asked: &AskedSecret,
    ) -> Result<(&SecretEntry, HostPattern), String> {
        let AskedSecret { name, host, header } = asked;
        let pattern: HostPattern = host
            .parse()
            .map_err(|error| format!("`{host}` is no host: {error}"))?;
        let entries = self.grants.iter().map(toml::Spanned::get_ref);
        let mut secrets = entries
            .filter(|entry| entry.is_for(asking))
            .flat_map(|entry| &entry.secrets);
        let found = secrets
            .find(|secret| secret.name == *name && secret.header.eq_ignore_ascii_case(header));
        match found {
            Some(entry) => Ok((entry, pattern)),
            None => Err(format!(
                "the secret `{name}` in the header `{header}` is not granted to the agent `{}`; the operator grants it with [[grants]] agents = [\"{}\"], secrets = [{{ name = \"{name}\", value = \"env:…\", host = \"{host}\", header = \"{header}\" }}]",
                asking.id, asking.id
            )),
        }
    }
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
