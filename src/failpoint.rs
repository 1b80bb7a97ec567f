//! Places between two steps of a change, at which a test can have a process die.
//!
//! Nothing of this is in the library that is installed: without cargo's feature `failpoints`, to hit a
//! point does nothing. With it, the environment says what happens at one of them:
//!
//! - `BOXLITE_FAILPOINT=NAME[:COUNT[:hold]]`: at the COUNT-th time (1 unless said) that a process comes
//!   to the point, it is killed, or with `hold` stops until it gets a SIGCONT.
//! - `BOXLITE_FAILPOINT_LOG=FILE`: each point that is hit is written there first, with the process's id.
//! - `BOXLITE_FAILPOINT_NO_RECOVERY=1`: what a killed program left is not looked at when a home is
//!   opened. With this the tests have to fail.

/// Which process comes to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Program,
    Supervisor,
}

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $who:ident $name:literal,)+) => {
        /// All that there are; each name begins with the operation that comes to it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)+
        }

        impl Point {
            pub const ALL: &[Point] = &[$(Point::$point,)+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)+
                }
            }

            pub fn who(self) -> Who {
                match self {
                    $(Point::$point => Who::$who,)+
                }
            }
        }
    };
}

points! {
    /// The database has its tables.
    OpenMade = Program "open.made",
    /// The older database was copied.
    AdoptBackedUp = Program "adopt.backed-up",
    /// The files are as a step wants them, the tables are not yet.
    AdoptFiles = Program "adopt.files",
    /// The tables are too.
    AdoptTables = Program "adopt.tables",
    /// What an interrupted snapshot took is the box's disk again.
    AdoptPendingMoved = Program "adopt.pending-moved",
    /// An interrupted snapshot that is complete has its row.
    AdoptPendingRow = Program "adopt.pending-row",
    /// The marker of an interrupted snapshot is gone.
    AdoptPendingEnded = Program "adopt.pending-ended",
    /// One of a box's disks is where version 7 has it.
    AdoptMoved = Program "adopt.moved",
    AdoptBaseMoved = Program "adopt.base-moved",
    /// The disk that is on a base says so.
    AdoptBaseNamed = Program "adopt.base-named",
    /// One disk names what it is on relative to itself.
    AdoptRelative = Program "adopt.relative",
    CreateImageDisk = Program "create.image-disk",
    CreateLocked = Program "create.locked",
    CreateIntent = Program "create.intent",
    CreateDirectory = Program "create.directory",
    CreateDisk = Program "create.disk",
    CreateSynced = Program "create.synced",
    CreateRows = Program "create.rows",
    StartLocked = Program "start.locked",
    StartNoted = Program "start.noted",
    StartSpawned = Program "start.spawned",
    StartOpened = Program "start.opened",
    StartRecorded = Program "start.recorded",
    /// A detached box is on its own, and nobody was told that it runs.
    StartDetached = Program "start.detached",
    StartTaken = Supervisor "start.taken",
    StartListening = Supervisor "start.listening",
    /// A machine was saved as a template that has no name yet.
    StartTemplate = Supervisor "start.template",
    /// The box's disk has what the template's machine wrote.
    StartDisk = Supervisor "start.disk",
    /// QEMU runs.
    StartMachine = Supervisor "start.machine",
    /// The agent has answered.
    StartAnswered = Supervisor "start.answered",
    /// The program is told that it runs.
    StartServed = Supervisor "start.served",
    SnapshotIntent = Program "snapshot.intent",
    SnapshotOverlay = Program "snapshot.overlay",
    SnapshotMoved = Program "snapshot.moved",
    SnapshotNamed = Program "snapshot.named",
    SnapshotPlaced = Program "snapshot.placed",
    SnapshotRow = Program "snapshot.row",
    CloneIntent = Program "clone.intent",
    CloneMoved = Program "clone.moved",
    CloneNamed = Program "clone.named",
    ClonePlaced = Program "clone.placed",
    CloneNoted = Program "clone.noted",
    CloneDisks = Program "clone.disks",
    CloneRows = Program "clone.rows",
    ImportIntent = Program "import.intent",
    /// All files are there, without their names.
    ImportStaged = Program "import.staged",
    ImportPlaced = Program "import.placed",
    ImportRows = Program "import.rows",
    /// Half of the archive is written.
    ExportHalf = Program "export.half",
    RestoreIntent = Program "restore.intent",
    RestoreOverlay = Program "restore.overlay",
    RestorePlaced = Program "restore.placed",
    RestoreEnded = Program "restore.ended",
    GrowIntent = Program "grow.intent",
    GrowFile = Program "grow.file",
    GrowRow = Program "grow.row",
    MergeIntent = Program "merge.intent",
    /// The merged file is written, and has not taken its place.
    MergeCopied = Program "merge.copied",
    MergeWritten = Program "merge.written",
    DiscardRow = Program "discard.row",
    DiscardFile = Program "discard.file",
    DiscardEnded = Program "discard.ended",
    /// The guest's file system has come to rest.
    BranchFrozen = Supervisor "branch.frozen",
    /// QEMU writes to the overlay.
    BranchSwitched = Supervisor "branch.switched",
    BranchMoved = Supervisor "branch.moved",
    BranchNamed = Supervisor "branch.named",
    BranchPlaced = Supervisor "branch.placed",
    /// QEMU copies what one file has to the other.
    BranchMerging = Supervisor "branch.merging",
    /// It has, and begins to name what that is on anew.
    BranchStreamed = Supervisor "branch.streamed",
    /// QEMU has made two files one.
    BranchMerged = Supervisor "branch.merged",
    StopBegun = Program "stop.begun",
    StopNoted = Program "stop.noted",
    StopAnswered = Program "stop.answered",
    StopRecorded = Program "stop.recorded",
    StopAsked = Supervisor "stop.asked",
    StopGuestDone = Supervisor "stop.guest-done",
    StopMachineGone = Supervisor "stop.machine-gone",
    StopWordLeft = Supervisor "stop.word-left",
    StopReleased = Supervisor "stop.released",
    RemoveLocked = Program "remove.locked",
    RemoveRows = Program "remove.rows",
    RemoveFiles = Program "remove.files",
    RemoveSynced = Program "remove.synced",
    RemoveIntent = Program "remove.intent",
}

#[cfg(not(feature = "failpoints"))]
mod armed {
    /// What a supervisor gets of its program's environment for this.
    pub const ENVIRONMENT: &[&str] = &[];

    #[inline(always)]
    pub fn hit(_: super::Point) {}

    #[inline(always)]
    pub fn recovers() -> bool {
        true
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    const WHERE: &str = "BOXLITE_FAILPOINT";
    const LOG: &str = "BOXLITE_FAILPOINT_LOG";

    /// What a supervisor gets of its program's environment for this.
    pub const ENVIRONMENT: &[&str] = &[WHERE, LOG];

    /// How often this process came to the point that is asked for.
    static HITS: AtomicUsize = AtomicUsize::new(0);

    /// A process has come to this point.
    pub fn hit(point: Point) {
        if let Some(path) = std::env::var_os(LOG) {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let line = format!("{} {}\n", point.name(), std::process::id());
            log.and_then(|mut log| log.write_all(line.as_bytes()))
                .expect("write the failpoint log");
        }
        let wanted = std::env::var(WHERE).unwrap_or_default();
        let mut words = wanted.split(':');
        if words.next() != Some(point.name()) {
            return;
        }
        let count = words.next().map_or(1, |count| count.parse().expect("a failpoint's count"));
        if HITS.fetch_add(1, Ordering::Relaxed) + 1 == count {
            let hold = words.next() == Some("hold");
            let signal = if hold { Signal::STOP } else { Signal::KILL };
            kill_process(getpid(), signal).expect("a signal to oneself");
            if !hold {
                // It comes to all threads in its own time, and nothing must happen here meanwhile.
                loop {
                    std::thread::park();
                }
            }
        }
    }

    /// Whether what a killed program left is looked at.
    pub fn recovers() -> bool {
        std::env::var_os("BOXLITE_FAILPOINT_NO_RECOVERY").is_none()
    }
}

pub use armed::{ENVIRONMENT, hit, recovers};
