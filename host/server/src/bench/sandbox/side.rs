//! The two sides of a comparison: the sandbox, and a bare wasmtime loop with the same settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use troupe_sandbox::floor::{Floor, FloorComponent, Work};
use troupe_sandbox::{
    Call, CancelFlag, Component, ContextGrant, DenyAll, Grants, HostCalls, Limits, Metering,
    Outcome, Sandbox, SandboxConfig,
};

use super::super::now;
use super::Times;
use super::subject::Ask;
use crate::tasks::{self, AbortOnDrop};

/// Something that can be called again and again.
pub(super) enum Side {
    /// What Troupe does.
    Sandbox {
        sandbox: Sandbox,
        component: Component,
        work: Work,
        limits: Limits,
        host: Arc<dyn HostCalls>,
    },
    /// What wasmtime does by itself.
    Bare {
        floor: Arc<Floor>,
        component: FloorComponent,
        work: Work,
    },
}

impl Side {
    /// A call in a fresh instance, which has to return something.
    pub(super) async fn call(&self) -> anyhow::Result<()> {
        let (sandbox, component, work, limits, host) = match self {
            Side::Bare {
                floor,
                component,
                work,
            } => return Ok(floor.call(component, work).await?),
            Side::Sandbox {
                sandbox,
                component,
                work,
                limits,
                host,
            } => (sandbox, component, work, *limits, host),
        };
        let call = Call {
            agent: "bench".to_owned(),
            grants: Grants {
                context: Some(ContextGrant),
                ..Grants::none()
            },
            limits,
            host: Arc::clone(host),
            seed: [7; 32],
            started_at: SystemTime::UNIX_EPOCH,
            cancel: CancelFlag::new(),
        };
        let report = match work {
            Work::Agent(invocation) => {
                let invocation = invocation.clone();
                sandbox.call_agent(component, invocation, call).await?
            }
            Work::Program(program) => sandbox.execute(component, program.clone(), call).await?,
            Work::Function(function, arguments) => {
                let arguments = arguments.clone();
                sandbox
                    .call_function(component, function, arguments, call)
                    .await?
            }
        };
        match report.outcome {
            Outcome::Returned(_) => Ok(()),
            other => bail!("a call of the measurement failed: {other:?}"),
        }
    }
}

/// Both sides of one case, and what they share with other cases.
pub(super) struct Sides {
    sandbox: Sandbox,
    floor: Arc<Floor>,
    limits: Limits,
}

impl Sides {
    /// A sandbox of these settings, and a bare loop of the same size, which uses what the sandbox compiled.
    pub(super) fn start(config: &SandboxConfig, limits: Limits) -> anyhow::Result<Self> {
        Ok(Sides {
            sandbox: Sandbox::new(config.clone())?,
            floor: bare_loop(config, Metering::FuelAndEpochs, limits)?,
            limits,
        })
    }

    /// A component on both sides: the sandbox first, then the bare loop.
    pub(super) async fn load(&self, wasm: &Bytes, ask: Ask) -> anyhow::Result<[Arc<Side>; 2]> {
        self.load_with(wasm, ask, Arc::new(DenyAll)).await
    }

    /// The same with a host that answers the sandbox's guests.
    pub(super) async fn load_with(
        &self,
        wasm: &Bytes,
        ask: Ask,
        host: Arc<dyn HostCalls>,
    ) -> anyhow::Result<[Arc<Side>; 2]> {
        let component = self.sandbox.load(wasm.clone()).await?;
        let work = ask.work(&component)?;
        let sandbox = Side::Sandbox {
            sandbox: self.sandbox.clone(),
            component,
            work: work.clone(),
            limits: self.limits,
            host,
        };
        let bare = bare(&self.floor, wasm, work)?;
        Ok([Arc::new(sandbox), bare])
    }

    /// Guests that have begun to wait in the bare loop.
    pub(super) fn waiting_in_floor(&self) -> usize {
        self.floor.waiting()
    }
}

/// A bare loop of a sandbox's size.
pub(super) fn bare_loop(
    config: &SandboxConfig,
    metering: Metering,
    limits: Limits,
) -> anyhow::Result<Arc<Floor>> {
    let floor = Floor::new(&config.cache_dir, config.calls_max, metering, limits)?;
    Ok(Arc::new(floor))
}

/// A component in a bare loop.
pub(super) fn bare(floor: &Arc<Floor>, wasm: &Bytes, work: Work) -> anyhow::Result<Arc<Side>> {
    // It may compile, and nothing else goes on here.
    let component = tokio::task::block_in_place(|| floor.load(wasm))?;
    Ok(Arc::new(Side::Bare {
        floor: Arc::clone(floor),
        component,
        work,
    }))
}

/// Makes so many calls, `at_once` of them at a time, each from a task of its own as the server makes them.
pub(super) async fn batch(side: &Arc<Side>, at_once: usize, calls: usize) -> anyhow::Result<Times> {
    let made = Arc::new(AtomicUsize::new(0));
    let begun = now();
    let callers: Vec<_> = (0..at_once.min(calls))
        .map(|_| {
            let (side, made) = (Arc::clone(side), Arc::clone(&made));
            AbortOnDrop(tasks::spawn("bench", async move {
                let mut times = Vec::new();
                while made.fetch_add(1, Ordering::Relaxed) < calls {
                    let begun = now();
                    side.call().await?;
                    times.push(begun.elapsed());
                }
                anyhow::Ok(times)
            }))
        })
        .collect();
    let mut each = Vec::with_capacity(calls);
    for mut caller in callers {
        let times = (&mut caller.0).await;
        each.extend(times.context("a task of the measurement")??);
    }
    Ok(Times {
        each,
        took: begun.elapsed(),
    })
}
