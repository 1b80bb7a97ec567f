//! Option builders. Each is used by one thread at a time; the objects made from it keep copies.

use std::ffi::c_char;
use std::time::Duration;

use super::error::{boxlite_error, boxlite_status, guard};
use super::pointer::{self, Out, Owned};
use super::text;
use crate::disk::overlay::DiskFormat;
use crate::engine::AcceleratorChoice;
use crate::error::{Code, Error};
use crate::{BoxOptions, ExecOptions, HealthCheck, RuntimeOptions};

/// How a home is to be used. Owned by the caller. One thread at a time.
pub struct boxlite_runtime_options(pub(super) RuntimeOptions);
impl Owned for boxlite_runtime_options {}

/// How a box is to be made. Owned by the caller. One thread at a time.
pub struct boxlite_box_options(pub(super) BoxOptions);
impl Owned for boxlite_box_options {}

/// What is to be run in a box. Owned by the caller. One thread at a time.
pub struct boxlite_exec_options(pub(super) ExecOptions);
impl Owned for boxlite_exec_options {}

/// What executes the guests' instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_accelerator {
    /// KVM where it is proven to work, else TCG.
    BOXLITE_ACCELERATOR_AUTO = 0,
    /// KVM, or BOXLITE_UNSUPPORTED_ENGINE: never a silent fall-back.
    BOXLITE_ACCELERATOR_KVM = 1,
    /// QEMU's translator: works everywhere, and is no security boundary.
    BOXLITE_ACCELERATOR_TCG = 2,
}

/// Makes runtime options with every default in place. Setters check at once; one that fails
/// changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_new(
    options: *mut *mut boxlite_runtime_options,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(options, "options")?;
            out.give(boxlite_runtime_options(RuntimeOptions::new()));
            Ok(())
        })
    }
}

/// Frees runtime options. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_free(options: *mut boxlite_runtime_options) {
    // SAFETY: live options that are not used again, or NULL.
    drop(unsafe { pointer::take_back(options) });
}

/// Sets the home directory. It is made when it is opened, if it does not exist, for its owner
/// only. Unless set: $BOXLITE_HOME, else ~/.boxlite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_home(
    options: *mut boxlite_runtime_options,
    path: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.home(text::string(path, "path")?)
        })
    }
}

/// Sets the directory of the helper programs, the guest kernel and the initramfs. Unless set:
/// $BOXLITE_LIBEXEC, else beside the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_libexec(
    options: *mut boxlite_runtime_options,
    path: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.libexec(text::string(path, "path")?)
        })
    }
}

/// Sets what may execute the guests' instructions, a boxlite_accelerator. Unless set:
/// $BOXLITE_ACCELERATOR (auto, kvm or tcg), else auto.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_accelerator(
    options: *mut boxlite_runtime_options,
    accelerator: i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.accelerator(match accelerator {
                0 => AcceleratorChoice::Auto,
                1 => AcceleratorChoice::Kvm,
                2 => AcceleratorChoice::Tcg,
                other => {
                    let text = format!("accelerator: {other} is no boxlite_accelerator");
                    return Err(Error::new(Code::InvalidArgument, text).object("accelerator"));
                }
            });
            Ok(())
        })
    }
}

/// Sets how old a machine template may become, in seconds, before it is made anew: 1 or more, a
/// day unless set. Boxes restored from one template share the layout of the agent's memory and
/// what their kernel drew when it booted; see docs/security.md.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_template_age_s(
    options: *mut boxlite_runtime_options,
    seconds: u64,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.template_max_age(Duration::from_secs(seconds))
        })
    }
}

/// Sets the space that machine templates may take in the home, in MiB; 2048 unless set. When one
/// is made, those that were used longest ago are removed, but none that a running box is made
/// from.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_templates_mib(
    options: *mut boxlite_runtime_options,
    space: u64,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.template_space(space.saturating_mul(1 << 20));
            Ok(())
        })
    }
}

/// Sets whether the disk of an image gets a machine template of its own, with that disk mounted,
/// when a box of it is started for the first time: yes unless set. Every later first start of a
/// box with the same image, disk size, processors and memory then takes half as long. Each such
/// template takes half a second to make, and some 50 MiB of the space that templates may take.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_disk_templates(
    options: *mut boxlite_runtime_options,
    wanted: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.disk_templates(wanted);
            Ok(())
        })
    }
}

/// Sets how many machines wait for boxes, 0 to 64; none unless set. A box that gets one starts in
/// a fraction of the time. They are made while nothing is being started, one at a time, from a
/// machine template, and have rehearsed what a start does; each stands still meanwhile, and takes
/// some 100 MiB of memory. One is made only if a box of its size could be started. They are gone
/// with the runtime, and after boxlite_runtime_shutdown(); nobody waits for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_pool_size(
    options: *mut boxlite_runtime_options,
    machines: u32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe { guard(error, || pointer::borrow_mut(options, "options")?.0.pool_size(machines)) }
}

/// Sets the image that the waiting machines are for, as boxlite_box_options_new() takes it, and
/// the size of a box's disk in MiB (16 to 16777216; a box has 10240 unless told otherwise). Such
/// a machine has the image's disk mounted: a box of that image and disk size gets one when it
/// starts for the first time, in half the time of one that is for any image; all other starts go
/// without. An image that cannot be had is an entry in the log, and no machine waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_pool_image(
    options: *mut boxlite_runtime_options,
    image: *const c_char,
    disk_size_mib: u64,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.pool_image(text::string(image, "image")?, disk_size_mib)
        })
    }
}

/// Sets what the machines have that wait for boxes: 1 to 64 virtual CPUs, and 128 to 1048576 MiB
/// of memory; 1 and 512 unless set, as a box. A box with other numbers, or with a cold boot,
/// starts as if none waited.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_options_set_pool_machine(
    options: *mut boxlite_runtime_options,
    cpus: u32,
    memory_mib: u32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || pointer::borrow_mut(options, "options")?.0.pool_machine(cpus, memory_mib))
    }
}

/// Makes box options for an image: a directory with an OCI layout, or a file that is an OCI or
/// `docker save` archive; "PATH:TAG" chooses among several images (more forms: docs/images.md). It
/// is read when the box is made. Everything else has a default: 1 CPU, 512 MiB of memory, a sparse
/// disk of 10 GiB, the image's own environment, working directory, user and command.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_new(
    image: *const c_char,
    options: *mut *mut boxlite_box_options,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(options, "options")?;
            out.give(boxlite_box_options(BoxOptions::new(text::string(image, "image")?)?));
            Ok(())
        })
    }
}

/// What a disk's file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_disk_format {
    /// The disk's bytes, and nothing else.
    BOXLITE_DISK_RAW = 0,
    /// QEMU's format, version 2 or 3, complete in one file.
    BOXLITE_DISK_QCOW2 = 1,
}

/// Makes box options for a disk that was made elsewhere: a file with an ext4 file system, without
/// partitions, in a format, a boxlite_disk_format. It is read, checked and copied when the box is
/// made, and may come from a stranger. The box has no image: no environment, working directory,
/// user or command but those that are set. Its disk is as large as the file's unless it is set
/// larger. Nobody may write to the file meanwhile.
///
/// boxlite_box_create() has these errors then: BOXLITE_NOT_FOUND, BOXLITE_UNSUPPORTED (another file
/// system; a file that is based on another, is encrypted, or has features that are not known),
/// BOXLITE_STORAGE (it is damaged), BOXLITE_INVALID_ARGUMENT (a size smaller than the disk's).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_new_from_disk(
    path: *const c_char,
    format: i32,
    options: *mut *mut boxlite_box_options,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(options, "options")?;
            let path = text::string(path, "path")?;
            let format = match format {
                f if f == boxlite_disk_format::BOXLITE_DISK_RAW as i32 => DiskFormat::Raw,
                f if f == boxlite_disk_format::BOXLITE_DISK_QCOW2 as i32 => DiskFormat::Qcow2,
                other => {
                    let text = format!("format: {other} is no boxlite_disk_format");
                    return Err(Error::new(Code::InvalidArgument, text).object("format"));
                }
            };
            out.give(boxlite_box_options(BoxOptions::from_disk(path, format)?));
            Ok(())
        })
    }
}

/// Frees box options. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_free(options: *mut boxlite_box_options) {
    // SAFETY: live options that are not used again, or NULL.
    drop(unsafe { pointer::take_back(options) });
}

/// Sets the box's name, unique in its home: 1 to 128 of [A-Za-z0-9_.-], first a letter or digit.
/// The box's host name is made from it, or else from its id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_name(
    options: *mut boxlite_box_options,
    name: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.name(text::string(name, "name")?)
        })
    }
}

/// Sets the number of virtual CPUs, 1 to 64.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_cpus(
    options: *mut boxlite_box_options,
    cpus: u32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe { guard(error, || pointer::borrow_mut(options, "options")?.0.cpus(cpus)) }
}

/// Sets the memory in MiB, 128 to 1048576.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_memory_mib(
    options: *mut boxlite_box_options,
    memory_mib: u32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe { guard(error, || pointer::borrow_mut(options, "options")?.0.memory_mib(memory_mib)) }
}

/// Sets the disk's size in MiB, 16 to 16777216, and no less than the image needs. The disk takes
/// only the space that is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_disk_size_mib(
    options: *mut boxlite_box_options,
    disk_size_mib: u64,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || pointer::borrow_mut(options, "options")?.0.disk_size_mib(disk_size_mib))
    }
}

/// Sets an environment variable of the box's commands, over the image's. value may be "". May be
/// called many times; the last value of a name counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_add_env(
    options: *mut boxlite_box_options,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.env(text::string(name, "name")?, text::string(value, "value")?)
        })
    }
}

/// Sets the working directory of the box's commands, an absolute path, over the image's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_working_dir(
    options: *mut boxlite_box_options,
    path: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.working_dir(text::string(path, "path")?)
        })
    }
}

/// Sets the user of the box's commands over the image's: "user" or "user:group", names from the
/// image's own files, or numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_user(
    options: *mut boxlite_box_options,
    user: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.user(text::string(user, "user")?)
        })
    }
}

/// Sets the entrypoint in place of the image's, whose cmd then no longer counts. argv has argc
/// strings, which are copied; it may be NULL if argc is 0: no entrypoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_entrypoint(
    options: *mut boxlite_box_options,
    argv: *const *const c_char,
    argc: usize,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.entrypoint(text::strings(argv, argc, "argv")?)
        })
    }
}

/// Sets the arguments in place of the image's cmd. argv has argc strings, which are copied; it may
/// be NULL if argc is 0: no arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_cmd(
    options: *mut boxlite_box_options,
    argv: *const *const c_char,
    argc: usize,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.cmd(text::strings(argv, argc, "argv")?)
        })
    }
}

/// Sets how long a start may take until the guest answers, in milliseconds: 100 to 3600000; 60000
/// unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_start_timeout_ms(
    options: *mut boxlite_box_options,
    timeout_ms: u32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.start_timeout(Duration::from_millis(u64::from(timeout_ms)))
        })
    }
}

/// Sets whether the box's kernel is booted at each start, instead of being restored from a machine
/// template. That takes several times longer; no two boxes then share what is drawn at boot. False
/// unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_cold_boot(
    options: *mut boxlite_box_options,
    cold: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.cold_boot(cold);
            Ok(())
        })
    }
}

/// Sets whether the box is removed, with its disk, when it has stopped as it was meant to: by
/// boxlite_box_stop() or boxlite_runtime_shutdown(), or by itself while the program that started
/// it is there to see it. One that failed is kept, and so is one whose program died. No unless
/// set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_auto_remove(
    options: *mut boxlite_box_options,
    remove: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.auto_remove(remove);
            Ok(())
        })
    }
}

/// Sets after how many seconds without a command running in it the box is stopped, 1 to 31536000;
/// never unless set. The box's main process counts as a command, its health check does not, nor
/// does time in which the box is paused. boxlite_box_info_error() then tells that this was why.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_idle_stop_s(
    options: *mut boxlite_box_options,
    seconds: u64,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.idle_stop(Duration::from_secs(seconds))
        })
    }
}

/// Sets a command that says by its exit code whether the box is well: 0 if it is. argv has argc
/// strings, at least one, which are copied. It runs with the environment, user and working
/// directory of the box's commands; what it writes is dropped. See boxlite_box_info_health().
///
/// It runs interval_ms after the start of the box and after the end of the check before, and is
/// killed, and has failed, after timeout_ms; both are 100 to 86400000, and 0 stands for 30000.
/// The box counts as unhealthy when retries checks in a row have failed, 1 to 1000; 0 stands for
/// 3. Failures within start_period_ms of the start, up to 86400000, do not count until a check
/// has succeeded. Nothing else happens to an unhealthy box.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_set_health_check(
    options: *mut boxlite_box_options,
    argv: *const *const c_char,
    argc: usize,
    interval_ms: u64,
    timeout_ms: u64,
    retries: u32,
    start_period_ms: u64,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            let mut check = HealthCheck::new(text::strings(argv, argc, "argv")?)?;
            if interval_ms != 0 {
                check.interval(Duration::from_millis(interval_ms))?;
            }
            if timeout_ms != 0 {
                check.timeout(Duration::from_millis(timeout_ms))?;
            }
            if retries != 0 {
                check.retries(retries)?;
            }
            check.start_period(Duration::from_millis(start_period_ms))?;
            options.0.health_check(check);
            Ok(())
        })
    }
}

/// Sets a label of the box, which it is listed with and found by: at most 64. name is 1 to 63 of
/// [A-Za-z0-9._/-]; value may be "" and has at most 4096 bytes. The last value of a name counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_options_add_label(
    options: *mut boxlite_box_options,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.label(text::string(name, "name")?, text::string(value, "value")?)
        })
    }
}

/// Makes exec options for a command: argv has argc strings, at most 65536, which are copied. A
/// command without a slash is searched in the PATH of its environment. With argc 0 (argv may be
/// NULL) the box's own command is run: entrypoint and cmd, the box's or the image's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_options_new(
    argv: *const *const c_char,
    argc: usize,
    options: *mut *mut boxlite_exec_options,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(options, "options")?;
            let argv = text::strings(argv, argc, "argv")?;
            out.give(boxlite_exec_options(ExecOptions::new(argv)?));
            Ok(())
        })
    }
}

/// Frees exec options. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_options_free(options: *mut boxlite_exec_options) {
    // SAFETY: live options that are not used again, or NULL.
    drop(unsafe { pointer::take_back(options) });
}

/// Sets an environment variable, over the box's and the image's. value may be "". May be called
/// many times; the last value of a name counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_options_add_env(
    options: *mut boxlite_exec_options,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.env(text::string(name, "name")?, text::string(value, "value")?)
        })
    }
}

/// Sets the working directory, an absolute path; the box's unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_options_set_working_dir(
    options: *mut boxlite_exec_options,
    path: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.working_dir(text::string(path, "path")?)
        })
    }
}

/// Sets the user, "user" or "user:group", by names or numbers; the box's unless set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_options_set_user(
    options: *mut boxlite_exec_options,
    user: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let options = pointer::borrow_mut(options, "options")?;
            options.0.user(text::string(user, "user")?)
        })
    }
}

/// Sets whether the command gets a stdin that boxlite_exec_write() writes to. Without one, which
/// is the default, it reads end of file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_options_set_stdin(
    options: *mut boxlite_exec_options,
    enabled: bool,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            pointer::borrow_mut(options, "options")?.0.stdin(enabled);
            Ok(())
        })
    }
}
