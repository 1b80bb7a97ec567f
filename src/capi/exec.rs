//! Commands in a box, with their streams.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use boxlite_events::queue::{Deadline, Delivery, Source, Turn, refuse_in_callback};

use super::error::{boxlite_error, boxlite_status, guard, in_callback};
use super::op::{OpValue, boxlite_op};
use super::pointer::{self, Counted, Handles, Out};
use super::runtime::boxlite_runtime;
use super::streams::{GapFn, OutputFn, ReadyFn, boxlite_stream};
use super::text;
use super::userdata::{Callback, boxlite_destroy};
use crate::channel::exec::{Interest, Wanted};
use crate::error::{Code, Error, Result};
use crate::{Exec, ExecEvent, ExitStatus};

/// A command that runs, or ran, in a box. Counted. Keeps its runtime alive.
pub struct boxlite_exec {
    pub(super) runtime: Arc<boxlite_runtime>,
    pub(super) exec: Exec,
    handles: Handles,
    turn: Turn,
    waker: Waker,
    state: Mutex<State>,
}

impl Counted for boxlite_exec {
    fn handles(&self) -> &Handles {
        &self.handles
    }

    fn is_forked(&self) -> bool {
        self.runtime.is_forked()
    }
}

/// Called once when a command has ended, after the last byte of the output that has a callback.
/// code is its exit code, or 128 + signal if a signal ended it; signal is 0 for none. A code of -1
/// says that the box ended, and error why. error is also set, though the code is 126 or 127, if the
/// command could not be run; otherwise it is NULL. It is borrowed: good until the callback returns.
pub type boxlite_exit_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        code: i32,
        signal: i32,
        error: *const boxlite_error,
    ),
>;

type ExitFn = unsafe extern "C" fn(*mut c_void, i32, i32, *const boxlite_error);

#[derive(Default)]
pub(super) struct State {
    pub stdout: OutputState,
    pub stderr: OutputState,
    pub on_ready: Option<Arc<Callback<ReadyFn>>>,
    pub on_gap: Option<Arc<Callback<GapFn>>>,
    /// The streams, by number, on which a read or write would have had to wait.
    pub blocked: [bool; 3],
    on_exit: Option<Arc<Callback<ExitFn>>>,
    /// The exit, once it was taken from the streams.
    exit: Option<Result<ExitStatus>>,
    message: Option<CString>,
    /// How many threads wait for the exit.
    waiting: usize,
}

/// What the program does with one output.
#[derive(Default)]
pub(super) struct OutputState {
    pub callback: Option<Arc<Callback<OutputFn>>>,
    pub paused: bool,
    /// The program reads it by boxlite_exec_read().
    pub pulled: bool,
}

impl OutputState {
    fn interest(&self) -> Interest {
        match &self.callback {
            Some(_) if self.paused => Interest::Hold,
            Some(_) => Interest::Deliver,
            // Who reads sees the end of the stream there.
            None => Interest::Ignore,
        }
    }
}

impl State {
    /// Whether somebody waits for the command's end.
    pub fn is_waited_for(&self) -> bool {
        self.waiting > 0
    }

    /// One of the two outputs.
    pub fn output(&mut self, stream: boxlite_stream) -> &mut OutputState {
        if stream == boxlite_stream::BOXLITE_STDERR { &mut self.stderr } else { &mut self.stdout }
    }
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
            handles: Handles::default(),
            turn: Turn::default(),
            waker: Waker::from(Arc::new(Awaken(this.clone()))),
            state: Mutex::default(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Has whoever dispatches look at us.
    pub(super) fn awaken(self: &Arc<Self>) {
        let source: Arc<dyn Source> = self.clone();
        self.runtime.queue().wake(&source);
    }

    fn has_exited(&self) -> bool {
        let state = self.lock();
        let taken = |output: &OutputState, stream| {
            output.interest() == Interest::Ignore || self.exec.is_drained(stream)
        };
        state.exit.is_some()
            && state.on_exit.is_none()
            && taken(&state.stdout, 1)
            && taken(&state.stderr, 2)
    }

    fn call_output(callback: Option<Arc<Callback<OutputFn>>>, bytes: &[u8]) {
        if let Some(callback) = callback {
            // SAFETY: the caller's function with its own data; nothing is locked.
            unsafe { (callback.function)(callback.user_data(), bytes.as_ptr(), bytes.len()) };
        }
    }

    fn call_gap(callback: Option<Arc<Callback<GapFn>>>, stream: u32, bytes: u64) {
        if let Some(callback) = callback {
            let stream = stream.cast_signed();
            // SAFETY: the caller's function with its own data; nothing is locked.
            unsafe { (callback.function)(callback.user_data(), stream, bytes) };
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
        let mut state = self.lock();
        if let Some(ready) = self.take_ready(&mut state) {
            drop(state);
            return Self::call_ready(&ready);
        }
        let wanted = Wanted {
            stdout: state.stdout.interest(),
            stderr: state.stderr.interest(),
            exit: state.on_exit.is_some() || state.waiting > 0,
        };
        // Who is called is decided now: bytes that were taken for a callback are its own, also if
        // another thread replaces it meanwhile.
        let (on_stdout, on_stderr) = (state.stdout.callback.clone(), state.stderr.callback.clone());
        let on_gap = state.on_gap.clone();
        drop(state);
        match self.exec.poll_next(&Context::from_waker(&self.waker), wanted) {
            Poll::Ready(Some(ExecEvent::Stdout(bytes))) => {
                Self::call_output(on_stdout, &bytes);
                Delivery::One
            }
            Poll::Ready(Some(ExecEvent::Stderr(bytes))) => {
                Self::call_output(on_stderr, &bytes);
                Delivery::One
            }
            Poll::Ready(Some(ExecEvent::Gap { stream, bytes })) => {
                Self::call_gap(on_gap, stream, bytes);
                Delivery::One
            }
            Poll::Ready(Some(ExecEvent::Exit(exit))) => {
                let mut state = self.lock();
                let message = exit.as_ref().ok().and_then(|e| e.message.as_deref());
                state.message = message.map(text::c_string);
                state.exit = Some(exit);
                self.deliver_exit(state)
            }
            Poll::Ready(None) | Poll::Pending => self.deliver_rest(),
        }
    }
}

impl boxlite_exec {
    /// Delivers what may have come about while nobody watched.
    fn deliver_rest(&self) -> Delivery {
        let mut state = self.lock();
        if let Some(ready) = self.take_ready(&mut state) {
            drop(state);
            return Self::call_ready(&ready);
        }
        // An exit that was taken for somebody who waited may have a callback now.
        self.deliver_exit(state)
    }

    fn call_ready((callback, stream): &(Arc<Callback<ReadyFn>>, i32)) -> Delivery {
        // SAFETY: the caller's function with its own data; nothing is locked.
        unsafe { (callback.function)(callback.user_data(), *stream) };
        Delivery::One
    }

    /// A stream that has become ready since a call on it would have had to wait.
    fn take_ready(&self, state: &mut State) -> Option<(Arc<Callback<ReadyFn>>, i32)> {
        let callback = state.on_ready.clone()?;
        let stream = (0u8..3).find(|stream| {
            state.blocked[usize::from(*stream)] && self.exec.is_ready(u32::from(*stream))
        })?;
        state.blocked[usize::from(stream)] = false;
        Some((callback, i32::from(stream)))
    }

    fn deliver_exit(&self, mut state: MutexGuard<'_, State>) -> Delivery {
        if state.exit.is_none() {
            return Delivery::Nothing;
        }
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

/// Adds a handle on an exec, to be freed like the first: execs are counted. Returns exec; NULL for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_ref(exec: *mut boxlite_exec) -> *mut boxlite_exec {
    // SAFETY: a live handle or NULL.
    unsafe { pointer::add_handle(exec) }
}

/// Frees a handle on an exec. With the last one, a command that runs goes on, for as long as its
/// box and this runtime do (a detached one for as long as its box does); its stdin is closed, what
/// it writes is dropped (of a detached one it is kept), and no callback is called any more, except
/// one that runs just now. Allowed inside its own callbacks. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_free(exec: *mut boxlite_exec) {
    // SAFETY: a live handle that is not used again, or NULL.
    let Some((exec, last)) = (unsafe { pointer::take_back_shared(exec) }) else { return };
    if !last {
        return;
    }
    let source: Arc<dyn Source> = exec.clone();
    exec.runtime.queue().forget(&source);
    let callbacks = {
        let mut state = exec.lock();
        let outputs = (state.stdout.callback.take(), state.stderr.callback.take());
        (outputs, state.on_ready.take(), state.on_gap.take(), state.on_exit.take())
    };
    drop(callbacks);
}

/// Has callback called once when the command has ended and the output that has a callback has been
/// delivered to its last byte; also if it has ended already. Who reads by boxlite_exec_read() sees
/// the end of a stream there, and may read on after the exit.
/// Output that nobody takes does not hold up the exit, but a command that fills it waits; of a
/// detached command, which does not wait, the exit comes after its output was taken or discarded
/// (see boxlite_exec_discard()). A second call replaces a callback that was not called yet; NULL
/// removes it. destroy frees user_data, see boxlite_destroy.
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
/// dispatch. *code, unless code is NULL, is the exit code, or 128 + signal; see
/// boxlite_exec_message() for 126 and 127.
///
/// Output that has no callback and was never read is dropped from now on, also if the time passes.
/// What is paused is waited for, until another thread resumes it.
///
/// BOXLITE_TIMEOUT if the command still runs; the box's error if that ended first. From inside a
/// callback: BOXLITE_BUSY.
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
    refuse_in_callback().map_err(in_callback)?;
    let unread = {
        let mut state = exec.lock();
        state.waiting += 1;
        let ignored =
            |output: &OutputState| output.interest() == Interest::Ignore && !output.pulled;
        [(1, ignored(&state.stdout)), (2, ignored(&state.stderr))]
    };
    for (stream, _) in unread.into_iter().filter(|(_, unread)| *unread) {
        exec.exec.discard(stream);
    }
    let source: Arc<dyn Source> = exec.clone();
    let waited = exec.runtime.queue().dispatch_until(&source, deadline, || exec.has_exited());
    let mut state = exec.lock();
    state.waiting -= 1;
    match (waited.map_err(in_callback)?, state.exit.clone()) {
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
    let exec = exec.ok().filter(|e| !e.is_forked());
    exec.map_or(std::ptr::null(), |e| text::borrowed(e.lock().message.as_ref()))
}

/// Sends a signal, by its number on x86-64 Linux, to the command's process group; 0 only asks
/// whether it is there. The operation has no result. Errors of the operation: BOXLITE_NOT_FOUND
/// (the command has ended), BOXLITE_INVALID_ARGUMENT (no such signal).
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
