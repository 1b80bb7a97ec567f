//! What a runtime and its boxes have done, and what they take.

use std::ffi::{CString, c_char};

use super::boxes::boxlite_box;
use super::error::{boxlite_error, boxlite_status, guard};
use super::op::{OpValue, boxlite_op};
use super::pointer::{self, Out, Owned};
use super::runtime::boxlite_runtime;
use super::text;
use crate::metrics::table::{self, Value};
use crate::{BoxMetrics, RuntimeMetrics};

/// A metric: 0 to 99 are those of a runtime, the others those of a box. What this build or this box
/// cannot tell is -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_metric {
    /// Boxes that this runtime has made.
    BOXLITE_METRIC_BOXES_CREATED_TOTAL = 0,
    /// Boxes that could not be started, or came to an unwanted end.
    BOXLITE_METRIC_BOXES_FAILED_TOTAL = 1,
    /// Boxes that ended as they were meant to.
    BOXLITE_METRIC_BOXES_STOPPED_TOTAL = 2,
    /// Boxes that run, of those that this runtime has started or is connected to.
    BOXLITE_METRIC_NUM_RUNNING_BOXES = 3,
    /// Commands that this runtime has started.
    BOXLITE_METRIC_TOTAL_COMMANDS_EXECUTED = 4,
    /// Commands of this runtime that could not be started.
    BOXLITE_METRIC_TOTAL_EXEC_ERRORS = 5,

    /// Commands started in the box since its start, by whatever program.
    BOXLITE_METRIC_COMMANDS_EXECUTED_TOTAL = 100,
    /// Commands that could not be started in the box.
    BOXLITE_METRIC_EXEC_ERRORS_TOTAL = 101,
    /// Bytes that went to the stdin of commands.
    BOXLITE_METRIC_BYTES_SENT_TOTAL = 102,
    /// Bytes that came of their output.
    BOXLITE_METRIC_BYTES_RECEIVED_TOTAL = 103,
    /// How busy the machine's process was since metrics of the box were asked for before, by
    /// whatever program, at first since that process began; 100 is one processor of the host. Twice
    /// within 0.2 s is the same.
    BOXLITE_METRIC_CPU_PERCENT = 104,
    /// The memory of the machine's process and the supervisor, in bytes.
    BOXLITE_METRIC_MEMORY_BYTES = 105,
    /// The processor time that the machine's process has used, in milliseconds.
    BOXLITE_METRIC_MACHINE_CPU_MS = 106,
    /// The processor time that the supervisor has used, in milliseconds.
    BOXLITE_METRIC_SUPERVISOR_CPU_MS = 107,
    /// What of the machine's process is in memory, in bytes, with its share of what it shares with
    /// other processes (Pss); all of it where the host does not tell that.
    BOXLITE_METRIC_MACHINE_MEMORY_BYTES = 108,
    /// The same of the supervisor.
    BOXLITE_METRIC_SUPERVISOR_MEMORY_BYTES = 109,
    /// Not available yet.
    BOXLITE_METRIC_NETWORK_BYTES_SENT = 110,
    /// Not available yet.
    BOXLITE_METRIC_NETWORK_BYTES_RECEIVED = 111,
    /// Not available yet.
    BOXLITE_METRIC_NETWORK_TCP_CONNECTIONS = 112,
    /// Not available yet.
    BOXLITE_METRIC_NETWORK_TCP_ERRORS = 113,

    /// The memory that the guest has, in bytes. This and what follows up to 299 the guest says of
    /// itself, which whoever is root in it can falsify; -1 if it does not answer within 2 s, or is
    /// paused.
    BOXLITE_METRIC_GUEST_MEMORY_TOTAL_BYTES = 200,
    /// The memory that programs in it could have, in bytes.
    BOXLITE_METRIC_GUEST_MEMORY_AVAILABLE_BYTES = 201,
    /// The time that its processors were busy, in milliseconds, all of them added up.
    BOXLITE_METRIC_GUEST_CPU_MS = 202,
    /// Its load on the average of 1 minute.
    BOXLITE_METRIC_GUEST_LOAD_1 = 203,
    /// Its load on the average of 5 minutes.
    BOXLITE_METRIC_GUEST_LOAD_5 = 204,
    /// Its load on the average of 15 minutes.
    BOXLITE_METRIC_GUEST_LOAD_15 = 205,
    /// The processes and threads in it.
    BOXLITE_METRIC_GUEST_PROCESSES = 206,
    /// The time since its kernel booted, in milliseconds: that of a template, if it was restored.
    BOXLITE_METRIC_GUEST_UPTIME_MS = 207,
    /// The size of its root file system, in bytes.
    BOXLITE_METRIC_GUEST_DISK_SIZE_BYTES = 208,
    /// What is taken of that, in bytes.
    BOXLITE_METRIC_GUEST_DISK_USED_BYTES = 209,

    /// How long the box's start took, in milliseconds, as all that follow. They are for comparison
    /// with other software: boxlite_box_info_stage_name() has the stages as they are.
    BOXLITE_METRIC_TOTAL_CREATE_MS = 300,
    /// Of that: until the machine was booted, restored or handed over.
    BOXLITE_METRIC_GUEST_BOOT_MS = 301,
    /// Of that: looking at the host, and having the box's directories and row as they are to be. As
    /// the next, 0 where another program has started the box.
    BOXLITE_METRIC_FILESYSTEM_SETUP_MS = 302,
    /// Of that: making a template with the image's disk, at the first start of an image.
    BOXLITE_METRIC_IMAGE_PREPARE_MS = 303,
    /// Of that: making a machine template, at the first start of all.
    BOXLITE_METRIC_GUEST_ROOTFS_MS = 304,
    /// Of that: putting together what the supervisor is to do.
    BOXLITE_METRIC_BOX_CONFIG_MS = 305,
    /// Of that: the processes of the supervisor and, before a boot, the machine.
    BOXLITE_METRIC_BOX_SPAWN_MS = 306,
    /// Of that: identity, clock and disk.
    BOXLITE_METRIC_CONTAINER_INIT_MS = 307,
}

/// The metrics of a runtime or of a box, as they were when it was asked. Owned by the caller.
pub struct boxlite_metrics(Metrics);

pub enum Metrics {
    Runtime(RuntimeMetrics),
    Box(Box<BoxMetrics>),
}

impl Owned for boxlite_metrics {}

impl boxlite_metrics {
    fn value(&self, metric: i32) -> Option<f64> {
        match (&table::find(metric)?.value, &self.0) {
            (Value::Runtime(value), Metrics::Runtime(metrics)) => Some(value(metrics) as f64),
            (Value::Box(value), Metrics::Box(metrics)) => value(metrics),
            _ => None,
        }
    }
}

/// A text. Owned by the caller.
pub struct boxlite_text(CString);

impl Owned for boxlite_text {}

impl boxlite_text {
    pub fn new(text: &str) -> boxlite_text {
        boxlite_text(text::c_string(text))
    }
}

/// Asks what the box has done since it was started, and what it takes. The result is metrics:
/// boxlite_op_take_metrics(). A guest that does not answer is waited for up to 2 s, and then left
/// out. Errors of the operation: BOXLITE_INVALID_STATE (it does not run), BOXLITE_TIMEOUT (its
/// supervisor does not answer), BOXLITE_STOPPED or BOXLITE_ENGINE (it ended meanwhile).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_metrics(
    r#box: *mut boxlite_box,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let started = pointer::borrow(r#box, "box")?.operate(|handle| async move {
                let metrics = Box::new(handle.metrics().await?);
                Ok(OpValue::Metrics(boxlite_metrics(Metrics::Box(metrics))))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Asks what this runtime has done since it was opened. The result is metrics:
/// boxlite_op_take_metrics().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_metrics(
    runtime: *mut boxlite_runtime,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let started = shared.operate(|runtime| async move {
                Ok(OpValue::Metrics(boxlite_metrics(Metrics::Runtime(runtime.metrics()))))
            });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// Asks for the metrics of this runtime, and of the running boxes that it has started or is
/// connected to, in the text format of Prometheus (0.0.4): names begin with "boxlite_", times are
/// in seconds, and those of a box have the labels id and name ("" for one without). A box that does
/// not answer is not in it. The result is a text: boxlite_op_take_text().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_metrics_text(
    runtime: *mut boxlite_runtime,
    op: *mut *mut boxlite_op,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(op, "op")?;
            let shared = pointer::share(runtime, "runtime")?;
            let started = shared
                .operate(|runtime| async move { Ok(OpValue::Text(runtime.metrics_text().await)) });
            out.give_shared(started?);
            Ok(())
        })
    }
}

/// The value of a metric, by a boxlite_metric. Counts are whole numbers. -1 if it is not available,
/// if it is one of a box and these are of a runtime or the other way round, for a number that is
/// none, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_metrics_get(metrics: *const boxlite_metrics, metric: i32) -> f64 {
    // SAFETY: live metrics or NULL.
    let metrics = unsafe { pointer::borrow(metrics, "metrics") };
    metrics.ok().and_then(|m| m.value(metric)).unwrap_or(-1.0)
}

/// Frees metrics. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_metrics_free(metrics: *mut boxlite_metrics) {
    // SAFETY: live metrics that are not used again, or NULL.
    drop(unsafe { pointer::take_back(metrics) });
}

/// The text, NUL-terminated. Never NULL; "" for NULL. Borrowed: good until the text is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_text_get(text: *const boxlite_text) -> *const c_char {
    // SAFETY: a live text or NULL.
    unsafe { pointer::borrow(text, "text") }.map_or(c"".as_ptr(), |t| t.0.as_ptr())
}

/// Frees a text. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_text_free(text: *mut boxlite_text) {
    // SAFETY: a live text that is not used again, or NULL.
    drop(unsafe { pointer::take_back(text) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The enumeration's numbers are those of the table.
    #[test]
    fn each_number_is_the_metric_of_its_name() {
        use boxlite_metric::*;
        let some = [
            (BOXLITE_METRIC_BOXES_CREATED_TOTAL, "boxes_created_total"),
            (BOXLITE_METRIC_TOTAL_EXEC_ERRORS, "total_exec_errors"),
            (BOXLITE_METRIC_BYTES_RECEIVED_TOTAL, "bytes_received_total"),
            (BOXLITE_METRIC_SUPERVISOR_MEMORY_BYTES, "supervisor_memory_bytes"),
            (BOXLITE_METRIC_NETWORK_TCP_ERRORS, "network_tcp_errors"),
            (BOXLITE_METRIC_GUEST_DISK_USED_BYTES, "guest_disk_used_bytes"),
            (BOXLITE_METRIC_CONTAINER_INIT_MS, "container_init_ms"),
        ];
        for (metric, name) in some {
            assert_eq!(table::find(metric as i32).unwrap().name, name);
        }
        // Each of the header, in its order, and no other.
        let header = include_str!("../../include/boxlite.h");
        let mut declared = Vec::new();
        for line in header.lines() {
            let Some(rest) = line.trim().strip_prefix("BOXLITE_METRIC_") else { continue };
            let Some((name, number)) = rest.split_once(" = ") else { continue };
            let number = number.trim_end_matches(',').parse::<i32>().unwrap();
            declared.push((number, name.to_lowercase()));
        }
        let listed: Vec<_> = table::METRICS.iter().map(|m| (m.number, m.name.to_owned())).collect();
        assert_eq!(declared, listed);
    }
}
