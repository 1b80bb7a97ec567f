//! The layout of a home directory: which file is where; and the lock that its programs share.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Code, Error, Result};

/// A home directory, absolute and existing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

/// The size of a home's ballast in bytes: room for a few changes of the database.
const BALLAST: i64 = 1 << 20;

const DATABASE: &str = "db/boxlite.db";

/// The directories of a home.
const DIRECTORIES: &[&str] = &[
    "db",
    "images",
    "images/blobs",
    "images/disk-images",
    "boxes",
    "bases",
    "templates",
    "locks",
    "tmp",
];

/// Makes the names in a directory durable. One that this user must not read is somebody else's, and was
/// there before.
fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
}

impl Home {
    /// The home that a user gets without asking: `$BOXLITE_HOME`, else `~/.boxlite`.
    pub fn default_path() -> Result<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v: &OsString| !v.is_empty());
        if let Some(home) = set("BOXLITE_HOME") {
            return Ok(home.into());
        }
        let user = set("HOME").ok_or_else(|| {
            Error::new(Code::Config, "neither BOXLITE_HOME nor HOME is set: name a home directory")
        })?;
        Ok(PathBuf::from(user).join(".boxlite"))
    }

    /// Opens a home, making what is missing of it. For its owner only: disks are in it.
    pub fn open(path: &Path) -> Result<Home> {
        let failed = |e: io::Error| {
            Error::io(Code::Storage, format!("open home directory {}", path.display()), &e)
                .object(path.display().to_string())
        };
        let make = |p: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(p);
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let above = missing.count().max(1);
        make(path).map_err(failed)?;
        let root = path.canonicalize().map_err(failed)?;
        // Until there is a database nobody knows that these are durable, and it relies on them.
        let is_new = !root.join(DATABASE).exists();
        let is_whole = DIRECTORIES.iter().all(|directory| root.join(directory).exists());
        for directory in DIRECTORIES {
            make(&root.join(directory)).map_err(failed)?;
        }
        if is_new || !is_whole {
            let images = root.join("images");
            for directory in [&*images].into_iter().chain(root.ancestors().take(1 + above)) {
                sync(directory).map_err(failed)?;
            }
        }
        // A home that exists but belongs to somebody else is noticed here, not at the first box.
        nix::unistd::access(&root, nix::unistd::AccessFlags::W_OK)
            .map_err(|e| failed(io::Error::from(e)))?;
        Ok(Home { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    /// A file that only takes space: it is given up when the disk is so full that not even the removal of
    /// a box could be written down.
    fn ballast(&self) -> PathBuf {
        self.temporary().join("ballast")
    }

    /// Makes the ballast, if there is none and there is space.
    pub fn take_ballast(&self) {
        let path = self.ballast();
        if path.exists() {
            return;
        }
        let made =
            fs::OpenOptions::new().write(true).create_new(true).open(&path).and_then(|file| {
                let none = nix::fcntl::FallocateFlags::empty();
                Ok(nix::fcntl::fallocate(&file, none, 0, BALLAST)?)
            });
        // Half of it, or that of a file system that cannot, is none.
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    /// Frees what the ballast takes; false if there is none.
    pub fn give_up_ballast(&self) -> bool {
        fs::remove_file(self.ballast()).is_ok()
    }

    /// The file of [`HomeLock`].
    fn lock(&self) -> PathBuf {
        self.root.join("locks/home.lock")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Prepared machines.
    pub fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }

    pub fn boxes(&self) -> PathBuf {
        self.root.join("boxes")
    }

    /// A box's own directory.
    pub fn of_box(&self, id: &str) -> PathBuf {
        self.boxes().join(id)
    }

    /// Makes a box's own directories, as far as they are missing.
    pub fn make_box(&self, id: &str) -> Result<()> {
        for part in ["disks", "snapshots", "sockets", "logs"] {
            let path = self.of_box(id).join(part);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| {
                Error::io(Code::Storage, format!("create {}", path.display()), &e).object(id)
            })?;
        }
        Ok(())
    }

    /// A box's disk.
    pub fn disk(&self, id: &str) -> PathBuf {
        self.of_box(id).join("disks/disk.qcow2")
    }

    /// The file of a box's snapshot.
    pub fn snapshot(&self, id: &str, name: &str) -> PathBuf {
        self.of_box(id).join("snapshots").join(name).join("disk.qcow2")
    }

    /// Files that several disks are on.
    pub fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }

    /// One that clones are on.
    pub fn base(&self, id: &str) -> PathBuf {
        self.bases().join(format!("{id}.qcow2"))
    }

    /// Held while it changes which disks there are, and which is on which.
    pub fn disks_lock(&self) -> PathBuf {
        self.root.join("locks/disks.lock")
    }

    /// Held while a box's state changes.
    pub fn box_lock(&self, id: &str) -> PathBuf {
        self.root.join("locks").join(format!("box-{id}.lock"))
    }

    /// The box of which a file is [`Home::box_lock`].
    pub fn box_of_lock(name: &OsStr) -> Option<&str> {
        name.to_str()?.strip_prefix("box-")?.strip_suffix(".lock")
    }
}

/// Held by every program that uses a home: shared, or alone to change its layout.
pub struct HomeLock {
    file: Flock<File>,
}

/// How long programs that change the layout, or are about to let go of the home, are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl HomeLock {
    /// Shares the home. BUSY, with who has it, while another program changes its layout.
    pub fn share(home: &Home) -> Result<HomeLock> {
        let path = home.lock();
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(|e| failed(&path, &e))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(file) => return Ok(HomeLock { file }),
                Err((_, e)) if e != Errno::EWOULDBLOCK => return Err(failed(&path, &e.into())),
                Err((again, _)) if Instant::now() < deadline => file = again,
                Err((held, _)) => {
                    return Err(busy(home, &held, "is changing the home's layout"));
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Has the home alone while `work` runs. BUSY, with who has it too, if others use it.
    pub fn alone<T>(&mut self, home: &Home, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let relock = |how| self.file.relock(how);
        let deadline = Instant::now() + PATIENCE;
        // Of two who want it alone, both give it up for a moment, and one gets it.
        while let Err(e) = relock(FlockArg::LockExclusiveNonblock) {
            if e != Errno::EWOULDBLOCK {
                return Err(failed(&home.lock(), &e.into()));
            }
            if Instant::now() >= deadline {
                let text = "uses the home, whose layout has to be changed first: close it there";
                return Err(busy(home, &self.file, text));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let outcome = work();
        // Somebody else may have it alone in between.
        relock(FlockArg::LockShared).map_err(|e| failed(&home.lock(), &e.into()))?;
        outcome
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::io(Code::Storage, format!("lock {}", path.display()), error)
}

fn busy(home: &Home, lock: &File, what: &str) -> Error {
    let holder = holders(lock).unwrap_or_default();
    let holder = if holder.is_empty() { "another program".into() } else { holder.join(", ") };
    let object = home.root().display().to_string();
    Error::new(Code::Busy, format!("{holder} {what}: try again when it is done")).object(object)
}

/// Who holds a lock on a file, as the kernel tells it: nobody has to write down what may then be
/// untrue. Nothing where it does not tell.
fn holders(lock: &File) -> io::Result<Vec<String>> {
    let inode = format!(":{}", lock.metadata()?.ino());
    let locks = fs::read_to_string("/proc/locks")?;
    let holder = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, pid, file) = (fields.next()?, fields.nth(2)?, fields.next()?);
        let pid: u32 = pid.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (kind == "FLOCK" && file.ends_with(&inode))
            .then(|| format!("{} (process {pid})", name.trim()))
    };
    Ok(locks.lines().filter_map(holder).collect())
}
