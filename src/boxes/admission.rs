//! Whether the host has what a box is about to be given.
//!
//! A machine's memory is not reserved when it starts: the host hands it out page by page, and one
//! that runs out ends somebody's process. So a box is let in only if all of its memory is there
//! at that moment. Boxes that run already count with what they really use, not with what they
//! might: an idle one is small, and many fit.
//!
//! Sources: proc(5) for `/proc/meminfo` and `/proc/self/cgroup`; the kernel's cgroup-v2 document
//! for `memory.max`, `memory.current` and `memory.stat`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

const MIB: u64 = 1 << 20;

/// What a machine needs beyond the guest's memory: the monitor itself and its translation cache,
/// and the supervisor.
const OVERHEAD: u64 = 96 * MIB;

/// What must stay free on the home's file system: a box writes logs and its disk from the start.
pub const FREE_DISK: u64 = 64 * MIB;

/// A limit on memory, and how much of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Available {
    bytes: u64,
    /// Whose limit it is.
    of: String,
}

/// Refuses a box that the host could not hold now.
pub fn check(memory_mib: u32, home: &Path) -> Result<()> {
    let needed = u64::from(memory_mib) * MIB + OVERHEAD;
    let available = [host_memory(), cgroup_memory(), address_space()];
    if let Some(least) = available.into_iter().flatten().min_by_key(|a| a.bytes)
        && least.bytes < needed
    {
        let text = format!(
            "the box needs {} MiB ({memory_mib} MiB of memory and {} MiB to run it), and {} has \
             {} MiB left: give the box less memory, or stop others first",
            needed / MIB,
            OVERHEAD / MIB,
            least.of,
            least.bytes / MIB,
        );
        return Err(exhausted(text, libc::ENOMEM).object("memory"));
    }
    let free = free_disk(home)?;
    if free < FREE_DISK {
        let text = format!(
            "the file system of {} has {} MiB left, and a box needs {} MiB to start: free some",
            home.display(),
            free / MIB,
            FREE_DISK / MIB,
        );
        return Err(exhausted(text, libc::ENOSPC).object(home.display().to_string()));
    }
    Ok(())
}

fn exhausted(text: String, errno: i32) -> Error {
    Error::new(Code::ResourceExhausted, text).errno(errno).retryable(true)
}

fn free_disk(home: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(home).map_err(|e| {
        Error::io(Code::Storage, format!("examine {}", home.display()), &std::io::Error::from(e))
    })?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// What the kernel says a new program could use without swapping.
fn host_memory() -> Option<Available> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(Available { bytes: meminfo(&text, "MemAvailable")?, of: "the host".into() })
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The tightest limit among this process's control group and those above it.
fn cgroup_memory() -> Option<Available> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut path = PathBuf::from("/sys/fs/cgroup").join(unified(&groups)?);
    let mut tightest: Option<Available> = None;
    while path.starts_with("/sys/fs/cgroup") {
        let read = |name: &str| fs::read_to_string(path.join(name)).ok();
        let left = read("memory.max").zip(read("memory.current")).and_then(|(max, current)| {
            headroom(&max, &current, &read("memory.stat").unwrap_or_default())
        });
        if let Some(bytes) = left
            && tightest.as_ref().is_none_or(|t| bytes < t.bytes)
        {
            tightest = Some(Available { bytes, of: format!("control group {}", path.display()) });
        }
        path.pop();
    }
    tightest
}

/// The group in the unified hierarchy: the line `0::/path`.
fn unified(groups: &str) -> Option<&str> {
    groups.lines().find_map(|l| l.strip_prefix("0::/"))
}

/// What a group may still use: its limit, less what it uses, but for file pages that the kernel
/// gives up under pressure. None without a limit.
fn headroom(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let inactive = stat.lines().find_map(|l| l.strip_prefix("inactive_file "));
    let reclaimable: u64 = inactive.and_then(|v| v.trim().parse().ok()).unwrap_or(0);
    Some(max.saturating_sub(current.saturating_sub(reclaimable)))
}

/// The address space a child of ours may have: `ulimit -v`.
fn address_space() -> Option<Available> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_AS).ok()?;
    (soft != RLIM_INFINITY)
        .then(|| Available { bytes: soft, of: "the limit on address space (ulimit -v)".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_let_in_and_what_does_not_is_named() {
        let home = tempfile::tempdir().unwrap();
        check(128, home.path()).unwrap();
        let error = check(u32::MAX, home.path()).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.failing_object(), Some("memory"));
        assert!(error.message().contains("the host has"), "{error}");
    }

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        let text = "MemTotal:       24576 kB\nMemAvailable:    2048 kB\nSwapFree: 0 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(2 * MIB));
        assert_eq!(meminfo(text, "Mem"), None);
        assert_eq!(meminfo("MemAvailable: lots\n", "MemAvailable"), None);
    }

    #[test]
    fn a_groups_headroom_counts_what_the_kernel_can_take_back() {
        let stat = "anon 5\ninactive_file 100\nactive_file 7\n";
        assert_eq!(headroom("1000\n", "400\n", stat), Some(700));
        assert_eq!(headroom("1000\n", "2000\n", ""), Some(0));
        assert_eq!(headroom("max\n", "400\n", stat), None);
        assert_eq!(headroom("1000", "garbage", stat), None);
    }

    #[test]
    fn the_unified_group_is_found_among_others() {
        assert_eq!(unified("5:cpu:/a\n0::/user.slice/x\n"), Some("user.slice/x"));
        assert_eq!(unified("0::/\n"), Some(""));
        assert_eq!(unified("1:name=systemd:/\n"), None);
    }
}
