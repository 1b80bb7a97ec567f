//! One process has the databases, and not its forked children.
//!
//! SQLite keeps in memory which locks its process holds on a file. A forked child has that memory and
//! none of the locks: it would read and write a database that its parent has open as if it had
//! locked it. SQLite cannot be made to forget, so in such a child no database is opened. (A program
//! that the child executes begins afresh, and so does a child of a parent with none open.)
//! Source: "How To Corrupt An SQLite Database File", section 2.6.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Code, Error, Result};

/// The process that has databases open, in the upper half, and how many. Not a lock: that might be
/// held for ever in a child.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// The right to have a database open in this process, for as long as this lives.
pub struct ProcessGuard(());

impl ProcessGuard {
    /// INVALID_STATE in a child that was forked while its parent had a database open.
    pub fn take() -> Result<ProcessGuard> {
        let take = |seen| {
            let (process, open) = split(seen);
            match open {
                0 => Some(join(std::process::id(), 1)),
                _ if process == std::process::id() => Some(join(process, open + 1)),
                _ => None,
            }
        };
        match OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(ProcessGuard(())),
            Err(_) => Err(Error::new(
                Code::InvalidState,
                "a runtime was open when this process was forked from another: fork before any is \
                 opened, or execute a program in the child",
            )),
        }
    }
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        // Refused in a forked child: what it inherited it never had.
        let _ = OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| {
            let (process, open) = split(seen);
            (process == std::process::id()).then(|| join(process, open.saturating_sub(1)))
        });
    }
}

fn split(state: u64) -> (u32, u32) {
    ((state >> 32) as u32, state as u32)
}

fn join(process: u32, open: u32) -> u64 {
    u64::from(process) << 32 | u64::from(open)
}
