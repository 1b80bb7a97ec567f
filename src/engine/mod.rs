//! Virtual machines: what one is made of, and how one is launched.
//!
//! An [`Engine`] turns a [`MachineSpec`] into a running [`Machine`] whose agent can be spoken to
//! over the machine's channel. It knows nothing of images, boxes or databases.

pub mod log;
pub mod oom;
pub mod qemu;

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use crate::channel::guest::Session;
use crate::disk::chain::Chain;
use crate::disk::overlay::RawBase;
use crate::error::{Code, Error, Result};
use crate::stage::Stage;
use serde::{Deserialize, Serialize};

/// Everything that shapes a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The program that is the machine.
    pub binary: PathBuf,
    /// An uncompressed kernel image.
    pub kernel: PathBuf,
    /// The initramfs with the agent.
    pub initramfs: PathBuf,
    pub disk: Disk,
    /// What [`FILES`](boxlite_protocol::placeholder::FILES) of the disk are to say, where that can be
    /// written before the machine runs.
    pub texts: Vec<String>,
    /// Where the guest's console and the engine's own messages are kept; without it, only their
    /// last lines.
    pub logs: Option<PathBuf>,
    /// What may execute the guest's instructions.
    pub accelerator: AcceleratorChoice,
    /// Where what was found out about the host is remembered.
    pub cache: PathBuf,
    /// How long the guest's agent may take to greet, and to answer. Making a template, if one is
    /// needed, has as long of its own.
    pub boot_timeout: Duration,
    /// Where prepared machines are kept; without it, each machine boots.
    pub templates: Option<TemplatePolicy>,
}

/// What the guest calls its disk, and what file system is on it.
pub const ROOT_DEVICE: &str = "/dev/vda";
pub const ROOT_TYPE: &str = "ext4";

/// A machine's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disk {
    /// A machine that only proves itself.
    None,
    /// The device is there, with a disk to rehearse on; what a box has comes later.
    Later,
    /// The same, for a box whose disk is over this raw file and was never written to.
    LaterOver(RawBase),
    /// A qcow2 file, with what is behind it.
    Image(Chain),
}

/// Where prepared machines are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatePolicy {
    pub directory: PathBuf,
    /// An older template is made anew.
    pub max_age: Duration,
    /// All templates together; those used longest ago go first. One in use always stays.
    pub max_bytes: u64,
    /// Whether disks that nobody has written to get templates of their own, one for all over the
    /// same backing file.
    pub disks: bool,
}

/// What executes a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Linux's hardware virtualisation.
    Kvm,
    /// QEMU's translator: works everywhere, and is no security boundary.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

/// Which accelerator a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where it is proven to work, else TCG.
    #[default]
    Auto,
    /// KVM, or an error: never a silent fall-back.
    Kvm,
    /// TCG.
    Tcg,
}

impl FromStr for AcceleratorChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(AcceleratorChoice::Auto),
            "kvm" => Ok(AcceleratorChoice::Kvm),
            "tcg" => Ok(AcceleratorChoice::Tcg),
            _ => Err(Error::new(
                Code::InvalidArgument,
                format!("accelerator '{text}' is none of auto, kvm, tcg"),
            )),
        }
    }
}

/// Two files of a disk that are to become one.
pub struct Merge<'a> {
    /// How many files are above the one that stays.
    pub depth: usize,
    /// That one.
    pub upper: &'a Path,
    /// What it is to name as what it is on; none if it is on nothing then.
    pub backing: Option<&'a Path>,
}

/// Something that goes on in a machine, whoever waits for it.
pub type Work = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Launches machines.
#[expect(async_fn_in_trait, reason = "used by the single-threaded supervisor only")]
pub trait Engine {
    type Machine: Machine;

    /// Starts a machine, by the fastest road that works. `first` is the first exchange with its
    /// agent, and is told whether the disk has the specification's texts already; an error of it
    /// says that there was no answer, and has the next road be tried.
    async fn launch<T>(
        &self,
        spec: &MachineSpec,
        progress: &mut dyn Progress,
        first: impl AsyncFn(&mut Session, bool) -> Result<T>,
    ) -> Result<Launched<Self::Machine, T>>;
}

/// Who hears how far a launch is.
pub trait Progress {
    /// Something that takes long has begun.
    fn began(&mut self, what: &str);
    /// A stage is done; it lasted since the one before.
    fn done(&mut self, stage: Stage);
}

/// A running machine whose agent has answered.
pub struct Launched<M, T> {
    pub machine: M,
    pub session: Session,
    pub answer: T,
    pub road: Road,
    /// What went wrong on faster roads, for people.
    pub detours: Vec<String>,
}

/// How a machine came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Road {
    /// Its kernel booted.
    Cold,
    /// It was loaded from a template.
    Restored,
    /// It had come to run by either road before it was wanted.
    Pooled,
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Road::Cold => "cold",
            Road::Restored => "restored",
            Road::Pooled => "pooled",
        })
    }
}

/// A running machine. Dropping it ends it at once.
#[expect(async_fn_in_trait, reason = "used by the single-threaded supervisor only")]
pub trait Machine {
    /// The process that is the machine.
    fn pid(&self) -> u32;

    fn accelerator(&self) -> Accelerator;

    /// Has a machine without a disk of its own come to rest, and stand still.
    async fn park(&mut self) -> Result<()>;

    /// Has a parked machine run on, with the disk and the logs of `spec`; tells whether the disk has
    /// the specification's texts.
    async fn resume(&mut self, spec: &MachineSpec) -> Result<bool>;

    /// Waits until something happens to the machine by itself. Cancel-safe.
    async fn event(&mut self) -> MachineEvent;

    /// Waits until something ends the machine, or stops it. Cancel-safe.
    async fn ended(&mut self) -> MachineEnd {
        match self.event().await {
            MachineEvent::Ended(end) => end,
            MachineEvent::DiskFull => MachineEnd::DiskFull,
        }
    }

    /// Has it stand still, until it is to go on.
    async fn pause(&mut self) -> Result<()>;

    /// Has a paused machine go on; a write that the full disk refused is tried again.
    async fn go_on(&mut self) -> Result<()>;

    /// Has what is written to the disk from now on go into an overlay, which is empty and names what is
    /// the disk now; that is never written again when the work is done. Failed, all is as it was.
    async fn branch(&mut self, overlay: &Path) -> Result<Work>;

    /// Has a file of the disk hold what it is on too, and be on what that is on. The disk is the same at
    /// every moment; failed, it still consists of the same files.
    async fn merge(&mut self, merge: &Merge<'_>) -> Result<Work>;

    /// Whether the machine runs, or stands still. Returns if the process that is the machine answers.
    async fn runs(&mut self) -> Result<bool>;

    /// Cuts the power, and waits until the process is gone.
    async fn kill(&mut self);

    /// The last lines of the guest's console and of the engine, for people; a line with one of
    /// [`CRASH_WORDS`] is among them if there was one lately.
    fn last_words(&self) -> String;
}

/// What a guest's kernel and agent say when they have crashed.
pub const CRASH_WORDS: [&str; 2] = ["Kernel panic", "boxlite-guest: agent"];

/// What happens to a running machine by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEvent {
    Ended(MachineEnd),
    /// The host's disk is full: the machine stands still and nothing is lost. Said each time
    /// that this makes it stand still.
    DiskFull,
}

/// How a machine came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEnd {
    /// The guest switched itself off or reset itself.
    GuestOff,
    /// The engine's process ended by itself.
    Exited(i32),
    /// The engine's process was killed.
    Killed(i32),
    /// The host's disk was full before the machine was a box.
    DiskFull,
    /// The host's disk fails otherwise: the machine stands still.
    DiskError,
}
