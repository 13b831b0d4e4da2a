//! What no crash, no lost answer and no full disk may do to `troupe serve` on SQLite: lose something, or do it twice.

use e2e::load::{Scene, kill_points, sweep};
use e2e::renewal;
use e2e::server::Server;

#[tokio::test]
async fn nothing_disturbs_the_load() {
    let scene = Scene::new(None, 3, "").await;
    assert!(scene.live(scene.place.serve()).await);
    scene.check(0).await;
}

#[tokio::test]
async fn killed_anywhere_it_ends_the_same() {
    let mut points = kill_points("append", 3, 90);
    points.extend(kill_points("effect", 2, 22));
    points.extend(kill_points("attempt", 3, 20));
    points.extend(kill_points("create", 1, 2));
    points.extend(kill_points("claim", 1, 4));
    points.extend(kill_points("release", 1, 4));
    points.extend(kill_points("records", 1, 2));
    let given = points.len();
    let met = sweep(points, || None).await;
    // How the load falls into claims and releases differs from run to run.
    assert!(
        met.len() * 4 >= given * 3,
        "only {met:?} of {given} points were met"
    );
}

#[tokio::test]
async fn with_any_answer_lost_it_ends_the_same() {
    let mut points: Vec<String> = (1..90)
        .step_by(9)
        .map(|number| format!("append:{number}:lost"))
        .collect();
    for place in ["create", "claim", "release", "records"] {
        points.extend((1..=3).map(|number| format!("{place}:{number}:lost")));
    }
    let met = sweep(points, || None).await;
    assert!(met.is_empty(), "a lost answer ended {met:?}");
}

#[tokio::test]
async fn a_sign_of_life_whose_answer_is_lost_is_given_again() {
    let scene = Scene::new(None, 2, "").await;
    assert!(
        !scene
            .live(
                scene
                    .place
                    .serve()
                    .variable("TROUPE_FAIL_POINT", "append:9:after")
            )
            .await
    );
    // The second process frees what the first one owned, and does not hear of it.
    let call = scene
        .place
        .serve()
        .variable("TROUPE_FAIL_POINT", "beat:1:lost");
    let server = Server::start(call).await;
    assert!(scene.user.work(&server.client()).await);
    server.kill().await;
    scene.check(1).await;
}

#[tokio::test]
async fn at_any_sign_of_life_it_ends_the_same() {
    let mut points = kill_points("renew", 1, 2);
    points.extend((1..=2).map(|number| format!("renew:{number}:lost")));
    let met = sweep(points, || None).await;
    let killed = kill_points("renew", 1, 2);
    assert_eq!(met.len(), killed.len(), "{met:?} of {killed:?} were met");
}

#[tokio::test]
async fn at_a_sign_of_life_with_a_request_under_way_nothing_is_lost() {
    renewal::everywhere(|| None).await;
}
