//! Whether the kernel ended a process because memory ran out.
//!
//! The kernel's log tells, where it may be read (`kernel.dmesg_restrict`, containers). Format: the
//! kernel's `Documentation/ABI/testing/dev-kmsg`; the words are those of `mm/oom_kill.c`.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// A record is at most this long: reading with less fails.
const RECORD: usize = 8192;

/// The kernel's own words on why it killed a process, if it did and they can be read.
pub fn killed(pid: u32) -> Option<String> {
    let mut log =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut record = vec![0; RECORD];
    let mut found = None;
    loop {
        match log.read(&mut record) {
            Ok(0) => return found,
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]).into_owned();
                found = message(&text).filter(|m| tells_of(m, pid)).map(str::to_owned).or(found);
            }
            // Overwritten while we read: the next one is there.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
            // No more (EAGAIN), or not for us.
            Err(_) => return found,
        }
    }
}

/// The text of a record: what follows its fields, up to the end of its line.
fn message(record: &str) -> Option<&str> {
    record.split_once(';')?.1.lines().next()
}

fn tells_of(message: &str, pid: u32) -> bool {
    let killed = message.split_once("Killed process ");
    let number = killed.and_then(|(_, rest)| rest.split([' ', ',']).next());
    number.and_then(|n| n.parse().ok()) == Some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_known_by_its_whole_number() {
        let record = "4,1017,8123456,-;Out of memory: Killed process 4711 (qemu-system-x86), UID \
                      0, total-vm:1kB\n SUBSYSTEM=memory\n";
        let text = message(record).unwrap();
        assert!(text.starts_with("Out of memory") && text.ends_with("total-vm:1kB"));
        assert!(tells_of(text, 4711) && !tells_of(text, 471) && !tells_of(text, 47110));
        let group = "Memory cgroup out of memory: Killed process 7 (a), UID 1";
        assert!(tells_of(group, 7));
        assert!(!tells_of("oom_reaper: reaped process 4711", 4711));
    }
}
