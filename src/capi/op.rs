//! Operations: work that takes long, as one concept.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use boxlite_events::completion::{Completion, Due, IsDue, NoResult};
use boxlite_events::queue::{Deadline, Delivery, Source, Turn};
use futures_util::FutureExt;

use super::attach::boxlite_exec_list;
use super::boxes::boxlite_box;
use super::error::{boxlite_error, boxlite_status, guard, in_callback};
use super::exec::boxlite_exec;
use super::files::boxlite_file_list;
use super::info::{boxlite_box_info, boxlite_info_list};
use super::metrics::{boxlite_metrics, boxlite_text};
use super::output::boxlite_output;
use super::pointer::{self, Counted, Handles, Out};
use super::progress::boxlite_progress;
use super::runtime::boxlite_runtime;
use super::snapshots::{boxlite_snapshot, boxlite_snapshot_list};
use super::userdata::{Callback, boxlite_destroy};
use crate::error::{Code, Error, Result};
use crate::{BoxHandle, BoxInfo, Exec, ExecInfo, Observer, Output, Progress, Snapshot, StoredFile};

/// Work that was started by a call and completes once: with a result, which is taken from it once,
/// or with an error. Counted. Keeps its runtime alive.
pub struct boxlite_op {
    runtime: Arc<boxlite_runtime>,
    handles: Handles,
    turn: Turn,
    cancelled: Arc<tokio::sync::Notify>,
    state: State,
}

impl Counted for boxlite_op {
    fn handles(&self) -> &Handles {
        &self.handles
    }

    fn is_forked(&self) -> bool {
        self.runtime.is_forked()
    }
}

/// What an operation results in.
pub enum OpValue {
    Nothing,
    Box(BoxHandle),
    /// In the order in which they are taken.
    Boxes(VecDeque<BoxHandle>),
    Exec(Exec),
    Info(Box<BoxInfo>),
    List(Vec<BoxInfo>),
    Execs(Vec<ExecInfo>),
    Output(Box<Output>),
    Metrics(boxlite_metrics),
    Text(String),
    /// None if there is none of that name.
    Snapshot(Option<Box<Snapshot>>),
    Snapshots(Vec<Snapshot>),
    Files(Vec<StoredFile>),
}

/// Called when an operation has completed, once, inside boxlite_dispatch(). op is borrowed; the
/// callback may take its result, which returns the error of one that failed, and free it.
pub type boxlite_op_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, op: *mut boxlite_op)>;

/// Called with an operation's progress, inside boxlite_dispatch(). progress is borrowed: good until
/// the callback returns.
pub type boxlite_progress_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, progress: *const boxlite_progress)>;

type OpFn = unsafe extern "C" fn(*mut c_void, *mut boxlite_op);
type ProgressFn = unsafe extern "C" fn(*mut c_void, *const boxlite_progress);

/// Ready when an operation is cancelled.
pub type Cancelled = Pin<Box<dyn Future<Output = ()> + Send>>;

type State = Completion<OpValue, Error, Progress, Arc<Callback<OpFn>>, Arc<Callback<ProgressFn>>>;

impl boxlite_op {
    /// Starts work in the background; it gets an observer for its progress. Cancelled, it is
    /// dropped.
    pub fn start<W: Future<Output = Result<OpValue>> + Send + 'static>(
        runtime: Arc<boxlite_runtime>,
        work: impl FnOnce(Observer) -> W,
    ) -> Arc<boxlite_op> {
        Self::start_undoing(runtime, |observer, cancelled| {
            let work = work(observer);
            async move {
                tokio::select! {
                    biased;
                    () = cancelled => {
                        Err(Error::new(Code::Cancelled, "the operation was cancelled"))
                    }
                    outcome = work => outcome,
                }
            }
        })
    }

    /// As [`boxlite_op::start`], for work that undoes what it has half done before it completes: it
    /// gets a future that is ready when the operation is cancelled.
    pub fn start_undoing<W: Future<Output = Result<OpValue>> + Send + 'static>(
        runtime: Arc<boxlite_runtime>,
        work: impl FnOnce(Observer, Cancelled) -> W,
    ) -> Arc<boxlite_op> {
        let op = Arc::new(boxlite_op {
            runtime,
            handles: Handles::default(),
            turn: Turn::default(),
            cancelled: Arc::default(),
            state: State::default(),
        });
        let observed = Arc::downgrade(&op);
        let observer: Observer = Arc::new(move |progress| {
            if let Some(op) = observed.upgrade() {
                op.progress(progress);
            }
        });
        let work = work(observer, Box::pin(op.cancelled.clone().notified_owned()));
        let running = op.clone();
        op.runtime.spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            running.complete(outcome.unwrap_or_else(|_| {
                Err(Error::new(Code::Panic, "the library panicked; please report it"))
            }));
        });
        op
    }

    fn wake_if(self: &Arc<Self>, due: IsDue) {
        if due.0 {
            let source: Arc<dyn Source> = self.clone();
            self.runtime.queue().wake(&source);
        }
    }

    fn progress(self: &Arc<Self>, progress: Progress) {
        // Only the latest count of bytes is of interest.
        let is_bytes = |p: &Progress| matches!(p, Progress::Bytes { .. });
        let due = self.state.progress(progress, |new, last| is_bytes(new) && is_bytes(last));
        self.wake_if(due);
    }

    fn complete(self: &Arc<Self>, outcome: Result<OpValue>) {
        let (due, unwanted) = self.state.complete(outcome);
        // Nobody can take it: dropped with nothing locked.
        drop(unwanted);
        self.wake_if(due);
        self.runtime.queue().notify();
    }

    /// Takes the result, once, if it is of the wanted kind.
    pub fn take<T>(&self, pick: impl FnOnce(OpValue) -> Result<T, OpValue>) -> Result<T> {
        self.runtime.get()?;
        self.state.take(pick).map_err(no_result)
    }

    /// The same for a result of several parts, of which the rest is returned too.
    fn take_part<T>(
        &self,
        pick: impl FnOnce(OpValue) -> Result<(T, Option<OpValue>), OpValue>,
    ) -> Result<T> {
        self.runtime.get()?;
        self.state.take_part(pick).map_err(no_result)
    }

    /// Waits for the end, whether or not anybody dispatches.
    pub fn wait(&self, deadline: Deadline) -> Result<()> {
        let done = || self.state.is_done();
        if self.runtime.queue().wait_until(deadline, done).map_err(in_callback)? {
            return self.state.outcome().map_err(no_result);
        }
        Err(Error::new(Code::Timeout, "the operation is still under way"))
    }
}

fn no_result(why: NoResult<Error>) -> Error {
    let text = match why {
        NoResult::Failed(error) => return error,
        NoResult::Incomplete => "the operation has not completed: wait for it first",
        NoResult::OtherKind => "the operation's result is another type",
        NoResult::Taken => "the result was taken already",
    };
    Error::new(Code::InvalidState, text)
}

impl Source for boxlite_op {
    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn deliver(&self) -> Delivery {
        match self.state.next_due() {
            Some(Due::Progress(callback, progress)) => {
                let progress = boxlite_progress::new(progress);
                // SAFETY: the caller's function with its own data; nothing is locked.
                unsafe { (callback.function)(callback.user_data(), &progress) };
            }
            Some(Due::Complete(callback)) => {
                let op = std::ptr::from_ref(self).cast_mut();
                // SAFETY: as above; whoever dispatches holds a count on us.
                unsafe { (callback.function)(callback.user_data(), op) };
            }
            None => return Delivery::Nothing,
        }
        Delivery::One
    }
}

/// Adds a handle on an operation, to be freed like the first: operations are counted. Returns op;
/// NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_ref(op: *mut boxlite_op) -> *mut boxlite_op {
    // SAFETY: a live handle or NULL.
    unsafe { pointer::add_handle(op) }
}

/// Frees a handle on an operation. With the last one, while it is under way the work goes on and
/// its result is dropped; no callback is called any more, except one that runs just now. Allowed
/// inside its own callbacks. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_free(op: *mut boxlite_op) {
    // SAFETY: a live handle that is not used again, or NULL.
    let Some((op, last)) = (unsafe { pointer::take_back_shared(op) }) else { return };
    if last {
        let source: Arc<dyn Source> = op.clone();
        op.runtime.queue().forget(&source);
        drop(op.state.free());
    }
}

/// Whether the operation has completed, well or not; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_is_done(op: *const boxlite_op) -> bool {
    // SAFETY: a live handle or NULL.
    unsafe { pointer::borrow(op, "op") }.is_ok_and(|op| !op.is_forked() && op.state.is_done())
}

/// How the operation ended: BOXLITE_OK if it succeeded, its own status and error if it failed,
/// BOXLITE_WOULD_BLOCK if it is still under way. Does not wait; for completion callbacks, where
/// boxlite_op_wait() is not allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_status(
    op: *const boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let op = pointer::borrow(op, "op")?;
            op.runtime.get()?;
            op.state.outcome().map_err(|why| match why {
                NoResult::Incomplete => {
                    Error::new(Code::WouldBlock, "the operation is still under way")
                }
                other => no_result(other),
            })
        })
    }
}

/// Waits until the operation has completed, up to timeout_ms milliseconds; negative: without end.
/// Works whether or not anybody dispatches, from any number of threads. Returns BOXLITE_OK if the
/// operation succeeded, its own status and error if it failed, BOXLITE_TIMEOUT if it is still under
/// way (boxlite_op_is_done() tells that from an operation that failed so itself). From inside a
/// callback: BOXLITE_BUSY.
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
            op.wait(Deadline::after_ms(timeout_ms))
        })
    }
}

/// Asks an operation to stop. It then completes with BOXLITE_CANCELLED, or with its result if that
/// was faster. A box that was half made or half started is undone before that, a command is killed;
/// a stop or a removal that has begun goes on. No effect on an operation that has completed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_cancel(
    op: *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let op = pointer::borrow(op, "op")?;
            op.runtime.get()?;
            op.cancelled.notify_one();
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
            let (due, old) = op.state.on_complete(callback);
            drop(old);
            op.wake_if(due);
            Ok(())
        })
    }
}

/// Has callback called with the operation's progress, inside boxlite_dispatch(), before its
/// completion. What happened before this call is reported too, the last 64 steps of it. A second
/// call replaces the callback; NULL removes it. destroy frees user_data, see boxlite_destroy.
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
            let (due, old) = op.state.on_progress(callback);
            drop(old);
            op.wake_if(due);
            Ok(())
        })
    }
}

/// Takes the box that boxlite_box_create(), boxlite_box_import() or boxlite_box_get() resulted in,
/// or the next one of boxlite_box_clone(), in the order of the names. *box_out is owned by the
/// caller. BOXLITE_INVALID_STATE before completion, for another type, and when all was taken; the
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
            let handle = op.take_part(|value| match value {
                OpValue::Box(handle) => Ok((handle, None)),
                OpValue::Boxes(mut handles) => match handles.pop_front() {
                    Some(first) if handles.is_empty() => Ok((first, None)),
                    Some(first) => Ok((first, Some(OpValue::Boxes(handles)))),
                    None => Err(OpValue::Boxes(handles)),
                },
                other => Err(other),
            })?;
            out.give_shared(Arc::new(boxlite_box::new(op.runtime.clone(), handle)));
            Ok(())
        })
    }
}

/// Takes the exec that boxlite_box_exec() or boxlite_box_attach() resulted in. *exec is owned by
/// the caller. Errors as for boxlite_op_take_box().
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

/// Takes the list that boxlite_box_list_execs() resulted in. *list is owned by the caller. Errors
/// as for boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_exec_list(
    op: *mut boxlite_op,
    list: *mut *mut boxlite_exec_list,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(list, "list")?;
            let infos = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Execs(infos) => Ok(infos),
                other => Err(other),
            })?;
            out.give(boxlite_exec_list::new(infos));
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

/// Takes the snapshot that boxlite_box_snapshot_create() or boxlite_box_snapshot_get() resulted
/// in. *snapshot is owned by the caller; NULL if there is none of that name. Errors as for
/// boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_snapshot(
    op: *mut boxlite_op,
    snapshot: *mut *mut boxlite_snapshot,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(snapshot, "snapshot")?;
            let taken = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Snapshot(snapshot) => Ok(snapshot),
                other => Err(other),
            })?;
            match taken {
                Some(snapshot) => out.give(boxlite_snapshot::new(*snapshot)),
                None => out.write(std::ptr::null_mut()),
            }
            Ok(())
        })
    }
}

/// Takes the list that boxlite_box_snapshot_list() resulted in. *list is owned by the caller.
/// Errors as for boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_snapshot_list(
    op: *mut boxlite_op,
    list: *mut *mut boxlite_snapshot_list,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(list, "list")?;
            let snapshots = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Snapshots(snapshots) => Ok(snapshots),
                other => Err(other),
            })?;
            out.give(boxlite_snapshot_list::new(snapshots));
            Ok(())
        })
    }
}

/// Takes the list that boxlite_runtime_list_files() or boxlite_runtime_prune() resulted in. *list
/// is owned by the caller. Errors as for boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_file_list(
    op: *mut boxlite_op,
    list: *mut *mut boxlite_file_list,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(list, "list")?;
            let files = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Files(files) => Ok(files),
                other => Err(other),
            })?;
            out.give(boxlite_file_list::new(files));
            Ok(())
        })
    }
}

/// Takes the output that boxlite_box_run() resulted in. *output is owned by the caller. Errors as
/// for boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_output(
    op: *mut boxlite_op,
    output: *mut *mut boxlite_output,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(output, "output")?;
            let taken = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Output(output) => Ok(output),
                other => Err(other),
            })?;
            out.give(boxlite_output::new(*taken));
            Ok(())
        })
    }
}

/// Takes the metrics that boxlite_box_metrics() or boxlite_runtime_metrics() resulted in. *metrics
/// is owned by the caller. Errors as for boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_metrics(
    op: *mut boxlite_op,
    metrics: *mut *mut boxlite_metrics,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(metrics, "metrics")?;
            out.give(pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Metrics(metrics) => Ok(metrics),
                other => Err(other),
            })?);
            Ok(())
        })
    }
}

/// Takes the text that boxlite_runtime_metrics_text() or boxlite_box_export() resulted in. *text is
/// owned by the caller. Errors as for boxlite_op_take_box().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_take_text(
    op: *mut boxlite_op,
    text: *mut *mut boxlite_text,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(text, "text")?;
            let taken = pointer::borrow(op, "op")?.take(|value| match value {
                OpValue::Text(text) => Ok(text),
                other => Err(other),
            })?;
            out.give(boxlite_text::new(&taken));
            Ok(())
        })
    }
}
