//! `troupe backup`, `troupe verify` and `troupe migrate`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Args;
use troupe_journal::{Journal, SqliteJournal};

use super::export::{put_in_place, unfinished};
use super::{CliError, Common, End, output};
use crate::verify::{self, Found};
use crate::{migration, open, salvage};

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Where to
    file: PathBuf,
    /// Put it in the place of an earlier one
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A journal's file, a backup for instance [default: the journal that the configuration names]
    file: Option<PathBuf>,
    /// Copy every execution that is whole into a new journal in this folder
    #[arg(long, value_name = "FOLDER")]
    salvage: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// The journal that is copied: `sqlite`, for the file in the data folder, or `postgres://…`
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// The journal that it is copied into
    #[arg(long, value_name = "ADDRESS")]
    to: String,
}

pub(super) async fn backup(common: &Common, args: BackupArgs) -> Result<End, CliError> {
    let config = common.config()?;
    if !open::is_in_file(&config.server)? {
        return Err(CliError::Caller(anyhow!(
            "the journal is in PostgreSQL, which makes its own backups: use pg_dump, or pg_basebackup for the whole server"
        )));
    }
    let folder = common.places()?.data;
    if !SqliteJournal::file_in(&folder).is_file() {
        let folder = folder.display();
        return Err(CliError::Caller(anyhow!("there is no journal in {folder}")));
    }
    if args.file.exists() && !args.replace {
        return Err(CliError::Caller(anyhow!(
            "{} is there already; give another name, or --replace",
            args.file.display()
        )));
    }
    let part = unfinished(&args.file);
    let written = SqliteJournal::back_up(&folder, &part)
        .map_err(anyhow::Error::from)
        .and_then(|()| put_in_place(&part, &args.file));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&part);
        let error = error.context(format!("{} was not written", args.file.display()));
        return Err(CliError::Host(error));
    }
    output::note(&format!(
        "everything that was recorded until now is in {}",
        args.file.display()
    ));
    let components = folder.join("components");
    if std::fs::read_dir(&components).is_ok_and(|mut files| files.next().is_some()) {
        output::note(&format!(
            "executions with agents of their own components need {} too; its files are never changed: copy them",
            components.display()
        ));
    }
    Ok(End::Done)
}

pub(super) async fn verify(common: &Common, args: VerifyArgs) -> Result<End, CliError> {
    let config = common.config()?;
    let file = match &args.file {
        Some(path) if path.is_dir() => Some(SqliteJournal::file_in(path)),
        Some(path) => Some(path.clone()),
        None if open::is_in_file(&config.server)? => {
            Some(SqliteJournal::file_in(&common.places()?.data))
        }
        None => None,
    };
    if let Some(folder) = &args.salvage
        && SqliteJournal::file_in(folder).exists()
    {
        let folder = folder.display();
        return Err(CliError::Caller(anyhow!(
            "there is a journal in {folder} already: choose a new folder"
        )));
    }
    let mut faults = 0;
    let journal: Arc<dyn Journal> = match &file {
        Some(file) if !file.is_file() => {
            let file = file.display();
            return Err(CliError::Caller(anyhow!("there is no file {file}")));
        }
        Some(file) => match look_at_file(file, &mut faults).await {
            Ok(journal) => Arc::new(journal),
            Err(error) => return Ok(unreadable(&error)),
        },
        None => match open::database_to_read(&config.server).await {
            Ok(journal) => journal,
            Err(error) => return Ok(unreadable(&error)),
        },
    };
    let seen = verify::run(&*journal, &mut |found| match found {
        Found::Fault(fault) => {
            faults += 1;
            output::line(&fault.to_string());
        }
        Found::Progress(count) => output::note(&format!("executions looked at: {count}")),
        Found::Whole(_) | Found::Document(_) | Found::Record(_) => {}
    })
    .await;
    drop(journal);
    output::line(&format!(
        "whole executions: {} of {}; documents: {}; records: {}; faults: {faults}",
        seen.whole, seen.executions, seen.documents, seen.records
    ));
    if let Some(folder) = &args.salvage {
        save(common, file.as_deref(), folder).await?;
    }
    Ok(if faults == 0 { End::Done } else { End::Failed })
}

fn unreadable(error: &anyhow::Error) -> End {
    output::line(&format!("{error:#}"));
    output::note("nothing of it can be read");
    End::Failed
}

/// What is said of a journal's file as a whole.
async fn look_at_file(file: &Path, faults: &mut u64) -> anyhow::Result<SqliteJournal> {
    let log = SqliteJournal::check_log(file).context("its log cannot be read")?;
    if let Some(message) = log {
        *faults += 1;
        output::line(&message);
    }
    let journal = SqliteJournal::inspect(file)?;
    match journal.check_file().await {
        Ok(found) => {
            for message in found {
                *faults += 1;
                output::line(&format!("file: {message}"));
            }
        }
        Err(error) => {
            *faults += 1;
            output::line(&format!("file: {error}"));
        }
    }
    Ok(journal)
}

/// Copies what is whole into a new journal. Of a file, a copy is made first whose indexes are made again.
async fn save(common: &Common, file: Option<&Path>, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let copy = folder.join("salvage.db");
    let journal: Arc<dyn Journal> = match file {
        Some(file) => {
            SqliteJournal::copy_for_salvage(file, &copy)?;
            Arc::new(SqliteJournal::inspect(&copy)?)
        }
        None => open::database_to_read(&common.config().map_err(of_caller)?.server).await?,
    };
    let target = SqliteJournal::open(folder, open::node_name(), None)?;
    let saved = salvage::save(&*journal, &target).await?;
    // The file alone is whole then, for whoever moves it.
    target.sweep().await?;
    drop(journal);
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.join(format!("salvage.db{ending}")));
    }
    output::line(&format!(
        "{}: executions: {}; documents: {}; records: {}",
        folder.display(),
        saved.whole,
        saved.documents,
        saved.records
    ));
    Ok(())
}

fn of_caller(error: CliError) -> anyhow::Error {
    match error {
        CliError::Caller(error) | CliError::Host(error) => error,
    }
}

pub(super) async fn migrate(common: &Common, args: MigrateArgs) -> Result<End, CliError> {
    if args.from == args.to {
        return Err(CliError::Caller(anyhow!(
            "--from and --to name the same journal"
        )));
    }
    let (config, places) = (common.config()?, common.places()?);
    let file = SqliteJournal::file_in(&places.data);
    if args.from == "sqlite" && !file.is_file() {
        return Err(CliError::Caller(anyhow!(
            "there is no journal in {}",
            places.data.display()
        )));
    }
    let from = open::at(&args.from, &config.server, &places).await?;
    let to = open::at(&args.to, &config.server, &places).await?;
    let moved = migration::run(&*from, &*to, &mut |text| output::note(&text)).await?;
    output::line(&format!(
        "the target has all of the source: executions: {} (there before: {}); documents: {}; records: {}",
        moved.executions, moved.there, moved.documents, moved.records
    ));
    Ok(End::Done)
}
