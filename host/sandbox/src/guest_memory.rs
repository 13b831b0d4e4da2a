//! The memory of all guests together: a ceiling, and a queue of those who wait below it.
//!
//! A call takes what its memories and tables grow by, a little of it in advance, and gives it back when it ends. Where
//! there is no room it waits, which costs none of its own time; the oldest call is served first, so that every call ends
//! some day. When all that hold memory wait for more of it, the youngest of them is sent away ([`Busy`]): it has done the
//! least. A session between two programs holds memory and waits for nothing: who waits for it waits until the session's
//! time is over at most.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What all guests of a sandbox have together. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct GuestMemory {
    bytes_max: u64,
    pot: Arc<Mutex<Pot>>,
}

#[derive(Debug)]
struct Pot {
    free: u64,
    next_age: u64,
    /// Calls that hold anything, by age.
    held: BTreeMap<u64, u64>,
    /// Calls that wait for more, the oldest first.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    answer: oneshot::Sender<Result<(), Busy>>,
}

/// Whether a call may wait for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It waits until there is some.
    Waits,
    /// It is sent away at once: another guest, which holds memory, waits for its end.
    None,
}

/// All guests that hold memory waited for more, and this one was the youngest.
#[derive(Debug)]
pub(crate) struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "all guests together have used up the memory they may have, and every one waited for more; \
             the step can be tried again. Raise `guest_memory_mb`, or lower `concurrency` or the agents' `memory_mb`",
        )
    }
}

impl std::error::Error for Busy {}

impl GuestMemory {
    pub(crate) fn new(bytes_max: u64) -> Self {
        GuestMemory {
            bytes_max,
            pot: Arc::new(Mutex::new(Pot {
                free: bytes_max,
                next_age: 0,
                held: BTreeMap::new(),
                waiting: BTreeMap::new(),
            })),
        }
    }

    /// The share of a new call, of nothing as yet.
    pub(crate) fn enter(&self, patience: Patience) -> HeldShare {
        self.enter_with(patience, 0)
    }

    /// The share of a new call that will need so many bytes soon: it has them from the beginning where there is plenty,
    /// and asks nobody again.
    pub(crate) fn enter_with(&self, patience: Patience, likely: u64) -> HeldShare {
        let mut pot = self.lock();
        let age = pot.next_age;
        pot.next_age += 1;
        let spare = if pot.give_leaving(age, likely, self.plenty()) {
            likely
        } else {
            0
        };
        drop(pot);
        HeldShare {
            memory: self.clone(),
            age,
            patience,
            spare: AtomicU64::new(spare),
        }
    }

    /// What must be free still when bytes are given that may never be needed: nearly everything, for what is only held
    /// keeps others waiting.
    fn plenty(&self) -> u64 {
        self.bytes_max - self.bytes_max / 8
    }

    /// A poisoned lock is no danger: the numbers agree after every statement that can panic.
    fn lock(&self) -> MutexGuard<'_, Pot> {
        self.pot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a call takes its memory from.
pub(crate) enum Share {
    /// What all guests of this process have together.
    Held(HeldShare),
    /// What another process has, which is asked.
    Asked(AskedShare),
}

impl Share {
    /// What all may have together, in bytes. No single call can have more.
    pub(crate) fn bytes_max(&self) -> u64 {
        match self {
            Share::Held(share) => share.bytes_max(),
            Share::Asked(share) => share.bytes_max,
        }
    }

    /// Takes so many bytes more, and waits for them where it must. Dropping the future takes nothing.
    pub(crate) async fn take(&self, bytes: u64) -> Result<(), Busy> {
        match self {
            Share::Held(share) => share.take(bytes).await,
            Share::Asked(share) => share.take(bytes).await,
        }
    }

    /// Takes so many bytes more if that needs no waiting.
    pub(crate) fn take_now(&self, bytes: u64) -> bool {
        match self {
            Share::Held(share) => share.take_now(bytes),
            Share::Asked(share) => share.take_now(bytes),
        }
    }

    /// Gives bytes back before the call ends, of those that were taken.
    pub(crate) fn put_back(&self, bytes: u64) {
        match self {
            Share::Held(share) => share.put_back(bytes),
            Share::Asked(share) => share.put_back(bytes),
        }
    }
}

/// What another process gives: asked for so many bytes that are needed and so many that would be welcome, it answers how
/// many there are.
pub(crate) type AskForMemory =
    Box<dyn Fn(u64, u64) -> Pin<Box<dyn Future<Output = Result<u64, Busy>> + Send>> + Send + Sync>;

/// What one call has of another process's memory. That process takes it back when the call ends.
pub(crate) struct AskedShare {
    bytes_max: u64,
    /// Given and not used.
    spare: AtomicU64,
    /// Used.
    taken: AtomicU64,
    ask: AskForMemory,
}

impl AskedShare {
    /// A share of which `given` bytes are there already.
    pub(crate) fn new((bytes_max, given): (u64, u64), ask: AskForMemory) -> Self {
        AskedShare {
            bytes_max,
            spare: AtomicU64::new(given),
            taken: AtomicU64::new(0),
            ask,
        }
    }

    /// One guest grows in one place at a time: nobody else changes the numbers meanwhile.
    fn take_now(&self, bytes: u64) -> bool {
        let spare = self.spare.load(Ordering::Relaxed);
        let Some(left) = spare.checked_sub(bytes) else {
            return false;
        };
        self.spare.store(left, Ordering::Relaxed);
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    async fn take(&self, bytes: u64) -> Result<(), Busy> {
        if self.take_now(bytes) {
            return Ok(());
        }
        let needed = bytes.saturating_sub(self.spare.load(Ordering::Relaxed));
        // Who grows will go on growing: more at once costs fewer questions.
        let welcome = needed.max(self.taken.load(Ordering::Relaxed) / 4);
        let given = (self.ask)(needed, welcome).await?;
        self.spare.fetch_add(given, Ordering::Relaxed);
        self.take_now(bytes).then_some(()).ok_or(Busy)
    }

    /// Keeps bytes for the next time that some are needed: the other process has them back when the call ends.
    fn put_back(&self, bytes: u64) {
        let taken = self.taken.load(Ordering::Relaxed);
        let bytes = bytes.min(taken);
        self.taken.store(taken - bytes, Ordering::Relaxed);
        self.spare.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one call holds. Dropping it gives all back.
#[derive(Debug)]
pub(crate) struct HeldShare {
    memory: GuestMemory,
    age: u64,
    patience: Patience,
    /// Held, and not used.
    spare: AtomicU64,
}

impl HeldShare {
    /// What all may have together, in bytes. No single call can have more.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.memory.bytes_max
    }

    /// Whether the call may wait, for memory and for else that other calls have.
    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// Takes bytes that may never be needed, where there is plenty.
    pub(crate) fn take_to_spare(&self, bytes: u64) -> bool {
        let plenty = self.memory.plenty();
        self.memory.lock().give_leaving(self.age, bytes, plenty)
    }

    /// Takes so many bytes more if they are there, and nobody older waits.
    pub(crate) fn take_now(&self, bytes: u64) -> bool {
        // One guest grows in one place at a time: nobody else changes the number meanwhile.
        let spare = self.spare.load(Ordering::Relaxed);
        let more = bytes.saturating_sub(spare);
        if more > 0 && !self.memory.lock().give_leaving(self.age, more, 0) {
            return false;
        }
        self.spare
            .store(spare.saturating_sub(bytes), Ordering::Relaxed);
        true
    }

    /// Takes so many bytes more, and waits for them where it must. Dropping the future takes nothing.
    pub(crate) async fn take(&self, bytes: u64) -> Result<(), Busy> {
        if self.take_now(bytes) {
            return Ok(());
        }
        if self.patience == Patience::None {
            return Err(Busy);
        }
        let answer = {
            let bytes = bytes.saturating_sub(self.spare.load(Ordering::Relaxed));
            let mut pot = self.memory.lock();
            let (answer, answered) = oneshot::channel();
            pot.waiting.insert(self.age, Waiting { bytes, answer });
            pot.serve();
            answered
        };
        let _until_answered = StopsWaiting(self);
        // The sender is dropped unanswered only with the queue itself.
        answer.await.unwrap_or(Err(Busy))?;
        self.spare.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn put_back(&self, bytes: u64) {
        let mut pot = self.memory.lock();
        pot.take_back_some(self.age, bytes);
        pot.serve();
    }
}

impl Drop for HeldShare {
    fn drop(&mut self) {
        let mut pot = self.memory.lock();
        pot.take_back(self.age);
        pot.serve();
    }
}

/// Leaves the queue when a call is cancelled while it waits.
struct StopsWaiting<'a>(&'a HeldShare);

impl Drop for StopsWaiting<'_> {
    fn drop(&mut self) {
        let mut pot = self.0.memory.lock();
        pot.waiting.remove(&self.0.age);
        pot.serve();
    }
}

impl Pot {
    fn nobody_older_waits(&self, age: u64) -> bool {
        self.waiting
            .first_key_value()
            .is_none_or(|(oldest, _)| *oldest > age)
    }

    /// Gives bytes if so many others are there then, and nobody older waits.
    fn give_leaving(&mut self, age: u64, bytes: u64, left: u64) -> bool {
        let is_there = bytes.saturating_add(left) <= self.free && self.nobody_older_waits(age);
        if is_there {
            self.give(age, bytes);
        }
        is_there
    }

    fn give(&mut self, age: u64, bytes: u64) {
        self.free -= bytes;
        if bytes > 0 {
            *self.held.entry(age).or_default() += bytes;
        }
    }

    /// Takes back what the call holds.
    fn take_back(&mut self, age: u64) {
        self.free += self.held.remove(&age).unwrap_or(0);
    }

    /// Takes back a part of what the call holds.
    fn take_back_some(&mut self, age: u64, bytes: u64) {
        let held = self.held.get(&age).copied().unwrap_or(0);
        self.take_back(age);
        self.give(age, held.saturating_sub(bytes));
    }

    /// Serves those who wait, as far as there is room.
    fn serve(&mut self) {
        while let Some((&age, waiting)) = self.waiting.first_key_value() {
            if waiting.bytes <= self.free {
                let bytes = waiting.bytes;
                self.give(age, bytes);
                // A call that no longer listens gives all back when its share is dropped.
                self.answer(age, Ok(()));
            } else if let Some(youngest) = self.youngest_of_stuck() {
                self.answer(youngest, Err(Busy));
            } else {
                return;
            }
        }
    }

    fn answer(&mut self, age: u64, answer: Result<(), Busy>) {
        if let Some(waiting) = self.waiting.remove(&age) {
            let _nobody_listens = waiting.answer.send(answer);
        }
    }

    /// The youngest holder, if all who hold memory wait for more: nobody would ever give any back. One that was sent
    /// away no longer waits, and will give back what it holds.
    fn youngest_of_stuck(&self) -> Option<u64> {
        let all_wait = self.held.keys().all(|age| self.waiting.contains_key(age));
        all_wait
            .then(|| self.held.last_key_value().map(|(age, _)| *age))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_finds_no_room_waits_and_the_oldest_is_served_first() {
        let memory = GuestMemory::new(100);
        let [old, middle, young] = [
            memory.enter(Patience::Waits),
            memory.enter(Patience::Waits),
            memory.enter(Patience::Waits),
        ];
        let small_one = memory.enter(Patience::Waits);
        assert!(matches!(old.take(50).now_or_never(), Some(Ok(()))));
        assert!(matches!(small_one.take(10).now_or_never(), Some(Ok(()))));
        let mut large = Box::pin(young.take(50));
        let mut small = Box::pin(middle.take(41));
        assert!((&mut large).now_or_never().is_none());
        assert!((&mut small).now_or_never().is_none());
        drop(small_one);
        assert!(matches!((&mut small).now_or_never(), Some(Ok(()))));
        assert!((&mut large).now_or_never().is_none());
        drop(old);
        assert!(matches!((&mut large).now_or_never(), Some(Ok(()))));
    }

    #[test]
    fn when_all_who_hold_wait_the_youngest_is_sent_away() {
        let memory = GuestMemory::new(100);
        let [old, young] = [memory.enter(Patience::Waits), memory.enter(Patience::Waits)];
        for share in [&old, &young] {
            assert!(matches!(share.take(50).now_or_never(), Some(Ok(()))));
        }
        let mut first = Box::pin(old.take(10));
        assert!((&mut first).now_or_never().is_none());
        assert!(matches!(young.take(10).now_or_never(), Some(Err(Busy))));
        assert!(
            (&mut first).now_or_never().is_none(),
            "it holds its share still"
        );
        drop(young);
        assert!(matches!((&mut first).now_or_never(), Some(Ok(()))));
    }

    #[test]
    fn who_stops_waiting_leaves_room_to_those_behind() {
        let memory = GuestMemory::new(100);
        let [old, young, third] = [
            memory.enter(Patience::Waits),
            memory.enter(Patience::Waits),
            memory.enter(Patience::Waits),
        ];
        assert!(matches!(third.take(50).now_or_never(), Some(Ok(()))));
        let mut large = Box::pin(old.take(60));
        let mut small = Box::pin(young.take(20));
        assert!((&mut large).now_or_never().is_none());
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(matches!((&mut small).now_or_never(), Some(Ok(()))));
        drop(small);
        drop((old, young, third));
        assert_eq!(memory.lock().free, 100);
    }

    #[test]
    fn what_is_put_back_serves_those_who_wait() {
        let memory = GuestMemory::new(100);
        let [old, young] = [memory.enter(Patience::Waits), memory.enter(Patience::Waits)];
        assert!(matches!(old.take(90).now_or_never(), Some(Ok(()))));
        let mut waiting = Box::pin(young.take(60));
        assert!((&mut waiting).now_or_never().is_none());
        old.put_back(50);
        assert!(matches!((&mut waiting).now_or_never(), Some(Ok(()))));
        drop(waiting);
        assert_eq!(memory.lock().free, 0);
        // Nobody puts back more than it has.
        old.put_back(1_000);
        assert_eq!(memory.lock().free, 40);
        drop((old, young));
        assert_eq!(memory.lock().free, 100);
    }

    #[test]
    fn what_is_put_back_is_not_asked_for_again() {
        let ask: AskForMemory = Box::new(|needed, _welcome| Box::pin(async move { Ok(needed) }));
        let share = AskedShare::new((100, 10), ask);
        assert!(matches!(share.take(60).now_or_never(), Some(Ok(()))));
        share.put_back(40);
        assert_eq!(share.spare.load(Ordering::Relaxed), 40);
        assert!(matches!(share.take(40).now_or_never(), Some(Ok(()))));
        assert_eq!(share.spare.load(Ordering::Relaxed), 0);
        assert_eq!(share.taken.load(Ordering::Relaxed), 60);
    }

    #[test]
    fn what_is_given_from_the_beginning_is_used_first_and_given_back_with_the_rest() {
        let memory = GuestMemory::new(80);
        let first = memory.enter_with(Patience::Waits, 10);
        assert_eq!(memory.lock().free, 70);
        // Nearly everything must be left.
        let second = memory.enter_with(Patience::Waits, 10);
        assert_eq!(memory.lock().free, 70);
        assert!(first.take_now(4) && first.take_now(6));
        assert_eq!(memory.lock().free, 70);
        assert!(first.take_now(1) && second.take_now(29));
        assert_eq!(memory.lock().free, 40);
        drop(first);
        assert_eq!(memory.lock().free, 51);
        drop(second);
        let one = memory.enter_with(Patience::Waits, 10);
        let mut waits = Box::pin(one.take(81));
        assert!((&mut waits).now_or_never().is_some(), "it alone holds any");
        let other = memory.enter(Patience::Waits);
        assert!(other.take_now(60));
        let mut waits = Box::pin(one.take(30));
        assert!((&mut waits).now_or_never().is_none());
        drop(other);
        assert!(matches!((&mut waits).now_or_never(), Some(Ok(()))));
        drop(waits);
        assert_eq!(memory.lock().free, 50);
    }

    #[test]
    fn who_may_not_wait_is_sent_away_at_once() {
        let memory = GuestMemory::new(100);
        let (agent, tool) = (memory.enter(Patience::Waits), memory.enter(Patience::None));
        assert!(matches!(agent.take(60).now_or_never(), Some(Ok(()))));
        assert!(matches!(tool.take(40).now_or_never(), Some(Ok(()))));
        assert!(matches!(tool.take(1).now_or_never(), Some(Err(Busy))));
    }
}
