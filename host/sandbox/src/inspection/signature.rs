//! Reads the types of functions from what wasmparser found. Types share parts, so that a small component can name
//! a huge type: depth and size are bounded here.

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{ComponentDefinedType, ComponentFuncTypeId, ComponentValType};
use wasmparser::types::Types;

use crate::function::Parameters;
use crate::value::{SharedType, Type};

/// How deep a type may be nested. With two levels of JSON for each it stays below the 127 that JSON readers take.
const DEPTH_MAX: usize = 32;
/// Fields, cases and elements of one function's types, shared ones each time they occur. Bounds its schema.
const FUNCTION_PARTS_MAX: usize = 2_000;
/// The same of all functions of a component together.
const COMPONENT_PARTS_MAX: usize = 50_000;
/// Bytes of one name. Bounds schemas and results, in which names are repeated.
const NAME_BYTES_MAX: usize = 128;

/// Why a function cannot be called with JSON.
type Reason = String;

pub(super) struct TypeReader<'a> {
    types: &'a Types,
    component_parts_left: usize,
    function_parts_left: usize,
}

impl<'a> TypeReader<'a> {
    pub(super) fn new(types: &'a Types) -> Self {
        TypeReader {
            types,
            component_parts_left: COMPONENT_PARTS_MAX,
            function_parts_left: 0,
        }
    }

    /// The parameters and the result of a function.
    pub(super) fn function(
        &mut self,
        id: ComponentFuncTypeId,
    ) -> Result<(Parameters, Option<SharedType>), Reason> {
        self.function_parts_left = FUNCTION_PARTS_MAX;
        let function = &self.types[id];
        if function.async_ {
            return Err("it is an `async` function".to_owned());
        }
        let mut parameters = Vec::new();
        for (name, ty) in &function.params {
            let ty = self
                .read(ty, 0)
                .map_err(|reason| format!("its parameter `{name}` {reason}"))?;
            parameters.push((self.name(name)?, ty));
        }
        let result = function.result.as_ref().map(|ty| {
            self.read(ty, 0)
                .map_err(|reason| format!("its result {reason}"))
        });
        Ok((parameters, result.transpose()?))
    }

    fn read(&mut self, ty: &ComponentValType, depth: usize) -> Result<SharedType, Reason> {
        if depth > DEPTH_MAX {
            return Err(format!("is nested more than {DEPTH_MAX} levels deep"));
        }
        self.count()?;
        Ok(SharedType::new(match ty {
            ComponentValType::Primitive(primitive) => self::primitive(*primitive)?,
            ComponentValType::Type(id) => self.defined(&self.types[*id], depth + 1)?,
        }))
    }

    fn defined(&mut self, ty: &ComponentDefinedType, depth: usize) -> Result<Type, Reason> {
        Ok(match ty {
            ComponentDefinedType::Primitive(primitive) => self::primitive(*primitive)?,
            ComponentDefinedType::Record(record) => {
                let mut fields = Vec::new();
                for (name, ty) in &record.fields {
                    fields.push((self.name(name)?, self.read(ty, depth)?));
                }
                Type::Record(fields)
            }
            ComponentDefinedType::Variant(variant) => {
                let mut cases = Vec::new();
                for (name, case) in &variant.cases {
                    cases.push((self.name(name)?, self.maybe(case.ty.as_ref(), depth)?));
                }
                Type::Variant(cases)
            }
            ComponentDefinedType::List { element, .. } => match *self.read(element, depth)? {
                Type::U8 => Type::Bytes,
                ref element => Type::List(SharedType::new(element.clone())),
            },
            ComponentDefinedType::Tuple(tuple) => {
                let types = tuple.types.iter().map(|ty| self.read(ty, depth));
                Type::Tuple(types.collect::<Result<_, _>>()?)
            }
            ComponentDefinedType::Flags(names) => Type::Flags(self.names(names.iter())?),
            ComponentDefinedType::Enum(names) => Type::Enum(self.names(names.iter())?),
            ComponentDefinedType::Option { ty, .. } => Type::Option(self.read(ty, depth)?),
            ComponentDefinedType::Result { ok, err, .. } => Type::Result {
                ok: self.maybe(ok.as_ref(), depth)?,
                err: self.maybe(err.as_ref(), depth)?,
            },
            ComponentDefinedType::Own(_) => return Err(refusal("a resource (`own`)")),
            ComponentDefinedType::Borrow(_) => return Err(refusal("a resource (`borrow`)")),
            ComponentDefinedType::Future { .. } => return Err(refusal("a `future`")),
            ComponentDefinedType::Stream { .. } => return Err(refusal("a `stream`")),
            ComponentDefinedType::Map { .. } => return Err(refusal("a `map`")),
            ComponentDefinedType::FixedLengthList { .. } => {
                return Err(refusal("a list of fixed length"));
            }
        })
    }

    fn maybe(
        &mut self,
        ty: Option<&ComponentValType>,
        depth: usize,
    ) -> Result<Option<SharedType>, Reason> {
        ty.map(|ty| self.read(ty, depth)).transpose()
    }

    fn names<'n>(
        &mut self,
        names: impl Iterator<Item = &'n wasmparser::names::KebabString>,
    ) -> Result<Vec<String>, Reason> {
        names.map(|name| self.name(name)).collect()
    }

    fn name(&mut self, name: &str) -> Result<String, Reason> {
        self.count()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("has a name of more than {NAME_BYTES_MAX} bytes"));
        }
        Ok(name.to_owned())
    }

    fn count(&mut self) -> Result<(), Reason> {
        let too_many = |left: usize, most: usize, whose: &str| {
            left.checked_sub(1)
                .ok_or_else(|| format!("has more than {most} parts, with those of {whose}"))
        };
        self.function_parts_left = too_many(
            self.function_parts_left,
            FUNCTION_PARTS_MAX,
            "the function's other types",
        )?;
        self.component_parts_left = too_many(
            self.component_parts_left,
            COMPONENT_PARTS_MAX,
            "the component's other functions",
        )?;
        Ok(())
    }
}

fn primitive(primitive: PrimitiveValType) -> Result<Type, Reason> {
    Ok(match primitive {
        PrimitiveValType::Bool => Type::Bool,
        PrimitiveValType::S8 => Type::S8,
        PrimitiveValType::U8 => Type::U8,
        PrimitiveValType::S16 => Type::S16,
        PrimitiveValType::U16 => Type::U16,
        PrimitiveValType::S32 => Type::S32,
        PrimitiveValType::U32 => Type::U32,
        PrimitiveValType::S64 => Type::S64,
        PrimitiveValType::U64 => Type::U64,
        PrimitiveValType::F32 => Type::F32,
        PrimitiveValType::F64 => Type::F64,
        PrimitiveValType::Char => Type::Char,
        PrimitiveValType::String => Type::String,
        PrimitiveValType::ErrorContext => return Err(refusal("an `error-context`")),
    })
}

fn refusal(what: &str) -> Reason {
    format!("is or holds {what}, which cannot be passed as JSON")
}
