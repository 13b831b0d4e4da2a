//! What has to stay of a component once some of its core instances are one.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, Result, bail};
use wasmparser::{ComponentAlias, Instance};

use super::component::{Item, Space};
use super::group::{Found, Instances, Source};

/// The definitions that anything outside of the merged module needs.
pub(super) fn live_definitions(
    instances: &Instances<'_, '_>,
    members: &[u32],
) -> Result<HashSet<usize>> {
    let component = instances.component;
    let mut needed = Vec::new();
    for (place, definition) in component.definitions.iter().enumerate() {
        let on_demand = match &definition.item {
            Item::Alias(ComponentAlias::CoreInstanceExport { .. })
            | Item::CoreInstance(Instance::FromExports(_)) => true,
            Item::CoreInstance(Instance::Instantiate { .. }) | Item::Module(_) => {
                belongs_to(instances, members, place)?
            }
            _ => false,
        };
        if !on_demand {
            needed.push(place);
        }
    }
    for member in members {
        for found in instances.imports(*member)? {
            if let Found::Export { instance, .. } = found {
                needed.push(component.origin(Space::CoreInstance, instance)?);
            }
        }
    }
    let mut live = HashSet::new();
    while let Some(place) = needed.pop() {
        if belongs_to(instances, members, place)? || !live.insert(place) {
            continue;
        }
        for (space, index) in component.definitions[place].item.uses() {
            needed.push(component.origin(space, index)?);
        }
    }
    Ok(live)
}

/// Whether a definition is a member or its module.
fn belongs_to(instances: &Instances<'_, '_>, members: &[u32], place: usize) -> Result<bool> {
    for member in members {
        let Source::Module { module, .. } = &instances.sources[*member as usize] else {
            bail!("a member is made of no module");
        };
        if instances.component.origin(Space::CoreInstance, *member)? == place
            || instances.component.origin(Space::CoreModule, *module)? == place
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The exports of members that the live definitions name.
pub(super) fn requests<'a>(
    instances: &Instances<'_, 'a>,
    members: &[u32],
    live: &HashSet<usize>,
) -> Result<BTreeSet<(u32, &'a str)>> {
    let mut requests = BTreeSet::new();
    for place in live {
        match &instances.component.definitions[*place].item {
            Item::Alias(ComponentAlias::CoreInstanceExport {
                instance_index,
                name,
                ..
            }) if members.contains(instance_index) => {
                requests.insert((*instance_index, *name));
            }
            Item::CoreInstance(Instance::Instantiate { module_index, args }) => {
                for arg in args.iter().filter(|arg| members.contains(&arg.index)) {
                    let module = instances.modules[*module_index as usize].as_ref();
                    let module = module.context("a module from outside takes a whole instance")?;
                    let imports = module.imports.iter();
                    let names = imports.filter(|import| import.module == arg.name);
                    requests.extend(names.map(|import| (arg.index, import.name)));
                }
            }
            _ => {}
        }
    }
    Ok(requests)
}
