//! Snapshots of a box's disk.

use std::ffi::{CString, c_char};

use super::boxes::boxlite_box;
use super::error::{boxlite_error, boxlite_status, guard};
use super::op::{OpValue, boxlite_op};
use super::pointer::{self, Out, Owned};
use super::text;
use crate::Snapshot;

/// A snapshot of a box's disk, as it was when it was asked for. Owned by the caller, except in a
/// list.
pub struct boxlite_snapshot {
    snapshot: Snapshot,
    id: CString,
    box_id: CString,
    name: CString,
    created_at: CString,
    parent: Option<CString>,
}

impl Owned for boxlite_snapshot {}

/// A list of snapshots. Owned by the caller.
pub struct boxlite_snapshot_list {
    snapshots: Vec<boxlite_snapshot>,
}

impl Owned for boxlite_snapshot_list {}

impl boxlite_snapshot {
    pub fn new(snapshot: Snapshot) -> boxlite_snapshot {
        boxlite_snapshot {
            id: text::c_string(&snapshot.id),
            box_id: text::c_string(&snapshot.box_id),
            name: text::c_string(&snapshot.name),
            created_at: text::c_string(&snapshot.created_at),
            parent: snapshot.parent.as_deref().map(text::c_string),
            snapshot,
        }
    }
}

impl boxlite_snapshot_list {
    pub fn new(snapshots: Vec<Snapshot>) -> boxlite_snapshot_list {
        let snapshots = snapshots.into_iter().map(boxlite_snapshot::new).collect();
        boxlite_snapshot_list { snapshots }
    }
}

/// A field that is text, or NULL.
///
/// # Safety
/// `snapshot` is live or NULL.
unsafe fn field(
    snapshot: *const boxlite_snapshot,
    pick: impl FnOnce(&boxlite_snapshot) -> Option<&CString>,
) -> *const c_char {
    // SAFETY: by the caller's promise.
    text::borrowed(unsafe { pointer::borrow(snapshot, "snapshot") }.ok().and_then(pick))
}

/// Keeps what the box's disk is now under a name: 1 to 255 bytes of UTF-8, no '/' and no '\', not
/// beginning with '.', and of no other snapshot of the box. Nothing is copied, however much the
/// disk holds. The result is the snapshot: boxlite_op_take_snapshot().
///
/// Of a box that runs, the file system is frozen for some tens of milliseconds: what its processes
/// had written to files by then is in the snapshot, and whole; what they only have in memory is
/// not. It goes on by itself. One that is being started is waited for.
///
/// Errors of the operation: BOXLITE_INVALID_ARGUMENT (the name), BOXLITE_ALREADY_EXISTS,
/// BOXLITE_INVALID_STATE (the box is paused, or is being stopped), BOXLITE_TIMEOUT (the file
/// system did not come to rest within 5 s), BOXLITE_BUSY (another program is changing the box),
/// BOXLITE_RESOURCE_EXHAUSTED (the host's disk is full, or the box's disk consists of 64 files that
/// cannot be merged), BOXLITE_STORAGE, BOXLITE_NOT_FOUND (the box was removed). Nothing has changed
/// then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_snapshot_create(
    r#box: *mut boxlite_box,
    name: *const c_char,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let name = text::string(name, "name")?.to_owned();
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                handle
                    .create_snapshot(&name)
                    .await
                    .map(|made| OpValue::Snapshot(Some(Box::new(made))))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Lists the box's snapshots in the order in which they were made. The result is a list:
/// boxlite_op_take_snapshot_list().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_snapshot_list(
    r#box: *mut boxlite_box,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?
                .operate(|handle| async move { handle.snapshots().await.map(OpValue::Snapshots) });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Looks up a snapshot by its name. The result is the snapshot, or NULL if there is none:
/// boxlite_op_take_snapshot().
///
/// Errors of the operation: BOXLITE_INVALID_ARGUMENT (no snapshot can have this name).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_snapshot_get(
    r#box: *mut boxlite_box,
    name: *const c_char,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let name = text::string(name, "name")?.to_owned();
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                handle.snapshot(&name).await.map(|found| OpValue::Snapshot(found.map(Box::new)))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Has the box's disk be what it was in a snapshot, in one step. The box must not run. What was
/// written since is gone, unless another snapshot has it; all snapshots stay. The operation has no
/// result.
///
/// Errors of the operation: BOXLITE_INVALID_STATE (the box runs: stop it first), BOXLITE_NOT_FOUND
/// (no such snapshot, or the box was removed), BOXLITE_BUSY, BOXLITE_RESOURCE_EXHAUSTED,
/// BOXLITE_STORAGE (a file of the snapshot is missing or damaged). The disk is as it was then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_snapshot_restore(
    r#box: *mut boxlite_box,
    name: *const c_char,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let name = text::string(name, "name")?.to_owned();
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                handle.restore_snapshot(&name).await.map(|()| OpValue::Nothing)
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Removes a snapshot. If one other snapshot of the box, or its disk, is based on it, what that
/// needs is merged into it: that takes as long as writing it, and of a box that does not run as
/// much space meanwhile. The box may run, and be used meanwhile; if it is stopped, the snapshot may
/// still be there. The operation has no result.
///
/// Errors of the operation: BOXLITE_NOT_FOUND, BOXLITE_INVALID_STATE (several disks are based on
/// it, or one of another box: the message names them; or the box is paused), BOXLITE_BUSY,
/// BOXLITE_RESOURCE_EXHAUSTED (the host's disk is full). Nothing has changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_snapshot_remove(
    r#box: *mut boxlite_box,
    name: *const c_char,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let name = text::string(name, "name")?.to_owned();
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                handle.remove_snapshot(&name).await.map(|()| OpValue::Nothing)
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Makes boxes that begin with what the box's disk is now or, unless snapshot is NULL, was in the
/// snapshot of that name: count of them, 1 to 1000, with names of their own. names may be NULL, and
/// so may each of its elements: no name. They have the box's options, and ids, host names and
/// machine ids of their own. All or none are made, and nothing is copied, however much the disk
/// holds. The box may run: it goes on, and its file system is frozen for a moment, as for a
/// snapshot. The results are boxes: boxlite_op_take_box() for each of them. Once begun, this is not
/// cancelled.
///
/// What the clones are based on stays until the last of them is removed, also when the box itself
/// is.
///
/// Errors of the operation: BOXLITE_ALREADY_EXISTS (a name), BOXLITE_INVALID_ARGUMENT (a name that
/// is none, or is there twice; count), BOXLITE_NOT_FOUND (the snapshot, or the box was removed),
/// and those of boxlite_box_snapshot_create().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_clone(
    r#box: *mut boxlite_box,
    snapshot: *const c_char,
    names: *const *const c_char,
    count: usize,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let from = match snapshot.is_null() {
                true => None,
                false => Some(text::string(snapshot, "snapshot")?.to_owned()),
            };
            let names = text::optional_strings(names, count, "names")?;
            out.give_shared(pointer::borrow(r#box, "box")?.clone_box(from, names)?);
            Ok(())
        })
    }
}

/// Makes the disk of a box that does not run larger: size_mib in MiB, up to 16 TiB. The box's file
/// system grows with it when it is started next; it cannot become smaller again. Snapshots stay as
/// they are, and going back to one keeps the size. The operation has no result.
///
/// Errors of the operation: BOXLITE_INVALID_ARGUMENT (size_mib: no more than it has, or too much),
/// BOXLITE_INVALID_STATE (the box runs), BOXLITE_UNSUPPORTED (a disk that was made small cannot
/// grow beyond 4 TiB before a snapshot is made), BOXLITE_BUSY, BOXLITE_RESOURCE_EXHAUSTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_grow_disk(
    r#box: *mut boxlite_box,
    size_mib: u64,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let grow = move |handle: crate::BoxHandle| async move {
                handle.grow_disk(size_mib).await.map(|()| OpValue::Nothing)
            };
            out.give_shared(pointer::borrow(r#box, "box")?.operate(grow)?);
            Ok(())
        })
    }
}

/// Frees a snapshot that was taken from an operation, not one of a list. The snapshot itself stays.
/// NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_free(snapshot: *mut boxlite_snapshot) {
    // SAFETY: a live one that is not used again, or NULL.
    drop(unsafe { pointer::take_back(snapshot) });
}

/// The snapshot's id. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_id(snapshot: *const boxlite_snapshot) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(snapshot, |s| Some(&s.id)) }
}

/// The snapshot's name. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_name(snapshot: *const boxlite_snapshot) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(snapshot, |s| Some(&s.name)) }
}

/// The id of the box whose disk it is. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_box_id(
    snapshot: *const boxlite_snapshot,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(snapshot, |s| Some(&s.box_id)) }
}

/// When it was made, RFC 3339 in UTC, to the second. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_created_at(
    snapshot: *const boxlite_snapshot,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(snapshot, |s| Some(&s.created_at)) }
}

/// The name of the snapshot that the disk was based on when this one was made; NULL if there was
/// none, or it was removed, and for NULL. Borrowed: good until the snapshot is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_parent(
    snapshot: *const boxlite_snapshot,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(snapshot, |s| s.parent.as_ref()) }
}

/// The size of the disk that the box sees, in bytes; 0 for NULL, and if its file cannot be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_virtual_bytes(snapshot: *const boxlite_snapshot) -> u64 {
    // SAFETY: live or NULL.
    unsafe { pointer::borrow(snapshot, "snapshot") }.map_or(0, |s| s.snapshot.virtual_bytes)
}

/// What the snapshot's own file takes on the host, in bytes: about what was written to the disk
/// since its parent. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_allocated_bytes(
    snapshot: *const boxlite_snapshot,
) -> u64 {
    // SAFETY: live or NULL.
    unsafe { pointer::borrow(snapshot, "snapshot") }.map_or(0, |s| s.snapshot.allocated_bytes)
}

/// Frees a list and all snapshots in it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_list_free(list: *mut boxlite_snapshot_list) {
    // SAFETY: a live list that is not used again, or NULL.
    drop(unsafe { pointer::take_back(list) });
}

/// The number of snapshots in a list; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_list_count(list: *const boxlite_snapshot_list) -> usize {
    // SAFETY: a live list or NULL.
    unsafe { pointer::borrow(list, "list") }.map_or(0, |l| l.snapshots.len())
}

/// A snapshot of the list, from 0; NULL beyond the last. Borrowed: good until the list is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_snapshot_list_get(
    list: *const boxlite_snapshot_list,
    index: usize,
) -> *const boxlite_snapshot {
    // SAFETY: a live list or NULL.
    let list = unsafe { pointer::borrow(list, "list") };
    let snapshot = list.ok().and_then(|l| l.snapshots.get(index));
    snapshot.map_or(std::ptr::null(), std::ptr::from_ref)
}
