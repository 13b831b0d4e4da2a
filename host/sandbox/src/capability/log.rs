//! Lines for the execution's log. It needs no grant; what does not fit is dropped and counted.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{HOST_CALL_FUEL, charge};
use crate::bindings::agent::troupe::agent::log::Level;
use crate::host_calls::LogLine;
use crate::state::State;
use crate::trace::{self, HostFunction};

/// What one call logged so far.
#[derive(Debug)]
pub(crate) struct LogState {
    pub(crate) bytes: u64,
    pub(crate) lines_dropped: u64,
    bytes_max: u64,
}

impl LogState {
    pub(crate) fn new(bytes_max: u64) -> Self {
        LogState {
            bytes: 0,
            lines_dropped: 0,
            bytes_max,
        }
    }

    /// Counts a line of this many bytes; false where there is no room for it.
    fn admit(&mut self, bytes: u64) -> bool {
        match self.bytes.checked_add(bytes) {
            Some(bytes) if bytes <= self.bytes_max => {
                self.bytes = bytes;
                true
            }
            _ => {
                self.lines_dropped = self.lines_dropped.saturating_add(1);
                false
            }
        }
    }
}

/// Fields that are no JSON object are not worth losing the line: they are shown as text.
fn line(level: Level, message: String, fields: Option<String>) -> LogLine {
    match fields {
        Some(fields) if !is_object(&fields) => LogLine {
            level,
            message: format!("{message} {fields}"),
            fields: None,
        },
        fields => LogLine {
            level,
            message,
            fields,
        },
    }
}

/// Whether a text is a JSON object, found without building one: its values may take many times its bytes.
fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && crate::json::check(text).is_ok()
}

async fn write(
    mut store: StoreContextMut<'_, State>,
    level: Level,
    message: String,
    fields: Option<String>,
) -> wasmtime::Result<()> {
    let bytes = message.len() + fields.as_ref().map_or(0, String::len);
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    store.data_mut().tracer.count_asked(bytes);
    charge(&mut store, HOST_CALL_FUEL.saturating_add(bytes))?;
    // Only a line that fits is looked at.
    if store.data_mut().log.admit(bytes) {
        let host = Arc::clone(&store.data().host);
        host.log(line(level, message, fields)).await;
    }
    Ok(())
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut log = linker.instance("troupe:agent/log@0.1.0")?;
    trace::link(
        &mut log,
        HostFunction::LogWrite,
        |store, (level, message, fields): (Level, String, Option<String>)| {
            Box::new(write(store, level, message, fields))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_an_object_or_become_text() {
        let fields = |text: &str| line(Level::Info, "m".to_owned(), Some(text.to_owned()));
        let kept = fields(" {\"a\": [1]}");
        assert_eq!((kept.message.as_str(), kept.fields.is_some()), ("m", true));
        for other in ["[1]", "{\"a\": }", "", "{} {}"] {
            let shown = fields(other);
            assert_eq!((shown.message, shown.fields), (format!("m {other}"), None));
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mut log = LogState::new(10);
        assert!(log.admit(10));
        assert!(!log.admit(1));
        assert!(!log.admit(u64::MAX));
        assert_eq!((log.bytes, log.lines_dropped), (10, 2));
    }
}
