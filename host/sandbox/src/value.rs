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

use std::sync::Arc;

pub use read::ReadError;
pub(crate) use read::read_arguments;
pub(crate) use schema::{parameters_schema, schema};
pub(crate) use write::write;

/// The largest whole number that every JSON reader keeps.
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The type of a value that can be passed.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    List(Arc<Type>),
    Record(Vec<(String, Arc<Type>)>),
    Tuple(Vec<Arc<Type>>),
    Variant(Vec<(String, Option<Arc<Type>>)>),
    Enum(Vec<String>),
    Option(Arc<Type>),
    Result {
        ok: Option<Arc<Type>>,
        err: Option<Arc<Type>>,
    },
    Flags(Vec<String>),
}

impl Type {
    /// Whether a value may be `null` as JSON.
    fn is_nullable(&self) -> bool {
        matches!(self, Type::Option(_))
    }
}
