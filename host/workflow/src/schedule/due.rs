//! What is to be done about a schedule now.

use std::time::Duration;

use super::{Missed, Overlap, Schedule};
use crate::duration::Timestamp;

/// How late a start may be that counts as on time: with `missed: skip` only that is made up for. A minute is the
/// step of cron and covers a restart, a change of the leader and the pause between two looks of a node; whoever skips
/// what was missed does not want it later than that.
const GRACE: Duration = Duration::from_secs(60);

/// Missed moments are counted up to this: it bounds the work after years of absence.
pub const MISSED_COUNTED_MAX: u64 = 1_000;

/// Where a schedule stands: what its last [`Firing`] left, and how its last execution fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The next moment that was planned; none: no more.
    pub planned: Option<Timestamp>,
    /// A moment whose start waits until the last execution has ended.
    pub queued: Option<Timestamp>,
    /// The last execution that the schedule started.
    pub last: LastRun,
}

/// How the last execution of a schedule fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRun {
    /// It has ended, or there was none.
    Ended,
    /// It has not ended; it may also wait or be paused.
    Running,
}

/// What a node does about a schedule, in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing {
    /// Start an execution for this planned moment.
    pub start: Option<Timestamp>,
    /// What [`Standing::queued`] is from now on.
    pub queued: Option<Timestamp>,
    /// What [`Standing::planned`] is from now on.
    pub next: Option<Timestamp>,
    /// Moments that have passed and get no start, at most [`MISSED_COUNTED_MAX`].
    pub missed: u64,
}

impl Schedule {
    /// What is to be done now; called when the planned moment has passed, and when the last execution has ended.
    ///
    /// `anchor` is that of [`Schedule::next_after`].
    pub fn due(&self, standing: &Standing, now: Timestamp, anchor: Timestamp) -> Firing {
        let due = standing.planned.filter(|planned| *planned <= now);
        let next = match due {
            Some(_) => self.next_after(now, anchor),
            None => standing.planned,
        };
        // A pause is meant: what falls into it is neither made up for nor missed.
        if self.paused {
            return Firing {
                start: None,
                queued: standing.queued,
                next,
                missed: 0,
            };
        }
        let (wanted, passed) = match due {
            Some(planned) => self.wanted(planned, now, anchor),
            None => (None, 0),
        };
        let (start, queued) = self.place(wanted, standing);
        let used = [start, queued]
            .into_iter()
            .flatten()
            .filter(|moment| wanted == Some(*moment))
            .count();
        Firing {
            start,
            queued,
            next,
            missed: passed.saturating_sub(u64::try_from(used).unwrap_or(0)),
        }
    }

    /// The moment for which there should be a start, and how many have passed.
    fn wanted(
        &self,
        planned: Timestamp,
        now: Timestamp,
        anchor: Timestamp,
    ) -> (Option<Timestamp>, u64) {
        let latest = self.latest(planned, now, anchor);
        let is_wanted = match self.missed {
            Missed::Once => true,
            Missed::Skip => now.since(latest) <= GRACE,
        };
        let mut passed = 1;
        let mut moment = planned;
        while passed < MISSED_COUNTED_MAX
            && let Some(next) = self.next_after(moment, anchor)
            && next <= now
        {
            moment = next;
            passed += 1;
        }
        (is_wanted.then_some(latest), passed)
    }

    /// The latest moment up to now: that `planned` has passed is known. The moments between may be millions, so they
    /// are not gone through: whether another one comes up to now only changes once, which a bisection finds.
    fn latest(&self, planned: Timestamp, now: Timestamp, anchor: Timestamp) -> Timestamp {
        let passed_after = |millis: i64| {
            self.next_after(Timestamp::from_millis(millis), anchor)
                .filter(|next| *next <= now)
        };
        let mut latest = planned;
        let (mut low, mut high) = (planned.as_millis(), now.as_millis());
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) / 2);
            match passed_after(middle) {
                Some(moment) => {
                    latest = latest.max(moment);
                    low = moment.as_millis();
                }
                None => high = middle,
            }
        }
        latest
    }

    /// What is started now, and what later.
    fn place(
        &self,
        wanted: Option<Timestamp>,
        standing: &Standing,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        match (standing.last, self.overlap) {
            // It waited for this; a moment that has passed meanwhile finds it running.
            (LastRun::Ended, Overlap::Queue) if standing.queued.is_some() => {
                (standing.queued, wanted)
            }
            // What was queued before the schedule was changed is not lost, and not started twice at once.
            (LastRun::Ended, _) => (wanted.or(standing.queued), None),
            (LastRun::Running, Overlap::Skip) => (None, standing.queued),
            (LastRun::Running, Overlap::Queue) => (None, standing.queued.or(wanted)),
            (LastRun::Running, Overlap::Allow) => (wanted, standing.queued),
        }
    }
}
