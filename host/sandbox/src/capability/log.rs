//! Lines for the execution's log. It needs no grant; what does not fit is dropped and counted.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, charge_call};
use crate::bindings::agent::troupe::agent::log::Level;
use crate::host_calls::LogLine;
use crate::state::State;

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

    /// Counts a line; false where there is no room for it.
    fn admit(&mut self, line: &LogLine) -> bool {
        match self.bytes.checked_add(super::length(line)) {
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

impl TextBytes for LogLine {
    fn text_bytes(&self) -> usize {
        self.message.len() + self.fields.text_bytes()
    }
}

/// Fields that are no JSON object are not worth losing the line: they are shown as text.
fn line(level: Level, message: String, fields: Option<String>) -> LogLine {
    match fields {
        Some(fields)
            if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&fields)
                .is_err() =>
        {
            LogLine {
                level,
                message: format!("{message} {fields}"),
                fields: None,
            }
        }
        fields => LogLine {
            level,
            message,
            fields,
        },
    }
}

async fn write(mut store: StoreContextMut<'_, State>, line: LogLine) -> wasmtime::Result<()> {
    charge_call(&mut store, &line)?;
    if store.data_mut().log.admit(&line) {
        let host = Arc::clone(&store.data().host);
        host.log(line).await;
    }
    Ok(())
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut log = linker.instance("troupe:agent/log@0.1.0")?;
    log.func_wrap_async(
        "write",
        |store, (level, message, fields): (Level, String, Option<String>)| {
            Box::new(write(store, line(level, message, fields)))
        },
    )
}
