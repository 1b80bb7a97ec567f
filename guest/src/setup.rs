//! Making a machine, and then a box, out of a booted kernel.
//!
//! [`early`] does what every machine needs, before the host is known: a machine that is restored
//! has it behind it. [`Blank::become_box`] does what differs from box to box, before anything
//! of the user's runs.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use boxlite_protocol::message::{Disk, Failure, FailureKind, Init, Time};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::Gid;

use crate::process::failure;
use crate::{grow, identity, warm};

const NEW_ROOT: &str = "/newroot";

/// What no box can do without, and none has of its own. All of it ends up in the box: it hangs
/// below three directories, which are moved.
pub fn early() -> io::Result<()> {
    mount_virtual()?;
    link_devices()?;
    create_dir(NEW_ROOT)?;
    // Who root is: where that is who a process runs as, nothing is to be changed.
    nix::unistd::setgroups(&[Gid::from_raw(0)])?;
    // What nearly every distribution's service manager sets for its services.
    setrlimit(Resource::RLIMIT_NOFILE, 1024, 524_288)?;
    bring_up_loopback()
}

fn mount_virtual() -> io::Result<()> {
    let nothing = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let no_programs = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let no_devices = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for (kind, target, flags, data) in [
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
        ("devpts", "/dev/pts", no_programs, "mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", no_devices, "mode=1777"),
        ("mqueue", "/dev/mqueue", nothing, ""),
        ("proc", "/proc", nothing, ""),
        ("sysfs", "/sys", nothing, ""),
        ("cgroup2", "/sys/fs/cgroup", nothing, ""),
    ] {
        // sysfs makes its own mount points; the others are ours to make.
        if !target.starts_with("/sys/") {
            create_dir(target)?;
        }
        mount(Some(kind), target, Some(kind), flags, Some(data)).map_err(|e| named(target, e))?;
    }
    Ok(())
}

fn link_devices() -> io::Result<()> {
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, link)?;
    }
    // The kernel makes it for root only; the one in /dev/pts is for all.
    fs::remove_file("/dev/ptmx").or_else(ignore_missing)?;
    symlink("pts/ptmx", "/dev/ptmx")
}

/// Has every page of ours in place, so that a restored machine takes no fault for one of them.
/// Whoever cannot have them gets them one by one.
pub fn touch_memory() {
    if mlockall(MlockAllFlags::MCL_CURRENT).is_ok() {
        // They stay where they are: there is nothing to swap to.
        let _ = munlockall();
    }
}

/// A machine that is no box yet.
pub struct Blank {
    /// Where the random pool is fed.
    random: File,
    /// The disk that is the root already.
    root: Option<Disk>,
}

impl Blank {
    pub fn new() -> io::Result<Blank> {
        Ok(Blank { random: OpenOptions::new().write(true).open("/dev/random")?, root: None })
    }

    /// The disk that is the root.
    pub fn root(&self) -> Option<&Disk> {
        self.root.as_ref()
    }

    pub fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// Makes a disk the root before it is known whose.
    pub fn mount_root(&mut self, disk: &Disk) -> Result<(), Failure> {
        if self.has_root() {
            return Err(failure(FailureKind::State, "a disk is mounted already", libc::EBUSY));
        }
        enter_root(disk)?;
        self.root = Some(disk.clone());
        warm::read_ahead();
        identity::hold_places();
        Ok(())
    }

    /// Makes this machine the box that `init` describes.
    pub fn become_box(&self, init: &Init) -> Result<(), Failure> {
        if !init.entropy.is_empty() {
            add_entropy(&self.random, &init.entropy)
                .map_err(|e| internal("seed the random pool", &e))?;
        }
        if let Some(time) = init.time {
            set_clock(time).map_err(|e| internal("set the clock", &e))?;
        }
        nix::unistd::sethostname(&init.hostname)
            .map_err(|e| internal(&format!("set the host name '{}'", init.hostname), &e.into()))?;
        let disk = Disk { device: init.root_device.clone(), kind: init.root_type.clone() };
        match &self.root {
            None => enter_root(&disk)?,
            Some(root) if *root == disk => {}
            Some(root) => {
                let text = format!("{} is mounted, not {}", root.device, disk.device);
                return Err(failure(FailureKind::State, text, libc::EBUSY));
            }
        }
        if init.inscribed {
            return Ok(());
        }
        identity::write(init).map_err(|e| internal("write the box's identity files", &e.into()))
    }
}

/// Sets the wall clock.
pub fn set_clock(time: Time) -> io::Result<()> {
    let nanoseconds = i64::from(time.nanoseconds.min(999_999_999));
    Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(time.seconds, nanoseconds))?)
}

fn internal(what: &str, error: &io::Error) -> Failure {
    failure(FailureKind::Internal, format!("{what}: {error}"), error.raw_os_error().unwrap_or(0))
}

fn named(target: &str, error: nix::Error) -> io::Error {
    io::Error::new(io::Error::from(error).kind(), format!("mount {target}: {}", error.desc()))
}

fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Mixes the host's bytes into the kernel's pool, credited, and has every generator reseeded.
fn add_entropy(random: &File, bytes: &[u8]) -> io::Result<()> {
    const MAX: usize = 512;
    #[repr(C)]
    struct PoolInfo {
        bits: libc::c_int,
        size: libc::c_int,
        bytes: [u8; MAX],
    }
    nix::ioctl_write_ptr!(add_to_pool, b'R', 0x03, [libc::c_int; 2]);
    nix::ioctl_none!(reseed, b'R', 0x07);

    let size = bytes.len().min(MAX);
    let mut info =
        PoolInfo { bits: (size * 8) as libc::c_int, size: size as libc::c_int, bytes: [0; MAX] };
    info.bytes[..size].copy_from_slice(&bytes[..size]);
    let fd = random.as_raw_fd();
    // SAFETY: the kernel reads the two counts and `size` bytes behind them, all inside `info`.
    unsafe {
        add_to_pool(fd, (&raw const info).cast())?;
        reseed(fd)?;
    }
    Ok(())
}

/// Neither lays out the rest of the disk nor looks through it in the background: a new disk's is
/// empty, and most boxes need little of it. What files no longer need is free on the host, too.
const EXT4: &str = "noinit_itable,no_prefetch_block_bitmaps,discard";

fn enter_root(disk: &Disk) -> Result<(), Failure> {
    let fail = |what: &str, e: nix::Error| {
        failure(FailureKind::Mount, format!("{what}: {}", e.desc()), e as i32)
    };
    let Disk { device, kind } = disk;
    mount_disk(device, kind, NEW_ROOT)
        .map_err(|e| fail(&format!("mount {device} as {kind}"), e))?;
    if kind == "ext4"
        && let Err(e) = grow::to_device(device, NEW_ROOT)
    {
        // With the size that it has, it is as good as it was.
        eprintln!("boxlite-guest: the file system of {device} did not grow with it: {e}");
    }
    nix::unistd::chdir(NEW_ROOT).map_err(|e| fail("enter the new root", e))?;
    for (old, new) in [(c"/dev", c"dev"), (c"/proc", c"proc"), (c"/sys", c"sys")] {
        move_mount(old, new).map_err(|e| fail(&format!("move {old:?}"), e))?;
    }
    move_mount(c".", c"/").map_err(|e| fail("move the root", e))?;
    // What is entered already is the root, and stays.
    nix::unistd::chroot(c".").map_err(|e| fail("change the root", e))
}

pub fn mount_disk(device: &str, kind: &str, target: &str) -> nix::Result<()> {
    let options = if kind == "ext4" { EXT4 } else { "" };
    mount(Some(device), target, Some(kind), MsFlags::MS_LAZYTIME, Some(options))
}

/// Moves a mount to a directory, which nearly every image has.
fn move_mount(old: &CStr, new: &CStr) -> nix::Result<()> {
    let move_it = || mount(Some(old), new, None::<&CStr>, MsFlags::MS_MOVE, None::<&CStr>);
    match move_it() {
        Err(Errno::ENOENT) => {
            nix::unistd::mkdir(new, Mode::from_bits_truncate(0o755))?;
            move_it()
        }
        other => other,
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn bring_up_loopback() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all fields of ifreq are plain data; zero is valid for each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: an open socket and a request with name and flags, as this call wants.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
