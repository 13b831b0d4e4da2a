//! Steps that hold steps: parallel blocks, branches, loops.

use serde_json::Value;

use super::super::{Fields, NESTING_MAX};
use super::{Room, StepSpec, read_list, read_step};
use crate::fault::Faults;
use crate::ids::Name;

#[derive(Debug, Clone)]
pub(crate) struct ParallelSpec {
    /// Each branch is a list of at least one step.
    pub(crate) branches: Vec<Vec<StepSpec>>,
    pub(crate) max_concurrency: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct BranchSpec {
    pub(crate) condition: String,
    pub(crate) then: Vec<StepSpec>,
    pub(crate) otherwise: Vec<StepSpec>,
}

#[derive(Debug, Clone)]
pub(crate) struct LoopSpec {
    pub(crate) kind: LoopKind,
    pub(crate) steps: Vec<StepSpec>,
}

#[derive(Debug, Clone)]
pub(crate) enum LoopKind {
    Items {
        items: Value,
        variable: Name,
        concurrency: u32,
    },
    /// Asked after a round: ends where it is true.
    Until { condition: String, rounds_max: u32 },
    /// Asked before a round: ends where it is false.
    While { condition: String, rounds_max: u32 },
}

/// Rounds at once: protects the host's memory.
const CONCURRENCY_MAX: u32 = 1_000;
/// Rounds of one loop: protects the journal.
pub(crate) const ROUNDS_MAX: u32 = 100_000;

/// Goes one block deeper, unless it is too deep.
fn deeper<T>(
    room: &mut Room,
    pointer: &str,
    faults: &mut Faults,
    read: impl FnOnce(&mut Room, &mut Faults) -> T,
) -> Option<T> {
    if room.depth >= NESTING_MAX {
        faults.add(
            pointer,
            format!("blocks are nested at most {NESTING_MAX} deep"),
        );
        return None;
    }
    room.depth += 1;
    let inside = read(room, faults);
    room.depth -= 1;
    Some(inside)
}

pub(super) fn read_parallel(
    fields: &mut Fields<'_>,
    room: &mut Room,
    faults: &mut Faults,
) -> Option<ParallelSpec> {
    let pointer = fields.at("parallel");
    let value = fields.required("parallel", faults)?;
    let max_concurrency = fields.count_from_one("max_concurrency", u32::MAX, faults);
    let Some(items) = value.as_array() else {
        fields.expected("parallel", value, "a list of steps", faults);
        return None;
    };
    if items.is_empty() {
        faults.add(pointer.as_str(), "this list needs at least one step");
    }
    let branches = deeper(room, &pointer, faults, |room, faults| {
        read_branches(items, &pointer, room, faults)
    })?;
    Some(ParallelSpec {
        branches,
        max_concurrency,
    })
}

fn read_branches(
    items: &[Value],
    pointer: &str,
    room: &mut Room,
    faults: &mut Faults,
) -> Vec<Vec<StepSpec>> {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let place = format!("{pointer}/{index}");
            if item.is_array() {
                read_list(item, &place, room, faults)
            } else {
                read_step(item, &place, room, faults).into_iter().collect()
            }
        })
        .filter(|branch: &Vec<StepSpec>| !branch.is_empty())
        .collect()
}

pub(super) fn read_branch(
    fields: &mut Fields<'_>,
    room: &mut Room,
    faults: &mut Faults,
) -> Option<BranchSpec> {
    let condition = fields.required_text("condition", faults);
    let then = fields.required("then", faults)?;
    let otherwise = fields.value("else");
    let (then_place, else_place) = (fields.at("then"), fields.at("else"));
    let then = deeper(room, &then_place, faults, |room, faults| {
        read_list(then, &then_place, room, faults)
    })?;
    let otherwise = match otherwise {
        Some(steps) => deeper(room, &else_place, faults, |room, faults| {
            read_list(steps, &else_place, room, faults)
        })?,
        None => Vec::new(),
    };
    Some(BranchSpec {
        // A missing one is a fault already; its steps are kept for those that name them.
        condition: condition.unwrap_or_else(|| "false".to_owned()),
        then,
        otherwise,
    })
}

pub(super) fn read_loop(
    fields: &mut Fields<'_>,
    room: &mut Room,
    faults: &mut Faults,
) -> Option<LoopSpec> {
    let value = fields.required("loop", faults)?;
    let pointer = fields.at("loop");
    let mut inner = Fields::of(value, &pointer, faults)?;
    let kind = read_loop_kind(&mut inner, faults);
    let steps = match inner.required("steps", faults) {
        Some(steps) => {
            let place = inner.at("steps");
            deeper(room, &place, faults, |room, faults| {
                read_list(steps, &place, room, faults)
            })
        }
        None => None,
    };
    inner.finish(faults);
    Some(LoopSpec {
        kind: kind?,
        steps: steps?,
    })
}

fn read_loop_kind(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<LoopKind> {
    let given: Vec<&'static str> = ["items", "until", "while"]
        .into_iter()
        .filter(|name| fields.has(name))
        .collect();
    match given.as_slice() {
        ["items"] => {
            let items = fields.required("items", faults).cloned();
            let variable = match fields.required("as", faults) {
                Some(_) => fields.name("as", faults),
                None => None,
            };
            let concurrency = fields
                .count_from_one("concurrency", CONCURRENCY_MAX, faults)
                .unwrap_or(1);
            Some(LoopKind::Items {
                items: items?,
                variable: variable?,
                concurrency,
            })
        }
        ["until" | "while"] => {
            let is_until = given == ["until"];
            let condition = if is_until {
                fields.required_text("until", faults)
            } else {
                fields.required_text("while", faults)
            };
            let rounds_max = match fields.required("max_iterations", faults) {
                Some(_) => fields.count_from_one("max_iterations", ROUNDS_MAX, faults),
                None => None,
            };
            let (condition, rounds_max) = (condition?, rounds_max?);
            Some(if is_until {
                LoopKind::Until {
                    condition,
                    rounds_max,
                }
            } else {
                LoopKind::While {
                    condition,
                    rounds_max,
                }
            })
        }
        _ => {
            // Fields of either kind are known, so that there is one fault for one mistake.
            for name in [
                "items",
                "as",
                "concurrency",
                "until",
                "while",
                "max_iterations",
            ] {
                fields.value(name);
            }
            faults.add(
                fields.pointer(),
                "a loop needs one of `items` (with `as`), `until` or `while` (with `max_iterations`)",
            );
            None
        }
    }
}
