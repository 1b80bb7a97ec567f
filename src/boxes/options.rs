//! What a user may ask for, and what is made of it.
//!
//! Setters check at once and name the field: an option that is silently ignored is a trap.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::main_process::{Main, OnMainExit};
use crate::channel::spool;
use crate::disk::overlay::DiskFormat;
use crate::error::{Code, Error, Result};

/// Virtual CPUs of a box: at least one, and not more than QEMU's translator handles sensibly.
pub const CPUS: std::ops::RangeInclusive<u32> = 1..=64;
/// Memory of a box in MiB: the kernel, the agent and a small program need the least of it.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 128..=1_048_576;
/// Size of a box's disk in MiB.
pub const DISK_SIZE_MIB: std::ops::RangeInclusive<u64> = 16..=16 * 1024 * 1024;

/// Machines that may wait for boxes.
pub const POOL_SIZE: std::ops::RangeInclusive<u32> = 0..=64;

/// What a box has unless asked otherwise.
pub const DEFAULT_CPUS: u32 = 1;
pub const DEFAULT_MEMORY_MIB: u32 = 512;
pub const DEFAULT_DISK_SIZE_MIB: u64 = 10 * 1024;
pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(60);
pub const DEFAULT_SPOOL_BYTES: u64 = 1 << 20;

const MAX_NAME: usize = 128;
const MAX_TEXT: usize = 128 * 1024;

const MAX_LABELS: usize = 64;
const MAX_LABEL_NAME: usize = 63;
const MAX_LABEL_VALUE: usize = 4096;

/// How a box is to be made. An image is enough; everything else has a default.
#[derive(Debug, Clone)]
pub struct BoxOptions {
    /// Its reference, or the path of a disk.
    pub(super) image: String,
    /// What the disk is in, if it is one.
    pub(super) disk: Option<DiskFormat>,
    pub(super) name: Option<String>,
    pub(super) cpus: u32,
    pub(super) memory_mib: u32,
    pub(super) disk_size_mib: u64,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) start_timeout: Duration,
    pub(super) cold_boot: bool,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) auto_remove: bool,
    pub(super) idle_stop: Option<Duration>,
    pub(super) health_check: Option<HealthCheck>,
    pub(super) detach: bool,
    pub(super) main: Main,
    pub(super) on_main_exit: OnMainExit,
    pub(super) spool_bytes: u64,
}

impl BoxOptions {
    /// A box from an image: an OCI layout directory, or an OCI or `docker save` archive.
    ///
    /// Defaults: no name, 1 CPU, 512 MiB of memory, a disk of 10 GiB (sparse), the image's own
    /// environment, working directory, user and command, 60 s to come up.
    pub fn new(image: impl Into<String>) -> Result<BoxOptions> {
        Ok(BoxOptions {
            image: text("image", image.into())?,
            disk: None,
            name: None,
            cpus: DEFAULT_CPUS,
            memory_mib: DEFAULT_MEMORY_MIB,
            disk_size_mib: DEFAULT_DISK_SIZE_MIB,
            env: Vec::new(),
            working_dir: None,
            user: None,
            entrypoint: None,
            cmd: None,
            start_timeout: DEFAULT_START_TIMEOUT,
            cold_boot: false,
            labels: BTreeMap::new(),
            auto_remove: false,
            idle_stop: None,
            health_check: None,
            detach: false,
            main: Main::None,
            on_main_exit: OnMainExit::Stop,
            spool_bytes: DEFAULT_SPOOL_BYTES,
        })
    }

    /// A box whose disk is a copy of a file with an ext4 file system, without partitions. It has no image:
    /// no environment, working directory, user or command but those that are set. Its disk is as large as
    /// the file's unless it is set larger.
    pub fn from_disk(path: impl Into<String>, format: DiskFormat) -> Result<BoxOptions> {
        let path = text("path", path.into())?;
        Ok(BoxOptions { disk: Some(format), disk_size_mib: 0, ..BoxOptions::new(path)? })
    }

    /// A name, unique in the home: 1 to 128 of `[A-Za-z0-9_.-]`, beginning with a letter or digit.
    pub fn name(&mut self, name: impl Into<String>) -> Result<()> {
        self.name = Some(box_name(name.into())?);
        Ok(())
    }

    /// The number of virtual CPUs, 1 to 64.
    pub fn cpus(&mut self, cpus: u32) -> Result<()> {
        self.cpus = within("cpus", cpus, &CPUS)?;
        Ok(())
    }

    /// Memory in MiB, 128 or more.
    pub fn memory_mib(&mut self, memory: u32) -> Result<()> {
        self.memory_mib = within("memory_mib", memory, &MEMORY_MIB)?;
        Ok(())
    }

    /// The disk's size in MiB: from what the image needs, up to 16 TiB. It takes only the space
    /// that is written.
    pub fn disk_size_mib(&mut self, size: u64) -> Result<()> {
        self.disk_size_mib = within("disk_size_mib", size, &DISK_SIZE_MIB)?;
        Ok(())
    }

    /// Sets an environment variable for the box's commands, over the image's.
    pub fn env(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<()> {
        let (name, value) = (text("env", name.into())?, value.into());
        if name.contains('=') {
            return Err(invalid("env", format!("the name '{name}' contains '='")));
        }
        if value.contains('\0') || value.len() > MAX_TEXT {
            return Err(invalid("env", format!("the value of {name} has a NUL or is too long")));
        }
        self.env.push((name, value));
        Ok(())
    }

    /// The working directory of the box's commands, an absolute path; the image's unless set.
    pub fn working_dir(&mut self, path: impl Into<String>) -> Result<()> {
        self.working_dir = Some(absolute("working_dir", path.into())?);
        Ok(())
    }

    /// The user of the box's commands, `user[:group]` by names or numbers; the image's unless set.
    pub fn user(&mut self, user: impl Into<String>) -> Result<()> {
        self.user = Some(text("user", user.into())?);
        Ok(())
    }

    /// The entrypoint in place of the image's, whose cmd then no longer counts. May be empty.
    pub fn entrypoint(&mut self, argv: Vec<String>) -> Result<()> {
        self.entrypoint = Some(arguments("entrypoint", argv)?);
        Ok(())
    }

    /// The arguments in place of the image's cmd. May be empty.
    pub fn cmd(&mut self, argv: Vec<String>) -> Result<()> {
        self.cmd = Some(arguments("cmd", argv)?);
        Ok(())
    }

    /// How long a start may take until the guest answers, 100 ms to an hour.
    pub fn start_timeout(&mut self, timeout: Duration) -> Result<()> {
        within("start_timeout_ms", millis(timeout), &(100..=3_600_000))?;
        self.start_timeout = timeout;
        Ok(())
    }

    /// Whether the box's kernel is booted at each start, instead of being restored from a template:
    /// several times slower, and nothing that a kernel draws when it boots is shared with another's.
    pub fn cold_boot(&mut self, cold: bool) {
        self.cold_boot = cold;
    }

    /// Sets a label, which the box is listed with, and found by: at most 64, each with a name of 1 to
    /// 63 of `[A-Za-z0-9._/-]` and a value of up to 4096 bytes. The last value of a name counts.
    pub fn label(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<()> {
        let (name, value) = (label_name(name.into())?, label_value(value.into())?);
        if self.labels.len() == MAX_LABELS && !self.labels.contains_key(&name) {
            return Err(invalid("name", format!("a box has at most {MAX_LABELS} labels")));
        }
        self.labels.insert(name, value);
        Ok(())
    }

    /// Whether the box is removed when it has stopped as it was meant to: by a stop, or by itself while
    /// the program that started it is there to see it. One that failed is kept, and so is one whose
    /// program died.
    pub fn auto_remove(&mut self, remove: bool) {
        self.auto_remove = remove;
    }

    /// After how long without a command running in it the box is stopped, 1 s to a year; never unless
    /// set. Its main process is a command, its health check is none.
    pub fn idle_stop(&mut self, after: Duration) -> Result<()> {
        within("idle_stop_s", after.as_secs(), &(1..=365 * 24 * 3600))?;
        self.idle_stop = Some(after);
        Ok(())
    }

    /// Whether the box outlives the program that starts it, however that ends. It runs until it is
    /// stopped, by any program, or stops by itself.
    pub fn detach(&mut self, detach: bool) {
        self.detach = detach;
    }

    /// Which command is started with the box; none unless set. The start fails if that does.
    pub fn main(&mut self, main: Main) -> Result<()> {
        if let Main::Argv(argv) = &main {
            let argv = arguments("main", argv.clone())?;
            if argv.first().is_none_or(String::is_empty) {
                return Err(invalid("main", "the command is empty"));
            }
        }
        self.main = main;
        Ok(())
    }

    /// What happens to the box when that command has ended: it is stopped unless set.
    pub fn on_main_exit(&mut self, what: OnMainExit) {
        self.on_main_exit = what;
    }

    /// How many of the last bytes are kept of each output of the main process, and of each detached
    /// command: 4 KiB to 1 GiB; 1 MiB unless set.
    pub fn spool_bytes(&mut self, bytes: u64) -> Result<()> {
        self.spool_bytes = within("spool_bytes", bytes, &spool::SIZES)?;
        Ok(())
    }

    /// How to find out whether the box is well; nobody asks unless set.
    pub fn health_check(&mut self, check: HealthCheck) {
        self.health_check = Some(check);
    }
}

/// That a disk can have this size, in MiB.
pub(super) fn disk_size(size_mib: u64) -> Result<u64> {
    within("size_mib", size_mib, &DISK_SIZE_MIB)
}

/// A command that says by its exit code whether a box is well: 0 if so. It has the environment, user and
/// working directory of the box's commands; what it writes is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub(super) argv: Vec<String>,
    pub(super) interval_ms: u64,
    pub(super) timeout_ms: u64,
    pub(super) retries: u32,
    pub(super) start_period_ms: u64,
}

impl HealthCheck {
    /// A command with its arguments: run every 30 s, for 30 s at most, until 3 in a row have failed.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Result<HealthCheck> {
        let argv = arguments("argv", argv.into_iter().map(Into::into).collect())?;
        if argv.first().is_none_or(String::is_empty) {
            return Err(invalid("argv", "the command is empty"));
        }
        let (interval_ms, timeout_ms) = (30_000, 30_000);
        Ok(HealthCheck { argv, interval_ms, timeout_ms, retries: 3, start_period_ms: 0 })
    }

    /// The time from the start of the box, or the end of one check, to the next: 100 ms to a day.
    pub fn interval(&mut self, interval: Duration) -> Result<()> {
        self.interval_ms = within("interval_ms", millis(interval), &(100..=DAY_MS))?;
        Ok(())
    }

    /// The same as another, if that keeps to the rules.
    pub(super) fn checked(other: &HealthCheck) -> Result<HealthCheck> {
        let mut check = HealthCheck::new(other.argv.clone())?;
        check.interval(Duration::from_millis(other.interval_ms))?;
        check.timeout(Duration::from_millis(other.timeout_ms))?;
        check.retries(other.retries)?;
        check.start_period(Duration::from_millis(other.start_period_ms))?;
        Ok(check)
    }

    /// How long a check may take before it is killed and has failed: 100 ms to a day.
    pub fn timeout(&mut self, timeout: Duration) -> Result<()> {
        self.timeout_ms = within("timeout_ms", millis(timeout), &(100..=DAY_MS))?;
        Ok(())
    }

    /// How many checks in a row fail before the box counts as unhealthy: 1 to 1000.
    pub fn retries(&mut self, retries: u32) -> Result<()> {
        self.retries = within("retries", retries, &(1..=1000))?;
        Ok(())
    }

    /// For how long after its start a box that was not well yet may fail checks: up to a day.
    pub fn start_period(&mut self, period: Duration) -> Result<()> {
        self.start_period_ms = within("start_period_ms", millis(period), &(0..=DAY_MS))?;
        Ok(())
    }
}

const DAY_MS: u64 = 24 * 3600 * 1000;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A command to run in a box.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) stdin: bool,
    pub(super) detach: bool,
}

impl ExecOptions {
    /// A command with its arguments. Without any, the box's own command is run: entrypoint and
    /// cmd, the box's or the image's.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Result<ExecOptions> {
        let argv = arguments("argv", argv.into_iter().map(Into::into).collect())?;
        if argv.first().is_some_and(String::is_empty) {
            return Err(invalid("argv", "the command is empty"));
        }
        Ok(ExecOptions { argv, ..ExecOptions::default() })
    }

    /// Sets an environment variable, over the box's and the image's.
    pub fn env(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<()> {
        let (name, value) = (text("env", name.into())?, value.into());
        if name.contains('=') || value.contains('\0') || value.len() > MAX_TEXT {
            return Err(invalid("env", format!("'{name}' and its value cannot be a variable")));
        }
        self.env.push((name, value));
        Ok(())
    }

    /// The working directory, an absolute path; the box's unless set.
    pub fn working_dir(&mut self, path: impl Into<String>) -> Result<()> {
        self.working_dir = Some(absolute("working_dir", path.into())?);
        Ok(())
    }

    /// The user, `user[:group]` by names or numbers; the box's unless set.
    pub fn user(&mut self, user: impl Into<String>) -> Result<()> {
        self.user = Some(text("user", user.into())?);
        Ok(())
    }

    /// Whether the command gets a stdin to write to; without, it reads end of file.
    pub fn stdin(&mut self, stdin: bool) {
        self.stdin = stdin;
    }

    /// Whether the command outlives this program, for as long as its box does. Its output is kept, up
    /// to a limit; it never waits for a reader.
    pub fn detach(&mut self, detach: bool) {
        self.detach = detach;
    }
}

pub(super) fn label_name(name: String) -> Result<String> {
    let name = text("name", name)?;
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"._/-".contains(&c);
    if name.len() > MAX_LABEL_NAME || !name.bytes().all(fits) {
        let message = format!(
            "'{name}' is not 1 to {MAX_LABEL_NAME} of [A-Za-z0-9._/-], as a label's name is"
        );
        return Err(invalid("name", message));
    }
    Ok(name)
}

pub(super) fn label_value(value: String) -> Result<String> {
    if value.contains('\0') || value.len() > MAX_LABEL_VALUE {
        let message = format!("a label's value has no NUL and at most {MAX_LABEL_VALUE} bytes");
        return Err(invalid("value", message));
    }
    Ok(value)
}

/// A name that a box can have.
pub fn box_name(name: String) -> Result<String> {
    let name = text("name", name)?;
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
    let begins = name.as_bytes()[0].is_ascii_alphanumeric();
    if !begins || name.len() > MAX_NAME || !name.bytes().all(fits) {
        let text =
            format!("'{name}' is not 1 to {MAX_NAME} of [A-Za-z0-9_.-], first a letter or digit");
        return Err(invalid("name", text));
    }
    Ok(name)
}

fn invalid(field: &str, message: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidArgument, format!("{field}: {message}")).object(field)
}

pub(super) fn text(field: &str, value: String) -> Result<String> {
    if value.is_empty() {
        return Err(invalid(field, "must not be empty"));
    }
    if value.contains('\0') {
        return Err(invalid(field, "contains a NUL byte"));
    }
    if value.len() > MAX_TEXT {
        return Err(invalid(field, format!("is longer than {MAX_TEXT} bytes")));
    }
    Ok(value)
}

fn absolute(field: &str, path: String) -> Result<String> {
    let path = text(field, path)?;
    if !path.starts_with('/') {
        return Err(invalid(field, format!("'{path}' is not an absolute path")));
    }
    Ok(path)
}

fn arguments(field: &str, argv: Vec<String>) -> Result<Vec<String>> {
    if argv.iter().any(|a| a.contains('\0')) {
        return Err(invalid(field, "an argument contains a NUL byte"));
    }
    Ok(argv)
}

/// Which machines wait for boxes: none, or those of a box's default size.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    pub(super) size: u32,
    pub(super) cpus: u32,
    pub(super) memory_mib: u32,
    /// The image, and the size of the disk in MiB.
    pub(super) image: Option<(String, u64)>,
}

impl Default for PoolOptions {
    fn default() -> PoolOptions {
        PoolOptions { size: 0, cpus: DEFAULT_CPUS, memory_mib: DEFAULT_MEMORY_MIB, image: None }
    }
}

impl PoolOptions {
    /// How many, 0 to 64.
    pub fn size(&mut self, machines: u32) -> Result<()> {
        self.size = within("machines", machines, &POOL_SIZE)?;
        Ok(())
    }

    /// What each has, within the bounds of a box.
    pub fn machine(&mut self, cpus: u32, memory_mib: u32) -> Result<()> {
        let cpus = within("cpus", cpus, &CPUS)?;
        self.memory_mib = within("memory_mib", memory_mib, &MEMORY_MIB)?;
        self.cpus = cpus;
        Ok(())
    }

    /// The image that they are for, with the size of a box's disk.
    pub fn image(&mut self, reference: impl Into<String>, disk_size_mib: u64) -> Result<()> {
        let reference = text("image", reference.into())?;
        self.image = Some((reference, within("disk_size_mib", disk_size_mib, &DISK_SIZE_MIB)?));
        Ok(())
    }
}

fn within<T: PartialOrd + std::fmt::Display + Copy>(
    field: &str,
    value: T,
    range: &std::ops::RangeInclusive<T>,
) -> Result<T> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(invalid(field, format!("{value} is not within {} to {}", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_within_bounds_is_taken_and_any_other_changes_nothing() {
        let mut pool = PoolOptions::default();
        let named = |refused: Result<()>, name| {
            assert_eq!(refused.unwrap_err().failing_object(), Some(name));
        };
        named(pool.size(65), "machines");
        named(pool.machine(0, 1024), "cpus");
        named(pool.machine(2, 1), "memory_mib");
        named(pool.image("", 64), "image");
        named(pool.image("image", 1), "disk_size_mib");
        assert_eq!(pool.image, None);
        assert_eq!((pool.size, pool.cpus, pool.memory_mib), (0, 1, 512));
        pool.size(64).unwrap();
        pool.machine(2, 1024).unwrap();
        assert_eq!((pool.size, pool.cpus, pool.memory_mib), (64, 2, 1024));
    }

    #[test]
    fn a_health_check_needs_a_command_and_sensible_times() {
        assert!(HealthCheck::new(Vec::<String>::new()).is_err());
        assert!(HealthCheck::new([""]).is_err());
        let mut check = HealthCheck::new(["true"]).unwrap();
        let (before, year) = (check.clone(), Duration::from_secs(365 * 24 * 3600));
        for (outcome, field) in [
            (check.interval(Duration::ZERO), "interval_ms"),
            (check.timeout(Duration::from_millis(99)), "timeout_ms"),
            (check.retries(0), "retries"),
            (check.start_period(year), "start_period_ms"),
        ] {
            assert_eq!(outcome.unwrap_err().failing_object(), Some(field));
        }
        assert_eq!(check, before);
    }

    #[test]
    fn a_box_has_a_limited_number_of_labels_and_the_last_value_counts() {
        let mut options = BoxOptions::new("image").unwrap();
        (0..MAX_LABELS).for_each(|n| options.label(format!("l{n}"), "old").unwrap());
        assert_eq!(options.label("more", "").unwrap_err().failing_object(), Some("name"));
        options.label("l7", "new").unwrap();
        assert_eq!((options.labels.len(), &*options.labels["l7"]), (MAX_LABELS, "new"));
    }

    #[test]
    fn bad_values_are_refused_by_field_and_change_nothing() {
        let mut options = BoxOptions::new("image").unwrap();
        let refused = [
            (options.cpus(0), "cpus"),
            (options.cpus(1000), "cpus"),
            (options.memory_mib(1), "memory_mib"),
            (options.disk_size_mib(0), "disk_size_mib"),
            (options.name(""), "name"),
            (options.name("-x"), "name"),
            (options.name("a/b"), "name"),
            (options.name("x".repeat(129)), "name"),
            (options.env("A=B", "c"), "env"),
            (options.env("", "c"), "env"),
            (options.env("A", "\0"), "env"),
            (options.working_dir("relative"), "working_dir"),
            (options.user(""), "user"),
            (options.cmd(vec!["\0".into()]), "cmd"),
            (options.start_timeout(Duration::ZERO), "start_timeout_ms"),
            (options.label("", "v"), "name"),
            (options.label("a b", "v"), "name"),
            (options.label("x".repeat(64), "v"), "name"),
            (options.label("a", "\0"), "value"),
            (options.label("a", "x".repeat(4097)), "value"),
            (options.idle_stop(Duration::ZERO), "idle_stop_s"),
            (options.spool_bytes(4095), "spool_bytes"),
            (options.spool_bytes((1 << 30) + 1), "spool_bytes"),
            (options.main(Main::Argv(vec![])), "main"),
            (options.main(Main::Argv(vec!["a".into(), "\0".into()])), "main"),
        ];
        for (outcome, field) in refused {
            let error = outcome.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(error.failing_object(), Some(field));
        }
        assert_eq!((options.cpus, options.name, options.env.len()), (1, None, 0));
        assert!(options.labels.is_empty());
        assert!(BoxOptions::new("").is_err());
        assert!(ExecOptions::new([""]).is_err());
        assert!(ExecOptions::new(Vec::<String>::new()).is_ok());
    }
}
