//! The runtime handle, and dispatch.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use boxlite_events::queue::{Deadline, Queue};

use super::error::{boxlite_error, boxlite_status, guard, in_callback};
use super::log::Log;
use super::op::{OpValue, boxlite_op};
use super::options::boxlite_runtime_options;
use super::pointer::{self, Counted, Handles, Out};
use crate::error::{Code, Error, Result};
use crate::{Counter, Runtime, RuntimeOptions};

/// An open home. Counted: boxes, execs and operations keep it alive.
pub struct boxlite_runtime {
    runtime: ManuallyDrop<Runtime>,
    tasks: ManuallyDrop<tokio::runtime::Runtime>,
    handles: Handles,
    queue: Arc<Queue>,
    log: Arc<Log>,
    pid: u32,
}

impl Counted for boxlite_runtime {
    fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Then its threads do not exist here, their locks may be held for ever, and the files are
    /// the parent's.
    fn is_forked(&self) -> bool {
        self.pid != std::process::id()
    }
}

impl boxlite_runtime {
    pub fn open(options: &RuntimeOptions) -> Result<boxlite_runtime> {
        let failed = |e: std::io::Error| Error::io(Code::Internal, "start background threads", &e);
        let queue = Arc::new(Queue::new().map_err(failed)?);
        let log = Log::new(&queue);
        let dispatch = log.dispatch();
        let tasks = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(16)
            .thread_name("boxlite")
            .on_thread_start(move || {
                block_signals();
                // For as long as the thread lives.
                std::mem::forget(tracing::dispatcher::set_default(&dispatch));
            })
            .enable_all()
            .build()
            .map_err(failed)?;
        let runtime = {
            let _inside = tasks.enter();
            Runtime::open(options)?
        };
        Ok(boxlite_runtime {
            runtime: ManuallyDrop::new(runtime),
            tasks: ManuallyDrop::new(tasks),
            handles: Handles::default(),
            queue,
            log,
            pid: std::process::id(),
        })
    }

    /// The runtime of this process: in a forked child its threads do not exist.
    pub fn get(&self) -> Result<&Runtime> {
        if self.is_forked() {
            return Err(Error::new(
                Code::InvalidState,
                "the handle is of the process that this one was forked from: it works only there",
            ));
        }
        Ok(&self.runtime)
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Starts an operation on the home.
    pub(super) fn operate<W: Future<Output = Result<OpValue>> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(Runtime) -> W,
    ) -> Result<Arc<boxlite_op>> {
        let runtime = self.get()?.clone();
        Ok(boxlite_op::start(self.clone(), |_| work(runtime)))
    }
}

impl Drop for boxlite_runtime {
    fn drop(&mut self) {
        // SAFETY: dropped here and never used again. The home first, which notes what becomes of
        // its boxes; then the threads, without waiting: this may be one of them.
        unsafe {
            ManuallyDrop::drop(&mut self.runtime);
            ManuallyDrop::take(&mut self.tasks).shutdown_background();
        }
    }
}

/// The host program's signal handlers run on its own threads, not on ours.
fn block_signals() {
    // SAFETY: fills a local set and sets this thread's mask.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// Opens a home. options may be NULL for defaults, and may be freed afterwards. Several programs,
/// and several runtimes of one, may have the same home open. Blocks for as long as it reads and
/// writes files of the home; another program that just writes to its database is waited for, up to
/// 10 s.
///
/// Errors: BOXLITE_STORAGE (the home cannot be made or written), BOXLITE_BUSY (another program is
/// changing its layout), BOXLITE_DATABASE (it belongs to other or newer software), BOXLITE_CONFIG
/// (the helper programs are not found, or there is no home to take), BOXLITE_INVALID_ARGUMENT
/// ($BOXLITE_ACCELERATOR is malformed), BOXLITE_RESOURCE_EXHAUSTED (descriptors, threads, disk
/// space), BOXLITE_INVALID_STATE (a runtime was open when this process was forked from another).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_open(
    options: *const boxlite_runtime_options,
    runtime: *mut *mut boxlite_runtime,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(runtime, "runtime")?;
            let defaults = RuntimeOptions::new();
            let options = options.as_ref().map_or(&defaults, |o| &o.0);
            out.give_shared(Arc::new(boxlite_runtime::open(options)?));
            Ok(())
        })
    }
}

/// Adds a handle on a runtime, to be freed like the first: runtimes are counted. Returns runtime;
/// NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_ref(
    runtime: *mut boxlite_runtime,
) -> *mut boxlite_runtime {
    // SAFETY: a live handle or NULL.
    unsafe { pointer::add_handle(runtime) }
}

/// Frees a runtime handle; keep one for as long as you dispatch. When the last box, exec and
/// operation of the runtime is freed too, the boxes it started are stopped at once, without a
/// grace, unless they are detached: use boxlite_runtime_shutdown() before for an orderly end. Does
/// not wait for them, but may write to files of the home. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_free(runtime: *mut boxlite_runtime) {
    // SAFETY: a live handle that is not used again, or NULL.
    if let Some((runtime, true)) = unsafe { pointer::take_back_shared(runtime) } {
        // Nobody can dispatch any more.
        runtime.log.close();
    }
}

/// Stops all boxes that this runtime started, all at the same time: their processes get SIGTERM
/// and grace_ms milliseconds to end, then SIGKILL, and their disks are unmounted. Detached ones run
/// on. Machines that wait for boxes end too, and no more are made. The operation has no result; its
/// error is the first of those boxes that could not be stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_shutdown(
    runtime: *mut boxlite_runtime,
    grace_ms: u32,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let grace = Duration::from_millis(u64::from(grace_ms));
            let started = shared.operate(|runtime| async move {
                runtime.shutdown(grace).await.map(|()| OpValue::Nothing)
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// How many machines wait for boxes now, see boxlite_runtime_options_set_pool_size(); 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_pool_ready(runtime: *const boxlite_runtime) -> u32 {
    // SAFETY: a live handle or NULL.
    let ready =
        unsafe { pointer::borrow(runtime, "runtime") }.map_or(0, |r| r.runtime.pool_ready());
    u32::try_from(ready).unwrap_or(u32::MAX)
}

/// What a runtime counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_counter {
    /// Boxes started by booting their kernel.
    BOXLITE_COUNTER_COLD_STARTS = 0,
    /// Boxes restored from a machine template.
    BOXLITE_COUNTER_RESTORED_STARTS = 1,
    /// Boxes that got a machine which was waiting for one.
    BOXLITE_COUNTER_POOLED_STARTS = 2,
    /// Machine templates made.
    BOXLITE_COUNTER_TEMPLATES_MADE = 3,
    /// Times that a faster way to start a box did not work; the log has a warning on each.
    BOXLITE_COUNTER_DETOURS = 4,
    /// Disk templates made: machine templates that have the disk of an image mounted.
    BOXLITE_COUNTER_DISK_TEMPLATES_MADE = 5,
    /// Boxes made.
    BOXLITE_COUNTER_BOXES_CREATED = 6,
    /// Boxes that could not be started, or came to an unwanted end.
    BOXLITE_COUNTER_BOXES_FAILED = 7,
    /// Boxes that ended as they were meant to.
    BOXLITE_COUNTER_BOXES_STOPPED = 8,
    /// Commands started.
    BOXLITE_COUNTER_COMMANDS_EXECUTED = 9,
    /// Commands that could not be started.
    BOXLITE_COUNTER_EXEC_ERRORS = 10,
}

/// How often this runtime has done something since it was opened, by a boxlite_counter; 0 for one
/// that does not exist, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_counter(
    runtime: *const boxlite_runtime,
    counter: i32,
) -> u64 {
    let counter = match counter {
        0 => Counter::ColdStarts,
        1 => Counter::RestoredStarts,
        2 => Counter::PooledStarts,
        3 => Counter::TemplatesMade,
        4 => Counter::Detours,
        5 => Counter::DiskTemplatesMade,
        6 => Counter::BoxesCreated,
        7 => Counter::BoxesFailed,
        8 => Counter::BoxesStopped,
        9 => Counter::CommandsExecuted,
        10 => Counter::ExecErrors,
        _ => return 0,
    };
    // SAFETY: a live handle or NULL.
    unsafe { pointer::borrow(runtime, "runtime") }.map_or(0, |r| r.runtime.counter(counter))
}

/// A descriptor that is readable while there may be something to dispatch; -1 for NULL. For poll,
/// epoll (after an edge: dispatch until BOXLITE_TIMEOUT) and libuv's uv_poll. Borrowed: good until
/// the runtime is freed; never read, write or close it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_fd(runtime: *const boxlite_runtime) -> i32 {
    // SAFETY: a live handle or NULL.
    unsafe { pointer::borrow(runtime, "runtime") }.map_or(-1, |r| r.queue.event_fd())
}

/// Runs one callback that is due, on this thread. Waits for one up to timeout_ms milliseconds; 0
/// does not wait, a negative value waits without end. BOXLITE_OK if a callback ran, BOXLITE_TIMEOUT
/// (without an error object) if none did. *left, unless left is NULL, is in both cases the number
/// of sources that may have more: call again while it is not 0. Several threads may dispatch at
/// once, and the callbacks of one exec or operation still run one after the other. From inside a
/// callback, of whatever runtime: BOXLITE_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_dispatch(
    runtime: *mut boxlite_runtime,
    timeout_ms: i32,
    left: *mut usize,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let mut timed_out = false;
    // SAFETY: pointers as the header demands.
    let status = unsafe {
        guard(error, || {
            let runtime = pointer::share(runtime, "runtime")?;
            runtime.get()?;
            let deadline = Deadline::after_ms(timeout_ms);
            let (delivered, more) = runtime.queue.dispatch(deadline).map_err(in_callback)?;
            timed_out = !delivered;
            if let Some(left) = left.as_mut() {
                *left = more;
            }
            Ok(())
        })
    };
    if timed_out { boxlite_status::BOXLITE_TIMEOUT } else { status }
}
