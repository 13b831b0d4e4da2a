//! Lines for the execution's log. They are shown to the people who watch it, and are cut where there are
//! too many; nothing else depends on them. Outside of a component, as in an agent's own tests, they go to
//! standard error.

use serde_json::Value;

use crate::bindings::troupe::agent::log as wit;

pub use wit::Level;

/// Writes a line of level `debug`.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref(), None);
}

/// Writes a line of level `info`.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref(), None);
}

/// Writes a line of level `warn`.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref(), None);
}

/// Writes a line of level `error`.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref(), None);
}

/// Writes a line with a JSON object of fields, for example `json!({"pages": 12})`.
pub fn with_fields(level: Level, message: impl AsRef<str>, fields: &Value) {
    write(level, message.as_ref(), Some(&fields.to_string()));
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: &str, fields: Option<&str>) {
    wit::write(level, message, fields);
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: &str, fields: Option<&str>) {
    use std::io::Write;
    let name = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let line = match fields {
        Some(fields) => format!("{name}: {message} {fields}\n"),
        None => format!("{name}: {message}\n"),
    };
    // Where standard error is closed there is nobody to read it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
