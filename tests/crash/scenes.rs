//! Homes to begin with in which no box runs, each made once and then copied.
//!
//! The copies are in memory, where that can be: a file system on a disk becomes slower with each of
//! thousands of files that were just removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::old_home;
use crate::place::Place;
use crate::state;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    Nothing,
    /// A home that has the disk of the image.
    Image,
    /// A box with two snapshots, of which its disk is on one.
    Snapshots,
    /// Only with that one.
    OneSnapshot,
    /// With both, and its archive.
    Archive,
    /// A home of version 6.
    OldHome,
}

/// Where the copies are, and what they are of.
pub struct Scenes<'a> {
    place: &'a Place,
    root: TempDir,
    made: Mutex<BTreeMap<Start, PathBuf>>,
}

impl<'a> Scenes<'a> {
    pub fn new(place: &'a Place) -> Scenes<'a> {
        let memory = Path::new("/dev/shm");
        let memory = tempfile::Builder::new().prefix("boxlite-test-").tempdir_in(memory);
        let root = memory.or_else(|_| tempfile::tempdir_in(place.path())).unwrap();
        Scenes { place, root, made: Mutex::default() }
    }

    /// For what is made of these.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A directory with a home and a place for archives, which stays as it is.
    pub fn of(&self, start: Start) -> PathBuf {
        if let Some(made) = self.made.lock().unwrap().get(&start) {
            return made.clone();
        }
        let directory = self.root().join(format!("before {start:?}"));
        match start {
            Start::Nothing => fs::create_dir_all(directory.join("archives")).unwrap(),
            Start::Image => self.make(&directory, None, &["create", "remove"]),
            Start::Snapshots => self.make(&directory, None, &["create snapshots"]),
            Start::OneSnapshot => {
                self.make(&directory, Some(Start::Snapshots), &["remove snapshot"]);
            }
            Start::Archive => self.make(&directory, Some(Start::Snapshots), &["export"]),
            Start::OldHome => {
                fs::create_dir_all(directory.join("archives")).unwrap();
                old_home::make(&directory.join("home"), 6);
            }
        }
        self.made.lock().unwrap().insert(start, directory.clone());
        directory
    }

    /// Has victims do something one after the other. Machines start faster from a disk.
    fn make(&self, directory: &Path, of: Option<Start>, roles: &[&str]) {
        let making = self.place.path().join("making");
        match of {
            Some(start) => state::copy(&self.of(start), &making),
            None => fs::create_dir_all(making.join("archives")).unwrap(),
        }
        for role in roles {
            let said = self.place.run(role, &making.join("home"));
            assert!(!said.contains(':'), "{role}: {said}");
        }
        let _ = fs::remove_dir_all(making.join("home/templates"));
        state::copy(&making, directory);
        fs::remove_dir_all(making).unwrap();
    }
}
