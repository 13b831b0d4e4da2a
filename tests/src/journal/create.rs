//! Rules of creating executions.

use troupe_journal::{AppendError, NewExecution, WorkflowVersion};
use troupe_workflow::ExecutionStatus;

use super::samples::{at, body, document, free, id, new, put};
use super::{Lab, Rule, rule};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(what_is_created_is_there),
        rule(what_anyone_may_take_is_due_at_once),
        rule(a_second_execution_of_one_id_is_refused),
        rule(a_record_that_is_there_refuses_the_creation),
        rule(of_two_that_create_the_same_at_once_one_does),
    ]
}

async fn what_is_created_is_there(lab: Lab) {
    let node = lab.open("a").await;
    let version = WorkflowVersion {
        id: "wf_1".to_owned(),
        version: 3,
    };
    let new = NewExecution {
        workflow: Some(version.clone()),
        records: vec![put("key", 0, "1")],
        ..new(5)
    };
    node.create(new.clone()).await.unwrap();
    let row = node.find(id(5)).await.unwrap();
    assert_eq!(
        (row.id, row.workflow_name.as_str(), &row.digest),
        (id(5), "w", &new.document.digest)
    );
    assert_eq!((row.status, row.version), (ExecutionStatus::Queued, 1));
    assert_eq!(
        (row.workflow, &row.settings),
        (Some(version), &new.settings)
    );
    assert_eq!((row.owner.as_deref(), row.due_at), (Some("a"), None));
    assert_eq!((row.created_at, row.updated_at), (at(5), at(5)));
    assert_eq!(node.all_events(id(5)).await.unwrap(), [new.created]);
    assert_eq!(
        node.document(new.document.digest.clone()).await.unwrap(),
        document("w")
    );
    assert_eq!(body(&node, "key").await.as_deref(), Some("1"));
}

async fn what_anyone_may_take_is_due_at_once(lab: Lab) {
    let node = lab.open("a").await;
    node.create(free(5)).await.unwrap();
    let row = node.find(id(5)).await.unwrap();
    assert_eq!((row.owner, row.due_at), (None, Some(at(5))));
}

async fn a_second_execution_of_one_id_is_refused(lab: Lab) {
    let node = lab.open("a").await;
    node.create(new(1)).await.unwrap();
    let before = node.find(id(1)).await.unwrap();
    let second = NewExecution {
        document: document("other"),
        settings: "2".to_owned(),
        records: vec![put("key", 0, "1")],
        ..free(1)
    };
    let refused = node.create(second).await;
    assert!(
        matches!(&refused, Err(AppendError::Exists(which)) if *which == id(1)),
        "{refused:?}"
    );
    assert_eq!(node.find(id(1)).await.unwrap(), before);
    assert_eq!(body(&node, "key").await, None);
    node.document(document("other").digest).await.unwrap_err();
}

async fn a_record_that_is_there_refuses_the_creation(lab: Lab) {
    let node = lab.open("a").await;
    let with_key = |number| NewExecution {
        records: vec![put("free", 0, "1"), put("key", 0, "1")],
        ..new(number)
    };
    node.write(vec![], vec![put("key", 0, "0")]).await.unwrap();
    let refused = node.create(with_key(1)).await;
    assert!(
        matches!(&refused, Err(AppendError::Record { kind: "thing", id }) if id == "key"),
        "{refused:?}"
    );
    node.find(id(1)).await.unwrap_err();
    node.document(document("w").digest).await.unwrap_err();
    assert_eq!(body(&node, "key").await.as_deref(), Some("0"));
    assert_eq!(body(&node, "free").await, None);
}

async fn of_two_that_create_the_same_at_once_one_does(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    for number in 1..20 {
        let with_key = |number| NewExecution {
            records: vec![put(&format!("key{}", number / 100), 0, "1")],
            ..new(number)
        };
        // The same key: two ids of which one remains.
        let (first, second) = tokio::join!(
            a.create(with_key(number * 100)),
            b.create(with_key(number * 100 + 1))
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let refused = first.and(second).unwrap_err();
        assert!(matches!(refused, AppendError::Record { .. }), "{refused:?}");
        // The same id.
        let same = 10_000 + number;
        let (first, second) = tokio::join!(a.create(new(same)), b.create(new(same)));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let refused = first.and(second).unwrap_err();
        assert!(matches!(refused, AppendError::Exists(_)), "{refused:?}");
    }
}
