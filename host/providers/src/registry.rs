//! Components in OCI registries: finds what a reference stands for, and fetches the one layer that it is, with a bound on
//! everything that a registry can make larger or longer. It only pulls, keeps nothing, and takes no byte whose digest is
//! not the one that was asked for.

mod challenge;
mod error;
mod manifest;
mod reference;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use sha2::{Digest as _, Sha256};

pub use self::challenge::Credentials;
use self::challenge::{Challenge, Shown};
pub use self::error::RegistryError;
pub use self::reference::RegistryReference;
use self::transport::{Answer, Part, Transport};
use crate::http::HttpClient;

/// Longest time in which credentials are found: a helper may ask a person. Protects from one that never ends.
const CREDENTIALS_TIME_MAX: Duration = Duration::from_secs(60);

/// Bounds of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
    /// For a manifest, a token, a refusal, and until a component's first byte.
    pub answer: Duration,
    /// Between two pieces of a component.
    pub between_bytes: Duration,
    /// For all of a component. Protects from a registry that sends a byte now and then for ever.
    pub total: Duration,
    /// The largest component that is fetched. Protects memory, which holds it.
    pub component_bytes_max: u64,
}

impl RegistryLimits {
    /// Half a minute for an answer and between two pieces, ten minutes in all.
    #[must_use]
    pub const fn standard(component_bytes_max: u64) -> Self {
        Self {
            answer: Duration::from_secs(30),
            between_bytes: Duration::from_secs(30),
            total: Duration::from_secs(600),
            component_bytes_max,
        }
    }
}

/// Finds what to show a registry, by the name under which Docker keeps it; a reason where that cannot be found. It may
/// block.
pub type CredentialSource =
    Arc<dyn Fn(&str) -> Result<Option<Credentials>, String> + Send + Sync + 'static>;

/// A client of registries.
#[derive(Clone)]
pub struct Registry {
    client: HttpClient,
    credentials: CredentialSource,
    limits: RegistryLimits,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A component in a registry, found and not yet fetched.
#[derive(Debug, Clone)]
pub struct Artifact {
    reference: RegistryReference,
    layer: manifest::Layer,
    shown: Shown,
}

impl Artifact {
    /// The reference with the digest of the manifest that it stood for.
    #[must_use]
    pub fn reference(&self) -> &RegistryReference {
        &self.reference
    }

    /// The component's own digest, `sha256:…`.
    #[must_use]
    pub fn component_digest(&self) -> &str {
        &self.layer.digest
    }
}

impl Registry {
    /// A client that shows a registry what `credentials` finds for it, once the registry asks.
    #[must_use]
    pub fn new(client: HttpClient, credentials: CredentialSource, limits: RegistryLimits) -> Self {
        Self {
            client,
            credentials,
            limits,
        }
    }

    /// Reads the manifest of a reference.
    ///
    /// # Errors
    /// No manifest of a component, or none with the digest that the reference has.
    pub async fn resolve(&self, reference: &RegistryReference) -> Result<Artifact, RegistryError> {
        let url = reference.manifest_url();
        let mut shown = Shown::default();
        let answer = self.get((reference, &url), Part::Manifest, &mut shown);
        let Answer { body, media_type } = answer.await?;
        let digest = digest_of(&body);
        if let Some(expected) = reference.digest()
            && expected != digest
        {
            return Err(RegistryError::Digest {
                host: reference.host(),
                what: Part::Manifest.name(),
                expected: expected.to_owned(),
                found: digest,
            });
        }
        let layer = manifest::read(
            &body,
            media_type.as_deref(),
            self.limits.component_bytes_max,
        )
        .map_err(|reason| RegistryError::NoComponent {
            reference: reference.to_string(),
            reason,
        })?;
        Ok(Artifact {
            reference: reference.pinned(&digest),
            layer,
            shown,
        })
    }

    /// Fetches a component that was found.
    ///
    /// # Errors
    /// Not all of it came, or other bytes than its digest says.
    pub async fn fetch(&self, artifact: &Artifact) -> Result<Vec<u8>, RegistryError> {
        let reference = &artifact.reference;
        let manifest::Layer { digest, bytes } = &artifact.layer;
        let url = reference.blob_url(digest);
        let mut shown = artifact.shown.clone();
        let part = Part::Component { bytes: *bytes };
        let Answer { body, .. } = self.get((reference, &url), part, &mut shown).await?;
        let found = digest_of(&body);
        if found != *digest {
            return Err(RegistryError::Digest {
                host: reference.host(),
                what: part.name(),
                expected: digest.clone(),
                found,
            });
        }
        Ok(body)
    }

    /// Reads one part of an artifact. Where the registry asks for it, signs in once.
    async fn get(
        &self,
        (reference, url): (&RegistryReference, &Url),
        part: Part,
        shown: &mut Shown,
    ) -> Result<Answer, RegistryError> {
        let transport = Transport {
            client: &self.client,
            limits: &self.limits,
        };
        let response = transport.get(url, part, shown).await?;
        let Some(challenge) = response.challenge(url)? else {
            return transport.read(response, part, shown).await;
        };
        self.sign_in(&transport, (reference, challenge), shown)
            .await?;
        let response = transport.get(url, part, shown).await?;
        transport.read(response, part, shown).await
    }

    async fn sign_in(
        &self,
        transport: &Transport<'_>,
        (reference, challenge): (&RegistryReference, Challenge),
        shown: &mut Shown,
    ) -> Result<(), RegistryError> {
        let failed = |reason: String| RegistryError::Credentials {
            host: reference.host(),
            reason,
        };
        let credentials = self.credentials_for(reference).await.map_err(failed)?;
        *shown = match challenge {
            Challenge::Basic => match credentials {
                None => Shown::default(),
                Some(credentials) => Shown::basic(&credentials).map_err(failed)?,
            },
            Challenge::Bearer { realm, service } => {
                let wish = challenge::TokenWish {
                    realm,
                    service,
                    scope: format!("repository:{}:pull", reference.repository()),
                };
                transport.token(wish, credentials).await?
            }
        };
        Ok(())
    }

    async fn credentials_for(
        &self,
        reference: &RegistryReference,
    ) -> Result<Option<Credentials>, String> {
        let (find, name) = (Arc::clone(&self.credentials), reference.credentials_name());
        let finding = tokio::task::spawn_blocking(move || find(&name));
        match tokio::time::timeout(CREDENTIALS_TIME_MAX, finding).await {
            Ok(Ok(found)) => found,
            Ok(Err(_ended)) => Err("looking for credentials ended early".to_owned()),
            Err(_elapsed) => Err(format!(
                "no credentials were found within {} s",
                CREDENTIALS_TIME_MAX.as_secs()
            )),
        }
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
