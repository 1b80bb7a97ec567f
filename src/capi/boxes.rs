//! Boxes.

use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::time::Duration;

use super::error::{boxlite_error, boxlite_status, guard};
use super::filter::boxlite_list_filter;
use super::op::{OpValue, boxlite_op};
use super::options::{boxlite_box_options, boxlite_exec_options};
use super::pointer::{self, Counted, Handles, Out};
use super::runtime::boxlite_runtime;
use super::text;
use crate::{BoxHandle, Exec, ListFilter, Result};

/// A box, running or not. Counted. Keeps its runtime alive.
pub struct boxlite_box {
    runtime: Arc<boxlite_runtime>,
    handles: Handles,
    handle: BoxHandle,
    id: CString,
    name: Option<CString>,
}

impl Counted for boxlite_box {
    fn handles(&self) -> &Handles {
        &self.handles
    }

    fn is_forked(&self) -> bool {
        self.runtime.is_forked()
    }
}

impl boxlite_box {
    pub fn new(runtime: Arc<boxlite_runtime>, handle: BoxHandle) -> boxlite_box {
        boxlite_box {
            runtime,
            handles: Handles::default(),
            id: text::c_string(handle.id()),
            name: handle.name().map(text::c_string),
            handle,
        }
    }

    /// Starts to make clones of it.
    pub(super) fn clone_box(
        &self,
        from: Option<String>,
        names: Vec<Option<String>>,
    ) -> Result<Arc<boxlite_op>> {
        let runtime = self.runtime.get()?.clone();
        let handle = self.handle.clone();
        let work = |_, _| async move {
            let clones = runtime.clone_box(&handle, from.as_deref(), names).await?;
            Ok(OpValue::Boxes(clones.into()))
        };
        Ok(boxlite_op::start_undoing(self.runtime.clone(), work))
    }

    /// What work on the box needs.
    pub(super) fn parts(&self) -> Result<(Arc<boxlite_runtime>, BoxHandle)> {
        self.runtime.get()?;
        Ok((self.runtime.clone(), self.handle.clone()))
    }

    /// Starts an operation on the box.
    pub(super) fn operate<W: Future<Output = Result<OpValue>> + Send + 'static>(
        &self,
        work: impl FnOnce(BoxHandle) -> W,
    ) -> Result<Arc<boxlite_op>> {
        self.runtime.get()?;
        let handle = self.handle.clone();
        Ok(boxlite_op::start(self.runtime.clone(), |_| work(handle)))
    }
}

/// Makes a box. Its image is read and made into a disk, unless that was done before; nothing runs
/// yet. options may be freed afterwards. The result is a box: boxlite_op_take_box().
///
/// Errors of the operation: BOXLITE_IMAGE (missing, damaged, of another architecture),
/// BOXLITE_ALREADY_EXISTS (the name), BOXLITE_INVALID_ARGUMENT (a disk smaller than the image
/// needs), BOXLITE_RESOURCE_EXHAUSTED (a full host disk).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_create(
    runtime: *mut boxlite_runtime,
    options: *const boxlite_box_options,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let options = pointer::borrow(options, "options")?.0.clone();
            let runtime = shared.get()?.clone();
            let create = move |observer, cancelled| async move {
                let made = runtime.create_unless(&options, Some(observer), cancelled).await;
                made.map(OpValue::Box)
            };
            out.give_shared(boxlite_op::start_undoing(shared, create));
            Ok(())
        })
    }
}

/// Finds a box of the home by its id or its name, whichever program made it. The result is a box:
/// boxlite_op_take_box(). Errors of the operation: BOXLITE_NOT_FOUND, BOXLITE_METADATA (its rows in
/// the database cannot be read: it can only be removed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_get(
    runtime: *mut boxlite_runtime,
    id_or_name: *const c_char,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let wanted = text::string(id_or_name, "id_or_name")?.to_owned();
            let started = shared
                .operate(|runtime| async move { runtime.get(&wanted).await.map(OpValue::Box) });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Lists all boxes of the home, newest first. The result is a list: boxlite_op_take_info_list().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_list(
    runtime: *mut boxlite_runtime,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let started =
                shared.operate(|runtime| async move { runtime.list().await.map(OpValue::List) });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Lists the boxes of the home that a filter lets through, newest first; all of them if filter is
/// NULL. filter may be NULL, and may be freed afterwards. The result is a list:
/// boxlite_op_take_info_list(). A box whose rows in the database cannot be read is in it with
/// BOXLITE_BOX_UNKNOWN and a boxlite_box_info_error(), and keeps nobody from the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_list_matching(
    runtime: *mut boxlite_runtime,
    filter: *const boxlite_list_filter,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let filter = filter.as_ref().map_or_else(ListFilter::new, |f| f.0.clone());
            let started = shared.operate(|runtime| async move {
                runtime.list_matching(&filter).await.map(OpValue::List)
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Removes a box and its disk, by its id or its name. One that runs, in whichever program, is
/// BOXLITE_INVALID_STATE, or is stopped at once if force is set. Handles on it are still to be
/// freed. The operation has no result.
///
/// Errors of the operation: BOXLITE_NOT_FOUND, BOXLITE_INVALID_STATE, BOXLITE_BUSY (another
/// program is changing the box, or its machine is still ending). A box whose rows cannot be read
/// is removed like any other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_remove(
    runtime: *mut boxlite_runtime,
    id_or_name: *const c_char,
    force: bool,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let wanted = text::string(id_or_name, "id_or_name")?.to_owned();
            let started = shared.operate(|runtime| async move {
                runtime.remove(&wanted, force).await.map(|()| OpValue::Nothing)
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Adds a handle on a box, to be freed like the first: box handles are counted. Returns box; NULL
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_ref(r#box: *mut boxlite_box) -> *mut boxlite_box {
    // SAFETY: a live handle or NULL.
    unsafe { pointer::add_handle(r#box) }
}

/// Frees a box handle; the box itself stays as it is, unless its runtime ends (see
/// boxlite_runtime_free()). NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_free(r#box: *mut boxlite_box) {
    // SAFETY: a live handle that is not used again, or NULL.
    drop(unsafe { pointer::take_back_shared(r#box) });
}

/// The box's id. Borrowed: good until the handle is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_id(r#box: *const boxlite_box) -> *const c_char {
    // SAFETY: a live handle or NULL.
    let handle = unsafe { pointer::borrow(r#box, "box") };
    text::borrowed(handle.ok().map(|b| &b.id))
}

/// The box's name; NULL if it has none, and for NULL. Borrowed: good until the handle is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_name(r#box: *const boxlite_box) -> *const c_char {
    // SAFETY: a live handle or NULL.
    let handle = unsafe { pointer::borrow(r#box, "box") };
    text::borrowed(handle.ok().and_then(|b| b.name.as_ref()))
}

/// Starts the box: its machine is launched and its disk mounted. One that runs, in whichever
/// program, stays as it is. The operation has no result; its progress tells each stage.
///
/// Errors of the operation: BOXLITE_RESOURCE_EXHAUSTED (all of the box's memory must be available
/// to this program at that moment, and 64 MiB free on the home's file system), BOXLITE_ENGINE
/// (QEMU or the guest kernel is missing or ended; quotes the console), BOXLITE_TIMEOUT (the guest
/// did not come up in time; quotes the console), BOXLITE_UNSUPPORTED_ENGINE (KVM was demanded and
/// does not work), BOXLITE_EXECUTION (its main process could not be run), BOXLITE_BUSY (another
/// program is changing the box), BOXLITE_NOT_FOUND (it was removed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_start(
    r#box: *mut boxlite_box,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let handle = pointer::borrow(r#box, "box")?;
            handle.runtime.get()?;
            let work = handle.handle.clone();
            let start = move |observer, cancelled| async move {
                work.start_unless(Some(observer), cancelled).await.map(|()| OpValue::Nothing)
            };
            out.give_shared(boxlite_op::start_undoing(handle.runtime.clone(), start));
            Ok(())
        })
    }
}

/// Stops the box, whichever program started it: its processes get SIGTERM and grace_ms
/// milliseconds to end, then SIGKILL, and its disk is unmounted. One that does not run stays as
/// it is. The operation has no result. Commands that run end as by these signals: with an exit,
/// and the end of what they had written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_stop(
    r#box: *mut boxlite_box,
    grace_ms: u32,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let grace = Duration::from_millis(u64::from(grace_ms));
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                handle.stop(grace).await.map(|()| OpValue::Nothing)
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Has the box stand still: its processes do not run until it is resumed, and keep their memory.
/// One that does already stays as it is. While it is paused, commands cannot be started
/// (BOXLITE_INVALID_STATE); stopping it works. The operation has no result.
///
/// Errors of the operation: BOXLITE_INVALID_STATE (it does not run), BOXLITE_TIMEOUT (its virtual
/// machine does not answer).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_pause(
    r#box: *mut boxlite_box,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?
                .operate(|handle| async move { handle.pause().await.map(|()| OpValue::Nothing) });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Has a paused box go on; its clock is set. So does one that was paused because the host's disk
/// was full (boxlite_box_info_error() tells): what it could not write is written now, and if the
/// disk is still full it is paused again. One that runs stays as it is. The operation has no
/// result, and the errors of boxlite_box_pause().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_resume(
    r#box: *mut boxlite_box,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?
                .operate(|handle| async move { handle.resume().await.map(|()| OpValue::Nothing) });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Asks what the box is and how it is. The result is information: boxlite_op_take_info(). Errors of
/// the operation: BOXLITE_NOT_FOUND (it was removed), BOXLITE_METADATA (its rows in the database
/// cannot be read).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_inspect(
    r#box: *mut boxlite_box,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                handle.info().await.map(|info| OpValue::Info(Box::new(info)))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Runs a command in the box, which is started first if it does not run. options may be freed
/// afterwards. The result is an exec: boxlite_op_take_exec(). A command that does not exist or
/// may not be executed is an exec too, which exits with 127 or 126.
///
/// Errors of the operation: those of boxlite_box_start(), BOXLITE_INVALID_ARGUMENT (no such user
/// or working directory, or no command at all), BOXLITE_RESOURCE_EXHAUSTED (in the guest),
/// BOXLITE_INVALID_STATE (the box is being stopped), BOXLITE_STOPPED or BOXLITE_ENGINE (the box
/// ended meanwhile).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_exec(
    r#box: *mut boxlite_box,
    options: *const boxlite_exec_options,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let options = pointer::borrow(options, "options")?.0.clone();
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                handle.exec(&options).await.map(|exec: Exec| OpValue::Exec(exec))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}
