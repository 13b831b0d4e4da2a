//! What a manifest says: a component is an image manifest with one layer of WebAssembly, as the CNCF's layout of Wasm
//! artifacts has it. Pure; what else there is in registries is refused with its name.

use oci_spec::image::{Descriptor, DigestAlgorithm, ImageManifest, MediaType};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::text;

/// What a registry is asked for. The others are asked for so that they can be told apart from what is not there.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json;q=0.5, application/vnd.docker.distribution.manifest.v2+json;q=0.5, application/vnd.docker.distribution.manifest.list.v2+json;q=0.5";

const WASM_LAYER: &str = "application/wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Layers that are named where there are too many.
const NAMED_MAX: usize = 4;

/// The layer that is the component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: String,
    pub(super) bytes: u64,
}

/// As much as tells what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
}

/// Reads a manifest; the error is what was found instead.
pub(super) fn read(
    bytes: &[u8],
    content_type: Option<&str>,
    component_bytes_max: u64,
) -> Result<Layer, String> {
    let outline: Outline = serde_json::from_slice(bytes)
        .map_err(|error| text::one_line(&format!("its manifest is no JSON of one ({error})")))?;
    let media_type = outline.media_type.as_deref().or(content_type);
    let media_type = media_type.map(MediaType::from);
    let named = |media_type: &Option<MediaType>| match media_type {
        Some(other) => quoted(other),
        None => "without a media type".to_owned(),
    };
    match &media_type {
        Some(MediaType::ImageManifest) if outline.manifests.is_none() => {}
        Some(MediaType::ImageIndex) => {
            return Err(format!(
                "it is an index of manifests ({}); name one of them by its digest",
                named(&media_type)
            ));
        }
        _ if outline.manifests.is_some() => {
            return Err(format!(
                "it is a list of manifests ({}); name one of them by its digest",
                named(&media_type)
            ));
        }
        other => {
            return Err(format!(
                "its manifest is {}, not `{}`",
                named(other),
                MediaType::ImageManifest
            ));
        }
    }
    let manifest: ImageManifest = serde_json::from_slice(bytes)
        .map_err(|error| text::one_line(&format!("its manifest is none ({error})")))?;
    let layer = the_layer(&manifest)?;
    if *layer.digest().algorithm() != DigestAlgorithm::Sha256 {
        let digest = text::one_line(layer.digest().as_ref());
        return Err(format!(
            "its layer has the digest `{digest}`, not one of sha256"
        ));
    }
    if layer.size() > component_bytes_max {
        return Err(format!(
            "it has {} bytes; a component has at most {component_bytes_max}",
            layer.size()
        ));
    }
    Ok(Layer {
        digest: layer.digest().to_string(),
        bytes: layer.size(),
    })
}

fn the_layer(manifest: &ImageManifest) -> Result<&Descriptor, String> {
    let layers = manifest.layers();
    let [layer] = layers.as_slice() else {
        let mut names: Vec<String> = layers.iter().take(NAMED_MAX).map(kind).collect();
        if layers.len() > NAMED_MAX {
            names.push("…".to_owned());
        }
        return Err(format!(
            "it has {} layers ({}), and not one of `{WASM_LAYER}`",
            layers.len(),
            names.join(", ")
        ));
    };
    let found = layer.media_type().to_string();
    if found != WASM_LAYER {
        return Err(format!("its layer is {}, not `{WASM_LAYER}`", kind(layer)));
    }
    let found = manifest.config().media_type().to_string();
    if found != WASM_CONFIG {
        return Err(format!(
            "its configuration is {}, not `{WASM_CONFIG}`; push it as a Wasm artifact, for example with `wkg oci push`",
            kind(manifest.config())
        ));
    }
    Ok(layer)
}

fn kind(descriptor: &Descriptor) -> String {
    quoted(descriptor.media_type())
}

fn quoted(media_type: &MediaType) -> String {
    format!(
        "`{}`",
        text::cut_chars(&text::squeeze(media_type.as_ref()), 100)
    )
}
