//! Operations: work that takes long, as one concept.

use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_void};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;

use super::boxes::boxlite_box;
use super::error::{boxlite_error, boxlite_status, guard};
use super::exec::boxlite_exec;
use super::info::{boxlite_box_info, boxlite_info_list};
use super::pointer::{self, Counted, Out};
use super::queue::{Deadline, Delivery, Source, Turn};
use super::runtime::boxlite_runtime;
use super::text;
use super::userdata::{Callback, boxlite_destroy};
use crate::error::{Code, Error, Result};
use crate::{BoxHandle, BoxInfo, Exec, Observer, Progress};

/// Work that was started by a call and completes once: with a result, which is taken from it once,
/// or with an error. Any thread may use it.
pub struct boxlite_op {
    runtime: Arc<boxlite_runtime>,
    turn: Turn,
    cancelled: tokio::sync::Notify,
    state: Mutex<State>,
}

impl Counted for boxlite_op {}

/// What an operation results in.
pub enum OpValue {
    Nothing,
    Box(BoxHandle),
    Exec(Exec),
    Info(Box<BoxInfo>),
    List(Vec<BoxInfo>),
}

/// Called when an operation has completed, once, inside boxlite_dispatch(). op is borrowed; the
/// callback may take its result and free it.
pub type boxlite_op_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, op: *mut boxlite_op)>;

/// Called with an operation's progress, inside boxlite_dispatch(). progress is borrowed: good until
/// the callback returns.
pub type boxlite_progress_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, progress: *const boxlite_progress)>;

type OpFn = unsafe extern "C" fn(*mut c_void, *mut boxlite_op);
type ProgressFn = unsafe extern "C" fn(*mut c_void, *const boxlite_progress);

struct State {
    outcome: Option<Result<Option<OpValue>>>,
    progress: VecDeque<Progress>,
    on_progress: Option<Arc<Callback<ProgressFn>>>,
    on_complete: Option<Arc<Callback<OpFn>>>,
    /// The handle was freed: nobody is called any more.
    freed: bool,
}

/// Progress that nobody has asked for yet: the oldest goes first.
const MAX_PROGRESS: usize = 64;

impl boxlite_op {
    /// Starts work in the background; it gets an observer for its progress.
    pub fn start<W: Future<Output = Result<OpValue>> + Send + 'static>(
        runtime: Arc<boxlite_runtime>,
        work: impl FnOnce(Observer) -> W,
    ) -> Arc<boxlite_op> {
        let state = State {
            outcome: None,
            progress: VecDeque::new(),
            on_progress: None,
            on_complete: None,
            freed: false,
        };
        let op = Arc::new(boxlite_op {
            runtime,
            turn: Turn::default(),
            cancelled: tokio::sync::Notify::new(),
            state: Mutex::new(state),
        });
        let observed = Arc::downgrade(&op);
        let work = work(Arc::new(move |progress| {
            if let Some(op) = observed.upgrade() {
                op.progress(progress);
            }
        }));
        let running = op.clone();
        op.runtime.spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = running.cancelled.notified() => {
                    Err(Error::new(Code::Cancelled, "the operation was cancelled"))
                }
                outcome = AssertUnwindSafe(work).catch_unwind() => outcome.unwrap_or_else(|_| {
                    Err(Error::new(Code::Panic, "the library panicked; please report it"))
                }),
            };
            running.complete(outcome);
        });
        op
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(self: &Arc<Self>) {
        let source: Arc<dyn Source> = self.clone();
        self.runtime.queue().wake(&source);
    }

    fn progress(self: &Arc<Self>, progress: Progress) {
        let mut state = self.lock();
        if state.freed {
            return;
        }
        let is_bytes = |p: &Progress| matches!(p, Progress::Bytes { .. });
        match state.progress.back_mut() {
            // Only the latest count is of interest.
            Some(last) if is_bytes(last) && is_bytes(&progress) => *last = progress,
            _ => state.progress.push_back(progress),
        }
        if state.progress.len() > MAX_PROGRESS {
            state.progress.pop_front();
        }
        let wanted = state.on_progress.is_some();
        drop(state);
        if wanted {
            self.wake();
        }
    }

    fn complete(self: &Arc<Self>, outcome: Result<OpValue>) {
        let mut state = self.lock();
        if state.freed {
            // Nobody can take the result: it is dropped here, with nothing locked.
            drop(state);
            return;
        }
        state.outcome = Some(outcome.map(Some));
        let wanted = state.on_complete.is_some();
        drop(state);
        if wanted {
            self.wake();
        } else {
            self.runtime.queue().notify();
        }
    }

    fn is_done(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// The error of an operation that failed; INVALID_STATE for one that has not completed.
    fn check(&self) -> Result<()> {
        match &self.lock().outcome {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.clone()),
            None => Err(incomplete()),
        }
    }

    /// Takes the result, once, if it is of the wanted kind.
    fn take<T>(&self, pick: impl FnOnce(OpValue) -> Result<T, OpValue>) -> Result<T> {
        let mut state = self.lock();
        match state.outcome.as_mut() {
            None => Err(incomplete()),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(value)) => match value.take().map(pick) {
                Some(Ok(taken)) => Ok(taken),
                Some(Err(other)) => {
                    *value = Some(other);
                    Err(Error::new(Code::InvalidState, "the operation's result is another type"))
                }
                None => Err(Error::new(Code::InvalidState, "the result was taken already")),
            },
        }
    }
}

fn incomplete() -> Error {
    Error::new(Code::InvalidState, "the operation has not completed: wait for it first")
}

impl Source for boxlite_op {
    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn deliver(&self) -> Delivery {
        let mut state = self.lock();
        if let Some(callback) = state.on_progress.clone()
            && let Some(progress) = state.progress.pop_front()
        {
            drop(state);
            let progress = boxlite_progress::new(progress);
            // SAFETY: the caller's function with its own data; nothing is locked.
            unsafe { (callback.function)(callback.user_data(), &progress) };
            return Delivery::One;
        }
        if state.outcome.is_some()
            && let Some(callback) = state.on_complete.take()
        {
            drop(state);
            // SAFETY: as above; whoever dispatches holds a count on us.
            unsafe {
                (callback.function)(callback.user_data(), std::ptr::from_ref(self).cast_mut());
            }
            return Delivery::One;
        }
        Delivery::Nothing
    }
}

/// Frees an operation. While it is under way the work goes on and its result is dropped; no
/// callback is called any more, except one that runs just now. Allowed inside its own callbacks.
/// NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_free(op: *mut boxlite_op) {
    // SAFETY: a live handle that is not used again, or NULL.
    let Some(op) = (unsafe { pointer::take_back_shared(op) }) else { return };
    let source: Arc<dyn Source> = op.clone();
    op.runtime.queue().forget(&source);
    let mut state = op.lock();
    state.freed = true;
    let callbacks = (state.on_progress.take(), state.on_complete.take());
    // A result that nobody took: dropped here rather than whenever.
    let value = state.outcome.as_mut().and_then(|o| o.as_mut().ok()).and_then(Option::take);
    drop(state);
    drop((callbacks, value));
}

/// Whether the operation has completed; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_is_done(op: *const boxlite_op) -> bool {
    // SAFETY: a live handle or NULL.
    unsafe { pointer::borrow(op, "op") }.is_ok_and(boxlite_op::is_done)
}

/// Waits until the operation has completed, up to timeout_ms milliseconds; negative: without end.
/// Works whether or not anybody dispatches, from any number of threads. Returns BOXLITE_OK if the
/// operation succeeded, its own status and error if it failed, BOXLITE_TIMEOUT if it is still under
/// way. From inside a callback: BOXLITE_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_wait(
    op: *mut boxlite_op,
    timeout_ms: i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let op = pointer::share(op, "op")?;
            op.runtime.get()?;
            let deadline = Deadline::after_ms(timeout_ms);
            if op.runtime.queue().wait_until(deadline, || op.is_done())? {
                return op.check();
            }
            Err(Error::new(Code::Timeout, "the operation is still under way"))
        })
    }
}

/// Asks an operation to stop. It then completes with BOXLITE_CANCELLED, or with its result if that
/// was faster; what it had half done is undone. No effect on one that has completed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_cancel(
    op: *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow(op, "op")?.cancelled.notify_one();
            Ok(())
        })
    }
}

/// Has callback called once when the operation has completed, inside boxlite_dispatch(); also if it
/// has completed already. A second call replaces a callback that was not called yet; NULL removes
/// it. destroy frees user_data, see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_on_complete(
    op: *mut boxlite_op,
    callback: boxlite_op_callback,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let callback = Callback::optional(callback, user_data, destroy);
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let op = pointer::share(op, "op")?;
            op.runtime.get()?;
            let mut state = op.lock();
            let old = std::mem::replace(&mut state.on_complete, callback);
            let due = state.outcome.is_some() && state.on_complete.is_some();
            drop(state);
            drop(old);
            if due {
                op.wake();
            }
            Ok(())
        })
    }
}

/// Has callback called with the operation's progress, inside boxlite_dispatch(). What happened
/// before this call is reported too, as far as it is remembered. NULL removes the callback. destroy
/// frees user_data, see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_on_progress(
    op: *mut boxlite_op,
    callback: boxlite_progress_callback,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let callback = Callback::optional(callback, user_data, destroy);
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let op = pointer::share(op, "op")?;
            op.runtime.get()?;
            let mut state = op.lock();
            let old = std::mem::replace(&mut state.on_progress, callback);
            let due = !state.progress.is_empty() && state.on_progress.is_some();
            drop(state);
            drop(old);
            if due {
                op.wake();
            }
            Ok(())
        })
    }
}

/// Takes the box that boxlite_box_create() or boxlite_box_get() resulted in. *box_out is owned by
/// the caller. BOXLITE_INVALID_STATE before completion, for another type, and the second time; the
/// operation's own error if it failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_box(
    op: *mut boxlite_op,
    box_out: *mut *mut boxlite_box,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(box_out, "box_out")?;
            let op = pointer::borrow(op, "op")?;
            let handle = op.take(|value| match value {
                OpValue::Box(handle) => Ok(handle),
                other => Err(other),
            })?;
            out.give_shared(Arc::new(boxlite_box::new(op.runtime.clone(), handle)));
            Ok(())
        })
    }
}

/// Takes the exec that boxlite_box_exec() resulted in. *exec is owned by the caller. Errors as for
/// boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_exec(
    op: *mut boxlite_op,
    exec: *mut *mut boxlite_exec,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(exec, "exec")?;
            let op = pointer::borrow(op, "op")?;
            let exec = op.take(|value| match value {
                OpValue::Exec(exec) => Ok(exec),
                other => Err(other),
            })?;
            out.give_shared(boxlite_exec::new(op.runtime.clone(), exec));
            Ok(())
        })
    }
}

/// Takes the information that boxlite_box_inspect() resulted in. *info is owned by the caller.
/// Errors as for boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_info(
    op: *mut boxlite_op,
    info: *mut *mut boxlite_box_info,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(info, "info")?;
            let info = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Info(info) => Ok(info),
                other => Err(other),
            })?;
            out.give(boxlite_box_info::new(*info));
            Ok(())
        })
    }
}

/// Takes the list that boxlite_box_list() resulted in. *list is owned by the caller. Errors as for
/// boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_info_list(
    op: *mut boxlite_op,
    list: *mut *mut boxlite_info_list,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(list, "list")?;
            let infos = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::List(infos) => Ok(infos),
                other => Err(other),
            })?;
            out.give(boxlite_info_list::new(infos));
            Ok(())
        })
    }
}

/// One step of an operation's progress: a stage that is done, or a count of bytes.
pub struct boxlite_progress {
    stage: Option<CString>,
    microseconds: u64,
    done: u64,
    total: u64,
}

impl boxlite_progress {
    fn new(progress: Progress) -> boxlite_progress {
        match progress {
            Progress::Stage { name, elapsed } => boxlite_progress {
                stage: Some(text::c_string(&name)),
                microseconds: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                done: 0,
                total: 0,
            },
            Progress::Bytes { done, total } => {
                boxlite_progress { stage: None, microseconds: 0, done, total }
            }
        }
    }
}

/// The name of the stage that is done; NULL if this is a count of bytes. Borrowed: good until the
/// callback returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_stage(
    progress: *const boxlite_progress,
) -> *const c_char {
    // SAFETY: a live progress or NULL.
    let progress = unsafe { pointer::borrow(progress, "progress") };
    text::borrowed(progress.ok().and_then(|p| p.stage.as_ref()))
}

/// How long the stage took, in microseconds; 0 if this is a count of bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_microseconds(progress: *const boxlite_progress) -> u64 {
    // SAFETY: a live progress or NULL.
    unsafe { pointer::borrow(progress, "progress") }.map_or(0, |p| p.microseconds)
}

/// The bytes of the image that were processed; 0 if this is a stage.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_bytes_done(progress: *const boxlite_progress) -> u64 {
    // SAFETY: a live progress or NULL.
    unsafe { pointer::borrow(progress, "progress") }.map_or(0, |p| p.done)
}

/// The bytes of the image that there are to process; 0 if this is a stage.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_bytes_total(progress: *const boxlite_progress) -> u64 {
    // SAFETY: a live progress or NULL.
    unsafe { pointer::borrow(progress, "progress") }.map_or(0, |p| p.total)
}
