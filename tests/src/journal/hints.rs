//! Rules of knowing when there is something to do.

use std::time::Duration;

use tokio::time::timeout;
use troupe_journal::RecordWrite;

use super::samples::{at, by_owner, claim, free, from_outside, id, new, put, release, skipped};
use super::{Lab, Node, Rule, rule};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(what_is_due_next_is_known),
        rule(what_waits_is_counted_up_to_a_bound),
        rule(what_another_process_writes_wakes),
        rule(what_was_written_before_anybody_waits_wakes_too),
    ]
}

async fn what_is_due_next_is_known(lab: Lab) {
    let node = lab.open("a").await;
    node.create(free(50)).await.unwrap();
    assert_eq!(node.next_due().await.unwrap(), Some(at(50)));
    let epoch = node.create(new(1)).await.unwrap();
    node.release(release(1, epoch, 1, Some(40))).await.unwrap();
    assert_eq!(node.next_due().await.unwrap(), Some(at(40)));
    let record = RecordWrite {
        due_at: Some(at(30)),
        ..put("x", 0, "1")
    };
    node.write(vec![], vec![record]).await.unwrap();
    assert_eq!(node.next_due().await.unwrap(), Some(at(30)));
    node.write(vec![], vec![put("x", 1, "1")]).await.unwrap();
    assert_eq!(claim(&node, 40, 1).await[0].id, id(1));
    assert_eq!(node.next_due().await.unwrap(), Some(at(50)));
    // Owned, though others wrote to it: that is its owner's to know.
    claim(&node, 50, 1).await;
    let said = [skipped(60)];
    node.append(from_outside(50, 1, &said)).await.unwrap();
    assert_eq!(node.next_due().await.unwrap(), None);
}

async fn what_waits_is_counted_up_to_a_bound(lab: Lab) {
    let node = lab.open("a").await;
    for number in 1..=5 {
        node.create(free(number)).await.unwrap();
    }
    node.create(new(6)).await.unwrap();
    assert_eq!(node.queued(at(9), 100).await.unwrap(), 5);
    assert_eq!(node.queued(at(3), 100).await.unwrap(), 3);
    assert_eq!(node.queued(at(9), 2).await.unwrap(), 2);
    assert_eq!(node.queued(at(9), 0).await.unwrap(), 0);
    claim(&node, 9, 4).await;
    assert_eq!(node.queued(at(9), 100).await.unwrap(), 1);
}

/// Nothing comes so late, on any machine.
const LONG: Duration = Duration::from_secs(60);

/// Waits as a server does: whoever is woken without a reason waits again.
async fn wait_for(node: &Node, version: u64) {
    let waiting = async {
        while node.find(id(1)).await.unwrap().version < version {
            node.changed().await;
        }
    };
    timeout(LONG, waiting).await.expect("it is woken");
}

async fn what_another_process_writes_wakes(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    let epoch = a.create(new(1)).await.unwrap();
    for version in 1..4 {
        let said = [skipped(2)];
        let writing = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let append = from_outside(1, version, &said);
            b.append(append).await.unwrap();
        };
        tokio::join!(wait_for(&a, version + 1), writing);
    }
    let events = [skipped(3)];
    a.append(by_owner(1, 4, epoch, &events)).await.unwrap();
    wait_for(&b, 5).await;
}

async fn what_was_written_before_anybody_waits_wakes_too(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    a.create(new(1)).await.unwrap();
    let said = [skipped(2)];
    for version in 1..4 {
        // Nobody waits at the moment of the write.
        drop(timeout(Duration::from_millis(1), a.changed()).await);
        b.append(from_outside(1, version, &said)).await.unwrap();
        timeout(LONG, a.changed()).await.expect("it is woken");
    }
}
