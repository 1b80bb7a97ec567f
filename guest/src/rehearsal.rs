//! Doing beforehand, and undoing, what a machine does when it becomes a box.
//!
//! Where a processor is emulated, code that runs for the first time is translated first, which takes
//! ten times as long as running it. So a machine that waits for its box mounts a disk, writes and
//! reads files of it, and runs a program from it. Nothing of that may be left: no mount, no process,
//! no block of the disk, which is another one afterwards. Where the disk is mounted that the box will
//! have, nothing is written to it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use boxlite_protocol::WINDOW;
use boxlite_protocol::codec::Codec;
use boxlite_protocol::message::{
    Disk, Exec, Failure, FailureKind, Init, Request, Time, ToGuest, ToHost, request, to_guest,
};
use bytes::{Bytes, BytesMut};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::ForkResult;

use tokio_util::codec::{Decoder, Encoder};

use crate::process::failure;
use crate::setup::{self, Blank};
use crate::warm;

const STAGE: &str = "/rehearsal";

/// The program that is run is this one, copied, with this argument.
const ACTOR: &str = "/init";
pub const PART: &str = "rehearse";

/// Code that has run twice has also been linked to what runs after it.
pub const TIMES: usize = 2;

/// Where the commands are run.
pub enum Stage {
    /// A disk to rehearse on, mounted.
    Disk,
    /// The box's own disk is the root, and nothing may be written to it: the program is in memory.
    Memory(File),
}

/// Prepares the stage.
pub fn begin(blank: &Blank, request: &Disk) -> Result<Stage, Failure> {
    read_messages();
    let stage = if blank.has_root() { set_in_memory(blank) } else { set_on_disk(blank, request) };
    stage.map_err(|e| failed(&e))
}

impl Stage {
    /// The command that is to be run then; its exec has the number 0.
    pub fn command(&self) -> Exec {
        let actor = match self {
            Stage::Disk => format!("{STAGE}{ACTOR}"),
            Stage::Memory(program) => format!("/proc/1/fd/{}", program.as_raw_fd()),
        };
        let argv = vec![Bytes::from(actor), Bytes::from(PART)];
        Exec { argv, window: WINDOW, ..Exec::default() }
    }

    /// Clears the stage, after the last command has ended.
    pub fn clear(self) -> Result<(), Failure> {
        match self {
            Stage::Memory(_) => Ok(()),
            Stage::Disk => umount2(STAGE, MntFlags::empty())
                .map_err(io::Error::from)
                .and_then(|()| fs::remove_dir(STAGE))
                .map_err(|e| failed(&e)),
        }
    }
}

/// What the command does: some of what most commands do.
pub fn act() -> io::Result<()> {
    let names = fs::read_dir("/")?.count();
    // Pages of its own, then shared with a child, then its own again.
    let mut memory = vec![1u8; 64 * 1024];
    elsewhere(|| Ok(()))?;
    memory.fill(2);
    fs::metadata("/proc/self/exe")?;
    println!("{names} {}", memory.len());
    Ok(())
}

/// Reads what a host will send, with something in each field: the last of it before a command's
/// first byte is the command itself.
fn read_messages() {
    let text = || "text".to_owned();
    let init = Init {
        hostname: text(),
        machine_id: text(),
        time: Some(Time { seconds: 1, nanoseconds: 1 }),
        entropy: Bytes::from(text()),
        root_device: text(),
        root_type: text(),
        resolv_conf: text(),
        hosts: text(),
        inscribed: true,
    };
    let list = || vec![Bytes::from(text()), Bytes::from(text())];
    let exec = Exec {
        exec: 1,
        argv: list(),
        env: list(),
        cwd: Bytes::from(text()),
        user: text(),
        stdin: true,
        detached: false,
        window: WINDOW,
    };
    let clock = request::Op::SetClock(Time { seconds: 1, nanoseconds: 1 });
    for op in [request::Op::Init(init), request::Op::Exec(exec), clock] {
        let body = Some(to_guest::Body::Request(Request { id: 1, op: Some(op) }));
        let mut wire = BytesMut::new();
        // A failure costs the box a millisecond, no more.
        if Codec::<ToHost, ToGuest>::default().encode(&ToGuest { body }, &mut wire).is_ok() {
            let _ = Codec::<ToGuest, ToHost>::default().decode(&mut wire);
        }
    }
}

fn failed(error: &io::Error) -> Failure {
    let text = format!("rehearse: {error}");
    failure(FailureKind::Internal, text, error.raw_os_error().unwrap_or(0))
}

fn set_in_memory(blank: &Blank) -> io::Result<Stage> {
    let disk = blank.root().cloned().unwrap_or_default();
    for _ in 0..TIMES {
        elsewhere(|| {
            become_nobody(blank, &disk)?;
            warm::map_shell()
        })?;
    }
    let mut program = File::from(memfd_create(c"rehearsal", MFdFlags::MFD_CLOEXEC)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut program)?;
    // What is open for writing cannot be executed.
    let program = File::open(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
    Ok(Stage::Memory(program))
}

fn set_on_disk(blank: &Blank, request: &Disk) -> io::Result<Stage> {
    for _ in 0..TIMES {
        elsewhere(|| become_nobody(blank, request))?;
    }
    let Disk { device, kind } = request;
    fs::create_dir(STAGE)?;
    setup::mount_disk(device, kind, STAGE)?;
    fs::copy(ACTOR, format!("{STAGE}{ACTOR}"))?;
    Ok(Stage::Disk)
}

/// Becomes a box whose disk is the one to rehearse with. Only for a process whose mounts are its own.
fn become_nobody(blank: &Blank, request: &Disk) -> io::Result<()> {
    let nobody = || "rehearsal".to_owned();
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let init = Init {
        hostname: nobody(),
        machine_id: nobody(),
        hosts: nobody(),
        resolv_conf: nobody(),
        time: Some(Time { seconds: now.tv_sec(), nanoseconds: now.tv_nsec() as u32 }),
        root_device: request.device.clone(),
        root_type: request.kind.clone(),
        // A disk that is a box's already must not be written to.
        inscribed: blank.has_root(),
        // No entropy is credited, and none counts that is drawn: a box gets its own.
        ..Init::default()
    };
    blank.become_box(&init).map_err(|failure| io::Error::other(failure.message))
}

/// Does something in a process with mounts and a host name of its own, which go with it.
fn elsewhere(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            // SAFETY: takes flags, and concerns only the process that was just made.
            let apart =
                Errno::result(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS) });
            let done = apart.map_err(io::Error::from).and_then(|_| work());
            if let Err(error) = &done {
                crate::console(&format!("rehearsal: {error}"));
            }
            // SAFETY: ends the process, and runs nothing of its parent's.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        },
    }
}
