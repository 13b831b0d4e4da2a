//! A server that is killed again and again, at moments that chance chooses, while it does the load. `TROUPE_SOAK_SECONDS`
//! says for how long, `TROUPE_SOAK_SEED` with which chance.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use e2e::load::Scene;
use e2e::server::Server;
use tokio::time::{Instant, timeout};

/// How long servers are killed where nobody says.
const SECONDS: u64 = 10;
/// Executions of one load; enough for some seconds.
const COUNT: usize = 40;
/// The longest that a server lives after it takes work.
const LIFE_MS_MAX: u64 = 1_200;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var_os(name)?;
    let value = value.to_str().and_then(|text| text.parse().ok());
    Some(value.unwrap_or_else(|| panic!("{name} is a number")))
}

/// Numbers that follow from a seed (Marsaglia's xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[tokio::test]
async fn killed_again_and_again_it_ends_the_same() {
    let seed = variable("TROUPE_SOAK_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) | 1);
    println!("TROUPE_SOAK_SEED={seed}");
    let mut chance = Chance(seed);
    let seconds = variable("TROUPE_SOAK_SECONDS").unwrap_or(SECONDS);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    loop {
        kills += load(&mut chance, until).await;
        if until.elapsed() > Duration::ZERO {
            break;
        }
    }
    assert!(kills > 0, "nothing was disturbed");
    println!("{kills} servers were killed");
}

/// One load, with kills until the end of the time; then it must end. Returns how often a server was killed.
async fn load(chance: &mut Chance, until: Instant) -> usize {
    let scene = Scene::new(None, COUNT, "").await;
    let mut kills = 0;
    let mut has_ended = false;
    while !has_ended && until.elapsed() == Duration::ZERO {
        let server = Server::start(scene.place.serve()).await;
        let life = Duration::from_millis(chance.below(LIFE_MS_MAX));
        has_ended = timeout(life, scene.user.work(&server.client()))
            .await
            .unwrap_or(false);
        server.kill().await;
        kills += usize::from(!has_ended);
    }
    if !has_ended {
        assert!(
            scene.live(scene.place.serve()).await,
            "the last server ended"
        );
    }
    scene.check(kills).await;
    kills
}
