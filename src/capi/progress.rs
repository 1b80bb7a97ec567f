//! How far an operation is.

use std::ffi::{CString, c_char};

use super::pointer;
use super::text;
use crate::Progress;

/// One step of an operation's progress: a stage that is done, or a count of bytes. Borrowed by a
/// callback.
pub struct boxlite_progress {
    stage: Option<CString>,
    began: bool,
    microseconds: u64,
    done: u64,
    total: u64,
}

impl boxlite_progress {
    pub fn new(progress: Progress) -> boxlite_progress {
        let empty =
            boxlite_progress { stage: None, began: false, microseconds: 0, done: 0, total: 0 };
        match progress {
            Progress::Began { what } => {
                boxlite_progress { stage: Some(text::c_string(&what)), began: true, ..empty }
            }
            Progress::Stage { name, elapsed } => boxlite_progress {
                stage: Some(text::c_string(&name)),
                microseconds: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                ..empty
            },
            Progress::Bytes { done, total } => boxlite_progress { done, total, ..empty },
        }
    }
}

/// The name of the stage that is done, or has begun, for people; NULL if this is a count of bytes.
/// Borrowed: good until the callback returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_stage(
    progress: *const boxlite_progress,
) -> *const c_char {
    // SAFETY: a live progress or NULL.
    let progress = unsafe { pointer::borrow(progress, "progress") };
    text::borrowed(progress.ok().and_then(|p| p.stage.as_ref()))
}

/// Whether the stage has just begun: one that takes long and is not gone through every time, as
/// "preparing machine template". Others are reported when they are done. False for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_began(progress: *const boxlite_progress) -> bool {
    // SAFETY: a live progress or NULL.
    unsafe { pointer::borrow(progress, "progress") }.is_ok_and(|p| p.began)
}

/// How long the stage took, in microseconds; 0 if it has just begun, or this is a count of bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_microseconds(progress: *const boxlite_progress) -> u64 {
    // SAFETY: a live progress or NULL.
    unsafe { pointer::borrow(progress, "progress") }.map_or(0, |p| p.microseconds)
}

/// The bytes of the image that were processed; 0 if this is a stage.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_bytes_done(progress: *const boxlite_progress) -> u64 {
    // SAFETY: a live progress or NULL.
    unsafe { pointer::borrow(progress, "progress") }.map_or(0, |p| p.done)
}

/// The bytes of the image that there are to process; 0 if this is a stage.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_progress_bytes_total(progress: *const boxlite_progress) -> u64 {
    // SAFETY: a live progress or NULL.
    unsafe { pointer::borrow(progress, "progress") }.map_or(0, |p| p.total)
}
