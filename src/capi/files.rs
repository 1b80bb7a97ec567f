//! Which files of disks a home has, and what they take.

use std::ffi::{CString, c_char};

use super::error::{boxlite_error, boxlite_status, guard};
use super::op::{OpValue, boxlite_op};
use super::pointer::{self, Out, Owned};
use super::runtime::boxlite_runtime;
use super::text;
use crate::{FileKind, StoredFile};

/// What a file of disks is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_file_kind {
    /// A box's own disk: what was written since the snapshot, base or image that it is based on.
    BOXLITE_FILE_BOX = 0,
    /// A snapshot's.
    BOXLITE_FILE_SNAPSHOT = 1,
    /// Disks are based on it, and it has no name of its own: clones, and removed boxes, leave such.
    BOXLITE_FILE_BASE = 2,
    /// An image as a disk, shared by its boxes.
    BOXLITE_FILE_IMAGE = 3,
    /// Nobody needs it: left by a program that died, and removed by boxlite_runtime_prune().
    BOXLITE_FILE_ORPHAN = 4,
    /// In the directory of a box that the home does not know: somebody's data, which is left alone.
    BOXLITE_FILE_UNKNOWN = 5,
}

/// A file of disks as it was when it was listed. Borrowed from its list. Any thread may read it.
pub struct boxlite_stored_file {
    file: StoredFile,
    path: CString,
    box_id: Option<CString>,
    name: Option<CString>,
}

/// Files of disks. Owned by the caller. Any thread may read it.
pub struct boxlite_file_list(Vec<boxlite_stored_file>);

impl Owned for boxlite_file_list {}

impl boxlite_file_list {
    pub fn new(files: Vec<StoredFile>) -> boxlite_file_list {
        let file = |file: StoredFile| boxlite_stored_file {
            path: text::c_string(&file.path),
            box_id: file.box_id.as_deref().map(text::c_string),
            name: file.name.as_deref().map(text::c_string),
            file,
        };
        boxlite_file_list(files.into_iter().map(file).collect())
    }
}

/// Lists the files of disks that the home has, by their paths: those of boxes, snapshots and
/// images, what these are based on, and what nobody needs. The result is a list:
/// boxlite_op_take_file_list().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_list_files(
    runtime: *mut boxlite_runtime,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let list =
                |runtime: crate::Runtime| async move { runtime.files().await.map(OpValue::Files) };
            out.give_shared(shared.operate(list)?);
            Ok(())
        })
    }
}

/// Removes the files of disks that nobody needs, or with dry_run finds out which these are.
/// Programs that died may leave such; most are removed when the home is opened next. The result is
/// a list of them: boxlite_op_take_file_list().
///
/// Errors of the operation: BOXLITE_BUSY (a program is changing which disks there are),
/// BOXLITE_STORAGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_prune(
    runtime: *mut boxlite_runtime,
    dry_run: bool,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let prune = move |runtime: crate::Runtime| async move {
                runtime.prune(dry_run).await.map(OpValue::Files)
            };
            out.give_shared(shared.operate(prune)?);
            Ok(())
        })
    }
}

/// Frees a list and all files in it; those of the home stay. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_file_list_free(list: *mut boxlite_file_list) {
    // SAFETY: a live list that is not used again, or NULL.
    drop(unsafe { pointer::take_back(list) });
}

/// The number of files in a list; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_file_list_count(list: *const boxlite_file_list) -> usize {
    // SAFETY: live or NULL.
    unsafe { pointer::borrow(list, "list") }.map_or(0, |list| list.0.len())
}

/// A file of the list, from 0; NULL beyond the last. Borrowed: good until the list is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_file_list_get(
    list: *const boxlite_file_list,
    index: usize,
) -> *const boxlite_stored_file {
    // SAFETY: live or NULL.
    let list = unsafe { pointer::borrow(list, "list") };
    list.ok().and_then(|list| list.0.get(index)).map_or(std::ptr::null(), std::ptr::from_ref)
}

/// What the file is for, a boxlite_file_kind; -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_stored_file_kind(file: *const boxlite_stored_file) -> i32 {
    // SAFETY: live or NULL.
    unsafe { pointer::borrow(file, "file") }.map_or(-1, |file| file.file.kind as i32)
}

/// Where the file is, relative to the home. Borrowed: good until the list is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_stored_file_path(
    file: *const boxlite_stored_file,
) -> *const c_char {
    // SAFETY: live or NULL.
    unsafe { field(file, |file| Some(&file.path)) }
}

/// The id of the box in whose directory it is; NULL if it is in none, and for NULL. Borrowed: good
/// until the list is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_stored_file_box_id(
    file: *const boxlite_stored_file,
) -> *const c_char {
    // SAFETY: live or NULL.
    unsafe { field(file, |file| file.box_id.as_ref()) }
}

/// The name of the snapshot that it is of; NULL if it is of none, and for NULL. Borrowed: good
/// until the list is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_stored_file_name(
    file: *const boxlite_stored_file,
) -> *const c_char {
    // SAFETY: live or NULL.
    unsafe { field(file, |file| file.name.as_ref()) }
}

/// The size of the disk that a guest sees, in bytes; 0 if it is no disk that can be read, and for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_stored_file_virtual_bytes(
    file: *const boxlite_stored_file,
) -> u64 {
    // SAFETY: live or NULL.
    unsafe { pointer::borrow(file, "file") }.map_or(0, |file| file.file.virtual_bytes)
}

/// What the file takes on the host, in bytes; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_stored_file_allocated_bytes(
    file: *const boxlite_stored_file,
) -> u64 {
    // SAFETY: live or NULL.
    unsafe { pointer::borrow(file, "file") }.map_or(0, |file| file.file.allocated_bytes)
}

unsafe fn field(
    file: *const boxlite_stored_file,
    get: impl FnOnce(&boxlite_stored_file) -> Option<&CString>,
) -> *const c_char {
    // SAFETY: live or NULL, as the caller says.
    let file = unsafe { pointer::borrow(file, "file") };
    text::borrowed(file.ok().and_then(get))
}

// The header's numbers are those of the library.
const _: () = {
    use boxlite_file_kind as Kind;
    assert!(Kind::BOXLITE_FILE_BOX as i32 == FileKind::Box as i32);
    assert!(Kind::BOXLITE_FILE_SNAPSHOT as i32 == FileKind::Snapshot as i32);
    assert!(Kind::BOXLITE_FILE_BASE as i32 == FileKind::Base as i32);
    assert!(Kind::BOXLITE_FILE_IMAGE as i32 == FileKind::Image as i32);
    assert!(Kind::BOXLITE_FILE_ORPHAN as i32 == FileKind::Orphan as i32);
    assert!(Kind::BOXLITE_FILE_UNKNOWN as i32 == FileKind::Unknown as i32);
};
