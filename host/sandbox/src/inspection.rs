//! What a component is, read from its bytes without compiling them: imports, exports, and the functions that can
//! be called as tools. It decides nothing about what the host offers.

mod signature;

use std::collections::BTreeMap;
use wasmparser::component_types::{ComponentEntityType, ComponentFuncTypeId};
use wasmparser::types::Types;
use wasmparser::{
    Chunk, ComponentTypeRef, Parser, Payload, TypeBounds, ValidPayload, Validator, WasmFeatures,
};

use crate::component::ComponentDigest;
use crate::function::{Function, RefusedFunction};
use crate::value::{SharedType, Type};

use self::signature::TypeReader;

/// Imports and exports at the root of a component, each. Real ones have some dozens; the bound protects whoever
/// prints or links them.
const ITEMS_MAX: usize = 1_000;
/// Functions of one component. Those beyond are refused unread: instances share their types, so that a small
/// component can name any number.
const FUNCTIONS_MAX: usize = 500;
/// Modules and components inside of a component. Each costs the validator a state of its own.
const PARTS_MAX: usize = 1_000;

/// What a component is, as its bytes say.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The digest of the bytes.
    pub digest: ComponentDigest,
    /// Their number.
    pub bytes: u64,
    /// The names of what it imports.
    pub imports: Vec<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
    /// The functions that can be called with JSON.
    pub functions: Vec<Function>,
    /// The functions that cannot, and why.
    pub refused: Vec<RefusedFunction>,
}

impl Inspection {
    /// Reads a component. The code of its functions is not looked at.
    ///
    /// # Errors
    /// What is malformed, or uses proposals that are switched off.
    pub(crate) fn read(wasm: &[u8]) -> wasmtime::Result<Self> {
        let (imports, exports) = names_of(wasm)?;
        let (functions, refused) = functions(&types_of(wasm)?, &exports);
        Ok(Inspection {
            digest: ComponentDigest::of(wasm),
            bytes: u64::try_from(wasm.len()).unwrap_or(u64::MAX),
            imports,
            exports,
            functions,
            refused,
        })
    }

    /// Whether it exports a version of an interface that fits: `troupe:agent/guest` and `0.1`, for example.
    pub(crate) fn exports_interface(&self, interface: &str, version: &str) -> bool {
        self.export_of(interface, version).is_some()
    }

    /// The full name under which it exports an interface.
    pub(crate) fn export_of(&self, interface: &str, version: &str) -> Option<&str> {
        let is_it = |name: &&String| {
            let version_of = name
                .strip_prefix(interface)
                .and_then(|rest| rest.strip_prefix('@'));
            version_of
                .and_then(|found| found.strip_prefix(version))
                .is_some_and(|rest| rest.starts_with('.'))
        };
        self.exports.iter().find(is_it).map(String::as_str)
    }
}

/// The names of imports and exports. What is nested is passed over unread.
fn names_of(wasm: &[u8]) -> wasmtime::Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let (mut parser, mut rest) = (Parser::new(0), wasm);
    loop {
        let chunk = parser.parse(rest, true).map_err(wasmtime::Error::new)?;
        let Chunk::Parsed { consumed, payload } = chunk else {
            return Err(cut_off());
        };
        rest = rest.get(consumed..).ok_or_else(cut_off)?;
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(wasmtime::Error::new)?;
                    // The name of a type, which nobody has to provide.
                    if matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        continue;
                    }
                    push(&mut imports, import.name.name, "imports")?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(wasmtime::Error::new)?;
                    push(&mut exports, export.name.name, "exports")?;
                }
            }
            Payload::ModuleSection {
                unchecked_range, ..
            }
            | Payload::ComponentSection {
                unchecked_range, ..
            } => rest = rest.get(unchecked_range.len()..).ok_or_else(cut_off)?,
            Payload::End(_) => return Ok((imports, exports)),
            _ => {}
        }
    }
}

/// The types of everything in a component, checked.
fn types_of(wasm: &[u8]) -> wasmtime::Result<Types> {
    let mut validator = Validator::new_with_features(features());
    let mut parts = 0_usize;
    let mut types = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(wasmtime::Error::new)?;
        if matches!(payload, Payload::Version { .. }) {
            parts += 1;
            if parts > PARTS_MAX {
                return Err(wasmtime::format_err!(
                    "it has more than {PARTS_MAX} modules and components in it"
                ));
            }
        }
        let checked = validator.payload(&payload).map_err(wasmtime::Error::new)?;
        if let ValidPayload::End(ended) = checked {
            types = Some(ended);
        }
    }
    types.ok_or_else(cut_off)
}

fn cut_off() -> wasmtime::Error {
    wasmtime::format_err!("it ends too early")
}

/// The function `describe`, as the interface `troupe:agent/description` has it.
pub(crate) fn describe_function(interface: &str) -> Function {
    let text = || SharedType::new(Type::String);
    let field = |name: &str| (name.to_owned(), text());
    let action = ["name", "description", "input-schema", "output-schema"].map(field);
    let mut described = ["name", "version", "description"].map(field).to_vec();
    let actions = Type::List(SharedType::new(Type::Record(action.into())));
    described.push(("actions".to_owned(), SharedType::new(actions)));
    Function {
        name: "describe".to_owned(),
        interface: Some(interface.to_owned()),
        export: "describe".to_owned(),
        parameters: Vec::new(),
        result: Some(SharedType::new(Type::Record(described))),
        described: None,
    }
}

/// The proposals that the engine has switched on; it checks them again when it compiles.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::COMPONENT_MODEL
}

fn push(names: &mut Vec<String>, name: &str, what: &str) -> wasmtime::Result<()> {
    if names.len() >= ITEMS_MAX {
        return Err(wasmtime::format_err!("it has more than {ITEMS_MAX} {what}"));
    }
    names.push(name.to_owned());
    Ok(())
}

/// A function as it is found: its interface, its own name, its type.
type Found<'a> = (Option<&'a str>, &'a str, ComponentFuncTypeId);

fn functions(types: &Types, exports: &[String]) -> (Vec<Function>, Vec<RefusedFunction>) {
    let all = exports.iter().flat_map(|export| found_in(types, export));
    let mut found: Vec<Found<'_>> = all.take(FUNCTIONS_MAX + 1).collect();
    let beyond = found
        .get(FUNCTIONS_MAX)
        .map(|(_, name, _)| RefusedFunction {
            name: (*name).to_owned(),
            reason: format!(
                "it and those after it are more than the {FUNCTIONS_MAX} that a component may have"
            ),
        });
    found.truncate(FUNCTIONS_MAX);
    let names = names(&found);
    let mut reader = TypeReader::new(types);
    let (mut functions, mut refused) = (Vec::new(), Vec::new());
    for ((interface, export, id), name) in found.into_iter().zip(names) {
        match reader.function(id) {
            Ok((parameters, result)) => functions.push(Function {
                name,
                interface: interface.map(str::to_owned),
                export: export.to_owned(),
                parameters,
                result,
                described: None,
            }),
            Err(reason) => refused.push(RefusedFunction { name, reason }),
        }
    }
    refused.extend(beyond);
    (functions, refused)
}

/// The functions of an export: itself, or those of an interface.
fn found_in<'a>(types: &'a Types, export: &'a str) -> Box<dyn Iterator<Item = Found<'a>> + 'a> {
    match types.component_item_for_export(export).map(|item| item.ty) {
        Some(ComponentEntityType::Func(id)) => Box::new(std::iter::once((None, export, id))),
        Some(ComponentEntityType::Instance(id)) if !is_known(export) => {
            let items = types[id].exports.iter();
            Box::new(items.filter_map(move |(name, item)| match item.ty {
                ComponentEntityType::Func(id) => Some((Some(export), name.as_str(), id)),
                _ => None,
            }))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// Whether an exported interface is called in a way of its own.
fn is_known(export: &str) -> bool {
    export.starts_with("troupe:agent/") || export.starts_with("wasi:cli/run@")
}

/// Names to call functions by: as short as is clear. `add`, else `calculator.add`, else
/// `their:calc/calculator@1.0.0.add`.
fn names(found: &[Found<'_>]) -> Vec<String> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let all = || {
        found
            .iter()
            .map(|(interface, name, _)| candidates(*interface, name))
    };
    for candidate in all().flatten() {
        *uses.entry(candidate).or_default() += 1;
    }
    let choose = |candidates: Vec<String>| {
        let last = candidates.last().cloned();
        let is_clear = |candidate: &String| uses.get(candidate).is_some_and(|count| *count == 1);
        candidates
            .into_iter()
            .find(is_clear)
            .or(last)
            .unwrap_or_default()
    };
    all().map(choose).collect()
}

fn candidates(interface: Option<&str>, name: &str) -> Vec<String> {
    let Some(interface) = interface else {
        return vec![name.to_owned()];
    };
    let local = interface
        .rsplit_once('/')
        .map_or(interface, |(_, local)| local);
    let local = local.split_once('@').map_or(local, |(local, _)| local);
    vec![
        name.to_owned(),
        format!("{local}.{name}"),
        format!("{interface}.{name}"),
    ]
}
