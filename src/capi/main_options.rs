//! Options of boxes and commands that go on without the program that started them.

use std::ffi::c_char;

use super::error::{boxlite_error, boxlite_status, guard};
use super::options::{boxlite_box_options, boxlite_exec_options};
use super::pointer;
use super::text;
use crate::error::{Code, Error};
use crate::{Main, OnMainExit};

/// What happens to a box when its main process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_main_exit {
    /// The box is stopped, whatever the exit code.
    BOXLITE_MAIN_EXIT_STOP = 0,
    /// The box runs on.
    BOXLITE_MAIN_EXIT_STAY = 1,
}

/// Sets a command that is started with the box, its main process; none unless set. argv has argc
/// strings, which are copied. With argc 0 (argv may be NULL) it is the box's own command:
/// entrypoint and cmd, the box's or the image's. It runs with the environment, user and working
/// directory of the box's commands, and reads end of file on stdin. The start of the box fails
/// with BOXLITE_EXECUTION if it cannot be run.
///
/// Its output is kept as that of a detached command: see boxlite_box_attach_main(). How it ended is
/// in the box's information: boxlite_box_info_main_status().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_main(
    options: *mut boxlite_box_options,
    argv: *const *const c_char,
    argc: usize,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            let argv = text::strings(argv, argc, "argv")?;
            options.0.main(if argv.is_empty() { Main::Image } else { Main::Argv(argv) })
        })
    }
}

/// Sets what happens to the box when its main process has ended, a boxlite_main_exit:
/// BOXLITE_MAIN_EXIT_STOP unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_main_exit(
    options: *mut boxlite_box_options,
    what: i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.on_main_exit(match what {
                0 => OnMainExit::Stop,
                1 => OnMainExit::Stay,
                other => {
                    let text = format!("what: {other} is no boxlite_main_exit");
                    return Err(Error::new(Code::InvalidArgument, text).object("what"));
                }
            });
            Ok(())
        })
    }
}

/// Sets whether the box outlives the program that starts it, however that ends: no unless set. It
/// runs until it is stopped, by any program that opens the home, or stops by itself.
/// boxlite_runtime_shutdown() and boxlite_runtime_free() leave it running. Until its start has
/// completed it ends with the program as any other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_detach(
    options: *mut boxlite_box_options,
    detach: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.detach(detach);
            Ok(())
        })
    }
}

/// Sets how many of the last bytes are kept of each output of the main process and of each detached
/// command, in a file of the home: 4096 to 1073741824; 1048576 unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_spool_bytes(
    options: *mut boxlite_box_options,
    spool_bytes: u64,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe { guard(error, || pointer::borrow_mut(options, "options")?.0.spool_bytes(spool_bytes)) }
}

/// Sets whether the command outlives this program, for as long as its box does: no unless set. The
/// last bytes of its output are kept (boxlite_box_options_set_spool_bytes()), and it never waits
/// for a reader: a slow one finds gaps, see boxlite_exec_on_gap(). This program follows it from
/// the beginning, and may write its stdin, which is closed when the exec is freed. Any program may
/// attach to it: boxlite_box_attach().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_options_set_detach(
    options: *mut boxlite_exec_options,
    detach: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.detach(detach);
            Ok(())
        })
    }
}
