//! `troupe serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use troupe_journal::{AppendError, Journal};

use super::{CliError, Common, End, output};
use crate::node::{Node, NodeParts};
use crate::operations::OperationError;
use crate::run::RunSettings;
use crate::services::ServicesBySettings;
use crate::workflows::StoredWorkflow;
use crate::{api, clock, components, config, open, records, tasks, workflows};

/// How long answers that are under way may take when all else has ended.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen; port 0 takes a free one [default: the operator's file, then 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) async fn run(common: &Common, args: &ServeArgs) -> Result<End, CliError> {
    clock::set_fault(config::clock_fault_ms()?);
    let config = common.config()?;
    let places = common.places()?;
    let listen = args.listen.unwrap_or(config.server.listen);
    if !listen.ip().is_loopback() {
        return Err(CliError::Caller(anyhow!(
            "{listen} can be reached from other machines, and this version knows no keys yet: listen on 127.0.0.1, behind a proxy that asks who is there"
        )));
    }
    let journal = open::journal(&config.server, &places).await?;
    first_beat(&*journal).await?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("{listen} cannot be listened at; choose another with --listen"))?;
    let listens_at = listener.local_addr().context("the listening address")?;
    let server = config.server.clone();
    let retention = config.retention;
    let node = Node::new(NodeParts {
        journal: Arc::clone(&journal),
        services: ServicesBySettings::new(journal, config, places),
        concurrency: server.concurrency,
        of_one_workflow: server.workflow_concurrency.unwrap_or(server.concurrency),
        queue_max: server.queue_max,
        grace: Duration::from_millis(server.grace_ms),
        taps: None,
        retention,
    });
    let working = tasks::spawn("node", Arc::clone(&node).run());
    let mut working = std::pin::pin!(working);
    let _preparing = tasks::AbortOnDrop(tasks::spawn("prepare", prepare(Arc::clone(&node))));
    output::line(&format!("listening on http://{listens_at}"));
    output::note("without keys: whoever can use this machine's loopback can use this server");
    let (close, closed) = oneshot::channel::<()>();
    let serving = axum::serve(listener, api::router(Arc::clone(&node), listens_at))
        .with_graceful_shutdown(async { drop(closed.await) })
        .into_future();
    let mut serving = std::pin::pin!(serving);
    // Who asks is answered until the work has ended: that it takes no more, and how executions fare.
    let work = async {
        tokio::select! {
            () = ended() => {
                node.drain();
                working.as_mut().await
            }
            worked = &mut working => worked,
        }
    };
    let worked = tokio::select! {
        served = &mut serving => {
            served.context("the server ended")?;
            node.drain();
            working.await
        }
        worked = work => {
            drop(close);
            // Who is merely connected, or sends half a request, does not hold it up.
            let _ = tokio::time::timeout(LINGER, serving).await;
            worked
        }
    };
    worked.context("the work on executions ended early")?;
    Ok(End::Done)
}

/// Begins to load the components of stored workflows: where Troupe is another version than it was they have to be
/// compiled first, and no run should wait for that which need not.
async fn prepare(node: Arc<Node>) {
    let prepared = prepare_components(&node).await;
    if let Err(error) = prepared.map_err(anyhow::Error::from) {
        tracing::warn!(
            error = format!("{error:#}"),
            "not all components are loaded ahead of time"
        );
    }
}

async fn prepare_components(node: &Node) -> Result<(), OperationError> {
    /// Workflows whose newest version is looked at. Bounds the memory that components take of which nobody has need.
    const WORKFLOWS_MAX: u32 = 200;
    let journal = &*node.journal;
    let all: Vec<StoredWorkflow> = records::list(journal, None, WORKFLOWS_MAX).await?;
    for stored in all {
        let (definition, _) = workflows::definition(journal, &stored, None).await?;
        for which in components::all(&definition) {
            let services = node.services.get(&RunSettings::default());
            let components = &services.map_err(OperationError::Host)?.components;
            components.prepare(which);
        }
    }
    Ok(())
}

/// Sets the clock by the database's before anything is done by it.
async fn first_beat(journal: &dyn Journal) -> anyhow::Result<()> {
    /// Tries while the database is busy or an answer is lost, each a second after the last.
    const TRIES: u32 = 30;
    const PAUSE: Duration = Duration::from_secs(1);
    let mut tries = 1;
    loop {
        match journal.beat(clock::machine_time()).await {
            Ok(beat) => {
                clock::set_offset(beat.clock_offset_ms);
                return Ok(());
            }
            Err(error) if tries < TRIES && may_pass(&error) => {
                tracing::warn!(%error, tries, "the journal does not take this process's sign of life; trying again");
            }
            Err(error) => return Err(error.into()),
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

fn may_pass(error: &AppendError) -> bool {
    error.is_retryable() || matches!(error, AppendError::Unknown { .. })
}

/// Ends when the process is asked to end.
pub(super) async fn ended() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be listened for");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
