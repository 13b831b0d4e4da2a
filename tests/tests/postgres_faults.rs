//! What no crash, no stalled process and no lost database may do to `troupe serve` on PostgreSQL: lose something, or do
//! it twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::load::{Scene, kill_points, sweep};
use e2e::loopback::{Gate, Loopback, Reply, Route};
use e2e::postgres::Postgres;
use e2e::renewal;
use e2e::server::{Server, until};
use e2e::troupe::{Workplace, step};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longer than a process counts as alive here.
const LEASE_MS: u32 = 1_500;

/// A step that never comes to an end by itself.
fn endless() -> Value {
    code("while (true) {}", &json!({ "timeout_ms": 3_600_000 }))
}

fn code(source: &str, limits: &Value) -> Value {
    json!({
        "name": "Code",
        "agents": [{ "id": "coder", "type": "code", "language": "javascript", "code": source, "limits": limits }],
        "steps": [{ "id": "run", "agent": "coder", "action": "run", "input": 1 }],
        "config": { "max_retries": 0 },
    })
}

async fn place(database: &str) -> (Loopback, Workplace) {
    place_with(database, "").await
}

/// `more` is added to the server's section.
async fn place_with(database: &str, more: &str) -> (Loopback, Workplace) {
    let loopback = Loopback::start().await;
    loopback.always(Route::OpenAi, Reply::text("so it is"));
    let mut place = Workplace::new();
    let config = format!("[server]\nlease_ms = {LEASE_MS}\n{more}");
    place.connect(&loopback, &config);
    place.set("TROUPE_DATABASE", database);
    (loopback, place)
}

#[tokio::test]
async fn killed_anywhere_it_ends_the_same() {
    let mut points = kill_points("append", 11, 90);
    points.extend(kill_points("effect", 6, 22));
    points.extend(kill_points("attempt", 6, 20));
    points.extend(kill_points("create", 1, 2));
    points.extend(kill_points("claim", 1, 2));
    points.extend(kill_points("release", 1, 2));
    let given = points.len();
    let met = sweep(points, || Some(Postgres::shared().database())).await;
    assert!(
        met.len() * 4 >= given * 3,
        "only {met:?} of {given} points were met"
    );
}

#[tokio::test]
async fn with_any_answer_lost_it_ends_the_same() {
    let mut points: Vec<String> = (1..90)
        .step_by(17)
        .map(|number| format!("append:{number}:lost"))
        .collect();
    for place in ["create", "claim", "release", "records"] {
        points.extend((1..=2).map(|number| format!("{place}:{number}:lost")));
    }
    let met = sweep(points, || Some(Postgres::shared().database())).await;
    assert!(met.is_empty(), "a lost answer ended {met:?}");
}

#[tokio::test]
async fn a_process_that_stalls_comes_too_late_and_goes_on() {
    let (loopback, place) = place(&Postgres::shared().database()).await;
    let gate = Gate::closed();
    loopback.script(
        Route::OpenAi,
        [
            Reply::text("too late").behind(&gate),
            Reply::text("in time"),
        ],
    );
    let stalled = Server::start(place.serve()).await;
    let id = stalled.run_document(&renewal::document(), &json!({})).await;
    loopback.wait_for(1).await;
    let other = Server::start(place.serve()).await;
    stalled.stall().await;
    let done = other.wait_for(&id, "completed").await;
    assert_eq!(step(&done, "ask")["output"], "in time", "{done:#}");
    let events = place.events(&id).await;
    gate.open();
    stalled.go_on().await;
    stalled.wait_ready().await;
    let idle = until(async || {
        (stalled.get("/readyz").await.body["executions_at_work"] == 0).then_some(())
    });
    assert!(idle.await.is_some(), "it works on what is not its own");
    assert_eq!(
        place.events(&id).await,
        events,
        "what came too late was recorded"
    );
    assert_eq!(stalled.execution(&id).await, done);
    assert_eq!(loopback.requests().len(), 3);
    other.kill().await;
    let next = stalled.run_document(&renewal::document(), &json!({})).await;
    stalled.wait_for(&next, "completed").await;
    assert_eq!(loopback.requests().len(), 5);
}

#[tokio::test]
async fn what_comes_back_to_a_stalled_process_is_done_once() {
    let (loopback, mut place) = place(&Postgres::shared().database()).await;
    place.set("TROUPE_LOG", "info");
    let (first, last) = (Gate::closed(), Gate::closed());
    let answers = [
        Reply::text("too late").behind(&first),
        Reply::hang(),
        Reply::text("in time").behind(&last),
    ];
    loopback.script(Route::OpenAi, answers);
    let stalled = Server::start(place.serve()).await;
    let id = stalled.run_document(&renewal::document(), &json!({})).await;
    loopback.wait_for(1).await;
    let other = Server::start(place.serve()).await;
    stalled.stall().await;
    loopback.wait_for(2).await;
    other.kill().await;
    stalled.go_on().await;
    // It takes the execution up that it lost, while its own older attempt still waits for an answer.
    loopback.wait_for(3).await;
    first.open();
    // Long enough for what nobody works on to be given back.
    tokio::time::sleep(Duration::from_millis(u64::from(LEASE_MS) * 2)).await;
    last.open();
    let done = stalled.wait_for(&id, "completed").await;
    assert_eq!(step(&done, "ask")["output"], "in time", "{done:#}");
    assert_eq!(loopback.requests().len(), 4, "{}", stalled.said());
}

#[tokio::test]
async fn a_request_ends_when_its_process_learns_that_it_was_taken_for_dead() {
    let (loopback, place) = place(&Postgres::shared().database()).await;
    loopback.script(Route::OpenAi, [Reply::hang(), Reply::text("in time")]);
    let stalled = Server::start(place.serve()).await;
    let id = stalled.run_document(&renewal::document(), &json!({})).await;
    loopback.wait_for(1).await;
    let other = Server::start(place.serve()).await;
    stalled.stall().await;
    let done = other.wait_for(&id, "completed").await;
    assert_eq!(loopback.under_way(), 1, "the stalled process still waits");
    stalled.go_on().await;
    let ended = until(async || (loopback.under_way() == 0).then_some(()));
    assert!(ended.await.is_some(), "it waits for what nobody wants");
    let idle = until(async || {
        (stalled.get("/readyz").await.body["executions_at_work"] == 0).then_some(())
    });
    assert!(idle.await.is_some(), "it works on what is not its own");
    assert_eq!(stalled.execution(&id).await, done);
    assert_eq!(loopback.requests().len(), 3);
}

#[tokio::test]
async fn a_component_ends_when_its_process_learns_that_it_was_taken_for_dead() {
    // The endless one leaves no place for another.
    let (_loopback, place) = place_with(&Postgres::shared().database(), "guests = 1\n").await;
    let stalled = Server::start(place.serve()).await;
    let id = stalled.run_document(&endless(), &json!({})).await;
    let begun = until(async || {
        let shown = stalled.execution(&id).await;
        (step(&shown, "run")["status"] == "running").then_some(())
    });
    assert!(begun.await.is_some(), "it was not begun");
    let other = Server::start(place.serve()).await;
    stalled.stall().await;
    let interrupted = until(async || {
        let events = place.events(&id).await;
        let is_it = |event: &Value| event["type"] == "step_interrupted";
        events.iter().any(is_it).then_some(())
    });
    assert!(interrupted.await.is_some(), "nobody took it up");
    other.act(&id, "/cancel", &json!({})).await.expect(200);
    other.wait_for(&id, "cancelled").await;
    other.kill().await;
    stalled.go_on().await;
    stalled.wait_ready().await;
    let next = code("function run() { return 1; }", &json!({}));
    let next = stalled.run_document(&next, &json!({})).await;
    let done = stalled.wait_for(&next, "completed").await;
    assert_eq!(step(&done, "run")["output"], 1, "{done:#}");
}

#[tokio::test]
async fn a_command_that_stalls_ends_when_it_learns_that_it_was_taken_for_dead() {
    let (loopback, place) = place(&Postgres::shared().database()).await;
    loopback.script(Route::OpenAi, [Reply::hang(), Reply::text("in time")]);
    let file = place.write("question.json", renewal::document().to_string());
    let stalled = place.troupe(["run", &file.to_string_lossy()]).start();
    loopback.wait_for(1).await;
    let [row] = place.list().await.try_into().expect("one execution");
    let id = row["id"].as_str().expect("an id").to_owned();
    let other = Server::start(place.serve()).await;
    stalled.signal("STOP").await;
    other.wait_for(&id, "completed").await;
    let events = place.events(&id).await;
    stalled.signal("CONT").await;
    let ended = stalled.end().await;
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    assert!(ended.stderr.contains("another process"), "{ended}");
    assert_eq!(place.events(&id).await, events);
    assert_eq!(loopback.requests().len(), 3);
}

#[tokio::test]
async fn at_a_sign_of_life_with_a_request_under_way_nothing_is_lost() {
    renewal::everywhere(|| Some(Postgres::shared().database())).await;
}

#[tokio::test]
async fn at_any_sign_of_life_it_ends_the_same() {
    let points = kill_points("renew", 1, 4);
    let met = sweep(points, || Some(Postgres::shared().database())).await;
    assert!(met.len() >= 2, "only {met:?} were met");
}

#[tokio::test]
async fn a_process_that_ends_in_order_is_at_once_known_to_be_gone() {
    let database = Postgres::shared().database();
    // Nobody can wait for this lease to end.
    let (loopback, mut place) = place_with(&database, "grace_ms = 0\n").await;
    let config = std::fs::read_to_string(place.path("troupe.toml")).expect("its configuration");
    let long = config.replace(&format!("lease_ms = {LEASE_MS}"), "lease_ms = 3600000");
    place.write("troupe.toml", long);
    place.set("TROUPE_LOG", "info");
    loopback.script(Route::OpenAi, [Reply::hang()]);
    let server = Server::start(place.serve()).await;
    let id = server.run_document(&renewal::document(), &json!({})).await;
    loopback.wait_for(1).await;
    let nodes = || Postgres::shared().sql(&database, "SELECT count(*) FROM troupe.nodes");
    assert_eq!(nodes(), "1");
    assert!(server.terminate().await.success());
    assert_eq!(nodes(), "0", "it is still on the list");
    let next = Server::start(place.serve()).await;
    next.wait_for(&id, "completed").await;
    assert_eq!(loopback.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_again_and_again_loses_nothing() {
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let scene = Scene::new(Some(database.clone()), 200, "").await;
    let servers = [
        Server::start(scene.place.serve()).await,
        Server::start(scene.place.serve()).await,
    ];
    let is_done = Arc::new(AtomicBool::new(false));
    let faults = tokio::task::spawn_blocking({
        let is_done = Arc::clone(&is_done);
        move || {
            let mut count = 0;
            while !is_done.load(Ordering::Relaxed) && count < 10 {
                // Short against the load, which stands still while there is no database.
                std::thread::sleep(Duration::from_millis(500));
                if count % 2 == 0 {
                    postgres.stop_immediate();
                    postgres.start_again();
                } else {
                    postgres.kill_connections(&database);
                }
                count += 1;
            }
            (count, postgres)
        }
    });
    assert!(
        scene.user.work(&servers[0].client()).await,
        "the server ended: {}",
        servers[0].said()
    );
    is_done.store(true, Ordering::Relaxed);
    let (count, _postgres) = faults.await.expect("the faults");
    assert!(count >= 3, "the load was over after {count} faults");
    for server in servers {
        server.kill().await;
    }
    // Each fault may have ended what both servers did.
    scene.check(2 * count).await;
}

#[tokio::test]
async fn what_a_dead_process_leaves_is_finished_by_another() {
    /// More than both have places for: some are at work at either, and the others wait.
    const COUNT: usize = 1_000;
    /// More than one of them asks a service at once.
    const ASKED: usize = 24;
    let scene = Scene::new(Some(Postgres::shared().database()), COUNT, "").await;
    let gate = Gate::closed();
    scene
        .loopback
        .always(Route::OpenAi, Reply::text("so it is").behind(&gate));
    let (dying, living) = (
        Server::start(scene.place.serve()).await,
        Server::start(scene.place.serve()).await,
    );
    // All are promised by the one that dies.
    let promising = scene.user.step(&dying.client()).await;
    assert_eq!(promising, Ok(false), "{}", dying.said());
    scene.loopback.wait_for(ASKED).await;
    dying.kill().await;
    gate.open();
    assert!(scene.user.work(&living.client()).await, "{}", living.said());
    living.kill().await;
    scene.check(1).await;
}

#[tokio::test]
async fn machines_whose_clocks_differ_agree_on_time() {
    /// Long enough that the execution is given back while it waits.
    const WAIT: Duration = Duration::from_secs(3);
    let (_loopback, place) = place(&Postgres::shared().database()).await;
    let ahead = Server::start(place.serve().variable("TROUPE_CLOCK_OFFSET_MS", "3600000")).await;
    let right = Server::start(place.serve()).await;
    let timer = json!({
        "name": "Timer", "agents": [],
        "steps": [{ "id": "pause", "wait": { "seconds": WAIT.as_secs() } }, { "id": "end", "set": 1 }],
    });
    let began = Instant::now();
    let mut ids = Vec::new();
    for server in [&ahead, &right, &ahead, &right] {
        ids.push(server.run_document(&timer, &json!({})).await);
    }
    let mut created = Vec::new();
    for id in &ids {
        let done = right.wait_for(id, "completed").await;
        let passed = began.elapsed();
        assert!(
            passed >= WAIT && passed < WAIT * 4,
            "{id} was over after {passed:?}"
        );
        created.push(done["created_at"].as_str().expect("a time")[..13].to_owned());
    }
    created.dedup();
    assert!(created.len() <= 2, "created at {created:?}");
}
