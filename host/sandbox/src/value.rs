//! Values between JSON and the component model: the types that can be passed, and what they look like as JSON.
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool` | `true`, `false` |
//! | `u8` … `u32`, `s8` … `s32` | a whole number |
//! | `u64`, `s64` | a whole number; beyond 2^53 − 1 a string of digits, for most programs lose digits there |
//! | `f32`, `f64` | a number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `char` | a string of one character |
//! | `string` | a string |
//! | `list<T>`, `tuple<…>` | a list |
//! | `list<u8>` | a string of base64; `{"text": "…"}` is taken too, for the bytes of a text |
//! | `record` | an object; a field that is an `option` may be absent |
//! | `option<T>` | `null` or the value; where the value may be `null` itself, `{"some": value}` |
//! | `enum` | a string, the case's name |
//! | `variant` | `"case"`, or `{"case": value}` where the case has a value |
//! | `result<T, E>` | `{"ok": value}` or `{"err": value}`, `null` where there is none |
//! | `flags` | a list of names |
//!
//! What is written is always read back as the same value; the bits of a NaN apart. Resources, streams, futures
//! and maps cannot be passed. Our own [`Type`] stands between wasmparser, which tells the types of a component
//! before it is compiled, and wasmtime, which checks them again at each call.

mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use read::ReadError;
pub(crate) use read::read_arguments;
pub(crate) use schema::{parameters_schema, schema};
pub(crate) use write::{write, write_arguments};

/// The largest whole number that every JSON reader keeps.
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The type of a value that can be passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    /// `list<u8>`
    Bytes,
    List(SharedType),
    Record(Vec<(String, SharedType)>),
    Tuple(Vec<SharedType>),
    Variant(Vec<(String, Option<SharedType>)>),
    Enum(Vec<String>),
    Option(SharedType),
    Result {
        ok: Option<SharedType>,
        err: Option<SharedType>,
    },
    Flags(Vec<String>),
}

/// A type that others share. In a message it is written wherever it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedType(Arc<Type>);

impl SharedType {
    pub(crate) fn new(ty: Type) -> Self {
        SharedType(Arc::new(ty))
    }
}

impl Deref for SharedType {
    type Target = Type;

    fn deref(&self) -> &Type {
        &self.0
    }
}

impl AsRef<Type> for SharedType {
    fn as_ref(&self) -> &Type {
        &self.0
    }
}

impl Serialize for SharedType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Type::deserialize(deserializer).map(SharedType::new)
    }
}

impl Type {
    /// Whether a value may be `null` as JSON.
    fn is_nullable(&self) -> bool {
        matches!(self, Type::Option(_))
    }
}
