/// @file
/// libboxlite: run any OCI image in a box, a real virtual machine.
///
/// What holds wherever a comment below says nothing else (more in docs/c-api.md):
///
/// - A call returns a boxlite_status and, if error is not NULL, sets *error to NULL or to an error
///   that the caller frees with boxlite_error_free(). Results are written on success only.
/// - Handles are opaque. Whoever receives one frees it with the _free function of its type, for
///   which NULL is fine; what a handle came from lives as long as it does. What a getter returns
///   belongs to its handle.
/// - A NULL that a function cannot use is BOXLITE_INVALID_ARGUMENT, as is a value out of its
///   range; the error names the argument.
/// - Any thread may call any function at any time. Options are for one thread at a time, and a
///   handle that is being freed is not used by another thread meanwhile.
/// - Nothing blocks unless its name says wait or dispatch. What takes long returns a boxlite_op.
/// - Callbacks run only inside boxlite_dispatch() and boxlite_exec_wait(), on the calling thread. A
///   callback may call anything but these two, boxlite_op_wait() and boxlite_run(), which return
///   BOXLITE_BUSY.
/// - In a forked child, handles of the parent are BOXLITE_INVALID_STATE; freeing them does nothing.
///   It opens a runtime of its own if its parent had none open, else after it has called exec.
/// - Text is NUL-terminated UTF-8; output is bytes.
//
// This file is generated from the library's source. SPDX-License-Identifier: Apache-2.0


#ifndef BOXLITE_H
#define BOXLITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// The version of this header; boxlite_version() is that of the library that is running.
#define BOXLITE_VERSION "0.1.0"
/// The first number of BOXLITE_VERSION.
#define BOXLITE_VERSION_MAJOR 0
/// The second number of BOXLITE_VERSION.
#define BOXLITE_VERSION_MINOR 1
/// The third number of BOXLITE_VERSION.
#define BOXLITE_VERSION_PATCH 0
/// The version of this header as one number; boxlite_version_number() is that of the library.
#define BOXLITE_VERSION_NUMBER                                                                     \
    (BOXLITE_VERSION_MAJOR * 1000000 + BOXLITE_VERSION_MINOR * 1000 + BOXLITE_VERSION_PATCH)


/// The outcome of a call. Values are fixed and only ever appended to; 0 to 20 are those that
/// programs written for boxlite know.
enum boxlite_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// Success.
    BOXLITE_OK = 0,
    /// A fault of the library itself.
    BOXLITE_INTERNAL = 1,
    /// The named object does not exist.
    BOXLITE_NOT_FOUND = 2,
    /// An object with this name exists already.
    BOXLITE_ALREADY_EXISTS = 3,
    /// The object is not in a state that permits the call.
    BOXLITE_INVALID_STATE = 4,
    /// An argument is NULL, out of range or malformed; the error names it.
    BOXLITE_INVALID_ARGUMENT = 5,
    /// The configuration or installation is unusable.
    BOXLITE_CONFIG = 6,
    /// The host's file system or a disk refused an operation.
    BOXLITE_STORAGE = 7,
    /// An image is missing, damaged, or of another platform.
    BOXLITE_IMAGE = 8,
    /// A network operation failed.
    BOXLITE_NETWORK = 9,
    /// A command could not be run in a box.
    BOXLITE_EXECUTION = 10,
    /// The box stopped while the operation was under way.
    BOXLITE_STOPPED = 11,
    /// The virtual machine monitor failed or is missing.
    BOXLITE_ENGINE = 12,
    /// This build or host cannot do what was asked.
    BOXLITE_UNSUPPORTED = 13,
    /// The database refused an operation.
    BOXLITE_DATABASE = 14,
    /// The connection to a box's agent failed.
    BOXLITE_PORTAL = 15,
    /// A remote call returned an error.
    BOXLITE_RPC = 16,
    /// A remote call could not be carried out.
    BOXLITE_RPC_TRANSPORT = 17,
    /// Stored metadata is unreadable.
    BOXLITE_METADATA = 18,
    /// The requested engine or accelerator does not work on this host.
    BOXLITE_UNSUPPORTED_ENGINE = 19,
    /// Memory, disk space or another resource is used up.
    BOXLITE_RESOURCE_EXHAUSTED = 20,
    /// The operation was cancelled.
    BOXLITE_CANCELLED = 64,
    /// A deadline passed.
    BOXLITE_TIMEOUT = 65,
    /// A panic was caught at the library's boundary; please report it.
    BOXLITE_PANIC = 66,
    /// The object is in use; try again later. Also: dispatch or wait called from a callback.
    BOXLITE_BUSY = 67,
    /// The call would have to wait.
    BOXLITE_WOULD_BLOCK = 68,
    /// Bytes of an output are no longer held: it goes on behind them. See boxlite_exec_read().
    BOXLITE_GAP = 69,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_status boxlite_status;
#else
typedef int32_t boxlite_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What executes the guests' instructions.
enum boxlite_accelerator
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// KVM where it is proven to work, else TCG.
    BOXLITE_ACCELERATOR_AUTO = 0,
    /// KVM, or BOXLITE_UNSUPPORTED_ENGINE: never a silent fall-back.
    BOXLITE_ACCELERATOR_KVM = 1,
    /// QEMU's translator: works everywhere, and is no security boundary.
    BOXLITE_ACCELERATOR_TCG = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_accelerator boxlite_accelerator;
#else
typedef int32_t boxlite_accelerator;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// How a box's machine came to run.
enum boxlite_boot
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// It does not run, or nobody told this program.
    BOXLITE_BOOT_UNKNOWN = 0,
    /// Its kernel booted.
    BOXLITE_BOOT_COLD = 1,
    /// It was restored from a machine template.
    BOXLITE_BOOT_RESTORED = 2,
    /// It was restored beforehand, and waited for a box.
    BOXLITE_BOOT_POOLED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_boot boxlite_boot;
#else
typedef int32_t boxlite_boot;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a box's health checks say.
enum boxlite_health
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// There are none, or the box was never started.
    BOXLITE_HEALTH_NONE = 0,
    /// No check has succeeded yet, and not enough have failed.
    BOXLITE_HEALTH_STARTING = 1,
    /// The last check succeeded, or not enough have failed since.
    BOXLITE_HEALTH_HEALTHY = 2,
    /// As many checks in a row have failed as it takes.
    BOXLITE_HEALTH_UNHEALTHY = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_health boxlite_health;
#else
typedef int32_t boxlite_health;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// The life of a box.
enum boxlite_box_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// Written by an older or newer version of the library, or spoiled:
    /// boxlite_box_info_error() says why. What cannot be read can only be removed.
    BOXLITE_BOX_UNKNOWN = 0,
    /// Made, never started.
    BOXLITE_BOX_CONFIGURED = 1,
    /// Being started.
    BOXLITE_BOX_STARTING = 2,
    /// Its machine runs.
    BOXLITE_BOX_RUNNING = 3,
    /// Being stopped.
    BOXLITE_BOX_STOPPING = 4,
    /// Stopped by request or by itself; its disk is intact.
    BOXLITE_BOX_STOPPED = 5,
    /// Its machine stands still.
    BOXLITE_BOX_PAUSED = 6,
    /// It could not be started, or came to an unwanted end; its disk is kept.
    BOXLITE_BOX_FAILED = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_box_status boxlite_box_status;
#else
typedef int32_t boxlite_box_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a runtime counts.
enum boxlite_counter
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// Boxes started by booting their kernel.
    BOXLITE_COUNTER_COLD_STARTS = 0,
    /// Boxes restored from a machine template.
    BOXLITE_COUNTER_RESTORED_STARTS = 1,
    /// Boxes that got a machine which was waiting for one.
    BOXLITE_COUNTER_POOLED_STARTS = 2,
    /// Machine templates made.
    BOXLITE_COUNTER_TEMPLATES_MADE = 3,
    /// Times that a faster way to start a box did not work; the log has a warning on each.
    BOXLITE_COUNTER_DETOURS = 4,
    /// Disk templates made: machine templates that have the disk of an image mounted.
    BOXLITE_COUNTER_DISK_TEMPLATES_MADE = 5,
    /// Boxes made.
    BOXLITE_COUNTER_BOXES_CREATED = 6,
    /// Boxes that could not be started, or came to an unwanted end.
    BOXLITE_COUNTER_BOXES_FAILED = 7,
    /// Boxes that ended as they were meant to.
    BOXLITE_COUNTER_BOXES_STOPPED = 8,
    /// Commands started.
    BOXLITE_COUNTER_COMMANDS_EXECUTED = 9,
    /// Commands that could not be started.
    BOXLITE_COUNTER_EXEC_ERRORS = 10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_counter boxlite_counter;
#else
typedef int32_t boxlite_counter;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a disk's file is in.
enum boxlite_disk_format
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// The disk's bytes, and nothing else.
    BOXLITE_DISK_RAW = 0,
    /// QEMU's format, version 2 or 3, complete in one file.
    BOXLITE_DISK_QCOW2 = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_disk_format boxlite_disk_format;
#else
typedef int32_t boxlite_disk_format;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What has happened.
enum boxlite_event_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// Events are missing here, boxlite_event_lost() says how many: too many waited for a dispatch.
    BOXLITE_EVENT_OVERFLOW = 0,
    /// A box was made.
    BOXLITE_EVENT_BOX_CREATED = 1,
    /// A box runs.
    BOXLITE_EVENT_BOX_STARTED = 2,
    /// A box stands still. Its text says why, if nobody asked for that: a full host disk.
    BOXLITE_EVENT_BOX_PAUSED = 3,
    /// A paused box goes on.
    BOXLITE_EVENT_BOX_RESUMED = 4,
    /// A box ended as it was meant to, by request or by itself. Its text says why, if nobody asked
    /// for that: its main process had ended, or nothing ran in it for long enough.
    BOXLITE_EVENT_BOX_STOPPED = 5,
    /// A box could not be started, or came to an unwanted end. Its text says why.
    BOXLITE_EVENT_BOX_FAILED = 6,
    /// A box was removed.
    BOXLITE_EVENT_BOX_REMOVED = 7,
    /// A command was started, or with its box the main process. Its text is the program, without
    /// arguments.
    BOXLITE_EVENT_EXEC_STARTED = 8,
    /// A command has ended, with code and signal. Its text says why it could not be run (126, 127),
    /// or why its box ended before it (-1).
    BOXLITE_EVENT_EXEC_ENDED = 9,
    /// The agent, the machine or the supervisor of a box does not answer. Its text says which was
    /// the first not to.
    BOXLITE_EVENT_UNRESPONSIVE = 10,
    /// All of them answer again.
    BOXLITE_EVENT_RESPONSIVE = 11,
    /// A box is healthy, as a health check says for the first time, or again.
    BOXLITE_EVENT_HEALTHY = 12,
    /// A box is unhealthy. Its text says how many checks in a row have failed.
    BOXLITE_EVENT_UNHEALTHY = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_event_kind boxlite_event_kind;
#else
typedef int32_t boxlite_event_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What a file of disks is for.
enum boxlite_file_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// A box's own disk: what was written since the snapshot, base or image that it is based on.
    BOXLITE_FILE_BOX = 0,
    /// A snapshot's.
    BOXLITE_FILE_SNAPSHOT = 1,
    /// Disks are based on it, and it has no name of its own: clones, and removed boxes, leave such.
    BOXLITE_FILE_BASE = 2,
    /// An image as a disk, shared by its boxes.
    BOXLITE_FILE_IMAGE = 3,
    /// Nobody needs it: left by a program that died, and removed by boxlite_runtime_prune().
    BOXLITE_FILE_ORPHAN = 4,
    /// In the directory of a box that the home does not know: somebody's data, which is left alone.
    BOXLITE_FILE_UNKNOWN = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_file_kind boxlite_file_kind;
#else
typedef int32_t boxlite_file_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// How much the library tells of its work.
enum boxlite_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// Nothing.
    BOXLITE_LOG_OFF = 0,
    /// What failed where no call could return the error.
    BOXLITE_LOG_ERROR = 1,
    /// What went wrong and was got over.
    BOXLITE_LOG_WARN = 2,
    /// The life of boxes: made, started, stopped, removed.
    BOXLITE_LOG_INFO = 3,
    /// Each step, and how long it took.
    BOXLITE_LOG_DEBUG = 4,
    /// Everything.
    BOXLITE_LOG_TRACE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_log_level boxlite_log_level;
#else
typedef int32_t boxlite_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// What happens to a box when its main process has ended.
enum boxlite_main_exit
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// The box is stopped, whatever the exit code.
    BOXLITE_MAIN_EXIT_STOP = 0,
    /// The box runs on.
    BOXLITE_MAIN_EXIT_STAY = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_main_exit boxlite_main_exit;
#else
typedef int32_t boxlite_main_exit;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// How a box's main process is.
enum boxlite_main_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// There is none, or it was not started.
    BOXLITE_MAIN_NONE = 0,
    /// It runs.
    BOXLITE_MAIN_RUNNING = 1,
    /// It has ended, in the box's last run.
    BOXLITE_MAIN_EXITED = 2,
    /// Its box was cut off before its end was seen.
    BOXLITE_MAIN_LOST = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_main_status boxlite_main_status;
#else
typedef int32_t boxlite_main_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// A metric: 0 to 99 are those of a runtime, the others those of a box. What this build or this box
/// cannot tell is -1.
enum boxlite_metric
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
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
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_metric boxlite_metric;
#else
typedef int32_t boxlite_metric;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// A command's streams.
enum boxlite_stream
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /// What the command reads.
    BOXLITE_STDIN = 0,
    /// What it writes.
    BOXLITE_STDOUT = 1,
    /// What it writes about its work.
    BOXLITE_STDERR = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum boxlite_stream boxlite_stream;
#else
typedef int32_t boxlite_stream;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/// A box, running or not. Counted. Keeps its runtime alive.
typedef struct boxlite_box boxlite_box;

/// What a box is and how it was when it was asked. Owned by the caller, except in a list.
typedef struct boxlite_box_info boxlite_box_info;

/// How a box is to be made. Owned by the caller. One thread at a time.
typedef struct boxlite_box_options boxlite_box_options;

/// Why a call failed. Owned by the caller.
typedef struct boxlite_error boxlite_error;

/// Something that happened. Borrowed by a callback.
typedef struct boxlite_event boxlite_event;

/// A command that runs, or ran, in a box. Counted. Keeps its runtime alive.
typedef struct boxlite_exec boxlite_exec;

/// A command of a running box, as it was when the commands were listed.
typedef struct boxlite_exec_info boxlite_exec_info;

/// A list of information on commands. Owned by the caller.
typedef struct boxlite_exec_list boxlite_exec_list;

/// What is to be run in a box. Owned by the caller. One thread at a time.
typedef struct boxlite_exec_options boxlite_exec_options;

/// What of a box an archive is to have. Owned by the caller. One thread at a time.
typedef struct boxlite_export_options boxlite_export_options;

/// Files of disks. Owned by the caller. Any thread may read it.
typedef struct boxlite_file_list boxlite_file_list;

/// What is to become of an archive. Owned by the caller. One thread at a time.
typedef struct boxlite_import_options boxlite_import_options;

/// A list of information on boxes. Owned by the caller.
typedef struct boxlite_info_list boxlite_info_list;

/// Which boxes are to be listed: those that fit everything that is set. Owned by the caller. One
/// thread at a time.
typedef struct boxlite_list_filter boxlite_list_filter;

/// The metrics of a runtime or of a box, as they were when it was asked. Owned by the caller.
typedef struct boxlite_metrics boxlite_metrics;

/// Work that was started by a call and completes once: with a result, which is taken from it once,
/// or with an error. Counted. Keeps its runtime alive.
typedef struct boxlite_op boxlite_op;

/// What a command wrote and how it ended. Owned by the caller.
typedef struct boxlite_output boxlite_output;

/// One step of an operation's progress: a stage that is done, or a count of bytes. Borrowed by a
/// callback.
typedef struct boxlite_progress boxlite_progress;

/// An open home. Counted: boxes, execs and operations keep it alive.
typedef struct boxlite_runtime boxlite_runtime;

/// How a home is to be used. Owned by the caller. One thread at a time.
typedef struct boxlite_runtime_options boxlite_runtime_options;

/// A snapshot of a box's disk, as it was when it was asked for. Owned by the caller, except in a
/// list.
typedef struct boxlite_snapshot boxlite_snapshot;

/// A list of snapshots. Owned by the caller.
typedef struct boxlite_snapshot_list boxlite_snapshot_list;

/// A file of disks as it was when it was listed. Borrowed from its list. Any thread may read it.
typedef struct boxlite_stored_file boxlite_stored_file;

/// Events of a runtime's boxes, delivered to a callback. Owned by the caller. Keeps its runtime
/// alive.
typedef struct boxlite_subscription boxlite_subscription;

/// A text. Owned by the caller.
typedef struct boxlite_text boxlite_text;

/// Called once when a command has ended, after the last byte of the output that has a callback.
/// code is its exit code, or 128 + signal if a signal ended it; signal is 0 for none. A code of -1
/// says that the box ended, and error why. error is also set, though the code is 126 or 127, if the
/// command could not be run; otherwise it is NULL. It is borrowed: good until the callback returns.
typedef void (*boxlite_exit_callback)(void *user_data,
                                      int32_t code,
                                      int32_t signal,
                                      const struct boxlite_error *error);

/// Frees a callback's user data. Called exactly once for each callback that was passed to the
/// library, whatever became of the call: after the last call of a callback that is called once,
/// when the callback is replaced or removed, when the last handle is freed, or at once if the call
/// was refused or the callback was NULL. Runs on the thread that does that, and never while the
/// callback runs. NULL is fine for data that needs no freeing.
typedef void (*boxlite_destroy)(void *user_data);

/// Called with bytes of a command's output, inside boxlite_dispatch() or boxlite_exec_wait(). data
/// is borrowed: good until the callback returns. Bytes are bytes: a chunk may begin or end
/// anywhere. length is never 0.
typedef void (*boxlite_output_callback)(void *user_data, const uint8_t *data, size_t length);

/// Called when a stream has become ready, inside boxlite_dispatch() or boxlite_exec_wait(): stream
/// is a boxlite_stream on which boxlite_exec_read() or boxlite_exec_write() has returned
/// BOXLITE_WOULD_BLOCK and would not do so now. Called once, until a call on that stream returns
/// BOXLITE_WOULD_BLOCK again.
typedef void (*boxlite_ready_callback)(void *user_data, int32_t stream);

/// Called where bytes of a stream, a boxlite_stream, are no longer held, inside boxlite_dispatch()
/// or boxlite_exec_wait(): so many are missing between what was delivered before and what comes
/// next.
typedef void (*boxlite_gap_callback)(void *user_data, int32_t stream, uint64_t bytes);

/// Called when an operation has completed, once, inside boxlite_dispatch(). op is borrowed; the
/// callback may take its result, which returns the error of one that failed, and free it.
typedef void (*boxlite_op_callback)(void *user_data, struct boxlite_op *op);

/// Called with an operation's progress, inside boxlite_dispatch(). progress is borrowed: good until
/// the callback returns.
typedef void (*boxlite_progress_callback)(void *user_data, const struct boxlite_progress *progress);

/// Called with one event, inside boxlite_dispatch(). event is borrowed: good until the callback
/// returns.
typedef void (*boxlite_event_callback)(void *user_data, const struct boxlite_event *event);

/// Called with one message of the library's, inside boxlite_dispatch(). level is a
/// boxlite_log_level, target the part of the library that speaks. The strings are borrowed: good
/// until the callback returns. Never has values of environment variables in it, nor what commands
/// read or write.
typedef void (*boxlite_log_callback)(void *user_data,
                                     int32_t level,
                                     const char *target,
                                     const char *message);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// The version of the library that is running, such as "0.1.0". Compare with BOXLITE_VERSION, that
/// of the header. Static: good for ever.
const char *boxlite_version(void);

/// The version of the library that is running as one number: MAJOR * 1000000 + MINOR * 1000 +
/// PATCH. Compare with BOXLITE_VERSION_NUMBER, that of the header.
uint32_t boxlite_version_number(void);

/// Whether the library that is running has a feature, by its name; see boxlite_feature(). For
/// programs that load the library at run time. false for NULL.
bool boxlite_has_feature(const char *name);

/// The name of a feature, from 0; NULL beyond the last. Static: good for ever.
///
/// "events" (boxlite_runtime_subscribe), "exec-read" (boxlite_exec_read), "image-archive" (OCI and
/// docker archives), "image-oci-layout" (OCI directories), "labels" (boxlite_box_list_matching),
/// "log" (boxlite_runtime_on_log), "metrics" (boxlite_box_metrics), "pool" (waiting machines:
/// boxlite_runtime_options_set_pool_size), "run" (boxlite_run), "templates" (boxes are restored:
/// boxlite_box_info_boot).
const char *boxlite_feature(size_t index);

/// The error's status, never BOXLITE_OK; BOXLITE_INVALID_ARGUMENT for NULL.
boxlite_status boxlite_error_code(const struct boxlite_error *error);

/// The message for people: what failed, why, and what to do. Never NULL; "" for NULL. Borrowed:
/// good until the error is freed.
const char *boxlite_error_message(const struct boxlite_error *error);

/// What the error is about: an argument's name, a path, a box. NULL if it is about none. Borrowed:
/// good until the error is freed.
const char *boxlite_error_object(const struct boxlite_error *error);

/// The operating system's error number that was the cause, such as ENOSPC; 0 if none was, or for
/// NULL.
int32_t boxlite_error_errno(const struct boxlite_error *error);

/// Whether the same call may succeed later without any change; false for NULL.
bool boxlite_error_is_retryable(const struct boxlite_error *error);

/// Frees an error. NULL is fine.
void boxlite_error_free(struct boxlite_error *error);

/// The name of a status, such as "BOXLITE_NOT_FOUND"; "BOXLITE_UNKNOWN" for a number that is
/// none. Static: good for ever.
const char *boxlite_status_name(int32_t status);

/// Makes runtime options with every default in place. Setters check at once; one that fails
/// changes nothing.
boxlite_status boxlite_runtime_options_new(struct boxlite_runtime_options **options,
                                           struct boxlite_error **error);

/// Frees runtime options. NULL is fine.
void boxlite_runtime_options_free(struct boxlite_runtime_options *options);

/// Sets the home directory. It is made when it is opened, if it does not exist, for its owner
/// only. Unless set: $BOXLITE_HOME, else ~/.boxlite.
boxlite_status boxlite_runtime_options_set_home(struct boxlite_runtime_options *options,
                                                const char *path,
                                                struct boxlite_error **error);

/// Sets the directory of the helper programs, the guest kernel and the initramfs. Unless set:
/// $BOXLITE_LIBEXEC, else beside the library.
boxlite_status boxlite_runtime_options_set_libexec(struct boxlite_runtime_options *options,
                                                   const char *path,
                                                   struct boxlite_error **error);

/// Sets what may execute the guests' instructions, a boxlite_accelerator. Unless set:
/// $BOXLITE_ACCELERATOR (auto, kvm or tcg), else auto.
boxlite_status boxlite_runtime_options_set_accelerator(struct boxlite_runtime_options *options,
                                                       int32_t accelerator,
                                                       struct boxlite_error **error);

/// Sets how old a machine template may become, in seconds, before it is made anew: 1 or more, a
/// day unless set. Boxes restored from one template share the layout of the agent's memory and
/// what their kernel drew when it booted; see docs/security.md.
boxlite_status boxlite_runtime_options_set_template_age_s(struct boxlite_runtime_options *options,
                                                          uint64_t seconds,
                                                          struct boxlite_error **error);

/// Sets the space that machine templates may take in the home, in MiB; 2048 unless set. When one
/// is made, those that were used longest ago are removed, but none that a running box is made
/// from.
boxlite_status boxlite_runtime_options_set_templates_mib(struct boxlite_runtime_options *options,
                                                         uint64_t space,
                                                         struct boxlite_error **error);

/// Sets whether the disk of an image gets a machine template of its own, with that disk mounted,
/// when a box of it is started for the first time: yes unless set. Every later first start of a
/// box with the same image, disk size, processors and memory then takes half as long. Each such
/// template takes half a second to make, and some 50 MiB of the space that templates may take.
boxlite_status boxlite_runtime_options_set_disk_templates(struct boxlite_runtime_options *options,
                                                          bool wanted,
                                                          struct boxlite_error **error);

/// Sets how many machines wait for boxes, 0 to 64; none unless set. A box that gets one starts in
/// a fraction of the time. They are made while nothing is being started, one at a time, from a
/// machine template, and have rehearsed what a start does; each stands still meanwhile, and takes
/// some 100 MiB of memory. One is made only if a box of its size could be started. They are gone
/// with the runtime, and after boxlite_runtime_shutdown(); nobody waits for one.
boxlite_status boxlite_runtime_options_set_pool_size(struct boxlite_runtime_options *options,
                                                     uint32_t machines,
                                                     struct boxlite_error **error);

/// Sets the image that the waiting machines are for, as boxlite_box_options_new() takes it, and
/// the size of a box's disk in MiB (16 to 16777216; a box has 10240 unless told otherwise). Such
/// a machine has the image's disk mounted: a box of that image and disk size gets one when it
/// starts for the first time, in half the time of one that is for any image; all other starts go
/// without. An image that cannot be had is an entry in the log, and no machine waits.
boxlite_status boxlite_runtime_options_set_pool_image(struct boxlite_runtime_options *options,
                                                      const char *image,
                                                      uint64_t disk_size_mib,
                                                      struct boxlite_error **error);

/// Sets what the machines have that wait for boxes: 1 to 64 virtual CPUs, and 128 to 1048576 MiB
/// of memory; 1 and 512 unless set, as a box. A box with other numbers, or with a cold boot,
/// starts as if none waited.
boxlite_status boxlite_runtime_options_set_pool_machine(struct boxlite_runtime_options *options,
                                                        uint32_t cpus,
                                                        uint32_t memory_mib,
                                                        struct boxlite_error **error);

/// Makes box options for an image: a directory with an OCI layout, or a file that is an OCI or
/// `docker save` archive; "PATH:TAG" chooses among several images (more forms: docs/images.md). It
/// is read when the box is made. Everything else has a default: 1 CPU, 512 MiB of memory, a sparse
/// disk of 10 GiB, the image's own environment, working directory, user and command.
boxlite_status boxlite_box_options_new(const char *image,
                                       struct boxlite_box_options **options,
                                       struct boxlite_error **error);

/// Makes box options for a disk that was made elsewhere: a file with an ext4 file system, without
/// partitions, in a format, a boxlite_disk_format. It is read, checked and copied when the box is
/// made, and may come from a stranger. The box has no image: no environment, working directory,
/// user or command but those that are set. Its disk is as large as the file's unless it is set
/// larger. Nobody may write to the file meanwhile.
///
/// boxlite_box_create() has these errors then: BOXLITE_NOT_FOUND, BOXLITE_UNSUPPORTED (another file
/// system; a file that is based on another, is encrypted, or has features that are not known),
/// BOXLITE_STORAGE (it is damaged), BOXLITE_INVALID_ARGUMENT (a size smaller than the disk's).
boxlite_status boxlite_box_options_new_from_disk(const char *path,
                                                 int32_t format,
                                                 struct boxlite_box_options **options,
                                                 struct boxlite_error **error);

/// Frees box options. NULL is fine.
void boxlite_box_options_free(struct boxlite_box_options *options);

/// Sets the box's name, unique in its home: 1 to 128 of [A-Za-z0-9_.-], first a letter or digit.
/// The box's host name is made from it, or else from its id.
boxlite_status boxlite_box_options_set_name(struct boxlite_box_options *options,
                                            const char *name,
                                            struct boxlite_error **error);

/// Sets the number of virtual CPUs, 1 to 64.
boxlite_status boxlite_box_options_set_cpus(struct boxlite_box_options *options,
                                            uint32_t cpus,
                                            struct boxlite_error **error);

/// Sets the memory in MiB, 128 to 1048576.
boxlite_status boxlite_box_options_set_memory_mib(struct boxlite_box_options *options,
                                                  uint32_t memory_mib,
                                                  struct boxlite_error **error);

/// Sets the disk's size in MiB, 16 to 16777216, and no less than the image needs. The disk takes
/// only the space that is written.
boxlite_status boxlite_box_options_set_disk_size_mib(struct boxlite_box_options *options,
                                                     uint64_t disk_size_mib,
                                                     struct boxlite_error **error);

/// Sets an environment variable of the box's commands, over the image's. value may be "". May be
/// called many times; the last value of a name counts.
boxlite_status boxlite_box_options_add_env(struct boxlite_box_options *options,
                                           const char *name,
                                           const char *value,
                                           struct boxlite_error **error);

/// Sets the working directory of the box's commands, an absolute path, over the image's.
boxlite_status boxlite_box_options_set_working_dir(struct boxlite_box_options *options,
                                                   const char *path,
                                                   struct boxlite_error **error);

/// Sets the user of the box's commands over the image's: "user" or "user:group", names from the
/// image's own files, or numbers.
boxlite_status boxlite_box_options_set_user(struct boxlite_box_options *options,
                                            const char *user,
                                            struct boxlite_error **error);

/// Sets the entrypoint in place of the image's, whose cmd then no longer counts. argv has argc
/// strings, which are copied; it may be NULL if argc is 0: no entrypoint.
boxlite_status boxlite_box_options_set_entrypoint(struct boxlite_box_options *options,
                                                  const char *const *argv,
                                                  size_t argc,
                                                  struct boxlite_error **error);

/// Sets the arguments in place of the image's cmd. argv has argc strings, which are copied; it may
/// be NULL if argc is 0: no arguments.
boxlite_status boxlite_box_options_set_cmd(struct boxlite_box_options *options,
                                           const char *const *argv,
                                           size_t argc,
                                           struct boxlite_error **error);

/// Sets how long a start may take until the guest answers, in milliseconds: 100 to 3600000; 60000
/// unless set.
boxlite_status boxlite_box_options_set_start_timeout_ms(struct boxlite_box_options *options,
                                                        uint32_t timeout_ms,
                                                        struct boxlite_error **error);

/// Sets whether the box's kernel is booted at each start, instead of being restored from a machine
/// template. That takes several times longer; no two boxes then share what is drawn at boot. False
/// unless set.
boxlite_status boxlite_box_options_set_cold_boot(struct boxlite_box_options *options,
                                                 bool cold,
                                                 struct boxlite_error **error);

/// Sets whether the box is removed, with its disk, when it has stopped as it was meant to: by
/// boxlite_box_stop() or boxlite_runtime_shutdown(), or by itself while the program that started
/// it is there to see it. One that failed is kept, and so is one whose program died. No unless
/// set.
boxlite_status boxlite_box_options_set_auto_remove(struct boxlite_box_options *options,
                                                   bool remove,
                                                   struct boxlite_error **error);

/// Sets after how many seconds without a command running in it the box is stopped, 1 to 31536000;
/// never unless set. The box's main process counts as a command, its health check does not, nor
/// does time in which the box is paused. boxlite_box_info_error() then tells that this was why.
boxlite_status boxlite_box_options_set_idle_stop_s(struct boxlite_box_options *options,
                                                   uint64_t seconds,
                                                   struct boxlite_error **error);

/// Sets a command that says by its exit code whether the box is well: 0 if it is. argv has argc
/// strings, at least one, which are copied. It runs with the environment, user and working
/// directory of the box's commands; what it writes is dropped. See boxlite_box_info_health().
///
/// It runs interval_ms after the start of the box and after the end of the check before, and is
/// killed, and has failed, after timeout_ms; both are 100 to 86400000, and 0 stands for 30000.
/// The box counts as unhealthy when retries checks in a row have failed, 1 to 1000; 0 stands for
/// 3. Failures within start_period_ms of the start, up to 86400000, do not count until a check
/// has succeeded. Nothing else happens to an unhealthy box.
boxlite_status boxlite_box_options_set_health_check(struct boxlite_box_options *options,
                                                    const char *const *argv,
                                                    size_t argc,
                                                    uint64_t interval_ms,
                                                    uint64_t timeout_ms,
                                                    uint32_t retries,
                                                    uint64_t start_period_ms,
                                                    struct boxlite_error **error);

/// Sets a label of the box, which it is listed with and found by: at most 64. name is 1 to 63 of
/// [A-Za-z0-9._/-]; value may be "" and has at most 4096 bytes. The last value of a name counts.
boxlite_status boxlite_box_options_add_label(struct boxlite_box_options *options,
                                             const char *name,
                                             const char *value,
                                             struct boxlite_error **error);

/// Makes exec options for a command: argv has argc strings, at most 65536, which are copied. A
/// command without a slash is searched in the PATH of its environment. With argc 0 (argv may be
/// NULL) the box's own command is run: entrypoint and cmd, the box's or the image's.
boxlite_status boxlite_exec_options_new(const char *const *argv,
                                        size_t argc,
                                        struct boxlite_exec_options **options,
                                        struct boxlite_error **error);

/// Frees exec options. NULL is fine.
void boxlite_exec_options_free(struct boxlite_exec_options *options);

/// Sets an environment variable, over the box's and the image's. value may be "". May be called
/// many times; the last value of a name counts.
boxlite_status boxlite_exec_options_add_env(struct boxlite_exec_options *options,
                                            const char *name,
                                            const char *value,
                                            struct boxlite_error **error);

/// Sets the working directory, an absolute path; the box's unless set.
boxlite_status boxlite_exec_options_set_working_dir(struct boxlite_exec_options *options,
                                                    const char *path,
                                                    struct boxlite_error **error);

/// Sets the user, "user" or "user:group", by names or numbers; the box's unless set.
boxlite_status boxlite_exec_options_set_user(struct boxlite_exec_options *options,
                                             const char *user,
                                             struct boxlite_error **error);

/// Sets whether the command gets a stdin that boxlite_exec_write() writes to. Without one, which
/// is the default, it reads end of file.
boxlite_status boxlite_exec_options_set_stdin(struct boxlite_exec_options *options,
                                              bool enabled,
                                              struct boxlite_error **error);

/// Sets a command that is started with the box, its main process; none unless set. argv has argc
/// strings, which are copied. With argc 0 (argv may be NULL) it is the box's own command:
/// entrypoint and cmd, the box's or the image's. It runs with the environment, user and working
/// directory of the box's commands, and reads end of file on stdin. The start of the box fails
/// with BOXLITE_EXECUTION if it cannot be run.
///
/// Its output is kept as that of a detached command: see boxlite_box_attach_main(). How it ended is
/// in the box's information: boxlite_box_info_main_status().
boxlite_status boxlite_box_options_set_main(struct boxlite_box_options *options,
                                            const char *const *argv,
                                            size_t argc,
                                            struct boxlite_error **error);

/// Sets what happens to the box when its main process has ended, a boxlite_main_exit:
/// BOXLITE_MAIN_EXIT_STOP unless set.
boxlite_status boxlite_box_options_set_main_exit(struct boxlite_box_options *options,
                                                 int32_t what,
                                                 struct boxlite_error **error);

/// Sets whether the box outlives the program that starts it, however that ends: no unless set. It
/// runs until it is stopped, by any program that opens the home, or stops by itself.
/// boxlite_runtime_shutdown() and boxlite_runtime_free() leave it running. Until its start has
/// completed it ends with the program as any other.
boxlite_status boxlite_box_options_set_detach(struct boxlite_box_options *options,
                                              bool detach,
                                              struct boxlite_error **error);

/// Sets how many of the last bytes are kept of each output of the main process and of each detached
/// command, in a file of the home: 4096 to 1073741824; 1048576 unless set.
boxlite_status boxlite_box_options_set_spool_bytes(struct boxlite_box_options *options,
                                                   uint64_t spool_bytes,
                                                   struct boxlite_error **error);

/// Sets whether the command outlives this program, for as long as its box does: no unless set. The
/// last bytes of its output are kept (boxlite_box_options_set_spool_bytes()), and it never waits
/// for a reader: a slow one finds gaps, see boxlite_exec_on_gap(). This program follows it from
/// the beginning, and may write its stdin, which is closed when the exec is freed. Any program may
/// attach to it: boxlite_box_attach().
boxlite_status boxlite_exec_options_set_detach(struct boxlite_exec_options *options,
                                               bool detach,
                                               struct boxlite_error **error);

/// Opens a home. options may be NULL for defaults, and may be freed afterwards. Several programs,
/// and several runtimes of one, may have the same home open. Blocks for as long as it reads and
/// writes files of the home; another program that just writes to its database is waited for, up to
/// 10 s.
///
/// Errors: BOXLITE_STORAGE (the home cannot be made or written), BOXLITE_BUSY (another program is
/// changing its layout), BOXLITE_DATABASE (it belongs to other or newer software), BOXLITE_CONFIG
/// (the helper programs are not found, or there is no home to take), BOXLITE_INVALID_ARGUMENT
/// ($BOXLITE_ACCELERATOR is malformed), BOXLITE_RESOURCE_EXHAUSTED (descriptors, threads, disk
/// space), BOXLITE_INVALID_STATE (a runtime was open when this process was forked from another).
boxlite_status boxlite_runtime_open(const struct boxlite_runtime_options *options,
                                    struct boxlite_runtime **runtime,
                                    struct boxlite_error **error);

/// Adds a handle on a runtime, to be freed like the first: runtimes are counted. Returns runtime;
/// NULL for NULL.
struct boxlite_runtime *boxlite_runtime_ref(struct boxlite_runtime *runtime);

/// Frees a runtime handle; keep one for as long as you dispatch. When the last box, exec and
/// operation of the runtime is freed too, the boxes it started are stopped at once, without a
/// grace, unless they are detached: use boxlite_runtime_shutdown() before for an orderly end. Does
/// not wait for them, but may write to files of the home. NULL is fine.
void boxlite_runtime_free(struct boxlite_runtime *runtime);

/// Stops all boxes that this runtime started, all at the same time: their processes get SIGTERM
/// and grace_ms milliseconds to end, then SIGKILL, and their disks are unmounted. Detached ones run
/// on. Machines that wait for boxes end too, and no more are made. The operation has no result; its
/// error is the first of those boxes that could not be stopped.
boxlite_status boxlite_runtime_shutdown(struct boxlite_runtime *runtime,
                                        uint32_t grace_ms,
                                        struct boxlite_op **op,
                                        struct boxlite_error **error);

/// How many machines wait for boxes now, see boxlite_runtime_options_set_pool_size(); 0 for NULL.
uint32_t boxlite_runtime_pool_ready(const struct boxlite_runtime *runtime);

/// How often this runtime has done something since it was opened, by a boxlite_counter; 0 for one
/// that does not exist, and for NULL.
uint64_t boxlite_runtime_counter(const struct boxlite_runtime *runtime, int32_t counter);

/// A descriptor that is readable while there may be something to dispatch; -1 for NULL. For poll,
/// epoll (after an edge: dispatch until BOXLITE_TIMEOUT) and libuv's uv_poll. Borrowed: good until
/// the runtime is freed; never read, write or close it.
int32_t boxlite_event_fd(const struct boxlite_runtime *runtime);

/// Runs one callback that is due, on this thread. Waits for one up to timeout_ms milliseconds; 0
/// does not wait, a negative value waits without end. BOXLITE_OK if a callback ran, BOXLITE_TIMEOUT
/// (without an error object) if none did. *left, unless left is NULL, is in both cases the number
/// of sources that may have more: call again while it is not 0. Several threads may dispatch at
/// once, and the callbacks of one exec or operation still run one after the other. From inside a
/// callback, of whatever runtime: BOXLITE_BUSY.
boxlite_status boxlite_dispatch(struct boxlite_runtime *runtime,
                                int32_t timeout_ms,
                                size_t *left,
                                struct boxlite_error **error);

/// Makes a filter that lets all boxes through. Setters check at once; one that fails changes
/// nothing.
boxlite_status boxlite_list_filter_new(struct boxlite_list_filter **filter,
                                       struct boxlite_error **error);

/// Frees a filter. NULL is fine.
void boxlite_list_filter_free(struct boxlite_list_filter *filter);

/// Lets through boxes of a status, a boxlite_box_status, only. Called several times: of any of
/// them.
boxlite_status boxlite_list_filter_add_status(struct boxlite_list_filter *filter,
                                              int32_t status,
                                              struct boxlite_error **error);

/// Lets through boxes that have a label of this name only, and with this value unless value is
/// NULL. Called several times: that have all of them. name and value are as for
/// boxlite_box_options_add_label().
boxlite_status boxlite_list_filter_add_label(struct boxlite_list_filter *filter,
                                             const char *name,
                                             const char *value,
                                             struct boxlite_error **error);

/// Lets through boxes whose name begins with prefix only.
boxlite_status boxlite_list_filter_set_name_prefix(struct boxlite_list_filter *filter,
                                                   const char *prefix,
                                                   struct boxlite_error **error);

/// Lets through boxes of an image only, written as it was when they were made.
boxlite_status boxlite_list_filter_set_image(struct boxlite_list_filter *filter,
                                             const char *image,
                                             struct boxlite_error **error);

/// Makes a box. Its image is read and made into a disk, unless that was done before; nothing runs
/// yet. options may be freed afterwards. The result is a box: boxlite_op_take_box().
///
/// Errors of the operation: BOXLITE_IMAGE (missing, damaged, of another architecture),
/// BOXLITE_ALREADY_EXISTS (the name), BOXLITE_INVALID_ARGUMENT (a disk smaller than the image
/// needs), BOXLITE_RESOURCE_EXHAUSTED (a full host disk).
boxlite_status boxlite_box_create(struct boxlite_runtime *runtime,
                                  const struct boxlite_box_options *options,
                                  struct boxlite_op **op,
                                  struct boxlite_error **error);

/// Finds a box of the home by its id or its name, whichever program made it. The result is a box:
/// boxlite_op_take_box(). Errors of the operation: BOXLITE_NOT_FOUND, BOXLITE_METADATA (its rows in
/// the database cannot be read: it can only be removed).
boxlite_status boxlite_box_get(struct boxlite_runtime *runtime,
                               const char *id_or_name,
                               struct boxlite_op **op,
                               struct boxlite_error **error);

/// Lists all boxes of the home, newest first. The result is a list: boxlite_op_take_info_list().
boxlite_status boxlite_box_list(struct boxlite_runtime *runtime,
                                struct boxlite_op **op,
                                struct boxlite_error **error);

/// Lists the boxes of the home that a filter lets through, newest first; all of them if filter is
/// NULL. filter may be NULL, and may be freed afterwards. The result is a list:
/// boxlite_op_take_info_list(). A box whose rows in the database cannot be read is in it with
/// BOXLITE_BOX_UNKNOWN and a boxlite_box_info_error(), and keeps nobody from the others.
boxlite_status boxlite_box_list_matching(struct boxlite_runtime *runtime,
                                         const struct boxlite_list_filter *filter,
                                         struct boxlite_op **op,
                                         struct boxlite_error **error);

/// Removes a box and its disk, by its id or its name. One that runs, in whichever program, is
/// BOXLITE_INVALID_STATE, or is stopped at once if force is set. Handles on it are still to be
/// freed. The operation has no result.
///
/// Errors of the operation: BOXLITE_NOT_FOUND, BOXLITE_INVALID_STATE, BOXLITE_BUSY (another
/// program is changing the box, or its machine is still ending). A box whose rows cannot be read
/// is removed like any other.
boxlite_status boxlite_box_remove(struct boxlite_runtime *runtime,
                                  const char *id_or_name,
                                  bool force,
                                  struct boxlite_op **op,
                                  struct boxlite_error **error);

/// Adds a handle on a box, to be freed like the first: box handles are counted. Returns box; NULL
/// for NULL.
struct boxlite_box *boxlite_box_ref(struct boxlite_box *box);

/// Frees a box handle; the box itself stays as it is, unless its runtime ends (see
/// boxlite_runtime_free()). NULL is fine.
void boxlite_box_free(struct boxlite_box *box);

/// The box's id. Borrowed: good until the handle is freed. NULL for NULL.
const char *boxlite_box_id(const struct boxlite_box *box);

/// The box's name; NULL if it has none, and for NULL. Borrowed: good until the handle is freed.
const char *boxlite_box_name(const struct boxlite_box *box);

/// Starts the box: its machine is launched and its disk mounted. One that runs, in whichever
/// program, stays as it is. The operation has no result; its progress tells each stage.
///
/// Errors of the operation: BOXLITE_RESOURCE_EXHAUSTED (all of the box's memory must be available
/// to this program at that moment, and 64 MiB free on the home's file system), BOXLITE_ENGINE
/// (QEMU or the guest kernel is missing or ended; quotes the console), BOXLITE_TIMEOUT (the guest
/// did not come up in time; quotes the console), BOXLITE_UNSUPPORTED_ENGINE (KVM was demanded and
/// does not work), BOXLITE_EXECUTION (its main process could not be run), BOXLITE_BUSY (another
/// program is changing the box), BOXLITE_NOT_FOUND (it was removed).
boxlite_status boxlite_box_start(struct boxlite_box *box,
                                 struct boxlite_op **op,
                                 struct boxlite_error **error);

/// Stops the box, whichever program started it: its processes get SIGTERM and grace_ms
/// milliseconds to end, then SIGKILL, and its disk is unmounted. One that does not run stays as
/// it is. The operation has no result. Commands that run end as by these signals: with an exit,
/// and the end of what they had written.
boxlite_status boxlite_box_stop(struct boxlite_box *box,
                                uint32_t grace_ms,
                                struct boxlite_op **op,
                                struct boxlite_error **error);

/// Has the box stand still: its processes do not run until it is resumed, and keep their memory.
/// One that does already stays as it is. While it is paused, commands cannot be started
/// (BOXLITE_INVALID_STATE); stopping it works. The operation has no result.
///
/// Errors of the operation: BOXLITE_INVALID_STATE (it does not run), BOXLITE_TIMEOUT (its virtual
/// machine does not answer).
boxlite_status boxlite_box_pause(struct boxlite_box *box,
                                 struct boxlite_op **op,
                                 struct boxlite_error **error);

/// Has a paused box go on; its clock is set. So does one that was paused because the host's disk
/// was full (boxlite_box_info_error() tells): what it could not write is written now, and if the
/// disk is still full it is paused again. One that runs stays as it is. The operation has no
/// result, and the errors of boxlite_box_pause().
boxlite_status boxlite_box_resume(struct boxlite_box *box,
                                  struct boxlite_op **op,
                                  struct boxlite_error **error);

/// Asks what the box is and how it is. The result is information: boxlite_op_take_info(). Errors of
/// the operation: BOXLITE_NOT_FOUND (it was removed), BOXLITE_METADATA (its rows in the database
/// cannot be read).
boxlite_status boxlite_box_inspect(struct boxlite_box *box,
                                   struct boxlite_op **op,
                                   struct boxlite_error **error);

/// Runs a command in the box, which is started first if it does not run. options may be freed
/// afterwards. The result is an exec: boxlite_op_take_exec(). A command that does not exist or
/// may not be executed is an exec too, which exits with 127 or 126.
///
/// Errors of the operation: those of boxlite_box_start(), BOXLITE_INVALID_ARGUMENT (no such user
/// or working directory, or no command at all), BOXLITE_RESOURCE_EXHAUSTED (in the guest),
/// BOXLITE_INVALID_STATE (the box is being stopped), BOXLITE_STOPPED or BOXLITE_ENGINE (the box
/// ended meanwhile).
boxlite_status boxlite_box_exec(struct boxlite_box *box,
                                const struct boxlite_exec_options *options,
                                struct boxlite_op **op,
                                struct boxlite_error **error);

/// The name of a boxlite_box_status, such as "running"; "unknown" for a number that is none.
/// Static: good for ever.
const char *boxlite_box_status_name(int32_t status);

/// Frees information that was taken from an operation, not that of a list. NULL is fine.
void boxlite_box_info_free(struct boxlite_box_info *info);

/// The box's id. Borrowed: good until the information is freed. NULL for NULL.
const char *boxlite_box_info_id(const struct boxlite_box_info *info);

/// The box's name; NULL if it has none, and for NULL. Borrowed: good until the information is
/// freed.
const char *boxlite_box_info_name(const struct boxlite_box_info *info);

/// The image as it was given when the box was made. Borrowed: good until the information is freed.
/// NULL for NULL.
const char *boxlite_box_info_image(const struct boxlite_box_info *info);

/// When the box was made, RFC 3339 in UTC. Borrowed: good until the information is freed. NULL for
/// NULL.
const char *boxlite_box_info_created_at(const struct boxlite_box_info *info);

/// What executes the box's instructions, "kvm" or "tcg"; NULL if it does not run, or if another
/// program runs it and this one has not used it yet. Borrowed: good until the information is
/// freed.
const char *boxlite_box_info_accelerator(const struct boxlite_box_info *info);

/// Why the box failed or ended, or cannot be read; NULL if there is nothing to tell. Borrowed: good
/// until the information is freed.
const char *boxlite_box_info_error(const struct boxlite_box_info *info);

/// The box's status, a boxlite_box_status; BOXLITE_BOX_UNKNOWN for NULL.
int32_t boxlite_box_info_status(const struct boxlite_box_info *info);

/// The number of virtual CPUs; 0 for NULL.
uint32_t boxlite_box_info_cpus(const struct boxlite_box_info *info);

/// The memory in MiB; 0 for NULL.
uint32_t boxlite_box_info_memory_mib(const struct boxlite_box_info *info);

/// The disk's size in MiB; 0 for NULL.
uint64_t boxlite_box_info_disk_size_mib(const struct boxlite_box_info *info);

/// The process id of the box's supervisor; 0 if the box does not run, and for NULL.
uint32_t boxlite_box_info_pid(const struct boxlite_box_info *info);

/// How the box's machine came to run, a boxlite_boot; BOXLITE_BOOT_UNKNOWN if it does not run, if
/// another program runs it and this one has not used it yet, and for NULL.
int32_t boxlite_box_info_boot(const struct boxlite_box_info *info);

/// The number of stages that the last start by this runtime went through; 0 if there was none.
size_t boxlite_box_info_stage_count(const struct boxlite_box_info *info);

/// The name of a stage, from 0; NULL beyond the last. They are "admission", "configuration",
/// "spawn" and "supervisor" (processes), "template" and "disk template" (made once), "machine" and
/// "boot", "restore" or "hand-over" (one of these ways), "setup", and "main" (its process); no
/// start has all of them. Borrowed: good until the information is freed.
const char *boxlite_box_info_stage_name(const struct boxlite_box_info *info, size_t index);

/// How long a stage took, in microseconds; 0 beyond the last.
uint64_t boxlite_box_info_stage_microseconds(const struct boxlite_box_info *info, size_t index);

/// What the health checks say, a boxlite_health, in the box's last run; BOXLITE_HEALTH_NONE for
/// NULL.
int32_t boxlite_box_info_health(const struct boxlite_box_info *info);

/// How many health checks in a row have failed; 0 for NULL.
uint32_t boxlite_box_info_health_failures(const struct boxlite_box_info *info);

/// When the last health check ended, RFC 3339 in UTC; NULL if none has, and for NULL. Borrowed:
/// good until the information is freed.
const char *boxlite_box_info_last_check(const struct boxlite_box_info *info);

/// How the box's main process is, or was in its last run, a boxlite_main_status; BOXLITE_MAIN_NONE
/// for NULL.
int32_t boxlite_box_info_main_status(const struct boxlite_box_info *info);

/// The exit code of the main process, or 128 + signal; -1 unless it has ended, and for NULL.
int32_t boxlite_box_info_main_code(const struct boxlite_box_info *info);

/// The signal that ended the main process, by its number on x86-64 Linux; 0 if none did, and for
/// NULL.
int32_t boxlite_box_info_main_signal(const struct boxlite_box_info *info);

/// Whether the box outlives the program that starts it; false for NULL.
bool boxlite_box_info_detach(const struct boxlite_box_info *info);

/// Whether the box is removed when it has stopped; false for NULL.
bool boxlite_box_info_auto_remove(const struct boxlite_box_info *info);

/// The number of labels; 0 for NULL.
size_t boxlite_box_info_label_count(const struct boxlite_box_info *info);

/// The name of a label, from 0, in the order of their bytes; NULL beyond the last. Borrowed: good
/// until the information is freed.
const char *boxlite_box_info_label_name(const struct boxlite_box_info *info, size_t index);

/// The value of a label, by the index of its name; NULL beyond the last. Borrowed: good until the
/// information is freed.
const char *boxlite_box_info_label_value(const struct boxlite_box_info *info, size_t index);

/// The value of the label of this name; NULL if the box has none, and for NULL. Borrowed: good
/// until the information is freed.
const char *boxlite_box_info_label(const struct boxlite_box_info *info, const char *name);

/// Frees a list and all information in it. NULL is fine.
void boxlite_info_list_free(struct boxlite_info_list *list);

/// The number of boxes in a list; 0 for NULL.
size_t boxlite_info_list_count(const struct boxlite_info_list *list);

/// The information on a box of the list, from 0; NULL beyond the last. Borrowed: good until the
/// list is freed.
const struct boxlite_box_info *boxlite_info_list_get(const struct boxlite_info_list *list,
                                                     size_t index);

/// Keeps what the box's disk is now under a name: 1 to 255 bytes of UTF-8, no '/' and no '\', not
/// beginning with '.', and of no other snapshot of the box. Nothing is copied, however much the
/// disk holds. The result is the snapshot: boxlite_op_take_snapshot().
///
/// Of a box that runs, the file system is frozen for some tens of milliseconds: what its processes
/// had written to files by then is in the snapshot, and whole; what they only have in memory is
/// not. It goes on by itself. One that is being started is waited for.
///
/// Errors of the operation: BOXLITE_INVALID_ARGUMENT (the name), BOXLITE_ALREADY_EXISTS,
/// BOXLITE_INVALID_STATE (the box is paused, or is being stopped), BOXLITE_TIMEOUT (the file
/// system did not come to rest within 5 s), BOXLITE_BUSY (another program is changing the box),
/// BOXLITE_RESOURCE_EXHAUSTED (the host's disk is full, or the box's disk consists of 64 files that
/// cannot be merged), BOXLITE_STORAGE, BOXLITE_NOT_FOUND (the box was removed). Nothing has changed
/// then.
boxlite_status boxlite_box_snapshot_create(struct boxlite_box *box,
                                           const char *name,
                                           struct boxlite_op **op,
                                           struct boxlite_error **error);

/// Lists the box's snapshots in the order in which they were made. The result is a list:
/// boxlite_op_take_snapshot_list().
boxlite_status boxlite_box_snapshot_list(struct boxlite_box *box,
                                         struct boxlite_op **op,
                                         struct boxlite_error **error);

/// Looks up a snapshot by its name. The result is the snapshot, or NULL if there is none:
/// boxlite_op_take_snapshot().
///
/// Errors of the operation: BOXLITE_INVALID_ARGUMENT (no snapshot can have this name).
boxlite_status boxlite_box_snapshot_get(struct boxlite_box *box,
                                        const char *name,
                                        struct boxlite_op **op,
                                        struct boxlite_error **error);

/// Has the box's disk be what it was in a snapshot, in one step. The box must not run. What was
/// written since is gone, unless another snapshot has it; all snapshots stay. The operation has no
/// result.
///
/// Errors of the operation: BOXLITE_INVALID_STATE (the box runs: stop it first), BOXLITE_NOT_FOUND
/// (no such snapshot, or the box was removed), BOXLITE_BUSY, BOXLITE_RESOURCE_EXHAUSTED,
/// BOXLITE_STORAGE (a file of the snapshot is missing or damaged). The disk is as it was then.
boxlite_status boxlite_box_snapshot_restore(struct boxlite_box *box,
                                            const char *name,
                                            struct boxlite_op **op,
                                            struct boxlite_error **error);

/// Removes a snapshot. If one other snapshot of the box, or its disk, is based on it, what that
/// needs is merged into it: that takes as long as writing it, and of a box that does not run as
/// much space meanwhile. The box may run, and be used meanwhile; if it is stopped, the snapshot may
/// still be there. The operation has no result.
///
/// Errors of the operation: BOXLITE_NOT_FOUND, BOXLITE_INVALID_STATE (several disks are based on
/// it, or one of another box: the message names them; or the box is paused), BOXLITE_BUSY,
/// BOXLITE_RESOURCE_EXHAUSTED (the host's disk is full). Nothing has changed then.
boxlite_status boxlite_box_snapshot_remove(struct boxlite_box *box,
                                           const char *name,
                                           struct boxlite_op **op,
                                           struct boxlite_error **error);

/// Makes boxes that begin with what the box's disk is now or, unless snapshot is NULL, was in the
/// snapshot of that name: count of them, 1 to 1000, with names of their own. names may be NULL, and
/// so may each of its elements: no name. They have the box's options, and ids, host names and
/// machine ids of their own. All or none are made, and nothing is copied, however much the disk
/// holds. The box may run: it goes on, and its file system is frozen for a moment, as for a
/// snapshot. The results are boxes: boxlite_op_take_box() for each of them. Once begun, this is not
/// cancelled.
///
/// What the clones are based on stays until the last of them is removed, also when the box itself
/// is.
///
/// Errors of the operation: BOXLITE_ALREADY_EXISTS (a name), BOXLITE_INVALID_ARGUMENT (a name that
/// is none, or is there twice; count), BOXLITE_NOT_FOUND (the snapshot, or the box was removed),
/// and those of boxlite_box_snapshot_create().
boxlite_status boxlite_box_clone(struct boxlite_box *box,
                                 const char *snapshot,
                                 const char *const *names,
                                 size_t count,
                                 struct boxlite_op **op,
                                 struct boxlite_error **error);

/// Makes the disk of a box that does not run larger: size_mib in MiB, up to 16 TiB. The box's file
/// system grows with it when it is started next; it cannot become smaller again. Snapshots stay as
/// they are, and going back to one keeps the size. The operation has no result.
///
/// Errors of the operation: BOXLITE_INVALID_ARGUMENT (size_mib: no more than it has, or too much),
/// BOXLITE_INVALID_STATE (the box runs), BOXLITE_UNSUPPORTED (a disk that was made small cannot
/// grow beyond 4 TiB before a snapshot is made), BOXLITE_BUSY, BOXLITE_RESOURCE_EXHAUSTED.
boxlite_status boxlite_box_grow_disk(struct boxlite_box *box,
                                     uint64_t size_mib,
                                     struct boxlite_op **op,
                                     struct boxlite_error **error);

/// Frees a snapshot that was taken from an operation, not one of a list. The snapshot itself stays.
/// NULL is fine.
void boxlite_snapshot_free(struct boxlite_snapshot *snapshot);

/// The snapshot's id. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
const char *boxlite_snapshot_id(const struct boxlite_snapshot *snapshot);

/// The snapshot's name. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
const char *boxlite_snapshot_name(const struct boxlite_snapshot *snapshot);

/// The id of the box whose disk it is. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
const char *boxlite_snapshot_box_id(const struct boxlite_snapshot *snapshot);

/// When it was made, RFC 3339 in UTC, to the second. Borrowed: good until the snapshot
/// is freed. NULL for NULL.
const char *boxlite_snapshot_created_at(const struct boxlite_snapshot *snapshot);

/// The name of the snapshot that the disk was based on when this one was made; NULL if there was
/// none, or it was removed, and for NULL. Borrowed: good until the snapshot is freed.
const char *boxlite_snapshot_parent(const struct boxlite_snapshot *snapshot);

/// The size of the disk that the box sees, in bytes; 0 for NULL, and if its file cannot be read.
uint64_t boxlite_snapshot_virtual_bytes(const struct boxlite_snapshot *snapshot);

/// What the snapshot's own file takes on the host, in bytes: about what was written to the disk
/// since its parent. 0 for NULL.
uint64_t boxlite_snapshot_allocated_bytes(const struct boxlite_snapshot *snapshot);

/// Frees a list and all snapshots in it. NULL is fine.
void boxlite_snapshot_list_free(struct boxlite_snapshot_list *list);

/// The number of snapshots in a list; 0 for NULL.
size_t boxlite_snapshot_list_count(const struct boxlite_snapshot_list *list);

/// A snapshot of the list, from 0; NULL beyond the last. Borrowed: good until the list is freed.
const struct boxlite_snapshot *boxlite_snapshot_list_get(const struct boxlite_snapshot_list *list,
                                                         size_t index);

/// Makes options for boxlite_box_export(): the box's disk as it is now, in one file. Setters check
/// at once; one that fails changes nothing.
boxlite_status boxlite_export_options_new(struct boxlite_export_options **options,
                                          struct boxlite_error **error);

/// Frees options. NULL is fine.
void boxlite_export_options_free(struct boxlite_export_options *options);

/// Has the archive be of what the disk was in the snapshot of that name. The box may run then.
boxlite_status boxlite_export_options_set_snapshot(struct boxlite_export_options *options,
                                                   const char *name,
                                                   struct boxlite_error **error);

/// Whether the archive has all snapshots of the box too, each with what was written since the one
/// before. Not unless set, and not with boxlite_export_options_set_snapshot().
boxlite_status boxlite_export_options_set_with_snapshots(struct boxlite_export_options *options,
                                                         bool with,
                                                         struct boxlite_error **error);

/// Writes the box into one file, its archive: to path, where nothing is yet, or into the directory
/// path as `NAME.boxlite`, with the box's name or, if it has none, `box`. Directories on the way
/// are made. The box stays as it is. options may be NULL. Progress is told in bytes of disks. The
/// result is the file's path: boxlite_op_take_text(). Cancelling leaves no file behind.
///
/// Of a box that runs, the file system is frozen for some tens of milliseconds, as by
/// boxlite_box_snapshot_create(), and the archive is of that moment; the box can be used while it
/// is written. The box's disk consists of one file more from then on.
///
/// An archive has disk, options and image configuration of the box; all environment variables too.
/// Nothing in it is secret to who has it.
///
/// Errors of the operation: BOXLITE_ALREADY_EXISTS (the file), BOXLITE_INVALID_STATE (the box is
/// paused, or is being stopped), BOXLITE_TIMEOUT (its file system did not come to rest within 5 s),
/// BOXLITE_NOT_FOUND (the snapshot, or the box was removed), BOXLITE_BUSY (another program is
/// changing the box), BOXLITE_RESOURCE_EXHAUSTED (there is no room, or the disk consists of 64
/// files that cannot be merged), BOXLITE_STORAGE, BOXLITE_CANCELLED.
boxlite_status boxlite_box_export(struct boxlite_box *box,
                                  const char *path,
                                  const struct boxlite_export_options *options,
                                  struct boxlite_op **op,
                                  struct boxlite_error **error);

/// Makes options for boxlite_box_import(): a box of the name that it had, with nothing that
/// concerns the host. Setters check at once; one that fails changes nothing.
boxlite_status boxlite_import_options_new(struct boxlite_import_options **options,
                                          struct boxlite_error **error);

/// Frees options. NULL is fine.
void boxlite_import_options_free(struct boxlite_import_options *options);

/// Has the box get this name, by the rules of boxlite_box_options_set_name(), in place of the one
/// that it had. name may be NULL: none at all.
boxlite_status boxlite_import_options_set_name(struct boxlite_import_options *options,
                                               const char *name,
                                               struct boxlite_error **error);

/// Whether the archive may bring with it what concerns the host: paths, published ports, and how
/// far the box is shut off. Not unless set. Only for archives that nobody else can have changed.
boxlite_status boxlite_import_options_set_trusted(struct boxlite_import_options *options,
                                                  bool trusted,
                                                  struct boxlite_error **error);

/// Makes a box of an archive that boxlite_box_export() has written, here or elsewhere. Archives may
/// come from strangers: all of it is read and checked before there is a box. options may be NULL.
/// Progress is told in bytes of the archive. The result is a box: boxlite_op_take_box(). Cancelling
/// leaves nothing behind.
///
/// Errors of the operation: BOXLITE_NOT_FOUND (no such file), BOXLITE_INVALID_ARGUMENT (it is no
/// archive, damaged, not all there, or says of itself what is not so), BOXLITE_UNSUPPORTED (its
/// version, or disks with features that boxes' disks do not have), BOXLITE_ALREADY_EXISTS (the
/// name), BOXLITE_RESOURCE_EXHAUSTED (there is no room: 64 MiB stay free for boxes that run),
/// BOXLITE_STORAGE, BOXLITE_CANCELLED.
boxlite_status boxlite_box_import(struct boxlite_runtime *runtime,
                                  const char *path,
                                  const struct boxlite_import_options *options,
                                  struct boxlite_op **op,
                                  struct boxlite_error **error);

/// Lists the files of disks that the home has, by their paths: those of boxes, snapshots and
/// images, what these are based on, and what nobody needs. The result is a list:
/// boxlite_op_take_file_list().
boxlite_status boxlite_runtime_list_files(struct boxlite_runtime *runtime,
                                          struct boxlite_op **op,
                                          struct boxlite_error **error);

/// Removes the files of disks that nobody needs, or with dry_run finds out which these are.
/// Programs that died may leave such; most are removed when the home is opened next. The result is
/// a list of them: boxlite_op_take_file_list().
///
/// Errors of the operation: BOXLITE_BUSY (a program is changing which disks there are),
/// BOXLITE_STORAGE.
boxlite_status boxlite_runtime_prune(struct boxlite_runtime *runtime,
                                     bool dry_run,
                                     struct boxlite_op **op,
                                     struct boxlite_error **error);

/// Frees a list and all files in it; those of the home stay. NULL is fine.
void boxlite_file_list_free(struct boxlite_file_list *list);

/// The number of files in a list; 0 for NULL.
size_t boxlite_file_list_count(const struct boxlite_file_list *list);

/// A file of the list, from 0; NULL beyond the last. Borrowed: good until the list is freed.
const struct boxlite_stored_file *boxlite_file_list_get(const struct boxlite_file_list *list,
                                                        size_t index);

/// What the file is for, a boxlite_file_kind; -1 for NULL.
int32_t boxlite_stored_file_kind(const struct boxlite_stored_file *file);

/// Where the file is, relative to the home. Borrowed: good until the list is freed. NULL for NULL.
const char *boxlite_stored_file_path(const struct boxlite_stored_file *file);

/// The id of the box in whose directory it is; NULL if it is in none, and for NULL. Borrowed: good
/// until the list is freed.
const char *boxlite_stored_file_box_id(const struct boxlite_stored_file *file);

/// The name of the snapshot that it is of; NULL if it is of none, and for NULL. Borrowed: good
/// until the list is freed.
const char *boxlite_stored_file_name(const struct boxlite_stored_file *file);

/// The size of the disk that a guest sees, in bytes; 0 if it is no disk that can be read, and for
/// NULL.
uint64_t boxlite_stored_file_virtual_bytes(const struct boxlite_stored_file *file);

/// What the file takes on the host, in bytes; 0 for NULL.
uint64_t boxlite_stored_file_allocated_bytes(const struct boxlite_stored_file *file);

/// Adds a handle on an exec, to be freed like the first: execs are counted. Returns exec; NULL for
/// NULL.
struct boxlite_exec *boxlite_exec_ref(struct boxlite_exec *exec);

/// Frees a handle on an exec. With the last one, a command that runs goes on, for as long as its
/// box and this runtime do (a detached one for as long as its box does); its stdin is closed, what
/// it writes is dropped (of a detached one it is kept), and no callback is called any more, except
/// one that runs just now. Allowed inside its own callbacks. NULL is fine.
void boxlite_exec_free(struct boxlite_exec *exec);

/// Has callback called once when the command has ended and the output that has a callback has been
/// delivered to its last byte; also if it has ended already. Who reads by boxlite_exec_read() sees
/// the end of a stream there, and may read on after the exit.
/// Output that nobody takes does not hold up the exit, but a command that fills it waits; of a
/// detached command, which does not wait, the exit comes after its output was taken or discarded
/// (see boxlite_exec_discard()). A second call replaces a callback that was not called yet; NULL
/// removes it. destroy frees user_data, see boxlite_destroy.
boxlite_status boxlite_exec_on_exit(struct boxlite_exec *exec,
                                    boxlite_exit_callback callback,
                                    void *user_data,
                                    boxlite_destroy destroy,
                                    struct boxlite_error **error);

/// Waits until the command has ended and its callbacks were called, up to timeout_ms milliseconds;
/// negative: without end. This exec's callbacks run on this thread meanwhile, so nobody else has to
/// dispatch. *code, unless code is NULL, is the exit code, or 128 + signal; see
/// boxlite_exec_message() for 126 and 127.
///
/// Output that has no callback and was never read is dropped from now on, also if the time passes.
/// What is paused is waited for, until another thread resumes it.
///
/// BOXLITE_TIMEOUT if the command still runs; the box's error if that ended first. From inside a
/// callback: BOXLITE_BUSY.
boxlite_status boxlite_exec_wait(struct boxlite_exec *exec,
                                 int32_t timeout_ms,
                                 int32_t *code,
                                 struct boxlite_error **error);

/// Why the command could not be run, after it has exited with 126 or 127; NULL otherwise. Borrowed:
/// good until the exec is freed.
const char *boxlite_exec_message(const struct boxlite_exec *exec);

/// Sends a signal, by its number on x86-64 Linux, to the command's process group; 0 only asks
/// whether it is there. The operation has no result. Errors of the operation: BOXLITE_NOT_FOUND
/// (the command has ended), BOXLITE_INVALID_ARGUMENT (no such signal).
boxlite_status boxlite_exec_signal(struct boxlite_exec *exec,
                                   int32_t signal,
                                   struct boxlite_op **op,
                                   struct boxlite_error **error);

/// Has callback called with the command's stdout. Nothing is lost before: output waits, up to 256
/// KiB, until there is a callback; then the command waits, as on a pipe that nobody reads. A second
/// call replaces the callback; NULL removes it, and output waits again; see boxlite_exec_discard()
/// for output that nobody wants. destroy frees user_data, see boxlite_destroy.
boxlite_status boxlite_exec_on_stdout(struct boxlite_exec *exec,
                                      boxlite_output_callback callback,
                                      void *user_data,
                                      boxlite_destroy destroy,
                                      struct boxlite_error **error);

/// Has callback called with the command's stderr; otherwise as boxlite_exec_on_stdout().
boxlite_status boxlite_exec_on_stderr(struct boxlite_exec *exec,
                                      boxlite_output_callback callback,
                                      void *user_data,
                                      boxlite_destroy destroy,
                                      struct boxlite_error **error);

/// Drops what waits on an output and what comes, so that it holds nobody up: stream is
/// BOXLITE_STDOUT or BOXLITE_STDERR. Its callback is removed; it cannot be read any more. For good.
boxlite_status boxlite_exec_discard(struct boxlite_exec *exec,
                                    int32_t stream,
                                    struct boxlite_error **error);

/// Holds back an output's callback: stream is BOXLITE_STDOUT or BOXLITE_STDERR. Output then waits
/// as it does before there is a callback; the other streams go on. Another thread that is
/// dispatching just now may still make one call. Pausing twice is pausing once.
boxlite_status boxlite_exec_pause(struct boxlite_exec *exec,
                                  int32_t stream,
                                  struct boxlite_error **error);

/// Lets an output's callback be called again, after boxlite_exec_pause(). No effect if it may.
boxlite_status boxlite_exec_resume(struct boxlite_exec *exec,
                                   int32_t stream,
                                   struct boxlite_error **error);

/// Reads an output that has no callback: for programs that would rather pull. stream is
/// BOXLITE_STDOUT or BOXLITE_STDERR; up to capacity bytes, at least 1, are written to data, and
/// their number to *length: 0 is the end of the stream. Does not wait.
///
/// BOXLITE_WOULD_BLOCK if there is nothing now: boxlite_exec_on_ready() tells when there is.
/// BOXLITE_GAP, once, where bytes are no longer held (only of commands that are followed): the next
/// call goes on behind them, and boxlite_exec_lost() counts them.
/// BOXLITE_INVALID_STATE if the stream has a callback or is being dropped. A stream that was cut
/// off by the end of its box has that error in place of its end.
boxlite_status boxlite_exec_read(struct boxlite_exec *exec,
                                 int32_t stream,
                                 uint8_t *data,
                                 size_t capacity,
                                 size_t *length,
                                 struct boxlite_error **error);

/// Has callback called whenever a stream on which boxlite_exec_read() or boxlite_exec_write() has
/// returned BOXLITE_WOULD_BLOCK is ready again. A second call replaces the callback; NULL removes
/// it. destroy frees user_data, see boxlite_destroy.
boxlite_status boxlite_exec_on_ready(struct boxlite_exec *exec,
                                     boxlite_ready_callback callback,
                                     void *user_data,
                                     boxlite_destroy destroy,
                                     struct boxlite_error **error);

/// Writes to the command's stdin what it takes now, at least one byte of a length that is not 0.
/// *written is the number of bytes, which may be less than length: go on with the rest. Up to 128
/// KiB, beside what a pipe holds, wait for the command to read them; one that has closed its stdin
/// loses them. Does not wait.
///
/// BOXLITE_WOULD_BLOCK if it takes none now: boxlite_exec_on_ready() tells when it does.
/// BOXLITE_INVALID_STATE if there is no stdin, it was closed, or the command has ended.
boxlite_status boxlite_exec_write(struct boxlite_exec *exec,
                                  const uint8_t *data,
                                  size_t length,
                                  size_t *written,
                                  struct boxlite_error **error);

/// Ends the command's stdin: it reads end of file after what was written. Once is enough.
boxlite_status boxlite_exec_close_stdin(struct boxlite_exec *exec, struct boxlite_error **error);

/// Lists the commands that run in the box, whichever program has started them, and detached ones
/// that have ended: the last 32, and the main process. A box that does not run has none. The result
/// is a list: boxlite_op_take_exec_list().
boxlite_status boxlite_box_list_execs(struct boxlite_box *box,
                                      struct boxlite_op **op,
                                      struct boxlite_error **error);

/// Follows the output of a detached command, whichever program has started it: from the offsets
/// stdout_from and stderr_from on, in bytes since its beginning. exec_id is that of
/// boxlite_exec_info_id() or boxlite_exec_id(). What is no longer held is a gap, see
/// boxlite_exec_on_gap(). Any number of programs may follow a command, and none holds it or another
/// up. There is no stdin; signals work. When the box has ended, what it left can be followed until
/// it is started again. The result is an exec: boxlite_op_take_exec().
///
/// Errors of the operation: BOXLITE_NOT_FOUND (no such command, or it ended long ago),
/// BOXLITE_INVALID_STATE (it is not detached), BOXLITE_INVALID_ARGUMENT (an offset beyond what it
/// has written), BOXLITE_UNSUPPORTED (the box is run by another version of the library).
boxlite_status boxlite_box_attach(struct boxlite_box *box,
                                  uint32_t exec_id,
                                  uint64_t stdout_from,
                                  uint64_t stderr_from,
                                  struct boxlite_op **op,
                                  struct boxlite_error **error);

/// Follows the output of the box's main process, or that of its last run if the box has ended;
/// otherwise as boxlite_box_attach(). BOXLITE_INVALID_STATE if the box has none,
/// BOXLITE_NOT_FOUND if it was never started.
boxlite_status boxlite_box_attach_main(struct boxlite_box *box,
                                       uint64_t stdout_from,
                                       uint64_t stderr_from,
                                       struct boxlite_op **op,
                                       struct boxlite_error **error);

/// The number by which any program can attach to the command, if it is detached: unique in a run of
/// its box. 0 for NULL, and for a command that could not be run.
uint32_t boxlite_exec_id(const struct boxlite_exec *exec);

/// The offset of the next byte that this handle delivers of a stream, BOXLITE_STDOUT or
/// BOXLITE_STDERR: where boxlite_box_attach() would go on. 0 for NULL and for a number that is no
/// such stream.
uint64_t boxlite_exec_offset(const struct boxlite_exec *exec, int32_t stream);

/// How many bytes of a stream, BOXLITE_STDOUT or BOXLITE_STDERR, were gone when it was their turn
/// to be delivered by this handle; 0 for NULL and for a number that is no such stream.
uint64_t boxlite_exec_lost(const struct boxlite_exec *exec, int32_t stream);

/// Has callback called where bytes of an output that has a callback are no longer held: in order,
/// between what came before and what comes after them. Only commands that are followed have gaps.
/// Without it they are only counted, see boxlite_exec_lost(). A second call replaces the callback;
/// NULL removes it. destroy frees user_data, see boxlite_destroy.
boxlite_status boxlite_exec_on_gap(struct boxlite_exec *exec,
                                   boxlite_gap_callback callback,
                                   void *user_data,
                                   boxlite_destroy destroy,
                                   struct boxlite_error **error);

/// Frees a list and all information in it. NULL is fine.
void boxlite_exec_list_free(struct boxlite_exec_list *list);

/// The number of commands in a list; 0 for NULL.
size_t boxlite_exec_list_count(const struct boxlite_exec_list *list);

/// The information on a command of the list, from 0, in the order in which they were started; NULL
/// beyond the last. Borrowed: good until the list is freed.
const struct boxlite_exec_info *boxlite_exec_list_get(const struct boxlite_exec_list *list,
                                                      size_t index);

/// The number by which any program can attach to the command, if it is detached; 0 for NULL.
uint32_t boxlite_exec_info_id(const struct boxlite_exec_info *info);

/// How many arguments are known, the command itself included: as many as fit into 512 bytes. 0 for
/// NULL.
size_t boxlite_exec_info_argument_count(const struct boxlite_exec_info *info);

/// An argument, from 0, which is the command; NULL beyond the last. Bytes that are not UTF-8 are
/// replaced. Borrowed: good until the list is freed.
const char *boxlite_exec_info_argument(const struct boxlite_exec_info *info, size_t index);

/// When the command was started, RFC 3339 in UTC. Borrowed: good until the list is freed. NULL for
/// NULL.
const char *boxlite_exec_info_started_at(const struct boxlite_exec_info *info);

/// Whether it is the box's main process; false for NULL.
bool boxlite_exec_info_is_main(const struct boxlite_exec_info *info);

/// Whether its output can be followed, by boxlite_box_attach(): it is detached, or the main
/// process. Otherwise it belongs to the program that started it. False for NULL.
bool boxlite_exec_info_is_detached(const struct boxlite_exec_info *info);

/// Whether it runs; false for NULL.
bool boxlite_exec_info_is_running(const struct boxlite_exec_info *info);

/// The exit code, or 128 + signal; -1 while it runs, and for NULL.
int32_t boxlite_exec_info_code(const struct boxlite_exec_info *info);

/// The signal that ended it, by its number on x86-64 Linux; 0 for none, while it runs, and for
/// NULL.
int32_t boxlite_exec_info_signal(const struct boxlite_exec_info *info);

/// The offset of the first byte of a stream, BOXLITE_STDOUT or BOXLITE_STDERR, that was still held;
/// 0 if it is not detached, for NULL, and for a number that is no such stream.
uint64_t boxlite_exec_info_first(const struct boxlite_exec_info *info, int32_t stream);

/// How many bytes a stream, BOXLITE_STDOUT or BOXLITE_STDERR, had; 0 if it is not detached, for
/// NULL, and for a number that is no such stream.
uint64_t boxlite_exec_info_total(const struct boxlite_exec_info *info, int32_t stream);

/// Runs a command in the box, which is started first if it does not run, and gathers its output: of
/// stdout and of stderr up to limit bytes each, SIZE_MAX for all; the rest is counted and dropped,
/// and the command is not held up. It reads end of file on stdin. options may be freed afterwards.
/// The result is an output: boxlite_op_take_output(). Cancelling the operation kills the command.
///
/// Errors of the operation: those of boxlite_box_exec(). A command that ends with a code other than
/// 0, or cannot be found, is no error.
boxlite_status boxlite_box_run(struct boxlite_box *box,
                               const struct boxlite_exec_options *options,
                               size_t limit,
                               struct boxlite_op **op,
                               struct boxlite_error **error);

/// Runs one command in a new box made from an image, waits for its end, and removes the box. argv
/// has argc strings; with argc 0 (argv may be NULL) the image's own command is run. runtime may be
/// NULL: the default home is opened for this call. limit and *output are as for boxlite_box_run().
/// timeout_ms milliseconds are for the command and all that goes before it; negative: without end.
/// This call blocks although its name does not say so; from inside a callback:
/// BOXLITE_BUSY.
///
/// Errors: those of boxlite_runtime_open(), boxlite_box_create() and boxlite_box_exec();
/// BOXLITE_TIMEOUT, after which the box is gone too.
boxlite_status boxlite_run(struct boxlite_runtime *runtime,
                           const char *image,
                           const char *const *argv,
                           size_t argc,
                           size_t limit,
                           int32_t timeout_ms,
                           struct boxlite_output **output,
                           struct boxlite_error **error);

/// As boxlite_run(), for programs that do not wait: runs a command in a new box, and removes the
/// box. Both options may be freed afterwards; limit is as for boxlite_box_run(). The result is an
/// output: boxlite_op_take_output(). Cancelled, or in whatever way it ends, the operation completes
/// when the box is gone.
boxlite_status boxlite_runtime_run(struct boxlite_runtime *runtime,
                                   const struct boxlite_box_options *box_options,
                                   const struct boxlite_exec_options *exec_options,
                                   size_t limit,
                                   struct boxlite_op **op,
                                   struct boxlite_error **error);

/// Frees an output. NULL is fine.
void boxlite_output_free(struct boxlite_output *output);

/// The command's exit code, or 128 + signal if a signal ended it; -1 for NULL.
int32_t boxlite_output_code(const struct boxlite_output *output);

/// The signal that ended the command, by its number on x86-64 Linux; 0 if none did, and for NULL.
int32_t boxlite_output_signal(const struct boxlite_output *output);

/// Why the command could not be run, if its code is 126 or 127; NULL otherwise. Borrowed: good
/// until the output is freed.
const char *boxlite_output_message(const struct boxlite_output *output);

/// The bytes of a stream, BOXLITE_STDOUT or BOXLITE_STDERR, and their number in *length, unless
/// length is NULL. A NUL follows them that does not count. Never NULL: "" for NULL and for a number
/// that is no such stream. Borrowed: good until the output is freed.
const uint8_t *boxlite_output_bytes(const struct boxlite_output *output,
                                    int32_t stream,
                                    size_t *length);

/// How many bytes a stream, BOXLITE_STDOUT or BOXLITE_STDERR, had beyond the limit; 0 for NULL.
uint64_t boxlite_output_dropped(const struct boxlite_output *output, int32_t stream);

/// Adds a handle on an operation, to be freed like the first: operations are counted. Returns op;
/// NULL for NULL.
struct boxlite_op *boxlite_op_ref(struct boxlite_op *op);

/// Frees a handle on an operation. With the last one, while it is under way the work goes on and
/// its result is dropped; no callback is called any more, except one that runs just now. Allowed
/// inside its own callbacks. NULL is fine.
void boxlite_op_free(struct boxlite_op *op);

/// Whether the operation has completed, well or not; false for NULL.
bool boxlite_op_is_done(const struct boxlite_op *op);

/// How the operation ended: BOXLITE_OK if it succeeded, its own status and error if it failed,
/// BOXLITE_WOULD_BLOCK if it is still under way. Does not wait; for completion callbacks, where
/// boxlite_op_wait() is not allowed.
boxlite_status boxlite_op_status(const struct boxlite_op *op, struct boxlite_error **error);

/// Waits until the operation has completed, up to timeout_ms milliseconds; negative: without end.
/// Works whether or not anybody dispatches, from any number of threads. Returns BOXLITE_OK if the
/// operation succeeded, its own status and error if it failed, BOXLITE_TIMEOUT if it is still under
/// way (boxlite_op_is_done() tells that from an operation that failed so itself). From inside a
/// callback: BOXLITE_BUSY.
boxlite_status boxlite_op_wait(struct boxlite_op *op,
                               int32_t timeout_ms,
                               struct boxlite_error **error);

/// Asks an operation to stop. It then completes with BOXLITE_CANCELLED, or with its result if that
/// was faster. A box that was half made or half started is undone before that, a command is killed;
/// a stop or a removal that has begun goes on. No effect on an operation that has completed.
boxlite_status boxlite_op_cancel(struct boxlite_op *op, struct boxlite_error **error);

/// Has callback called once when the operation has completed, inside boxlite_dispatch(); also if it
/// has completed already. A second call replaces a callback that was not called yet; NULL removes
/// it. destroy frees user_data, see boxlite_destroy.
boxlite_status boxlite_op_on_complete(struct boxlite_op *op,
                                      boxlite_op_callback callback,
                                      void *user_data,
                                      boxlite_destroy destroy,
                                      struct boxlite_error **error);

/// Has callback called with the operation's progress, inside boxlite_dispatch(), before its
/// completion. What happened before this call is reported too, the last 64 steps of it. A second
/// call replaces the callback; NULL removes it. destroy frees user_data, see boxlite_destroy.
boxlite_status boxlite_op_on_progress(struct boxlite_op *op,
                                      boxlite_progress_callback callback,
                                      void *user_data,
                                      boxlite_destroy destroy,
                                      struct boxlite_error **error);

/// Takes the box that boxlite_box_create(), boxlite_box_import() or boxlite_box_get() resulted in,
/// or the next one of boxlite_box_clone(), in the order of the names. *box_out is owned by the
/// caller. BOXLITE_INVALID_STATE before completion, for another type, and when all was taken; the
/// operation's own error if it failed.
boxlite_status boxlite_op_take_box(struct boxlite_op *op,
                                   struct boxlite_box **box_out,
                                   struct boxlite_error **error);

/// Takes the exec that boxlite_box_exec() or boxlite_box_attach() resulted in. *exec is owned by
/// the caller. Errors as for boxlite_op_take_box().
boxlite_status boxlite_op_take_exec(struct boxlite_op *op,
                                    struct boxlite_exec **exec,
                                    struct boxlite_error **error);

/// Takes the information that boxlite_box_inspect() resulted in. *info is owned by the caller.
/// Errors as for boxlite_op_take_box().
boxlite_status boxlite_op_take_info(struct boxlite_op *op,
                                    struct boxlite_box_info **info,
                                    struct boxlite_error **error);

/// Takes the list that boxlite_box_list_execs() resulted in. *list is owned by the caller. Errors
/// as for boxlite_op_take_box().
boxlite_status boxlite_op_take_exec_list(struct boxlite_op *op,
                                         struct boxlite_exec_list **list,
                                         struct boxlite_error **error);

/// Takes the list that boxlite_box_list() resulted in. *list is owned by the caller. Errors as for
/// boxlite_op_take_box().
boxlite_status boxlite_op_take_info_list(struct boxlite_op *op,
                                         struct boxlite_info_list **list,
                                         struct boxlite_error **error);

/// Takes the snapshot that boxlite_box_snapshot_create() or boxlite_box_snapshot_get() resulted
/// in. *snapshot is owned by the caller; NULL if there is none of that name. Errors as for
/// boxlite_op_take_box().
boxlite_status boxlite_op_take_snapshot(struct boxlite_op *op,
                                        struct boxlite_snapshot **snapshot,
                                        struct boxlite_error **error);

/// Takes the list that boxlite_box_snapshot_list() resulted in. *list is owned by the caller.
/// Errors as for boxlite_op_take_box().
boxlite_status boxlite_op_take_snapshot_list(struct boxlite_op *op,
                                             struct boxlite_snapshot_list **list,
                                             struct boxlite_error **error);

/// Takes the list that boxlite_runtime_list_files() or boxlite_runtime_prune() resulted in. *list
/// is owned by the caller. Errors as for boxlite_op_take_box().
boxlite_status boxlite_op_take_file_list(struct boxlite_op *op,
                                         struct boxlite_file_list **list,
                                         struct boxlite_error **error);

/// Takes the output that boxlite_box_run() resulted in. *output is owned by the caller. Errors as
/// for boxlite_op_take_box().
boxlite_status boxlite_op_take_output(struct boxlite_op *op,
                                      struct boxlite_output **output,
                                      struct boxlite_error **error);

/// Takes the metrics that boxlite_box_metrics() or boxlite_runtime_metrics() resulted in. *metrics
/// is owned by the caller. Errors as for boxlite_op_take_box().
boxlite_status boxlite_op_take_metrics(struct boxlite_op *op,
                                       struct boxlite_metrics **metrics,
                                       struct boxlite_error **error);

/// Takes the text that boxlite_runtime_metrics_text() or boxlite_box_export() resulted in. *text is
/// owned by the caller. Errors as for boxlite_op_take_box().
boxlite_status boxlite_op_take_text(struct boxlite_op *op,
                                    struct boxlite_text **text,
                                    struct boxlite_error **error);

/// The name of the stage that is done, or has begun, for people; NULL if this is a count of bytes.
/// Borrowed: good until the callback returns.
const char *boxlite_progress_stage(const struct boxlite_progress *progress);

/// Whether the stage has just begun: one that takes long and is not gone through every time, as
/// "preparing machine template". Others are reported when they are done. False for NULL.
bool boxlite_progress_began(const struct boxlite_progress *progress);

/// How long the stage took, in microseconds; 0 if it has just begun, or this is a count of bytes.
uint64_t boxlite_progress_microseconds(const struct boxlite_progress *progress);

/// The bytes of the image that were processed; 0 if this is a stage.
uint64_t boxlite_progress_bytes_done(const struct boxlite_progress *progress);

/// The bytes of the image that there are to process; 0 if this is a stage.
uint64_t boxlite_progress_bytes_total(const struct boxlite_progress *progress);

/// Has callback called, inside boxlite_dispatch(), with what happens to boxes from now on: what
/// this runtime does, and what happens to boxes that it runs or is connected to, whoever does it.
/// What another program does to boxes that this runtime has never used is not seen. Events of one
/// box come in the order in which they happened, each once, and the end of a command before that of
/// its box.
///
/// Up to capacity events wait for a dispatch, 1 to 65536, or 0 for 1024. When there is no room,
/// newer ones are counted, and a BOXLITE_EVENT_OVERFLOW stands in their place. Each subscription
/// has events and a count of its own. *subscription is owned by the caller. destroy frees
/// user_data, see boxlite_destroy.
boxlite_status boxlite_runtime_subscribe(struct boxlite_runtime *runtime,
                                         uint32_t capacity,
                                         boxlite_event_callback callback,
                                         void *user_data,
                                         boxlite_destroy destroy,
                                         struct boxlite_subscription **subscription,
                                         struct boxlite_error **error);

/// Ends a subscription: its callback is not called any more, except one that runs just now. Allowed
/// inside its own callback. NULL is fine.
void boxlite_subscription_free(struct boxlite_subscription *subscription);

/// What happened, a boxlite_event_kind; -1 for NULL.
int32_t boxlite_event_what(const struct boxlite_event *event);

/// The name of a boxlite_event_kind, such as "box started"; "unknown" for a number that is none.
/// Static: good for ever.
const char *boxlite_event_kind_name(int32_t kind);

/// The id of the box that it happened to; "" for an overflow. Borrowed: good until the callback
/// returns. NULL for NULL.
const char *boxlite_event_box_id(const struct boxlite_event *event);

/// The box's name; NULL if it has none, for an overflow, and for NULL. Borrowed: good until the
/// callback returns.
const char *boxlite_event_box_name(const struct boxlite_event *event);

/// What there is to tell of it, see boxlite_event_kind; NULL if there is nothing, and for NULL.
/// Borrowed: good until the callback returns.
const char *boxlite_event_text(const struct boxlite_event *event);

/// When it happened, in microseconds since the Unix epoch by the host's clock; 0 for NULL.
uint64_t boxlite_event_microseconds(const struct boxlite_event *event);

/// The number of the command that started or ended, which boxlite_exec_id() tells too; 0 if it is
/// about none, if the command could not be run, and for NULL.
uint32_t boxlite_event_exec(const struct boxlite_event *event);

/// The exit code of the command that ended, or 128 + signal; -1 if its box ended before it. 0 if no
/// command ended, and for NULL.
int32_t boxlite_event_code(const struct boxlite_event *event);

/// The signal that ended the command, by its number on x86-64 Linux; 0 if none did, and for NULL.
int32_t boxlite_event_signal(const struct boxlite_event *event);

/// How many events are missing in the place of a BOXLITE_EVENT_OVERFLOW; 0 otherwise, and for NULL.
uint64_t boxlite_event_lost(const struct boxlite_event *event);

/// Asks what the box has done since it was started, and what it takes. The result is metrics:
/// boxlite_op_take_metrics(). A guest that does not answer is waited for up to 2 s, and then left
/// out. Errors of the operation: BOXLITE_INVALID_STATE (it does not run), BOXLITE_TIMEOUT (its
/// supervisor does not answer), BOXLITE_STOPPED or BOXLITE_ENGINE (it ended meanwhile).
boxlite_status boxlite_box_metrics(struct boxlite_box *box,
                                   struct boxlite_op **op,
                                   struct boxlite_error **error);

/// Asks what this runtime has done since it was opened. The result is metrics:
/// boxlite_op_take_metrics().
boxlite_status boxlite_runtime_metrics(struct boxlite_runtime *runtime,
                                       struct boxlite_op **op,
                                       struct boxlite_error **error);

/// Asks for the metrics of this runtime, and of the running boxes that it has started or is
/// connected to, in the text format of Prometheus (0.0.4): names begin with "boxlite_", times are
/// in seconds, and those of a box have the labels id and name ("" for one without). A box that does
/// not answer is not in it. The result is a text: boxlite_op_take_text().
boxlite_status boxlite_runtime_metrics_text(struct boxlite_runtime *runtime,
                                            struct boxlite_op **op,
                                            struct boxlite_error **error);

/// The value of a metric, by a boxlite_metric. Counts are whole numbers. -1 if it is not available,
/// if it is one of a box and these are of a runtime or the other way round, for a number that is
/// none, and for NULL.
double boxlite_metrics_get(const struct boxlite_metrics *metrics, int32_t metric);

/// Frees metrics. NULL is fine.
void boxlite_metrics_free(struct boxlite_metrics *metrics);

/// The text, NUL-terminated. Never NULL; "" for NULL. Borrowed: good until the text is freed.
const char *boxlite_text_get(const struct boxlite_text *text);

/// Frees a text. NULL is fine.
void boxlite_text_free(struct boxlite_text *text);

/// Has callback called with what the library tells of its work on this runtime, inside
/// boxlite_dispatch(): level, a boxlite_log_level, and what is graver. Off by default; a second
/// call replaces level and callback; NULL, BOXLITE_LOG_OFF, or freeing the last handle on the
/// runtime ends it. Up to 1024 messages wait for a dispatch, then the oldest are dropped and
/// counted in a message. Programs in Rust listen with `tracing` instead. destroy frees user_data,
/// see boxlite_destroy.
boxlite_status boxlite_runtime_on_log(struct boxlite_runtime *runtime,
                                      int32_t level,
                                      boxlite_log_callback callback,
                                      void *user_data,
                                      boxlite_destroy destroy,
                                      struct boxlite_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BOXLITE_H */
