//! The messages. Field numbers are never reused.
//!
//! Paths, arguments and environment are bytes: nothing is assumed about their encoding.

use bytes::Bytes;
use prost::{Message, Oneof};

/// The streams of an exec, as numbered in [`Data`] and [`Credit`].
pub mod stream {
    pub const STDIN: u32 = 0;
    pub const STDOUT: u32 = 1;
    pub const STDERR: u32 = 2;
}

// ---- to the guest ------------------------------------------------------------------------------

/// Host to guest.
#[derive(Clone, PartialEq, Message)]
pub struct ToGuest {
    #[prost(oneof = "to_guest::Body", tags = "1, 2, 3")]
    pub body: Option<to_guest::Body>,
}

pub mod to_guest {
    use super::*;

    #[derive(Clone, PartialEq, Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Request(Request),
        #[prost(message, tag = "2")]
        Data(Data),
        #[prost(message, tag = "3")]
        Credit(Credit),
    }
}

/// A call that gets exactly one [`Response`] with the same id.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(
        oneof = "request::Op",
        tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21"
    )]
    pub op: Option<request::Op>,
}

pub mod request {
    use super::*;

    #[derive(Clone, PartialEq, Oneof)]
    pub enum Op {
        /// Answers when it is read: the channel works.
        #[prost(message, tag = "2")]
        Ping(Empty),
        /// Makes the machine into this box. Once, before anything else.
        #[prost(message, tag = "3")]
        Init(Init),
        /// Starts a process.
        #[prost(message, tag = "4")]
        Exec(Exec),
        /// Signals an exec's process group.
        #[prost(message, tag = "5")]
        Signal(Signal),
        /// Sets the wall clock.
        #[prost(message, tag = "6")]
        SetClock(Time),
        /// Ends all processes, unmounts, answers, and switches the machine off.
        #[prost(message, tag = "7")]
        Shutdown(Shutdown),
        /// Does what the start of a box does, and undoes it. Any number of times before Init. What
        /// the rehearsed command writes is sent as an exec's output is.
        #[prost(message, tag = "8")]
        Rehearse(Disk),
        /// Makes a disk the root, ahead of Init, which then leaves it at that. Of what nearly every
        /// command reads, as much as there is gets read; and [`crate::placeholder`]s are written.
        #[prost(message, tag = "9")]
        MountRoot(Disk),
        /// Has the machine stand still. The supervisor's own: no guest gets it.
        #[prost(message, tag = "10")]
        Pause(Empty),
        /// Has it go on. The supervisor's own, too.
        #[prost(message, tag = "11")]
        Resume(Empty),
        /// Lists the execs.
        #[prost(message, tag = "12")]
        ListExecs(ListExecs),
        /// Follows the output of a detached exec.
        #[prost(message, tag = "13")]
        Follow(Follow),
        /// From now on the box outlives the program that created its supervisor.
        #[prost(message, tag = "14")]
        Detach(Empty),
        /// Has what the disk holds now be behind it, and never change again. The supervisor does it.
        #[prost(message, tag = "15")]
        Branch(Branch),
        /// Answers when nothing of what is written to the root file system is on its way, and nothing
        /// more is written until it thaws. The supervisor's own.
        #[prost(message, tag = "16")]
        Freeze(Empty),
        /// Answers when the file system can be written to, also if it always could. The supervisor's own.
        #[prost(message, tag = "17")]
        Thaw(Empty),
        /// Has a file of the disk, of a machine that runs, hold what it is on too. The supervisor does it,
        /// and answers when it is done.
        #[prost(message, tag = "18")]
        Merge(Merge),
        /// What the box has done, and what its processes take. The supervisor answers it.
        #[prost(message, tag = "20")]
        Stats(Empty),
        /// How the machine is, seen from inside. The guest answers it.
        #[prost(message, tag = "21")]
        GuestStats(Empty),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// Everything that makes a machine this box.
#[derive(Clone, PartialEq, Message)]
pub struct Init {
    /// The host name, at most 64 bytes.
    #[prost(string, tag = "1")]
    pub hostname: String,
    /// 32 hexadecimal digits for `/etc/machine-id`.
    #[prost(string, tag = "2")]
    pub machine_id: String,
    #[prost(message, optional, tag = "3")]
    pub time: Option<Time>,
    /// Fresh random bytes from the host, mixed and credited into the kernel's pool, from which all
    /// generators are then seeded anew. Empty: nothing of that is done, and machines made from one
    /// template give the same random numbers. Only a test wants that.
    #[prost(bytes = "bytes", tag = "4")]
    pub entropy: Bytes,
    /// The block device with the root file system.
    #[prost(string, tag = "5")]
    pub root_device: String,
    /// Its file system type.
    #[prost(string, tag = "6")]
    pub root_type: String,
    /// The text of `/etc/resolv.conf`; nothing is written when empty.
    #[prost(string, tag = "7")]
    pub resolv_conf: String,
    /// The text of `/etc/hosts`; nothing is written when empty.
    #[prost(string, tag = "8")]
    pub hosts: String,
    /// Whether [`crate::placeholder::FILES`] say all this already.
    #[prost(bool, tag = "9")]
    pub inscribed: bool,
}

/// A disk of the machine.
#[derive(Clone, PartialEq, Message)]
pub struct Disk {
    /// Its block device.
    #[prost(string, tag = "1")]
    pub device: String,
    /// Its file system type.
    #[prost(string, tag = "2")]
    pub kind: String,
}

/// Wall-clock time since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Time {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(uint32, tag = "2")]
    pub nanoseconds: u32,
}

/// A process to start.
#[derive(Clone, PartialEq, Message)]
pub struct Exec {
    /// Chosen by the host, not in use.
    #[prost(uint32, tag = "1")]
    pub exec: u32,
    /// The command and its arguments. A command without a slash is searched in PATH.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub argv: Vec<Bytes>,
    /// `NAME=value` strings. The guest adds HOME, and PATH where there is none.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub env: Vec<Bytes>,
    /// The working directory; `/` when empty.
    #[prost(bytes = "bytes", tag = "4")]
    pub cwd: Bytes,
    /// `user[:group]`, names or numbers; root when empty.
    #[prost(string, tag = "5")]
    pub user: String,
    /// Whether the process gets a stdin to write to; else it reads end of file.
    #[prost(bool, tag = "6")]
    pub stdin: bool,
    /// The credit granted from the start on stdout and on stderr, each.
    #[prost(uint64, tag = "7")]
    pub window: u64,
    /// Whether it outlives the program that starts it: the supervisor keeps its output. No matter to
    /// the guest.
    #[prost(bool, tag = "8")]
    pub detached: bool,
}

/// The number of a box's main process. No other exec has it.
pub const MAIN_EXEC: u32 = 1;

/// Which output to follow, and from where.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Follow {
    /// Chosen by the program, not in use: as which it follows the exec.
    #[prost(uint32, tag = "1")]
    pub exec: u32,
    /// The supervisor's number for the exec; [`MAIN_EXEC`] is the main process.
    #[prost(uint32, tag = "2")]
    pub of: u32,
    /// The offsets of the first bytes wanted.
    #[prost(uint64, tag = "3")]
    pub stdout_from: u64,
    #[prost(uint64, tag = "4")]
    pub stderr_from: u64,
    /// The credit granted from the start, on each.
    #[prost(uint64, tag = "5")]
    pub window: u64,
}

/// Where a box's disk goes on. Paths are relative to the home.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Branch {
    /// An empty overlay that names `frozen` as what it is on. It gets the disk's name.
    #[prost(string, tag = "1")]
    pub overlay: String,
    /// The name that what is the disk now gets. The directory is there, the file is not.
    #[prost(string, tag = "2")]
    pub frozen: String,
    /// Nothing is to begin: one that was not carried to its end is, and if there is none, so be it.
    #[prost(bool, tag = "3")]
    pub only_finish: bool,
}

/// Two files of a disk that become one. Paths are relative to the home.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Merge {
    /// The file that is to hold what both have.
    #[prost(string, tag = "1")]
    pub upper: String,
    /// The one that it is on, and will not be on any more.
    #[prost(string, tag = "2")]
    pub lower: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Signal {
    #[prost(uint32, tag = "1")]
    pub exec: u32,
    /// The signal's number on x86-64 Linux.
    #[prost(int32, tag = "2")]
    pub signal: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Shutdown {
    /// How long processes have between SIGTERM and SIGKILL, in milliseconds.
    #[prost(uint32, tag = "1")]
    pub grace_ms: u32,
}

// ---- both ways ---------------------------------------------------------------------------------

/// Bytes of one stream.
#[derive(Clone, PartialEq, Message)]
pub struct Data {
    #[prost(uint32, tag = "1")]
    pub exec: u32,
    #[prost(uint32, tag = "2")]
    pub stream: u32,
    /// The bytes of this stream that came before.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// The last field written when `eof` is not: see [`crate::codec::announce`].
    #[prost(bytes = "bytes", tag = "4")]
    pub bytes: Bytes,
    /// Nothing follows on this stream. The end of the exec says so too, for all its streams.
    #[prost(bool, tag = "5")]
    pub eof: bool,
}

/// Permission to send more bytes of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Credit {
    #[prost(uint32, tag = "1")]
    pub exec: u32,
    #[prost(uint32, tag = "2")]
    pub stream: u32,
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
}

// ---- to the host -------------------------------------------------------------------------------

/// Guest to host.
#[derive(Clone, PartialEq, Message)]
pub struct ToHost {
    #[prost(oneof = "to_host::Body", tags = "1, 2, 3, 4, 5")]
    pub body: Option<to_host::Body>,
}

pub mod to_host {
    use super::*;

    #[derive(Clone, PartialEq, Oneof)]
    pub enum Body {
        /// The first message of a session.
        #[prost(message, tag = "1")]
        Hello(Hello),
        #[prost(message, tag = "2")]
        Response(Response),
        #[prost(message, tag = "3")]
        Data(Data),
        #[prost(message, tag = "4")]
        Credit(Credit),
        #[prost(message, tag = "5")]
        Exited(Exited),
    }
}

/// What runs in the guest.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// The agent's version.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// The kernel's release.
    #[prost(string, tag = "2")]
    pub kernel: String,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What went wrong; absent on success.
    #[prost(message, optional, tag = "2")]
    pub failure: Option<Failure>,
    /// What was asked for. A supervisor's, as the next: no guest has either.
    #[prost(message, optional, tag = "3")]
    pub execs: Option<Execs>,
    /// The supervisor's number for the exec that was started or is followed.
    #[prost(uint32, tag = "4")]
    pub number: u32,
    /// To the request of this name.
    #[prost(message, optional, tag = "10")]
    pub stats: Option<Stats>,
    /// To the request of this name.
    #[prost(message, optional, boxed, tag = "11")]
    pub guest_stats: Option<Box<GuestStats>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ListExecs {
    /// Only those with a number greater than this.
    #[prost(uint32, tag = "1")]
    pub after: u32,
}

/// Commands of a box: those that run, and the last detached ones that have ended. By their numbers, as
/// many as fit.
#[derive(Clone, PartialEq, Message)]
pub struct Execs {
    #[prost(message, repeated, tag = "1")]
    pub list: Vec<ExecEntry>,
    /// There are more after the last of these.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExecEntry {
    /// The supervisor's number for it.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// The command and its arguments, as many as fit into some hundred bytes.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub argv: Vec<Bytes>,
    /// Milliseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub started_ms: u64,
    /// Whether it is the box's main process.
    #[prost(bool, tag = "4")]
    pub main: bool,
    /// Whether its output can be followed.
    #[prost(bool, tag = "5")]
    pub detached: bool,
    /// What is held of its output.
    #[prost(message, optional, tag = "6")]
    pub stdout: Option<Held>,
    #[prost(message, optional, tag = "7")]
    pub stderr: Option<Held>,
    /// How it ended, if it has.
    #[prost(message, optional, tag = "8")]
    pub exited: Option<Exited>,
}

/// Which bytes of a stream are held.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Held {
    /// The offset of the first.
    #[prost(uint64, tag = "1")]
    pub start: u64,
    /// How many bytes the stream has had.
    #[prost(uint64, tag = "2")]
    pub total: u64,
}

/// What a box has done since it was started, and what its processes take.
#[derive(Clone, PartialEq, Message)]
pub struct Stats {
    /// Commands started, and commands that could not be.
    #[prost(uint64, tag = "1")]
    pub commands: u64,
    #[prost(uint64, tag = "2")]
    pub exec_errors: u64,
    /// Bytes to the stdin of commands, and of their output.
    #[prost(uint64, tag = "3")]
    pub bytes_sent: u64,
    #[prost(uint64, tag = "4")]
    pub bytes_received: u64,
    /// Of the machine's process since these were asked for before; 100 is one processor.
    #[prost(double, tag = "5")]
    pub cpu_percent: f64,
    /// The processor's time that the processes have used.
    #[prost(uint64, tag = "6")]
    pub machine_cpu_ms: u64,
    #[prost(uint64, tag = "7")]
    pub supervisor_cpu_ms: u64,
    /// Their memory in bytes.
    #[prost(uint64, tag = "8")]
    pub machine_memory: u64,
    #[prost(uint64, tag = "9")]
    pub supervisor_memory: u64,
    /// What the start went through.
    #[prost(message, repeated, tag = "10")]
    pub stages: Vec<Stage>,
}

/// How a machine is, as its agent says.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct GuestStats {
    /// In bytes.
    #[prost(uint64, tag = "1")]
    pub memory_total: u64,
    #[prost(uint64, tag = "2")]
    pub memory_available: u64,
    /// The time that the processors were busy.
    #[prost(uint64, tag = "3")]
    pub cpu_ms: u64,
    /// The load of 1, 5 and 15 minutes, in thousandths.
    #[prost(uint64, tag = "4")]
    pub load_1: u64,
    #[prost(uint64, tag = "5")]
    pub load_5: u64,
    #[prost(uint64, tag = "6")]
    pub load_15: u64,
    /// Processes and threads.
    #[prost(uint64, tag = "7")]
    pub processes: u64,
    #[prost(uint64, tag = "8")]
    pub uptime_ms: u64,
    /// Of the root file system, in bytes.
    #[prost(uint64, tag = "9")]
    pub disk_size: u64,
    #[prost(uint64, tag = "10")]
    pub disk_used: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    #[prost(enumeration = "FailureKind", tag = "1")]
    pub kind: i32,
    /// Names the object and the cause.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The operating system's error number; 0 for none.
    #[prost(int32, tag = "3")]
    pub errno: i32,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FailureKind {
    /// A fault of the agent or its kernel.
    Internal = 0,
    /// The request makes no sense.
    Invalid = 1,
    /// Not now: before Init, or while shutting down.
    State = 2,
    /// The command does not exist.
    CommandNotFound = 3,
    /// The command exists and may not be executed.
    CommandNotExecutable = 4,
    /// The user or group does not exist in the image.
    NoUser = 5,
    /// The working directory does not exist or may not be entered.
    NoDirectory = 6,
    /// The exec has ended.
    NoExec = 7,
    /// Memory, processes or descriptors are used up in the guest.
    Resources = 8,
    /// The root file system cannot be mounted or prepared.
    Mount = 9,
    /// The box ended before the request was answered.
    Ended = 10,
    /// Somebody who should have answered did not.
    Silent = 11,
    /// Program and supervisor are of different versions: the box can only be stopped.
    Version = 12,
    /// A file of the host's could not be changed.
    Storage = 13,
}

/// The end of an exec, after the last byte of its output.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Exited {
    #[prost(uint32, tag = "1")]
    pub exec: u32,
    /// The exit code, 0 to 255; 0 if a signal ended it.
    #[prost(int32, tag = "2")]
    pub code: i32,
    /// The signal that ended it; 0 for none.
    #[prost(int32, tag = "3")]
    pub signal: i32,
}

// ---- library and supervisor --------------------------------------------------------------------

/// A program to a box's supervisor.
///
/// Tags 1, 3 and the Shutdown request are kept for good: any later library can attach to a box
/// and stop it.
#[derive(Clone, PartialEq, Message)]
pub struct ToSupervisor {
    #[prost(oneof = "to_supervisor::Body", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub body: Option<to_supervisor::Body>,
}

pub mod to_supervisor {
    use super::*;

    #[derive(Clone, PartialEq, Oneof)]
    pub enum Body {
        /// The first message of a program that finds the box running.
        #[prost(message, tag = "1")]
        Attach(Attach),
        /// The first message of the program that creates the supervisor: what to launch, as the
        /// JSON of a type that only the same build of the library reads.
        #[prost(bytes = "bytes", tag = "2")]
        Launch(Bytes),
        #[prost(message, tag = "3")]
        Request(Request),
        #[prost(message, tag = "4")]
        Data(Data),
        #[prost(message, tag = "5")]
        Credit(Credit),
        /// A first message too: the machine to hold ready, as JSON like that of a launch, which
        /// comes when the machine is wanted.
        #[prost(bytes = "bytes", tag = "6")]
        Park(Bytes),
        /// Is answered by the same, at once: the supervisor is not stuck.
        #[prost(message, tag = "7")]
        Beat(Empty),
        /// The program no longer follows the exec that it knows by this number, and will not write to
        /// it. No effect on one that is not detached.
        #[prost(uint32, tag = "8")]
        Leave(u32),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Attach {
    /// The protocol version the program speaks.
    #[prost(uint32, tag = "1")]
    pub version: u32,
}

/// A box's supervisor to a program.
#[derive(Clone, PartialEq, Message)]
pub struct FromSupervisor {
    #[prost(
        oneof = "from_supervisor::Body",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14"
    )]
    pub body: Option<from_supervisor::Body>,
}

pub mod from_supervisor {
    use super::*;

    #[derive(Clone, PartialEq, Oneof)]
    pub enum Body {
        /// A step of the launch is done.
        #[prost(message, tag = "1")]
        Stage(Stage),
        /// The box runs; the answer to both first messages.
        #[prost(message, tag = "2")]
        Running(Running),
        #[prost(message, tag = "3")]
        Response(Response),
        #[prost(message, tag = "4")]
        Data(Data),
        #[prost(message, tag = "5")]
        Credit(Credit),
        #[prost(message, tag = "6")]
        Exited(Exited),
        /// The box has ended, or could not be launched. The last message.
        #[prost(message, tag = "7")]
        Ended(Ended),
        /// A machine waits to be launched as a box.
        #[prost(message, tag = "8")]
        Parked(Parked),
        /// Something has happened to the running box.
        #[prost(message, tag = "9")]
        Notice(Notice),
        #[prost(message, tag = "10")]
        Beat(Empty),
        #[prost(message, tag = "11")]
        Gap(Gap),
        /// The main process has ended.
        #[prost(message, tag = "12")]
        MainExited(Exited),
        /// The health checks say something else than before.
        #[prost(message, tag = "13")]
        Healthy(Healthy),
        /// A detached exec has ended, by the supervisor's number: whoever started it may not follow it.
        #[prost(message, tag = "14")]
        DetachedExited(Exited),
    }
}

/// What health checks say.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Healthy {
    #[prost(bool, tag = "1")]
    pub healthy: bool,
    /// How many checks in a row have failed.
    #[prost(uint32, tag = "2")]
    pub failures: u32,
}

/// Bytes of one stream that are no longer held. What follows begins after them; they took no credit.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Gap {
    #[prost(uint32, tag = "1")]
    pub exec: u32,
    #[prost(uint32, tag = "2")]
    pub stream: u32,
    /// The bytes of this stream that came before.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// How many are gone.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
}

/// How a running box is now.
#[derive(Clone, PartialEq, Message)]
pub struct Notice {
    #[prost(enumeration = "Standing", tag = "1")]
    pub standing: i32,
    /// What there is to tell of it.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Whether a machine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Standing {
    /// It runs, and answers.
    Runs = 0,
    /// It stands still because somebody asked for that.
    Paused = 1,
    /// It stands still because the host's disk is full.
    DiskFull = 2,
    /// It should run, and does not answer.
    Silent = 3,
    /// Its supervisor does not answer. No supervisor says this: a program finds it out.
    Unsupervised = 4,
}

/// A step of the launch is done, or one that takes long has begun.
#[derive(Clone, PartialEq, Message)]
pub struct Stage {
    #[prost(string, tag = "1")]
    pub name: String,
    /// How long it took.
    #[prost(uint64, tag = "2")]
    pub microseconds: u64,
    #[prost(bool, tag = "3")]
    pub began: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Running {
    /// The supervisor's protocol version.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The supervisor's process id.
    #[prost(uint32, tag = "2")]
    pub supervisor_pid: u32,
    /// The virtual machine's process id.
    #[prost(uint32, tag = "3")]
    pub machine_pid: u32,
    /// `kvm` or `tcg`.
    #[prost(string, tag = "4")]
    pub accelerator: String,
    /// How the machine came to run: `cold`, `restored` or `pooled`.
    #[prost(string, tag = "5")]
    pub boot: String,
    /// What went wrong on faster ways to start it, for people.
    #[prost(string, repeated, tag = "6")]
    pub detours: Vec<String>,
    /// The id of this run of the box.
    #[prost(string, tag = "7")]
    pub run: String,
    /// How it is now; absent if it just runs.
    #[prost(message, optional, tag = "8")]
    pub standing: Option<Notice>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Parked {
    /// What went wrong on faster ways to start the machine, for people.
    #[prost(string, repeated, tag = "1")]
    pub detours: Vec<String>,
}

/// Why the box ended.
#[derive(Clone, PartialEq, Message)]
pub struct Ended {
    /// An error code of the library; 0 if the box was stopped on request or by itself.
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    /// The operating system's error number; 0 for none.
    #[prost(int32, tag = "3")]
    pub errno: i32,
}
