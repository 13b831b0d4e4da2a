//! What guests can ask for, one file each, with the same four parts: the grant, the state of a call, the
//! host's side, the link. Here is what they share: who may, how often, and at what price in fuel.

pub(crate) mod budget;
pub(crate) mod context;
pub(crate) mod denials;
pub(crate) mod env;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod human;
pub(crate) mod llm;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod narrowed;
pub(crate) mod search;
pub(crate) mod tools;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::host_calls::{BudgetKind, Error, HostFuture};
use crate::limits::Limit;
use crate::state::{State, Stop};

/// The interfaces that are linked, beside `types`, which has no functions.
pub(crate) const INTERFACES: &[&str] = &[
    "troupe:agent/budget",
    "troupe:agent/context",
    "troupe:agent/human",
    "troupe:agent/llm",
    "troupe:agent/log",
    "troupe:agent/memory",
    "troupe:agent/search",
    "troupe:agent/tools",
];

/// What a call may ask for. What is not here is denied; `log` and `budget` are about the guest itself and
/// need no grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Language models.
    pub llm: Option<llm::LlmGrant>,
    /// Search sources.
    pub search: Option<search::SearchGrant>,
    /// Tools.
    pub tools: Option<tools::ToolsGrant>,
    /// Asking people.
    pub human: Option<human::HumanGrant>,
    /// Remembering from one execution to the next.
    pub memory: Option<memory::MemoryGrant>,
    /// The execution's inputs and the outputs of earlier steps.
    pub context: Option<context::ContextGrant>,
    /// Outgoing HTTP.
    pub http: Option<http::HttpGrant>,
    /// Files: a scratch folder, and folders of the host.
    pub files: Option<files::FilesGrant>,
    /// Environment variables.
    pub env: Option<env::EnvGrant>,
    /// What is not granted, with what would grant it, for the texts of denials.
    pub withheld: Vec<denials::Withheld>,
    /// What the operator leaves of capabilities: it bounds whom a guest may ask, and is in the texts of denials.
    pub narrowed: Vec<narrowed::Narrowed>,
}

impl Grants {
    /// Grants nothing.
    pub fn none() -> Self {
        Grants::default()
    }
}

/// Fuel for one host call, about what it costs the host to receive and answer it. Each byte that crosses
/// costs one more.
const HOST_CALL_FUEL: u64 = 5_000;

/// The largest answer that is handed to a guest, in bytes. Protects the host, which holds it twice meanwhile.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Calls that are answered `budget-spent` before a guest that goes on calling is stopped.
pub(crate) const REFUSED_CALLS_MAX: u32 = 100;

/// Counts the calls that [`crate::Limits::host_calls_max`] limits.
#[derive(Debug)]
pub(crate) struct HostCallCount {
    made: u32,
    made_max: u32,
    refused: u32,
    /// Reads of what is left: they take nothing from it, but each is recorded.
    reads: u32,
}

impl HostCallCount {
    pub(crate) fn new(made_max: u32) -> Self {
        HostCallCount {
            made: 0,
            made_max,
            refused: 0,
            reads: 0,
        }
    }

    /// Calls that were made, and calls that were refused because there were too many.
    pub(crate) fn total(&self) -> u32 {
        self.made.saturating_add(self.refused)
    }

    fn left(&self) -> u32 {
        self.made_max - self.made
    }

    /// Counts a call. The inner error is for the guest, the outer one ends it.
    fn count(&mut self) -> wasmtime::Result<Result<(), Error>> {
        if self.made < self.made_max {
            self.made += 1;
            return Ok(Ok(()));
        }
        self.refused += 1;
        if self.refused > REFUSED_CALLS_MAX {
            return Err(Stop(Limit::HostCalls).into());
        }
        Ok(Err(Error::BudgetSpent(BudgetKind::HostCalls)))
    }

    /// Counts a read of what is left. Who has used it all up may still look.
    fn count_read(&mut self) -> wasmtime::Result<()> {
        self.reads += 1;
        if self.reads > self.made_max.saturating_add(REFUSED_CALLS_MAX) {
            return Err(Stop(Limit::HostCalls).into());
        }
        Ok(())
    }

    /// Counts a call of a function that cannot tell the guest about a refusal.
    fn count_or_stop(&mut self) -> wasmtime::Result<()> {
        self.count()?
            .map_err(|_refused| Stop(Limit::HostCalls).into())
    }
}

/// Links every capability.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    llm::link(linker)?;
    search::link(linker)?;
    tools::link(linker)?;
    human::link(linker)?;
    memory::link(linker)?;
    context::link(linker)?;
    log::link(linker)?;
    budget::link(linker)?;
    http::link(linker)
}

/// How much text a value carries, in bytes, for charging and for limits.
pub(crate) trait TextBytes {
    fn text_bytes(&self) -> usize;
}

impl TextBytes for String {
    fn text_bytes(&self) -> usize {
        self.len()
    }
}

impl<T: TextBytes> TextBytes for Option<T> {
    fn text_bytes(&self) -> usize {
        self.as_ref().map_or(0, TextBytes::text_bytes)
    }
}

impl<T: TextBytes> TextBytes for Vec<T> {
    fn text_bytes(&self) -> usize {
        // An item costs more than its text: fifty bytes stand for its fields.
        self.iter()
            .map(|item| item.text_bytes().saturating_add(50))
            .fold(0, usize::saturating_add)
    }
}

impl<T: TextBytes> TextBytes for Result<T, Error> {
    fn text_bytes(&self) -> usize {
        match self {
            Ok(value) => value.text_bytes(),
            Err(Error::Denied(denial)) => denial.message.len(),
            Err(Error::Invalid(text) | Error::NotFound(text) | Error::Unavailable(text)) => {
                text.len()
            }
            Err(_) => 0,
        }
    }
}

/// Takes fuel for a host call and the bytes the guest handed over.
fn charge_call(
    store: &mut StoreContextMut<'_, State>,
    request: &impl TextBytes,
) -> wasmtime::Result<()> {
    let bytes = length(request);
    store.data_mut().tracer.count_asked(bytes);
    charge_bytes(store, bytes)
}

/// The same of a call that asks nothing, and of its answer, which is there.
fn charge_ready(
    store: &mut StoreContextMut<'_, State>,
    answer: &impl TextBytes,
) -> wasmtime::Result<()> {
    let bytes = length(answer);
    store.data_mut().tracer.count_answered(bytes);
    charge_bytes(store, bytes)
}

fn charge_bytes(store: &mut StoreContextMut<'_, State>, bytes: u64) -> wasmtime::Result<()> {
    let state = store.data_mut();
    state.memory.goes_on();
    state.host_bytes.count(bytes)?;
    charge(store, HOST_CALL_FUEL.saturating_add(bytes))
}

/// Takes fuel for an answer, and replaces one that is too large.
fn charge_answer<T>(
    store: &mut StoreContextMut<'_, State>,
    answer: Result<T, Error>,
) -> wasmtime::Result<Result<T, Error>>
where
    Result<T, Error>: TextBytes,
{
    let bytes = answer.text_bytes();
    if bytes > ANSWER_BYTES_MAX {
        return Ok(Err(Error::Unavailable(format!(
            "the answer has {bytes} bytes, at most {ANSWER_BYTES_MAX} can be handed over; ask for less"
        ))));
    }
    let bytes = length(&answer);
    store.data_mut().tracer.count_answered(bytes);
    store.data_mut().host_bytes.count(bytes)?;
    charge(store, bytes)?;
    Ok(answer)
}

/// The bytes that passed between a guest and the host, which [`crate::Limits::host_bytes_max`] limits.
/// Clones count together: the streams by which a guest writes bodies have one.
#[derive(Clone, Debug)]
pub(crate) struct HostBytes {
    passed: Arc<AtomicU64>,
    passed_max: u64,
}

impl HostBytes {
    pub(crate) fn new(passed_max: u64) -> Self {
        HostBytes {
            passed: Arc::default(),
            passed_max,
        }
    }

    /// All that passed, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Counts from nothing again.
    pub(crate) fn begin_again(&self) {
        self.passed.store(0, Ordering::Relaxed);
    }

    /// What may still pass, in bytes.
    fn left(&self) -> u64 {
        self.passed_max.saturating_sub(self.total())
    }

    fn count(&self, bytes: u64) -> Result<(), Stop> {
        let passed = self.total().saturating_add(bytes);
        // One guest, one thread at a time: nobody else counts meanwhile.
        self.passed.store(passed, Ordering::Relaxed);
        if passed > self.passed_max {
            return Err(Stop(Limit::HostBytes));
        }
        Ok(())
    }
}

fn length(value: &impl TextBytes) -> u64 {
    u64::try_from(value.text_bytes()).unwrap_or(u64::MAX)
}

/// Takes fuel, all there is where that is too little.
pub(crate) fn charge(store: &mut StoreContextMut<'_, State>, fuel: u64) -> wasmtime::Result<()> {
    if fuel == 0 {
        return Ok(());
    }
    let left = store.get_fuel()?;
    match left.checked_sub(fuel) {
        Some(left) => store.set_fuel(left),
        None => {
            store.set_fuel(0)?;
            Err(Stop(Limit::Fuel).into())
        }
    }
}

/// Requests of one call that are under way at the same time. Protects the host from a guest that asks for a thousand
/// answers of the largest size at once.
const ASKED_AT_ONCE: usize = 16;

/// Sends those requests on that pass `check`, and puts the answers of all in the order of the requests. Once the answers
/// together are as large as one may be, the requests that remain are not made.
async fn ask_many<'a, Q, A>(
    requests: Vec<Q>,
    mut check: impl FnMut(Q) -> wasmtime::Result<Result<Q, Error>>,
    ask: impl Fn(Vec<Q>) -> HostFuture<'a, Vec<Result<A, Error>>>,
) -> wasmtime::Result<Vec<Result<A, Error>>>
where
    Result<A, Error>: TextBytes,
{
    let mut answers = Vec::with_capacity(requests.len());
    let mut admitted = Vec::new();
    for request in requests {
        match check(request)? {
            Ok(request) => {
                admitted.push((answers.len(), request));
                answers.push(None);
            }
            Err(refusal) => answers.push(Some(Err(refusal))),
        }
    }
    let (mut bytes, mut admitted) = (0, admitted.into_iter());
    while bytes <= ANSWER_BYTES_MAX {
        let (places, asked): (Vec<usize>, Vec<Q>) = admitted.by_ref().take(ASKED_AT_ONCE).unzip();
        if asked.is_empty() {
            break;
        }
        for (place, answer) in places.into_iter().zip(ask(asked).await) {
            bytes = bytes.saturating_add(answer.text_bytes());
            answers[place] = Some(if bytes > ANSWER_BYTES_MAX {
                Err(too_large(bytes))
            } else {
                answer
            });
        }
    }
    for (place, _not_made) in admitted {
        answers[place] = Some(Err(too_large(bytes)));
    }
    // Where the host gave fewer answers than there were requests, nobody knows how the others ended.
    Ok(answers
        .into_iter()
        .map(|answer| answer.unwrap_or(Err(Error::Interrupted)))
        .collect())
}

fn too_large(bytes: usize) -> Error {
    Error::Unavailable(format!(
        "the answers have {bytes} bytes, at most {ANSWER_BYTES_MAX} can be handed over at once; ask for less"
    ))
}
