//! Statuses and errors, and the guard around every function.

use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use boxlite_events::queue::InCallback;

use super::pointer::{self, Owned};
use super::text;
use crate::error::{Code, Error, Result};

/// The outcome of a call. Values are fixed and only ever appended to; 0 to 20 are those that
/// programs written for boxlite know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_status {
    /// Success.
    BOXLITE_OK = 0,
    /// A fault of the library itself.
    BOXLITE_INTERNAL = 1,
    /// The named object does not exist.
    BOXLITE_NOT_FOUND = 2,
    /// An object with this name exists already.
    BOXLITE_ALREADY_EXISTS = 3,
    /// The object is not in a state that permits the call.
    BOXLITE_INVALID_STATE = 4,
    /// An argument is NULL, out of range or malformed; the error names it.
    BOXLITE_INVALID_ARGUMENT = 5,
    /// The configuration or installation is unusable.
    BOXLITE_CONFIG = 6,
    /// The host's file system or a disk refused an operation.
    BOXLITE_STORAGE = 7,
    /// An image is missing, damaged, or of another platform.
    BOXLITE_IMAGE = 8,
    /// A network operation failed.
    BOXLITE_NETWORK = 9,
    /// A command could not be run in a box.
    BOXLITE_EXECUTION = 10,
    /// The box stopped while the operation was under way.
    BOXLITE_STOPPED = 11,
    /// The virtual machine monitor failed or is missing.
    BOXLITE_ENGINE = 12,
    /// This build or host cannot do what was asked.
    BOXLITE_UNSUPPORTED = 13,
    /// The database refused an operation.
    BOXLITE_DATABASE = 14,
    /// The connection to a box's agent failed.
    BOXLITE_PORTAL = 15,
    /// A remote call returned an error.
    BOXLITE_RPC = 16,
    /// A remote call could not be carried out.
    BOXLITE_RPC_TRANSPORT = 17,
    /// Stored metadata is unreadable.
    BOXLITE_METADATA = 18,
    /// The requested engine or accelerator does not work on this host.
    BOXLITE_UNSUPPORTED_ENGINE = 19,
    /// Memory, disk space or another resource is used up.
    BOXLITE_RESOURCE_EXHAUSTED = 20,
    /// The operation was cancelled.
    BOXLITE_CANCELLED = 64,
    /// A deadline passed.
    BOXLITE_TIMEOUT = 65,
    /// A panic was caught at the library's boundary; please report it.
    BOXLITE_PANIC = 66,
    /// The object is in use; try again later. Also: dispatch or wait called from a callback.
    BOXLITE_BUSY = 67,
    /// The call would have to wait.
    BOXLITE_WOULD_BLOCK = 68,
    /// Bytes of an output are no longer held: it goes on behind them. See boxlite_exec_read().
    BOXLITE_GAP = 69,
}

use boxlite_status as Status;

impl From<Code> for boxlite_status {
    fn from(code: Code) -> boxlite_status {
        match code {
            Code::Internal => Status::BOXLITE_INTERNAL,
            Code::NotFound => Status::BOXLITE_NOT_FOUND,
            Code::AlreadyExists => Status::BOXLITE_ALREADY_EXISTS,
            Code::InvalidState => Status::BOXLITE_INVALID_STATE,
            Code::InvalidArgument => Status::BOXLITE_INVALID_ARGUMENT,
            Code::Config => Status::BOXLITE_CONFIG,
            Code::Storage => Status::BOXLITE_STORAGE,
            Code::Image => Status::BOXLITE_IMAGE,
            Code::Network => Status::BOXLITE_NETWORK,
            Code::Execution => Status::BOXLITE_EXECUTION,
            Code::Stopped => Status::BOXLITE_STOPPED,
            Code::Engine => Status::BOXLITE_ENGINE,
            Code::Unsupported => Status::BOXLITE_UNSUPPORTED,
            Code::Database => Status::BOXLITE_DATABASE,
            Code::Portal => Status::BOXLITE_PORTAL,
            Code::Rpc => Status::BOXLITE_RPC,
            Code::RpcTransport => Status::BOXLITE_RPC_TRANSPORT,
            Code::Metadata => Status::BOXLITE_METADATA,
            Code::UnsupportedEngine => Status::BOXLITE_UNSUPPORTED_ENGINE,
            Code::ResourceExhausted => Status::BOXLITE_RESOURCE_EXHAUSTED,
            Code::Cancelled => Status::BOXLITE_CANCELLED,
            Code::Timeout => Status::BOXLITE_TIMEOUT,
            Code::Panic => Status::BOXLITE_PANIC,
            Code::Busy => Status::BOXLITE_BUSY,
            Code::WouldBlock => Status::BOXLITE_WOULD_BLOCK,
            Code::Gap => Status::BOXLITE_GAP,
        }
    }
}

/// Why a call failed. Owned by the caller.
pub struct boxlite_error {
    error: Error,
    message: CString,
    object: Option<CString>,
}

impl Owned for boxlite_error {}

impl boxlite_error {
    pub fn new(error: Error) -> boxlite_error {
        boxlite_error {
            message: text::c_string(&error.to_string()),
            object: error.failing_object().map(text::c_string),
            error,
        }
    }
}

/// Runs the body of a function: errors and panics become a status, and an error for the caller.
///
/// # Safety
/// `out` is NULL or may be written.
pub unsafe fn guard(
    out: *mut *mut boxlite_error,
    body: impl FnOnce() -> Result<()>,
) -> boxlite_status {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no message".into());
        Err(Error::new(Code::Panic, format!("the library panicked: {text}")))
    });
    let (status, error) = match outcome {
        Ok(()) => (Status::BOXLITE_OK, std::ptr::null_mut()),
        Err(error) => {
            let status = error.code().into();
            let wanted = !out.is_null();
            let error = wanted.then(|| Box::into_raw(Box::new(boxlite_error::new(error))));
            (status, error.unwrap_or(std::ptr::null_mut()))
        }
    };
    if !out.is_null() {
        // SAFETY: writable, by the caller's promise.
        unsafe { out.write(error) };
    }
    status
}

/// For dispatch and wait, called from inside a callback.
pub fn in_callback(_: InCallback) -> Error {
    Error::new(Code::Busy, "a callback may call anything but dispatch and wait")
}

/// The error's status, never BOXLITE_OK; BOXLITE_INVALID_ARGUMENT for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_code(error: *const boxlite_error) -> boxlite_status {
    // SAFETY: a live error or NULL.
    let error = unsafe { pointer::borrow(error, "error") };
    error.map_or(Status::BOXLITE_INVALID_ARGUMENT, |e| e.error.code().into())
}

/// The message for people: what failed, why, and what to do. Never NULL; "" for NULL. Borrowed:
/// good until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_message(error: *const boxlite_error) -> *const c_char {
    // SAFETY: a live error or NULL.
    unsafe { pointer::borrow(error, "error") }.map_or(c"".as_ptr(), |e| e.message.as_ptr())
}

/// What the error is about: an argument's name, a path, a box. NULL if it is about none. Borrowed:
/// good until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_object(error: *const boxlite_error) -> *const c_char {
    // SAFETY: a live error or NULL.
    let error = unsafe { pointer::borrow(error, "error") };
    text::borrowed(error.ok().and_then(|e| e.object.as_ref()))
}

/// The operating system's error number that was the cause, such as ENOSPC; 0 if none was, or for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_errno(error: *const boxlite_error) -> i32 {
    // SAFETY: a live error or NULL.
    unsafe { pointer::borrow(error, "error") }.map_or(0, |e| e.error.os_errno().unwrap_or(0))
}

/// Whether the same call may succeed later without any change; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_is_retryable(error: *const boxlite_error) -> bool {
    // SAFETY: a live error or NULL.
    unsafe { pointer::borrow(error, "error") }.is_ok_and(|e| e.error.is_retryable())
}

/// Frees an error. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_free(error: *mut boxlite_error) {
    // SAFETY: a live error that is not used again, or NULL.
    drop(unsafe { pointer::take_back(error) });
}

/// The name of a status, such as "BOXLITE_NOT_FOUND"; "BOXLITE_UNKNOWN" for a number that is
/// none. Static: good for ever.
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_status_name(status: i32) -> *const c_char {
    let name = match Code::from_i32(status) {
        None if status == 0 => c"BOXLITE_OK",
        None => c"BOXLITE_UNKNOWN",
        Some(Code::Internal) => c"BOXLITE_INTERNAL",
        Some(Code::NotFound) => c"BOXLITE_NOT_FOUND",
        Some(Code::AlreadyExists) => c"BOXLITE_ALREADY_EXISTS",
        Some(Code::InvalidState) => c"BOXLITE_INVALID_STATE",
        Some(Code::InvalidArgument) => c"BOXLITE_INVALID_ARGUMENT",
        Some(Code::Config) => c"BOXLITE_CONFIG",
        Some(Code::Storage) => c"BOXLITE_STORAGE",
        Some(Code::Image) => c"BOXLITE_IMAGE",
        Some(Code::Network) => c"BOXLITE_NETWORK",
        Some(Code::Execution) => c"BOXLITE_EXECUTION",
        Some(Code::Stopped) => c"BOXLITE_STOPPED",
        Some(Code::Engine) => c"BOXLITE_ENGINE",
        Some(Code::Unsupported) => c"BOXLITE_UNSUPPORTED",
        Some(Code::Database) => c"BOXLITE_DATABASE",
        Some(Code::Portal) => c"BOXLITE_PORTAL",
        Some(Code::Rpc) => c"BOXLITE_RPC",
        Some(Code::RpcTransport) => c"BOXLITE_RPC_TRANSPORT",
        Some(Code::Metadata) => c"BOXLITE_METADATA",
        Some(Code::UnsupportedEngine) => c"BOXLITE_UNSUPPORTED_ENGINE",
        Some(Code::ResourceExhausted) => c"BOXLITE_RESOURCE_EXHAUSTED",
        Some(Code::Cancelled) => c"BOXLITE_CANCELLED",
        Some(Code::Timeout) => c"BOXLITE_TIMEOUT",
        Some(Code::Panic) => c"BOXLITE_PANIC",
        Some(Code::Busy) => c"BOXLITE_BUSY",
        Some(Code::WouldBlock) => c"BOXLITE_WOULD_BLOCK",
        Some(Code::Gap) => c"BOXLITE_GAP",
    };
    name.as_ptr()
}
