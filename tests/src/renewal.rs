//! A server that ends, or loses an answer, at one of its signs of life, with a request to a model under way.

use serde_json::{Value, json};

use crate::load::LEASE_MS;
use crate::loopback::{Gate, Loopback, Reply, Route};
use crate::server::{Server, until};
use crate::troupe::{Workplace, step};

/// Requests of the execution that nothing disturbs.
const REQUESTS: usize = 2;

/// An execution that an earlier server began, and whose first request no service has answered yet.
#[derive(Debug)]
struct Scene {
    loopback: Loopback,
    place: Workplace,
    /// Holds all answers back.
    answers: Gate,
    id: String,
}

impl Scene {
    /// `database` is PostgreSQL's; without one it is SQLite.
    async fn new(database: Option<String>) -> Self {
        let loopback = Loopback::start().await;
        let answers = Gate::closed();
        loopback.always(Route::OpenAi, Reply::text("so it is").behind(&answers));
        let mut place = Workplace::new();
        // A server that is asked to end hands over what runs at once.
        let config = format!("[server]\nlease_ms = {LEASE_MS}\ngrace_ms = 0\n");
        place.connect(&loopback, &config);
        place.set("TROUPE_LOG", "info");
        if let Some(url) = database {
            place.set("TROUPE_DATABASE", &url);
        }
        let first = Server::start(place.serve()).await;
        let id = first.run_document(&document(), &json!({})).await;
        loopback.wait_for(1).await;
        assert!(first.terminate().await.success(), "it ends in order");
        loopback.settled().await;
        Self {
            loopback,
            place,
            answers,
            id,
        }
    }

    /// What must be true in the end: `asked` requests came before the last server's, and `answered` of them are on
    /// record.
    async fn check(&self, server: &Server, (asked, answered): (usize, usize), about: &str) {
        let done = server.wait_for(&self.id, "completed").await;
        assert_eq!(step(&done, "more")["output"], "so it is", "{about}");
        let came = self.loopback.requests().len();
        assert_eq!(came, asked + REQUESTS - answered, "{about}");
        let events = self.place.events(&self.id).await;
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
        assert_eq!(
            (count("step_completed"), count("execution_completed")),
            (2, 1),
            "{about}: {events:#?}"
        );
    }
}

/// A workflow of two requests to a model.
pub fn document() -> Value {
    json!({
        "name": "Question",
        "agents": [{ "id": "writer", "type": "llm", "model": "gpt-5-mini" }],
        "steps": [
            { "id": "ask", "agent": "writer", "action": "write", "input": "Ask" },
            { "id": "more", "agent": "writer", "action": "write", "input": "More than {{ ask.output }}" },
        ],
        "config": { "max_retries": 0 },
    })
}

/// Kills a server at a sign of life, before or after it, and has another go on.
///
/// # Panics
/// Where something was lost, or asked for twice without need.
pub async fn kill_at(database: Option<String>, number: u32, side: &str) {
    let scene = Scene::new(database).await;
    let point = format!("renew:{number}:{side}");
    let call = scene.place.serve().variable("TROUPE_FAIL_POINT", &point);
    // At the first of its signs it has not begun to listen.
    if let Ok(mut server) = Server::launch(call).await {
        let status = server.ended().await;
        assert!(!status.success(), "{point}: {}", server.said());
    }
    scene.loopback.settled().await;
    // The earlier server's request, and this one's if it came so far.
    let asked = scene.loopback.requests().len();
    assert!((1..=2).contains(&asked), "{point}: {asked} requests came");
    scene.answers.open();
    let next = Server::start(scene.place.serve()).await;
    scene.check(&next, (asked, 0), &point).await;
}

/// Loses the answer of a server's sign of life, after which it has to go on as if nothing had been.
///
/// # Panics
/// Where it does not, or something was lost, or asked for twice without need.
pub async fn lose(database: Option<String>, number: u32) {
    let scene = Scene::new(database).await;
    let point = format!("renew:{number}:lost");
    let call = scene.place.serve().variable("TROUPE_FAIL_POINT", &point);
    let server = Server::start(call).await;
    scene.loopback.wait_for(2).await;
    let is_lost = until(async || server.said().contains("sign of life").then_some(()));
    assert!(is_lost.await.is_some(), "{point}: {}", server.said());
    scene.answers.open();
    scene.check(&server, (1, 0), &point).await;
    server.kill().await;
}

/// Every side of each of the first signs, all at once: they come by the clock.
///
/// # Panics
/// As [`kill_at`] and [`lose`].
pub async fn everywhere(database: impl Fn() -> Option<String>) {
    let ends = (1..=3).map(|number| {
        let (before, after, lost) = (database(), database(), database());
        async move {
            tokio::join!(
                kill_at(before, number, "before"),
                kill_at(after, number, "after"),
                lose(lost, number)
            )
        }
    });
    futures::future::join_all(ends).await;
}
