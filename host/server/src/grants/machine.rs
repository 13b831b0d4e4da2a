//! What lies on this machine and is given by name: secrets, variables, folders. Of each there is one function that says
//! whether an agent is given it: it is asked before an execution begins, by who wants to know, and when it is given.

use std::io::ErrorKind;
use std::sync::Arc;

use troupe_sandbox::{HostPattern, SecretGrant};
use troupe_workflow::{FileGrant, SecretGrant as AskedSecret};

use super::{Granted, Granting, remedy};
use crate::config::{
    AskingAgent, FolderEntry, GrantEntry, SecretEntry, VariableEntry, check_header,
};
use crate::secret_search::SecretSearch;

/// A secret that an agent is given.
pub(super) struct GivenSecret {
    pub(super) grant: SecretGrant,
    pub(super) secret: Arc<SecretSearch>,
    /// Where it is granted.
    pub(super) place: String,
}

impl Granting {
    /// A secret that an agent asks for, beside those that it asked for before.
    pub(super) fn secret(
        &self,
        asking: AskingAgent<'_>,
        (asked, before): (&AskedSecret, &[AskedSecret]),
    ) -> Granted<GivenSecret> {
        let AskedSecret { name, host, header } = asked;
        if before.iter().any(|other| other.name == *name) {
            return Err(format!("the secret `{name}` is asked for twice"));
        }
        let workflow_host: HostPattern = host
            .parse()
            .map_err(|error| format!("`{host}` is no host: {error}"))?;
        check_header(header)?;
        let (entry, place) = self.find_secret(asking, (asked, &workflow_host))?;
        let secret = entry.secret().map_err(|reason| {
            format!(
                "the secret `{name}` cannot be used: {reason}; mend that, or write another `value` for it in `secrets` of {place}"
            )
        })?;
        Ok(GivenSecret {
            grant: SecretGrant {
                name: entry.name.clone(),
                host: entry.host.clone(),
                workflow_host,
                header: entry.header.clone(),
            },
            secret,
            place,
        })
    }

    /// The operator's secret of a name, for a header and a host; and where it is granted.
    fn find_secret<'a>(
        &'a self,
        asking: AskingAgent<'a>,
        (asked, workflow_host): (&AskedSecret, &HostPattern),
    ) -> Granted<(&'a SecretEntry, String)> {
        let AskedSecret { name, host, header } = asked;
        let of = |entry: &'a GrantEntry| {
            let secrets = entry.secrets.iter().filter(|secret| {
                secret.name == *name && secret.header.eq_ignore_ascii_case(header)
            });
            secrets.map(|secret| (secret, entry.place()))
        };
        let found: Vec<_> = self.entries_for(asking).flat_map(of).collect();
        let goes_there = |secret: &SecretEntry| {
            secret.host.covers(workflow_host) || workflow_host.covers(&secret.host)
        };
        if let Some((secret, place)) = found.iter().find(|(secret, _)| goes_there(secret)) {
            return Ok((*secret, place.clone()));
        }
        Err(match found.first() {
            Some((secret, place)) => format!(
                "the secret `{name}` is granted for requests to {}, and none to {host} is one of these: write `host = \"{host}\"` for it in `secrets` of {place}",
                secret.host
            ),
            None => remedy(
                asking,
                &format!("the secret `{name}` in the header `{header}`"),
                &format!(
                    "secrets = [{{ name = \"{name}\", value = \"env:…\", host = \"{host}\", header = \"{header}\" }}]"
                ),
            ),
        })
    }

    /// The value of a variable, and where it is granted.
    pub(super) fn variable(
        &self,
        asking: AskingAgent<'_>,
        name: &str,
    ) -> Granted<(String, String)> {
        let (entry, place) = self.find_variable(asking, name)?;
        let value = entry.value().map_err(|reason| {
            format!(
                "the variable `{name}` cannot be read: {reason}; mend that, or write another value for it in `env` of {place}"
            )
        })?;
        Ok((value, place))
    }

    fn find_variable<'a>(
        &'a self,
        asking: AskingAgent<'a>,
        name: &str,
    ) -> Granted<(&'a VariableEntry, String)> {
        let found = self
            .entries_for(asking)
            .find_map(|entry| Some((entry.env.get(name)?, entry.place())));
        found.ok_or_else(|| {
            remedy(
                asking,
                &format!("the environment variable `{name}`"),
                &format!("env = {{ {name} = \"…\" }}"),
            )
        })
    }

    /// The operator's folder that an agent asks for, which is there; and where it is granted.
    pub(super) fn folder<'a>(
        &'a self,
        asking: AskingAgent<'a>,
        asked: &FileGrant,
    ) -> Granted<(&'a FolderEntry, String)> {
        let (folder, place) = self.find_folder(asking, asked)?;
        let (reason, way_out) = match std::fs::metadata(&folder.path) {
            Ok(about) if about.is_dir() => return Ok((folder, place)),
            Ok(_) => ("is no folder".to_owned(), ""),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                ("is not there".to_owned(), "make it, or ")
            }
            Err(error) => (format!("cannot be looked at: {error}"), "mend that, or "),
        };
        // Who sends a document need not know where things lie on this machine.
        Err(format!(
            "the folder `{}` cannot be given: its `path` {reason}; {way_out}write another `path` for it in `files` of {place}",
            asked.path
        ))
    }

    /// The operator's folder that an agent asks for: one that may be written, where there is one and the agent asks for
    /// that; and where it is granted.
    fn find_folder<'a>(
        &'a self,
        asking: AskingAgent<'a>,
        asked: &FileGrant,
    ) -> Granted<(&'a FolderEntry, String)> {
        let folders = || {
            self.entries_for(asking).flat_map(|entry| {
                let folders = entry.files.iter().filter(|it| it.name == asked.path);
                folders.map(|folder| (folder, entry.place()))
            })
        };
        let found = folders()
            .find(|(folder, _)| folder.is_writable() == asked.is_writable)
            .or_else(|| folders().next());
        found.ok_or_else(|| {
            let name = &asked.path;
            let mode = if asked.is_writable { "rw" } else { "ro" };
            remedy(
                asking,
                &format!("the folder `{name}`"),
                &format!("files = [{{ name = \"{name}\", path = \"…\", mode = \"{mode}\" }}]"),
            )
        })
    }
}
