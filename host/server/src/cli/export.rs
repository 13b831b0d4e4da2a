//! `troupe export` and `troupe import`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use troupe_journal::{AppendError, Journal, ReadError};
use troupe_workflow::ExecutionId;

use super::{CliError, Common, End, output};
use crate::archive;
use crate::archive::import::{Import, Imported, held};
use crate::clock;
use crate::config::user_name;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The executions
    #[arg(required = true)]
    executions: Vec<ExecutionId>,
    /// Where to; without it to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// What `troupe export` wrote
    file: PathBuf,
    /// Go on at once with executions that have not ended; without it they are paused
    #[arg(long)]
    resume: bool,
}

pub(super) async fn export(common: &Common, args: ExportArgs) -> Result<End, CliError> {
    let journal = common.journal().await?;
    for id in &args.executions {
        journal.find(*id).await?;
    }
    let Some(path) = &args.output else {
        let mut out = BufWriter::new(output::stream());
        archive::export(&*journal, &args.executions, &mut out).await?;
        return Ok(End::Done);
    };
    let unfinished = unfinished(path);
    let cannot = || format!("{} cannot be written", path.display());
    let file = File::create_new(&unfinished).with_context(cannot)?;
    let written = async {
        let mut out = BufWriter::new(file);
        archive::export(&*journal, &args.executions, &mut out).await?;
        out.flush()?;
        out.get_ref().sync_all()?;
        put_in_place(&unfinished, path)
    };
    if let Err(error) = written.await {
        let _ = std::fs::remove_file(&unfinished);
        return Err(error.context(cannot()).into());
    }
    output::note(&format!(
        "{}: {} of the journal's executions",
        path.display(),
        args.executions.len()
    ));
    Ok(End::Done)
}

pub(super) async fn import(common: &Common, args: ImportArgs) -> Result<End, CliError> {
    // All of it is read before anything is written.
    let mut ids = Vec::new();
    let mut import = open(&args.file)?;
    while let Some(imported) = read(&mut import, &args.file)? {
        ids.push(imported.archive.row.id);
    }
    let journal = common.journal().await?;
    for id in &ids {
        match journal.find(*id).await {
            Err(ReadError::NotFound(_)) => {}
            Ok(_) => {
                let error = anyhow::Error::from(AppendError::Exists(*id));
                return Err(CliError::Caller(error.context("nothing was imported")));
            }
            Err(error) => return Err(CliError::Host(error.into())),
        }
    }
    let mut import = open(&args.file)?;
    while let Some(mut imported) = read(&mut import, &args.file)? {
        let has_ended = imported.archive.row.status.is_terminal();
        if !args.resume {
            let by = user_name();
            imported = held(imported, by.as_deref(), clock::now())?;
        }
        let row = imported.archive.row.clone();
        restore(&*journal, imported.archive).await?;
        let (id, status) = (row.id, row.status.as_str());
        output::line(&format!("{id}  {status}"));
        if !has_ended && !args.resume {
            output::note(&format!(
                "{id} has not ended, and is paused: `troupe resume {id}` goes on with it here"
            ));
        }
    }
    Ok(End::Done)
}

async fn restore(journal: &dyn Journal, archive: troupe_journal::Archive) -> Result<(), CliError> {
    let id = archive.row.id;
    match journal.restore(archive).await {
        Ok(()) => Ok(()),
        Err(error @ AppendError::Exists(_)) => Err(CliError::Caller(error.into())),
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("{id} was not imported"));
            Err(CliError::Host(error))
        }
    }
}

fn open(path: &Path) -> Result<Import<BufReader<File>>, CliError> {
    let cannot = || format!("{} cannot be imported", path.display());
    let file = File::open(path)
        .with_context(cannot)
        .map_err(CliError::Caller)?;
    Import::open(BufReader::new(file))
        .with_context(cannot)
        .map_err(CliError::Caller)
}

fn read(import: &mut Import<BufReader<File>>, path: &Path) -> Result<Option<Imported>, CliError> {
    let read = import.read();
    read.with_context(|| format!("{} cannot be imported", path.display()))
        .map_err(CliError::Caller)
}

/// A name beside a file for what is not whole yet.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let number = u64::from_le_bytes(clock::entropy());
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:016x}.part"));
    name.into()
}

/// Gives a file that is whole, and on the disk, its name.
pub(super) fn put_in_place(unfinished: &Path, path: &Path) -> anyhow::Result<()> {
    std::fs::rename(unfinished, path)?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}
