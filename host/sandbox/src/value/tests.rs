//! Every value comes back as it was, every text that a schema takes is taken, and what is wrong has a place.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use wasmtime::component::Val;

use super::write::TooLarge;
use super::{ReadError, SharedType, Type, parameters_schema, read_arguments, schema, write};

fn read(ty: &Type, value: &Value) -> Result<Val, ReadError> {
    let parameters = [("v".to_owned(), SharedType::new(ty.clone()))];
    let mut values = read_arguments(&parameters, &json!({ "v": value }))?;
    Ok(values.remove(0))
}

fn written(ty: &Type, value: &Val) -> Value {
    let text = write(ty, value, 1 << 20).expect("a small value");
    serde_json::from_str(&text).expect("JSON")
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("n-{number}")).collect()
}

fn types() -> impl Strategy<Value = Type> {
    let simple = prop::sample::select(vec![
        Type::Bool,
        Type::S8,
        Type::U8,
        Type::S16,
        Type::U16,
        Type::S32,
        Type::U32,
        Type::S64,
        Type::U64,
        Type::F32,
        Type::F64,
        Type::Char,
        Type::String,
        Type::Bytes,
        Type::Enum(names(3)),
        Type::Flags(names(4)),
    ]);
    simple.prop_recursive(4, 24, 4, |inner| {
        let arc = inner.prop_map(SharedType::new);
        let maybe = prop::option::of(arc.clone());
        prop_oneof![
            // `list<u8>` is `Bytes`.
            arc.clone()
                .prop_filter("bytes", |ty| **ty != Type::U8)
                .prop_map(Type::List),
            arc.clone().prop_map(Type::Option),
            vec(arc.clone(), 1..4).prop_map(Type::Tuple),
            vec(arc, 1..4).prop_map(|types| Type::Record(
                names(types.len()).into_iter().zip(types).collect()
            )),
            vec(maybe.clone(), 1..4).prop_map(|types| Type::Variant(
                names(types.len()).into_iter().zip(types).collect()
            )),
            (maybe.clone(), maybe).prop_map(|(ok, err)| Type::Result { ok, err }),
        ]
    })
}

fn boxed(ty: Option<&SharedType>) -> BoxedStrategy<Option<Box<Val>>> {
    match ty {
        Some(ty) => values(ty).prop_map(|value| Some(Box::new(value))).boxed(),
        None => Just(None).boxed(),
    }
}

/// Values of several types, one each.
fn each<'a>(types: impl Iterator<Item = &'a SharedType>) -> BoxedStrategy<Vec<Val>> {
    types.map(|ty| values(ty)).collect::<Vec<_>>().boxed()
}

fn values(ty: &Type) -> BoxedStrategy<Val> {
    match ty {
        Type::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        Type::S8 => any::<i8>().prop_map(Val::S8).boxed(),
        Type::U8 => any::<u8>().prop_map(Val::U8).boxed(),
        Type::S16 => any::<i16>().prop_map(Val::S16).boxed(),
        Type::U16 => any::<u16>().prop_map(Val::U16).boxed(),
        Type::S32 => any::<i32>().prop_map(Val::S32).boxed(),
        Type::U32 => any::<u32>().prop_map(Val::U32).boxed(),
        Type::S64 => any::<i64>().prop_map(Val::S64).boxed(),
        Type::U64 => any::<u64>().prop_map(Val::U64).boxed(),
        Type::F32 => prop::num::f32::ANY.prop_map(Val::Float32).boxed(),
        Type::F64 => prop::num::f64::ANY.prop_map(Val::Float64).boxed(),
        Type::Char => any::<char>().prop_map(Val::Char).boxed(),
        Type::String => any::<String>().prop_map(Val::String).boxed(),
        Type::Bytes => vec(any::<u8>().prop_map(Val::U8), 0..20)
            .prop_map(Val::List)
            .boxed(),
        Type::List(element) => vec(values(element), 0..4).prop_map(Val::List).boxed(),
        Type::Record(fields) => {
            let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
            each(fields.iter().map(|(_, ty)| ty))
                .prop_map(move |values| Val::Record(names.iter().cloned().zip(values).collect()))
                .boxed()
        }
        Type::Tuple(types) => each(types.iter()).prop_map(Val::Tuple).boxed(),
        Type::Variant(cases) => prop::sample::select(cases.clone())
            .prop_flat_map(|(name, ty)| {
                boxed(ty.as_ref()).prop_map(move |payload| Val::Variant(name.clone(), payload))
            })
            .boxed(),
        Type::Enum(names) => prop::sample::select(names.clone())
            .prop_map(Val::Enum)
            .boxed(),
        Type::Option(some) => prop_oneof![
            Just(Val::Option(None)),
            values(some).prop_map(|value| Val::Option(Some(Box::new(value))))
        ]
        .boxed(),
        Type::Result { ok, err } => prop_oneof![
            boxed(ok.as_ref()).prop_map(|value| Val::Result(Ok(value))),
            boxed(err.as_ref()).prop_map(|value| Val::Result(Err(value))),
        ]
        .boxed(),
        Type::Flags(names) => prop::sample::subsequence(names.clone(), 0..=names.len())
            .prop_map(Val::Flags)
            .boxed(),
    }
}

fn typed_values() -> impl Strategy<Value = (Type, Val)> {
    types().prop_flat_map(|ty| values(&ty).prop_map(move |value| (ty.clone(), value)))
}

fn json_values() -> impl Strategy<Value = Value> {
    let simple = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        "n-[0-4]|ok|some|NaN|[0-9]{1,21}".prop_map(Value::from),
    ];
    simple.prop_recursive(4, 32, 4, |inner| {
        let name = "n-[0-4]|ok|err|some|text|[a-z/~]{1,3}";
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name, inner), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_as_the_same_and_fits_the_schema((ty, value) in typed_values()) {
        let json = written(&ty, &value);
        let validator = jsonschema::draft202012::new(&schema(&ty)).expect("a schema");
        prop_assert!(validator.is_valid(&json), "{json} does not fit {}", schema(&ty));
        let again = read(&ty, &json).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(again, value);
    }

    #[test]
    fn any_json_is_a_value_or_wrong_at_a_place(ty in types(), json in json_values()) {
        let validator = jsonschema::draft202012::new(&schema(&ty)).expect("a schema");
        let arguments = json!({ "v": json });
        match read(&ty, &json) {
            Ok(value) => prop_assert!(
                validator.is_valid(&written(&ty, &value)),
                "{json} as {ty:?} became {value:?}"
            ),
            Err(error) => prop_assert!(
                arguments.pointer(&error.pointer).is_some(),
                "{error}: there is no such place in {arguments}"
            ),
        }
    }

    #[test]
    fn nothing_larger_than_allowed_is_written((ty, value) in typed_values(), bytes_max in 0_u64..40) {
        let whole = write(&ty, &value, u64::MAX).expect("no limit");
        let is_small = u64::try_from(whole.len()).expect("a length") <= bytes_max;
        prop_assert_eq!(write(&ty, &value, bytes_max), if is_small { Ok(whole) } else { Err(TooLarge) });
    }
}

fn check(ty: &Type, value: &Val, expected: &Value) {
    assert_eq!(&written(ty, value), expected, "{ty:?}");
    let again = read(ty, expected).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(&again, value);
}

#[test]
fn each_type_has_its_json() {
    let option = |ty| Type::Option(SharedType::new(ty));
    let some = |value| Val::Option(Some(Box::new(value)));
    check(
        &Type::U64,
        &Val::U64(u64::MAX),
        &json!("18446744073709551615"),
    );
    check(
        &Type::U64,
        &Val::U64((1 << 53) - 1),
        &json!(9_007_199_254_740_991_u64),
    );
    check(
        &Type::S64,
        &Val::S64(i64::MIN),
        &json!("-9223372036854775808"),
    );
    check(&Type::F64, &Val::Float64(f64::NAN), &json!("NaN"));
    check(
        &Type::F32,
        &Val::Float32(f32::NEG_INFINITY),
        &json!("-Infinity"),
    );
    check(&Type::F32, &Val::Float32(0.1), &json!(0.1));
    check(&Type::Char, &Val::Char('\u{10ffff}'), &json!("\u{10ffff}"));
    check(&option(Type::U8), &Val::Option(None), &json!(null));
    check(&option(Type::U8), &some(Val::U8(1)), &json!(1));
    let nested = option(option(Type::U8));
    check(&nested, &Val::Option(None), &json!(null));
    check(&nested, &some(Val::Option(None)), &json!({ "some": null }));
    check(&nested, &some(some(Val::U8(1))), &json!({ "some": 1 }));
    let result = Type::Result {
        ok: None,
        err: Some(SharedType::new(Type::String)),
    };
    check(&result, &Val::Result(Ok(None)), &json!({ "ok": null }));
    let error = Val::Result(Err(Some(Box::new(Val::String("no".to_owned())))));
    check(&result, &error, &json!({ "err": "no" }));
    let variant = Type::Variant(vec![
        ("a".to_owned(), None),
        ("b".to_owned(), Some(SharedType::new(Type::U8))),
    ]);
    check(&variant, &Val::Variant("a".to_owned(), None), &json!("a"));
    let with = Val::Variant("b".to_owned(), Some(Box::new(Val::U8(2))));
    check(&variant, &with, &json!({ "b": 2 }));
    check(
        &Type::Flags(names(3)),
        &Val::Flags(vec!["n-2".to_owned()]),
        &json!(["n-2"]),
    );
    let bytes = Val::List(b"hi".iter().copied().map(Val::U8).collect());
    check(&Type::Bytes, &bytes, &json!("aGk="));
    assert_eq!(read(&Type::Bytes, &json!({ "text": "hi" })), Ok(bytes));
    assert_eq!(read(&Type::U8, &json!(3.0)), Ok(Val::U8(3)));
}

fn wrong(ty: &Type, value: &Value) -> String {
    read(ty, value).expect_err("it is wrong").to_string()
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let person = Type::Record(vec![
        ("name".to_owned(), SharedType::new(Type::String)),
        (
            "age".to_owned(),
            SharedType::new(Type::Option(SharedType::new(Type::U8))),
        ),
    ]);
    let people = Type::List(SharedType::new(person));
    let said = |value| wrong(&people, &value);
    assert_eq!(
        said(json!([{ "name": "a" }, { "name": "b", "age": 256 }])),
        "/v/1/age: expected a whole number from 0 to 255, found 256"
    );
    assert_eq!(
        said(json!([{ "age": null }])),
        "/v/0: expected the field `name`, a string, found an object without it"
    );
    assert_eq!(
        said(json!([{ "name": "a", "a/b~": 1 }])),
        "/v/0/a~1b~0: expected no field of this name, only fields `name`, `age`, found 1"
    );
    assert_eq!(said(json!({})), "/v: expected a list, found an object");
    assert_eq!(
        wrong(&Type::U8, &json!("7")),
        "/v: expected a whole number from 0 to 255, found the text \"7\""
    );
    assert_eq!(
        wrong(&Type::U8, &json!(1.5)),
        "/v: expected a whole number from 0 to 255, found 1.5"
    );
    assert_eq!(
        wrong(&Type::Char, &json!("ab")),
        "/v: expected a string of exactly one character, found the text \"ab\""
    );
    assert_eq!(
        wrong(&Type::Flags(names(2)), &json!(["n-0", "n-0"])),
        "/v/1: expected each name once, found the text \"n-0\""
    );
    assert!(wrong(&Type::Bytes, &json!("a")).contains("base64"));
    let error = read_arguments(&[], &json!([])).expect_err("no object");
    assert_eq!(
        error.to_string(),
        "the arguments: expected an object without arguments, found a list of 0 values"
    );
}

#[test]
fn a_short_text_does_not_make_a_large_value() {
    let field = |number| {
        (
            format!("f-{number}"),
            SharedType::new(Type::Option(SharedType::new(Type::U8))),
        )
    };
    let wide = Type::Record((0..1_000).map(field).collect());
    let rows = Value::Array(vec![json!({}); 2_000]);
    let error = wrong(&Type::List(SharedType::new(wide)), &rows);
    assert!(
        error.ends_with("expected at most 1000000 values in all, found more"),
        "{error}"
    );
}

#[test]
fn absent_options_are_none_and_others_are_required() {
    let parameters = [
        (
            "a".to_owned(),
            SharedType::new(Type::Option(SharedType::new(Type::U8))),
        ),
        ("b".to_owned(), SharedType::new(Type::U8)),
    ];
    let values = read_arguments(&parameters, &json!({ "b": 1 })).expect("values");
    assert_eq!(values, [Val::Option(None), Val::U8(1)]);
    assert_eq!(parameters_schema(&parameters)["required"], json!(["b"]));
}
