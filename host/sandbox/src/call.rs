//! What a call is made of: who is asked for what, and under which circumstances.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cancel::CancelFlag;
use crate::capability::Grants;
use crate::host_calls::HostCalls;
use crate::limits::Limits;

/// What an agent is asked to do. The fields are those of `troupe:agent/types.invocation`; its time limit comes
/// from [`Call::limits`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// What to do, for example `summarize`.
    pub action: String,
    /// The step's input, as JSON.
    pub input: String,
    /// The execution's id.
    pub execution: String,
    /// The workflow's name.
    pub workflow: String,
    /// The step's path.
    pub step: String,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// The same at every attempt of this step.
    pub idempotency_key: String,
}

/// Source code to run. The fields are those of `troupe:agent/interpreter.program`; its seed comes from
/// [`Call::seed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The source code.
    pub source: String,
    /// The name that stands in error messages, for example `rank.py`.
    pub filename: String,
    /// The value of the variable `input`, as JSON.
    pub input: String,
    /// A function of this name that the source defines is called with the input, where nothing else gives
    /// the result.
    pub action: String,
    /// What it reads from standard input.
    #[serde(with = "crate::octets")]
    pub stdin: Bytes,
}

/// The circumstances of a call.
#[derive(Clone)]
pub struct Call {
    /// The agent's id, for the texts of denials.
    pub agent: String,
    /// What it may ask for.
    pub grants: Grants,
    /// What it may use.
    pub limits: Limits,
    /// Whom it asks.
    pub host: Arc<dyn HostCalls>,
    /// Entropy: everything random in the guest follows from it. The same where a call is to be repeated exactly.
    pub seed: [u8; 32],
    /// What the guest's wall clock says when the call begins. It moves to [`HostCalls::time`] when a host call ends,
    /// and by the time that the guest sleeps; while the guest computes it stands still.
    pub started_at: SystemTime,
    /// Stops the call.
    pub cancel: CancelFlag,
}
