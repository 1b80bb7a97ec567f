//! Making a machine, and then a box, out of a booted kernel.
//!
//! [`early`] does what every machine needs, before the host is known. [`become_box`] does what
//! differs from box to box, before anything of the user's runs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use boxlite_protocol::message::{Failure, FailureKind, Init, Time};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::process::failure;

const NEW_ROOT: &str = "/newroot";

/// What the kernel has to show before the port can be found.
pub fn early() -> io::Result<()> {
    let shared = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, target, flags, data) in [
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
        ("proc", "/proc", shared | MsFlags::MS_NODEV, ""),
        ("sysfs", "/sys", shared | MsFlags::MS_NODEV, ""),
    ] {
        create_dir(target)?;
        mount(Some(kind), target, Some(kind), flags, Some(data)).map_err(|e| named(target, e))?;
    }
    mount_virtual()?;
    // What nearly every distribution's service manager sets for its services.
    setrlimit(Resource::RLIMIT_NOFILE, 1024, 524_288)?;
    bring_up_loopback()?;
    Ok(())
}

/// Makes this machine the box that `init` describes.
pub fn become_box(init: &Init) -> Result<(), Failure> {
    add_entropy(&init.entropy).map_err(|e| internal("seed the random pool", &e))?;
    if let Some(time) = init.time {
        set_clock(time).map_err(|e| internal("set the clock", &e))?;
    }
    nix::unistd::sethostname(&init.hostname)
        .map_err(|e| internal(&format!("set the host name '{}'", init.hostname), &e.into()))?;
    mount_root(init)?;
    write_identity(init).map_err(|e| internal("write the box's identity files", &e))
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
fn add_entropy(bytes: &[u8]) -> io::Result<()> {
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
    let random = fs::OpenOptions::new().write(true).open("/dev/random")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&random);
    // SAFETY: the kernel reads the two counts and `size` bytes behind them, all inside `info`.
    unsafe {
        add_to_pool(fd, (&raw const info).cast())?;
        reseed(fd)?;
    }
    Ok(())
}

fn mount_root(init: &Init) -> Result<(), Failure> {
    let fail = |what: String, e: nix::Error| {
        failure(FailureKind::Mount, format!("{what}: {}", e.desc()), e as i32)
    };
    let io_fail = |e: io::Error| {
        failure(FailureKind::Mount, format!("prepare the root: {e}"), e.raw_os_error().unwrap_or(0))
    };
    let (device, kind) = (init.root_device.as_str(), init.root_type.as_str());
    create_dir(NEW_ROOT).map_err(io_fail)?;
    mount(Some(device), NEW_ROOT, Some(kind), MsFlags::empty(), None::<&str>)
        .map_err(|e| fail(format!("mount {device} as {kind}"), e))?;
    let inside = |name: &str| format!("{NEW_ROOT}{name}");
    for name in ["/dev", "/proc", "/sys"] {
        create_dir(inside(name)).map_err(io_fail)?;
        mount(Some(name), inside(name).as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(|e| fail(format!("move {name}"), e))?;
    }
    nix::unistd::chdir(NEW_ROOT).map_err(|e| fail("enter the new root".into(), e))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|e| fail("move the root".into(), e))?;
    nix::unistd::chroot(".").map_err(|e| fail("change the root".into(), e))?;
    nix::unistd::chdir("/").map_err(|e| fail("enter the root".into(), e))
}

/// What programs expect under `/dev` and `/sys`, which move into the box with them.
fn mount_virtual() -> io::Result<()> {
    let none = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    for (kind, target, flags, data) in [
        ("devpts", "/dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777"),
        ("mqueue", "/dev/mqueue", none, ""),
        ("cgroup2", "/sys/fs/cgroup", none, ""),
    ] {
        // sysfs makes its own mount points; the others are ours to make.
        if !target.starts_with("/sys") {
            create_dir(target)?;
        }
        mount(Some(kind), target, Some(kind), flags, Some(data)).map_err(|e| named(target, e))?;
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, link)?;
    }
    // The kernel makes it for root only; the one in /dev/pts is for all.
    fs::remove_file("/dev/ptmx").or_else(ignore_missing)?;
    std::os::unix::fs::symlink("pts/ptmx", "/dev/ptmx")
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn write_identity(init: &Init) -> io::Result<()> {
    create_dir("/etc")?;
    for (path, text) in [
        ("/etc/hostname", format!("{}\n", init.hostname)),
        ("/etc/machine-id", format!("{}\n", init.machine_id)),
        ("/etc/hosts", init.hosts.clone()),
        ("/etc/resolv.conf", init.resolv_conf.clone()),
    ] {
        if !text.trim().is_empty() {
            write_file(path, &text)?;
        }
    }
    Ok(())
}

/// Writes a file of the box, in place of whatever the image has there (a link is not followed:
/// it may point at a file that something else in the image owns).
fn write_file(path: &str, text: &str) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_file() && fs::read(path).is_ok_and(|old| old == text.as_bytes()) => {
            return Ok(());
        }
        Ok(m) if m.is_dir() => return Ok(()),
        Ok(m) if !m.is_file() => fs::remove_file(path)?,
        Ok(_) => {}
        Err(e) => ignore_missing(e)?,
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn bring_up_loopback() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;

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
