//! What happens between `clone` and `execve`.
//!
//! The child shares the parent's memory while the parent's thread is suspended (CLONE_VFORK), so
//! it may only make system calls on data that was prepared before, and must leave through
//! `execve` or `_exit`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::{Command, Step};

const STACK: usize = 64 * 1024;
const GUARD: usize = 4096;

/// Everything the child needs, as raw pointers into data that outlives the `clone`.
pub struct Plan<'a> {
    candidates: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    fds: Vec<(RawFd, RawFd)>,
    /// Whether no source is in the way of a target.
    apart: bool,
    /// Scratch for the first step of moving descriptors.
    moved: *mut RawFd,
    _moved: Vec<RawFd>,
    /// The first number above all targets.
    floor: RawFd,
    cwd: *const c_char,
    ids: Option<(u32, u32, *const u32, usize)>,
    new_session: bool,
    death_signal: Option<i32>,
    ordinary_scheduling: bool,
    ignores_signals: bool,
    orphan: bool,
    report: &'a Report,
}

/// What the child tells its parent through their common memory.
#[derive(Default)]
pub struct Report {
    step: AtomicI32,
    errno: AtomicI32,
    grandchild: AtomicI32,
}

impl Report {
    /// The orphan's pid (0 for a plain child), or the step that failed with its errno.
    pub fn outcome(&self) -> Result<i32, (Step, i32)> {
        let step = match self.step.load(Ordering::Acquire) {
            0 => return Ok(self.grandchild.load(Ordering::Acquire)),
            s if s == Step::Descriptors as i32 => Step::Descriptors,
            s if s == Step::Session as i32 => Step::Session,
            s if s == Step::DeathSignal as i32 => Step::DeathSignal,
            s if s == Step::Credentials as i32 => Step::Credentials,
            s if s == Step::WorkingDirectory as i32 => Step::WorkingDirectory,
            s if s == Step::Exec as i32 => Step::Exec,
            _ => Step::Clone,
        };
        Err((step, self.errno.load(Ordering::Acquire)))
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

impl<'a> Plan<'a> {
    pub fn new(command: &'a Command<'_>, report: &'a Report) -> Plan<'a> {
        let fds: Vec<_> = command.fds.iter().map(|(fd, to)| (fd.as_raw_fd(), *to)).collect();
        let mut moved = vec![-1; fds.len()];
        let floor = fds.iter().map(|(_, to)| to + 1).max().unwrap_or(0).max(3);
        Plan {
            candidates: pointers(&command.candidates),
            argv: pointers(&command.argv),
            env: pointers(&command.env),
            floor,
            apart: fds.iter().all(|(from, _)| *from >= floor),
            fds,
            moved: moved.as_mut_ptr(),
            _moved: moved,
            cwd: command.cwd.as_ref().map_or(ptr::null(), |c| c.as_ptr()),
            ids: command
                .credentials
                .as_ref()
                .map(|c| (c.uid, c.gid, c.groups.as_ptr(), c.groups.len())),
            new_session: command.new_session,
            death_signal: command.death_signal,
            ordinary_scheduling: command.ordinary_scheduling,
            ignores_signals: command.ignores_signals,
            orphan: command.orphan,
            report,
        }
    }

    fn fail(&self, step: Step) -> ! {
        // SAFETY: reads this thread's errno and leaves; `_exit` runs no handlers.
        unsafe {
            self.report.errno.store(*libc::__errno_location(), Ordering::Release);
            self.report.step.store(step as i32, Ordering::Release);
            libc::_exit(127)
        }
    }
}

/// Two stacks (child and grandchild), each with a guard page below it.
pub struct Stacks {
    base: *mut c_void,
}

impl Stacks {
    pub fn new() -> io::Result<Stacks> {
        // SAFETY: a fresh private mapping; nothing else refers to it.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                2 * STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stacks = Stacks { base };
        for index in 0..2 {
            // SAFETY: within the mapping made above.
            let guard = unsafe { base.byte_add(index * STACK) };
            // SAFETY: as above; a guard page turns an overflow into a fault.
            if unsafe { libc::mprotect(guard, GUARD, libc::PROT_NONE) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(stacks)
    }

    fn top(&self, index: usize) -> *mut c_void {
        // SAFETY: one past the end of a stack inside the mapping: where a stack begins.
        unsafe { self.base.byte_add((index + 1) * STACK) }
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: unmaps what `new` mapped; the children have left it (CLONE_VFORK).
        unsafe { libc::munmap(self.base, 2 * STACK) };
    }
}

struct Start<'a> {
    plan: &'a Plan<'a>,
    stacks: &'a Stacks,
}

/// A clone without an exit signal is invisible to a plain `waitpid(-1)` and raises no SIGCHLD,
/// until it executes a program, which makes it a common child again. So an intermediate that
/// never does so, and its orphaned child, are what a host program does not notice.
const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_VFORK;

/// Creates the child and returns when it has become the program or has ended.
pub fn clone_and_exec(plan: &Plan<'_>, stacks: &Stacks) -> io::Result<i32> {
    let start = Start { plan, stacks };
    // All signals wait until the child has left our memory: a handler of the host running in it
    // would act on the host's data under the child's identity.
    // SAFETY: zeroed sigset_t values are valid storage for the calls that fill them.
    let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // SAFETY: plain calls on local storage; a cancelled thread state is not touched.
    let pid = unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let (entry, flags): (extern "C" fn(*mut c_void) -> c_int, c_int) = if plan.orphan {
            (intermediate, FLAGS)
        } else {
            (become_program, FLAGS | libc::SIGCHLD)
        };
        let argument = ptr::from_ref(&start).cast_mut().cast();
        let pid = libc::clone(entry, stacks.top(0), flags, argument);
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, ptr::null_mut());
        if pid < 0 {
            return Err(error);
        }
        pid
    };
    Ok(pid)
}

extern "C" fn intermediate(argument: *mut c_void) -> c_int {
    // SAFETY: `clone_and_exec` passes a Start that lives until we end.
    let start = unsafe { &*argument.cast::<Start<'_>>() };
    // SAFETY: as in `clone_and_exec`, one level down, on the second stack.
    let pid = unsafe { libc::clone(become_program, start.stacks.top(1), FLAGS, argument) };
    if pid < 0 {
        start.plan.fail(Step::Clone);
    }
    start.plan.report.grandchild.store(pid, Ordering::Release);
    // SAFETY: leaves without running anything of the host's.
    unsafe { libc::_exit(0) }
}

extern "C" fn become_program(argument: *mut c_void) -> c_int {
    // SAFETY: `clone_and_exec` passes a Start that lives until we end.
    let plan = unsafe { (*argument.cast::<Start<'_>>()).plan };
    reset_signals(plan);
    move_descriptors(plan);
    // SAFETY: system calls on integers and prepared, NUL-terminated data. The raw calls are used
    // for the ids because the C library's wrappers would signal the host's other threads.
    unsafe {
        if plan.ordinary_scheduling {
            // What the kernel cannot refuse: no priority is asked for.
            let priority: libc::sched_param = std::mem::zeroed();
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &priority);
        }
        if plan.new_session && libc::setsid() < 0 {
            plan.fail(Step::Session);
        }
        if let Some((uid, gid, groups, count)) = plan.ids
            && (libc::syscall(libc::SYS_setgroups, count, groups) != 0
                || libc::syscall(libc::SYS_setgid, gid) != 0
                || libc::syscall(libc::SYS_setuid, uid) != 0)
        {
            plan.fail(Step::Credentials);
        }
        // After the change of user, which clears it.
        if let Some(signal) = plan.death_signal
            && libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0
        {
            plan.fail(Step::DeathSignal);
        }
        if !plan.cwd.is_null() && libc::chdir(plan.cwd) != 0 {
            plan.fail(Step::WorkingDirectory);
        }
    }
    execute(plan)
}

fn reset_signals(plan: &Plan<'_>) {
    if plan.ignores_signals {
        // The kernel's own sigaction (handler, flags, restorer, mask), all zero: SIG_DFL. The C
        // library's call refuses the signals it keeps for itself, which may be ignored too.
        let default = [0u64; 4];
        for signal in 1..=64 {
            let none = ptr::null_mut::<c_void>();
            // SAFETY: the child has its own table of handlers (no CLONE_SIGHAND); the kernel
            // reads 32 bytes and is told that its signal sets have 8. Numbers that cannot be set
            // are refused.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8) };
        }
    }
    // SAFETY: a zeroed sigset_t is the empty one; nothing is stored.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

fn move_descriptors(plan: &Plan<'_>) {
    // First out of the way of every target, then into place: a source may be another's target.
    for (index, &(from, _)) in plan.fds.iter().enumerate() {
        let copy = if plan.apart {
            from
        } else {
            // SAFETY: fcntl on a descriptor that the caller keeps open during the start.
            unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, plan.floor) }
        };
        if copy < 0 {
            plan.fail(Step::Descriptors);
        }
        // SAFETY: `moved` has one slot per descriptor.
        unsafe { *plan.moved.add(index) = copy };
    }
    for (index, &(_, to)) in plan.fds.iter().enumerate() {
        // SAFETY: as above; dup2 clears close-on-exec on the target, which is another number.
        if unsafe { libc::dup2(*plan.moved.add(index), to) } < 0 {
            plan.fail(Step::Descriptors);
        }
    }
    // What the host program did not mark close-on-exec must not live on in ours. On kernels
    // without this call (before 5.11) only the marked ones are closed.
    let mut next: RawFd = 0;
    while next < plan.floor {
        if !plan.fds.iter().any(|&(_, to)| to == next) {
            set_cloexec(next, next);
        }
        next += 1;
    }
    set_cloexec(plan.floor, -1);
}

fn set_cloexec(first: RawFd, last: RawFd) {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: marks descriptors of this process only; failure leaves them as they were.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) };
}

fn execute(plan: &Plan<'_>) -> ! {
    let mut forbidden = false;
    let candidates = &plan.candidates[..plan.candidates.len() - 1];
    for &path in candidates {
        // An attempt to execute costs the kernel a new address space before it looks at the path.
        if candidates.len() > 1 && is_missing(path) {
            continue;
        }
        // SAFETY: NULL-terminated arrays of NUL-terminated strings, prepared by the parent.
        let errno = unsafe {
            libc::execve(path, plan.argv.as_ptr(), plan.env.as_ptr());
            *libc::__errno_location()
        };
        match errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => forbidden = true,
            _ => plan.fail(Step::Exec),
        }
    }
    // SAFETY: sets this thread's errno for the report.
    unsafe {
        *libc::__errno_location() = if forbidden { libc::EACCES } else { libc::ENOENT };
    }
    plan.fail(Step::Exec)
}

fn is_missing(path: *const c_char) -> bool {
    // SAFETY: a NUL-terminated path, prepared by the parent; what was opened is closed again.
    unsafe {
        let found = libc::open(path, libc::O_PATH | libc::O_CLOEXEC);
        if found >= 0 {
            libc::close(found);
            return false;
        }
        matches!(*libc::__errno_location(), libc::ENOENT | libc::ENOTDIR)
    }
}
