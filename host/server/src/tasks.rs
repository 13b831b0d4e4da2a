//! Tasks with a name, so that none is forgotten and a log line says which one it was.

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Starts a task. The caller keeps the handle and joins it.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that spawns"
)]
pub(crate) fn spawn<T: Send + 'static>(
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(future.instrument(tracing::info_span!("task", name)))
}

/// Ends a task when it is dropped.
pub(crate) struct AbortOnDrop<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
