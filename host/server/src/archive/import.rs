//! Reads an export, one execution after another, and believes nothing of it that it has not checked.

use std::io::{BufRead, Read as _};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use troupe_journal::{Archive, Document, ExecutionRow};
use troupe_workflow::{Definition, Event, Execution, Timestamp, WorkflowDigest};

use super::{FORMAT, Line, Row};
use crate::replay::hex;

/// Protects memory from a file whose lines never end; the values of one event are smaller by far.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// An execution of an export, and the state that its events lead to.
pub(crate) struct Imported {
    pub(crate) archive: Archive,
    pub(crate) execution: Execution,
}

/// An export that is being read.
pub(crate) struct Import<R> {
    from: R,
    lines: u64,
    hash: Sha256,
    /// The line that ended the execution before it.
    next: Option<Line>,
    /// Executions that are still to come.
    left: u64,
}

impl<R: BufRead> Import<R> {
    /// Reads what kind of file it is.
    ///
    /// # Errors
    /// A file that is no export, or one of a newer format.
    pub(crate) fn open(from: R) -> anyhow::Result<Self> {
        let mut import = Self {
            from,
            lines: 0,
            hash: Sha256::new(),
            next: None,
            left: 0,
        };
        let text = import.text().context("it is no export of Troupe")?;
        // The number first: all else of a newer format may be unknown.
        let value: Value = serde_json::from_str(&text).context("it is no export of Troupe")?;
        let format = value["export"]["format"].as_u64();
        let format = format.context("it is no export of Troupe")?;
        ensure!(
            format <= u64::from(FORMAT),
            "it has format {format}, and this version of Troupe reads up to format {FORMAT}; use the version that wrote it"
        );
        match serde_json::from_str(&text) {
            Ok(Line::Export(header)) if header.format > 0 => import.left = header.executions,
            _ => bail!("it is no export of Troupe"),
        }
        Ok(import)
    }

    /// The next execution, whole and checked; none: the file has ended as it should.
    ///
    /// # Errors
    /// What of it is not as it was written.
    pub(crate) fn read(&mut self) -> anyhow::Result<Option<Imported>> {
        let line = match self.next.take() {
            Some(line) => line,
            None => self.line()?,
        };
        match line {
            Line::Execution(row) => {
                let id = row.id;
                self.left = self
                    .left
                    .checked_sub(1)
                    .context("it has more executions than it says")?;
                let imported = self.execution(*row).with_context(|| id.to_string())?;
                Ok(Some(imported))
            }
            Line::End(_) => {
                ensure!(self.left == 0, "{} executions are missing", self.left);
                Ok(None)
            }
            Line::Export(_) | Line::Document(_) | Line::Event(_) => bail!(
                "line {} of the export is not what belongs there",
                self.lines
            ),
        }
    }

    fn execution(&mut self, row: Row) -> anyhow::Result<Imported> {
        let Line::Document(text) = self.line()? else {
            bail!("its document is missing");
        };
        let (row, document) = row.into_parts(text.text)?;
        let definition = check_document(&document)?;
        let mut execution = Execution::replay(row.id, definition, &[])?;
        let mut events = Vec::new();
        loop {
            match self.line()? {
                Line::Event(event) => {
                    execution.apply(&event)?;
                    events.push(*event);
                }
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        check_row(&row, &execution, (events.first(), events.last()))?;
        let archive = Archive {
            row,
            document,
            events,
        };
        Ok(Imported { archive, execution })
    }

    fn line(&mut self) -> anyhow::Result<Line> {
        let before = (self.lines, hex(&self.hash.clone().finalize()));
        let text = self.text()?;
        let number = self.lines;
        let line: Line = serde_json::from_str(&text)
            .with_context(|| format!("line {number} of the export cannot be read"))?;
        if let Line::End(closing) = &line {
            ensure!(
                (closing.lines, &closing.sha256) == (before.0, &before.1),
                "the export is damaged: its checksum does not fit"
            );
            let mut rest = [0];
            ensure!(
                self.from.read(&mut rest)? == 0,
                "something stands behind the end of the export"
            );
        }
        Ok(line)
    }

    fn text(&mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.from).take(LINE_BYTES_MAX);
        limited.read_until(b'\n', &mut bytes)?;
        ensure!(
            bytes.ends_with(b"\n"),
            "the export ends in the middle, after {} lines",
            self.lines
        );
        self.hash.update(&bytes);
        self.lines += 1;
        Ok(String::from_utf8(bytes)?)
    }
}

/// The definition of a document, if it is the one that its digest names.
pub(crate) fn check_document(document: &Document) -> anyhow::Result<Arc<Definition>> {
    ensure!(
        WorkflowDigest::of(document.text.as_bytes()) == document.digest,
        "its document is not the one that it was begun with"
    );
    let value = serde_json::from_str(&document.text).context("its document is no JSON")?;
    let definition = Definition::compile(&value).map_err(|faults| {
        anyhow::anyhow!("its document cannot be read by this version:\n{faults}")
    })?;
    Ok(Arc::new(definition))
}

/// Whether a row says what its events lead to.
pub(crate) fn check_row(
    row: &ExecutionRow,
    execution: &Execution,
    (first, last): (Option<&Event>, Option<&Event>),
) -> anyhow::Result<()> {
    let version = execution.version();
    ensure!(
        version == row.version,
        "it has {version} events, and its row says {}",
        row.version
    );
    let status = execution.status();
    ensure!(
        status == row.status,
        "its events lead to `{}`, and its row says `{}`",
        status.as_str(),
        row.status.as_str()
    );
    let times = (first.map(|event| event.at), last.map(|event| event.at));
    ensure!(
        times == (Some(row.created_at), Some(row.updated_at)),
        "the times of its row are not those of its events"
    );
    Ok(())
}

/// An execution in which nothing new begins until somebody resumes it. One that has ended, is about to end or is paused
/// already stays as it is.
pub(crate) fn held(
    imported: Imported,
    by: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<Imported> {
    let Imported {
        mut archive,
        mut execution,
    } = imported;
    if let Ok(kind) = execution.pause(by, Some("imported")) {
        let at = now.max(archive.row.updated_at);
        let event = Event { at, kind };
        execution.apply(&event)?;
        archive.events.push(event);
        archive.row.version = execution.version();
        archive.row.status = execution.status();
        archive.row.updated_at = at;
    }
    Ok(Imported { archive, execution })
}
