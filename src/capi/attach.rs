//! Detached commands: which there are, and their output from any offset on.

use std::ffi::{CString, c_char, c_void};

use super::boxes::boxlite_box;
use super::error::{boxlite_error, boxlite_status, guard};
use super::exec::boxlite_exec;
use super::op::{OpValue, boxlite_op};
use super::pointer::{self, Out, Owned};
use super::streams::{boxlite_gap_callback, boxlite_stream};
use super::text;
use super::userdata::{Callback, boxlite_destroy};
use crate::channel::spool::Held;
use crate::{Exec, ExecInfo};

/// A command of a running box, as it was when the commands were listed.
pub struct boxlite_exec_info {
    info: ExecInfo,
    arguments: Vec<CString>,
    started_at: CString,
}

/// A list of information on commands. Owned by the caller.
pub struct boxlite_exec_list {
    infos: Vec<boxlite_exec_info>,
}

impl Owned for boxlite_exec_list {}

impl boxlite_exec_info {
    fn new(info: ExecInfo) -> boxlite_exec_info {
        let argument = |bytes: &bytes::Bytes| text::c_string(&String::from_utf8_lossy(bytes));
        let started = i64::try_from(info.started_ms).ok();
        let started = started.and_then(chrono::DateTime::from_timestamp_millis);
        let started = started.unwrap_or_default();
        boxlite_exec_info {
            arguments: info.argv.iter().map(argument).collect(),
            started_at: text::c_string(
                &started.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            ),
            info,
        }
    }
}

impl boxlite_exec_list {
    pub fn new(infos: Vec<ExecInfo>) -> boxlite_exec_list {
        boxlite_exec_list { infos: infos.into_iter().map(boxlite_exec_info::new).collect() }
    }
}

/// Lists the commands that run in the box, whichever program has started them, and detached ones
/// that have ended: the last 32, and the main process. A box that does not run has none. The result
/// is a list: boxlite_op_take_exec_list().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_list_execs(
    r#box: *mut boxlite_box,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?
                .operate(|handle| async move { handle.execs().await.map(OpValue::Execs) });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Follows the output of a detached command, whichever program has started it: from the offsets
/// stdout_from and stderr_from on, in bytes since its beginning. exec_id is that of
/// boxlite_exec_info_id() or boxlite_exec_id(). What is no longer held is a gap, see
/// boxlite_exec_on_gap(). Any number of programs may follow a command, and none holds it or another
/// up. There is no stdin; signals work. When the box has ended, what it left can be followed until
/// it is started again. The result is an exec: boxlite_op_take_exec().
///
/// Errors of the operation: BOXLITE_NOT_FOUND (no such command, or it ended long ago),
/// BOXLITE_INVALID_STATE (it is not detached), BOXLITE_INVALID_ARGUMENT (an offset beyond what it
/// has written), BOXLITE_UNSUPPORTED (the box is run by another version of the library).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_attach(
    r#box: *mut boxlite_box,
    exec_id: u32,
    stdout_from: u64,
    stderr_from: u64,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                let attached = handle.attach(exec_id, [stdout_from, stderr_from]).await;
                attached.map(|exec: Exec| OpValue::Exec(exec))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Follows the output of the box's main process, or that of its last run if the box has ended;
/// otherwise as boxlite_box_attach(). BOXLITE_INVALID_STATE if the box has none,
/// BOXLITE_NOT_FOUND if it was never started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_attach_main(
    r#box: *mut boxlite_box,
    stdout_from: u64,
    stderr_from: u64,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                let attached = handle.attach_main([stdout_from, stderr_from]).await;
                attached.map(|exec: Exec| OpValue::Exec(exec))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// The number by which any program can attach to the command, if it is detached: unique in a run of
/// its box. 0 for NULL, and for a command that could not be run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_id(exec: *const boxlite_exec) -> u32 {
    // SAFETY: a live handle or NULL.
    let exec = unsafe { pointer::borrow(exec, "exec") };
    exec.map_or(0, |e| e.exec.id())
}

/// The offset of the next byte that this handle delivers of a stream, BOXLITE_STDOUT or
/// BOXLITE_STDERR: where boxlite_box_attach() would go on. 0 for NULL and for a number that is no
/// such stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_offset(exec: *const boxlite_exec, stream: i32) -> u64 {
    // SAFETY: a live handle or NULL.
    unsafe { of_output(exec, stream, Exec::offset) }
}

/// How many bytes of a stream, BOXLITE_STDOUT or BOXLITE_STDERR, were gone when it was their turn
/// to be delivered by this handle; 0 for NULL and for a number that is no such stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_lost(exec: *const boxlite_exec, stream: i32) -> u64 {
    // SAFETY: a live handle or NULL.
    unsafe { of_output(exec, stream, Exec::lost) }
}

/// # Safety
/// `exec` is live or NULL.
unsafe fn of_output(
    exec: *const boxlite_exec,
    stream: i32,
    ask: impl FnOnce(&Exec, u32) -> u64,
) -> u64 {
    // SAFETY: by the caller's promise.
    let exec = unsafe { pointer::borrow(exec, "exec") };
    match (exec, boxlite_stream::output(stream, "stream")) {
        (Ok(exec), Ok(stream)) => ask(&exec.exec, stream as u32),
        _ => 0,
    }
}

/// Has callback called where bytes of an output that has a callback are no longer held: in order,
/// between what came before and what comes after them. Only commands that are followed have gaps.
/// Without it they are only counted, see boxlite_exec_lost(). A second call replaces the callback;
/// NULL removes it. destroy frees user_data, see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_on_gap(
    exec: *mut boxlite_exec,
    callback: boxlite_gap_callback,
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
            let old = std::mem::replace(&mut exec.lock().on_gap, callback);
            drop(old);
            Ok(())
        })
    }
}

/// Frees a list and all information in it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_list_free(list: *mut boxlite_exec_list) {
    // SAFETY: a live list that is not used again, or NULL.
    drop(unsafe { pointer::take_back(list) });
}

/// The number of commands in a list; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_list_count(list: *const boxlite_exec_list) -> usize {
    // SAFETY: a live list or NULL.
    unsafe { pointer::borrow(list, "list") }.map_or(0, |l| l.infos.len())
}

/// The information on a command of the list, from 0, in the order in which they were started; NULL
/// beyond the last. Borrowed: good until the list is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_list_get(
    list: *const boxlite_exec_list,
    index: usize,
) -> *const boxlite_exec_info {
    // SAFETY: a live list or NULL.
    let info = unsafe { pointer::borrow(list, "list") }.ok().and_then(|l| l.infos.get(index));
    info.map_or(std::ptr::null(), std::ptr::from_ref)
}

/// The number by which any program can attach to the command, if it is detached; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_id(info: *const boxlite_exec_info) -> u32 {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.info.id)
}

/// How many arguments are known, the command itself included: as many as fit into 512 bytes. 0 for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_argument_count(info: *const boxlite_exec_info) -> usize {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.arguments.len())
}

/// An argument, from 0, which is the command; NULL beyond the last. Bytes that are not UTF-8 are
/// replaced. Borrowed: good until the list is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_argument(
    info: *const boxlite_exec_info,
    index: usize,
) -> *const c_char {
    // SAFETY: live information or NULL.
    let info = unsafe { pointer::borrow(info, "info") };
    text::borrowed(info.ok().and_then(|i| i.arguments.get(index)))
}

/// When the command was started, RFC 3339 in UTC. Borrowed: good until the list is freed. NULL for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_started_at(
    info: *const boxlite_exec_info,
) -> *const c_char {
    // SAFETY: live information or NULL.
    text::borrowed(unsafe { pointer::borrow(info, "info") }.ok().map(|i| &i.started_at))
}

/// Whether it is the box's main process; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_is_main(info: *const boxlite_exec_info) -> bool {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.is_ok_and(|i| i.info.main)
}

/// Whether its output can be followed, by boxlite_box_attach(): it is detached, or the main
/// process. Otherwise it belongs to the program that started it. False for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_is_detached(info: *const boxlite_exec_info) -> bool {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.is_ok_and(|i| i.info.detached)
}

/// Whether it runs; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_is_running(info: *const boxlite_exec_info) -> bool {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.is_ok_and(|i| i.info.exit.is_none())
}

/// The exit code, or 128 + signal; -1 while it runs, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_code(info: *const boxlite_exec_info) -> i32 {
    // SAFETY: live information or NULL.
    let exit = unsafe { pointer::borrow(info, "info") }.ok().and_then(|i| i.info.exit.as_ref());
    exit.map_or(-1, |exit| exit.code)
}

/// The signal that ended it, by its number on x86-64 Linux; 0 for none, while it runs, and for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_signal(info: *const boxlite_exec_info) -> i32 {
    // SAFETY: live information or NULL.
    let exit = unsafe { pointer::borrow(info, "info") }.ok().and_then(|i| i.info.exit.as_ref());
    exit.map_or(0, |exit| exit.signal)
}

/// The offset of the first byte of a stream, BOXLITE_STDOUT or BOXLITE_STDERR, that was still held;
/// 0 if it is not detached, for NULL, and for a number that is no such stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_first(
    info: *const boxlite_exec_info,
    stream: i32,
) -> u64 {
    // SAFETY: live information or NULL.
    unsafe { held(info, stream) }.start
}

/// How many bytes a stream, BOXLITE_STDOUT or BOXLITE_STDERR, had; 0 if it is not detached, for
/// NULL, and for a number that is no such stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_info_total(
    info: *const boxlite_exec_info,
    stream: i32,
) -> u64 {
    // SAFETY: live information or NULL.
    unsafe { held(info, stream) }.total
}

/// # Safety
/// `info` is live or NULL.
unsafe fn held(info: *const boxlite_exec_info, stream: i32) -> Held {
    // SAFETY: by the caller's promise.
    let info = unsafe { pointer::borrow(info, "info") };
    match (info, boxlite_stream::output(stream, "stream")) {
        (Ok(i), Ok(boxlite_stream::BOXLITE_STDERR)) => i.info.stderr,
        (Ok(i), Ok(_)) => i.info.stdout,
        _ => Held::default(),
    }
}
