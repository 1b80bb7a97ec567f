//! Machine templates on disk: finding them, trusting them, making room for them.
//!
//! A template is a directory named by a hash of everything that shapes the machine in it:
//!
//! ```text
//! <key>/template.json   what it was made from, and how to tell that it is intact
//! <key>/state           the state of the devices, as QEMU writes it
//! <key>/ram             the guest's memory, a sparse file
//! <key>.lock            held while it is made
//! <key>.new/            being made
//! ```
//!
//! It is never changed once it has its name. The state is small, and its hash is checked whenever
//! it is loaded; what is loaded is the very bytes that were checked. The memory is too large for
//! that, so the file itself has to be the one that was written, and not written to since: inode,
//! size and both times, of which the change time cannot be set by anybody. That holds as long as
//! the host runs, and a template is used no longer than that: the host's boot is part of its key.
//!
//! Whoever runs a machine from a template holds a shared lock on its `template.json`; what is
//! removed is what nobody holds. (A machine keeps what it has mapped in any case.)

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::TemplatePolicy;
use crate::error::{Code, Error, Result};

/// Changes when templates of an older library cannot be used any more.
const FORMAT: u32 = 1;

/// After making a template has failed, nobody tries again for so long.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A state larger than this is not one.
const MAX_STATE: u64 = 64 << 20;

/// Less free space than this, and making a template is not begun. One of 512 MiB takes 40 MiB.
const NEEDED_SPACE: u64 = 128 << 20;

const DESCRIPTION: &str = "template.json";
const STATE: &str = "state";
const MEMORY: &str = "ram";

/// Everything that shapes a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    pub format: u32,
    pub host_boot: String,
    pub qemu: String,
    pub kernel: String,
    pub initramfs: String,
    /// The command line that the machine is made with: accelerator, processors, memory, devices,
    /// the kernel's arguments.
    pub arguments: Vec<String>,
}

impl Recipe {
    pub fn new(
        host_boot: String,
        [qemu, kernel, initramfs]: [String; 3],
        arguments: Vec<String>,
    ) -> Recipe {
        Recipe { format: FORMAT, host_boot, qemu, kernel, initramfs, arguments }
    }

    /// The name of this recipe's template.
    fn key(&self) -> String {
        let mut hash = Sha256::new();
        let parts = [&self.host_boot, &self.qemu, &self.kernel, &self.initramfs];
        hash.update(self.format.to_le_bytes());
        for part in parts.into_iter().chain(&self.arguments) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize()[..16])
    }
}

/// What is written beside a template.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    recipe: Recipe,
    /// Seconds since 1970.
    made: u64,
    state_bytes: u64,
    state_sha256: String,
    memory: Mark,
}

/// Tells a file from every other, and from itself after it was written to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    fn of(file: &File) -> io::Result<Mark> {
        let meta = file.metadata()?;
        Ok(Mark {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// A template that was found intact. As long as this lives, nobody removes it.
pub struct Template {
    pub memory: File,
    /// The checked bytes, at their beginning.
    pub state: File,
    _in_use: Flock<File>,
}

/// Why there is no template to use.
#[derive(Debug)]
pub enum Absence {
    /// None was made yet.
    Missing,
    Unusable(String),
}

/// The place of one template.
#[derive(Clone)]
pub struct Place {
    policy: TemplatePolicy,
    recipe: Recipe,
    key: String,
}

/// The right to make a template.
pub struct MakingLock {
    file: Flock<File>,
    /// Somebody else had it before.
    pub waited: bool,
}

impl Place {
    pub fn new(policy: TemplatePolicy, recipe: Recipe) -> Place {
        let key = recipe.key();
        Place { policy, recipe, key }
    }

    fn path(&self) -> PathBuf {
        self.policy.directory.join(&self.key)
    }

    /// Where the template is made.
    fn workshop(&self) -> PathBuf {
        self.policy.directory.join(format!("{}.new", self.key))
    }

    /// The template, if there is one that is intact and not too old.
    pub fn find(&self) -> std::result::Result<Template, Absence> {
        let damaged = |what: &str, e: io::Error| match e.kind() {
            io::ErrorKind::NotFound if what == DESCRIPTION => Absence::Missing,
            _ => Absence::Unusable(format!("{what}: {e}")),
        };
        let wrong = |what: &str| Absence::Unusable(what.to_owned());
        let path = self.path();
        let (in_use, description) =
            hold(&path.join(DESCRIPTION)).map_err(|e| damaged(DESCRIPTION, e))?;
        if description.recipe != self.recipe {
            return Err(wrong("it was made from other parts"));
        }
        if age(description.made) > self.policy.max_age {
            return Err(wrong("it is too old"));
        }
        let memory = File::open(path.join(MEMORY)).map_err(|e| damaged(MEMORY, e))?;
        if Mark::of(&memory).map_err(|e| damaged(MEMORY, e))? != description.memory {
            return Err(wrong("its memory is not the file that was saved, or was written to"));
        }
        let state = read_state(&path.join(STATE)).map_err(|e| damaged(STATE, e))?;
        if state.len() as u64 != description.state_bytes {
            return Err(wrong("the state of its devices has another size"));
        }
        if hex(&Sha256::digest(&state)) != description.state_sha256 {
            return Err(wrong("the state of its devices has another checksum"));
        }
        let state = in_memory(&state).map_err(|e| damaged(STATE, e))?;
        // For who looks for the one used longest ago; a time that cannot be set does no harm.
        let _ = in_use.set_times(fs::FileTimes::new().set_accessed(SystemTime::now()));
        Ok(Template { memory, state, _in_use: in_use })
    }

    /// Waits for the right to make the template. A file that everybody locks would do no good if
    /// it had lost its name meanwhile, so that is looked at.
    pub fn lock(&self) -> Result<MakingLock> {
        let path = self.policy.directory.join(format!("{}.lock", self.key));
        let failed =
            |e: io::Error| Error::io(Code::Storage, format!("lock {}", path.display()), &e);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.policy.directory)
            .map_err(failed)?;
        let mut waited = false;
        loop {
            let file = open_lock(&path).map_err(failed)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((file, Errno::EWOULDBLOCK)) => {
                    waited = true;
                    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| failed(e.into()))?
                }
                Err((_, e)) => return Err(failed(e.into())),
            };
            if is_named(&file, &path) {
                return Ok(MakingLock { file, waited });
            }
        }
    }

    /// Makes room for a new template: an empty directory and a file for its memory.
    pub fn begin(&self, _lock: &MakingLock, memory_bytes: u64) -> Result<(File, File)> {
        let workshop = self.workshop();
        let begin = || {
            remove(&workshop)?;
            DirBuilder::new().mode(0o700).create(&workshop)?;
            let space = nix::sys::statvfs::statvfs(&workshop)?;
            if space.blocks_available() * space.fragment_size() < NEEDED_SPACE {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let new = |name: &str| {
                let mut options = OpenOptions::new();
                options.create_new(true).read(true).write(true).mode(0o600);
                options.open(workshop.join(name))
            };
            let memory = new(MEMORY)?;
            memory.set_len(memory_bytes)?;
            Ok((memory, new(STATE)?))
        };
        begin().map_err(|e: io::Error| {
            Error::io(Code::Storage, format!("make {}", workshop.display()), &e)
        })
    }

    /// Gives what was made its name. The machine that made it has ended.
    pub fn finish(&self, _lock: &MakingLock) -> Result<()> {
        let workshop = self.workshop();
        let finish = || {
            let state = read_state(&workshop.join(STATE))?;
            let description = Description {
                recipe: self.recipe.clone(),
                made: now(),
                state_bytes: state.len() as u64,
                state_sha256: hex(&Sha256::digest(&state)),
                memory: Mark::of(&File::open(workshop.join(MEMORY))?)?,
            };
            let text = serde_json::to_vec_pretty(&description)?;
            fs::write(workshop.join(DESCRIPTION), text)?;
            self.remove_named()?;
            fs::rename(&workshop, self.path())
        };
        finish().map_err(|e: io::Error| {
            Error::io(Code::Storage, format!("keep {}", workshop.display()), &e)
        })
    }

    /// Notes that making the template has failed, and cleans up. It matters less than why.
    pub fn give_up(&self, lock: &MakingLock) {
        let _ = remove(&self.workshop());
        // A length takes no space: this works on a full disk.
        let _ = lock.file.set_len(1);
        let _ = lock.file.set_times(fs::FileTimes::new().set_modified(SystemTime::now()));
    }

    /// Takes a template out of use that turned out not to work.
    pub fn discard(&self) {
        if let Err(error) = self.remove_named() {
            tracing::warn!("template {} cannot be removed: {error}", self.key);
        }
    }

    /// Out of sight in one step, then gone.
    fn remove_named(&self) -> io::Result<()> {
        remove_template(&self.path())
    }
}

impl MakingLock {
    /// Whether somebody has just tried in vain.
    pub fn failed_lately(&self) -> bool {
        let Ok(meta) = self.file.metadata() else { return false };
        let recent = |time: SystemTime| time.elapsed().is_ok_and(|e| e < RETRY_AFTER);
        meta.len() > 0 && (self.waited || meta.modified().is_ok_and(recent))
    }

    /// Notes that making the template works.
    pub fn succeeded(&self) {
        let _ = self.file.set_len(0);
    }
}

/// Reads a description and holds its template.
fn hold(path: &Path) -> io::Result<(Flock<File>, Description)> {
    let file = File::open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(file) => file,
        // Whoever holds it alone is removing it.
        Err((_, Errno::EWOULDBLOCK)) => return Err(io::ErrorKind::NotFound.into()),
        Err((_, e)) => return Err(e.into()),
    };
    if !is_named(&file, path) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((file, serde_json::from_str(&text)?))
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Whether an open file still is what its path names.
fn is_named(file: &File, path: &Path) -> bool {
    let same = || {
        let (ours, named) = (file.metadata()?, fs::symlink_metadata(path)?);
        io::Result::Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
    };
    same().unwrap_or(false)
}

fn read_state(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_STATE {
        return Err(io::Error::other("too large"));
    }
    let mut state = Vec::new();
    file.take(MAX_STATE).read_to_end(&mut state)?;
    Ok(state)
}

/// A file without a name that holds these bytes.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let fd = rustix::fs::memfd_create(c"boxlite-state", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Takes a template's name away, then its files.
fn remove_template(path: &Path) -> io::Result<()> {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".old-{}", ulid::Ulid::generate()));
    match fs::rename(path, &hidden) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    remove(Path::new(&hidden))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How long ago that was; a time to come (the clock was set back) counts as long ago.
fn age(made: u64) -> Duration {
    now().checked_sub(made).map_or(Duration::MAX, Duration::from_secs)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
