//! Writes values of given types as JSON text of bounded size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wasmtime::component::Val;

use super::{SAFE_INTEGER_MAX, SharedType, Type};

/// The text would have been larger than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Writes a value as JSON of at most `bytes_max` bytes. wasmtime made the value by the same type; where they
/// differ, which is a mistake of ours, the place is `null`.
pub(crate) fn write(ty: &Type, value: &Val, bytes_max: u64) -> Result<String, TooLarge> {
    let mut writer = Writer {
        text: String::new(),
        bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
    };
    writer.write(ty, value)?;
    Ok(writer.text)
}

/// Writes arguments as the object that [`super::read_arguments`] reads.
pub(crate) fn write_arguments(
    parameters: &[(String, SharedType)],
    arguments: &[Val],
    bytes_max: usize,
) -> Result<String, TooLarge> {
    let mut writer = Writer {
        text: "{".to_owned(),
        bytes_max,
    };
    for (index, ((name, ty), value)) in parameters.iter().zip(arguments).enumerate() {
        if index > 0 {
            writer.push(",")?;
        }
        writer.string(name)?;
        writer.push(":")?;
        writer.write(ty, value)?;
    }
    writer.push("}")?;
    Ok(writer.text)
}

struct Writer {
    text: String,
    bytes_max: usize,
}

impl Writer {
    fn write(&mut self, ty: &Type, value: &Val) -> Result<(), TooLarge> {
        match (ty, value) {
            (_, Val::Bool(value)) => self.push(if *value { "true" } else { "false" }),
            (_, Val::S8(number)) => self.push(&number.to_string()),
            (_, Val::U8(number)) => self.push(&number.to_string()),
            (_, Val::S16(number)) => self.push(&number.to_string()),
            (_, Val::U16(number)) => self.push(&number.to_string()),
            (_, Val::S32(number)) => self.push(&number.to_string()),
            (_, Val::U32(number)) => self.push(&number.to_string()),
            (_, Val::S64(number)) => self.integer(number.unsigned_abs(), &number.to_string()),
            (_, Val::U64(number)) => self.integer(*number, &number.to_string()),
            // The shortest text that reads as the same number; as a number of 64 bits it would have more digits.
            (_, Val::Float32(number)) => self.float((*number).into(), &format!("{number:?}")),
            (_, Val::Float64(number)) => self.float(*number, &format!("{number:?}")),
            (_, Val::Char(character)) => self.string(character.encode_utf8(&mut [0; 4])),
            (_, Val::String(text) | Val::Enum(text)) => self.string(text),
            (Type::Bytes, Val::List(items)) => self.bytes(items),
            (Type::List(element), Val::List(items)) => {
                let items = items.iter().map(|item| (element.as_ref(), item));
                self.list(items)
            }
            (Type::Tuple(types), Val::Tuple(items)) => {
                self.list(types.iter().map(AsRef::as_ref).zip(items))
            }
            (Type::Record(types), Val::Record(fields)) => {
                let mut separator = "{";
                for ((_, ty), (name, value)) in types.iter().zip(fields) {
                    self.push(separator)?;
                    self.string(name)?;
                    self.push(":")?;
                    self.write(ty, value)?;
                    separator = ",";
                }
                self.push("}")
            }
            (Type::Variant(cases), Val::Variant(name, payload)) => {
                let ty = cases.iter().find(|(case, _)| case == name);
                match (ty.and_then(|(_, ty)| ty.as_deref()), payload) {
                    (Some(ty), Some(payload)) => self.tagged(name, Some((ty, payload))),
                    _ => self.string(name),
                }
            }
            (Type::Option(_), Val::Option(None)) => self.push("null"),
            (Type::Option(some), Val::Option(Some(value))) => {
                if some.is_nullable() {
                    self.tagged("some", Some((some, value)))
                } else {
                    self.write(some, value)
                }
            }
            (Type::Result { ok, err }, Val::Result(result)) => {
                let (name, ty, payload) = match result {
                    Ok(payload) => ("ok", ok, payload),
                    Err(payload) => ("err", err, payload),
                };
                self.tagged(name, ty.as_deref().zip(payload.as_deref()))
            }
            (Type::Flags(_), Val::Flags(names)) => {
                let mut separator = "[";
                for name in names {
                    self.push(separator)?;
                    self.string(name)?;
                    separator = ",";
                }
                self.end_list(separator)
            }
            _ => self.push("null"),
        }
    }

    fn push(&mut self, text: &str) -> Result<(), TooLarge> {
        if text.len() > self.bytes_max.saturating_sub(self.text.len()) {
            return Err(TooLarge);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn integer(&mut self, absolute: u64, digits: &str) -> Result<(), TooLarge> {
        if absolute > SAFE_INTEGER_MAX {
            self.string(digits)
        } else {
            self.push(digits)
        }
    }

    fn float(&mut self, number: f64, digits: &str) -> Result<(), TooLarge> {
        if number.is_nan() {
            self.string("NaN")
        } else if number.is_infinite() {
            self.string(if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        } else {
            self.push(digits)
        }
    }

    fn string(&mut self, text: &str) -> Result<(), TooLarge> {
        // What is written has at least so many bytes: nothing is made that would not fit.
        if text.len() > self.bytes_max.saturating_sub(self.text.len()) {
            return Err(TooLarge);
        }
        let quoted = serde_json::to_string(text).map_err(|_never_for_text| TooLarge)?;
        self.push(&quoted)
    }

    fn bytes(&mut self, items: &[Val]) -> Result<(), TooLarge> {
        if items.len() > self.bytes_max {
            return Err(TooLarge);
        }
        let bytes: Vec<u8> = items
            .iter()
            .map(|item| match item {
                Val::U8(byte) => *byte,
                _ => 0,
            })
            .collect();
        self.string(&BASE64.encode(bytes))
    }

    fn list<'a>(
        &mut self,
        items: impl Iterator<Item = (&'a Type, &'a Val)>,
    ) -> Result<(), TooLarge> {
        let mut separator = "[";
        for (ty, item) in items {
            self.push(separator)?;
            self.write(ty, item)?;
            separator = ",";
        }
        self.end_list(separator)
    }

    fn end_list(&mut self, separator: &str) -> Result<(), TooLarge> {
        self.push(if separator == "[" { "[]" } else { "]" })
    }

    fn tagged(&mut self, name: &str, payload: Option<(&Type, &Val)>) -> Result<(), TooLarge> {
        self.push("{")?;
        self.string(name)?;
        self.push(":")?;
        match payload {
            Some((ty, value)) => self.write(ty, value)?,
            None => self.push("null")?,
        }
        self.push("}")
    }
}
