//! The instances that become one, with all that they import from each other resolved.
//!
//! Then it is known which functions can be reached, and which globals always have the same value: a mutable
//! one that nothing sets has it too.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use wasmparser::{ConstExpr, ElementItems, ElementKind, FuncType, Import, Operator, TypeRef};

use super::constant::Constant;
use super::group::{Found, Instances};
use super::module::{Kind, Module};

/// A function, table, memory or global of a merged module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// A function that the merged module imports, by its number among those.
    Outside(usize),
    /// Something that a member defines.
    Defined { member: usize, index: u32 },
}

/// Instances that become one.
pub(super) struct Linked<'m, 'a> {
    pub(super) members: Vec<Member<'m, 'a>>,
    /// The functions that they import from elsewhere.
    pub(super) imports: Vec<Imported<'a>>,
    /// What the merged module exports: each with the name that it has there.
    pub(super) exports: Vec<(Kind, Target, String)>,
    live: HashSet<(usize, u32)>,
    globals: HashMap<(usize, u32), GlobalUse>,
}

/// A function that a merged module imports.
pub(super) struct Imported<'a> {
    pub(super) found: Found<'a>,
    pub(super) name: String,
    pub(super) ty: FuncType,
}

/// One of the instances.
pub(super) struct Member<'m, 'a> {
    pub(super) instance: u32,
    pub(super) module: &'m Module<'a>,
    targets: [Vec<Target>; Kind::ALL.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct GlobalUse {
    read: bool,
    set: bool,
    exported: bool,
    constant: Option<Constant>,
}

/// What becomes of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GlobalFate {
    /// It stays.
    Kept,
    /// It stays for others; here its value is known.
    KeptConstant(Constant),
    /// Its value takes its place.
    Constant(Constant),
    /// Nothing uses it.
    Dropped,
}

impl Member<'_, '_> {
    /// What an index of the member's module stands for.
    pub(super) fn target(&self, kind: Kind, index: u32) -> Result<Target> {
        self.targets[kind as usize]
            .get(index as usize)
            .copied()
            .with_context(|| format!("a module has no {kind:?} {index}"))
    }
}

impl<'m, 'a> Linked<'m, 'a> {
    /// Resolves what the members import from each other.
    pub(super) fn new(instances: &'m Instances<'_, 'a>, members: &[u32]) -> Result<Self> {
        let mut linked = Linked {
            members: Vec::new(),
            imports: Vec::new(),
            exports: Vec::new(),
            live: HashSet::new(),
            globals: HashMap::new(),
        };
        for instance in members {
            linked.add_member(instances, *instance)?;
        }
        Ok(linked)
    }

    /// The number of a member among the members.
    pub(super) fn position(&self, instance: u32) -> Option<usize> {
        self.members
            .iter()
            .position(|member| member.instance == instance)
    }

    /// Makes something a member exports an export of the merged module, and gives its name there.
    pub(super) fn export(&mut self, instance: u32, name: &str) -> Result<String> {
        let member = self.position(instance).context("not a member")?;
        let (kind, index) = self.members[member].module.export(name)?;
        let target = self.members[member].target(kind, index)?;
        let known = |exported: &&(Kind, Target, String)| (exported.0, exported.1) == (kind, target);
        if let Some((_, _, name)) = self.exports.iter().find(known) {
            return Ok(name.clone());
        }
        let taken = |name: &str| self.exports.iter().any(|(_, _, taken)| taken == name);
        let name = unique(name, taken);
        self.exports.push((kind, target, name.clone()));
        Ok(name)
    }

    /// Finds what the exports and the segments reach, once all exports are known.
    pub(super) fn trace(&mut self) -> Result<()> {
        let mut reached = self.roots()?;
        while let Some(target) = reached.pop() {
            let Target::Defined { member, index } = target else {
                continue;
            };
            if !self.live.insert((member, index)) {
                continue;
            }
            let module = self.members[member].module;
            let mut reader = module.bodies[index as usize].get_operators_reader()?;
            while !reader.eof() {
                self.trace_operator(member, &reader.read()?, &mut reached)?;
            }
        }
        self.find_constants()
    }

    /// Whether anything can call a function.
    pub(super) fn is_live(&self, member: usize, index: u32) -> bool {
        self.live.contains(&(member, index))
    }

    /// What becomes of a global that a member defines.
    pub(super) fn fate(&self, member: usize, index: u32) -> GlobalFate {
        let found = self.globals.get(&(member, index)).copied();
        let used = found.unwrap_or_default();
        match used.constant {
            Some(constant) if used.exported => GlobalFate::KeptConstant(constant),
            Some(constant) => GlobalFate::Constant(constant),
            None if used.read || used.set || used.exported => GlobalFate::Kept,
            None => GlobalFate::Dropped,
        }
    }

    /// The value of an expression of a member, where it is known.
    pub(super) fn value(
        &self,
        member: usize,
        expression: &ConstExpr<'_>,
    ) -> Result<Option<Constant>> {
        Constant::of(expression, |index| {
            match self.members[member].target(Kind::Global, index) {
                Ok(Target::Defined { member, index }) => {
                    self.globals.get(&(member, index))?.constant
                }
                _ => None,
            }
        })
    }

    fn add_member(&mut self, instances: &'m Instances<'_, 'a>, instance: u32) -> Result<()> {
        let module = instances
            .module(instance)
            .context("an instance has no module")?;
        let mut targets: [Vec<Target>; Kind::ALL.len()] = Default::default();
        for (import, found) in module.imports.iter().zip(instances.imports(instance)?) {
            let kind = Kind::of_import(&import.ty)?;
            let exporter = match found {
                Found::Export { instance, name } => self.position(instance).zip(Some(name)),
                Found::Canonical(_) => None,
            };
            targets[kind as usize].push(match exporter {
                Some((exporter, name)) => {
                    let exporter = &self.members[exporter];
                    let (exported, index) = exporter.module.export(name)?;
                    ensure!(exported == kind, "{name:?} is not a {kind:?}");
                    exporter.target(kind, index)?
                }
                None => self.add_import(found, import, module)?,
            });
        }
        let member = self.members.len();
        let defined = [
            module.functions.len(),
            module.tables.len(),
            module.memories.len(),
            module.globals.len(),
        ];
        for (kind, count) in Kind::ALL.into_iter().zip(defined) {
            let own = (0..u32::try_from(count)?).map(|index| Target::Defined { member, index });
            targets[kind as usize].extend(own);
        }
        self.members.push(Member {
            instance,
            module,
            targets,
        });
        Ok(())
    }

    fn add_import(
        &mut self,
        found: Found<'a>,
        import: &Import<'_>,
        module: &Module<'_>,
    ) -> Result<Target> {
        let known = self.imports.iter().position(|known| known.found == found);
        if let Some(known) = known {
            return Ok(Target::Outside(known));
        }
        let TypeRef::Func(ty) = import.ty else {
            bail!("{:?} of {:?} is no function", import.name, import.module);
        };
        let ty = module
            .types
            .get(ty as usize)
            .context("an import has no type")?;
        let taken = |name: &str| self.imports.iter().any(|known| known.name == name);
        self.imports.push(Imported {
            found,
            name: unique(&format!("{}#{}", import.module, import.name), taken),
            ty: ty.clone(),
        });
        Ok(Target::Outside(self.imports.len() - 1))
    }

    fn roots(&mut self) -> Result<Vec<Target>> {
        let mut reached = Vec::new();
        for (kind, target, _) in &self.exports {
            match (kind, target) {
                (Kind::Function, target) => reached.push(*target),
                (Kind::Global, Target::Defined { member, index }) => {
                    self.globals.entry((*member, *index)).or_default().exported = true;
                }
                _ => {}
            }
        }
        for member in 0..self.members.len() {
            let module = self.members[member].module;
            if let Some(start) = module.start {
                reached.push(self.members[member].target(Kind::Function, start)?);
            }
            for global in &module.globals {
                self.trace_expression(member, &global.init_expr, &mut reached)?;
            }
            for table in &module.tables {
                if let wasmparser::TableInit::Expr(expression) = &table.init {
                    self.trace_expression(member, expression, &mut reached)?;
                }
            }
            for data in &module.data {
                if let wasmparser::DataKind::Active { offset_expr, .. } = &data.kind {
                    self.trace_expression(member, offset_expr, &mut reached)?;
                }
            }
            for element in &module.elements {
                if let ElementKind::Active { offset_expr, .. } = &element.kind {
                    self.trace_expression(member, offset_expr, &mut reached)?;
                }
                self.trace_elements(member, &element.items, &mut reached)?;
            }
        }
        Ok(reached)
    }

    fn trace_elements(
        &mut self,
        member: usize,
        items: &ElementItems<'_>,
        reached: &mut Vec<Target>,
    ) -> Result<()> {
        match items.clone() {
            ElementItems::Functions(functions) => {
                for function in functions {
                    reached.push(self.members[member].target(Kind::Function, function?)?);
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    self.trace_expression(member, &expression?, reached)?;
                }
            }
        }
        Ok(())
    }

    fn trace_expression(
        &mut self,
        member: usize,
        expression: &ConstExpr<'_>,
        reached: &mut Vec<Target>,
    ) -> Result<()> {
        let mut reader = expression.get_operators_reader();
        while !reader.is_end_then_eof() {
            self.trace_operator(member, &reader.read()?, reached)?;
        }
        Ok(())
    }

    fn trace_operator(
        &mut self,
        member: usize,
        operator: &Operator<'_>,
        reached: &mut Vec<Target>,
    ) -> Result<()> {
        match operator {
            Operator::Call { function_index }
            | Operator::ReturnCall { function_index }
            | Operator::RefFunc { function_index } => {
                reached.push(self.members[member].target(Kind::Function, *function_index)?);
            }
            Operator::GlobalGet { global_index } => self.global(member, *global_index)?.read = true,
            Operator::GlobalSet { global_index } => self.global(member, *global_index)?.set = true,
            _ => {}
        }
        Ok(())
    }

    fn global(&mut self, member: usize, index: u32) -> Result<&mut GlobalUse> {
        match self.members[member].target(Kind::Global, index)? {
            Target::Defined { member, index } => {
                Ok(self.globals.entry((member, index)).or_default())
            }
            Target::Outside(_) => bail!("a global is a function"),
        }
    }

    fn find_constants(&mut self) -> Result<()> {
        for member in 0..self.members.len() {
            let module = self.members[member].module;
            for (index, global) in (0..).zip(&module.globals) {
                let key = (member, index);
                let used = self.globals.get(&key).copied().unwrap_or_default();
                let is_fixed = !global.ty.mutable || !(used.set || used.exported);
                if !is_fixed || global.ty.shared {
                    continue;
                }
                let constant = self.value(member, &global.init_expr)?;
                self.globals.entry(key).or_default().constant = constant;
            }
        }
        Ok(())
    }
}

fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut number = 1;
    let mut candidate = name.to_owned();
    while taken(&candidate) {
        number += 1;
        candidate = format!("{name}#{number}");
    }
    candidate
}
