//! Tells a running call to stop.

use std::sync::Arc;

use tokio::sync::watch;

/// A flag that stays up once it was raised. Clones share it, so that one flag can stop many calls.
#[derive(Clone, Debug)]
pub struct CancelFlag {
    raised: Arc<watch::Sender<bool>>,
}

impl CancelFlag {
    /// Makes a flag that nobody has raised.
    pub fn new() -> Self {
        CancelFlag {
            raised: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Raises the flag: calls that hold it end in [`crate::Outcome::Cancelled`], at the latest at the next
    /// tick of the guest's clock (a millisecond), wherever the guest is.
    pub fn cancel(&self) {
        self.raised.send_replace(true);
    }

    /// Whether the flag was raised.
    pub fn is_cancelled(&self) -> bool {
        *self.raised.borrow()
    }

    /// Waits until the flag is raised.
    pub(crate) async fn cancelled(&self) {
        let mut receiver = self.raised.subscribe();
        if receiver.wait_for(|raised| *raised).await.is_err() {
            // The sender is in `self`, which outlives this future, so there is always one.
            std::future::pending::<()>().await;
        }
    }
}

impl Default for CancelFlag {
    fn default() -> Self {
        CancelFlag::new()
    }
}
