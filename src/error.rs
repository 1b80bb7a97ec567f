//! The one error type of the library.
//!
//! An error names the *object* it is about, the *cause*, and what to do. Its [`Code`] is what
//! programs branch on; the numbers are part of the ABI and only ever appended to.

use std::fmt;
use std::io;

/// What kind of failure an [`Error`] is.
///
/// 0 to 20 keep the values that programs written for boxlite know; 64 and up are this library's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum Code {
    /// A fault of the library itself.
    Internal = 1,
    /// The named object does not exist.
    NotFound = 2,
    /// An object with this name exists already.
    AlreadyExists = 3,
    /// The object is not in a state that permits the call.
    InvalidState = 4,
    /// An argument is out of range or malformed.
    InvalidArgument = 5,
    /// A configuration file or option combination is unusable.
    Config = 6,
    /// The host's file system or a disk refused an operation.
    Storage = 7,
    /// An image is missing, damaged, or of another platform.
    Image = 8,
    /// A network operation failed.
    Network = 9,
    /// A command could not be run in a box.
    Execution = 10,
    /// The box stopped while the operation was under way.
    Stopped = 11,
    /// The virtual machine monitor failed or is missing.
    Engine = 12,
    /// This build or host cannot do what was asked.
    Unsupported = 13,
    /// The database refused an operation.
    Database = 14,
    /// The connection to a box's agent failed.
    Portal = 15,
    /// A remote call returned an error.
    Rpc = 16,
    /// A remote call could not be carried out.
    RpcTransport = 17,
    /// Stored metadata is unreadable.
    Metadata = 18,
    /// The requested engine does not exist on this host.
    UnsupportedEngine = 19,
    /// Memory, disk space or another resource is used up.
    ResourceExhausted = 20,
    /// The operation was cancelled.
    Cancelled = 64,
    /// A deadline passed.
    Timeout = 65,
    /// A panic was caught at the library's boundary.
    Panic = 66,
    /// The object is in use; try again later.
    Busy = 67,
    /// The call would have to wait.
    WouldBlock = 68,
    /// Bytes of an output that are no longer held: it goes on behind them.
    Gap = 69,
}

impl Code {
    /// Every code, in numeric order.
    pub const ALL: &[Code] = &[
        Code::Internal,
        Code::NotFound,
        Code::AlreadyExists,
        Code::InvalidState,
        Code::InvalidArgument,
        Code::Config,
        Code::Storage,
        Code::Image,
        Code::Network,
        Code::Execution,
        Code::Stopped,
        Code::Engine,
        Code::Unsupported,
        Code::Database,
        Code::Portal,
        Code::Rpc,
        Code::RpcTransport,
        Code::Metadata,
        Code::UnsupportedEngine,
        Code::ResourceExhausted,
        Code::Cancelled,
        Code::Timeout,
        Code::Panic,
        Code::Busy,
        Code::WouldBlock,
        Code::Gap,
    ];

    /// The code with this ABI value, if there is one.
    pub fn from_i32(value: i32) -> Option<Code> {
        Code::ALL.iter().copied().find(|c| *c as i32 == value)
    }
}

/// A failure: a [`Code`], a message for people, and what it was about.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    message: String,
    object: Option<String>,
    errno: Option<i32>,
    retryable: bool,
}

/// `Result` with this library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error. `message` says what failed and, where there is something to do, what.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            object: None,
            errno: None,
            retryable: matches!(code, Code::Busy | Code::WouldBlock | Code::Timeout),
        }))
    }

    /// An operating-system error while doing `what` (a phrase such as "create /x/y").
    ///
    /// A full disk, an exhausted quota or an exhausted limit becomes
    /// [`Code::ResourceExhausted`] whatever `code` says, because the remedy differs.
    pub fn io(code: Code, what: impl fmt::Display, cause: &io::Error) -> Error {
        let errno = cause.raw_os_error();
        let exhausted = matches!(
            errno,
            Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM)
        );
        let code = if exhausted { Code::ResourceExhausted } else { code };
        let mut error = Error::new(code, format!("{what}: {cause}"));
        error.0.errno = errno;
        error
    }

    /// Names the object (box, path, reference, option) that the error is about.
    pub fn object(mut self, object: impl Into<String>) -> Error {
        self.0.object = Some(object.into());
        self
    }

    /// Names the object that the error is about, unless it names one already.
    pub fn or_object(self, object: impl Into<String>) -> Error {
        if self.0.object.is_some() { self } else { self.object(object) }
    }

    /// Marks whether the same call may succeed later without any change.
    pub fn retryable(mut self, retryable: bool) -> Error {
        self.0.retryable = retryable;
        self
    }

    /// Attaches the operating system's error number.
    pub fn errno(mut self, errno: i32) -> Error {
        self.0.errno = Some(errno);
        self
    }

    /// Puts what was being done in front of the message.
    pub fn context(mut self, what: impl fmt::Display) -> Error {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// What programs branch on.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The object that the error is about, where there is one.
    pub fn failing_object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// The operating system's error number, where one was the cause.
    pub fn os_errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.object {
            Some(object) if !self.0.message.contains(object.as_str()) => {
                write!(f, "{object}: {}", self.0.message)
            }
            _ => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.code)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_resource_exhausted_whatever_was_being_done() {
        let cause = io::Error::from_raw_os_error(libc::ENOSPC);
        let error = Error::io(Code::Image, "write layer", &cause);
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.os_errno(), Some(libc::ENOSPC));
    }

    #[test]
    fn abi_values_are_fixed() {
        assert_eq!(Code::ResourceExhausted as i32, 20);
        assert_eq!(Code::Cancelled as i32, 64);
        assert_eq!(Code::WouldBlock as i32, 68);
        for code in Code::ALL {
            assert_eq!(Code::from_i32(*code as i32), Some(*code));
        }
        assert_eq!(Code::from_i32(0), None);
    }
}
