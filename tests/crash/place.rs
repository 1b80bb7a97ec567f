//! A directory of the tests' own, with a home and the helper programs. Nothing else on the host has its
//! name on a command line: so what has it is a supervisor or a machine of ours.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::inspect;
use crate::victim;

/// Only guards against hanging.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Place {
    root: TempDir,
}

impl Place {
    pub fn new() -> Place {
        let root = tempfile::Builder::new().prefix("boxlite-test-").tempdir_in("/tmp").unwrap();
        let place = Place { root };
        let helpers = PathBuf::from(std::env::var_os("BOXLITE_LIBEXEC").unwrap());
        fs::create_dir(place.libexec()).unwrap();
        for name in ["vmlinux", "initramfs"] {
            fs::copy(helpers.join(name), place.libexec().join(name)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_boxlite-shim"), place.libexec().join("boxlite-shim")).unwrap();
        place
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    pub fn libexec(&self) -> PathBuf {
        self.path().join("libexec")
    }

    /// The home that all cases share which do not need one of their own.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// This program, as somebody who does something in a home.
    pub fn victim(&self, role: &str, home: &Path) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .env(victim::ROLE, role)
            .env(victim::HOME, home)
            .env("BOXLITE_LIBEXEC", self.libexec());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Runs one to its end, and returns what it said.
    pub fn run(&self, role: &str, home: &Path) -> String {
        finish(self.victim(role, home).spawn().unwrap())
    }

    /// The process ids of the supervisors.
    pub fn supervisors(&self) -> Vec<u32> {
        let is =
            |line: &[u8]| line.strip_suffix(b"\0").is_some_and(|l| l.ends_with(b"/boxlite-shim"));
        self.processes().into_iter().filter(|(_, line)| is(line)).map(|(pid, _)| pid).collect()
    }

    /// All processes of the library's, with their command lines.
    pub fn processes(&self) -> Vec<(u32, Vec<u8>)> {
        let root = self.path().as_os_str().as_bytes();
        let ours = |line: &[u8]| line.windows(root.len()).any(|w| w == root);
        let entries = fs::read_dir("/proc").unwrap();
        let pid = |name: &OsStr| name.to_str()?.parse::<u32>().ok();
        let pids = entries.filter_map(|e| pid(&e.ok()?.file_name()));
        let lines = pids.filter_map(|p| Some((p, fs::read(format!("/proc/{p}/cmdline")).ok()?)));
        lines.filter(|(_, line)| ours(line)).collect()
    }

    /// After everything: no box, and nothing in the home that was not there before the first.
    pub fn is_as_it_was(&self) {
        let home = self.home();
        if home.exists() {
            assert_eq!(inspect::contradictions(self, &home), [""; 0]);
            for directory in ["boxes", "tmp", "bases"] {
                let mut names = names(&home.join(directory));
                // What is kept so that a box can be removed from a full disk.
                names.retain(|name| name != "ballast");
                assert_eq!(names, [""; 0], "{directory}");
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        eventually("the machines have ended", || self.processes().is_empty());
    }
}

/// The names in a directory.
pub fn names(directory: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// What a victim said that came to its end.
pub fn finish(mut child: Child) -> String {
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {said}");
    said
}

/// Waits for something that has to become true.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        // While another panic is under way the first one tells more.
        if began.elapsed() > LIMIT && !std::thread::panicking() {
            panic!("not after {LIMIT:?}: {what}");
        } else if began.elapsed() > LIMIT {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
