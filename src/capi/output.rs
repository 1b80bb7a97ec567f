//! What a command wrote, in one piece; and the call for people who want ten lines.

use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::time::Duration;

use boxlite_events::queue::{Deadline, refuse_in_callback};

use super::boxes::boxlite_box;
use super::error::{boxlite_error, boxlite_status, guard, in_callback};
use super::op::{OpValue, boxlite_op};
use super::options::{boxlite_box_options, boxlite_exec_options};
use super::pointer::{self, Out, Owned};
use super::runtime::boxlite_runtime;
use super::streams::boxlite_stream;
use super::text;
use crate::error::Result;
use crate::{BoxOptions, Captured, ExecOptions, Output, RuntimeOptions};

/// What a command wrote and how it ended. Owned by the caller.
pub struct boxlite_output {
    output: Output,
    message: Option<CString>,
}

impl Owned for boxlite_output {}

impl boxlite_output {
    pub fn new(mut output: Output) -> boxlite_output {
        // Bytes are followed by a NUL, for those who know that they are text.
        output.stdout.bytes.push(0);
        output.stderr.bytes.push(0);
        let message = output.status.message.as_deref().map(text::c_string);
        boxlite_output { output, message }
    }
}

/// Runs a command in the box, which is started first if it does not run, and gathers its output: of
/// stdout and of stderr up to limit bytes each, SIZE_MAX for all; the rest is counted and dropped,
/// and the command is not held up. It reads end of file on stdin. options may be freed afterwards.
/// The result is an output: boxlite_op_take_output(). Cancelling the operation kills the command.
///
/// Errors of the operation: those of boxlite_box_exec(). A command that ends with a code other than
/// 0, or cannot be found, is no error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_run(
    r#box: *mut boxlite_box,
    options: *const boxlite_exec_options,
    limit: usize,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let options = pointer::borrow(options, "options")?.0.clone();
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                let output = handle.run(&options, limit).await?;
                Ok(OpValue::Output(Box::new(output)))
            })?;
            out.give_shared(started);
            Ok(())
        })
    }
}

/// Runs one command in a new box made from an image, waits for its end, and removes the box. argv
/// has argc strings; with argc 0 (argv may be NULL) the image's own command is run. runtime may be
/// NULL: the default home is opened for this call. limit and *output are as for boxlite_box_run().
/// timeout_ms milliseconds are for the command and all that goes before it; negative: without end.
/// This call blocks although its name does not say so; from inside a callback:
/// BOXLITE_BUSY.
///
/// Errors: those of boxlite_runtime_open(), boxlite_box_create() and boxlite_box_exec();
/// BOXLITE_TIMEOUT, after which the box is gone too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_run(
    runtime: *mut boxlite_runtime,
    image: *const c_char,
    argv: *const *const c_char,
    argc: usize,
    limit: usize,
    timeout_ms: i32,
    output: *mut *mut boxlite_output,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(output, "output")?;
            let options = BoxOptions::new(text::string(image, "image")?)?;
            let command = ExecOptions::new(text::strings(argv, argc, "argv")?)?;
            refuse_in_callback().map_err(in_callback)?;
            let runtime = if runtime.is_null() {
                Arc::new(boxlite_runtime::open(&RuntimeOptions::new())?)
            } else {
                pointer::share(runtime, "runtime")?
            };
            let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
            let op = run(runtime, options, command, limit, timeout)?;
            op.wait(Deadline::after_ms(-1))?;
            out.give(boxlite_output::new(op.take(|value| match value {
                OpValue::Output(output) => Ok(*output),
                other => Err(other),
            })?));
            Ok(())
        })
    }
}

/// The whole life of a box for one command, as an operation.
fn run(
    runtime: Arc<boxlite_runtime>,
    options: BoxOptions,
    command: ExecOptions,
    limit: usize,
    timeout: Option<Duration>,
) -> Result<Arc<boxlite_op>> {
    let home = runtime.get()?.clone();
    Ok(boxlite_op::start_undoing(runtime, move |_, cancelled| async move {
        let output = home.run_unless(&options, &command, limit, timeout, cancelled).await?;
        Ok(OpValue::Output(Box::new(output)))
    }))
}

/// As boxlite_run(), for programs that do not wait: runs a command in a new box, and removes the
/// box. Both options may be freed afterwards; limit is as for boxlite_box_run(). The result is an
/// output: boxlite_op_take_output(). Cancelled, or in whatever way it ends, the operation completes
/// when the box is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_run(
    runtime: *mut boxlite_runtime,
    box_options: *const boxlite_box_options,
    exec_options: *const boxlite_exec_options,
    limit: usize,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let runtime = pointer::share(runtime, "runtime")?;
            let options = pointer::borrow(box_options, "box_options")?.0.clone();
            let command = pointer::borrow(exec_options, "exec_options")?.0.clone();
            out.give_shared(run(runtime, options, command, limit, None)?);
            Ok(())
        })
    }
}

/// Frees an output. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_output_free(output: *mut boxlite_output) {
    // SAFETY: a live output that is not used again, or NULL.
    drop(unsafe { pointer::take_back(output) });
}

/// The command's exit code, or 128 + signal if a signal ended it; -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_output_code(output: *const boxlite_output) -> i32 {
    // SAFETY: a live output or NULL.
    unsafe { pointer::borrow(output, "output") }.map_or(-1, |o| o.output.status.code)
}

/// The signal that ended the command, by its number on x86-64 Linux; 0 if none did, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_output_signal(output: *const boxlite_output) -> i32 {
    // SAFETY: a live output or NULL.
    unsafe { pointer::borrow(output, "output") }.map_or(0, |o| o.output.status.signal)
}

/// Why the command could not be run, if its code is 126 or 127; NULL otherwise. Borrowed: good
/// until the output is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_output_message(output: *const boxlite_output) -> *const c_char {
    // SAFETY: a live output or NULL.
    let output = unsafe { pointer::borrow(output, "output") };
    text::borrowed(output.ok().and_then(|o| o.message.as_ref()))
}

/// The bytes of a stream, BOXLITE_STDOUT or BOXLITE_STDERR, and their number in *length, unless
/// length is NULL. A NUL follows them that does not count. Never NULL: "" for NULL and for a number
/// that is no such stream. Borrowed: good until the output is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_output_bytes(
    output: *const boxlite_output,
    stream: i32,
    length: *mut usize,
) -> *const u8 {
    // SAFETY: a live output or NULL.
    let captured = unsafe { captured(output, stream) };
    let bytes = captured.map_or(&b"\0"[..], |c| &c.bytes);
    // SAFETY: NULL, or the caller's to write.
    if let Some(length) = unsafe { length.as_mut() } {
        *length = bytes.len() - 1;
    }
    bytes.as_ptr()
}

/// How many bytes a stream, BOXLITE_STDOUT or BOXLITE_STDERR, had beyond the limit; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_output_dropped(output: *const boxlite_output, stream: i32) -> u64 {
    // SAFETY: a live output or NULL.
    unsafe { captured(output, stream) }.map_or(0, |c| c.dropped)
}

/// # Safety
/// `output` is live or NULL.
unsafe fn captured<'a>(output: *const boxlite_output, stream: i32) -> Option<&'a Captured> {
    // SAFETY: by the caller's promise.
    let output = &unsafe { pointer::borrow(output, "output") }.ok()?.output;
    match boxlite_stream::output(stream, "stream").ok()? {
        boxlite_stream::BOXLITE_STDERR => Some(&output.stderr),
        _ => Some(&output.stdout),
    }
}
