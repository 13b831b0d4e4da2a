//! The gate: never too many inside, everybody gets in, nobody is passed over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures::future::join_all;
use futures::{FutureExt as _, poll};
use troupe_workflow::ExecutionId;

use super::Gate;
use crate::tasks;

fn key(number: u64) -> ExecutionId {
    ExecutionId::from_parts(number, 0)
}

/// Nothing is left of those who waited, and all places are free.
fn assert_empty(gate: &Gate, capacity: usize) {
    let state = gate.lock();
    assert!(state.turns.is_empty() && state.lines.is_empty());
    assert_eq!(state.free, capacity);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_tasks_are_never_too_many_at_once() {
    const CAPACITY: usize = 7;
    let gate = Gate::new(CAPACITY);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let all = (0..1_000).map(|number| {
        let (gate, inside, most) = (gate.clone(), Arc::clone(&inside), Arc::clone(&most));
        tasks::spawn("test", async move {
            for _ in 0..5 {
                let _pass = gate.enter(key(number % 13)).await;
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            }
        })
    });
    for done in join_all(all).await {
        done.unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= CAPACITY);
    assert_empty(&gate, CAPACITY);
}

#[tokio::test]
async fn places_go_round_between_executions_and_in_order_within_one() {
    let gate = Gate::new(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = gate.enter(key(0)).await;
    // Execution 1 comes with 1,000 calls, then 2 with three and 3 with one.
    let calls = (0..1_000)
        .map(|call| (1, call))
        .chain((0..3).map(|call| (2, call)))
        .chain([(3, 0)]);
    let mut waiting = Vec::new();
    for (execution, call) in calls {
        let (gate, order) = (gate.clone(), Arc::clone(&order));
        let mut wait = Box::pin(async move {
            let _pass = gate.enter(key(execution)).await;
            order.lock().unwrap().push((execution, call));
        });
        assert!(poll!(&mut wait).is_pending());
        waiting.push(wait);
    }
    drop(first);
    // Each is polled only when it is woken, so that the order is that of the gate.
    join_all(waiting).await;
    let order = order.lock().unwrap();
    let expected = [
        (1, 0),
        (2, 0),
        (3, 0),
        (1, 1),
        (2, 1),
        (1, 2),
        (2, 2),
        (1, 3),
        (1, 4),
    ];
    assert_eq!(order[..9], expected);
    assert!(order[9..].is_sorted() && order.len() == 1_004);
    assert_empty(&gate, 1);
}

#[tokio::test]
async fn whoever_gives_up_leaves_nothing_and_passes_on_what_it_was_given() {
    let gate = Gate::new(1);
    let inside = gate.enter(key(1)).await;
    let mut gives_up = Box::pin(gate.enter(key(2)));
    let mut given_and_gone = Box::pin(gate.enter(key(3)));
    let mut stays = Box::pin(gate.enter(key(4)));
    assert!(poll!(&mut gives_up).is_pending());
    assert!(poll!(&mut given_and_gone).is_pending());
    assert!(poll!(&mut stays).is_pending());
    drop(gives_up);
    // The place is on its way to the second, which goes without having looked.
    drop(inside);
    assert!((&mut stays).now_or_never().is_none());
    drop(given_and_gone);
    let pass = stays.now_or_never();
    assert!(pass.is_some());
    drop(pass);
    assert_empty(&gate, 1);
}

#[tokio::test]
async fn a_gate_has_at_least_one_place() {
    let gate = Gate::new(0);
    assert!(gate.enter(key(1)).now_or_never().is_some());
}

#[tokio::test]
async fn whoever_cancels_when_all_others_finish() {
    const CAPACITY: usize = 3;
    let gate = Gate::new(CAPACITY);
    // A small generator: the same run each time.
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut all = Vec::new();
    for number in 0..2_000_u64 {
        let gate = gate.clone();
        // Time is counted in rounds of the runtime.
        let (comes, stays, patience) = (random(500), random(4), random(2_000));
        let is_patient = random(2) == 0;
        all.push(tasks::spawn("test", async move {
            rounds(comes).await;
            let mut enter = Box::pin(gate.enter(key(number % 17)));
            if is_patient {
                let _pass = enter.await;
                rounds(stays).await;
                return true;
            }
            for _ in 0..patience {
                if let Poll::Ready(_pass) = poll!(&mut enter) {
                    rounds(stays).await;
                    return true;
                }
                rounds(1).await;
            }
            false
        }));
    }
    let mut finished = 0;
    for task in all {
        finished += usize::from(task.await.unwrap());
    }
    assert!(finished > 1_000 && finished < 2_000, "{finished}");
    assert_empty(&gate, CAPACITY);
}

async fn rounds(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancellations_on_many_threads_lose_no_place() {
    const CAPACITY: usize = 2;
    let gate = Gate::new(CAPACITY);
    let all = (0..400_u64).map(|number| {
        let gate = gate.clone();
        tasks::spawn("test", async move {
            for round in 0..50 {
                let mut enter = Box::pin(gate.enter(key(number % 5)));
                if (number + round) % 3 == 0 {
                    // Looks once, lets others go on, and leaves, perhaps with a place on its way.
                    let looked = poll!(&mut enter);
                    tokio::task::yield_now().await;
                    drop(looked);
                    drop(enter);
                } else {
                    let _pass = enter.await;
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for done in join_all(all).await {
        done.unwrap();
    }
    assert_empty(&gate, CAPACITY);
}
