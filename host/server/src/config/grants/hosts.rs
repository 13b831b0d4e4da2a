//! `hosts` of a grant: where agents may send HTTP requests.

use serde::Deserialize;
use troupe_sandbox::{HostPattern, OperatorHost};

/// A host that the operator allows: `"https://api.example.com"`, or `{ url = "…", private = true }` for a name whose
/// addresses are in a private network or on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct HostEntry(pub(crate) OperatorHost);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a host is written as \"https://api.example.com\" or as { url = \"http://intranet.example.com\", private = true }"
)]
enum Written {
    Plain(String),
    Detailed(Detailed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    url: String,
    #[serde(default)]
    private: bool,
}

impl TryFrom<Written> for HostEntry {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let (url, is_private) = match written {
            Written::Plain(url) => (url, false),
            Written::Detailed(detailed) => (detailed.url, detailed.private),
        };
        let pattern = read_host(&url)?;
        if is_private && pattern.is_address() {
            return Err(format!(
                "`{url}` is an address, which is granted as it is written; `private` is for names"
            ));
        }
        Ok(Self(OperatorHost {
            pattern,
            is_private,
        }))
    }
}

/// Reads a host.
///
/// # Errors
/// What is wrong with it, and what one looks like.
pub(crate) fn read_host(text: &str) -> Result<HostPattern, String> {
    text.parse().map_err(|error| {
        format!("`{text}` is no host, for {error}; write it like `https://api.example.com` or `https://*.example.com:8443`")
    })
}
