//! How many requests and tokens go to a provider in a minute. What is too much waits; it does not fail.
//!
//! Two token buckets behind a turnstile: one call at a time waits for them, so that a large one is not overtaken for
//! ever by small ones, and the turnstile is fair between executions. Nothing is taken before both buckets have enough,
//! so a call that gives up has used nothing.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use troupe_workflow::{ExecutionId, Timestamp};

use crate::clock::Clock;
use crate::gate::Gate;

/// A bucket holds what comes in ten seconds. After a pause that much may go out at once, so no minute sees more than a
/// sixth above the rate; a whole minute's worth would let out the double.
const FULL_AFTER: Duration = Duration::from_secs(10);
/// A bucket owes at most what comes in a minute: a provider that reports an absurd usage stops nobody for long.
const DEBT_MAX: Duration = Duration::from_secs(60);
/// Levels are kept in these parts of one, so that what comes in a millisecond is a whole number: the rate in a minute.
const PARTS: i128 = 60_000;

/// What the operator allows; none: no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RatesConfig {
    pub(crate) requests_per_minute: Option<NonZeroU64>,
    pub(crate) tokens_per_minute: Option<NonZeroU64>,
}

/// The rates of one provider.
pub(crate) struct Rates {
    clock: Arc<dyn Clock>,
    turnstile: Gate,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// What may go out: it fills with time, and lies below zero where more went out than was thought.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    per_minute: u64,
    /// In parts.
    level: i128,
    filled_at: Timestamp,
}

impl Rates {
    pub(crate) fn new(config: RatesConfig, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        let bucket = |rate: Option<NonZeroU64>| rate.map(|rate| Bucket::full(rate.get(), now));
        Self {
            turnstile: Gate::new(1),
            buckets: Mutex::new(Buckets {
                requests: bucket(config.requests_per_minute),
                tokens: bucket(config.tokens_per_minute),
            }),
            clock,
        }
    }

    /// Waits until one more request may go out, with about so many tokens.
    pub(crate) async fn wait(&self, key: ExecutionId, tokens: u64) {
        if self.with(|buckets| buckets.requests.is_none() && buckets.tokens.is_none()) {
            return;
        }
        let _turn = self.turnstile.enter(key).await;
        loop {
            let now = self.clock.now();
            let pause = self.with(|buckets| buckets.take(tokens, now));
            if pause.is_zero() {
                return;
            }
            self.clock.sleep(pause).await;
        }
    }

    /// Puts right what a request was charged with, once it is known what it used.
    pub(crate) fn correct(&self, charged: u64, used: u64) {
        let now = self.clock.now();
        self.with(|buckets| {
            if let Some(bucket) = &mut buckets.tokens {
                bucket.fill(now);
                bucket.add(i128::from(charged) - i128::from(used));
            }
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut Buckets) -> T) -> T {
        look(&mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Buckets {
    /// Takes a request from both buckets; else from none, and says how long to wait.
    fn take(&mut self, tokens: u64, now: Timestamp) -> Duration {
        let costs = [(&mut self.requests, 1), (&mut self.tokens, tokens)];
        let mut costs = costs.map(|(bucket, cost)| bucket.as_mut().map(|bucket| (bucket, cost)));
        let mut pause = Duration::ZERO;
        for (bucket, cost) in costs.iter_mut().flatten() {
            bucket.fill(now);
            pause = pause.max(bucket.pause(*cost));
        }
        if pause.is_zero() {
            for (bucket, cost) in costs.iter_mut().flatten() {
                bucket.add(-i128::from(*cost));
            }
        }
        pause
    }
}

impl Bucket {
    fn full(per_minute: u64, now: Timestamp) -> Self {
        let mut bucket = Self {
            per_minute,
            level: 0,
            filled_at: now,
        };
        bucket.level = bucket.capacity();
        bucket
    }

    /// At least one, so that the slowest rate lets something through.
    fn capacity(&self) -> i128 {
        self.parts_in(FULL_AFTER).max(PARTS)
    }

    fn parts_in(&self, time: Duration) -> i128 {
        let millis = i128::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        i128::from(self.per_minute) * millis
    }

    /// A clock that was put back adds nothing, and time goes on from where it is.
    fn fill(&mut self, now: Timestamp) {
        let filled = self.level + self.parts_in(now.since(self.filled_at));
        self.level = filled.min(self.capacity());
        self.filled_at = now;
    }

    /// How long until so many may go out. What is more than the bucket holds goes when it is full, and what is
    /// missing then is owed.
    fn pause(&self, cost: u64) -> Duration {
        let needed = (i128::from(cost) * PARTS).min(self.capacity());
        let missing = (needed - self.level).max(0);
        let rate = i128::from(self.per_minute);
        let millis = (missing + rate - 1) / rate;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    fn add(&mut self, count: i128) {
        let owed_most = -self.parts_in(DEBT_MAX);
        self.level = (self.level + count * PARTS).clamp(owed_most, self.capacity());
    }
}

#[cfg(test)]
mod tests;
