//! Commands in a box, with their streams.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::error::{boxlite_error, boxlite_status, guard};
use super::op::{OpValue, boxlite_op};
use super::pointer::{self, Counted, Out};
use super::queue::{Deadline, Delivery, Source, Turn};
use super::runtime::boxlite_runtime;
use super::text;
use super::userdata::{Callback, boxlite_destroy};
use crate::channel::exec::Wanted;
use crate::error::{Code, Error, Result};
use crate::{Exec, ExecEvent, ExitStatus};

/// A command that runs, or ran, in a box. Keeps its runtime alive. Any thread may use it.
pub struct boxlite_exec {
    runtime: Arc<boxlite_runtime>,
    exec: Exec,
    turn: Turn,
    waker: Waker,
    state: Mutex<State>,
}

impl Counted for boxlite_exec {}

/// Called with bytes of a command's output, inside boxlite_dispatch() or boxlite_exec_wait(). data
/// is borrowed: good until the callback returns. Bytes are bytes: a chunk may begin or end anywhere.
pub type boxlite_output_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, data: *const u8, length: usize)>;

/// Called once when a command has ended, after the last byte of its output. code is its exit code,
/// or 128 + signal if a signal ended it; signal is 0 for none. error is NULL, or tells why there is
/// no ordinary end: the command could not be run (code 126 or 127), or its box ended (code -1). It
/// is borrowed: good until the callback returns.
pub type boxlite_exit_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        code: i32,
        signal: i32,
        error: *const boxlite_error,
    ),
>;

type OutputFn = unsafe extern "C" fn(*mut c_void, *const u8, usize);
type ExitFn = unsafe extern "C" fn(*mut c_void, i32, i32, *const boxlite_error);

#[derive(Default)]
struct State {
    on_stdout: Option<Arc<Callback<OutputFn>>>,
    on_stderr: Option<Arc<Callback<OutputFn>>>,
    on_exit: Option<Arc<Callback<ExitFn>>>,
    /// The exit, once it was taken from the streams.
    exit: Option<Result<ExitStatus>>,
    message: Option<CString>,
    /// How many threads wait for the exit.
    waiting: usize,
}

struct Awaken(Weak<boxlite_exec>);

impl Wake for Awaken {
    fn wake(self: Arc<Self>) {
        if let Some(exec) = self.0.upgrade() {
            exec.awaken();
        }
    }
}

impl boxlite_exec {
    pub fn new(runtime: Arc<boxlite_runtime>, exec: Exec) -> Arc<boxlite_exec> {
        Arc::new_cyclic(|this| boxlite_exec {
            runtime,
            exec,
            turn: Turn::default(),
            waker: Waker::from(Arc::new(Awaken(this.clone()))),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaken(self: &Arc<Self>) {
        let source: Arc<dyn Source> = self.clone();
        self.runtime.queue().wake(&source);
    }

    fn has_exited(&self) -> bool {
        let state = self.lock();
        state.exit.is_some() && state.on_exit.is_none()
    }

    fn call_output(callback: Option<Arc<Callback<OutputFn>>>, bytes: &[u8]) {
        if let Some(callback) = callback {
            // SAFETY: the caller's function with its own data; nothing is locked.
            unsafe { (callback.function)(callback.user_data(), bytes.as_ptr(), bytes.len()) };
        }
    }

    fn call_exit(callback: &Callback<ExitFn>, exit: &Result<ExitStatus>) {
        let (code, signal, error) = match exit {
            Ok(status) => {
                let failed = |text: &String| Error::new(Code::Execution, text.clone());
                (status.code, status.signal, status.message.as_ref().map(failed))
            }
            Err(error) => (-1, 0, Some(error.clone())),
        };
        let error = error.map(boxlite_error::new);
        let error = error.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: as above; the error lives until the call returns.
        unsafe { (callback.function)(callback.user_data(), code, signal, error) };
    }
}

impl Source for boxlite_exec {
    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn deliver(&self) -> Delivery {
        let state = self.lock();
        if state.exit.is_some() {
            return self.deliver_exit(state);
        }
        let wanted = Wanted {
            stdout: state.on_stdout.is_some(),
            stderr: state.on_stderr.is_some(),
            exit: state.on_exit.is_some() || state.waiting > 0,
        };
        drop(state);
        match self.exec.poll_next(&Context::from_waker(&self.waker), wanted) {
            Poll::Ready(Some(ExecEvent::Stdout(bytes))) => {
                let callback = self.lock().on_stdout.clone();
                Self::call_output(callback, &bytes);
                Delivery::One
            }
            Poll::Ready(Some(ExecEvent::Stderr(bytes))) => {
                let callback = self.lock().on_stderr.clone();
                Self::call_output(callback, &bytes);
                Delivery::One
            }
            Poll::Ready(Some(ExecEvent::Exit(exit))) => {
                let mut state = self.lock();
                let message = exit.as_ref().ok().and_then(|e| e.message.as_deref());
                state.message = message.map(text::c_string);
                state.exit = Some(exit);
                self.deliver_exit(state)
            }
            Poll::Ready(None) | Poll::Pending => Delivery::Nothing,
        }
    }
}

impl boxlite_exec {
    fn deliver_exit(&self, mut state: MutexGuard<'_, State>) -> Delivery {
        let callback = state.on_exit.take();
        let exit = state.exit.clone();
        drop(state);
        match (callback, exit) {
            (Some(callback), Some(exit)) => {
                Self::call_exit(&callback, &exit);
                Delivery::One
            }
            _ => Delivery::Nothing,
        }
    }
}

/// Frees an exec. A command that runs goes on; its stdin is closed, what it writes is dropped, and
/// no callback is called any more, except one that runs just now. Allowed inside its own callbacks.
/// NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_free(exec: *mut boxlite_exec) {
    // SAFETY: a live handle that is not used again, or NULL.
    let Some(exec) = (unsafe { pointer::take_back_shared(exec) }) else { return };
    let source: Arc<dyn Source> = exec.clone();
    exec.runtime.queue().forget(&source);
    let callbacks = {
        let mut state = exec.lock();
        (state.on_stdout.take(), state.on_stderr.take(), state.on_exit.take())
    };
    drop(callbacks);
}

/// Sets a callback for one of the two outputs, and drops what comes if there is none.
///
/// # Safety
/// The ABI's promise about pointers.
unsafe fn set_output(
    exec: *mut boxlite_exec,
    callback: Option<Arc<Callback<OutputFn>>>,
    stream: u32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: by the caller's promise.
    unsafe {
        guard(error, || {
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            if callback.is_none() {
                exec.exec.discard(stream);
            }
            let mut state = exec.lock();
            let slot = if stream == 2 { &mut state.on_stderr } else { &mut state.on_stdout };
            let old = std::mem::replace(slot, callback);
            drop(state);
            drop(old);
            exec.awaken();
            Ok(())
        })
    }
}

/// Has callback called with the command's stdout. Nothing is lost before: output waits, up to 256
/// KiB, until there is a callback; then the command waits, as on a pipe that nobody reads. NULL
/// drops what waits and what comes. destroy frees user_data, see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_on_stdout(
    exec: *mut boxlite_exec,
    callback: boxlite_output_callback,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let callback = Callback::optional(callback, user_data, destroy);
    // SAFETY: pointers as the header demands.
    unsafe { set_output(exec, callback, 1, error) }
}

/// Has callback called with the command's stderr; otherwise as boxlite_exec_on_stdout().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_on_stderr(
    exec: *mut boxlite_exec,
    callback: boxlite_output_callback,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let callback = Callback::optional(callback, user_data, destroy);
    // SAFETY: pointers as the header demands.
    unsafe { set_output(exec, callback, 2, error) }
}

/// Has callback called once when the command has ended and the output that has a callback was
/// delivered; also if it has ended already. A second call replaces a callback that was not called
/// yet; NULL removes it. destroy frees user_data, see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_on_exit(
    exec: *mut boxlite_exec,
    callback: boxlite_exit_callback,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let callback = Callback::optional(callback, user_data, destroy);
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let old = std::mem::replace(&mut exec.lock().on_exit, callback);
            drop(old);
            exec.awaken();
            Ok(())
        })
    }
}

/// Waits until the command has ended and its callbacks were called, up to timeout_ms milliseconds;
/// negative: without end. This exec's callbacks run on this thread meanwhile, so nobody else has to
/// dispatch. Output without a callback is dropped. *code, unless code is NULL, is the exit code, or
/// 128 + signal; see boxlite_exec_message() for 126 and 127. BOXLITE_TIMEOUT if the command still
/// runs; the box's error if that ended first. From inside a callback: BOXLITE_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_wait(
    exec: *mut boxlite_exec,
    timeout_ms: i32,
    code: *mut i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let status = wait(&exec, Deadline::after_ms(timeout_ms))?;
            if let Some(code) = code.as_mut() {
                *code = status.code;
            }
            Ok(())
        })
    }
}

fn wait(exec: &Arc<boxlite_exec>, deadline: Deadline) -> Result<ExitStatus> {
    super::queue::refuse_in_callback()?;
    let unread = {
        let mut state = exec.lock();
        state.waiting += 1;
        [(1, state.on_stdout.is_none()), (2, state.on_stderr.is_none())]
    };
    for (stream, unread) in unread {
        if unread {
            exec.exec.discard(stream);
        }
    }
    let source: Arc<dyn Source> = exec.clone();
    let waited = exec.runtime.queue().dispatch_until(&source, deadline, || exec.has_exited());
    let mut state = exec.lock();
    state.waiting -= 1;
    match (waited?, state.exit.clone()) {
        (true, Some(exit)) => exit,
        _ => Err(Error::new(Code::Timeout, "the command is still running")),
    }
}

/// Why the command could not be run, after it has exited with 126 or 127; NULL otherwise. Borrowed:
/// good until the exec is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_message(exec: *const boxlite_exec) -> *const c_char {
    // SAFETY: a live handle or NULL.
    let exec = unsafe { pointer::borrow(exec, "exec") };
    // The text is set once, before the exit can be seen, and never changed.
    exec.map_or(std::ptr::null(), |e| text::borrowed(e.lock().message.as_ref()))
}

/// Writes to the command's stdin what it takes now, at least one byte of a length that is not 0.
/// *written is the number of bytes. BOXLITE_WOULD_BLOCK if it takes none now,
/// BOXLITE_INVALID_STATE if stdin is closed or the command has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_write(
    exec: *mut boxlite_exec,
    data: *const u8,
    length: usize,
    written: *mut usize,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(written, "written")?;
            let exec = pointer::borrow(exec, "exec")?;
            exec.runtime.get()?;
            let data = pointer::bytes(data, length, "data")?;
            match exec.exec.poll_write(data, &Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => out.write(result?),
                Poll::Pending => {
                    return Err(Error::new(Code::WouldBlock, "stdin takes no bytes now"));
                }
            }
            Ok(())
        })
    }
}

/// Ends the command's stdin: it reads end of file after what was written. Once is enough.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_close_stdin(
    exec: *mut boxlite_exec,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let exec = pointer::borrow(exec, "exec")?;
            exec.runtime.get()?;
            exec.exec.close_stdin();
            Ok(())
        })
    }
}

/// Sends a signal, by its number on x86-64 Linux, to the command's process group. The operation has
/// no result. Errors of the operation: BOXLITE_NOT_FOUND (the command has ended),
/// BOXLITE_INVALID_ARGUMENT (no such signal).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_signal(
    exec: *mut boxlite_exec,
    signal: i32,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let runtime = exec.runtime.clone();
            out.give_shared(boxlite_op::start(runtime, move |_| async move {
                exec.exec.signal(signal).await.map(|()| OpValue::Nothing)
            }));
            Ok(())
        })
    }
}
