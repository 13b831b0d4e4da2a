//! Components from OCI registries, for the command line: what a person at this machine names is fetched, what a client of
//! the API names never. Registries are shown what Docker's configuration of this user has for them.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use troupe_providers::{
    Credentials, HttpClient, HttpSettings, Registry, RegistryLimits, RegistryReference, Secret,
};
use troupe_sandbox::ComponentDigest;

use crate::components::Components;
use crate::config;

/// Largest configuration of Docker's that is read. Protects memory from a file that is none.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Pulls components. All of its pulls share connections.
pub(crate) struct Puller(Registry);

impl Puller {
    /// Connects to nothing yet, and reads no credentials before a registry asks for them.
    pub(crate) fn new(component_bytes_max: u64) -> anyhow::Result<Self> {
        let client = HttpClient::new(&HttpSettings::STANDARD)?;
        let folder = config::docker_folder();
        let credentials = Arc::new(move |registry: &str| match &folder {
            Some(folder) => credentials(&folder.join("config.json"), registry),
            None => Ok(None),
        });
        let limits = RegistryLimits::standard(component_bytes_max);
        Ok(Self(Registry::new(client, credentials, limits)))
    }

    /// A component's bytes, and the reference with the digest of the manifest that named them. One that this machine has
    /// is not fetched again.
    pub(crate) async fn pull(
        &self,
        text: &str,
        components: &Components,
    ) -> anyhow::Result<(Vec<u8>, String)> {
        let artifact = self.0.resolve(&parse(text)?).await?;
        let digest: ComponentDigest = artifact.component_digest().parse()?;
        let wasm = match components.bytes_of(&digest).await {
            Some(wasm) => wasm,
            None => self.0.fetch(&artifact).await?,
        };
        Ok((wasm, artifact.reference().to_string()))
    }
}

/// Reads a reference; asks nobody.
pub(crate) fn parse(text: &str) -> anyhow::Result<RegistryReference> {
    if !RegistryReference::is_meant(text) {
        bail!(
            "`{text}` is no component: name a file, a registry's reference (`oci://HOST/REPOSITORY:TAG`), or the digest \
             (`sha256:…`) of one that this machine has"
        );
    }
    Ok(text.parse()?)
}

/// What Docker shows a registry, by its configuration or the helper that this names.
fn credentials(file: &Path, registry: &str) -> Result<Option<Credentials>, String> {
    let failed = |reason: &str| {
        Err(format!(
            "what {} has for it cannot be used: {reason}",
            file.display()
        ))
    };
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return failed(&error.to_string()),
    };
    let reader = BufReader::new(opened.take(CONFIG_BYTES_MAX));
    // A helper's own words are not repeated: they may hold what it keeps.
    match docker_credential::get_credential_from_reader(reader, registry) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some(Credentials::Password {
            user,
            password: Secret::new(password),
        })),
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(Credentials::IdentityToken(Secret::new(token))))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if [&stdout, &stderr]
                .iter()
                .any(|text| text.contains("credentials not found")) =>
        {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            failed(&format!("the helper `{helper}` failed"))
        }
        Err(CredentialRetrievalError::HelperCommunicationError) => {
            failed("the helper `docker-credential-…` that it names cannot be run")
        }
        Err(error) => failed(&error.to_string().to_lowercase()),
    }
}
