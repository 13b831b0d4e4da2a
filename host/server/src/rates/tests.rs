//! Rates, by a clock that only moves when somebody sleeps.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, poll};
use troupe_workflow::{ExecutionId, Timestamp};

use super::{Rates, RatesConfig};
use crate::clock::Clock;

/// Whoever sleeps moves the time on at its second look, so that there is a moment in which it waits.
#[derive(Default)]
struct SleepersClock(Arc<Mutex<Duration>>);

impl SleepersClock {
    fn set(&self, time: Duration) {
        *self.0.lock().unwrap() = time;
    }

    fn passed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

impl Clock for SleepersClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).plus(self.passed())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let time = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::task::yield_now().await;
            *time.lock().unwrap() += duration;
        })
    }
}

fn rates(requests: u64, tokens: u64) -> (Rates, Arc<SleepersClock>) {
    let clock = Arc::new(SleepersClock::default());
    let config = RatesConfig {
        requests_per_minute: NonZeroU64::new(requests),
        tokens_per_minute: NonZeroU64::new(tokens),
    };
    (Rates::new(config, clock.clone()), clock)
}

fn key(number: u64) -> ExecutionId {
    ExecutionId::from_parts(number, 0)
}

/// When each of these calls of one execution may go, in milliseconds.
async fn times(rates: &Rates, clock: &SleepersClock, tokens: &[u64]) -> Vec<u128> {
    let mut times = Vec::new();
    for tokens in tokens {
        rates.wait(key(1), *tokens).await;
        times.push(clock.passed().as_millis());
    }
    times
}

#[tokio::test]
async fn without_a_rate_nothing_waits() {
    let (rates, clock) = rates(0, 0);
    let found = times(&rates, &clock, &[u64::MAX; 50]).await;
    assert_eq!(found, [0; 50]);
    rates.correct(u64::MAX, 0);
}

#[tokio::test]
async fn requests_go_out_at_their_rate_after_a_short_burst() {
    let (steady, clock) = rates(30, 0);
    let found = times(&steady, &clock, &[9; 8]).await;
    assert_eq!(found, [0, 0, 0, 0, 0, 2_000, 4_000, 6_000]);
    // After a long pause the bucket holds no more than before.
    clock.set(Duration::from_secs(3_600));
    let found = times(&steady, &clock, &[9; 6]).await;
    assert_eq!(
        found,
        [
            3_600_000, 3_600_000, 3_600_000, 3_600_000, 3_600_000, 3_602_000
        ]
    );

    let (slow, clock) = rates(1, 0);
    assert_eq!(times(&slow, &clock, &[9; 3]).await, [0, 60_000, 120_000]);
    let (uneven, clock) = rates(7, 0);
    let found = times(&uneven, &clock, &[9; 8]).await;
    assert_eq!(found.last(), Some(&58_572), "no fraction is lost");
}

#[tokio::test]
async fn tokens_are_charged_before_and_corrected_after() {
    // 100 a second, and 1,000 at once.
    let (rates, clock) = rates(0, 6_000);
    assert_eq!(times(&rates, &clock, &[600, 400, 100]).await, [0, 0, 1_000]);
    // What was not used comes back.
    rates.correct(400, 100);
    assert_eq!(times(&rates, &clock, &[300, 100]).await, [1_000, 2_000]);
    // What was used beyond is owed.
    rates.correct(100, 600);
    assert_eq!(times(&rates, &clock, &[100]).await, [8_000]);
    // Nothing comes back beyond what the bucket holds.
    rates.correct(u64::MAX, 0);
    assert_eq!(times(&rates, &clock, &[1_000, 100]).await, [8_000, 9_000]);
}

#[tokio::test]
async fn what_is_larger_than_the_bucket_goes_when_it_is_full_and_is_paid_off() {
    let (large, clock) = rates(0, 6_000);
    assert_eq!(
        times(&large, &clock, &[100, 4_000, 1, 1]).await,
        [0, 1_000, 31_010, 31_020]
    );
    // An absurd number stops nobody for more than a minute.
    assert_eq!(times(&large, &clock, &[u64::MAX]).await, [41_020]);
    rates_recover(&large, &clock).await;
}

async fn rates_recover(rates: &Rates, clock: &SleepersClock) {
    let before = clock.passed();
    rates.correct(0, u64::MAX);
    rates.wait(key(1), 100).await;
    assert_eq!(clock.passed() - before, Duration::from_secs(61));
}

#[tokio::test]
async fn the_slower_of_two_rates_decides_and_neither_is_used_in_vain() {
    let (rates, clock) = rates(60, 6_000);
    assert_eq!(
        times(&rates, &clock, &[1_000, 500, 500]).await,
        [0, 5_000, 10_000]
    );
    // The requests that came in meanwhile fit at once.
    rates.correct(1_000, 0);
    assert_eq!(
        times(&rates, &clock, &[1; 11]).await[8..],
        [10_000, 11_000, 12_000]
    );
}

#[tokio::test]
async fn a_clock_that_is_put_back_only_loses_its_step() {
    let (rates, clock) = rates(60, 0);
    clock.set(Duration::from_secs(100));
    times(&rates, &clock, &[1; 10]).await;
    clock.set(Duration::ZERO);
    assert_eq!(times(&rates, &clock, &[1, 1]).await, [1_000, 2_000]);
}

#[tokio::test]
async fn waiting_is_fair_and_whoever_gives_up_has_used_nothing() {
    let (rates, clock) = rates(6, 0);
    rates.wait(key(0), 1).await;
    let order = Mutex::new(Vec::new());
    let call = |execution: u64| {
        let (rates, order) = (&rates, &order);
        Box::pin(async move {
            rates.wait(key(execution), 1).await;
            order.lock().unwrap().push(execution);
        })
    };
    let mut waiting: Vec<_> = [1, 1, 1, 1, 2, 3].into_iter().map(call).collect();
    let mut gives_up = call(9);
    for wait in &mut waiting {
        assert!(poll!(wait).is_pending());
    }
    assert!(poll!(&mut gives_up).is_pending());
    drop(gives_up);
    // The one whose turn it is goes too.
    drop(waiting.remove(0));
    join_all(waiting).await;
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 1, 1]);
    assert_eq!(clock.passed(), Duration::from_secs(50));
    assert!(rates.wait(key(1), 1).now_or_never().is_none());
}
