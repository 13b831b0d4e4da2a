//! Writes a component in which one core instance takes the place of several.
//!
//! All definitions stay in their order, but for those that need the merged instance and were before the last
//! thing that it imports: they follow it.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, anyhow, bail};
use wasm_encoder::reencode::{Error, ReencodeComponent};
use wasm_encoder::{
    CanonicalFunctionSection, ComponentAliasSection, ComponentExportSection,
    ComponentInstanceSection, ExportKind, InstanceSection, ModuleArg, RawSection,
};
use wasmparser::{ComponentAlias, ExternalKind, Instance};

use super::component::{Component, Item, Space};
use super::encode::{self, IMPORTS};
use super::group::{Found, Instances};
use super::indices::Indices;
use super::linked::Linked;
use super::module::Kind;
use super::needed;

/// The ids of sections that are copied.
const MODULE_SECTION: u8 = 1;
const COMPONENT_SECTION: u8 = 4;

/// Writes the component with the members merged, and with what components inside have become, by their place.
pub(super) fn component(
    instances: &Instances<'_, '_>,
    members: &[u32],
    inside: &HashMap<usize, Vec<u8>>,
) -> Result<Vec<u8>> {
    let mut linked = Linked::new(instances, members)?;
    let live = needed::live_definitions(instances, members)?;
    let requests = needed::requests(instances, members, &live)?;
    let mut aliases = HashMap::new();
    for (instance, name) in requests {
        let export = linked.export(instance, name)?;
        aliases.insert((instance, name.to_owned()), export);
    }
    linked.trace()?;
    let mut writer = Writer {
        instances,
        inside,
        linked,
        aliases,
        output: wasm_encoder::Component::new(),
        indices: Indices::default(),
        merged: 0,
    };
    writer.write(&live)?;
    Ok(writer.output.finish())
}

struct Writer<'i, 'c, 'a> {
    instances: &'i Instances<'c, 'a>,
    inside: &'i HashMap<usize, Vec<u8>>,
    linked: Linked<'i, 'a>,
    /// What the merged module calls an export of a member.
    aliases: HashMap<(u32, String), String>,
    output: wasm_encoder::Component,
    indices: Indices,
    /// The merged instance.
    merged: u32,
}

impl<'a> Writer<'_, '_, 'a> {
    fn write(&mut self, live: &HashSet<usize>) -> Result<()> {
        let component = self.instances.component;
        let (first, last) = self.place_of_merged()?.unzip();
        let mut deferred = Vec::new();
        for place in 0..component.definitions.len() {
            if live.contains(&place) {
                let may_be_early = last.is_some_and(|last| place <= last);
                if may_be_early && self.needs_merged(first, place, &deferred)? {
                    deferred.push(place);
                } else {
                    self.write_definition(place)?;
                }
            }
            if Some(place) == last {
                self.write_merged()?;
                for place in std::mem::take(&mut deferred) {
                    self.write_definition(place)?;
                }
            }
        }
        Ok(())
    }

    /// The place of the first member, and that of the last definition that has to come before the merged one.
    fn place_of_merged(&self) -> Result<Option<(usize, usize)>> {
        let component = self.instances.component;
        let Some(first) = self.linked.members.first() else {
            return Ok(None);
        };
        let first = component.origin(Space::CoreInstance, first.instance)?;
        let mut last = first;
        for imported in &self.linked.imports {
            if let Found::Canonical(function) = imported.found {
                last = last.max(component.origin(Space::CoreFunction, function)?);
            }
        }
        Ok(Some((first, last)))
    }

    /// Whether a definition has to follow the merged instance.
    fn needs_merged(&self, first: Option<usize>, place: usize, deferred: &[usize]) -> Result<bool> {
        let component = self.instances.component;
        let item = &component.definitions[place].item;
        let is_instance = matches!(item, Item::CoreInstance(Instance::Instantiate { .. }));
        let mut needs = is_instance && first.is_some_and(|first| place > first);
        for (space, index) in item.uses() {
            let is_member = space == Space::CoreInstance && self.linked.position(index).is_some();
            needs |= is_member || deferred.contains(&component.origin(space, index)?);
        }
        match item {
            Item::Alias(ComponentAlias::CoreInstanceExport { .. })
            | Item::CoreInstance(_)
            | Item::Canonical(_) => Ok(needs),
            _ if needs => bail!("a definition between the core instances cannot be moved"),
            _ => Ok(false),
        }
    }

    fn write_merged(&mut self) -> Result<()> {
        let module = encode::module(&self.linked)?;
        let module = RawSection {
            id: MODULE_SECTION,
            data: &module,
        };
        self.output.section(&module);
        let module = self.indices.take(Space::CoreModule);
        let mut imports = Vec::new();
        for number in 0..self.linked.imports.len() {
            let function = match self.linked.imports[number].found {
                Found::Canonical(function) => self.indices.get(Space::CoreFunction, function)?,
                Found::Export { instance, name } => {
                    let instance = self.indices.get(Space::CoreInstance, instance)?;
                    self.write_core_alias(ExternalKind::Func, instance, name)
                }
            };
            let name = self.linked.imports[number].name.clone();
            imports.push((name, ExportKind::Func, function));
        }
        let mut section = InstanceSection::new();
        section.export_items(
            imports
                .iter()
                .map(|(name, kind, index)| (name.as_str(), *kind, *index)),
        );
        let arguments = self.indices.take(Space::CoreInstance);
        section.instantiate(module, [(IMPORTS, ModuleArg::Instance(arguments))]);
        self.output.section(&section);
        self.merged = self.indices.take(Space::CoreInstance);
        Ok(())
    }

    fn write_definition(&mut self, place: usize) -> Result<()> {
        let component: &Component<'a> = self.instances.component;
        let definition = &component.definitions[place];
        match &definition.item {
            Item::Section { id, contents } => {
                self.section(*id, contents);
            }
            Item::Module(bytes) => self.section(MODULE_SECTION, bytes),
            Item::Component(bytes) => {
                let bytes = self.inside.get(&place).map_or(*bytes, Vec::as_slice);
                self.section(COMPONENT_SECTION, bytes);
            }
            Item::Names(names) => {
                let names = self.indices.names(names.clone())?;
                self.output.section(&names);
            }
            Item::CoreInstance(instance) => self.write_core_instance(instance)?,
            Item::Alias(ComponentAlias::CoreInstanceExport {
                kind,
                instance_index,
                name,
            }) => {
                let new = match self.linked.position(*instance_index) {
                    Some(_) => self.write_alias_of_merged(*kind, *instance_index, name)?,
                    None => {
                        let instance = self.indices.get(Space::CoreInstance, *instance_index)?;
                        self.write_core_alias(*kind, instance, name)
                    }
                };
                let (space, range) = &definition.defines[0];
                self.indices.set(*space, range.start, new);
                return Ok(());
            }
            other => self.reencode(other).map_err(|error| anyhow!("{error}"))?,
        }
        for (space, range) in &definition.defines {
            for index in range.clone() {
                let new = self.indices.take(*space);
                self.indices.set(*space, index, new);
            }
        }
        Ok(())
    }

    fn section(&mut self, id: u8, data: &[u8]) {
        self.output.section(&RawSection { id, data });
    }

    fn reencode(&mut self, item: &Item<'a>) -> Result<(), Error<anyhow::Error>> {
        let indices = &mut self.indices;
        match item {
            Item::Instance(instance) => {
                let mut section = ComponentInstanceSection::new();
                indices.parse_component_instance(&mut section, instance.clone())?;
                self.output.section(&section);
            }
            Item::Alias(alias) => {
                let mut section = ComponentAliasSection::new();
                section.alias(indices.component_alias(alias.clone())?);
                self.output.section(&section);
            }
            Item::Canonical(function) => {
                let mut section = CanonicalFunctionSection::new();
                indices.parse_component_canonical(&mut section, function.clone())?;
                self.output.section(&section);
            }
            Item::Export(export) => {
                let mut section = ComponentExportSection::new();
                indices.parse_component_export(&mut section, export.clone())?;
                self.output.section(&section);
            }
            Item::Start(start) => {
                indices.parse_component_start_section(&mut self.output, start.clone())?;
            }
            _ => {
                return Err(Error::UserError(anyhow!(
                    "a definition is written elsewhere"
                )));
            }
        }
        Ok(())
    }

    fn write_alias_of_merged(
        &mut self,
        kind: ExternalKind,
        instance: u32,
        name: &str,
    ) -> Result<u32> {
        let export = self.aliases.get(&(instance, name.to_owned()));
        let export = export
            .with_context(|| format!("{name:?} is no export"))?
            .clone();
        Ok(self.write_core_alias(kind, self.merged, &export))
    }

    fn write_core_alias(&mut self, kind: ExternalKind, instance: u32, name: &str) -> u32 {
        let mut section = ComponentAliasSection::new();
        section.alias(wasm_encoder::Alias::CoreInstanceExport {
            instance,
            kind: kind.into(),
            name,
        });
        self.output.section(&section);
        self.indices.take(Space::of_core(kind))
    }

    fn write_core_instance(&mut self, instance: &Instance<'a>) -> Result<()> {
        let mut section = InstanceSection::new();
        match instance {
            Instance::Instantiate { module_index, args } => {
                let mut arguments = Vec::new();
                for arg in args {
                    let instance = match self.linked.position(arg.index) {
                        Some(_) => self.write_part(*module_index, arg.name, arg.index)?,
                        None => self.indices.get(Space::CoreInstance, arg.index)?,
                    };
                    arguments.push((arg.name, ModuleArg::Instance(instance)));
                }
                let module = self.indices.get(Space::CoreModule, *module_index)?;
                section.instantiate(module, arguments);
            }
            Instance::FromExports(exports) => {
                let mut items = Vec::new();
                for export in exports {
                    let index = self
                        .indices
                        .get(Space::of_core(export.kind), export.index)?;
                    items.push((export.name, ExportKind::from(export.kind), index));
                }
                section.export_items(items);
            }
        }
        self.output.section(&section);
        Ok(())
    }

    /// Writes an instance of those exports of a member that a module imports.
    fn write_part(&mut self, module: u32, argument: &str, member: u32) -> Result<u32> {
        let module = self.instances.modules[module as usize].as_ref();
        let module = module.context("a module from outside takes a whole instance")?;
        let member_module = self
            .instances
            .module(member)
            .context("a member has no module")?;
        let mut items = Vec::new();
        let mut seen = HashSet::new();
        for import in module
            .imports
            .iter()
            .filter(|import| import.module == argument)
        {
            if !seen.insert(import.name) {
                continue;
            }
            let kind = match member_module.export(import.name)?.0 {
                Kind::Function => ExternalKind::Func,
                Kind::Table => ExternalKind::Table,
                Kind::Memory => ExternalKind::Memory,
                Kind::Global => ExternalKind::Global,
            };
            let index = self.write_alias_of_merged(kind, member, import.name)?;
            items.push((import.name, ExportKind::from(kind), index));
        }
        let mut section = InstanceSection::new();
        section.export_items(items);
        self.output.section(&section);
        Ok(self.indices.take(Space::CoreInstance))
    }
}
