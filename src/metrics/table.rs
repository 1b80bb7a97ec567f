//! Every metric, once: its number in the ABI, its name, its name for Prometheus, and where it is.

use super::{BoxMetrics, GuestMetrics, RuntimeMetrics};

/// Whether a number only grows, until whoever counts ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// Where the value is. None: not available.
pub enum Value {
    Runtime(fn(&RuntimeMetrics) -> u64),
    Box(fn(&BoxMetrics) -> Option<f64>),
}

pub struct Metric {
    /// Part of the ABI; only appended to.
    pub number: i32,
    pub name: &'static str,
    /// In the text for Prometheus, where the unit is a base unit and stands in the name; empty for
    /// what is not in it.
    pub exposed: &'static str,
    /// What makes a value of this unit.
    pub scale: f64,
    pub kind: Kind,
    pub help: &'static str,
    pub value: Value,
}

const fn of_runtime(
    number: i32,
    name: &'static str,
    exposed: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&RuntimeMetrics) -> u64,
) -> Metric {
    Metric { number, name, exposed, scale: 1.0, kind, help, value: Value::Runtime(value) }
}

const fn of_box(
    number: i32,
    name: &'static str,
    exposed: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&BoxMetrics) -> Option<f64>,
) -> Metric {
    Metric { number, name, exposed, scale: 1.0, kind, help, value: Value::Box(value) }
}

/// One that is counted in milliseconds, and exposed in seconds.
const fn milliseconds(metric: Metric) -> Metric {
    Metric { scale: 0.001, ..metric }
}

fn guest(metrics: &BoxMetrics, pick: fn(&GuestMetrics) -> u64) -> Option<f64> {
    metrics.guest.as_ref().map(|guest| pick(guest) as f64)
}

/// The metric of this number.
pub fn find(number: i32) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.number == number)
}

use Kind::{Counter, Gauge};

pub const METRICS: &[Metric] = &[
    of_runtime(
        0,
        "boxes_created_total",
        "boxlite_boxes_created_total",
        Counter,
        "Boxes made.",
        |m| m.boxes_created_total,
    ),
    of_runtime(
        1,
        "boxes_failed_total",
        "boxlite_boxes_failed_total",
        Counter,
        "Boxes that could not be started, or came to an unwanted end.",
        |m| m.boxes_failed_total,
    ),
    of_runtime(
        2,
        "boxes_stopped_total",
        "boxlite_boxes_stopped_total",
        Counter,
        "Boxes that ended as they were meant to.",
        |m| m.boxes_stopped_total,
    ),
    of_runtime(
        3,
        "num_running_boxes",
        "boxlite_running_boxes",
        Gauge,
        "Boxes that run, of those that this program has started or is connected to.",
        |m| m.num_running_boxes,
    ),
    of_runtime(
        4,
        "total_commands_executed",
        "boxlite_commands_executed_total",
        Counter,
        "Commands that this program has started.",
        |m| m.total_commands_executed,
    ),
    of_runtime(
        5,
        "total_exec_errors",
        "boxlite_exec_errors_total",
        Counter,
        "Commands of this program that could not be started.",
        |m| m.total_exec_errors,
    ),
    of_box(
        100,
        "commands_executed_total",
        "boxlite_box_commands_executed_total",
        Counter,
        "Commands started in the box, by whomever.",
        |m| Some(m.commands_executed_total as f64),
    ),
    of_box(
        101,
        "exec_errors_total",
        "boxlite_box_exec_errors_total",
        Counter,
        "Commands that could not be started in the box.",
        |m| Some(m.exec_errors_total as f64),
    ),
    of_box(
        102,
        "bytes_sent_total",
        "boxlite_box_sent_bytes_total",
        Counter,
        "Bytes to the stdin of commands.",
        |m| Some(m.bytes_sent_total as f64),
    ),
    of_box(
        103,
        "bytes_received_total",
        "boxlite_box_received_bytes_total",
        Counter,
        "Bytes of the output of commands.",
        |m| Some(m.bytes_received_total as f64),
    ),
    of_box(
        104,
        "cpu_percent",
        "boxlite_box_cpu_percent",
        Gauge,
        "How busy the machine's process was since metrics were read before; 100 is one processor.",
        |m| Some(m.cpu_percent),
    ),
    of_box(
        105,
        "memory_bytes",
        "boxlite_box_memory_bytes",
        Gauge,
        "Memory of the machine's process and the supervisor.",
        |m| Some(m.memory_bytes() as f64),
    ),
    milliseconds(of_box(
        106,
        "machine_cpu_ms",
        "boxlite_box_machine_cpu_seconds_total",
        Counter,
        "Processor time of the machine's process.",
        |m| Some(m.machine_cpu_ms as f64),
    )),
    milliseconds(of_box(
        107,
        "supervisor_cpu_ms",
        "boxlite_box_supervisor_cpu_seconds_total",
        Counter,
        "Processor time of the supervisor.",
        |m| Some(m.supervisor_cpu_ms as f64),
    )),
    of_box(
        108,
        "machine_memory_bytes",
        "boxlite_box_machine_memory_bytes",
        Gauge,
        "Memory of the machine's process.",
        |m| Some(m.machine_memory_bytes as f64),
    ),
    of_box(
        109,
        "supervisor_memory_bytes",
        "boxlite_box_supervisor_memory_bytes",
        Gauge,
        "Memory of the supervisor.",
        |m| Some(m.supervisor_memory_bytes as f64),
    ),
    of_box(110, "network_bytes_sent", "", Counter, "", |_| None),
    of_box(111, "network_bytes_received", "", Counter, "", |_| None),
    of_box(112, "network_tcp_connections", "", Gauge, "", |_| None),
    of_box(113, "network_tcp_errors", "", Counter, "", |_| None),
    of_box(
        200,
        "guest_memory_total_bytes",
        "boxlite_box_guest_memory_total_bytes",
        Gauge,
        "Memory that the guest says it has.",
        |m| guest(m, |g| g.memory_total_bytes),
    ),
    of_box(
        201,
        "guest_memory_available_bytes",
        "boxlite_box_guest_memory_available_bytes",
        Gauge,
        "Memory that the guest says programs could have.",
        |m| guest(m, |g| g.memory_available_bytes),
    ),
    milliseconds(of_box(
        202,
        "guest_cpu_ms",
        "boxlite_box_guest_cpu_seconds_total",
        Counter,
        "Time that the guest says its processors were busy.",
        |m| guest(m, |g| g.cpu_ms),
    )),
    of_box(
        203,
        "guest_load_1",
        "boxlite_box_guest_load1",
        Gauge,
        "The guest's load of 1 minute.",
        |m| m.guest.as_ref().map(|g| g.load[0]),
    ),
    of_box(
        204,
        "guest_load_5",
        "boxlite_box_guest_load5",
        Gauge,
        "The guest's load of 5 minutes.",
        |m| m.guest.as_ref().map(|g| g.load[1]),
    ),
    of_box(
        205,
        "guest_load_15",
        "boxlite_box_guest_load15",
        Gauge,
        "The guest's load of 15 minutes.",
        |m| m.guest.as_ref().map(|g| g.load[2]),
    ),
    of_box(
        206,
        "guest_processes",
        "boxlite_box_guest_processes",
        Gauge,
        "Processes and threads that the guest says it has.",
        |m| guest(m, |g| g.processes),
    ),
    milliseconds(of_box(
        207,
        "guest_uptime_ms",
        "boxlite_box_guest_uptime_seconds",
        Gauge,
        "Time since the guest's kernel booted, by its own clock.",
        |m| guest(m, |g| g.uptime_ms),
    )),
    of_box(
        208,
        "guest_disk_size_bytes",
        "boxlite_box_guest_disk_size_bytes",
        Gauge,
        "Size of the root file system, as the guest says.",
        |m| guest(m, |g| g.disk_size_bytes),
    ),
    of_box(
        209,
        "guest_disk_used_bytes",
        "boxlite_box_guest_disk_used_bytes",
        Gauge,
        "Space taken on the root file system, as the guest says.",
        |m| guest(m, |g| g.disk_used_bytes),
    ),
    milliseconds(of_box(
        300,
        "total_create_ms",
        "boxlite_box_start_seconds",
        Gauge,
        "How long the box's start took.",
        |m| Some(m.boot_timing.total_create_ms),
    )),
    milliseconds(of_box(
        301,
        "guest_boot_ms",
        "boxlite_box_start_guest_boot_seconds",
        Gauge,
        "Of the start: until the machine was booted, restored or handed over.",
        |m| Some(m.boot_timing.guest_boot_ms),
    )),
    milliseconds(of_box(
        302,
        "filesystem_setup_ms",
        "boxlite_box_start_filesystem_setup_seconds",
        Gauge,
        "Of the start: looking at the host, and having the box's directories and row as they are to be.",
        |m| Some(m.boot_timing.filesystem_setup_ms),
    )),
    milliseconds(of_box(
        303,
        "image_prepare_ms",
        "boxlite_box_start_image_prepare_seconds",
        Gauge,
        "Of the start: making a template with the disk of the image.",
        |m| Some(m.boot_timing.image_prepare_ms),
    )),
    milliseconds(of_box(
        304,
        "guest_rootfs_ms",
        "boxlite_box_start_guest_rootfs_seconds",
        Gauge,
        "Of the start: making a machine template.",
        |m| Some(m.boot_timing.guest_rootfs_ms),
    )),
    milliseconds(of_box(
        305,
        "box_config_ms",
        "boxlite_box_start_box_config_seconds",
        Gauge,
        "Of the start: putting together what the supervisor is to do.",
        |m| Some(m.boot_timing.box_config_ms),
    )),
    milliseconds(of_box(
        306,
        "box_spawn_ms",
        "boxlite_box_start_box_spawn_seconds",
        Gauge,
        "Of the start: the processes of the supervisor and the machine.",
        |m| Some(m.boot_timing.box_spawn_ms),
    )),
    milliseconds(of_box(
        307,
        "container_init_ms",
        "boxlite_box_start_container_init_seconds",
        Gauge,
        "Of the start: identity, clock and disk.",
        |m| Some(m.boot_timing.container_init_ms),
    )),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_numbers_are_unique_and_say_what_they_are() {
        let unique = |count: usize, what: &str| assert_eq!(count, METRICS.len(), "{what}");
        unique(METRICS.iter().map(|m| m.number).collect::<HashSet<_>>().len(), "numbers");
        unique(METRICS.iter().map(|m| m.name).collect::<HashSet<_>>().len(), "names");
        let mut exposed = HashSet::new();
        for metric in METRICS.iter().filter(|m| !m.exposed.is_empty()) {
            let name = metric.exposed;
            assert!(exposed.insert(name), "{name}");
            assert!(name.starts_with("boxlite_") && !metric.help.is_empty(), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(name.contains("_seconds"), metric.scale != 1.0, "{name}");
        }
    }
}
