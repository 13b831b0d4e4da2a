//! What servers remove by themselves when it has been kept long enough, in both databases, alone and together; and what
//! they never remove.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use e2e::operator::{Operator, until};
use e2e::server::Server;
use futures::future::join_all;
use serde_json::json;

/// The ids of what is left, sorted.
async fn left(operator: &Operator) -> Vec<String> {
    let listed = operator.place.list().await;
    let ids = listed.iter().map(|one| one["id"].as_str().unwrap());
    let mut ids: Vec<_> = ids.map(str::to_owned).collect();
    ids.sort();
    ids
}

/// Each setting removes those of its own end, and never what waits.
async fn each_end_has_its_own_setting(kind: fn() -> Operator) {
    let cases = ["completed", "failed", "cancelled"].map(async |word| {
        let operator = kind();
        let mut ids = vec![
            operator.completed("a").await,
            operator.failed("b").await,
            operator.cancelled("c").await,
            operator.waiting("d").await,
        ];
        let place = ["completed", "failed", "cancelled"].map(|end| end == word);
        let gone = ids.remove(place.iter().position(|is_it| *is_it).unwrap());
        ids.sort();
        let config = format!("[retention]\n{word}_days = 0\n");
        operator.place.write("troupe.toml", config);
        let server = Server::start(operator.place.serve()).await;
        until(async || !left(&operator).await.contains(&gone)).await;
        assert_eq!(left(&operator).await, ids, "{word}");
        assert!(server.terminate().await.success());
        operator.verify(&[], 0).await;
    });
    join_all(cases).await;
}

#[tokio::test]
async fn each_end_has_its_own_setting_in_sqlite() {
    each_end_has_its_own_setting(Operator::new).await;
}

#[tokio::test]
async fn each_end_has_its_own_setting_in_postgres() {
    each_end_has_its_own_setting(Operator::in_postgres).await;
}

/// Two servers find the same executions.
async fn two_servers_get_in_nobodys_way(operator: &Operator) {
    for number in 0..12 {
        operator.completed(&format!("{number}")).await;
    }
    let waits = operator.waiting("b").await;
    operator.place.write(
        "troupe.toml",
        "[retention]\ncompleted_days = 0\nfailed_days = 0\ncancelled_days = 0\nbatch = 2\n",
    );
    let servers = [(); 2].map(|()| Server::start(operator.place.serve()));
    let servers = join_all(servers).await;
    until(async || left(operator).await.len() == 1).await;
    assert_eq!(left(operator).await, std::slice::from_ref(&waits));
    // What waited goes on.
    let approved = json!({ "approved": true });
    servers[0]
        .act(&waits, "/approve", &approved)
        .await
        .expect(200);
    servers[1].wait_for(&waits, "completed").await;
    for server in servers {
        let said = server.said();
        assert!(!said.contains("cannot be removed"), "{said}");
        assert!(server.terminate().await.success());
    }
    operator.verify(&[], 0).await;
}

#[tokio::test]
async fn two_servers_get_in_nobodys_way_in_sqlite() {
    two_servers_get_in_nobodys_way(&Operator::new()).await;
}

#[tokio::test]
async fn two_servers_get_in_nobodys_way_in_postgres() {
    two_servers_get_in_nobodys_way(&Operator::in_postgres()).await;
}
