//! Tells a running call to stop.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::sync::Notify;

/// A flag that stays up once it was raised. Clones share it, so that one flag can stop many calls.
#[derive(Clone, Debug)]
pub struct CancelFlag {
    flag: Arc<Flag>,
}

#[derive(Debug)]
struct Flag {
    is_raised: AtomicBool,
    raised: Notify,
}

impl CancelFlag {
    /// Makes a flag that nobody has raised.
    pub fn new() -> Self {
        CancelFlag {
            flag: Arc::new(Flag {
                is_raised: AtomicBool::new(false),
                raised: Notify::new(),
            }),
        }
    }

    /// Raises the flag: calls that hold it end in [`crate::Outcome::Cancelled`], at the latest at the next
    /// tick of the guest's clock (a millisecond), wherever the guest is.
    pub fn cancel(&self) {
        self.flag.is_raised.store(true, Ordering::SeqCst);
        self.flag.raised.notify_waiters();
    }

    /// Whether the flag was raised.
    pub fn is_cancelled(&self) -> bool {
        self.flag.is_raised.load(Ordering::SeqCst)
    }

    /// Waits until the flag is raised.
    pub(crate) async fn cancelled(&self) {
        // Told of all that is raised from here on: nothing falls between the look and the wait.
        let raised = self.flag.raised.notified();
        if !self.is_cancelled() {
            raised.await;
        }
    }

    /// What a future gives; none where the flag is raised before it has anything, or was so before it began.
    pub(crate) async fn unless<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        if self.is_cancelled() {
            return None;
        }
        let mut future = pin!(future);
        let mut raised = pin!(self.cancelled());
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => raised.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

impl Default for CancelFlag {
    fn default() -> Self {
        CancelFlag::new()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn everyone_who_waits_learns_of_it_and_everyone_who_comes_later() {
        let flag = CancelFlag::new();
        let [mut one, mut other] = [Box::pin(flag.cancelled()), Box::pin(flag.cancelled())];
        assert!((&mut one).now_or_never().is_none());
        flag.clone().cancel();
        assert!(one.now_or_never().is_some());
        assert!(
            (&mut other).now_or_never().is_some(),
            "it never looked before"
        );
        assert!(flag.cancelled().now_or_never().is_some());
        assert!(flag.is_cancelled());
    }

    #[test]
    fn nothing_begins_once_it_is_raised_and_what_is_done_counts() {
        let flag = CancelFlag::new();
        assert_eq!(flag.unless(ready(1)).now_or_never(), Some(Some(1)));
        let mut waits = Box::pin(flag.unless(pending::<()>()));
        assert_eq!((&mut waits).now_or_never(), None);
        flag.cancel();
        assert_eq!(waits.now_or_never(), Some(None));
        assert_eq!(flag.unless(ready(1)).now_or_never(), Some(None));
    }
}
