//! What a box is and how it is.

use std::ffi::{CString, c_char};

use super::pointer::{self, Owned};
use super::text;
use crate::{BoxInfo, MainStatus};

/// The life of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_box_status {
    /// Written by an older or newer version of the library, or spoiled:
    /// boxlite_box_info_error() says why. What cannot be read can only be removed.
    BOXLITE_BOX_UNKNOWN = 0,
    /// Made, never started.
    BOXLITE_BOX_CONFIGURED = 1,
    /// Being started.
    BOXLITE_BOX_STARTING = 2,
    /// Its machine runs.
    BOXLITE_BOX_RUNNING = 3,
    /// Being stopped.
    BOXLITE_BOX_STOPPING = 4,
    /// Stopped by request or by itself; its disk is intact.
    BOXLITE_BOX_STOPPED = 5,
    /// Its machine stands still.
    BOXLITE_BOX_PAUSED = 6,
    /// It could not be started, or came to an unwanted end; its disk is kept.
    BOXLITE_BOX_FAILED = 7,
}

/// How a box's machine came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_boot {
    /// It does not run, or nobody told this program.
    BOXLITE_BOOT_UNKNOWN = 0,
    /// Its kernel booted.
    BOXLITE_BOOT_COLD = 1,
    /// It was restored from a machine template.
    BOXLITE_BOOT_RESTORED = 2,
    /// It was restored beforehand, and waited for a box.
    BOXLITE_BOOT_POOLED = 3,
}

/// What a box's health checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_health {
    /// There are none, or the box was never started.
    BOXLITE_HEALTH_NONE = 0,
    /// No check has succeeded yet, and not enough have failed.
    BOXLITE_HEALTH_STARTING = 1,
    /// The last check succeeded, or not enough have failed since.
    BOXLITE_HEALTH_HEALTHY = 2,
    /// As many checks in a row have failed as it takes.
    BOXLITE_HEALTH_UNHEALTHY = 3,
}

/// How a box's main process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_main_status {
    /// There is none, or it was not started.
    BOXLITE_MAIN_NONE = 0,
    /// It runs.
    BOXLITE_MAIN_RUNNING = 1,
    /// It has ended, in the box's last run.
    BOXLITE_MAIN_EXITED = 2,
    /// Its box was cut off before its end was seen.
    BOXLITE_MAIN_LOST = 3,
}

/// What a box is and how it was when it was asked. Owned by the caller, except in a list.
pub struct boxlite_box_info {
    info: BoxInfo,
    id: CString,
    name: Option<CString>,
    image: CString,
    created_at: CString,
    accelerator: Option<CString>,
    error: Option<CString>,
    stages: Vec<CString>,
    labels: Vec<(CString, CString)>,
    last_check: Option<CString>,
}

impl Owned for boxlite_box_info {}

/// A list of information on boxes. Owned by the caller.
pub struct boxlite_info_list {
    infos: Vec<boxlite_box_info>,
}

impl Owned for boxlite_info_list {}

impl boxlite_box_info {
    pub fn new(info: BoxInfo) -> boxlite_box_info {
        let optional = |t: &Option<String>| t.as_deref().map(text::c_string);
        boxlite_box_info {
            id: text::c_string(&info.id),
            name: optional(&info.name),
            image: text::c_string(&info.image),
            created_at: text::c_string(&info.created_at),
            accelerator: optional(&info.accelerator),
            error: optional(&info.error),
            last_check: info.health.as_ref().and_then(|h| optional(&h.last_check)),
            stages: info.stages.iter().map(|s| text::c_string(&s.name)).collect(),
            labels: info
                .labels
                .iter()
                .map(|(name, value)| (text::c_string(name), text::c_string(value)))
                .collect(),
            info,
        }
    }
}

impl boxlite_info_list {
    pub fn new(infos: Vec<BoxInfo>) -> boxlite_info_list {
        boxlite_info_list { infos: infos.into_iter().map(boxlite_box_info::new).collect() }
    }
}

/// A field that is text, or NULL.
///
/// # Safety
/// `info` is live or NULL.
unsafe fn field(
    info: *const boxlite_box_info,
    pick: impl FnOnce(&boxlite_box_info) -> Option<&CString>,
) -> *const c_char {
    // SAFETY: by the caller's promise.
    text::borrowed(unsafe { pointer::borrow(info, "info") }.ok().and_then(pick))
}

/// The name of a boxlite_box_status, such as "running"; "unknown" for a number that is none.
/// Static: good for ever.
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_box_status_name(status: i32) -> *const c_char {
    let name = match status {
        1 => c"configured",
        2 => c"starting",
        3 => c"running",
        4 => c"stopping",
        5 => c"stopped",
        6 => c"paused",
        7 => c"failed",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// Frees information that was taken from an operation, not that of a list. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_free(info: *mut boxlite_box_info) {
    // SAFETY: live information that is not used again, or NULL.
    drop(unsafe { pointer::take_back(info) });
}

/// The box's id. Borrowed: good until the information is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_id(info: *const boxlite_box_info) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| Some(&i.id)) }
}

/// The box's name; NULL if it has none, and for NULL. Borrowed: good until the information is
/// freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_name(info: *const boxlite_box_info) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| i.name.as_ref()) }
}

/// The image as it was given when the box was made. Borrowed: good until the information is freed.
/// NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_image(info: *const boxlite_box_info) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| Some(&i.image)) }
}

/// When the box was made, RFC 3339 in UTC. Borrowed: good until the information is freed. NULL for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_created_at(
    info: *const boxlite_box_info,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| Some(&i.created_at)) }
}

/// What executes the box's instructions, "kvm" or "tcg"; NULL if it does not run, or if another
/// program runs it and this one has not used it yet. Borrowed: good until the information is
/// freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_accelerator(
    info: *const boxlite_box_info,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| i.accelerator.as_ref()) }
}

/// Why the box failed or ended, or cannot be read; NULL if there is nothing to tell. Borrowed: good
/// until the information is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_error(info: *const boxlite_box_info) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| i.error.as_ref()) }
}

/// The box's status, a boxlite_box_status; BOXLITE_BOX_UNKNOWN for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_status(info: *const boxlite_box_info) -> i32 {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.info.status as i32)
}

/// The number of virtual CPUs; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_cpus(info: *const boxlite_box_info) -> u32 {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.info.cpus)
}

/// The memory in MiB; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_memory_mib(info: *const boxlite_box_info) -> u32 {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.info.memory_mib)
}

/// The disk's size in MiB; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_disk_size_mib(info: *const boxlite_box_info) -> u64 {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.info.disk_size_mib)
}

/// The process id of the box's supervisor; 0 if the box does not run, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_pid(info: *const boxlite_box_info) -> u32 {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.info.pid.unwrap_or(0))
}

/// How the box's machine came to run, a boxlite_boot; BOXLITE_BOOT_UNKNOWN if it does not run, if
/// another program runs it and this one has not used it yet, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_boot(info: *const boxlite_box_info) -> i32 {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.info.boot as i32)
}

/// The number of stages that the last start by this runtime went through; 0 if there was none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_stage_count(info: *const boxlite_box_info) -> usize {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.stages.len())
}

/// The name of a stage, from 0; NULL beyond the last. They are "admission", "configuration",
/// "spawn" and "supervisor" (processes), "template" and "disk template" (made once), "machine" and
/// "boot", "restore" or "hand-over" (one of these ways), "setup", and "main" (its process); no
/// start has all of them. Borrowed: good until the information is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_stage_name(
    info: *const boxlite_box_info,
    index: usize,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| i.stages.get(index)) }
}

/// How long a stage took, in microseconds; 0 beyond the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_stage_microseconds(
    info: *const boxlite_box_info,
    index: usize,
) -> u64 {
    // SAFETY: live information or NULL.
    let stage =
        unsafe { pointer::borrow(info, "info") }.ok().and_then(|i| i.info.stages.get(index));
    stage.map_or(0, |s| u64::try_from(s.elapsed.as_micros()).unwrap_or(u64::MAX))
}

/// What the health checks say, a boxlite_health, in the box's last run; BOXLITE_HEALTH_NONE for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_health(info: *const boxlite_box_info) -> i32 {
    // SAFETY: live information or NULL.
    let health = unsafe { pointer::borrow(info, "info") }.ok().and_then(|i| i.info.health.as_ref());
    health.map_or(0, |h| h.state as i32)
}

/// How many health checks in a row have failed; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_health_failures(info: *const boxlite_box_info) -> u32 {
    // SAFETY: live information or NULL.
    let health = unsafe { pointer::borrow(info, "info") }.ok().and_then(|i| i.info.health.as_ref());
    health.map_or(0, |h| h.failures)
}

/// When the last health check ended, RFC 3339 in UTC; NULL if none has, and for NULL. Borrowed:
/// good until the information is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_last_check(
    info: *const boxlite_box_info,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| i.last_check.as_ref()) }
}

/// How the box's main process is, or was in its last run, a boxlite_main_status; BOXLITE_MAIN_NONE
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_main_status(info: *const boxlite_box_info) -> i32 {
    use boxlite_main_status as Main;
    // SAFETY: live information or NULL.
    let main = unsafe { pointer::borrow(info, "info") }.map_or(MainStatus::None, |i| i.info.main);
    let status = match main {
        MainStatus::None => Main::BOXLITE_MAIN_NONE,
        MainStatus::Running => Main::BOXLITE_MAIN_RUNNING,
        MainStatus::Exited { .. } => Main::BOXLITE_MAIN_EXITED,
        MainStatus::Lost => Main::BOXLITE_MAIN_LOST,
    };
    status as i32
}

/// The exit code of the main process, or 128 + signal; -1 unless it has ended, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_main_code(info: *const boxlite_box_info) -> i32 {
    // SAFETY: live information or NULL.
    match unsafe { pointer::borrow(info, "info") }.map(|i| i.info.main) {
        Ok(MainStatus::Exited { code, .. }) => code,
        _ => -1,
    }
}

/// The signal that ended the main process, by its number on x86-64 Linux; 0 if none did, and for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_main_signal(info: *const boxlite_box_info) -> i32 {
    // SAFETY: live information or NULL.
    match unsafe { pointer::borrow(info, "info") }.map(|i| i.info.main) {
        Ok(MainStatus::Exited { signal, .. }) => signal,
        _ => 0,
    }
}

/// Whether the box outlives the program that starts it; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_detach(info: *const boxlite_box_info) -> bool {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.is_ok_and(|i| i.info.detach)
}

/// Whether the box is removed when it has stopped; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_auto_remove(info: *const boxlite_box_info) -> bool {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.is_ok_and(|i| i.info.auto_remove)
}

/// The number of labels; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_label_count(info: *const boxlite_box_info) -> usize {
    // SAFETY: live information or NULL.
    unsafe { pointer::borrow(info, "info") }.map_or(0, |i| i.labels.len())
}

/// The name of a label, from 0, in the order of their bytes; NULL beyond the last. Borrowed: good
/// until the information is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_label_name(
    info: *const boxlite_box_info,
    index: usize,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| i.labels.get(index).map(|(name, _)| name)) }
}

/// The value of a label, by the index of its name; NULL beyond the last. Borrowed: good until the
/// information is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_label_value(
    info: *const boxlite_box_info,
    index: usize,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe { field(info, |i| i.labels.get(index).map(|(_, value)| value)) }
}

/// The value of the label of this name; NULL if the box has none, and for NULL. Borrowed: good
/// until the information is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info_label(
    info: *const boxlite_box_info,
    name: *const c_char,
) -> *const c_char {
    // SAFETY: pointers as the header demands.
    unsafe {
        let Ok(wanted) = text::string(name, "name") else { return std::ptr::null() };
        let has = |(name, _): &&(CString, CString)| name.to_bytes() == wanted.as_bytes();
        field(info, |i| i.labels.iter().find(has).map(|(_, value)| value))
    }
}

/// Frees a list and all information in it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_info_list_free(list: *mut boxlite_info_list) {
    // SAFETY: a live list that is not used again, or NULL.
    drop(unsafe { pointer::take_back(list) });
}

/// The number of boxes in a list; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_info_list_count(list: *const boxlite_info_list) -> usize {
    // SAFETY: a live list or NULL.
    unsafe { pointer::borrow(list, "list") }.map_or(0, |l| l.infos.len())
}

/// The information on a box of the list, from 0; NULL beyond the last. Borrowed: good until the
/// list is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_info_list_get(
    list: *const boxlite_info_list,
    index: usize,
) -> *const boxlite_box_info {
    // SAFETY: a live list or NULL.
    let info = unsafe { pointer::borrow(list, "list") }.ok().and_then(|l| l.infos.get(index));
    info.map_or(std::ptr::null(), std::ptr::from_ref)
}
