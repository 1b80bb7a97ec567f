//! Machine templates on disk: finding them, trusting them, making room for them.
//!
//! A template is a directory named by a hash of everything that shapes the machine in it:
//!
//! ```text
//! <key>/template.json   what it was made from, and how to tell that it is intact
//! <key>/state           the state of the devices, as QEMU writes it
//! <key>/ram             the guest's memory, a sparse file
//! <key>/disk            what it has written to its disk, if it has one: an overlay
//! <key>/proven          there once a machine made from it has answered
//! <key>.lock            held while it is made
//! <key>.new/            being made
//! ```
//!
//! It is never changed once it has its name. State and disk are small, and their hashes are checked
//! whenever they are used; what is used is the very bytes that were checked. The memory is too large
//! for that, so the file itself has to be the one that was written, and not written to since: inode,
//! size and both times, of which the change time cannot be set by anybody. That holds as long as
//! the host runs, and a template is used no longer than that: the host's boot is part of its key.
//!
//! Whoever runs a machine from a template holds a shared lock on its `template.json`; what is
//! removed is what nobody holds. (A machine keeps what it has mapped in any case.)

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use boxlite_protocol::placeholder;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::TMPFS_MAGIC;
use serde::{Deserialize, Serialize};

use super::files::{in_memory, is_named, open_file, open_lock, read_file, remove};
use super::prune::prune;
use super::recipe::Recipe;
use super::seal::{Mark, Seal};
use crate::engine::TemplatePolicy;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};

/// After making a template has failed, nobody tries again for so long.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A state or a disk larger than this is not one.
const MAX_SMALL: u64 = 64 << 20;
/// And a description larger than this.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// Less free space than this, and making a template is not begun. One of 512 MiB takes 40 MiB.
const NEEDED_SPACE: u64 = 128 << 20;

pub const DESCRIPTION: &str = "template.json";
const STATE: &str = "state";
const MEMORY: &str = "ram";
const DISK: &str = "disk";
const PROVEN: &str = "proven";

/// What the names of other things than templates end with, or contain.
pub const LOCK: &str = ".lock";
pub const WORKSHOP: &str = ".new";
pub const HIDDEN: &str = ".old-";

/// What is written beside a template.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    pub recipe: Recipe,
    /// Seconds since 1970.
    made: u64,
    state: Seal,
    disk: Option<Seal>,
    /// Where on the disk the place of which text is.
    texts: Vec<Option<Range<usize>>>,
    memory: Mark,
}

impl Description {
    /// How long ago it was made; a time to come (the clock was set back) counts as long ago.
    pub fn age(&self) -> Duration {
        now().checked_sub(self.made).map_or(Duration::MAX, Duration::from_secs)
    }
}

/// A template that was found intact. As long as this lives, nobody removes it.
pub struct Template {
    pub memory: File,
    /// The checked bytes, at their beginning.
    pub state: File,
    /// The checked bytes of the disk that the machine has written to; empty if it had none.
    pub disk: Vec<u8>,
    texts: Vec<Option<Range<usize>>>,
    /// A machine made from it has answered, and it has not changed since: if another is silent, the
    /// template is not to blame.
    pub proven: bool,
    _in_use: Flock<File>,
}

impl Template {
    /// Writes texts in the places that a disk, which is this one or comes of it, has for them: all of
    /// them, or none.
    pub fn inscribe(&self, disk: &mut [u8], texts: &[String]) -> bool {
        let places = (0..).zip(texts).map(|(file, text)| {
            let place = self.texts.get(usize::from(file)).cloned().flatten()?;
            let held = placeholder::make(file, text.len())?;
            (disk.get(place.clone()) == Some(&held[..])).then_some(place)
        });
        let Some(places) = places.collect::<Option<Vec<_>>>() else { return false };
        for (place, text) in places.into_iter().zip(texts) {
            disk[place].copy_from_slice(text.as_bytes());
        }
        !texts.is_empty()
    }
}

/// Where on a disk there are places for texts.
fn places(disk: &[u8]) -> Vec<Option<Range<usize>>> {
    (0..).zip(placeholder::FILES).map(|(file, _)| placeholder::find(disk, file)).collect()
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

    /// Where the template is.
    pub fn path(&self) -> PathBuf {
        self.policy.directory.join(&self.key)
    }

    /// Where the template is made.
    fn workshop(&self) -> PathBuf {
        self.policy.directory.join(format!("{}{WORKSHOP}", self.key))
    }

    /// Where the disk of a template that has one belongs while it is made.
    pub fn new_disk(&self) -> PathBuf {
        self.workshop().join(DISK)
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
        if description.age() > self.policy.max_age {
            return Err(wrong("it is too old"));
        }
        // A box over another disk than the one that is mounted would spoil it.
        if description.disk.is_some() != self.recipe.disk.is_some() {
            return Err(wrong("its disk is not described"));
        }
        let memory = open_file(&path.join(MEMORY)).map_err(|e| damaged(MEMORY, e))?;
        if Mark::of(&memory).map_err(|e| damaged(MEMORY, e))? != description.memory {
            return Err(wrong("its memory is not the file that was saved, or was written to"));
        }
        let sealed = |name: &str, what: &str, seal: &Seal| {
            let bytes = read_small(&path.join(name)).map_err(|e| damaged(name, e))?;
            match seal.broken(&bytes) {
                None => Ok(bytes),
                Some(part) => Err(wrong(&format!("{what} has another {part}"))),
            }
        };
        let state = sealed(STATE, "the state of its devices", &description.state)?;
        let state = in_memory(&state).map_err(|e| damaged(STATE, e))?;
        let disk = description.disk.as_ref();
        let disk = disk.map_or(Ok(vec![]), |seal| sealed(DISK, "its disk", seal))?;
        let texts = description.texts;
        // For who looks for the one used longest ago; a time that cannot be set does no harm.
        let _ = in_use.set_times(fs::FileTimes::new().set_modified(SystemTime::now()));
        let proven = path.join(PROVEN).exists();
        Ok(Template { memory, state, disk, texts, proven, _in_use: in_use })
    }

    /// Notes that the template works. Not noted, it is only suspected too soon.
    pub fn prove(&self) {
        let _ = File::create(self.path().join(PROVEN));
    }

    /// Waits for the right to make the template. A file that everybody locks would do no good if
    /// it had lost its name meanwhile, so that is looked at.
    pub fn lock(&self) -> Result<MakingLock> {
        let path = self.policy.directory.join(format!("{}{LOCK}", self.key));
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
    ///
    /// Not in a tmpfs: there, what is only read of a sparse file takes space too, as much as the
    /// machine has memory in the end; and where there is none, who reads is ended.
    pub fn begin(&self, _lock: &MakingLock, memory_bytes: u64) -> Result<(File, File)> {
        let workshop = self.workshop();
        let begin = || {
            remove(&workshop)?;
            DirBuilder::new().mode(0o700).create(&workshop)?;
            if nix::sys::statfs::statfs(&workshop)?.filesystem_type() == TMPFS_MAGIC {
                return Err(io::Error::other("a tmpfs holds no templates"));
            }
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
            let read = |name| read_small(&workshop.join(name));
            let disk = self.recipe.disk.as_ref().map(|_| read(DISK)).transpose()?;
            let places = disk.as_ref().map(|disk| places(disk));
            let description = Description {
                recipe: self.recipe.clone(),
                made: now(),
                state: Seal::of(&read(STATE)?),
                disk: disk.as_deref().map(Seal::of),
                texts: places.unwrap_or_default(),
                memory: Mark::of(&open_file(&workshop.join(MEMORY))?)?,
            };
            let text = serde_json::to_vec_pretty(&description)?;
            fs::write(workshop.join(DESCRIPTION), text)?;
            failpoint::hit(Point::StartTemplate);
            self.discard()?;
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

    /// Removes templates that are too many or too old.
    pub fn make_room(&self) -> io::Result<()> {
        prune(&self.policy, &self.recipe)
    }

    /// Takes a template out of use that turned out not to work.
    pub fn discard(&self) -> io::Result<()> {
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

/// Reads what a template was made from.
pub fn describe(path: &Path) -> io::Result<Description> {
    Ok(serde_json::from_slice(&read_file(&open_file(&path.join(DESCRIPTION))?, MAX_DESCRIPTION)?)?)
}

/// Reads a description and holds its template.
fn hold(path: &Path) -> io::Result<(Flock<File>, Description)> {
    let file = match Flock::lock(open_file(path)?, FlockArg::LockSharedNonblock) {
        Ok(file) => file,
        // Whoever holds it alone is removing it.
        Err((_, Errno::EWOULDBLOCK)) => return Err(io::ErrorKind::NotFound.into()),
        Err((_, e)) => return Err(e.into()),
    };
    if !is_named(&file, path) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let text = read_file(&file, MAX_DESCRIPTION)?;
    Ok((file, serde_json::from_slice(&text)?))
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_file(&open_file(path)?, MAX_SMALL)
}

/// Takes a template's name away, then its files.
pub fn remove_template(path: &Path) -> io::Result<()> {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!("{HIDDEN}{}", ulid::Ulid::generate()));
    match fs::rename(path, &hidden) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    remove(Path::new(&hidden))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn policy(directory: &Path) -> TemplatePolicy {
        TemplatePolicy {
            directory: directory.to_owned(),
            max_age: Duration::from_secs(3600),
            max_bytes: 1 << 30,
            disks: true,
        }
    }

    fn recipe(kernel: &str) -> Recipe {
        let files = ["qemu".into(), kernel.into(), "initramfs".into()];
        Recipe::new("this boot".into(), files, vec!["-m".into(), "1M".into()])
    }

    fn place(directory: &Path, kernel: &str) -> Place {
        Place::new(policy(directory), recipe(kernel))
    }

    /// Makes a template of a machine with a megabyte of memory.
    fn make(place: &Place) {
        let lock = place.lock().unwrap();
        let (memory, mut state) = place.begin(&lock, 1 << 20).unwrap();
        memory.write_all_at(&[7; 8192], 4096).unwrap();
        state.write_all(b"the state of the devices").unwrap();
        if place.recipe.disk.is_some() {
            fs::write(place.new_disk(), b"what was written").unwrap();
        }
        place.finish(&lock).unwrap();
        lock.succeeded();
    }

    fn why(place: &Place) -> String {
        match place.find().err().unwrap() {
            Absence::Missing => "missing".into(),
            Absence::Unusable(why) => why,
        }
    }

    #[test]
    fn what_was_made_is_found_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), "k1");
        assert_eq!(why(&place), "missing");
        make(&place);
        let mut state = String::new();
        place.find().unwrap().state.read_to_string(&mut state).unwrap();
        assert_eq!(state, "the state of the devices");
        assert_eq!(why(&super::tests::place(dir.path(), "k2")), "missing");
    }

    /// Changes a fresh template, and tells why it is not used any more.
    fn after(change: impl FnOnce(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), "k");
        make(&place);
        place.find().unwrap();
        change(&place.path());
        why(&place)
    }

    fn open(path: PathBuf) -> File {
        OpenOptions::new().write(true).open(path).unwrap()
    }

    #[test]
    fn every_kind_of_damage_is_noticed() {
        let memory = "its memory is not the file that was saved, or was written to";
        let flipped = after(|t| {
            let before = fs::metadata(t.join(MEMORY)).unwrap();
            let file = open(t.join(MEMORY));
            file.write_all_at(&[8], 5000).unwrap();
            // Whoever sets the time back cannot set back that it was set.
            file.set_modified(before.modified().unwrap()).unwrap();
        });
        assert_eq!(flipped, memory);
        assert_eq!(after(|t| open(t.join(MEMORY)).set_len(9000).unwrap()), memory);
        let copied = after(|t| {
            fs::copy(t.join(MEMORY), t.join("copy")).unwrap();
            fs::rename(t.join("copy"), t.join(MEMORY)).unwrap();
        });
        assert_eq!(copied, memory);
        let gone = after(|t| fs::remove_file(t.join(MEMORY)).unwrap());
        assert!(gone.starts_with("ram: No such file"), "{gone}");

        let flipped = after(|t| open(t.join(STATE)).write_all_at(b"T", 0).unwrap());
        assert_eq!(flipped, "the state of its devices has another checksum");
        let truncated = after(|t| open(t.join(STATE)).set_len(3).unwrap());
        assert_eq!(truncated, "the state of its devices has another size");
        let huge = after(|t| open(t.join(STATE)).set_len(MAX_SMALL + 1).unwrap());
        assert_eq!(huge, "state: too large");

        let garbage = after(|t| fs::write(t.join(DESCRIPTION), b"{").unwrap());
        assert!(garbage.starts_with("template.json: EOF"), "{garbage}");
        assert_eq!(after(|t| fs::remove_dir_all(t).unwrap()), "missing");
        let file = after(|t| {
            fs::remove_dir_all(t).unwrap();
            fs::write(t, b"a file").unwrap();
        });
        assert!(file.starts_with("template.json: Not a directory"), "{file}");
    }

    #[test]
    fn nothing_else_with_the_name_of_a_file_is_waited_for_or_read() {
        for name in [DESCRIPTION, MEMORY, STATE] {
            let pipe = after(|t| {
                fs::remove_file(t.join(name)).unwrap();
                nix::unistd::mkfifo(&t.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
            });
            assert_eq!(pipe, format!("{name}: not a file"));
        }
        let huge = after(|t| open(t.join(DESCRIPTION)).set_len(1 << 40).unwrap());
        assert_eq!(huge, "template.json: too large");
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), "k");
        let lock = dir.path().join(format!("{}{LOCK}", place.key));
        nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(place.lock().is_err());
    }

    #[test]
    fn one_of_other_parts_under_this_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (place(dir.path(), "k1"), place(dir.path(), "k2"));
        make(&theirs);
        fs::rename(theirs.path(), ours.path()).unwrap();
        assert_eq!(why(&ours), "it was made from other parts");
    }

    #[test]
    fn one_with_a_disk_is_used_with_that_disk_only() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe { disk: Some("a disk".into()), ..recipe("k") };
        let place = Place::new(policy(dir.path()), recipe);
        let disk = place.path().join(DISK);
        make(&place);
        assert_eq!(place.find().unwrap().disk, b"what was written");
        fs::write(&disk, b"What was written").unwrap();
        assert_eq!(why(&place), "its disk has another checksum");
        fs::write(&disk, b"what").unwrap();
        assert_eq!(why(&place), "its disk has another size");
        fs::remove_file(&disk).unwrap();
        assert!(why(&place).starts_with("disk: No such file"));

        make(&place);
        let mut description = describe(&place.path()).unwrap();
        description.disk = None;
        let text = serde_json::to_vec(&description).unwrap();
        fs::write(place.path().join(DESCRIPTION), text).unwrap();
        assert_eq!(why(&place), "its disk is not described");
        // Nobody who wants another machine, or another disk, takes it for that.
        assert_eq!(why(&self::place(dir.path(), "k")), "missing");
    }

    #[test]
    fn an_old_one_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let policy = TemplatePolicy { max_age: Duration::ZERO, ..policy(dir.path()) };
        let place = Place::new(policy, recipe("k"));
        make(&place);
        let path = place.path().join(DESCRIPTION);
        let mut description = describe(&place.path()).unwrap();
        description.made -= 2;
        fs::write(path, serde_json::to_vec(&description).unwrap()).unwrap();
        assert_eq!(why(&place), "it is too old");
        make(&place);
        assert!(describe(&place.path()).unwrap().made > description.made);
    }

    #[test]
    fn whatever_is_in_the_way_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), "k");
        fs::write(place.path(), b"a file").unwrap();
        fs::write(place.workshop(), b"a file").unwrap();
        make(&place);
        place.find().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the template and its lock");
    }

    #[test]
    fn who_waited_for_a_failure_does_not_repeat_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), "k");
        let lock = place.lock().unwrap();
        assert!(!lock.failed_lately());
        let waiting = std::thread::spawn({
            let place = place.clone();
            move || place.lock().unwrap().failed_lately()
        });
        place.begin(&lock, 1 << 20).unwrap();
        place.give_up(&lock);
        drop(lock);
        assert!(waiting.join().unwrap());
        assert!(place.lock().unwrap().failed_lately());
        assert!(!place.workshop().exists());
        // Making one works again: nothing is left of it.
        make(&place);
        assert!(!place.lock().unwrap().failed_lately());
    }

    #[test]
    fn too_many_go_the_one_used_longest_ago_first_and_none_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["in use", "old", "young"];
        let places = names.map(|name| place(dir.path(), name));
        places.iter().for_each(make);
        let used = |place: &Place, at| {
            let file = File::open(place.path().join(DESCRIPTION)).unwrap();
            file.set_times(fs::FileTimes::new().set_modified(at)).unwrap();
        };
        let held = places[0].find().unwrap();
        let hour = Duration::from_secs(3600);
        used(&places[0], SystemTime::now() - 3 * hour);
        used(&places[1], SystemTime::now() - 2 * hour);
        used(&places[2], SystemTime::now() - hour);
        // A killed maker's workshop, and what a killed remover had hidden.
        fs::create_dir(dir.path().join("0123.new")).unwrap();
        fs::write(dir.path().join("0123.lock"), b"").unwrap();
        fs::create_dir(dir.path().join("0123.old-9")).unwrap();

        let kept = place(dir.path(), "kept");
        make(&kept);
        let one = fs::read_dir(kept.path()).unwrap().map(|e| e.unwrap().metadata().unwrap());
        let one: u64 = one.map(|m| m.blocks() * 512).sum();
        let policy = TemplatePolicy { max_bytes: 3 * one, ..policy(dir.path()) };
        Place::new(policy, recipe("kept")).make_room().unwrap();

        let there = |place: &Place| place.find().is_ok();
        assert!(there(&places[0]) && there(&kept) && there(&places[2]) && !there(&places[1]));
        let left = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
        let left: Vec<_> = left.filter(|n| n.to_string_lossy().starts_with("0123")).collect();
        assert!(left.is_empty(), "{left:?}");
        drop(held);
    }

    #[test]
    fn those_of_an_earlier_boot_go() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = Recipe { host_boot: "earlier".into(), ..recipe("k") };
        let earlier = Place::new(policy(dir.path()), earlier);
        make(&earlier);
        let now = place(dir.path(), "k");
        make(&now);
        now.make_room().unwrap();
        assert!(!earlier.path().exists() && now.path().exists());
    }
}
