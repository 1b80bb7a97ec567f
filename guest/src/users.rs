//! Users and groups, from the image's own `/etc/passwd` and `/etc/group`.
//!
//! The C library's look-ups would load name-service modules, which a static program cannot.
//! The rules are those of container runtimes: `user`, `uid`, `user:group`, `uid:gid`;
//! supplementary groups only where no group is named.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use boxlite_spawn::Credentials;

/// Who a process runs as, and where that user lives.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub credentials: Credentials,
    pub home: Vec<u8>,
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// What a file looked like when it was read: device, inode, size, times of change. Nothing for a
/// missing one.
type Stamp = Option<(u64, u64, u64, [i64; 4])>;

/// The database, read again only when a file has changed.
#[derive(Default)]
pub struct Cache {
    stamps: [Stamp; 2],
    database: Database,
    /// Whether it was ever read.
    filled: bool,
    /// Whether both files had been left alone for a while when they were read.
    settled: bool,
    /// Whether nothing of the box has run since.
    sole: bool,
}

/// The text of the two files; a missing file is empty.
#[derive(Default)]
pub struct Database {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl Cache {
    /// Reads it before anything of the box runs: whoever asks first need not look for changes.
    pub fn prime(&mut self) -> io::Result<()> {
        // The second time it may be trusted.
        self.get()?;
        self.get()?;
        self.sole = true;
        Ok(())
    }

    pub fn get(&mut self) -> io::Result<&Database> {
        if std::mem::take(&mut self.sole) {
            return Ok(&self.database);
        }
        if !self.settled || self.stamps != [stamp(PASSWD)?, stamp(GROUP)?] {
            let ((passwd_stamp, passwd), (group_stamp, group)) = (load(PASSWD)?, load(GROUP)?);
            self.stamps = [passwd_stamp, group_stamp];
            self.database = Database { passwd, group };
            // Not after the first time, which a box's start waits for: there may be no second.
            self.settled = self.filled && self.stamps.iter().flatten().all(is_old);
            self.filled = true;
        }
        Ok(&self.database)
    }
}

/// Whether the file's last change is so long ago that a later one will show: the kernel stamps
/// files by its ticks.
fn is_old(&(.., times): &(u64, u64, u64, [i64; 4])) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.is_ok_and(|now| times[2] + 1 < now.as_secs().cast_signed())
}

fn stamp(path: &str) -> io::Result<Stamp> {
    unless_missing(fs::metadata(path).map(|m| Some(stamp_of(&m))))
}

fn stamp_of(m: &Metadata) -> (u64, u64, u64, [i64; 4]) {
    let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
    (m.dev(), m.ino(), m.size(), times)
}

/// A file with what it looked like before it was read: should it change meanwhile, it is read
/// again next time.
fn load(path: &str) -> io::Result<(Stamp, Vec<u8>)> {
    let load = || {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        // A byte more than expected, so that the end shows. A size is no promise of a content.
        let mut text = vec![0; meta.size().min(64 * 1024) as usize + 1];
        let mut length = 0;
        loop {
            match file.read(&mut text[length..])? {
                0 => break,
                n => length += n,
            }
            if length == text.len() {
                text.resize(2 * length, 0);
            }
        }
        text.truncate(length);
        Ok((Some(stamp_of(&meta)), text))
    };
    unless_missing(load())
}

fn unless_missing<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(e) if e.raw_os_error() == Some(libc::ENOTDIR) => Ok(T::default()),
        other => other,
    }
}

impl Database {
    /// Resolves `user[:group]`; the message says what does not exist.
    pub fn resolve(&self, spec: &str) -> Result<Identity, String> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (spec, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let id = number(user.as_bytes());
        let (uid, mut gid, name, home) = match (self.user(user.as_bytes(), id), id) {
            (Some(u), _) => (u.uid, u.gid, u.name, u.home),
            (None, Some(uid)) => (uid, 0, &b""[..], &b"/"[..]),
            (None, None) => return Err(format!("no user '{user}' in the image's /etc/passwd")),
        };
        let mut groups = vec![];
        match group.filter(|g| !g.is_empty()) {
            Some(group) => gid = self.group_id(group)?,
            None if !name.is_empty() => groups = self.groups_of(name),
            None => {}
        }
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        let home = if home.is_empty() { b"/" } else { home };
        Ok(Identity { credentials: Credentials { uid, gid, groups }, home: home.to_vec() })
    }

    /// A name that is all digits is still a name first.
    fn user(&self, name: &[u8], id: Option<u32>) -> Option<User<'_>> {
        let mut by_id = None;
        for user in self.users() {
            if user.name == name {
                return Some(user);
            }
            if by_id.is_none() && Some(user.uid) == id {
                by_id = Some(user);
            }
        }
        by_id
    }

    fn group_id(&self, group: &str) -> Result<u32, String> {
        self.groups()
            .find(|g| g.name == group.as_bytes())
            .map(|g| g.gid)
            .or_else(|| number(group.as_bytes()))
            .ok_or_else(|| format!("no group '{group}' in the image's /etc/group"))
    }

    fn groups_of(&self, user: &[u8]) -> Vec<u32> {
        let lists = |g: &Group<'_>| g.members.split(|b| *b == b',').any(|m| m == user);
        self.groups().filter(lists).map(|g| g.gid).collect()
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        rows(&self.passwd).filter_map(|mut f| {
            let (name, _password) = (f.next()?, f.next()?);
            let (uid, gid) = (number(f.next()?)?, number(f.next()?)?);
            Some(User { name, uid, gid, home: f.nth(1).unwrap_or_default() })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        rows(&self.group).filter_map(|mut f| {
            let (name, _password) = (f.next()?, f.next()?);
            Some(Group { name, gid: number(f.next()?)?, members: f.next().unwrap_or_default() })
        })
    }
}

fn rows(text: &[u8]) -> impl Iterator<Item = impl Iterator<Item = &[u8]>> {
    text.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b':'))
}

fn number(field: &[u8]) -> Option<u32> {
    let digit = |b: &u8| b.is_ascii_digit().then(|| u32::from(b - b'0'));
    let add = |n: u32, b: &u8| n.checked_mul(10)?.checked_add(digit(b)?);
    if field.is_empty() { None } else { field.iter().try_fold(0, add) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            passwd: b"root:x:0:0:root:/root:/bin/sh\n\
                      broken line\n\
                      app:x:1000:1000::/home/app:/bin/sh\n\
                      bare:x:1001:1001\n\
                      1234:x:77:77::/digits:\n\
                      \xff\xfe:x:5:5::/bytes:"
                .to_vec(),
            group: b"root:x:0:\nwheel:x:10:app,other\napp:x:1000:\naudio:x:29:other,app\n".to_vec(),
        }
    }

    fn ids(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let i = database().resolve(spec).unwrap();
        let c = i.credentials;
        (c.uid, c.gid, c.groups, String::from_utf8(i.home).unwrap())
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let app = (1000, 1000, vec![1000, 10, 29], "/home/app".into());
        assert_eq!(ids("app"), app);
        assert_eq!(ids("1000"), app);
        assert_eq!(ids(""), (0, 0, vec![0], "/root".into()));
        assert_eq!(ids("bare"), (1001, 1001, vec![1001], "/".into()));
    }

    #[test]
    fn a_named_group_replaces_all_groups() {
        assert_eq!(ids("app:wheel"), (1000, 10, vec![10], "/home/app".into()));
        assert_eq!(ids("app:4242"), (1000, 4242, vec![4242], "/home/app".into()));
        assert_eq!(ids(":audio"), (0, 29, vec![29], "/root".into()));
    }

    #[test]
    fn a_number_without_an_entry_is_a_user_without_a_home() {
        assert_eq!(ids("4000"), (4000, 0, vec![0], "/".into()));
    }

    #[test]
    fn a_name_of_digits_is_a_name_first() {
        assert_eq!(ids("1234"), (77, 77, vec![77], "/digits".into()));
    }

    #[test]
    fn unknown_names_are_errors_that_name_them() {
        assert!(database().resolve("nobody").unwrap_err().contains("'nobody'"));
        assert!(database().resolve("app:nogroup").unwrap_err().contains("'nogroup'"));
        assert!(Database::default().resolve("root").is_err());
        assert!(Database::default().resolve("0").is_ok());
    }
}
