//! Reads JSON as values of given types. What is wrong is said with its place and what was expected there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use wasmtime::component::Val;

use super::{SharedType, Type};

/// Values that one call's arguments may be made of; absent fields count. Each takes some 32 bytes of the host's
/// memory, and a short text can name many that are absent.
const VALUES_MAX: usize = 1_000_000;

/// JSON that is no value of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}, found {found}", if pointer.is_empty() { "the arguments" } else { pointer })]
pub struct ReadError {
    /// JSON pointer to the value; empty: the whole.
    pub pointer: String,
    /// What would have been right.
    pub expected: String,
    /// What is there, shortened.
    pub found: String,
}

impl ReadError {
    fn new(expected: impl Into<String>, found: &Value) -> Self {
        ReadError::with(expected, describe(found))
    }

    fn with(expected: impl Into<String>, found: impl Into<String>) -> Self {
        ReadError {
            pointer: String::new(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The same, one level further out.
    fn below(mut self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        self.pointer.insert_str(0, &format!("/{name}"));
        self
    }
}

/// Reads an object of arguments. A parameter that is an `option` may be absent.
pub(crate) fn read_arguments(
    parameters: &[(String, SharedType)],
    arguments: &Value,
) -> Result<Vec<Val>, ReadError> {
    let mut reader = Reader {
        values_left: VALUES_MAX,
    };
    let fields = reader.fields(parameters, arguments, "argument")?;
    Ok(fields.into_iter().map(|(_, value)| value).collect())
}

struct Reader {
    values_left: usize,
}

impl Reader {
    /// The recursion is as deep as the type, which is bounded.
    fn read(&mut self, ty: &Type, value: &Value) -> Result<Val, ReadError> {
        self.count()?;
        Ok(match ty {
            Type::Bool => match value {
                Value::Bool(value) => Val::Bool(*value),
                _ => return Err(ReadError::new("true or false", value)),
            },
            Type::S8 => Val::S8(small(value, i8::MIN.into(), i8::MAX.into())?),
            Type::U8 => Val::U8(small(value, u8::MIN.into(), u8::MAX.into())?),
            Type::S16 => Val::S16(small(value, i16::MIN.into(), i16::MAX.into())?),
            Type::U16 => Val::U16(small(value, u16::MIN.into(), u16::MAX.into())?),
            Type::S32 => Val::S32(small(value, i32::MIN.into(), i32::MAX.into())?),
            Type::U32 => Val::U32(small(value, u32::MIN.into(), u32::MAX.into())?),
            Type::S64 => Val::S64(small(value, i64::MIN.into(), i64::MAX.into())?),
            Type::U64 => Val::U64(small(value, u64::MIN.into(), u64::MAX.into())?),
            Type::F32 => Val::Float32(single(value)?),
            Type::F64 => Val::Float64(double(value)?),
            Type::Char => Val::Char(character(value)?),
            Type::String => Val::String(text(value)?.to_owned()),
            Type::Bytes => self.bytes(value)?,
            Type::List(element) => {
                let items = list(value, "a list")?;
                let read = |(index, item): (usize, &Value)| {
                    self.read(element, item)
                        .map_err(|error| error.below(&index.to_string()))
                };
                Val::List(
                    items
                        .iter()
                        .enumerate()
                        .map(read)
                        .collect::<Result<_, _>>()?,
                )
            }
            Type::Record(fields) => Val::Record(self.fields(fields, value, "field")?),
            Type::Tuple(types) => self.tuple(types, value)?,
            Type::Variant(cases) => self.variant(cases, value)?,
            Type::Enum(names) => Val::Enum(one_of(names, value)?.to_owned()),
            Type::Option(some) => self.option(some, value)?,
            Type::Result { ok, err } => self.result((ok.as_deref(), err.as_deref()), value)?,
            Type::Flags(names) => Val::Flags(flags(names, value)?),
        })
    }

    fn count(&mut self) -> Result<(), ReadError> {
        let Some(left) = self.values_left.checked_sub(1) else {
            let expected = format!("at most {VALUES_MAX} values in all");
            return Err(ReadError::with(expected, "more"));
        };
        self.values_left = left;
        Ok(())
    }

    fn fields(
        &mut self,
        fields: &[(String, SharedType)],
        value: &Value,
        what: &str,
    ) -> Result<Vec<(String, Val)>, ReadError> {
        let Value::Object(object) = value else {
            let expected = match fields.len() {
                0 => format!("an object without {what}s"),
                _ => format!("an object with the {}", listed(what, fields)),
            };
            return Err(ReadError::new(expected, value));
        };
        if let Some((name, other)) = object
            .iter()
            .find(|(name, _)| !fields.iter().any(|(known, _)| known == *name))
        {
            let expected = format!("no {what} of this name, only {}", listed(what, fields));
            return Err(ReadError::new(expected, other).below(name));
        }
        let read = |(name, ty): &(String, SharedType)| {
            let value = match object.get(name) {
                Some(value) => self.read(ty, value).map_err(|error| error.below(name))?,
                None if ty.is_nullable() => {
                    self.count()?;
                    Val::Option(None)
                }
                None => {
                    let expected = format!("the {what} `{name}`, {}", article(ty));
                    return Err(ReadError::with(expected, "an object without it"));
                }
            };
            Ok((name.clone(), value))
        };
        fields.iter().map(read).collect()
    }

    fn tuple(&mut self, types: &[SharedType], value: &Value) -> Result<Val, ReadError> {
        let expected = format!("a list of exactly {} values", types.len());
        let items = list(value, &expected)?;
        if items.len() != types.len() {
            return Err(ReadError::new(expected, value));
        }
        let read = |(index, (ty, item)): (usize, (&SharedType, &Value))| {
            self.read(ty, item)
                .map_err(|error| error.below(&index.to_string()))
        };
        let values = types.iter().zip(items).enumerate().map(read);
        Ok(Val::Tuple(values.collect::<Result<_, _>>()?))
    }

    fn variant(
        &mut self,
        cases: &[(String, Option<SharedType>)],
        value: &Value,
    ) -> Result<Val, ReadError> {
        let expected = || {
            let cases = cases.iter().map(|(name, ty)| match ty {
                Some(_) => format!("{{\"{name}\": …}}"),
                None => format!("\"{name}\""),
            });
            format!("one of {}", short_list(cases))
        };
        let (name, payload) = match value {
            Value::String(name) => (name, None),
            Value::Object(object) => match only(object) {
                Some((name, payload)) => (name, Some(payload)),
                None => return Err(ReadError::new(expected(), value)),
            },
            _ => return Err(ReadError::new(expected(), value)),
        };
        let payload = match (cases.iter().find(|(case, _)| case == name), payload) {
            (Some((_, Some(ty))), Some(payload)) => {
                let payload = self.read(ty, payload).map_err(|error| error.below(name))?;
                Some(Box::new(payload))
            }
            (Some((_, None)), None) => None,
            (Some(_) | None, _) => return Err(ReadError::new(expected(), value)),
        };
        Ok(Val::Variant(name.clone(), payload))
    }

    fn option(&mut self, some: &Type, value: &Value) -> Result<Val, ReadError> {
        if value.is_null() {
            return Ok(Val::Option(None));
        }
        let value = if some.is_nullable() {
            let inner = value.as_object().and_then(only);
            let Some((_, inner)) = inner.filter(|(name, _)| *name == "some") else {
                return Err(ReadError::new("null or {\"some\": …}", value));
            };
            self.read(some, inner)
                .map_err(|error| error.below("some"))?
        } else {
            self.read(some, value)?
        };
        Ok(Val::Option(Some(Box::new(value))))
    }

    fn result(
        &mut self,
        (ok, err): (Option<&Type>, Option<&Type>),
        value: &Value,
    ) -> Result<Val, ReadError> {
        let expected = "{\"ok\": …} or {\"err\": …}";
        let Some((name, payload)) = value.as_object().and_then(only) else {
            return Err(ReadError::new(expected, value));
        };
        let mut read = |ty: Option<&Type>| match ty {
            Some(ty) => self.read(ty, payload).map(|value| Some(Box::new(value))),
            None if payload.is_null() => Ok(None),
            None => Err(ReadError::new("null", payload)),
        };
        let value = match name.as_str() {
            "ok" => read(ok).map(Ok),
            "err" => read(err).map(Err),
            _ => return Err(ReadError::new(expected, value)),
        };
        value
            .map(Val::Result)
            .map_err(|error| error.below(name.as_str()))
    }

    fn bytes(&mut self, value: &Value) -> Result<Val, ReadError> {
        let expected = "bytes as a string of base64, or {\"text\": …}";
        let bytes = match value {
            Value::String(text) => BASE64.decode(text).map_err(|error| {
                ReadError::with(expected, format!("{} ({error})", describe(value)))
            })?,
            Value::Object(object) => match only(object) {
                Some((name, text)) if name == "text" => self::text(text)
                    .map_err(|error| error.below("text"))?
                    .as_bytes()
                    .to_vec(),
                _ => return Err(ReadError::new(expected, value)),
            },
            _ => return Err(ReadError::new(expected, value)),
        };
        let Some(left) = self.values_left.checked_sub(bytes.len()) else {
            let expected = format!("at most {VALUES_MAX} bytes and other values in all");
            return Err(ReadError::with(expected, format!("{} bytes", bytes.len())));
        };
        self.values_left = left;
        Ok(Val::List(bytes.into_iter().map(Val::U8).collect()))
    }
}

/// A whole number in a range. One that is written `3.0` is whole too, and a string of digits is taken where
/// numbers can be larger than JSON readers keep.
fn small<T: TryFrom<i128>>(value: &Value, minimum: i128, maximum: i128) -> Result<T, ReadError> {
    let is_large = maximum > i128::from(u32::MAX);
    let number = match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(whole)),
        Value::String(digits) if is_large && digits.len() <= 20 => digits.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| ReadError::new(format!("a whole number from {minimum} to {maximum}"), value))
}

fn whole(number: f64) -> Option<i128> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it digits are lost already.
    if number.fract() != 0.0 || number.abs() > EXACT_MAX {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole, and at most 2^53"
    )]
    let number = number as i64;
    Some(number.into())
}

fn double(value: &Value) -> Result<f64, ReadError> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    };
    let expected = "a number, \"NaN\", \"Infinity\" or \"-Infinity\"";
    number.ok_or_else(|| ReadError::new(expected, value))
}

fn single(value: &Value) -> Result<f32, ReadError> {
    let number = double(value)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding is what a number of 32 bits asks for; one that becomes infinite is refused"
    )]
    let rounded = number as f32;
    if rounded.is_infinite() && number.is_finite() {
        let expected = format!("a number from {:e} to {:e}", f32::MIN, f32::MAX);
        return Err(ReadError::new(expected, value));
    }
    Ok(rounded)
}

fn character(value: &Value) -> Result<char, ReadError> {
    let mut characters = value.as_str().unwrap_or_default().chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Ok(character),
        _ => Err(ReadError::new("a string of exactly one character", value)),
    }
}

fn text(value: &Value) -> Result<&str, ReadError> {
    value
        .as_str()
        .ok_or_else(|| ReadError::new("a string", value))
}

fn list<'a>(value: &'a Value, expected: &str) -> Result<&'a [Value], ReadError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(ReadError::new(expected, value)),
    }
}

fn one_of<'a>(names: &[String], value: &'a Value) -> Result<&'a str, ReadError> {
    value
        .as_str()
        .filter(|text| names.iter().any(|name| name == text))
        .ok_or_else(|| {
            let names = names.iter().map(|name| format!("\"{name}\""));
            ReadError::new(format!("one of {}", short_list(names)), value)
        })
}

/// In the order of their type, as a guest gives them.
fn flags(names: &[String], value: &Value) -> Result<Vec<String>, ReadError> {
    let items = list(value, "a list of names")?;
    let mut set = vec![false; names.len()];
    for (index, item) in items.iter().enumerate() {
        let below = |error: ReadError| error.below(&index.to_string());
        let name = one_of(names, item).map_err(below)?;
        for (known, is_set) in names.iter().zip(&mut set) {
            if known == name && std::mem::replace(is_set, true) {
                let error = ReadError::new("each name once", item);
                return Err(below(error));
            }
        }
    }
    let named = names.iter().zip(set).filter(|(_, is_set)| *is_set);
    Ok(named.map(|(name, _)| name.clone()).collect())
}

/// The only entry of an object that has just one.
fn only(object: &Map<String, Value>) -> Option<(&String, &Value)> {
    let mut entries = object.iter();
    let first = entries.next()?;
    entries.next().is_none().then_some(first)
}

fn listed(what: &str, fields: &[(String, SharedType)]) -> String {
    let names = fields.iter().map(|(name, _)| format!("`{name}`"));
    match fields.len() {
        0 => format!("no {what}s"),
        1 => format!("{what} {}", short_list(names)),
        _ => format!("{what}s {}", short_list(names)),
    }
}

/// The first of them, with commas: names are a guest's.
fn short_list(names: impl Iterator<Item = String>) -> String {
    const NAMES_MAX: usize = 20;
    let mut names: Vec<String> = names.take(NAMES_MAX + 1).collect();
    if names.len() > NAMES_MAX {
        names[NAMES_MAX] = "…".to_owned();
    }
    names.join(", ")
}

/// A type in words.
fn article(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "true or false",
        Type::S8
        | Type::U8
        | Type::S16
        | Type::U16
        | Type::S32
        | Type::U32
        | Type::S64
        | Type::U64 => "a whole number",
        Type::F32 | Type::F64 => "a number",
        Type::Char => "a character",
        Type::String | Type::Enum(_) => "a string",
        Type::Bytes => "bytes as base64",
        Type::List(_) | Type::Tuple(_) | Type::Flags(_) => "a list",
        Type::Record(_) | Type::Result { .. } => "an object",
        Type::Variant(_) => "a string or an object",
        Type::Option(_) => "a value or null",
    }
}

/// A value in a few words: it may be as large as a client likes.
fn describe(value: &Value) -> String {
    const CHARS_MAX: usize = 40;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => {
            let mut start: String = text.chars().take(CHARS_MAX).collect();
            if start.len() < text.len() {
                start.push('…');
            }
            format!("the text {}", Value::String(start))
        }
        Value::Array(items) if items.len() == 1 => "a list of 1 value".to_owned(),
        Value::Array(items) => format!("a list of {} values", items.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}
