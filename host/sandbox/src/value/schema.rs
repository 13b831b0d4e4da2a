//! JSON schemas (2020-12) of types: what `read` takes, and what `write` gives.

use serde_json::{Map, Value, json};

use super::{SharedType, Type};

/// The schema of a function's arguments: an object with one property for each parameter.
pub(crate) fn parameters_schema(parameters: &[(String, SharedType)]) -> Value {
    object(parameters)
}

/// The schema of a type's values.
pub(crate) fn schema(ty: &Type) -> Value {
    match ty {
        Type::Bool => json!({ "type": "boolean" }),
        Type::S8 => integer(i8::MIN.into(), i8::MAX.into()),
        Type::U8 => integer(u8::MIN.into(), u8::MAX.into()),
        Type::S16 => integer(i16::MIN.into(), i16::MAX.into()),
        Type::U16 => integer(u16::MIN.into(), u16::MAX.into()),
        Type::S32 => integer(i32::MIN.into(), i32::MAX.into()),
        Type::U32 => integer(u32::MIN.into(), u32::MAX.into()),
        Type::S64 => json!({
            "type": ["integer", "string"], "minimum": i64::MIN, "maximum": i64::MAX,
            "pattern": "^-?[0-9]{1,19}$", "description": "A whole number; beyond 2^53 as a string of digits.",
        }),
        Type::U64 => json!({
            "type": ["integer", "string"], "minimum": 0, "maximum": u64::MAX,
            "pattern": "^[0-9]{1,20}$", "description": "A whole number; beyond 2^53 as a string of digits.",
        }),
        Type::F32 | Type::F64 => json!({
            "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }]
        }),
        Type::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        Type::String => json!({ "type": "string" }),
        Type::Bytes => json!({
            "anyOf": [
                { "type": "string", "contentEncoding": "base64", "description": "Bytes, as base64." },
                {
                    "type": "object", "description": "The bytes of a text in UTF-8.",
                    "properties": { "text": { "type": "string" } }, "required": ["text"], "additionalProperties": false,
                },
            ]
        }),
        Type::List(element) => json!({ "type": "array", "items": schema(element) }),
        Type::Record(fields) => object(fields),
        Type::Tuple(types) => json!({
            "type": "array",
            "prefixItems": types.iter().map(|ty| schema(ty)).collect::<Vec<_>>(),
            "items": false, "minItems": types.len(), "maxItems": types.len(),
        }),
        Type::Variant(cases) => variant(cases),
        Type::Enum(names) => json!({ "type": "string", "enum": names }),
        Type::Option(some) => {
            let some = if some.is_nullable() {
                tagged("some", schema(some))
            } else {
                schema(some)
            };
            json!({ "anyOf": [some, { "type": "null" }] })
        }
        Type::Result { ok, err } => json!({
            "anyOf": [tagged("ok", payload(ok.as_deref())), tagged("err", payload(err.as_deref()))]
        }),
        Type::Flags(names) => json!({
            "type": "array", "items": { "type": "string", "enum": names }, "uniqueItems": true,
        }),
    }
}

fn integer(minimum: i64, maximum: i64) -> Value {
    json!({ "type": "integer", "minimum": minimum, "maximum": maximum })
}

fn payload(ty: Option<&Type>) -> Value {
    ty.map_or_else(|| json!({ "type": "null" }), schema)
}

/// An object with one property and no other.
fn tagged(name: &str, value: Value) -> Value {
    let properties = Map::from_iter([(name.to_owned(), value)]);
    json!({ "type": "object", "properties": properties, "required": [name], "additionalProperties": false })
}

fn object(fields: &[(String, SharedType)]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|(name, ty)| (name.clone(), schema(ty)))
        .collect();
    let required: Vec<&String> = fields
        .iter()
        .filter(|(_, ty)| !ty.is_nullable())
        .map(|(name, _)| name)
        .collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn variant(cases: &[(String, Option<SharedType>)]) -> Value {
    let bare: Vec<&String> = cases
        .iter()
        .filter(|(_, ty)| ty.is_none())
        .map(|(name, _)| name)
        .collect();
    let mut any = Vec::new();
    if !bare.is_empty() {
        any.push(json!({ "type": "string", "enum": bare }));
    }
    for (name, ty) in cases {
        if let Some(ty) = ty {
            any.push(tagged(name, schema(ty)));
        }
    }
    json!({ "anyOf": any })
}
