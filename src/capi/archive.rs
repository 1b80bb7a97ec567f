//! Boxes as files.

use std::ffi::c_char;
use std::sync::Arc;

use super::boxes::boxlite_box;
use super::error::{boxlite_error, boxlite_status, guard};
use super::op::{OpValue, boxlite_op};
use super::pointer::{self, Out, Owned};
use super::runtime::boxlite_runtime;
use super::text;
use crate::{ExportOptions, ImportOptions};

/// What of a box an archive is to have. Owned by the caller. One thread at a time.
#[derive(Default)]
pub struct boxlite_export_options(ExportOptions);

impl Owned for boxlite_export_options {}

/// What is to become of an archive. Owned by the caller. One thread at a time.
#[derive(Default)]
pub struct boxlite_import_options(ImportOptions);

impl Owned for boxlite_import_options {}

/// Makes options for boxlite_box_export(): the box's disk as it is now, in one file. Setters check
/// at once; one that fails changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_export_options_new(
    options: *mut *mut boxlite_export_options,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            Out::new(options, "options")?.give(boxlite_export_options::default());
            Ok(())
        })
    }
}

/// Frees options. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_export_options_free(options: *mut boxlite_export_options) {
    // SAFETY: live options that are not used again, or NULL.
    drop(unsafe { pointer::take_back(options) });
}

/// Has the archive be of what the disk was in the snapshot of that name. The box may run then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_export_options_set_snapshot(
    options: *mut boxlite_export_options,
    name: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.snapshot(text::string(name, "name")?)
        })
    }
}

/// Whether the archive has all snapshots of the box too, each with what was written since the one
/// before. Not unless set, and not with boxlite_export_options_set_snapshot().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_export_options_set_with_snapshots(
    options: *mut boxlite_export_options,
    with: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.with_snapshots(with);
            Ok(())
        })
    }
}

/// Writes the box into one file, its archive: to path, where nothing is yet, or into the directory
/// path as `NAME.boxlite`, with the box's name or, if it has none, `box`. Directories on the way
/// are made. The box stays as it is. options may be NULL. Progress is told in bytes of disks. The
/// result is the file's path: boxlite_op_take_text(). Cancelling leaves no file behind.
///
/// Of a box that runs, the file system is frozen for some tens of milliseconds, as by
/// boxlite_box_snapshot_create(), and the archive is of that moment; the box can be used while it
/// is written. The box's disk consists of one file more from then on.
///
/// An archive has disk, options and image configuration of the box; all environment variables too.
/// Nothing in it is secret to who has it.
///
/// Errors of the operation: BOXLITE_ALREADY_EXISTS (the file), BOXLITE_INVALID_STATE (the box is
/// paused, or is being stopped), BOXLITE_TIMEOUT (its file system did not come to rest within 5 s),
/// BOXLITE_NOT_FOUND (the snapshot, or the box was removed), BOXLITE_BUSY (another program is
/// changing the box), BOXLITE_RESOURCE_EXHAUSTED (there is no room, or the disk consists of 64
/// files that cannot be merged), BOXLITE_STORAGE, BOXLITE_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_export(
    r#box: *mut boxlite_box,
    path: *const c_char,
    options: *const boxlite_export_options,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let r#box = pointer::borrow(r#box, "box")?;
            let path = text::string(path, "path")?.to_owned();
            let options = match options.is_null() {
                true => ExportOptions::new(),
                false => pointer::borrow(options, "options")?.0.clone(),
            };
            let (shared, handle) = r#box.parts()?;
            let export = move |observer, cancelled| async move {
                let written =
                    handle.export_unless(path.as_ref(), &options, Some(observer), cancelled);
                written.await.map(|path| OpValue::Text(path.display().to_string()))
            };
            out.give_shared(boxlite_op::start_undoing(shared, export));
            Ok(())
        })
    }
}

/// Makes options for boxlite_box_import(): a box of the name that it had, with nothing that
/// concerns the host. Setters check at once; one that fails changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_import_options_new(
    options: *mut *mut boxlite_import_options,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            Out::new(options, "options")?.give(boxlite_import_options::default());
            Ok(())
        })
    }
}

/// Frees options. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_import_options_free(options: *mut boxlite_import_options) {
    // SAFETY: live options that are not used again, or NULL.
    drop(unsafe { pointer::take_back(options) });
}

/// Has the box get this name, by the rules of boxlite_box_options_set_name(), in place of the one
/// that it had. name may be NULL: none at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_import_options_set_name(
    options: *mut boxlite_import_options,
    name: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            if name.is_null() {
                options.0.no_name();
                return Ok(());
            }
            options.0.name(text::string(name, "name")?)
        })
    }
}

/// Whether the archive may bring with it what concerns the host: paths, published ports, and how
/// far the box is shut off. Not unless set. Only for archives that nobody else can have changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_import_options_set_trusted(
    options: *mut boxlite_import_options,
    trusted: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.trusted(trusted);
            Ok(())
        })
    }
}

/// Makes a box of an archive that boxlite_box_export() has written, here or elsewhere. Archives may
/// come from strangers: all of it is read and checked before there is a box. options may be NULL.
/// Progress is told in bytes of the archive. The result is a box: boxlite_op_take_box(). Cancelling
/// leaves nothing behind.
///
/// Errors of the operation: BOXLITE_NOT_FOUND (no such file), BOXLITE_INVALID_ARGUMENT (it is no
/// archive, damaged, not all there, or says of itself what is not so), BOXLITE_UNSUPPORTED (its
/// version, or disks with features that boxes' disks do not have), BOXLITE_ALREADY_EXISTS (the
/// name), BOXLITE_RESOURCE_EXHAUSTED (there is no room: 64 MiB stay free for boxes that run),
/// BOXLITE_STORAGE, BOXLITE_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_import(
    runtime: *mut boxlite_runtime,
    path: *const c_char,
    options: *const boxlite_import_options,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared: Arc<boxlite_runtime> = pointer::share(runtime, "runtime")?;
            let path = text::string(path, "path")?.to_owned();
            let options = match options.is_null() {
                true => ImportOptions::new(),
                false => pointer::borrow(options, "options")?.0.clone(),
            };
            let runtime = shared.get()?.clone();
            let import = move |observer, cancelled| async move {
                let made =
                    runtime.import_unless(path.as_ref(), &options, Some(observer), cancelled);
                made.await.map(OpValue::Box)
            };
            out.give_shared(boxlite_op::start_undoing(shared, import));
            Ok(())
        })
    }
}
