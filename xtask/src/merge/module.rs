//! The parts of a core module, as they are in its sections.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use wasmparser::{
    CompositeInnerType, Data, Element, ElementKind, ExternalKind, FuncType, FunctionBody, Global,
    Import, KnownCustom, MemoryType, Name, Parser, Payload, Table, TypeRef, ValType,
};

/// A core module whose sections have been read.
#[derive(Default)]
pub(super) struct Module<'a> {
    pub(super) types: Vec<FuncType>,
    pub(super) imports: Vec<Import<'a>>,
    /// The types of the functions that it defines.
    pub(super) functions: Vec<u32>,
    pub(super) tables: Vec<Table<'a>>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<Global<'a>>,
    pub(super) exports: HashMap<&'a str, (Kind, u32)>,
    pub(super) start: Option<u32>,
    pub(super) elements: Vec<Element<'a>>,
    pub(super) data: Vec<Data<'a>>,
    pub(super) has_data_count: bool,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    pub(super) name: Option<&'a str>,
    pub(super) function_names: Vec<(u32, &'a str)>,
}

/// What a module imports, defines and exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Function,
    Table,
    Memory,
    Global,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Function, Kind::Table, Kind::Memory, Kind::Global];

    /// The kind of an export, where it is known here.
    pub(super) fn of(kind: ExternalKind) -> Result<Kind> {
        Ok(match kind {
            ExternalKind::Func => Kind::Function,
            ExternalKind::Table => Kind::Table,
            ExternalKind::Memory => Kind::Memory,
            ExternalKind::Global => Kind::Global,
            ExternalKind::Tag | ExternalKind::FuncExact => bail!("a module exports a {kind:?}"),
        })
    }

    /// The kind of an import, where it is known here.
    pub(super) fn of_import(ty: &TypeRef) -> Result<Kind> {
        Ok(match ty {
            TypeRef::Func(_) => Kind::Function,
            TypeRef::Table(_) => Kind::Table,
            TypeRef::Memory(_) => Kind::Memory,
            TypeRef::Global(_) => Kind::Global,
            TypeRef::Tag(_) | TypeRef::FuncExact(_) => bail!("a module imports {ty:?}"),
        })
    }
}

impl<'a> Module<'a> {
    /// Reads the sections of a core module.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Module<'a>> {
        let mut module = Module::default();
        for payload in Parser::new(0).parse_all(bytes) {
            module.add(payload?)?;
        }
        ensure!(
            module.functions.len() == module.bodies.len(),
            "a module has functions without bodies"
        );
        Ok(module)
    }

    /// How many of a kind it imports.
    pub(super) fn imported(&self, kind: Kind) -> Result<u32> {
        let mut count = 0;
        for import in &self.imports {
            count += u32::from(Kind::of_import(&import.ty)? == kind);
        }
        Ok(count)
    }

    /// What it exports under a name.
    pub(super) fn export(&self, name: &str) -> Result<(Kind, u32)> {
        self.exports
            .get(name)
            .copied()
            .with_context(|| format!("a module is asked for {name:?}, which it does not export"))
    }

    /// Whether instantiating it writes to a table or a memory.
    pub(super) fn has_active_segments(&self) -> bool {
        let writes_table =
            |element: &Element<'_>| matches!(element.kind, ElementKind::Active { .. });
        let writes_memory =
            |data: &Data<'_>| matches!(data.kind, wasmparser::DataKind::Active { .. });
        self.elements.iter().any(writes_table) || self.data.iter().any(writes_memory)
    }

    fn add(&mut self, payload: Payload<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(reader) => {
                for group in reader {
                    self.add_type_group(group?)?;
                }
            }
            Payload::ImportSection(reader) => {
                self.imports = reader.into_imports().collect::<Result<_, _>>()?;
            }
            Payload::FunctionSection(reader) => {
                self.functions = reader.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::TableSection(reader) => {
                self.tables = reader.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::MemorySection(reader) => {
                self.memories = reader.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::GlobalSection(reader) => {
                self.globals = reader.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    let exported = (Kind::of(export.kind)?, export.index);
                    self.exports.insert(export.name, exported);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(reader) => {
                self.elements = reader.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::DataSection(reader) => {
                self.data = reader.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::DataCountSection { .. } => self.has_data_count = true,
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            // Custom sections say nothing about what a module does. Those with addresses of code would be
            // wrong in another module.
            Payload::CustomSection(reader) => {
                if let KnownCustom::Name(names) = reader.as_known() {
                    for name in names {
                        self.add_names(name?)?;
                    }
                }
            }
            Payload::Version { .. } | Payload::CodeSectionStart { .. } | Payload::End(_) => {}
            other => bail!("a module has a section that is not known here: {other:?}"),
        }
        Ok(())
    }

    fn add_type_group(&mut self, group: wasmparser::RecGroup) -> Result<()> {
        ensure!(
            !group.is_explicit_rec_group(),
            "a module has a group of recursive types"
        );
        for ty in group.into_types() {
            match ty.composite_type.inner {
                CompositeInnerType::Func(function)
                    if ty.is_final
                        && ty.supertype_idx.is_none()
                        && !ty.composite_type.shared
                        && !names_types(&function) =>
                {
                    self.types.push(function);
                }
                _ => bail!("a module has a type that is not a plain function type"),
            }
        }
        Ok(())
    }

    fn add_names(&mut self, names: Name<'a>) -> Result<()> {
        match names {
            Name::Module { name, .. } => self.name = Some(name),
            Name::Function(functions) => {
                for naming in functions {
                    let naming = naming?;
                    self.function_names.push((naming.index, naming.name));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a function type is made of other types of its module.
fn names_types(function: &FuncType) -> bool {
    let mut types = function.params().iter().chain(function.results());
    types.any(|ty| matches!(ty, ValType::Ref(reference) if reference.is_concrete_type_ref()))
}
