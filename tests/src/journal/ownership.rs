//! Rules of who works on an execution.

use std::collections::BTreeSet;

use futures::future::join_all;
use troupe_journal::{AppendError, Claim, FirstOwner, NewExecution, Release};
use troupe_workflow::Snapshot;

use super::samples::{
    at, by_owner, claim, claimed_ids, document, ending, free, from_outside, id, new, new_of,
    release, skipped,
};
use super::{Lab, Rule, rule};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(what_is_due_longest_is_taken_first),
        rule(nothing_is_claimed_before_it_is_due_or_while_it_is_owned),
        rule(workflows_that_are_left_out_are_not_claimed),
        rule(two_processes_never_claim_the_same),
        rule(what_a_living_process_owns_is_not_taken),
        rule(what_nobody_owns_is_taken_though_it_is_not_due),
        rule(what_a_dead_process_owned_is_taken),
        rule(of_two_that_take_the_same_one_does),
        rule(what_is_released_is_due_when_it_says),
        rule(what_others_wrote_at_the_last_moment_stays_with_the_owner),
        rule(only_the_owner_releases),
        rule(a_release_keeps_the_snapshot),
        rule(a_beat_frees_what_the_dead_own),
        rule(each_change_of_owner_counts),
    ]
}

async fn what_is_due_longest_is_taken_first(lab: Lab) {
    let node = lab.open("a").await;
    for number in [7, 3, 9, 1, 5] {
        node.create(free(number)).await.unwrap();
    }
    assert_eq!(claimed_ids(&node, 8, 2).await, [id(1), id(3)]);
    assert_eq!(claimed_ids(&node, 8, 9).await, [id(5), id(7)]);
    assert_eq!(claimed_ids(&node, 8, 9).await, []);
    assert_eq!(claimed_ids(&node, 9, 9).await, [id(9)]);
    // Due at the same time: those that are older.
    for number in [7, 3, 9, 1, 5] {
        let claimed = node.owned().await.unwrap();
        let (_, epoch) = claimed
            .iter()
            .find(|(which, _)| *which == id(number))
            .unwrap();
        node.release(release(number, *epoch, 1, Some(20)))
            .await
            .unwrap();
    }
    assert_eq!(claimed_ids(&node, 20, 3).await, [id(1), id(3), id(5)]);
}

async fn nothing_is_claimed_before_it_is_due_or_while_it_is_owned(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    a.create(free(10)).await.unwrap();
    let epoch = a.create(new(1)).await.unwrap();
    assert_eq!(claimed_ids(&b, 9, 9).await, []);
    assert_eq!(claimed_ids(&b, 10, 0).await, []);
    assert_eq!(claimed_ids(&b, 10, 9).await, [id(10)]);
    // A timer, and an execution that waits for people.
    a.release(release(1, epoch, 1, Some(30))).await.unwrap();
    assert_eq!(claimed_ids(&b, 29, 9).await, []);
    let claimed = claim(&b, 30, 9).await.remove(0);
    b.release(release(1, claimed.epoch, 1, None)).await.unwrap();
    assert_eq!(claimed_ids(&b, i64::MAX, 9).await, []);
    let row = a.find(id(10)).await.unwrap();
    assert_eq!((row.owner.as_deref(), row.due_at), (Some("b"), None));
}

async fn workflows_that_are_left_out_are_not_claimed(lab: Lab) {
    let a = lab.open("a").await;
    for (number, workflow) in [(1, "left"), (2, "other"), (3, "left")] {
        let new = NewExecution {
            first_owner: FirstOwner::Anyone,
            ..new_of(number, workflow, serde_json::json!({}))
        };
        a.create(new).await.unwrap();
    }
    let claim = |except| Claim {
        now: at(1_000),
        limit: 10,
        except,
    };
    let left = document("left").digest;
    let claimed = a.claim(claim(vec![left.clone()])).await.unwrap();
    assert_eq!(
        claimed.iter().map(|one| one.id).collect::<Vec<_>>(),
        [id(2)]
    );
    let claimed = a.claim(claim(Vec::new())).await.unwrap();
    assert!(claimed.iter().all(|one| one.digest == left));
    assert_eq!(claimed.len(), 2);
}

async fn two_processes_never_claim_the_same(lab: Lab) {
    const EXECUTIONS: u64 = 60;
    let nodes = [lab.open("a").await, lab.open("b").await];
    let created = (0..EXECUTIONS).map(|number| nodes[0].create(free(number)));
    for result in join_all(created).await {
        result.unwrap();
    }
    let (mut seen, mut total) = (BTreeSet::new(), 0);
    while total < 60 {
        let claims = nodes.iter().cycle().take(8);
        let claimed = join_all(claims.map(|node| claimed_ids(node, 100, 3))).await;
        let claimed = claimed.concat();
        assert!(!claimed.is_empty(), "{total} were claimed, then none");
        total += claimed.len();
        seen.extend(claimed);
    }
    assert_eq!((seen.len(), total), (60, 60));
    let mut owned = 0;
    for node in &nodes {
        owned += node.owned().await.unwrap().len();
    }
    assert_eq!(owned, 60);
}

async fn what_a_living_process_owns_is_not_taken(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    a.create(new(1)).await.unwrap();
    for node in [&a, &b] {
        let refused = node.take(id(1)).await;
        assert!(
            matches!(&refused, Err(AppendError::Owned { owner }) if owner == "a"),
            "{refused:?}"
        );
    }
    let missing = b.take(id(2)).await;
    assert!(matches!(missing, Err(AppendError::NotFound(which)) if which == id(2)));
}

async fn what_nobody_owns_is_taken_though_it_is_not_due(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    let epoch = a.create(new(1)).await.unwrap();
    a.release(release(1, epoch, 1, None)).await.unwrap();
    let taken = b.take(id(1)).await.unwrap();
    assert_eq!(taken.id, id(1));
    let events = [skipped(2)];
    b.append(by_owner(1, 1, taken.epoch, &events))
        .await
        .unwrap();
    let refused = a.append(by_owner(1, 2, epoch, &events)).await;
    assert!(matches!(refused, Err(AppendError::Fenced)));
}

async fn what_a_dead_process_owned_is_taken(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    let old = a.create(new(1)).await.unwrap();
    a.die().await;
    let taken = b.take(id(1)).await.unwrap();
    assert_ne!(taken.epoch, old);
    assert_eq!(b.owned().await.unwrap(), [(id(1), taken.epoch)]);
}

async fn of_two_that_take_the_same_one_does(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    for number in 0..20 {
        let dead = lab.open(&format!("dead{number}")).await;
        dead.create(new(number)).await.unwrap();
        dead.die().await;
        let (first, second) = tokio::join!(a.take(id(number)), b.take(id(number)));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let refused = first.and(second).unwrap_err();
        assert!(matches!(refused, AppendError::Owned { .. }), "{refused:?}");
    }
}

async fn what_is_released_is_due_when_it_says(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    assert!(node.release(release(1, epoch, 1, Some(40))).await.unwrap());
    let row = node.find(id(1)).await.unwrap();
    assert_eq!((row.owner, row.due_at), (None, Some(at(40))));
    assert_eq!(node.next_due().await.unwrap(), Some(at(40)));
}

async fn what_others_wrote_at_the_last_moment_stays_with_the_owner(lab: Lab) {
    let (owner, person) = (lab.open("owner").await, lab.open("person").await);
    let epoch = owner.create(new(1)).await.unwrap();
    let said = [skipped(2)];
    person.append(from_outside(1, 1, &said)).await.unwrap();
    // The person sees a living owner, and leaves the rest to it.
    assert!(person.take(id(1)).await.is_err());
    assert!(!owner.release(release(1, epoch, 1, None)).await.unwrap());
    let row = owner.find(id(1)).await.unwrap();
    assert_eq!(
        (row.owner.as_deref(), row.due_at),
        (Some("owner"), Some(at(2)))
    );
    assert!(owner.release(release(1, epoch, 2, None)).await.unwrap());
    let row = owner.find(id(1)).await.unwrap();
    assert_eq!((row.owner, row.due_at), (None, None));
}

async fn only_the_owner_releases(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    let old = a.create(new(1)).await.unwrap();
    a.release(release(1, old, 1, Some(5))).await.unwrap();
    // Nothing is left to give back, and nothing is changed.
    assert!(a.release(release(1, old, 1, Some(7))).await.unwrap());
    assert_eq!(a.find(id(1)).await.unwrap().due_at, Some(at(5)));
    claim(&b, 5, 1).await;
    assert!(a.release(release(1, old, 1, Some(7))).await.unwrap());
    assert_eq!(a.find(id(1)).await.unwrap().owner.as_deref(), Some("b"));
    let missing = a.release(release(2, old, 1, None)).await;
    assert!(
        matches!(missing, Err(AppendError::NotFound(_))),
        "{missing:?}"
    );
}

async fn a_release_keeps_the_snapshot(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let snapshot = Snapshot {
        version: 1,
        build: "b".to_owned(),
        state: "{}".to_owned(),
    };
    let kept = Release {
        snapshot: Some(snapshot.clone()),
        ..release(1, epoch, 1, None)
    };
    // Refused: somebody wrote meanwhile.
    let said = [skipped(2)];
    node.append(from_outside(1, 1, &said)).await.unwrap();
    assert!(!node.release(kept.clone()).await.unwrap());
    assert_eq!(node.load(id(1)).await.unwrap().snapshot, None);
    assert!(node.release(Release { version: 2, ..kept }).await.unwrap());
    let stored = node.load(id(1)).await.unwrap();
    assert_eq!((stored.snapshot, stored.events.len()), (Some(snapshot), 1));
}

async fn a_beat_frees_what_the_dead_own(lab: Lab) {
    let (a, b, c) = (
        lab.open("a").await,
        lab.open("b").await,
        lab.open("c").await,
    );
    a.create(new(1)).await.unwrap();
    let epoch = a.create(new(2)).await.unwrap();
    let events = [skipped(3)];
    a.append(ending(by_owner(2, 1, epoch, &events)))
        .await
        .unwrap();
    a.create(new(3)).await.unwrap();
    b.create(new(4)).await.unwrap();
    c.create(new(5)).await.unwrap();
    assert_eq!(b.beat(at(8)).await.unwrap().freed, 0);
    a.die().await;
    b.die().await;
    assert_eq!(c.beat(at(9)).await.unwrap().freed, 3);
    for number in [1, 3, 4] {
        let row = c.find(id(number)).await.unwrap();
        assert_eq!((row.owner, row.due_at), (None, Some(at(9))));
    }
    assert_eq!(c.find(id(2)).await.unwrap().due_at, None);
    assert_eq!(c.find(id(5)).await.unwrap().owner.as_deref(), Some("c"));
    assert_eq!(c.beat(at(10)).await.unwrap().freed, 0);
    assert_eq!(claimed_ids(&c, 9, 9).await, [id(1), id(3), id(4)]);
}

async fn each_change_of_owner_counts(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    let mut epoch = a.create(new(1)).await.unwrap();
    for (node, other) in [(&a, &b), (&b, &a)].into_iter().cycle().take(4) {
        node.release(release(1, epoch, 1, Some(1))).await.unwrap();
        let next = claim(other, 1, 1).await.remove(0).epoch;
        assert!(next > epoch);
        epoch = next;
    }
}
