//! Executions outside of a journal: the file that `troupe export` writes and `troupe import` reads.
//!
//! A line of JSON for each thing, each an object with one field that says what it is:
//!
//! - `export`: the format's number, and how many executions follow; always the first line.
//! - `execution`: an execution's row. Behind it its `document`, the stored text as it is, and its `event`s in order, as
//!   the journal has them.
//! - `end`: how many lines there were, and the SHA-256 of all bytes before it; always the last line.
//!
//! A line that this version does not know is refused, so a new kind of line is a new format.

pub(crate) mod import;

use std::io::Write;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use troupe_journal::{Document, ExecutionRow, Journal, WorkflowVersion};
use troupe_workflow::{Event, ExecutionId, ExecutionStatus, Timestamp, WorkflowDigest};

use crate::replay::hex;

/// Counted up with every change that an older version would misread.
pub(crate) const FORMAT: u32 = 1;
/// Events that are read at once: bounds the memory of an export.
const PAGE: u32 = 500;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Export(Header),
    Execution(Box<Row>),
    Document(Text),
    Event(Box<Event>),
    End(Closing),
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// The version of Troupe that wrote it, for people.
    troupe: String,
    executions: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: ExecutionId,
    workflow: String,
    digest: WorkflowDigest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored_workflow: Option<StoredVersion>,
    status: String,
    events: u64,
    settings: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredVersion {
    id: String,
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    lines: u64,
    sha256: String,
}

impl Row {
    fn of(row: &ExecutionRow) -> Self {
        Self {
            id: row.id,
            workflow: row.workflow_name.clone(),
            digest: row.digest.clone(),
            stored_workflow: row.workflow.as_ref().map(|workflow| StoredVersion {
                id: workflow.id.clone(),
                version: workflow.version,
            }),
            status: row.status.as_str().to_owned(),
            events: row.version,
            settings: row.settings.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    /// The row of an execution that nobody works on, and the document that its text is of.
    fn into_parts(self, text: String) -> anyhow::Result<(ExecutionRow, Document)> {
        let stored = self.stored_workflow.as_ref();
        ensure!(
            !self.workflow.contains('\0') && stored.is_none_or(|stored| !stored.id.contains('\0')),
            "the name or the id of its workflow holds a U+0000"
        );
        let status = ExecutionStatus::from_word(&self.status)
            .with_context(|| format!("`{}` is no status", self.status))?;
        let document = Document {
            digest: self.digest.clone(),
            name: self.workflow.clone(),
            text,
        };
        let row = ExecutionRow {
            id: self.id,
            workflow_name: self.workflow,
            digest: self.digest,
            workflow: self.stored_workflow.map(|stored| WorkflowVersion {
                id: stored.id,
                version: stored.version,
            }),
            status,
            version: self.events,
            owner: None,
            due_at: None,
            settings: without_folder(self.settings),
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        Ok((row, document))
    }
}

/// Settings without the folder of documents: whoever wrote the file does not choose what of this machine is searched.
fn without_folder(settings: String) -> String {
    let fields = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&settings);
    let Ok(mut fields) = fields else {
        return settings;
    };
    match fields.get_mut("documents") {
        Some(folder) if !folder.is_null() => {
            *folder = serde_json::Value::Null;
            serde_json::Value::Object(fields).to_string()
        }
        Some(_) | None => settings,
    }
}

/// Writes executions as they are now; what others add to them meanwhile is left out.
///
/// # Errors
/// An execution that is not there or damaged, a place that cannot be written.
pub(crate) async fn export(
    journal: &dyn Journal,
    ids: &[ExecutionId],
    to: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut out = Out {
        to,
        lines: 0,
        hash: Sha256::new(),
    };
    out.line(&Line::Export(Header {
        format: FORMAT,
        troupe: env!("CARGO_PKG_VERSION").to_owned(),
        executions: u64::try_from(ids.len()).unwrap_or(u64::MAX),
    }))?;
    for id in ids {
        let row = journal.find(*id).await?;
        let document = journal.document(row.digest.clone()).await?;
        out.line(&Line::Execution(Box::new(Row::of(&row))))?;
        out.line(&Line::Document(Text {
            text: document.text,
        }))?;
        let mut read = 0;
        while read < row.version {
            let left = u32::try_from(row.version - read).unwrap_or(u32::MAX);
            let page = journal.events(*id, read, left.min(PAGE)).await?;
            if page.is_empty() {
                anyhow::bail!("the journal is damaged: {id} has no event {}", read + 1);
            }
            for event in page {
                out.line(&Line::Event(Box::new(event)))?;
                read += 1;
            }
        }
    }
    let closing = Closing {
        lines: out.lines,
        sha256: hex(&out.hash.clone().finalize()),
    };
    out.line(&Line::End(closing))?;
    Ok(out.to.flush()?)
}

struct Out<'a> {
    to: &'a mut dyn Write,
    lines: u64,
    hash: Sha256,
}

impl Out<'_> {
    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.hash.update(text.as_bytes());
        self.lines += 1;
        self.to
            .write_all(text.as_bytes())
            .context("the export cannot be written")
    }
}

#[cfg(test)]
mod tests {
    use super::without_folder;

    #[test]
    fn a_file_names_no_folder_of_this_machine() {
        let settings = |text: &str| without_folder(text.to_owned());
        assert_eq!(
            settings(r#"{"offline":true,"documents":"/etc"}"#),
            r#"{"offline":true,"documents":null}"#
        );
        for as_it_is in [r#"{"offline":false,"documents":null}"#, "{}", "damaged"] {
            assert_eq!(settings(as_it_is), as_it_is);
        }
    }
}
