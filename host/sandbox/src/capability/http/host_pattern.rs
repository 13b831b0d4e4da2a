//! Which hosts an agent may reach, as the operator and the workflow write it: scheme, name, port. Everything is read
//! by the parser that the request's own address goes through, so that both sides have one opinion of what a host is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// A host that requests may go to, for example `https://api.example.com`, `https://*.example.com:8443` or
/// `http://10.0.0.5:8080`. Without a port it is the scheme's own. `*` stands for one label, the first, of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostPattern {
    is_encrypted: bool,
    name: Name,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    /// A name or an address, as the parser writes it.
    Exact(Host<String>),
    /// One more label in front of this name.
    OneBelow(String),
}

/// A text is no [`HostPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseHostError {
    /// No scheme, or another one.
    #[error("it begins with neither `https://` nor `http://`")]
    Scheme,
    /// More than scheme, name and port.
    #[error("it holds more than scheme, name and port, for example a path or a user")]
    TooMuch,
    /// No name that could be one.
    #[error("what stands for the host is no name and no address")]
    Name,
    /// A wildcard that is not one whole first label above a domain.
    #[error("`*` stands for one label only, the first of a name of three labels or more")]
    Wildcard,
}

impl HostPattern {
    /// Whether a request to this address may be made. The address must hold no user and no password.
    pub fn allows(&self, url: &Url) -> bool {
        if !url.username().is_empty() || url.password().is_some() {
            return false;
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return false;
        };
        let scheme = if self.is_encrypted { "https" } else { "http" };
        url.scheme() == scheme && port == self.port && self.name.is(&host)
    }

    /// Whether it allows all that the other one allows.
    pub fn covers(&self, other: &HostPattern) -> bool {
        let names = match (&self.name, &other.name) {
            (Name::OneBelow(name), Name::Exact(Host::Domain(host))) => {
                host.split_once('.').is_some_and(|(_, rest)| rest == name)
            }
            (name, other) => name == other,
        };
        (self.is_encrypted, self.port) == (other.is_encrypted, other.port) && names
    }

    /// Whether it is an address rather than a name: who writes it down means this very address.
    pub fn is_address(&self) -> bool {
        matches!(&self.name, Name::Exact(Host::Ipv4(_) | Host::Ipv6(_)))
    }
}

impl Name {
    fn is(&self, host: &Host<&str>) -> bool {
        match (self, host) {
            (Name::Exact(Host::Domain(name)), Host::Domain(host)) => name == without_root(host),
            (Name::Exact(Host::Ipv4(address)), Host::Ipv4(host)) => address == host,
            (Name::Exact(Host::Ipv6(address)), Host::Ipv6(host)) => address == host,
            (Name::OneBelow(name), Host::Domain(host)) => without_root(host)
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == name),
            _ => false,
        }
    }
}

/// The dot that ends a name says that it is whole; ours always are.
pub(super) fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        pattern.to_string()
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ParseHostError;

    fn try_from(text: String) -> Result<Self, ParseHostError> {
        text.parse()
    }
}

impl FromStr for HostPattern {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, ParseHostError> {
        let (scheme, rest) = text.split_once("://").ok_or(ParseHostError::Scheme)?;
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(ParseHostError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(|c: char| "/?#@\\".contains(c) || c.is_whitespace() || c.is_control()) {
            return Err(ParseHostError::TooMuch);
        }
        let (is_wild, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.contains('*') {
            return Err(ParseHostError::Wildcard);
        }
        let url =
            Url::parse(&format!("{scheme}://{rest}/")).map_err(|_invalid| ParseHostError::Name)?;
        let port = url.port_or_known_default().ok_or(ParseHostError::Name)?;
        let name = match url.host().ok_or(ParseHostError::Name)? {
            Host::Domain(name) => {
                let name = without_root(name);
                if name.split('.').any(str::is_empty) {
                    return Err(ParseHostError::Name);
                }
                match is_wild {
                    true if !name.contains('.') => return Err(ParseHostError::Wildcard),
                    true => Name::OneBelow(name.to_owned()),
                    false => Name::Exact(Host::Domain(name.to_owned())),
                }
            }
            _ if is_wild => return Err(ParseHostError::Wildcard),
            Host::Ipv4(address) => Name::Exact(Host::Ipv4(address)),
            Host::Ipv6(address) => Name::Exact(Host::Ipv6(address)),
        };
        Ok(HostPattern {
            is_encrypted,
            name,
            port,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = match self.is_encrypted {
            true => ("https", 443),
            false => ("http", 80),
        };
        match &self.name {
            Name::Exact(host) => write!(f, "{scheme}://{host}")?,
            Name::OneBelow(name) => write!(f, "{scheme}://*.{name}")?,
        }
        if self.port == usual {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests;
