//! Random operations, done to the journal in memory and to another in step: each answers the same, and the same is
//! there afterwards.

use std::fmt::Debug;

use troupe_journal::{
    Append, Archive, Claim, Epoch, FirstOwner, Listing, NewExecution, Order, RecordListing,
    RecordWrite, Release, WorkflowVersion, Writer,
};
use troupe_workflow::{Event, ExecutionId, ExecutionStatus, Snapshot, Timestamp};

use super::samples::{at, document, id, large, new_of, put, skipped};
use super::{LabKind, Node};

/// Executions of a run: few, so that operations meet.
const EXECUTIONS: u64 = 6;
/// The same number.
const SLOTS: usize = 6;
/// Processes at a time.
const NODES: usize = 3;

/// Does so many operations to a journal of this kind and to one in memory.
///
/// # Panics
/// Where they differ: the message has the seed, and what was done.
pub async fn compare_in_step(kind: &LabKind, seed: u64, operations: u32) {
    let (model, tested) = (LabKind::Memory.set_up(), kind.set_up());
    let mut pairs = Vec::new();
    for name in ["n0", "n1", "n2"] {
        pairs.push((model.open(name).await, tested.open(name).await));
    }
    let mut dice = Dice(seed);
    let mut known = Known::default();
    for number in 0..operations {
        known.now += 1 + i64::try_from(dice.below(3)).expect("a small number");
        let at = format!("{} seed {seed} operation {number}", kind.name());
        if dice.one_in(25) {
            let which = dice.index(NODES);
            let (first, second) = pairs.swap_remove(which);
            first.die().await;
            second.die().await;
            let name = format!("m{number}");
            pairs.push((model.open(&name).await, tested.open(&name).await));
        }
        let operation = Operation::draw(&mut dice, &known);
        let (first, second) = &pairs[dice.index(NODES)];
        let expected = operation.perform(first, &mut known).await;
        let answer = operation.perform(second, &mut Known::default()).await;
        let done = text(&operation);
        assert_eq!(answer, expected, "{at}: {done:.2000}");
        // Mostly as one of them sees it: looking takes longer than doing.
        let look = Look::draw(&mut dice, &known);
        let watchers = if dice.one_in(10) { NODES } else { 1 };
        for (first, second) in &pairs[..watchers] {
            let (expected, found) = (look.at(first).await, look.at(second).await);
            for (expected, found) in expected.into_iter().zip(found) {
                assert_eq!(found, expected, "{at}: {done:.2000}, then {look:?}");
            }
        }
    }
}

/// Pseudo-random numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).expect("a small number");
        usize::try_from(self.below(length)).expect("a small number")
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.index(all.len())]
    }

    /// A time about now.
    fn time(&mut self, now: i64) -> Timestamp {
        at(now - 20 + i64::try_from(self.below(40)).expect("a small number"))
    }
}

/// What those who do the operations have seen.
#[derive(Default)]
struct Known {
    now: i64,
    versions: [u64; SLOTS],
    epochs: [Vec<Epoch>; SLOTS],
    exported: Vec<Archive>,
}

fn slot(id: ExecutionId) -> usize {
    (0..EXECUTIONS)
        .position(|number| super::samples::id(number) == id)
        .expect("one of the executions")
}

#[derive(Debug, Clone)]
enum Operation {
    Create(Box<NewExecution>),
    Append(Box<OwnedAppend>),
    Claim(Claim),
    Take(ExecutionId),
    Release(Release),
    Beat(Timestamp),
    Delete(ExecutionId),
    /// It is kept outside, and may come back.
    Export(ExecutionId),
    Restore(Box<Archive>),
    Write(Vec<RecordWrite>),
}

#[derive(Debug, Clone)]
struct OwnedAppend {
    execution: ExecutionId,
    expected: u64,
    writer: Writer,
    events: Vec<Event>,
    status: ExecutionStatus,
    snapshot: Option<Snapshot>,
    records: Vec<RecordWrite>,
}

impl Operation {
    fn draw(dice: &mut Dice, known: &Known) -> Self {
        let number = dice.below(EXECUTIONS);
        let execution = id(number);
        match dice.below(20) {
            0..=2 => Self::Create(Box::new(a_creation(dice, known, number))),
            3..=9 => Self::Append(Box::new(an_append(dice, known, number))),
            10 | 11 => Self::Claim(Claim {
                now: at(known.now),
                limit: u32::try_from(dice.below(3)).expect("a small number"),
                except: Vec::new(),
            }),
            12 => Self::Take(execution),
            13 | 14 => match an_epoch(dice, known, number) {
                Some(epoch) => Self::Release(a_release(dice, known, (number, epoch))),
                None => Self::Take(execution),
            },
            15 => Self::Beat(at(known.now)),
            16 => Self::Delete(execution),
            17 => Self::Export(execution),
            18 if !known.exported.is_empty() => {
                Self::Restore(Box::new(dice.pick(&known.exported).clone()))
            }
            _ => Self::Write(some_records(dice, known)),
        }
    }

    /// Answers what it was answered, as text.
    async fn perform(&self, node: &Node, known: &mut Known) -> String {
        match self.clone() {
            Self::Create(new) => {
                let id = new.id;
                let done = node.create(*new).await;
                if let Ok(epoch) = &done {
                    known.versions[slot(id)] = 1;
                    known.epochs[slot(id)].push(*epoch);
                }
                text(&done)
            }
            Self::Append(append) => {
                let id = append.execution;
                let done = node.append(borrowed(&append)).await;
                if let Ok(version) = &done {
                    known.versions[slot(id)] = *version;
                }
                text(&done)
            }
            Self::Claim(claim) => {
                let done = node.claim(claim).await;
                for claimed in done.iter().flatten() {
                    known.epochs[slot(claimed.id)].push(claimed.epoch);
                }
                text(&done)
            }
            Self::Take(id) => {
                let done = node.take(id).await;
                if let Ok(claimed) = &done {
                    known.epochs[slot(id)].push(claimed.epoch);
                }
                text(&done)
            }
            Self::Release(release) => text(&node.release(release).await),
            Self::Beat(now) => text(&node.beat(now).await.map(|beat| beat.freed)),
            Self::Delete(id) => text(&node.delete(id).await),
            Self::Export(id) => {
                let Ok(row) = node.find(id).await else {
                    return String::new();
                };
                let archive = Archive {
                    document: node.document(row.digest.clone()).await.unwrap(),
                    events: node.all_events(id).await.unwrap(),
                    row,
                };
                known.exported.push(archive.clone());
                text(&archive)
            }
            Self::Restore(archive) => {
                let (slot, version) = (slot(archive.row.id), archive.row.version);
                let done = node.restore(*archive).await;
                if done.is_ok() {
                    known.versions[slot] = version;
                }
                text(&done)
            }
            Self::Write(records) => text(&node.write(vec![], records).await),
        }
    }
}

fn text(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn borrowed(append: &OwnedAppend) -> Append<'_> {
    Append {
        execution: append.execution,
        expected: append.expected,
        writer: append.writer,
        events: &append.events,
        status: append.status,
        snapshot: append.snapshot.clone(),
        records: append.records.clone(),
    }
}

fn a_creation(dice: &mut Dice, known: &Known, number: u64) -> NewExecution {
    let workflow = *dice.pick(&["v", "w"]);
    let mut new = new_of(number, workflow, serde_json::json!({ "n": known.now }));
    new.created.at = at(known.now);
    if dice.one_in(2) {
        new.first_owner = FirstOwner::Anyone;
    }
    if dice.one_in(2) {
        new.workflow = Some(WorkflowVersion {
            id: "wf_1".to_owned(),
            version: 1,
        });
    }
    if dice.one_in(3) {
        new.records = some_records(dice, known);
    }
    new
}

/// A version as somebody has seen it, mostly the right one.
fn a_version(dice: &mut Dice, known: &Known, number: u64) -> u64 {
    let right = known.versions[slot(id(number))];
    match dice.below(8) {
        0 => right.saturating_sub(1),
        1 => right + 1,
        _ => right,
    }
}

/// An ownership, mostly the newest of this execution.
fn an_epoch(dice: &mut Dice, known: &Known, number: u64) -> Option<Epoch> {
    let own = &known.epochs[slot(id(number))];
    if dice.one_in(6) && !own.is_empty() {
        return Some(*dice.pick(own));
    }
    own.last().copied()
}

fn a_snapshot(dice: &mut Dice, version: u64) -> Option<Snapshot> {
    dice.one_in(4).then(|| Snapshot {
        version,
        build: "b".to_owned(),
        state: format!("{{\"n\":{}}}", dice.below(1_000)),
    })
}

fn an_append(dice: &mut Dice, known: &Known, number: u64) -> OwnedAppend {
    let count = dice.below(4);
    let events: Vec<_> = (0..count)
        .map(|_| match dice.below(6) {
            // Few values, so that executions share them.
            0 => large(known.now, 9_000 + 100 * dice.index(3)),
            _ => skipped(known.now),
        })
        .collect();
    let expected = a_version(dice, known, number);
    let outside = dice.one_in(3);
    let writer = match an_epoch(dice, known, number) {
        Some(epoch) if !outside => Writer::Owner(epoch),
        _ => Writer::Outside,
    };
    OwnedAppend {
        execution: id(number),
        expected,
        writer,
        status: match dice.below(5) {
            0 => *dice.pick(&ExecutionStatus::ALL),
            _ => ExecutionStatus::Running,
        },
        // Of a version that is there only if the append is done.
        snapshot: a_snapshot(dice, expected + count),
        events,
        records: match dice.below(4) {
            0 => some_records(dice, known),
            _ => Vec::new(),
        },
    }
}

fn a_release(dice: &mut Dice, known: &Known, (number, epoch): (u64, Epoch)) -> Release {
    let version = a_version(dice, known, number);
    Release {
        execution: id(number),
        epoch,
        version,
        due_at: (!dice.one_in(4)).then(|| dice.time(known.now)),
        snapshot: a_snapshot(dice, version),
    }
}

fn some_records(dice: &mut Dice, known: &Known) -> Vec<RecordWrite> {
    const IDS: [&str; 3] = ["x", "y", "é"];
    let count = 1 + dice.index(2);
    (0..count)
        .map(|_| RecordWrite {
            due_at: dice.one_in(3).then(|| dice.time(known.now)),
            body: (!dice.one_in(4)).then(|| format!("{{\"n\":{}}}", dice.below(100))),
            ..put(IDS[dice.index(IDS.len())], dice.below(4), "")
        })
        .collect()
}

/// Questions that are asked of every process after an operation.
#[derive(Debug)]
struct Look {
    listing: Listing,
    records: RecordListing,
    execution: ExecutionId,
    after: u64,
    now: Timestamp,
}

impl Look {
    fn draw(dice: &mut Dice, known: &Known) -> Self {
        let statuses = match dice.below(3) {
            0 => vec![ExecutionStatus::Running, ExecutionStatus::Queued],
            _ => vec![],
        };
        let time = |dice: &mut Dice| dice.one_in(5).then(|| dice.time(known.now));
        let listing = Listing {
            statuses,
            created_after: time(dice),
            created_before: time(dice),
            updated_before: time(dice),
            workflow: dice.one_in(4).then(|| "wf_1".to_owned()),
            after: dice.one_in(4).then(|| id(dice.below(EXECUTIONS))),
            order: *dice.pick(&[Order::NewestFirst, Order::OldestFirst]),
            limit: 1 + u32::try_from(dice.below(8)).expect("a small number"),
        };
        let records = RecordListing {
            kind: "thing",
            due: dice.one_in(2).then(|| dice.time(known.now)),
            after: dice.one_in(3).then(|| "x".to_owned()),
            limit: 1 + u32::try_from(dice.below(3)).expect("a small number"),
        };
        Self {
            listing,
            records,
            execution: id(dice.below(EXECUTIONS)),
            after: dice.below(4),
            now: at(known.now),
        }
    }

    /// All that a process sees, each answer as text.
    async fn at(&self, node: &Node) -> Vec<String> {
        let all = Listing {
            order: Order::OldestFirst,
            limit: 100,
            ..Listing::default()
        };
        let (mut owned, mut written) = (
            node.owned().await.unwrap(),
            node.written_by_others().await.unwrap(),
        );
        owned.sort();
        written.sort();
        vec![
            text(&node.list(all).await),
            text(&node.list(self.listing.clone()).await),
            text(&node.load(self.execution).await),
            text(&node.events(self.execution, self.after, 2).await),
            text(&node.records(self.records.clone()).await),
            text(&node.record("thing", "x".to_owned()).await),
            text(&node.document(document("v").digest).await),
            text(&node.next_due().await),
            text(&node.queued(self.now, 3).await),
            text(&owned),
            text(&written),
        ]
    }
}
