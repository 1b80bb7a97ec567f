//! How the machine is, seen from inside.
//!
//! Whatever runs here as root can put anything in the place of these files: each is opened without
//! waiting, and only its beginning is read. What cannot be found out is 0.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use boxlite_protocol::message::GuestStats;
use nix::sys::statvfs::statvfs;
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{SysconfVar, sysconf};

/// The lines that are wanted of a file come first in it.
const BEGINNING: u64 = 4096;

pub fn read() -> GuestStats {
    let memory = beginning("/proc/meminfo");
    let mut stats = GuestStats {
        memory_total: kibibytes(&memory, "MemTotal:") << 10,
        memory_available: kibibytes(&memory, "MemAvailable:") << 10,
        cpu_ms: cpu_ms(&beginning("/proc/stat")),
        ..GuestStats::default()
    };
    if let Ok(system) = sysinfo() {
        let thousandths = |load: f64| (load * 1000.0) as u64;
        let (one, five, fifteen) = system.load_average();
        (stats.load_1, stats.load_5, stats.load_15) =
            (thousandths(one), thousandths(five), thousandths(fifteen));
        stats.processes = u64::from(system.process_count());
        stats.uptime_ms = u64::try_from(system.uptime().as_millis()).unwrap_or(u64::MAX);
    }
    if let Ok(disk) = statvfs("/") {
        let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
        stats.disk_size = bytes(disk.blocks());
        stats.disk_used = bytes(disk.blocks().saturating_sub(disk.blocks_free()));
    }
    stats
}

/// The beginning of a file; nothing of one that cannot be read at once.
fn beginning(path: &str) -> String {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let mut text = Vec::new();
    if let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) {
        // What was read before an error is there, and nothing more is needed.
        let _ = file.take(BEGINNING).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The number on a line of `/proc/meminfo`.
fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    // Shifted by the caller.
    number.unwrap_or(0).min(u64::MAX >> 10)
}

/// The time that the processors were busy, of the first line of `/proc/stat`.
fn cpu_ms(text: &str) -> u64 {
    let Some(line) = text.lines().next().and_then(|line| line.strip_prefix("cpu ")) else {
        return 0;
    };
    let mut ticks = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
    // user nice system idle iowait irq softirq steal; what follows is in these already.
    let busy: [u64; 8] = std::array::from_fn(|_| ticks.next().unwrap_or(0));
    let idle = busy[3].saturating_add(busy[4]);
    let busy = busy.iter().fold(0u64, |sum, n| sum.saturating_add(*n)).saturating_sub(idle);
    let rate = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1);
    busy.saturating_mul(1000) / rate.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_or_0() {
        let text = "MemTotal:  123 kB\nMemFree: 7 kB\nMemAvailable:\t99 kB\nBad: x\n";
        assert_eq!(kibibytes(text, "MemTotal:"), 123);
        assert_eq!(kibibytes(text, "MemAvailable:"), 99);
        assert_eq!((kibibytes(text, "Bad:"), kibibytes(text, "None:")), (0, 0));
        assert_eq!(kibibytes("M: 18446744073709551615", "M:") << 10, u64::MAX - 1023);
        assert_eq!(cpu_ms("cpu  100 0 50 9999 888 10 0 5 77 0\ncpu0 1\n"), 1650);
        assert_eq!((cpu_ms(""), cpu_ms("cpu"), cpu_ms("cpu x y")), (0, 0, 0));
    }

    #[test]
    fn what_is_here_can_be_read() {
        let stats = read();
        assert!(stats.memory_total > stats.memory_available && stats.memory_available > 0);
        assert!(stats.cpu_ms > 0 && stats.processes > 0 && stats.uptime_ms > 0);
        assert!(stats.disk_size > stats.disk_used && stats.disk_used > 0);
    }
}
