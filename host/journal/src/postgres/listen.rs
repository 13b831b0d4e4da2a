//! Hears that another process wrote.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::write::CHANNEL;

/// How often somebody looks though nothing was heard: what was said while the connection was away is not said again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Before a connection that was lost is made again, where that fails at once.
const CONNECT_EVERY: Duration = Duration::from_secs(1);

/// An ear with a connection of its own. It ends with this.
pub(super) struct Ear {
    /// Counts what was heard.
    heard: watch::Receiver<u64>,
    /// How much of it this process has acted on.
    seen: Mutex<u64>,
    _task: JoinSet<()>,
}

impl Ear {
    pub(super) fn open(pool: &PgPool) -> Self {
        let (count, heard) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(listen(pool.clone(), count));
        Self {
            heard,
            seen: Mutex::new(0),
            _task: task,
        }
    }

    /// Ends when something was heard since this last ended, or when it is time to look.
    pub(super) async fn wait(&self) {
        let mut heard = self.heard.clone();
        let hearing = async {
            loop {
                let count = *heard.borrow_and_update();
                {
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if std::mem::replace(&mut *seen, count) != count {
                        return;
                    }
                }
                if heard.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let _ = tokio::time::timeout(LOOK_EVERY, hearing).await;
    }
}

async fn listen(pool: PgPool, count: watch::Sender<u64>) {
    loop {
        // What went wrong is told by whoever reads and writes.
        let _ = listen_until_lost(&pool, &count).await;
        tokio::time::sleep(CONNECT_EVERY).await;
    }
}

async fn listen_until_lost(pool: &PgPool, count: &watch::Sender<u64>) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // Whatever was said before it was connected, or again, was not heard.
        count.send_modify(|count| *count += 1);
        listener.try_recv().await?;
    }
}
