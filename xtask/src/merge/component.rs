//! The definitions of a component in their order, with the indices that each one takes.
//!
//! Only what belongs to core modules is read: the index spaces in which a merge moves something. Sections of
//! types and imports are kept as they are, because nothing in them changes.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use wasmparser::{
    CanonicalFunction, CanonicalOption, Chunk, ComponentAlias, ComponentExport,
    ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentStartFunction,
    ComponentType, ComponentTypeRef, Encoding, ExternalKind, FromReader, Instance, KnownCustom,
    Parser, Payload, SectionLimited,
};

/// An index space of a component in which a merge changes indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Space {
    CoreFunction,
    CoreTable,
    CoreMemory,
    CoreGlobal,
    CoreTag,
    CoreModule,
    CoreInstance,
    Function,
}

impl Space {
    pub(super) const COUNT: usize = Space::Function as usize + 1;

    /// The space of what a core instance exports.
    pub(super) fn of_core(kind: ExternalKind) -> Space {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => Space::CoreFunction,
            ExternalKind::Table => Space::CoreTable,
            ExternalKind::Memory => Space::CoreMemory,
            ExternalKind::Global => Space::CoreGlobal,
            ExternalKind::Tag => Space::CoreTag,
        }
    }

    fn of(kind: ComponentExternalKind) -> Option<Space> {
        match kind {
            ComponentExternalKind::Module => Some(Space::CoreModule),
            ComponentExternalKind::Func => Some(Space::Function),
            ComponentExternalKind::Value
            | ComponentExternalKind::Type
            | ComponentExternalKind::Instance
            | ComponentExternalKind::Component => None,
        }
    }
}

/// One definition of a component, or a section that no merge changes.
pub(super) enum Item<'a> {
    Section { id: u8, contents: &'a [u8] },
    Names(wasmparser::ComponentNameSectionReader<'a>),
    Module(&'a [u8]),
    Component(&'a [u8]),
    CoreInstance(Instance<'a>),
    Instance(ComponentInstance<'a>),
    Alias(ComponentAlias<'a>),
    Canonical(CanonicalFunction),
    Export(ComponentExport<'a>),
    Start(ComponentStartFunction),
}

/// A definition and the indices that it takes.
pub(super) struct Definition<'a> {
    pub(super) item: Item<'a>,
    pub(super) defines: Vec<(Space, Range<u32>)>,
}

/// A component as a list of definitions.
pub(super) struct Component<'a> {
    pub(super) definitions: Vec<Definition<'a>>,
    /// Which definition takes an index, by space.
    origins: [Vec<usize>; Space::COUNT],
}

impl<'a> Component<'a> {
    /// Reads the definitions of a component.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Component<'a>> {
        let mut component = Component {
            definitions: Vec::new(),
            origins: Default::default(),
        };
        let mut parser = Parser::new(0);
        let mut position = 0;
        while position < bytes.len() {
            let (consumed, payload) = match parser.parse(&bytes[position..], true)? {
                Chunk::Parsed { consumed, payload } => (consumed, payload),
                Chunk::NeedMoreData(_) => bail!("the component ends in the middle of a section"),
            };
            position += consumed;
            if let Payload::ModuleSection {
                unchecked_range, ..
            }
            | Payload::ComponentSection {
                unchecked_range, ..
            } = &payload
            {
                position = unchecked_range.end;
            }
            component.add(payload, bytes)?;
        }
        Ok(component)
    }

    /// The definitions that take the indices of a space, in their order.
    pub(super) fn all(&self, space: Space) -> impl Iterator<Item = &Item<'a>> {
        let places = self.origins[space as usize].iter();
        places.map(|place| &self.definitions[*place].item)
    }

    /// The place of the definition that takes an index.
    pub(super) fn origin(&self, space: Space, index: u32) -> Result<usize> {
        self.origins[space as usize]
            .get(index as usize)
            .copied()
            .with_context(|| format!("the component has no {space:?} {index}"))
    }

    /// The definition that takes an index.
    pub(super) fn definition(&self, space: Space, index: u32) -> Result<&Item<'a>> {
        Ok(&self.definitions[self.origin(space, index)?].item)
    }

    fn add(&mut self, payload: Payload<'a>, bytes: &'a [u8]) -> Result<()> {
        let section = payload.as_section();
        match payload {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            }
            | Payload::End(_) => Ok(()),
            Payload::ModuleSection {
                unchecked_range, ..
            } => {
                let module = Item::Module(slice(bytes, unchecked_range)?);
                self.push(module, &[Space::CoreModule])
            }
            Payload::ComponentSection {
                unchecked_range, ..
            } => self.push(Item::Component(slice(bytes, unchecked_range)?), &[]),
            Payload::InstanceSection(reader) => self.push_each(reader, |instance| {
                Ok((Item::CoreInstance(instance), Some(Space::CoreInstance)))
            }),
            Payload::ComponentInstanceSection(reader) => {
                self.push_each(reader, |instance| Ok((Item::Instance(instance), None)))
            }
            Payload::ComponentAliasSection(reader) => self.push_each(reader, |alias| {
                let space = alias_space(&alias)?;
                Ok((Item::Alias(alias), space))
            }),
            Payload::ComponentCanonicalSection(reader) => self.push_each(reader, |function| {
                let space = canonical_space(&function)?;
                Ok((Item::Canonical(function), Some(space)))
            }),
            Payload::ComponentExportSection(reader) => self.push_each(reader, |export| {
                let space = Space::of(export.kind);
                Ok((Item::Export(export), space))
            }),
            Payload::ComponentStartSection { start, .. } => self.push(Item::Start(start), &[]),
            Payload::ComponentImportSection(reader) => {
                let mut spaces = Vec::new();
                for import in reader {
                    spaces.extend(import_space(&import?.ty));
                }
                self.push_section(section, bytes, &spaces)
            }
            Payload::ComponentTypeSection(reader) => {
                for ty in reader {
                    if let ComponentType::Resource { dtor: Some(_), .. } = ty? {
                        bail!("the component defines a resource with a destructor");
                    }
                }
                self.push_section(section, bytes, &[])
            }
            Payload::CustomSection(reader) => match reader.as_known() {
                KnownCustom::ComponentName(names) => self.push(Item::Names(names), &[]),
                _ => self.push_section(section, bytes, &[]),
            },
            Payload::CoreTypeSection(_) => self.push_section(section, bytes, &[]),
            _ => bail!("the component has a section that is not known here: {section:?}"),
        }
    }

    fn push_each<T: FromReader<'a>>(
        &mut self,
        reader: SectionLimited<'a, T>,
        read: impl Fn(T) -> Result<(Item<'a>, Option<Space>)>,
    ) -> Result<()> {
        for definition in reader {
            let (item, space) = read(definition?)?;
            self.push(item, space.as_slice())?;
        }
        Ok(())
    }

    fn push(&mut self, item: Item<'a>, spaces: &[Space]) -> Result<()> {
        let mut defines: Vec<(Space, Range<u32>)> = Vec::new();
        for space in spaces {
            let indices = &mut self.origins[*space as usize];
            let index = u32::try_from(indices.len())?;
            indices.push(self.definitions.len());
            match defines.iter_mut().find(|(defined, _)| defined == space) {
                Some((_, range)) => range.end = index + 1,
                None => defines.push((*space, index..index + 1)),
            }
        }
        self.definitions.push(Definition { item, defines });
        Ok(())
    }

    fn push_section(
        &mut self,
        section: Option<(u8, Range<usize>)>,
        bytes: &'a [u8],
        spaces: &[Space],
    ) -> Result<()> {
        let (id, range) = section.context("a section of the component has no contents")?;
        let contents = slice(bytes, range)?;
        self.push(Item::Section { id, contents }, spaces)
    }
}

impl Item<'_> {
    /// What the definition names in the spaces in which a merge changes indices.
    pub(super) fn uses(&self) -> Vec<(Space, u32)> {
        match self {
            Item::Section { .. } | Item::Names(_) | Item::Module(_) | Item::Component(_) => {
                Vec::new()
            }
            Item::CoreInstance(Instance::Instantiate { module_index, args }) => {
                let instances = args.iter().map(|arg| (Space::CoreInstance, arg.index));
                std::iter::once((Space::CoreModule, *module_index))
                    .chain(instances)
                    .collect()
            }
            Item::CoreInstance(Instance::FromExports(exports)) => exports
                .iter()
                .map(|export| (Space::of_core(export.kind), export.index))
                .collect(),
            Item::Instance(ComponentInstance::Instantiate { args, .. }) => args
                .iter()
                .filter_map(|arg| Some((Space::of(arg.kind)?, arg.index)))
                .collect(),
            Item::Instance(ComponentInstance::FromExports(exports)) => exports
                .iter()
                .filter_map(|export| Some((Space::of(export.kind)?, export.index)))
                .collect(),
            Item::Alias(ComponentAlias::CoreInstanceExport { instance_index, .. }) => {
                vec![(Space::CoreInstance, *instance_index)]
            }
            Item::Alias(_) => Vec::new(),
            Item::Canonical(function) => canonical_uses(function),
            Item::Export(export) => Space::of(export.kind)
                .map(|space| (space, export.index))
                .into_iter()
                .collect(),
            Item::Start(start) => vec![(Space::Function, start.func_index)],
        }
    }
}

fn import_space(ty: &ComponentTypeRef) -> Option<Space> {
    match ty {
        ComponentTypeRef::Func(_) => Some(Space::Function),
        ComponentTypeRef::Module(_) => Some(Space::CoreModule),
        ComponentTypeRef::Value(_)
        | ComponentTypeRef::Type(_)
        | ComponentTypeRef::Instance(_)
        | ComponentTypeRef::Component(_) => None,
    }
}

fn canonical_space(function: &CanonicalFunction) -> Result<Space> {
    Ok(match function {
        CanonicalFunction::Lift { .. } => Space::Function,
        CanonicalFunction::Lower { .. }
        | CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. }
        | CanonicalFunction::TaskReturn { .. } => Space::CoreFunction,
        other => bail!("the component has a function that is not known here: {other:?}"),
    })
}

fn alias_space(alias: &ComponentAlias<'_>) -> Result<Option<Space>> {
    Ok(match alias {
        ComponentAlias::InstanceExport { kind, .. } => Space::of(*kind),
        ComponentAlias::CoreInstanceExport { kind, .. } => Some(Space::of_core(*kind)),
        ComponentAlias::Outer { kind, .. } => match kind {
            // A merge changes the indices of modules, also for the components inside.
            ComponentOuterAliasKind::CoreModule => {
                bail!("a component takes a module of the component around it")
            }
            ComponentOuterAliasKind::CoreType
            | ComponentOuterAliasKind::Type
            | ComponentOuterAliasKind::Component => None,
        },
    })
}

fn canonical_uses(function: &CanonicalFunction) -> Vec<(Space, u32)> {
    let (target, options): (Option<(Space, u32)>, &[CanonicalOption]) = match function {
        CanonicalFunction::Lift {
            core_func_index,
            options,
            ..
        } => (Some((Space::CoreFunction, *core_func_index)), options),
        CanonicalFunction::Lower {
            func_index,
            options,
        } => (Some((Space::Function, *func_index)), options),
        CanonicalFunction::TaskReturn { options, .. } => (None, options),
        _ => (None, &[]),
    };
    let options = options.iter().filter_map(|option| match option {
        CanonicalOption::Memory(index) => Some((Space::CoreMemory, *index)),
        CanonicalOption::Realloc(index)
        | CanonicalOption::PostReturn(index)
        | CanonicalOption::Callback(index) => Some((Space::CoreFunction, *index)),
        _ => None,
    });
    target.into_iter().chain(options).collect()
}

fn slice(bytes: &[u8], range: Range<usize>) -> Result<&[u8]> {
    bytes
        .get(range)
        .context("the component ends in the middle of a section")
}
