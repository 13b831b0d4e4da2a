//! Translates the code of one member into that of the merged module.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, anyhow};
use wasm_encoder::Instruction;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasmparser::Operator;

use super::linked::{Linked, Target};
use super::module::Kind;
use super::places::Places;

/// Translates the indices of one member's module.
pub(super) struct Translator<'p, 'm, 'a> {
    linked: &'p Linked<'m, 'a>,
    places: &'p Places,
    member: usize,
    types: Vec<u32>,
    /// How many segments of elements and data are before its own.
    segments: (u32, u32),
    /// The functions that its code takes references to.
    pub(super) referenced: BTreeSet<u32>,
}

impl<'p, 'm, 'a> Translator<'p, 'm, 'a> {
    pub(super) fn new(
        linked: &'p Linked<'m, 'a>,
        places: &'p Places,
        member: usize,
        segments: (u32, u32),
    ) -> Result<Self> {
        let types = linked.members[member].module.types.iter();
        Ok(Translator {
            linked,
            places,
            member,
            types: types
                .map(|ty| places.type_index(ty))
                .collect::<Result<_>>()?,
            segments,
            referenced: BTreeSet::new(),
        })
    }

    fn target(&self, kind: Kind, index: u32) -> Result<Target, Error<anyhow::Error>> {
        let member = &self.linked.members[self.member];
        member.target(kind, index).map_err(Error::UserError)
    }

    fn place(
        &self,
        kind: Kind,
        index: u32,
        places: &HashMap<Target, u32>,
    ) -> Result<u32, Error<anyhow::Error>> {
        let target = self.target(kind, index)?;
        places.get(&target).copied().ok_or_else(|| {
            Error::UserError(anyhow!("{kind:?} {index} is not in the merged module"))
        })
    }
}

impl Reencode for Translator<'_, '_, '_> {
    type Error = anyhow::Error;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        self.place(Kind::Function, index, &self.places.functions)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        self.place(Kind::Table, index, &self.places.tables)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        self.place(Kind::Memory, index, &self.places.memories)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        self.place(Kind::Global, index, &self.places.globals)
    }

    fn type_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        let place = self.types.get(index as usize).copied();
        place.ok_or_else(|| Error::UserError(anyhow!("a module has no type {index}")))
    }

    fn element_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        Ok(self.segments.0 + index)
    }

    fn data_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        Ok(self.segments.1 + index)
    }

    fn tag_index(&mut self, index: u32) -> Result<u32, Error<anyhow::Error>> {
        Err(Error::UserError(anyhow!("a module uses tag {index}")))
    }

    fn const_expr(
        &mut self,
        expression: wasmparser::ConstExpr<'_>,
    ) -> Result<wasm_encoder::ConstExpr, Error<anyhow::Error>> {
        match self.linked.value(self.member, &expression) {
            Ok(Some(constant)) => Ok(constant.expression()),
            Ok(None) => utils::const_expr(self, expression),
            Err(error) => Err(Error::UserError(error)),
        }
    }

    fn instruction<'i>(
        &mut self,
        operator: Operator<'i>,
    ) -> Result<Instruction<'i>, Error<anyhow::Error>> {
        match operator {
            Operator::GlobalGet { global_index } => {
                let target = self.target(Kind::Global, global_index)?;
                match self.places.constants.get(&target) {
                    Some(constant) => Ok(constant.instruction()),
                    None => Ok(Instruction::GlobalGet(self.global_index(global_index)?)),
                }
            }
            Operator::RefFunc { function_index } => {
                let place = self.function_index(function_index)?;
                self.referenced.insert(place);
                Ok(Instruction::RefFunc(place))
            }
            operator => utils::instruction(self, operator),
        }
    }
}
