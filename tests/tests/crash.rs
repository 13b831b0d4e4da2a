//! What `kill -9` leaves behind: each example is stopped on both sides of every append, of every request and of every
//! attempt, and taken up again. By default at a sample of these places, at all of them with `TROUPE_SWEEP=full`.

use std::collections::BTreeSet;

use e2e::crash::{
    CONTENT_MODERATION, Command, EXAMPLES, End, Example, RESEARCH_ASSISTANT, RESEARCH_TEAM,
    SUMMARIES, Scene, Sweep, Undisturbed,
};
use e2e::loopback::{Reply, Route};
use e2e::troupe::example;
use serde_json::{Value, json};

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

/// Sweeps kinds of places in `troupe run`: each with every how many passes it is stopped at, and how many there are at
/// least.
async fn crash_everywhere(example: Example, places: [(&'static str, u32, u32); 3]) {
    let expected = Undisturbed::new(example).await;
    for (place, nth, least) in places {
        let sweep = Sweep {
            example,
            command: Command::Run,
            place,
            nth,
            least,
        };
        sweep.run(&expected).await;
    }
}

#[tokio::test]
async fn the_research_team_survives_a_kill_anywhere() {
    let places = [("write", 3, 20), ("effect", 3, 6), ("attempt", 2, 6)];
    crash_everywhere(RESEARCH_TEAM, places).await;
}

#[tokio::test]
async fn the_research_assistant_survives_a_kill_anywhere() {
    let places = [("write", 1, 8), ("effect", 1, 3), ("attempt", 1, 3)];
    crash_everywhere(RESEARCH_ASSISTANT, places).await;
}

#[tokio::test]
async fn content_moderation_survives_a_kill_anywhere() {
    let places = [("write", 1, 4), ("effect", 1, 1), ("attempt", 1, 1)];
    crash_everywhere(CONTENT_MODERATION, places).await;
    let expected = Undisturbed::new(CONTENT_MODERATION).await;
    // After the answer: the answer itself, taking it up, the last step, giving it back.
    for (place, least) in [("write", 3), ("attempt", 1)] {
        let sweep = Sweep {
            example: CONTENT_MODERATION,
            command: Command::Approve,
            place,
            nth: 1,
            least,
        };
        sweep.run(&expected).await;
    }
}

#[tokio::test]
async fn the_summaries_survive_a_kill_anywhere() {
    let places = [("write", 5, 40), ("effect", 4, 8), ("attempt", 5, 10)];
    crash_everywhere(SUMMARIES, places).await;
}

#[test]
fn no_example_is_left_out() {
    let folders = std::fs::read_dir(example("")).expect("the examples");
    let with_workflow: BTreeSet<String> = folders
        .map(|folder| folder.expect("a folder").path())
        .filter(|folder| {
            ["json", "yaml"]
                .iter()
                .any(|kind| folder.join(format!("workflow.{kind}")).is_file())
        })
        .filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned()))
        .collect();
    let swept: BTreeSet<String> = EXAMPLES.map(|one| one.name.to_owned()).into();
    assert_eq!(with_workflow, swept);
}

#[tokio::test]
async fn a_recovery_that_is_killed_is_recovered() {
    let expected = Undisturbed::new(RESEARCH_TEAM).await;
    let scene = Scene::new(RESEARCH_TEAM).await;
    let killed = scene
        .run()
        .variable("TROUPE_FAIL_POINT", "write:2:after")
        .end()
        .await;
    assert!(killed.was_killed(), "{killed}");
    let mut lives = 1;
    loop {
        let side = if lives % 2 == 0 { "before" } else { "after" };
        let point = format!("write:12:{side}");
        let ended = scene
            .place
            .troupe(["recover"])
            .variable("TROUPE_FAIL_POINT", &point)
            .end()
            .await;
        if !ended.was_killed() {
            assert_eq!(ended.status.code(), Some(0), "{ended}");
            break;
        }
        lives += 1;
        assert!(lives < 100, "no progress is made");
    }
    assert!(lives > 2, "it was killed {lives} times");
    let listed = scene.place.list().await;
    let shown = scene
        .place
        .show(listed[0]["id"].as_str().expect("an id"))
        .await;
    assert_eq!(End::of(&shown), expected.end);
}

#[tokio::test]
async fn a_living_process_keeps_its_execution_and_a_dead_one_loses_it() {
    let scene = Scene::new(RESEARCH_ASSISTANT).await;
    scene.loopback.script(Route::OpenAi, [Reply::hang()]);
    let running = scene.run().start();
    scene.loopback.wait_for(1).await;
    let [row] = scene.place.list().await.try_into().expect("one execution");
    let id = row["id"].as_str().expect("an id").to_owned();
    let before = scene.place.events(&id).await;
    for arguments in [vec!["recover"], vec!["recover", &id]] {
        let ended = scene.place.troupe(arguments).end().await.expect_code(3);
        assert!(
            ended.stderr.contains("being worked on by another process"),
            "{ended}"
        );
        assert!(ended.stderr.contains(&id), "{ended}");
    }
    assert_eq!(scene.place.events(&id).await, before, "it was touched");
    assert_eq!(scene.loopback.requests().len(), 1);

    let killed = running.kill().await;
    assert!(killed.was_killed(), "{killed}");
    let ended = scene
        .place
        .troupe(["recover", &id, "--json"])
        .end()
        .await
        .expect_code(0);
    let shown = ended.json();
    assert_eq!(shown["status"], "completed", "{ended}");
    assert_eq!(
        scene.loopback.requests_to(Route::OpenAi).len(),
        2,
        "the lost call, and its repetition"
    );
    let keys: Vec<String> = scene
        .loopback
        .requests_to(Route::OpenAi)
        .iter()
        .map(|request| request.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(keys[0], keys[1], "the same step, the same key");
    let interrupted = scene.place.events(&id).await;
    assert_eq!(count(&interrupted, "step_interrupted"), 1);
}

#[tokio::test]
async fn two_recoveries_at_once_do_the_work_once() {
    let scene = Scene::new(RESEARCH_ASSISTANT).await;
    let killed = scene
        .run()
        .variable("TROUPE_FAIL_POINT", "write:3:after")
        .end()
        .await;
    assert!(killed.was_killed(), "{killed}");
    let recover = || scene.place.troupe(["recover"]).end();
    let (one, two, three) = tokio::join!(recover(), recover(), recover());
    let codes = [&one, &two, &three].map(|ended| ended.status.code());
    // Whoever comes too late says that another works on it, or that nothing is left.
    assert!(
        codes.contains(&Some(0)) && codes.iter().all(|code| matches!(code, Some(0 | 3))),
        "{one}\n{two}\n{three}"
    );
    let [row] = scene.place.list().await.try_into().expect("one execution");
    assert_eq!(row["status"], "completed");
    let events = scene.place.events(row["id"].as_str().expect("an id")).await;
    assert_eq!(count(&events, "step_completed"), 3);
    assert_eq!(count(&events, "execution_completed"), 1);
    let calls = scene.requests().models;
    assert!((2..=3).contains(&calls), "{calls} model calls");
}

#[tokio::test]
async fn an_execution_that_ended_is_left_alone() {
    let scene = Scene::new(RESEARCH_ASSISTANT).await;
    let ended = scene.run().end().await.expect_code(0);
    let id = ended.id();
    let events = scene.place.events(&id).await;
    let again = scene
        .place
        .troupe(["recover", &id])
        .end()
        .await
        .expect_code(0);
    assert!(again.stderr.contains("completed"), "{again}");
    assert_eq!(scene.place.events(&id).await, events);
    let unknown = scene
        .place
        .troupe(["recover", "exec_00000000000000000000000000"])
        .end()
        .await
        .expect_code(2);
    assert!(
        unknown.stderr.contains("there is no execution"),
        "{unknown}"
    );
    assert_eq!(json!(scene.requests().models), json!(2));
}
