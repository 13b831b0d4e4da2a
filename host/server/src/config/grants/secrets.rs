//! `secrets` of a grant: what agents may use without knowing it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use troupe_sandbox::{HostPattern, is_settable};

use super::hosts::read_host;
use crate::config::SecretSource;
use crate::secret_search::SecretSearch;

/// The shortest secret. A shorter one would be found by chance in what a host answers, and be masked there; and a guest
/// could guess it by having its host send it candidates.
const SECRET_BYTES_MIN: usize = 16;

/// A secret that goes into one header of requests to one host.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct SecretEntry {
    /// What workflows call it.
    pub(crate) name: String,
    /// Where it may go.
    pub(crate) host: HostPattern,
    /// The header that it may go into, in lower case.
    pub(crate) header: String,
    value: SecretSource,
    /// Read when it is first needed, and once.
    read: Arc<OnceLock<Result<Arc<SecretSearch>, String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    value: SecretSource,
    host: String,
    header: String,
}

impl TryFrom<Written> for SecretEntry {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            name,
            value,
            host,
            header,
        } = written;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_word) {
            return Err(format!(
                "the secret's name `{name}` is not made of letters, digits and `_`"
            ));
        }
        check_header(&header)?;
        Ok(Self {
            name,
            host: read_host(&host)?,
            header: header.to_ascii_lowercase(),
            value,
            read: Arc::default(),
        })
    }
}

/// Checks that a secret can go into a header.
///
/// # Errors
/// What is wrong with it, and what to write.
pub(crate) fn check_header(header: &str) -> Result<(), String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if header.is_empty() || !header.chars().all(is_token) {
        return Err(format!("`{header}` is no header's name"));
    }
    match is_settable(header) {
        true => Ok(()),
        false => Err(format!(
            "the header `{header}` is the host's own, and no agent can set it; write another one, for example `Authorization`"
        )),
    }
}

impl SecretEntry {
    /// The file that it is read from, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.value.file()
    }

    /// The secret itself, and how it is found.
    ///
    /// # Errors
    /// What is missing, without a word of the secret.
    pub(crate) fn secret(&self) -> Result<Arc<SecretSearch>, String> {
        let read = || {
            let secret = self.value.read()?;
            let text = secret.expose();
            if text.len() < SECRET_BYTES_MIN {
                return Err(format!("it has fewer than {SECRET_BYTES_MIN} bytes"));
            }
            if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err("it holds characters that no header can carry".to_owned());
            }
            SecretSearch::new(secret).map(Arc::new)
        };
        self.read.get_or_init(read).clone()
    }
}
