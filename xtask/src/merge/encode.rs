//! Writes instances that have been linked as one core module.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder, utils};
use wasm_encoder::{
    CodeSection, DataCountSection, DataSection, ElementSection, Elements, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, ImportSection, Instruction,
    MemorySection, NameMap, NameSection, StartSection, TableSection, TypeSection,
};
use wasmparser::FuncType;

use super::linked::{GlobalFate, Linked, Target};
use super::module::Kind;
use super::places::Places;
use super::translate::Translator;

/// The name of the module that its functions import from.
pub(super) const IMPORTS: &str = "imports";

/// The name of the merged module in backtraces.
const NAME: &str = "merged";

/// Writes the merged module.
pub(super) fn module(linked: &Linked<'_, '_>) -> Result<Vec<u8>> {
    let mut places = Places::new(linked)?;
    let mut parts = Parts::default();
    for imported in &linked.imports {
        let ty = EntityType::Function(places.type_index(&imported.ty)?);
        parts.imports.import(IMPORTS, &imported.name, ty);
    }
    let mut segments = (0, 0);
    for member in 0..linked.members.len() {
        let mut translator = Translator::new(linked, &places, member, segments)?;
        parts
            .add_member(linked, &places, &mut translator, member)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("core instance {}", linked.members[member].instance))?;
        let module = linked.members[member].module;
        segments.0 += u32::try_from(module.elements.len())?;
        segments.1 += u32::try_from(module.data.len())?;
    }
    parts.export(linked, &places)?;
    parts.finish(&mut places)
}

/// The sections of the merged module.
#[derive(Default)]
struct Parts {
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    exports: ExportSection,
    starts: Vec<u32>,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
    data_count: u32,
    has_data_count: bool,
    referenced: BTreeSet<u32>,
    names: NameMap,
}

impl Parts {
    fn add_member(
        &mut self,
        linked: &Linked<'_, '_>,
        places: &Places,
        translator: &mut Translator<'_, '_, '_>,
        member: usize,
    ) -> Result<(), Error<anyhow::Error>> {
        let module = linked.members[member].module;
        for table in &module.tables {
            translator.parse_table(&mut self.tables, table.clone())?;
        }
        for memory in &module.memories {
            self.memories.memory(translator.memory_type(*memory)?);
        }
        for (index, global) in (0..).zip(&module.globals) {
            if let GlobalFate::Kept | GlobalFate::KeptConstant(_) = linked.fate(member, index) {
                translator.parse_global(&mut self.globals, global.clone())?;
            }
        }
        for element in &module.elements {
            translator.parse_element(&mut self.elements, element.clone())?;
        }
        for data in &module.data {
            translator.parse_data(&mut self.data, data.clone())?;
            self.data_count += 1;
        }
        self.has_data_count |= module.has_data_count;
        if let Some(start) = module.start {
            self.starts.push(translator.function_index(start)?);
        }
        let functions = module.functions.iter().zip(&module.bodies);
        for (index, (ty, body)) in (0..).zip(functions) {
            if linked.is_live(member, index) {
                self.functions.function(translator.type_index(*ty)?);
                translator.parse_function_body(&mut self.code, body.clone())?;
            }
        }
        self.referenced.append(&mut translator.referenced);
        let imported = module.imported(Kind::Function).map_err(Error::UserError)?;
        let mut names = module.function_names.clone();
        names.sort_unstable_by_key(|(index, _)| *index);
        for (index, name) in names {
            let Some(index) = index.checked_sub(imported) else {
                continue;
            };
            if let Some(place) = places.functions.get(&Target::Defined { member, index }) {
                self.names.append(*place, name);
            }
        }
        Ok(())
    }

    fn export(&mut self, linked: &Linked<'_, '_>, places: &Places) -> Result<()> {
        for (kind, target, name) in &linked.exports {
            let (kind, place) = match kind {
                Kind::Function => (ExportKind::Func, places.functions.get(target)),
                Kind::Table => (ExportKind::Table, places.tables.get(target)),
                Kind::Memory => (ExportKind::Memory, places.memories.get(target)),
                Kind::Global => (ExportKind::Global, places.globals.get(target)),
            };
            let place = place.with_context(|| format!("nothing to export as {name:?}"))?;
            self.exports.export(name, kind, *place);
        }
        Ok(())
    }

    fn start(&mut self, places: &mut Places) -> Result<Option<u32>> {
        if self.starts.len() < 2 {
            return Ok(self.starts.first().copied());
        }
        let ty = FuncType::new([], []);
        places.add_type(&ty);
        self.functions.function(places.type_index(&ty)?);
        let mut function = Function::new([]);
        for start in &self.starts {
            function.instruction(&Instruction::Call(*start));
        }
        function.instruction(&Instruction::End);
        self.code.function(&function);
        Ok(Some(u32::try_from(places.functions.len())?))
    }

    fn finish(mut self, places: &mut Places) -> Result<Vec<u8>> {
        let start = self.start(places)?;
        let mut types = TypeSection::new();
        for ty in &places.types {
            let ty = utils::func_type(&mut RoundtripReencoder, ty.clone())
                .map_err(|error| anyhow!("{error}"))?;
            types.ty().func_type(&ty);
        }
        if !self.referenced.is_empty() {
            let referenced: Vec<u32> = self.referenced.iter().copied().collect();
            self.elements
                .declared(Elements::Functions(referenced.into()));
        }
        let mut module = wasm_encoder::Module::new();
        module
            .section(&types)
            .section(&self.imports)
            .section(&self.functions)
            .section(&self.tables)
            .section(&self.memories)
            .section(&self.globals)
            .section(&self.exports);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        module.section(&self.elements);
        if self.has_data_count {
            module.section(&DataCountSection {
                count: self.data_count,
            });
        }
        module.section(&self.code).section(&self.data);
        let mut names = NameSection::new();
        names.module(NAME);
        names.functions(&self.names);
        module.section(&names);
        Ok(module.finish())
    }
}
