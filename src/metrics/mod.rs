//! What a runtime and its boxes have done, and what they take.
//!
//! - [`table`]: every metric with its number, its names and its value
//! - [`text`]: all of them as Prometheus reads them

pub mod table;
pub mod text;

use boxlite_protocol::message::{GuestStats, Stage, Stats};

/// What a runtime has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuntimeMetrics {
    pub boxes_created_total: u64,
    /// Boxes that could not be started, or came to an unwanted end.
    pub boxes_failed_total: u64,
    /// Boxes that ended as they were meant to.
    pub boxes_stopped_total: u64,
    /// Boxes that run now, of those that this runtime has started or is connected to.
    pub num_running_boxes: u64,
    pub total_commands_executed: u64,
    /// Commands that could not be started.
    pub total_exec_errors: u64,
}

/// What a box has done since it was started, whoever asked for it, and what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxMetrics {
    pub commands_executed_total: u64,
    /// Commands that could not be started.
    pub exec_errors_total: u64,
    /// Bytes to the stdin of commands.
    pub bytes_sent_total: u64,
    /// Bytes of their output.
    pub bytes_received_total: u64,
    /// How busy the machine's process was since metrics were read before, by whomever, at first since
    /// it began: 100 is one processor. Two that are read within 0.2 s have the same.
    pub cpu_percent: f64,
    /// The processor's time that the machine's process has used.
    pub machine_cpu_ms: u64,
    pub supervisor_cpu_ms: u64,
    /// What is in memory of the machine's process, with its share of what it shares with others.
    pub machine_memory_bytes: u64,
    pub supervisor_memory_bytes: u64,
    /// What the guest says; none if it does not answer, as when it is paused.
    pub guest: Option<GuestMetrics>,
    pub boot_timing: BootTiming,
}

impl BoxMetrics {
    pub fn new(stats: &Stats, guest: Option<GuestMetrics>, boot_timing: BootTiming) -> BoxMetrics {
        BoxMetrics {
            commands_executed_total: stats.commands,
            exec_errors_total: stats.exec_errors,
            bytes_sent_total: stats.bytes_sent,
            bytes_received_total: stats.bytes_received,
            cpu_percent: stats.cpu_percent,
            machine_cpu_ms: stats.machine_cpu_ms,
            supervisor_cpu_ms: stats.supervisor_cpu_ms,
            machine_memory_bytes: stats.machine_memory,
            supervisor_memory_bytes: stats.supervisor_memory,
            guest,
            boot_timing,
        }
    }

    pub fn memory_bytes(&self) -> u64 {
        self.machine_memory_bytes.saturating_add(self.supervisor_memory_bytes)
    }
}

/// What a guest says of itself. It may say anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuestMetrics {
    pub memory_total_bytes: u64,
    pub memory_available_bytes: u64,
    /// The time that its processors were busy.
    pub cpu_ms: u64,
    /// How many processes could run, on the average of 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Processes and threads.
    pub processes: u64,
    pub uptime_ms: u64,
    /// Of the root file system.
    pub disk_size_bytes: u64,
    pub disk_used_bytes: u64,
}

impl GuestMetrics {
    /// None if it makes no sense: a guest can be made to say anything.
    pub fn checked(stats: &GuestStats) -> Option<GuestMetrics> {
        // As much as a double has exactly, which is what such numbers end in.
        const LIMIT: u64 = 1 << 53;
        let all = [
            stats.memory_total,
            stats.memory_available,
            stats.cpu_ms,
            stats.load_1,
            stats.load_5,
            stats.load_15,
            stats.processes,
            stats.uptime_ms,
            stats.disk_size,
            stats.disk_used,
        ];
        let sensible = all.iter().all(|n| *n <= LIMIT)
            && stats.memory_available <= stats.memory_total
            && stats.disk_used <= stats.disk_size;
        sensible.then(|| GuestMetrics {
            memory_total_bytes: stats.memory_total,
            memory_available_bytes: stats.memory_available,
            cpu_ms: stats.cpu_ms,
            load: [stats.load_1, stats.load_5, stats.load_15].map(|n| n as f64 / 1000.0),
            processes: stats.processes,
            uptime_ms: stats.uptime_ms,
            disk_size_bytes: stats.disk_size,
            disk_used_bytes: stats.disk_used,
        })
    }
}

/// How long the parts of a box's start took, in milliseconds; 0 for what was not done. The first two of
/// the library's own stages are known only to the program that started the box.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BootTiming {
    pub total_create_ms: f64,
    /// Until the machine was booted, restored or handed over.
    pub guest_boot_ms: f64,
    /// Looking at the host, and having the box's directories and row as they are to be.
    pub filesystem_setup_ms: f64,
    /// Making a template with the disk of the image.
    pub image_prepare_ms: f64,
    /// Making a machine template.
    pub guest_rootfs_ms: f64,
    /// Putting together what the supervisor is to do.
    pub box_config_ms: f64,
    /// The processes of the supervisor and, where it is no part of the boot, of the machine.
    pub box_spawn_ms: f64,
    /// Identity, clock and disk, and the main process.
    pub container_init_ms: f64,
}

use crate::stage::{self, Stage as S};

impl BootTiming {
    /// Of the stages that a start went through.
    pub fn of<'a>(stages: impl IntoIterator<Item = (&'a str, f64)>) -> BootTiming {
        let mut timing = BootTiming::default();
        for (name, milliseconds) in stages {
            timing.total_create_ms += milliseconds;
            let part = match stage::Stage::of_name(name) {
                Some(S::Admission) => &mut timing.filesystem_setup_ms,
                Some(S::Configuration) => &mut timing.box_config_ms,
                Some(S::Spawn | S::Supervisor | S::Machine) => &mut timing.box_spawn_ms,
                Some(S::Boot | S::Restore | S::HandOver) => &mut timing.guest_boot_ms,
                Some(S::Setup | S::Main) => &mut timing.container_init_ms,
                Some(S::Template) => &mut timing.guest_rootfs_ms,
                Some(S::DiskTemplate) => &mut timing.image_prepare_ms,
                None => continue,
            };
            *part += milliseconds;
        }
        timing
    }

    pub fn of_reported(stages: &[Stage]) -> BootTiming {
        BootTiming::of(stages.iter().map(|s| (s.name.as_str(), s.microseconds as f64 / 1000.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_says_nonsense_says_nothing() {
        let sound = GuestStats { memory_total: 9, memory_available: 8, ..Default::default() };
        assert_eq!(GuestMetrics::checked(&sound).unwrap().memory_available_bytes, 8);
        let lies = [
            GuestStats { memory_available: 10, ..sound },
            GuestStats { disk_used: 1, ..sound },
            GuestStats { cpu_ms: u64::MAX, ..sound },
            GuestStats { load_15: u64::MAX, ..sound },
        ];
        assert!(lies.iter().all(|lie| GuestMetrics::checked(lie).is_none()));
    }

    #[test]
    fn each_stage_is_in_one_part_and_in_the_total() {
        let known = S::ALL.iter().map(|stage| stage.name());
        let timing = BootTiming::of(known.chain(["later"]).map(|name| (name, 2.0)));
        assert_eq!(timing.total_create_ms, 26.0);
        assert_eq!((timing.filesystem_setup_ms, timing.box_config_ms), (2.0, 2.0));
        assert_eq!((timing.box_spawn_ms, timing.guest_boot_ms), (6.0, 6.0));
        assert_eq!((timing.container_init_ms, timing.image_prepare_ms), (4.0, 2.0));
        assert_eq!(timing.guest_rootfs_ms, 2.0);
    }
}
