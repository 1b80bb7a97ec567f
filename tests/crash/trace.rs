//! Programs whose system calls are seen one by one, and can be refused: ptrace(2), on x86-64.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A system call as the kernel is given it.
#[derive(Clone, Copy)]
pub struct Raw {
    /// The thread that makes it.
    pub thread: i32,
    pub number: i64,
    pub arguments: [u64; 6],
}

/// Somebody who looks on. The thread whose call it is stands still meanwhile.
pub trait Watch {
    /// Before a call is made. With an error number it is not made, and fails with that.
    fn enter(&mut self, call: &Raw) -> Option<i32>;

    /// After it, with what the kernel returned.
    fn leave(&mut self, call: &Raw, result: i64);
}

// Of `struct user`, in bytes: the registers with a call's number and with its result.
const NUMBER: usize = 15 * 8;
const RESULT: usize = 10 * 8;

/// Runs a program with all its threads and children to the last one's end. Returns the status of the
/// program as wait(2) has it.
pub fn run(command: &mut Command, watch: &mut impl Watch) -> io::Result<i32> {
    // SAFETY: ptrace(2) is a system call, and allocates nothing.
    unsafe { command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0, 0)) };
    let child = command.spawn()?.id().cast_signed();
    let mut tracer = Tracer { watch, known: HashSet::new(), calls: HashMap::new() };
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call. Only of this thread's children: others have their own.
        let thread =
            unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if thread < 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::WIFSTOPPED(status) {
            tracer.stopped(thread, status)?;
        } else if thread == child {
            return Ok(status);
        } else {
            tracer.calls.remove(&thread);
        }
    }
}

struct Tracer<'a, W> {
    watch: &'a mut W,
    known: HashSet<i32>,
    /// What each thread is in the middle of, and what that is to fail with.
    calls: HashMap<i32, (Raw, Option<i32>)>,
}

impl<W: Watch> Tracer<'_, W> {
    fn stopped(&mut self, thread: i32, status: i32) -> io::Result<()> {
        let signal = libc::WSTOPSIG(status);
        let is_new = self.known.insert(thread);
        let mut deliver = 0;
        if is_new {
            let options = libc::PTRACE_O_TRACESYSGOOD
                | libc::PTRACE_O_TRACECLONE
                | libc::PTRACE_O_TRACEFORK
                | libc::PTRACE_O_TRACEVFORK
                | libc::PTRACE_O_TRACEEXEC
                | libc::PTRACE_O_EXITKILL;
            gone_is_fine(ptrace(libc::PTRACE_SETOPTIONS, thread, 0, options as usize))?;
        } else if signal == libc::SIGTRAP | 0x80 {
            gone_is_fine(self.call(thread))?;
        } else if status >> 16 == 0 {
            deliver = usize::try_from(signal).unwrap_or(0);
        }
        gone_is_fine(ptrace(libc::PTRACE_SYSCALL, thread, 0, deliver))
    }

    /// At the beginning or the end of a call.
    fn call(&mut self, thread: i32) -> io::Result<()> {
        // SAFETY: the structure consists of numbers.
        let mut info: libc::ptrace_syscall_info = unsafe { mem::zeroed() };
        let size = mem::size_of_val(&info);
        ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, (&raw mut info) as usize)?;
        match info.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => {
                // SAFETY: `op` says that it is this one.
                let entry = unsafe { info.u.entry };
                let number = entry.nr.cast_signed();
                let call = Raw { thread, number, arguments: entry.args };
                let refused = self.watch.enter(&call);
                if refused.is_some() {
                    ptrace(libc::PTRACE_POKEUSER, thread, NUMBER, usize::MAX)?;
                }
                self.calls.insert(thread, (call, refused));
            }
            libc::PTRACE_SYSCALL_INFO_EXIT => {
                let Some((call, refused)) = self.calls.remove(&thread) else { return Ok(()) };
                if let Some(errno) = refused {
                    let result = (-i64::from(errno)).cast_unsigned();
                    ptrace(libc::PTRACE_POKEUSER, thread, RESULT, result as usize)?;
                    return Ok(());
                }
                // SAFETY: `op` says that it is this one.
                let result = unsafe { info.u.exit.sval };
                self.watch.leave(&call, result);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A thread may be killed while it stands still.
fn gone_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|e| if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(e) })
}

fn ptrace(request: libc::c_uint, thread: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: of the requests made here only one writes to our memory: into the structure given to it,
    // as much as its size.
    if unsafe { libc::ptrace(request, thread, address, data) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
