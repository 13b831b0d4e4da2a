//! Where everything is in a merged module.

use std::collections::HashMap;

use anyhow::{Context, Result};
use wasmparser::FuncType;

use super::constant::Constant;
use super::linked::{GlobalFate, Linked, Target};

/// The places of everything in the merged module.
pub(super) struct Places {
    pub(super) types: Vec<FuncType>,
    pub(super) functions: HashMap<Target, u32>,
    pub(super) tables: HashMap<Target, u32>,
    pub(super) memories: HashMap<Target, u32>,
    pub(super) globals: HashMap<Target, Place>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Index(u32),
    Constant(Constant),
}

impl Places {
    pub(super) fn new(linked: &Linked<'_, '_>) -> Places {
        let mut places = Places {
            types: Vec::new(),
            functions: HashMap::new(),
            tables: HashMap::new(),
            memories: HashMap::new(),
            globals: HashMap::new(),
        };
        for (number, imported) in linked.imports.iter().enumerate() {
            let target = Target::Outside(number);
            places.functions.insert(target, number as u32);
            places.add_type(&imported.ty);
        }
        let mut globals = 0;
        for (member, parts) in linked.members.iter().enumerate() {
            let module = parts.module;
            for ty in &module.types {
                places.add_type(ty);
            }
            let defined = |index: usize| Target::Defined {
                member,
                index: index as u32,
            };
            for index in 0..module.functions.len() {
                if linked.is_live(member, index as u32) {
                    let place = places.functions.len() as u32;
                    places.functions.insert(defined(index), place);
                }
            }
            for index in 0..module.tables.len() {
                let place = places.tables.len() as u32;
                places.tables.insert(defined(index), place);
            }
            for index in 0..module.memories.len() {
                let place = places.memories.len() as u32;
                places.memories.insert(defined(index), place);
            }
            for index in 0..module.globals.len() {
                let place = match linked.fate(member, index as u32) {
                    GlobalFate::Kept => Place::Index(globals),
                    GlobalFate::KeptConstant(constant) | GlobalFate::Constant(constant) => {
                        Place::Constant(constant)
                    }
                    GlobalFate::Dropped => continue,
                };
                let kept = matches!(
                    linked.fate(member, index as u32),
                    GlobalFate::Kept | GlobalFate::KeptConstant(_)
                );
                globals += u32::from(kept);
                places.globals.insert(defined(index), place);
            }
        }
        places
    }

    pub(super) fn add_type(&mut self, ty: &FuncType) {
        if !self.types.contains(ty) {
            self.types.push(ty.clone());
        }
    }

    pub(super) fn type_index(&self, ty: &FuncType) -> Result<u32> {
        let place = self.types.iter().position(|known| known == ty);
        Ok(place.context("a type is not in the merged module")? as u32)
    }
}
