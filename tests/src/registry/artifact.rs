//! What lies in a registry: a manifest with its layers, right or wrong.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The digest of some bytes, as registries write it.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// A manifest and what it names.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The layers, each with its media type.
    pub layers: Vec<(String, Vec<u8>)>,
    /// The configuration's media type.
    pub config: String,
}

/// The bytes of every configuration here.
const CONFIG: &[u8] = b"{}";

impl Artifact {
    /// A component, as the layout of Wasm artifacts has it.
    #[must_use]
    pub fn wasm(component: &[u8]) -> Self {
        Self {
            layers: vec![("application/wasm".to_owned(), component.to_vec())],
            config: "application/vnd.wasm.config.v0+json".to_owned(),
        }
    }

    /// The manifest's media type.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        "application/vnd.oci.image.manifest.v1+json"
    }

    /// The manifest, byte by byte the same each time.
    #[must_use]
    pub fn manifest(&self) -> Vec<u8> {
        let described = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len() });
        let layers = self.layers.iter();
        let layers: Vec<Value> = layers
            .map(|(media_type, bytes)| described(media_type, bytes))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": self.media_type(),
            "config": described(&self.config, CONFIG), "layers": layers,
        });
        manifest.to_string().into_bytes()
    }

    /// The configuration and the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        let layers = self.layers.iter().map(|(_, bytes)| bytes.as_slice());
        std::iter::once(CONFIG).chain(layers)
    }
}
