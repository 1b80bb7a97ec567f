//! A command's three streams: output that is pushed through callbacks or pulled by reading, and
//! stdin.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::error::{boxlite_error, boxlite_status, guard};
use super::exec::boxlite_exec;
use super::pointer::{self, Out};
use super::userdata::{Callback, boxlite_destroy};
use crate::error::{Code, Error, Result};

/// A command's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_stream {
    /// What the command reads.
    BOXLITE_STDIN = 0,
    /// What it writes.
    BOXLITE_STDOUT = 1,
    /// What it writes about its work.
    BOXLITE_STDERR = 2,
}

impl boxlite_stream {
    /// One of the outputs, as C names it.
    pub fn output(stream: i32, name: &str) -> Result<boxlite_stream> {
        match stream {
            1 => Ok(boxlite_stream::BOXLITE_STDOUT),
            2 => Ok(boxlite_stream::BOXLITE_STDERR),
            other => Err(Error::new(
                Code::InvalidArgument,
                format!("{name}: {other} is neither BOXLITE_STDOUT nor BOXLITE_STDERR"),
            )
            .object(name)),
        }
    }
}

/// Called with bytes of a command's output, inside boxlite_dispatch() or boxlite_exec_wait(). data
/// is borrowed: good until the callback returns. Bytes are bytes: a chunk may begin or end
/// anywhere. length is never 0.
pub type boxlite_output_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, data: *const u8, length: usize)>;

/// Called when a stream has become ready, inside boxlite_dispatch() or boxlite_exec_wait(): stream
/// is a boxlite_stream on which boxlite_exec_read() or boxlite_exec_write() has returned
/// BOXLITE_WOULD_BLOCK and would not do so now. Called once, until a call on that stream returns
/// BOXLITE_WOULD_BLOCK again.
pub type boxlite_ready_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, stream: i32)>;

/// Called where bytes of a stream, a boxlite_stream, are no longer held, inside boxlite_dispatch()
/// or boxlite_exec_wait(): so many are missing between what was delivered before and what comes
/// next.
pub type boxlite_gap_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, stream: i32, bytes: u64)>;

pub(super) type GapFn = unsafe extern "C" fn(*mut c_void, i32, u64);
pub(super) type OutputFn = unsafe extern "C" fn(*mut c_void, *const u8, usize);
pub(super) type ReadyFn = unsafe extern "C" fn(*mut c_void, i32);

/// Sets or removes the callback of one of the two outputs.
///
/// # Safety
/// The ABI's promise about pointers.
unsafe fn set_output(
    exec: *mut boxlite_exec,
    callback: Option<Arc<Callback<OutputFn>>>,
    stream: boxlite_stream,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: by the caller's promise.
    unsafe {
        guard(error, || {
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let removed = callback.is_none();
            let (old, unread) = {
                let mut state = exec.lock();
                let waited_for = state.is_waited_for();
                let output = state.output(stream);
                let unread = removed && waited_for && !output.pulled;
                (std::mem::replace(&mut output.callback, callback), unread)
            };
            drop(old);
            if unread {
                // As at the beginning of the wait.
                exec.exec.discard(stream as u32);
            }
            exec.awaken();
            Ok(())
        })
    }
}

/// Has callback called with the command's stdout. Nothing is lost before: output waits, up to 256
/// KiB, until there is a callback; then the command waits, as on a pipe that nobody reads. A second
/// call replaces the callback; NULL removes it, and output waits again; see boxlite_exec_discard()
/// for output that nobody wants. destroy frees user_data, see boxlite_destroy.
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
    unsafe { set_output(exec, callback, boxlite_stream::BOXLITE_STDOUT, error) }
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
    unsafe { set_output(exec, callback, boxlite_stream::BOXLITE_STDERR, error) }
}

/// Drops what waits on an output and what comes, so that it holds nobody up: stream is
/// BOXLITE_STDOUT or BOXLITE_STDERR. Its callback is removed; it cannot be read any more. For good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_discard(
    exec: *mut boxlite_exec,
    stream: i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let stream = boxlite_stream::output(stream, "stream")?;
            let old = {
                let mut state = exec.lock();
                state.blocked[stream as usize] = false;
                state.output(stream).callback.take()
            };
            drop(old);
            exec.exec.discard(stream as u32);
            exec.awaken();
            Ok(())
        })
    }
}

/// Holds back an output's callback: stream is BOXLITE_STDOUT or BOXLITE_STDERR. Output then waits
/// as it does before there is a callback; the other streams go on. Another thread that is
/// dispatching just now may still make one call. Pausing twice is pausing once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_pause(
    exec: *mut boxlite_exec,
    stream: i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe { set_paused(exec, stream, true, error) }
}

/// Lets an output's callback be called again, after boxlite_exec_pause(). No effect if it may.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_resume(
    exec: *mut boxlite_exec,
    stream: i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe { set_paused(exec, stream, false, error) }
}

/// # Safety
/// The ABI's promise about pointers.
unsafe fn set_paused(
    exec: *mut boxlite_exec,
    stream: i32,
    paused: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: by the caller's promise.
    unsafe {
        guard(error, || {
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let stream = boxlite_stream::output(stream, "stream")?;
            exec.lock().output(stream).paused = paused;
            exec.awaken();
            Ok(())
        })
    }
}

/// Reads an output that has no callback: for programs that would rather pull. stream is
/// BOXLITE_STDOUT or BOXLITE_STDERR; up to capacity bytes, at least 1, are written to data, and
/// their number to *length: 0 is the end of the stream. Does not wait.
///
/// BOXLITE_WOULD_BLOCK if there is nothing now: boxlite_exec_on_ready() tells when there is.
/// BOXLITE_GAP, once, where bytes are no longer held (only of commands that are followed): the next
/// call goes on behind them, and boxlite_exec_lost() counts them.
/// BOXLITE_INVALID_STATE if the stream has a callback or is being dropped. A stream that was cut
/// off by the end of its box has that error in place of its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_read(
    exec: *mut boxlite_exec,
    stream: i32,
    data: *mut u8,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(length, "length")?;
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let stream = boxlite_stream::output(stream, "stream")?;
            let data = pointer::bytes_mut(data, capacity, "data")?;
            out.write(read(&exec, stream, data)?);
            Ok(())
        })
    }
}

impl boxlite_exec {
    /// Tries something on a stream; if it would have to wait, the program hears when it need not.
    fn attempt<T>(
        &self,
        stream: boxlite_stream,
        attempt: impl FnOnce(&Context<'_>) -> Poll<Result<T>>,
    ) -> Result<T> {
        // Noted first, so that whoever makes the stream ready a moment later sees it.
        self.lock().blocked[stream as usize] = true;
        match attempt(&Context::from_waker(self.waker())) {
            Poll::Ready(outcome) => {
                self.lock().blocked[stream as usize] = false;
                outcome
            }
            Poll::Pending => Err(Error::new(Code::WouldBlock, "the stream is not ready")),
        }
    }
}

fn read(
    exec: &boxlite_exec,
    stream: boxlite_stream,
    data: &mut [MaybeUninit<u8>],
) -> Result<usize> {
    {
        let mut state = exec.lock();
        let output = state.output(stream);
        if output.callback.is_some() {
            let text = "the stream has a callback: it is read by that, or by this, not by both";
            return Err(Error::new(Code::InvalidState, text));
        }
        output.pulled = true;
    }
    let bytes = exec.attempt(stream, |cx| exec.exec.poll_read(stream as u32, data.len(), cx))?;
    data[..bytes.len()].write_copy_of_slice(&bytes);
    Ok(bytes.len())
}

/// Has callback called whenever a stream on which boxlite_exec_read() or boxlite_exec_write() has
/// returned BOXLITE_WOULD_BLOCK is ready again. A second call replaces the callback; NULL removes
/// it. destroy frees user_data, see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_on_ready(
    exec: *mut boxlite_exec,
    callback: boxlite_ready_callback,
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
            let old = std::mem::replace(&mut exec.lock().on_ready, callback);
            drop(old);
            exec.awaken();
            Ok(())
        })
    }
}

/// Writes to the command's stdin what it takes now, at least one byte of a length that is not 0.
/// *written is the number of bytes, which may be less than length: go on with the rest. Up to 128
/// KiB, beside what a pipe holds, wait for the command to read them; one that has closed its stdin
/// loses them. Does not wait.
///
/// BOXLITE_WOULD_BLOCK if it takes none now: boxlite_exec_on_ready() tells when it does.
/// BOXLITE_INVALID_STATE if there is no stdin, it was closed, or the command has ended.
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
            let exec = pointer::share(exec, "exec")?;
            exec.runtime.get()?;
            let data = pointer::bytes(data, length, "data")?;
            let stdin = boxlite_stream::BOXLITE_STDIN;
            out.write(exec.attempt(stdin, |cx| exec.exec.poll_write(data, cx))?);
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
