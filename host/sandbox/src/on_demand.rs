//! State that a call shares with streams that its guest holds, and which wasmtime owns. It is made when it is first needed:
//! many calls have no such stream, and what is made and locked for nothing is a good part of what a small call costs.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Something shared, or nothing yet.
#[derive(Debug)]
pub(crate) struct OnDemand<T>(OnceLock<Arc<Mutex<T>>>);

impl<T> OnDemand<T> {
    pub(crate) fn new() -> Self {
        OnDemand(OnceLock::new())
    }

    /// What is shared, made now if it is needed for the first time.
    pub(crate) fn shared(&self, make: impl FnOnce() -> T) -> &Arc<Mutex<T>> {
        self.0.get_or_init(|| Arc::new(Mutex::new(make())))
    }

    /// What is shared, if anybody needed it.
    pub(crate) fn if_made(&self) -> Option<MutexGuard<'_, T>> {
        self.0.get().map(|shared| lock(shared))
    }
}

impl<T> From<Arc<Mutex<T>>> for OnDemand<T> {
    fn from(shared: Arc<Mutex<T>>) -> Self {
        OnDemand(OnceLock::from(shared))
    }
}

/// A poisoned lock is no danger where this is used: what it guards is whole after every statement that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
