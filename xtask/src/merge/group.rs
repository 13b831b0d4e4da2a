//! Which core instances of a component can be one: those that are made of a module of their own, and of nothing
//! that exists only once one of them does.
//!
//! A function of the host that takes the memory of an instance exists after that instance; the tools put it
//! into a table afterwards. The instance that fills this table stays outside.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail};
use wasmparser::{ComponentAlias, Instance};

use super::component::{Component, Item, Space};
use super::module::{Kind, Module};

/// What a core instance is made of.
pub(super) enum Source<'a> {
    /// A module, and the instances that its imports are looked up in.
    Module {
        module: u32,
        arguments: HashMap<&'a str, u32>,
    },
    /// Things that exist already, under new names.
    Exports(HashMap<&'a str, (Space, u32)>),
}

/// Where something that an instance imports comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Found<'a> {
    /// An export of an instance that is made of a module.
    Export { instance: u32, name: &'a str },
    /// A core function that the component itself defines.
    Canonical(u32),
}

/// The core instances of a component.
pub(super) struct Instances<'c, 'a> {
    pub(super) component: &'c Component<'a>,
    pub(super) modules: Vec<Option<Module<'a>>>,
    pub(super) sources: Vec<Source<'a>>,
}

impl<'c, 'a> Instances<'c, 'a> {
    /// Reads the core modules and instances of a component.
    pub(super) fn new(component: &'c Component<'a>) -> Result<Instances<'c, 'a>> {
        let mut modules = Vec::new();
        for (index, item) in component.all(Space::CoreModule).enumerate() {
            modules.push(match item {
                Item::Module(bytes) => {
                    Some(Module::parse(bytes).with_context(|| format!("core module {index}"))?)
                }
                _ => None,
            });
        }
        let mut sources = Vec::new();
        for item in component.all(Space::CoreInstance) {
            let Item::CoreInstance(instance) = item else {
                bail!("a core instance is defined by something else");
            };
            sources.push(match instance {
                Instance::Instantiate { module_index, args } => Source::Module {
                    module: *module_index,
                    arguments: args.iter().map(|arg| (arg.name, arg.index)).collect(),
                },
                Instance::FromExports(exports) => Source::Exports(
                    exports
                        .iter()
                        .map(|export| (export.name, (Space::of_core(export.kind), export.index)))
                        .collect(),
                ),
            });
        }
        Ok(Instances {
            component,
            modules,
            sources,
        })
    }

    /// The module that an instance is made of, where it is made of one that is in this component.
    pub(super) fn module(&self, instance: u32) -> Option<&Module<'a>> {
        match &self.sources[instance as usize] {
            Source::Module { module, .. } => self.modules[*module as usize].as_ref(),
            Source::Exports(_) => None,
        }
    }

    /// Where an export of an instance comes from.
    pub(super) fn follow(&self, instance: u32, name: &'a str) -> Result<Found<'a>> {
        let exports = match &self.sources[instance as usize] {
            Source::Module { .. } => return Ok(Found::Export { instance, name }),
            Source::Exports(exports) => exports,
        };
        let (space, index) = exports
            .get(name)
            .with_context(|| format!("core instance {instance} has no {name:?}"))?;
        self.origin(*space, *index)
    }

    /// Where a core definition of the component comes from.
    pub(super) fn origin(&self, space: Space, index: u32) -> Result<Found<'a>> {
        match self.component.definition(space, index)? {
            Item::Alias(ComponentAlias::CoreInstanceExport {
                instance_index,
                name,
                ..
            }) => self.follow(*instance_index, name),
            Item::Canonical(_) if space == Space::CoreFunction => Ok(Found::Canonical(index)),
            _ => bail!("{space:?} {index} is defined in a way that is not known here"),
        }
    }

    /// Where an import of an instance comes from.
    pub(super) fn import(&self, instance: u32, module: &str, name: &'a str) -> Result<Found<'a>> {
        let Source::Module { arguments, .. } = &self.sources[instance as usize] else {
            bail!("core instance {instance} imports nothing");
        };
        let from = arguments
            .get(module)
            .with_context(|| format!("core instance {instance} has nothing for {module:?}"))?;
        self.follow(*from, name)
    }

    /// Where everything comes from that an instance imports, in the order of its imports.
    pub(super) fn imports(&self, instance: u32) -> Result<Vec<Found<'a>>> {
        let module = self.module(instance).context("an instance has no module")?;
        module
            .imports
            .iter()
            .map(|import| self.import(instance, import.module, import.name))
            .collect()
    }

    /// The instance that defines what another one imports or exports.
    fn definer(&self, instance: u32, kind: Kind, index: u32) -> Result<(u32, u32)> {
        let module = self.module(instance).context("an instance has no module")?;
        let mut before = 0;
        for import in &module.imports {
            if Kind::of_import(&import.ty)? != kind {
                continue;
            }
            if before == index {
                return match self.import(instance, import.module, import.name)? {
                    Found::Export { instance, name } => {
                        let module = self.module(instance).context("an instance has no module")?;
                        self.definer(instance, kind, module.export(name)?.1)
                    }
                    Found::Canonical(_) => bail!("a {kind:?} is a core function"),
                };
            }
            before += 1;
        }
        Ok((instance, index - before))
    }

    /// The tables and memories that instantiating writes to.
    fn written(&self, instance: u32) -> Result<HashSet<(Kind, u32, u32)>> {
        let module = self.module(instance).context("an instance has no module")?;
        let mut written = HashSet::new();
        for element in &module.elements {
            if let wasmparser::ElementKind::Active { table_index, .. } = element.kind {
                let (definer, index) =
                    self.definer(instance, Kind::Table, table_index.unwrap_or(0))?;
                written.insert((Kind::Table, definer, index));
            }
        }
        for data in &module.data {
            if let wasmparser::DataKind::Active { memory_index, .. } = data.kind {
                let (definer, index) = self.definer(instance, Kind::Memory, memory_index)?;
                written.insert((Kind::Memory, definer, index));
            }
        }
        Ok(written)
    }

    /// Whether nobody can tell which of two instances was made first.
    fn commute(&self, first: u32, second: u32) -> Result<bool> {
        let (Some(one), Some(other)) = (self.module(first), self.module(second)) else {
            return Ok(false);
        };
        let runs_code = one.start.is_some() || other.start.is_some();
        Ok(!runs_code && self.written(first)?.is_disjoint(&self.written(second)?))
    }
}

/// The core instances that become one, in the order in which they are made; none where there is nothing to gain.
pub(super) fn choose(instances: &Instances<'_, '_>) -> Result<Vec<u32>> {
    let Some(owner) = memory_owner(instances)? else {
        return Ok(Vec::new());
    };
    let mut excluded = BTreeSet::new();
    loop {
        let members = candidates(instances, owner, &excluded)?;
        let joined = joined_to(instances, owner, &members)?;
        if members.len() < 2 {
            return Ok(Vec::new());
        }
        if joined.len() == members.len() {
            return Ok(members);
        }
        excluded.extend(members.into_iter().filter(|one| !joined.contains(one)));
    }
}

/// The first instance whose memory another one uses.
fn memory_owner(instances: &Instances<'_, '_>) -> Result<Option<u32>> {
    let mut owners = Vec::new();
    for (instance, _) in (0..).zip(&instances.sources) {
        let Some(module) = instances.module(instance) else {
            continue;
        };
        for (import, found) in module.imports.iter().zip(instances.imports(instance)?) {
            if let Found::Export { instance, name } = found
                && Kind::of_import(&import.ty)? == Kind::Memory
                && let Some(module) = instances.module(instance)
            {
                owners.push(
                    instances
                        .definer(instance, Kind::Memory, module.export(name)?.1)?
                        .0,
                );
            }
        }
    }
    Ok(owners.into_iter().min())
}

/// The owner of the memory, and what can be one with it of what follows.
fn candidates(
    instances: &Instances<'_, '_>,
    owner: u32,
    excluded: &BTreeSet<u32>,
) -> Result<Vec<u32>> {
    let end = first_foreign_code(instances)?;
    let mut members: Vec<u32> = Vec::new();
    let mut others: Vec<u32> = Vec::new();
    let mut code_ran = false;
    for (index, source) in (0..).zip(&instances.sources).skip(owner as usize) {
        let Source::Module { module, .. } = source else {
            continue;
        };
        let Some(parsed) = &instances.modules[*module as usize] else {
            others.push(index);
            continue;
        };
        // The sandbox's pool has room for one memory and one table in each instance.
        let has_own = parsed.memories.len() + parsed.tables.len() > 0;
        let fits = !excluded.contains(&index)
            && (index == owner || !has_own)
            && parsed.memories.len().max(parsed.tables.len()) < 2
            && instances.component.origin(Space::CoreInstance, index)? < end
            && is_used_once(instances, *module)?
            // A merged module fills all tables and memories before it runs any code.
            && !(code_ran && parsed.has_active_segments())
            && imports_fit(instances, index, owner, &members)?
            && all(&others, |other| instances.commute(*other, index))?;
        if !fits && index == owner {
            return Ok(Vec::new());
        }
        if fits {
            members.push(index);
            code_ran |= parsed.start.is_some();
        } else {
            others.push(index);
        }
    }
    Ok(members)
}

/// The first definition after a core instance that can run code which is not in a core instance.
fn first_foreign_code(instances: &Instances<'_, '_>) -> Result<usize> {
    let definitions = &instances.component.definitions;
    let Some(first) = definitions
        .iter()
        .position(|definition| matches!(definition.item, Item::CoreInstance(_)))
    else {
        return Ok(0);
    };
    let foreign = definitions[first..]
        .iter()
        .position(|definition| matches!(definition.item, Item::Instance(_) | Item::Start(_)));
    Ok(foreign.map_or(definitions.len(), |offset| first + offset))
}

/// Whether nothing but one instance is made of a module.
fn is_used_once(instances: &Instances<'_, '_>, module: u32) -> Result<bool> {
    let uses = instances
        .component
        .definitions
        .iter()
        .flat_map(|definition| definition.item.uses())
        .filter(|used| *used == (Space::CoreModule, module));
    Ok(uses.count() == 1)
}

fn imports_fit(
    instances: &Instances<'_, '_>,
    instance: u32,
    owner: u32,
    members: &[u32],
) -> Result<bool> {
    let module = instances
        .module(instance)
        .context("an instance has no module")?;
    let found = instances.imports(instance)?;
    let imports: Vec<_> = module.imports.iter().zip(found).collect();
    all(&imports, |(import, found)| match found {
        // What is made before the first member is still made before the merged instance.
        Found::Export { instance, .. } if *instance < owner => {
            Ok(Kind::of_import(&import.ty)? == Kind::Function)
        }
        Found::Export { instance, .. } => Ok(members.contains(instance)),
        Found::Canonical(function) => needs_no_instance(instances, *function),
    })
}

/// Whether a core function of the component exists before any core instance.
fn needs_no_instance(instances: &Instances<'_, '_>, function: u32) -> Result<bool> {
    let component = instances.component;
    let item = component.definition(Space::CoreFunction, function)?;
    all(&item.uses(), |(space, index)| {
        Ok(*space == Space::Function
            && match component.definition(*space, *index)? {
                Item::Section { .. } => true,
                Item::Alias(alias) => matches!(alias, ComponentAlias::InstanceExport { .. }),
                _ => false,
            })
    })
}

/// Those of the instances that are joined to the owner of the memory by what they import.
fn joined_to(instances: &Instances<'_, '_>, owner: u32, members: &[u32]) -> Result<BTreeSet<u32>> {
    let mut edges = Vec::new();
    for member in members {
        for found in instances.imports(*member)? {
            if let Found::Export { instance, .. } = found
                && members.contains(&instance)
            {
                edges.push((*member, instance));
            }
        }
    }
    let mut joined = BTreeSet::from([owner]);
    loop {
        let before = joined.len();
        for (one, other) in &edges {
            if joined.contains(one) || joined.contains(other) {
                joined.extend([*one, *other]);
            }
        }
        if joined.len() == before {
            return Ok(joined);
        }
    }
}

fn all<T>(items: &[T], mut check: impl FnMut(&T) -> Result<bool>) -> Result<bool> {
    for item in items {
        if !check(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}
