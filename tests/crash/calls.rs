//! System calls that change files in a directory, or make changes durable.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::trace::Raw;

/// A call that changes something below a directory.
pub struct Call {
    pub name: &'static str,
    /// What it changes.
    pub path: PathBuf,
    pub change: Change,
}

/// Files are told by the number of their inode.
pub enum Change {
    Write {
        file: u64,
        at: u64,
        bytes: Vec<u8>,
    },
    /// Like a write, of what another file has; `into` is the file as the tracer can open it.
    Copy {
        file: u64,
        at: u64,
        into: PathBuf,
    },
    Zero {
        file: u64,
        at: u64,
        length: u64,
    },
    /// Makes it at least so long.
    Extend {
        file: u64,
        length: u64,
    },
    SetLength {
        file: u64,
        length: u64,
    },
    Sync {
        file: u64,
    },
    Create,
    /// A file without a name.
    CreateUnnamed,
    Link {
        file: u64,
    },
    Rename {
        to: PathBuf,
    },
    Remove,
}

impl Change {
    /// Whether it needs space on the disk.
    pub fn takes_space(&self) -> bool {
        !matches!(self, Change::Sync { .. } | Change::Remove | Change::Zero { .. })
    }
}

impl Call {
    /// What a call that is about to be made will change below `root`, if anything.
    pub fn of(raw: &Raw, root: &Path) -> Option<Call> {
        let decoder = Decoder { raw, root };
        let (name, path, change) = decoder.decode()?;
        path.starts_with(root).then_some(Call { name, path, change })
    }
}

/// Text that a call writes to its standard output.
pub fn said(raw: &Raw) -> Option<String> {
    if raw.number != libc::SYS_write || raw.arguments[0] != 1 {
        return None;
    }
    let bytes = memory(raw.thread, raw.arguments[1], raw.arguments[2]);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

struct Decoder<'a> {
    raw: &'a Raw,
    root: &'a Path,
}

type Decoded = Option<(&'static str, PathBuf, Change)>;

impl Decoder<'_> {
    fn decode(&self) -> Decoded {
        let argument = |at: usize| self.raw.arguments[at];
        match self.raw.number {
            libc::SYS_open => self.open("open", self.path(0), argument(1)),
            libc::SYS_openat => self.open("openat", self.path_at(0, 1), argument(2)),
            libc::SYS_openat2 => {
                let how = memory(self.raw.thread, argument(2), 8);
                let flags = u64::from_ne_bytes(how.try_into().ok()?);
                self.open("openat2", self.path_at(0, 1), flags)
            }
            libc::SYS_write => self.write("write", None, self.buffer(1, 2)),
            libc::SYS_pwrite64 => self.write("pwrite64", Some(argument(3)), self.buffer(1, 2)),
            libc::SYS_writev => self.write("writev", None, self.vectors()),
            libc::SYS_pwritev | libc::SYS_pwritev2 => {
                self.write("pwritev", Some(argument(3)), self.vectors())
            }
            libc::SYS_copy_file_range => self.copy("copy_file_range", 2, argument(3)),
            libc::SYS_sendfile => self.copy("sendfile", 0, 0),
            libc::SYS_fallocate => self.allocate(),
            libc::SYS_ftruncate => {
                let file = self.file(0)?;
                let change = Change::SetLength { file: file.number, length: argument(1) };
                Some(("ftruncate", file.path, change))
            }
            libc::SYS_fsync => self.sync("fsync"),
            libc::SYS_fdatasync => self.sync("fdatasync"),
            libc::SYS_mkdir => Some(("mkdir", self.path(0)?, Change::Create)),
            libc::SYS_mkdirat => Some(("mkdirat", self.path_at(0, 1)?, Change::Create)),
            libc::SYS_link => self.link(self.path(0), self.path(1)),
            libc::SYS_linkat => self.link(self.path_at(0, 1), self.path_at(2, 3)),
            libc::SYS_rename => self.rename(self.path(0), self.path(1), 0),
            libc::SYS_renameat => self.rename(self.path_at(0, 1), self.path_at(2, 3), 0),
            libc::SYS_renameat2 => self.rename(self.path_at(0, 1), self.path_at(2, 3), argument(4)),
            libc::SYS_unlink => Some(("unlink", self.path(0)?, Change::Remove)),
            libc::SYS_rmdir => Some(("rmdir", self.path(0)?, Change::Remove)),
            libc::SYS_unlinkat => Some(("unlinkat", self.path_at(0, 1)?, Change::Remove)),
            libc::SYS_symlink
            | libc::SYS_symlinkat
            | libc::SYS_truncate
            | libc::SYS_creat
            | libc::SYS_syncfs
            | libc::SYS_sync
            | libc::SYS_splice => self.unknown(),
            _ => None,
        }
    }

    /// A call that nothing here makes today: it would have to be learned.
    fn unknown(&self) -> Decoded {
        let paths = [self.path(0), self.path(1), self.path_at(0, 1), self.path_at(1, 2)];
        let ours = paths.into_iter().flatten().any(|path| path.starts_with(self.root));
        assert!(!ours, "system call {} in {} is not known", self.raw.number, self.root.display());
        None
    }

    fn open(&self, name: &'static str, path: Option<PathBuf>, flags: u64) -> Decoded {
        let has = |flag: i32| {
            let flag = u64::from(flag.cast_unsigned());
            flags & flag == flag
        };
        let path = path?;
        if has(libc::O_TMPFILE) {
            return Some((name, path, Change::CreateUnnamed));
        }
        match fs::symlink_metadata(&path) {
            Ok(there) if has(libc::O_TRUNC) && there.len() > 0 => {
                Some((name, path, Change::SetLength { file: there.ino(), length: 0 }))
            }
            Err(e) if has(libc::O_CREAT) && e.kind() == io::ErrorKind::NotFound => {
                Some((name, path, Change::Create))
            }
            _ => None,
        }
    }

    fn write(&self, name: &'static str, at: Option<u64>, bytes: Vec<u8>) -> Decoded {
        let file = self.file(0)?;
        let at = at.unwrap_or_else(|| file.position());
        Some((name, file.path, Change::Write { file: file.number, at, bytes }))
    }

    /// With the argument that is the target, and where the target's offset lies, if there is one.
    fn copy(&self, name: &'static str, target: usize, offset: u64) -> Decoded {
        let file = self.file(target)?;
        let at = match offset {
            0 => file.position(),
            address => {
                let bytes = memory(self.raw.thread, address, 8);
                u64::from_ne_bytes(bytes.try_into().ok()?)
            }
        };
        let into = file.entry.clone();
        Some((name, file.path, Change::Copy { file: file.number, at, into }))
    }

    fn allocate(&self) -> Decoded {
        let file = self.file(0)?;
        let [_, mode, at, length, ..] = self.raw.arguments;
        let mode = i32::try_from(mode).ok()?;
        let change = if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
            Change::Zero { file: file.number, at, length }
        } else {
            let keeps = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
            Change::Extend { file: file.number, length: if keeps { 0 } else { at + length } }
        };
        Some(("fallocate", file.path, change))
    }

    fn sync(&self, name: &'static str) -> Decoded {
        let file = self.file(0)?;
        Some((name, file.path, Change::Sync { file: file.number }))
    }

    fn link(&self, from: Option<PathBuf>, to: Option<PathBuf>) -> Decoded {
        let file = fs::metadata(from?).ok()?.ino();
        Some(("linkat", to?, Change::Link { file }))
    }

    fn rename(&self, from: Option<PathBuf>, to: Option<PathBuf>, flags: u64) -> Decoded {
        let to = to?;
        let exchanges = flags & u64::from(libc::RENAME_EXCHANGE) != 0;
        assert!(!exchanges || !to.starts_with(self.root), "names that are exchanged are not known");
        Some(("rename", from?, Change::Rename { to }))
    }

    fn file(&self, argument: usize) -> Option<OpenFile> {
        let number = u32::try_from(self.raw.arguments[argument] & u64::from(u32::MAX)).ok()?;
        let entry = PathBuf::from(format!("/proc/{}/fd/{number}", self.raw.thread));
        let path = fs::read_link(&entry).ok().filter(|path| path.starts_with(self.root))?;
        let about = fs::metadata(&entry).ok()?;
        let is_ours = about.is_file() || about.is_dir();
        is_ours.then(|| OpenFile { entry, path, number: about.ino(), length: about.len() })
    }

    fn buffer(&self, address: usize, length: usize) -> Vec<u8> {
        if self.file(0).is_none() {
            return vec![];
        }
        memory(self.raw.thread, self.raw.arguments[address], self.raw.arguments[length])
    }

    fn vectors(&self) -> Vec<u8> {
        if self.file(0).is_none() {
            return vec![];
        }
        let (address, count) = (self.raw.arguments[1], self.raw.arguments[2]);
        let table = memory(self.raw.thread, address, count * 16);
        let number = |at: &[u8]| u64::from_ne_bytes(at.try_into().unwrap());
        let vectors = table.chunks_exact(16).map(|v| (number(&v[..8]), number(&v[8..])));
        vectors.flat_map(|(at, length)| memory(self.raw.thread, at, length)).collect()
    }

    fn path(&self, argument: usize) -> Option<PathBuf> {
        self.resolve(format!("/proc/{}/cwd", self.raw.thread).into(), argument)
    }

    fn path_at(&self, directory: usize, argument: usize) -> Option<PathBuf> {
        let number = self.raw.arguments[directory] as i32;
        let directory = match number {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.raw.thread),
            number => format!("/proc/{}/fd/{number}", self.raw.thread),
        };
        self.resolve(directory.into(), argument)
    }

    fn resolve(&self, directory: PathBuf, argument: usize) -> Option<PathBuf> {
        let text = text(self.raw.thread, self.raw.arguments[argument])?;
        let path = Path::new(OsStr::from_bytes(&text));
        if let Ok(of_itself) = path.strip_prefix("/proc/self") {
            return Some(Path::new("/proc").join(self.raw.thread.to_string()).join(of_itself));
        }
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        let directory = fs::read_link(directory).ok()?;
        Some(if text.is_empty() { directory } else { directory.join(path) })
    }
}

struct OpenFile {
    /// Of the process that has it open.
    entry: PathBuf,
    path: PathBuf,
    number: u64,
    length: u64,
}

impl OpenFile {
    /// Where the next write without an offset goes.
    fn position(&self) -> u64 {
        let about = self.entry.to_string_lossy().replace("/fd/", "/fdinfo/");
        let about = fs::read_to_string(about).unwrap_or_default();
        let field = |name: &str| about.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let flags = field("flags:").and_then(|f| i32::from_str_radix(f, 8).ok()).unwrap_or(0);
        if flags & libc::O_APPEND != 0 {
            return self.length;
        }
        field("pos:").and_then(|p| p.parse().ok()).unwrap_or(0)
    }
}

/// What a process has in its memory; less if there is less.
fn memory(thread: i32, address: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let file = File::open(format!("/proc/{thread}/mem"));
    let mut filled = 0;
    while let Ok(file) = &file
        && filled < bytes.len()
        && let Ok(n) = file.read_at(&mut bytes[filled..], address + filled as u64)
        && n > 0
    {
        filled += n;
    }
    bytes.truncate(filled);
    bytes
}

/// A text that ends with a zero byte.
fn text(thread: i32, address: u64) -> Option<Vec<u8>> {
    // Not across the end of its memory.
    let mut bytes = memory(thread, address, 4096 - address % 4096);
    if !bytes.contains(&0) {
        bytes = memory(thread, address, 4096);
    }
    let end = bytes.iter().position(|b| *b == 0)?;
    bytes.truncate(end);
    Some(bytes)
}
