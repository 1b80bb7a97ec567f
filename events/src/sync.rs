//! Locks and thread-locals: the standard library's, or those of the model checker.

#[cfg(loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic};

use std::cell::Cell;
use std::sync::PoisonError;

#[cfg(loom)]
loom::thread_local! {
    static DISPATCHING: Cell<bool> = Cell::new(false);
}
#[cfg(not(loom))]
thread_local! {
    static DISPATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Notes whether this thread is dispatching, and returns what was noted before.
pub fn set_dispatching(now: bool) -> bool {
    DISPATCHING.with(|flag| flag.replace(now))
}

/// A panic in a callback leaves every state here as consistent as it was.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
