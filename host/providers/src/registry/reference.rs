//! References: `oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:…]`. Pure. A registry is always named, and reached by TLS unless
//! it is on this machine.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::Reference;
use reqwest::Url;

use super::RegistryError;
use crate::http::is_loopback;
use crate::text;

/// Longest reference that is read. Protects messages and addresses; a name has at most 255 characters, a tag 128.
const REFERENCE_BYTES_MAX: usize = 1024;
/// What begins a reference.
const SCHEME: &str = "oci://";

/// Names a component in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryReference {
    reference: Reference,
    base: Url,
}

impl FromStr for RegistryReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let failed = |reason: &str| RegistryError::Reference {
            reference: text::cut_chars(&text::squeeze(text), 200),
            reason: reason.to_owned(),
        };
        let Some(name) = text.strip_prefix(SCHEME) else {
            return Err(failed("it does not begin with `oci://`"));
        };
        if name.len() > REFERENCE_BYTES_MAX {
            return Err(failed("it is too long"));
        }
        // Without this a name alone would be one of Docker's own registry.
        let host = name.split_once('/').map_or("", |(host, _)| host);
        if !(host.contains(['.', ':']) || host == "localhost") {
            return Err(failed("it names no host"));
        }
        let reference: Reference = name.parse().map_err(|error| failed(&format!("{error}")))?;
        if let Some(digest) = reference.digest() {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || hex.contains(|c: char| !matches!(c, '0'..='9' | 'a'..='f')) {
                return Err(failed(
                    "its digest is not `sha256:` and 64 digits in lower case",
                ));
            }
        }
        let host = match reference.registry() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let parsed = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/v2/{}/", reference.repository()))
                .map_err(|error| failed(&format!("{error}")))
        };
        let mut base = parsed("https")?;
        if is_loopback(&base) {
            base = parsed("http")?;
        }
        Ok(Self { reference, base })
    }
}

impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.reference)
    }
}

impl RegistryReference {
    /// Whether a text is meant to be one.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> String {
        super::transport::host_of(&self.base)
    }

    pub(super) fn repository(&self) -> &str {
        self.reference.repository()
    }

    /// The manifest's digest, where the reference has one.
    pub(super) fn digest(&self) -> Option<&str> {
        self.reference.digest()
    }

    /// The name under which Docker keeps what to show this registry.
    pub(super) fn credentials_name(&self) -> String {
        match self.reference.registry() {
            "docker.io" => "https://index.docker.io/v1/".to_owned(),
            other => other.to_owned(),
        }
    }

    pub(super) fn manifest_url(&self) -> Url {
        let wanted = self.digest().or_else(|| self.reference.tag());
        self.below(&format!("manifests/{}", wanted.unwrap_or("latest")))
    }

    pub(super) fn blob_url(&self, digest: &str) -> Url {
        self.below(&format!("blobs/{digest}"))
    }

    /// The same with the digest of its manifest.
    pub(super) fn pinned(&self, digest: &str) -> Self {
        let (registry, repository) = (
            self.reference.registry().to_owned(),
            self.reference.repository().to_owned(),
        );
        let digest = digest.to_owned();
        let reference = match self.reference.tag() {
            Some(tag) => {
                Reference::with_tag_and_digest(registry, repository, tag.to_owned(), digest)
            }
            None => Reference::with_digest(registry, repository, digest),
        };
        Self {
            reference,
            base: self.base.clone(),
        }
    }

    fn below(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }
}
