//! The indices that definitions of a component have in the component that is written.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{ComponentNameSection, NameMap};
use wasmparser::ComponentName;

use super::component::Space;

/// The new indices of what has been written.
#[derive(Default)]
pub(super) struct Indices {
    new: HashMap<(Space, u32), u32>,
    /// How many indices of each space have been taken.
    counts: [u32; Space::COUNT],
}

impl Indices {
    /// Takes the next index of a space.
    pub(super) fn take(&mut self, space: Space) -> u32 {
        let count = &mut self.counts[space as usize];
        *count += 1;
        *count - 1
    }

    /// Says what an index has become.
    pub(super) fn set(&mut self, space: Space, index: u32, new: u32) {
        self.new.insert((space, index), new);
    }

    /// What an index has become.
    pub(super) fn get(&self, space: Space, index: u32) -> Result<u32> {
        let new = self.new.get(&(space, index)).copied();
        new.with_context(|| format!("{space:?} {index} is used before it is defined"))
    }

    /// The names of a component for what is still there.
    pub(super) fn names(
        &mut self,
        names: wasmparser::ComponentNameSectionReader<'_>,
    ) -> Result<ComponentNameSection> {
        let mut section = ComponentNameSection::new();
        for part in names {
            match part? {
                ComponentName::CoreFuncs(map) => {
                    section.core_funcs(&self.moved(Space::CoreFunction, map)?);
                }
                ComponentName::CoreGlobals(map) => {
                    section.core_globals(&self.moved(Space::CoreGlobal, map)?);
                }
                ComponentName::CoreMemories(map) => {
                    section.core_memories(&self.moved(Space::CoreMemory, map)?);
                }
                ComponentName::CoreTables(map) => {
                    section.core_tables(&self.moved(Space::CoreTable, map)?);
                }
                ComponentName::CoreModules(map) => {
                    section.core_modules(&self.moved(Space::CoreModule, map)?);
                }
                ComponentName::CoreInstances(map) => {
                    section.core_instances(&self.moved(Space::CoreInstance, map)?);
                }
                ComponentName::Funcs(map) => section.funcs(&self.moved(Space::Function, map)?),
                other => self
                    .parse_custom_component_name_subsection(&mut section, other)
                    .map_err(|error| anyhow!("{error}"))?,
            }
        }
        Ok(section)
    }

    /// Names in the order of the new indices.
    fn moved(&self, space: Space, map: wasmparser::NameMap<'_>) -> Result<NameMap> {
        let mut names = Vec::new();
        for naming in map {
            let naming = naming?;
            if let Some(new) = self.new.get(&(space, naming.index)) {
                names.push((*new, naming.name));
            }
        }
        names.sort_unstable();
        let mut moved = NameMap::new();
        for (index, name) in names {
            moved.append(index, name);
        }
        Ok(moved)
    }
}

impl Reencode for Indices {
    type Error = anyhow::Error;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        self.get(Space::CoreFunction, index)
            .map_err(Error::UserError)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        self.get(Space::CoreMemory, index).map_err(Error::UserError)
    }
}

impl ReencodeComponent for Indices {
    // These may not fail. An index that is not there yet becomes one that no component has, which the
    // validation of the result refuses.
    fn component_func_index(&mut self, index: u32) -> u32 {
        self.get(Space::Function, index).unwrap_or(u32::MAX)
    }

    fn module_index(&mut self, index: u32) -> u32 {
        self.get(Space::CoreModule, index).unwrap_or(u32::MAX)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        self.get(Space::CoreInstance, index).unwrap_or(u32::MAX)
    }
}
