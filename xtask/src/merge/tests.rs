//! Small components in the form that linkers give them.

use wasmparser::{ElementKind, Operator};

use super::component::{Component, Item};
use super::constant::Constant;
use super::module::Module;
use super::{Merged, merge};

/// The owner of the memory and the table, and a library that is placed into both.
const LIBRARY: &str = r#"
    (core module $owner
        (memory (export "memory") 1)
        (table (export "table") 8 funcref)
        (global (export "base") i32 (i32.const 3))
        (global (export "address") (mut i32) (i32.const 40))
        (global $pointer (export "pointer") (mut i32) (i32.const 9))
        (func (export "unused") (global.set $pointer (i32.const 1)) unreachable)
        (data (i32.const 0) "owner"))
    (core module $library
        (import "env" "memory" (memory 1))
        (import "env" "table" (table 4 funcref))
        (import "env" "base" (global $base i32))
        (import "env" "address" (global $address (mut i32)))
        (import "env" "pointer" (global $pointer (mut i32)))
        (func $named (export "run") (result i32)
            (global.set $pointer (i32.const 5))
            (i32.add (global.get $address) (global.get $pointer)))
        (elem (global.get $base) func $named))
    (core instance $o (instantiate $owner))
    (core instance $l (instantiate $library (with "env" (instance $o))))
"#;

const LIFTED: &str = r#"
    (func (export "run") (result u32) (canon lift (core func $l "run")))
"#;

fn component(parts: &[&str]) -> Vec<u8> {
    let text = format!("(component {})", parts.concat());
    wat::parse_str(text).expect("the test's component is valid text")
}

fn merged(parts: &[&str]) -> Vec<u8> {
    match merge(&component(parts)).unwrap() {
        Merged::Component(component) => component,
        Merged::Unchanged => panic!("nothing was merged"),
    }
}

/// Calls `check` with the core modules of a component.
fn with_modules(component: &[u8], check: impl FnOnce(&[Module<'_>])) {
    let component = Component::parse(component).unwrap();
    let modules = component.definitions.iter().filter_map(|definition| {
        let Item::Module(bytes) = definition.item else {
            return None;
        };
        Some(Module::parse(bytes).unwrap())
    });
    check(&modules.collect::<Vec<_>>());
}

fn operators(module: &Module<'_>, function: usize) -> Vec<String> {
    let reader = module.bodies[function].get_operators_reader().unwrap();
    reader
        .into_iter()
        .map(|operator| match operator.unwrap() {
            Operator::Call { function_index } => format!("call {function_index}"),
            Operator::I32Const { value } => format!("const {value}"),
            Operator::GlobalGet { global_index } => format!("get {global_index}"),
            Operator::GlobalSet { global_index } => format!("set {global_index}"),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_library_and_the_owner_of_its_memory_become_one_module() {
    with_modules(&merged(&[LIBRARY, LIFTED]), |modules| {
        let [module] = modules else {
            panic!("{} modules are left", modules.len());
        };
        assert!(module.imports.is_empty());
        assert_eq!((module.memories.len(), module.tables.len()), (1, 1));
        let exports: Vec<_> = module.exports.keys().collect();
        assert_eq!(exports, [&"run"]);
    });
}

#[test]
fn a_table_is_filled_at_offsets_that_are_known() {
    with_modules(&merged(&[LIBRARY, LIFTED]), |modules| {
        let [element] = &modules[0].elements[..] else {
            panic!("there is more than one segment");
        };
        let ElementKind::Active { offset_expr, .. } = &element.kind else {
            panic!("the segment is not active");
        };
        let offset = Constant::of(offset_expr, |_| None).unwrap();
        assert_eq!(offset, Some(Constant::I32(3)));
    });
}

#[test]
fn globals_that_nothing_sets_become_numbers_and_others_stay() {
    with_modules(&merged(&[LIBRARY, LIFTED]), |modules| {
        assert_eq!(
            operators(&modules[0], 0),
            ["const 5", "set 0", "const 40", "get 0", "I32Add", "End"]
        );
        assert_eq!(modules[0].globals.len(), 1);
    });
}

#[test]
fn functions_that_nothing_reaches_are_left_out_and_others_keep_their_names() {
    with_modules(&merged(&[LIBRARY, LIFTED]), |modules| {
        assert_eq!(modules[0].functions.len(), 1);
        assert_eq!(modules[0].function_names, [(0, "named")]);
        assert_eq!(modules[0].name, Some("merged"));
    });
}

#[test]
fn a_component_whose_modules_share_no_memory_stays() {
    let alone = r#"
        (core module $a (memory (export "memory") 1) (func (export "f")))
        (core module $b (import "a" "f" (func)))
        (core instance $x (instantiate $a))
        (core instance (instantiate $b (with "a" (instance $x))))
    "#;
    assert_eq!(merge(&component(&[alone])).unwrap(), Merged::Unchanged);
}

#[test]
fn a_module_that_is_instantiated_twice_stays_outside() {
    let twice = r#"
        (core instance (instantiate $library (with "env" (instance $o))))
    "#;
    let merged = merge(&component(&[LIBRARY, twice, LIFTED])).unwrap();
    assert_eq!(merged, Merged::Unchanged);
}

#[test]
fn a_module_with_a_table_of_its_own_stays_outside() {
    let other = r#"
        (core module $other
            (import "env" "memory" (memory 1))
            (table 1 funcref)
            (func (export "f")))
        (core instance (instantiate $other (with "env" (instance $o))))
    "#;
    with_modules(&merged(&[LIBRARY, other, LIFTED]), |modules| {
        let tables: Vec<_> = modules.iter().map(|module| module.tables.len()).collect();
        assert_eq!(tables, [1, 1]);
    });
}

/// A library that calls the host, which needs the memory: through a table that is filled once both are there.
const INDIRECT: &str = r#"
    (import "write" (func $write (param "text" string)))
    (core module $shim
        (type $write (func (param i32 i32)))
        (table (export "$imports") 1 1 funcref)
        (func (export "0") (param i32 i32)
            (call_indirect (type $write) (local.get 0) (local.get 1) (i32.const 0))))
    (core module $owner
        (memory (export "memory") 1)
        (table (export "table") 8 funcref)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
    (core module $library
        (import "env" "memory" (memory 1))
        (import "host" "write" (func $write (param i32 i32)))
        (import "host" "drop" (func $drop (param i32)))
        (func (export "run") (call $write (i32.const 1) (i32.const 2)) (call $drop (i32.const 3))))
    (core module $fixup
        (import "" "$imports" (table 1 1 funcref))
        (import "" "0" (func $write (param i32 i32)))
        (elem (i32.const 0) func $write))
    (core module $last
        (import "env" "table" (table 4 funcref))
        (import "library" "run" (func $run))
        (elem (i32.const 2) func $run))
    (core instance $s (instantiate $shim))
    (core instance $o (instantiate $owner))
    (core func $lowered (canon lower (func $write)
        (memory (core memory $o "memory")) (realloc (core func $o "realloc"))))
    (core instance $f (instantiate $fixup (with "" (instance
        (export "$imports" (table $s "$imports"))
        (export "0" (func $lowered))))))
    (type $thing (resource (rep i32)))
    (core func $drop (canon resource.drop $thing))
    (core instance $l (instantiate $library
        (with "env" (instance $o))
        (with "host" (instance (export "write" (func $s "0")) (export "drop" (func $drop))))))
    (core instance (instantiate $last (with "env" (instance $o)) (with "library" (instance $l))))
    (func (export "run") (canon lift (core func $l "run")))
"#;

#[test]
fn what_needs_the_memory_follows_the_merged_instance() {
    with_modules(&merged(&[INDIRECT]), |modules| {
        let exports: Vec<usize> = modules.iter().map(|module| module.exports.len()).collect();
        // The shim, the module that fills its table, and the merged one: its memory, `realloc` and `run`.
        assert_eq!(exports, [2, 0, 3]);
        let imports: Vec<&str> = modules[2]
            .imports
            .iter()
            .map(|import| import.name)
            .collect();
        assert_eq!(imports, ["host#write", "host#drop"]);
        assert_eq!(
            operators(&modules[2], 1),
            ["const 1", "const 2", "call 0", "const 3", "call 1", "End"]
        );
        assert_eq!(modules[2].elements.len(), 1);
    });
}

#[test]
fn a_module_whose_table_is_filled_between_stays_outside_where_the_order_shows() {
    let table_of_owner = INDIRECT
        .replace(r#"(table $s "$imports")"#, r#"(table $o "table")"#)
        .replace(
            "(table 1 1 funcref))\n        (import \"\" \"0\"",
            "(table 1 funcref))\n        (import \"\" \"0\"",
        );
    with_modules(&merged(&[&table_of_owner]), |modules| {
        let elements: Vec<usize> = modules.iter().map(|module| module.elements.len()).collect();
        assert_eq!(elements, [0, 1, 1, 0]);
    });
}

#[test]
fn start_functions_run_in_their_order() {
    let starts = r#"
        (core module $one (import "env" "memory" (memory 1)) (func (i32.store (i32.const 0) (i32.const 1))) (start 0))
        (core module $two (import "env" "memory" (memory 1)) (func (i32.store (i32.const 0) (i32.const 2))) (start 0))
        (core instance (instantiate $one (with "env" (instance $o))))
        (core instance (instantiate $two (with "env" (instance $o))))
    "#;
    with_modules(&merged(&[LIBRARY, starts, LIFTED]), |modules| {
        let [module] = modules else {
            panic!("{} modules are left", modules.len());
        };
        let start = module.start.expect("there is a start function") as usize;
        assert_eq!(operators(module, start), ["call 1", "call 2", "End"]);
        assert_eq!(operators(module, 1)[1], "const 1");
        assert_eq!(operators(module, 2)[1], "const 2");
    });
}

#[test]
fn a_module_that_fills_a_memory_after_code_has_run_stays_outside() {
    let late = r#"
        (core module $code (import "env" "memory" (memory 1)) (func nop) (start 0))
        (core module $late (import "env" "memory" (memory 1)) (data (i32.const 7) "late"))
        (core instance (instantiate $code (with "env" (instance $o))))
        (core instance (instantiate $late (with "env" (instance $o))))
    "#;
    with_modules(&merged(&[LIBRARY, late, LIFTED]), |modules| {
        let data: Vec<usize> = modules.iter().map(|module| module.data.len()).collect();
        assert_eq!(data, [1, 1]);
    });
}

#[test]
fn components_inside_are_merged_too() {
    let inside = format!("(component {LIBRARY} {LIFTED})");
    let component = merged(&["(component)", &inside]);
    let outer = Component::parse(&component).unwrap();
    let mut inner = outer.definitions.iter().filter_map(|definition| {
        let Item::Component(bytes) = definition.item else {
            return None;
        };
        Some(bytes)
    });
    with_modules(inner.nth(1).unwrap(), |modules| {
        assert_eq!(modules.len(), 1);
    });
}

#[track_caller]
fn refused(parts: &[&str], reason: &str) {
    let error = merge(&component(parts)).unwrap_err();
    assert_eq!(format!("{error:#}"), reason);
}

#[test]
fn what_is_not_known_is_refused() {
    refused(
        &[
            LIBRARY,
            r#"(type (resource (rep i32) (dtor (core func $l "run"))))"#,
        ],
        "the component defines a resource with a destructor",
    );
    refused(
        &[LIBRARY, "(component (alias outer 1 $owner (core module)))"],
        "a component takes a module of the component around it",
    );
    refused(
        &[r#"(core module (type (struct)))"#],
        "core module 0: a module has a type that is not a plain function type",
    );
}
