//! Where everything is in a merged module.

use std::collections::HashMap;

use anyhow::{Context, Result};
use wasmparser::FuncType;

use super::constant::Constant;
use super::linked::{GlobalFate, Linked, Target};
use super::module::Module;

/// The places of everything in the merged module.
pub(super) struct Places {
    pub(super) types: Vec<FuncType>,
    pub(super) functions: HashMap<Target, u32>,
    pub(super) tables: HashMap<Target, u32>,
    pub(super) memories: HashMap<Target, u32>,
    pub(super) globals: HashMap<Target, u32>,
    /// The globals whose value is known.
    pub(super) constants: HashMap<Target, Constant>,
}

impl Places {
    pub(super) fn new(linked: &Linked<'_, '_>) -> Result<Places> {
        let mut places = Places {
            types: Vec::new(),
            functions: HashMap::new(),
            tables: HashMap::new(),
            memories: HashMap::new(),
            globals: HashMap::new(),
            constants: HashMap::new(),
        };
        for (number, imported) in linked.imports.iter().enumerate() {
            place_next(&mut places.functions, Target::Outside(number))?;
            places.add_type(&imported.ty);
        }
        for (member, parts) in linked.members.iter().enumerate() {
            places.add_member(linked, member, parts.module)?;
        }
        Ok(places)
    }

    fn add_member(
        &mut self,
        linked: &Linked<'_, '_>,
        member: usize,
        module: &Module<'_>,
    ) -> Result<()> {
        for ty in &module.types {
            self.add_type(ty);
        }
        let defined = |index| Target::Defined { member, index };
        for (index, _) in (0..).zip(&module.functions) {
            if linked.is_live(member, index) {
                place_next(&mut self.functions, defined(index))?;
            }
        }
        for (index, _) in (0..).zip(&module.tables) {
            place_next(&mut self.tables, defined(index))?;
        }
        for (index, _) in (0..).zip(&module.memories) {
            place_next(&mut self.memories, defined(index))?;
        }
        for (index, _) in (0..).zip(&module.globals) {
            let fate = linked.fate(member, index);
            if let GlobalFate::Kept | GlobalFate::KeptConstant(_) = fate {
                place_next(&mut self.globals, defined(index))?;
            }
            if let GlobalFate::Constant(constant) | GlobalFate::KeptConstant(constant) = fate {
                self.constants.insert(defined(index), constant);
            }
        }
        Ok(())
    }

    pub(super) fn add_type(&mut self, ty: &FuncType) {
        if !self.types.contains(ty) {
            self.types.push(ty.clone());
        }
    }

    pub(super) fn type_index(&self, ty: &FuncType) -> Result<u32> {
        let place = self.types.iter().position(|known| known == ty);
        Ok(u32::try_from(
            place.context("a type is not in the merged module")?,
        )?)
    }
}

fn place_next(places: &mut HashMap<Target, u32>, target: Target) -> Result<()> {
    let place = u32::try_from(places.len())?;
    places.insert(target, place);
    Ok(())
}
