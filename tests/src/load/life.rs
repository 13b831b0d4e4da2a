//! The load on servers that end, or lose answers, at a place that is named.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use troupe_journal::{Journal, PostgresJournal, SqliteJournal};

use super::{User, prepare};
use crate::loopback::Loopback;
use crate::server::Server;
use crate::troupe::{Call, Workplace};

/// Lives of the load that a sweep leads at once.
const AT_ONCE: usize = 3;
/// The signal that ends a process without a word.
const SIGKILL: i32 = 9;
/// How long a process on PostgreSQL counts as alive here; others wait that long for what it leaves.
pub const LEASE_MS: u32 = 1_500;

/// A place, a database, services, and a user with a load.
#[derive(Debug)]
pub struct Scene {
    pub loopback: Loopback,
    pub place: Workplace,
    pub user: User,
    /// A PostgreSQL database; none: SQLite, in the place.
    database: Option<String>,
}

impl Scene {
    /// A load of so many executions; `config` is added to the operator's file.
    pub async fn new(database: Option<String>, count: usize, config: &str) -> Self {
        let loopback = Loopback::start().await;
        let mut place = Workplace::new();
        let config = format!("[server]\nlease_ms = {LEASE_MS}\n{config}");
        let document = prepare(&mut place, &loopback, &config).await;
        if let Some(url) = &database {
            place.set("TROUPE_DATABASE", url);
        }
        Self {
            loopback,
            place,
            user: User::new(document, count),
            database,
        }
    }

    /// The journal, when no server writes to it any more.
    ///
    /// # Panics
    /// Where it cannot be opened.
    pub async fn journal(&self) -> Arc<dyn Journal> {
        let (node, lease) = (
            "checker".to_owned(),
            Duration::from_millis(u64::from(LEASE_MS)),
        );
        match &self.database {
            None => Arc::new(
                SqliteJournal::open(&self.place.path("data"), node, None).expect("the journal"),
            ),
            Some(url) => Arc::new(
                PostgresJournal::connect(url, node, lease, None)
                    .await
                    .expect("the journal"),
            ),
        }
    }

    /// Checks what is left when all has ended, see [`User::check`].
    pub async fn check(&self, ends: usize) {
        let journal = self.journal().await;
        self.user.check(&*journal, &self.loopback, ends).await;
    }

    /// Leads a server's life until all has ended or it has. True: all has ended.
    ///
    /// # Panics
    /// Where it ended by itself.
    pub async fn live(&self, call: Call) -> bool {
        let Ok(mut server) = Server::launch(call).await else {
            return false;
        };
        if self.user.work(&server.client()).await {
            server.kill().await;
            return true;
        }
        let status = server.ended().await;
        assert_eq!(
            status.signal(),
            Some(SIGKILL),
            "{status}: {}",
            server.said()
        );
        false
    }
}

/// Leads the load through a life with a fail point, and, where the process was killed at it, through a second one. All
/// must have ended then as if nothing had happened. False: the point was not met.
async fn disturb(database: Option<String>, point: String) -> (String, bool) {
    let scene = Scene::new(database, 2, "").await;
    let call = scene.place.serve().variable("TROUPE_FAIL_POINT", &point);
    let was_killed = !scene.live(call).await;
    if was_killed {
        assert!(
            scene.live(scene.place.serve()).await,
            "{point}: the second server ended"
        );
    }
    scene.check(usize::from(was_killed)).await;
    (point, was_killed)
}

/// Leads the load through every point of a list, several at once, and returns those at which a process was killed. A
/// failure names its point in what it says first.
///
/// # Panics
/// Where something was lost, or happened twice.
pub async fn sweep(points: Vec<String>, database: impl Fn() -> Option<String>) -> Vec<String> {
    let lives = points.into_iter().map(|point| {
        let database = database();
        async move {
            let shown = point.clone();
            let told = std::panic::AssertUnwindSafe(disturb(database, point));
            match futures::FutureExt::catch_unwind(told).await {
                Ok((point, was_killed)) => was_killed.then_some(point),
                Err(_told_already) => panic!("it went wrong with TROUPE_FAIL_POINT={shown}"),
            }
        }
    });
    let met: Vec<Option<String>> = futures::stream::iter(lives)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    met.into_iter().flatten().collect()
}

/// Whether `TROUPE_SWEEP` says `full`: a sweep leaves out no point then.
#[must_use]
pub fn is_full_sweep() -> bool {
    std::env::var_os("TROUPE_SWEEP").is_some_and(|value| value == "full")
}

/// The points of one kind of place: every `nth` of the first `most`, on alternating sides; all on both sides where
/// `TROUPE_SWEEP` says `full`.
#[must_use]
pub fn kill_points(place: &str, nth: usize, most: usize) -> Vec<String> {
    let sides = ["before", "after"];
    if is_full_sweep() {
        let all =
            (1..=most).flat_map(|number| sides.map(|side| format!("{place}:{number}:{side}")));
        return all.collect();
    }
    let sampled = (1..=most).step_by(nth).enumerate();
    sampled
        .map(|(index, number)| format!("{place}:{number}:{}", sides[index % 2]))
        .collect()
}
