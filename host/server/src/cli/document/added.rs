//! The components that a document names by files and by registries' references: added to this machine's, each once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;
use troupe_sandbox::ComponentDigest;

use super::{beside, output};
use crate::components::Components;
use crate::models::Reach;
use crate::registry::Puller;

/// A component that is not named by its digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    File(PathBuf),
    /// By an address: a registry's reference, or a mistake.
    Elsewhere(String),
}

/// What a component is named by in a document, where that is no digest.
pub(super) fn component_named(
    agent: &serde_json::Map<String, Value>,
    document: &Path,
) -> Option<Named> {
    let reference = agent.get("component")?.as_str()?;
    if reference.starts_with("sha256:") {
        return None;
    }
    Some(if reference.contains("://") {
        Named::Elsewhere(reference.to_owned())
    } else {
        Named::File(beside(document, reference))
    })
}

/// Adds components, each once, so that a tag that moves meanwhile is one component within a document.
pub(super) struct Added<'a> {
    components: &'a Components,
    reach: Reach,
    puller: Option<Puller>,
    /// The digest of each, or why it has none.
    done: BTreeMap<Named, Result<String, String>>,
}

impl<'a> Added<'a> {
    pub(super) fn new(components: &'a Components, reach: Reach) -> Self {
        Self {
            components,
            reach,
            puller: None,
            done: BTreeMap::new(),
        }
    }

    pub(super) async fn digest_of(&mut self, named: &Named) -> Result<String, String> {
        if let Some(done) = self.done.get(named) {
            return done.clone();
        }
        let added = match named {
            Named::File(path) => self.components.add(path).await,
            Named::Elsewhere(text) => self.pull(text).await,
        };
        let done = match added {
            Ok(digest) => Ok(digest.to_string()),
            Err(error) => Err(format!("{error:#}")),
        };
        self.done.insert(named.clone(), done.clone());
        done
    }

    async fn pull(&mut self, text: &str) -> anyhow::Result<ComponentDigest> {
        if self.reach == Reach::Offline {
            bail!(
                "`{text}` is not fetched with --offline; run it without once, and name the digest (`sha256:…`) that it says"
            );
        }
        let puller = match self.puller.take() {
            Some(puller) => puller,
            None => Puller::new(self.components.sandbox().component_bytes_max())?,
        };
        let puller = self.puller.insert(puller);
        let (wasm, reference) = puller.pull(text, self.components).await?;
        let added = self.components.add_bytes(wasm).await;
        let digest = added.with_context(|| format!("`{reference}` cannot be used"))?;
        output::note(&format!("{reference} is {digest}"));
        Ok(digest)
    }
}
