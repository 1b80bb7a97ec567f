//! What the other end says of a failure, as errors.

use boxlite_protocol::VERSION;
use boxlite_protocol::message::{Ended, Failure, FailureKind};

use crate::error::{Code, Error, Result};

pub fn no_answer(whose: &str) -> Error {
    Error::new(
        Code::Rpc,
        format!("{whose} did not answer what was asked: it is of another version"),
    )
}

pub fn lost() -> Error {
    Error::new(Code::Stopped, "the box's supervisor ended unexpectedly; see logs/shim.log")
}

pub fn other_version(version: u32) -> Error {
    let text = format!(
        "the box is run by a library that speaks protocol version {version}, and this one speaks \
         {VERSION}: it can be inspected and stopped; for anything else stop it and start it again"
    );
    Error::new(Code::Unsupported, text)
}

/// Why a request or command cannot go on: the box has ended.
pub fn why(ended: &Result<()>) -> Error {
    match ended {
        Ok(()) => Error::new(Code::Stopped, "the box was stopped"),
        Err(error) => error.clone(),
    }
}

/// Why there is nothing to connect to.
pub fn ended_early(ended: Ended) -> Error {
    match outcome(ended) {
        Err(error) => error,
        Ok(()) => Error::new(Code::Stopped, "the box has just stopped"),
    }
}

pub fn outcome(ended: Ended) -> Result<()> {
    if ended.code == 0 {
        return Ok(());
    }
    let code = Code::from_i32(ended.code).unwrap_or(Code::Internal);
    let error = Error::new(code, ended.message);
    Err(if ended.errno == 0 { error } else { error.errno(ended.errno) })
}

/// A failure that the guest or the supervisor reported, as an error.
pub fn error(failure: &Failure) -> Error {
    let code = match FailureKind::try_from(failure.kind) {
        Ok(FailureKind::Invalid | FailureKind::NoUser | FailureKind::NoDirectory) => {
            Code::InvalidArgument
        }
        Ok(FailureKind::State) => Code::InvalidState,
        Ok(FailureKind::NoExec) => Code::NotFound,
        Ok(FailureKind::CommandNotFound | FailureKind::CommandNotExecutable) => Code::Execution,
        Ok(FailureKind::Resources) => Code::ResourceExhausted,
        Ok(FailureKind::Mount | FailureKind::Storage) => Code::Storage,
        Ok(FailureKind::Ended) => Code::Stopped,
        Ok(FailureKind::Silent) => Code::Timeout,
        Ok(FailureKind::Version) => Code::Unsupported,
        Ok(FailureKind::Internal) | Err(_) => Code::Portal,
    };
    let error = Error::new(code, failure.message.clone());
    if failure.errno == 0 { error } else { error.errno(failure.errno) }
}
