//! A C callback with its user data.

use std::ffi::c_void;
use std::sync::Arc;

/// Frees a callback's user data. Called exactly once for each callback that was passed to the
/// library, whatever became of the call: after the last call of a callback that is called once,
/// when the callback is replaced or removed, when the last handle is freed, or at once if the call
/// was refused or the callback was NULL. Runs on the thread that does that, and never while the
/// callback runs. NULL is fine for data that needs no freeing.
pub type boxlite_destroy = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// A function of C's with the data it wants, destroyed on drop.
pub struct Callback<F> {
    pub function: F,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
}

// SAFETY: the header says that callbacks and destroy functions may run on any thread that
// dispatches, waits or frees, one at a time; the library never touches the data itself.
unsafe impl<F: Send> Send for Callback<F> {}
// SAFETY: as above.
unsafe impl<F: Sync> Sync for Callback<F> {}

impl<F> Callback<F> {
    /// Takes ownership of the user data.
    pub fn new(function: F, user_data: *mut c_void, destroy: boxlite_destroy) -> Callback<F> {
        Callback { function, user_data, destroy }
    }

    /// As [`Callback::new`] for a function that may be NULL: the data is then destroyed at once.
    pub fn optional(
        function: Option<F>,
        user_data: *mut c_void,
        destroy: boxlite_destroy,
    ) -> Option<Arc<Callback<F>>> {
        match function {
            Some(function) => Some(Arc::new(Callback::new(function, user_data, destroy))),
            None => {
                drop(Callback::new((), user_data, destroy));
                None
            }
        }
    }

    pub fn user_data(&self) -> *mut c_void {
        self.user_data
    }
}

impl<F> Drop for Callback<F> {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the function and the data belong together, by the caller's promise, and
            // this is the only call.
            unsafe { destroy(self.user_data) };
        }
    }
}
