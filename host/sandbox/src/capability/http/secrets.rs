//! Secrets that a guest may use without knowing them: it is given placeholders, and where it puts one into the header
//! of a request to the host that it is for, the host's side puts the secret in its place. This crate never has it.

use memchr::memmem;
use serde::{Deserialize, Serialize};
use url::Url;

use super::HttpGrant;
use super::host_pattern::HostPattern;
use crate::http_exchange::{HttpFault, HttpFaultKind, SecretUse};
use crate::wasi;

/// A secret that a guest may use, without the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretGrant {
    /// Its name, letters, digits and `_`. The guest finds its placeholder in the variable `TROUPE_SECRET_<name>`.
    pub name: String,
    /// Where the operator lets it go.
    pub host: HostPattern,
    /// Where the workflow lets it go: it goes where both do.
    pub workflow_host: HostPattern,
    /// The header in which it may go, in lower case.
    pub header: String,
}

/// A grant with its placeholder in one call.
#[derive(Debug)]
pub(super) struct Placeholder {
    grant: SecretGrant,
    /// What is looked for: it is found in a request also where its braces were encoded.
    token: String,
    text: String,
}

impl Placeholder {
    /// Those of all secrets that are granted.
    pub(super) fn all(grant: Option<&HttpGrant>, seed: &[u8; 32]) -> Vec<Self> {
        let secrets = grant.map_or(&[][..], |grant| &grant.secrets);
        let secrets = secrets.iter().cloned();
        secrets
            .map(|secret| Placeholder::new(secret, seed))
            .collect()
    }

    /// The same in every run of the same attempt, so that a request that is made again is the same request.
    fn new(grant: SecretGrant, seed: &[u8; 32]) -> Self {
        let random: [u8; 16] = wasi::derive(seed, &format!("secret/{}", grant.name));
        let token = crate::cache::hex(&random);
        Placeholder {
            text: format!("{{{{secret:{}:{token}}}}}", grant.name),
            grant,
            token,
        }
    }

    /// The variable by which the guest learns it.
    pub(super) fn variable(&self) -> (String, String) {
        (
            format!("TROUPE_SECRET_{}", self.grant.name),
            self.text.clone(),
        )
    }

    /// Where it is in a request: nowhere, or in its header to its host; anywhere else is refused. None where it may not go
    /// to this host at all: there it is not looked for in the response either, lest a guest that owns the host guess it.
    pub(super) fn find(&self, request: &Searched<'_>) -> Result<Option<SecretUse>, HttpFault> {
        let finder = memmem::Finder::new(&self.token);
        let is_in = |bytes: &[u8]| finder.find(bytes).is_some();
        let mut header = None;
        if is_in(request.url.as_str().as_bytes()) {
            return Err(self.misplaced("the address", request.url));
        }
        for (name, value) in request.headers {
            if is_in(name.as_bytes()) {
                return Err(self.misplaced("the name of a header", request.url));
            }
            if !is_in(value) {
                continue;
            }
            if *name != self.grant.header || !self.goes_to(request.url) {
                return Err(self.misplaced(&format!("the header `{name}`"), request.url));
            }
            header = Some(name.clone());
        }
        if is_in(request.body) {
            return Err(self.misplaced("the body", request.url));
        }
        Ok(self.goes_to(request.url).then(|| SecretUse {
            name: self.grant.name.clone(),
            placeholder: self.text.clone(),
            header,
        }))
    }

    fn goes_to(&self, url: &Url) -> bool {
        self.grant.host.allows(url) && self.grant.workflow_host.allows(url)
    }

    fn misplaced(&self, place: &str, url: &Url) -> HttpFault {
        let SecretGrant {
            name,
            workflow_host: host,
            header,
            ..
        } = &self.grant;
        let message = format!(
            "the secret `{name}` may only go into the header `{header}` to {host}, and the request has its placeholder in {place} to {}",
            url.origin().ascii_serialization()
        );
        HttpFault::new(HttpFaultKind::Denied, message)
    }
}

/// A request as it is searched for placeholders.
pub(super) struct Searched<'a> {
    pub(super) url: &'a Url,
    pub(super) headers: &'a [(String, bytes::Bytes)],
    pub(super) body: &'a [u8],
}
