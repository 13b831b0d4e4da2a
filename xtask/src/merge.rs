//! Makes one core module of those modules of a component that share a memory.
//!
//! Tools that link libraries into a component leave each library a core module of its own. An instance of such
//! a component costs more than it has to: the runtime fills a table that a module imports entry by entry, each
//! time, and a table of the module's own only where it is used.

mod component;
mod constant;
mod encode;
mod group;
mod indices;
mod linked;
mod module;
mod needed;
mod places;
mod rewrite;
#[cfg(test)]
mod tests;
mod translate;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use wasmparser::{Validator, WasmFeatures};

use self::component::{Component, Item};
use self::group::Instances;

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Merged {
    /// Some core modules are one now.
    Component(Vec<u8>),
    /// No core modules share a memory.
    Unchanged,
}

/// Merges the core modules of the component in a file.
pub(crate) fn merge_file(path: &Path) -> Result<()> {
    let component = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let merged = merge(&component)
        .with_context(|| format!("merging the core modules of {}", path.display()))?;
    if let Merged::Component(component) = merged {
        std::fs::write(path, component).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Merges the core modules of a component, and of those inside it.
pub(crate) fn merge(component: &[u8]) -> Result<Merged> {
    let merged = merge_unchecked(component)?;
    if let Merged::Component(component) = &merged {
        Validator::new_with_features(features())
            .validate_all(component)
            .context("the merged component is not valid")?;
    }
    Ok(merged)
}

fn merge_unchecked(bytes: &[u8]) -> Result<Merged> {
    let component = Component::parse(bytes)?;
    let mut inside = HashMap::new();
    for (place, definition) in component.definitions.iter().enumerate() {
        if let Item::Component(bytes) = &definition.item
            && let Merged::Component(merged) = merge_unchecked(bytes)?
        {
            inside.insert(place, merged);
        }
    }
    let instances = Instances::new(&component)?;
    let members = group::choose(&instances)?;
    if members.is_empty() && inside.is_empty() {
        return Ok(Merged::Unchanged);
    }
    let written = rewrite::component(&instances, &members, &inside)?;
    Ok(Merged::Component(written))
}

/// What the sandbox lets a component use.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL
}
