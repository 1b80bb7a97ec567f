//! What a supervisor leaves in the box's directory, for whoever looks at the box next: nobody may be there
//! to hear it. Each file names the run that it is of.
//!
//! How the box ended is here. A supervisor that left nothing was killed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::disk::durable::{IfExists, PendingFile, remove_leftovers};
use crate::error::{Code, Error, Result};

const NAME: &str = "end.json";
/// A file larger than this is not one.
const LIMIT: u64 = 1 << 20;

/// How a run of a box ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// The run's id.
    pub run: String,
    /// An error code of the library; 0 if the box was meant to end.
    pub code: i32,
    /// What there is to tell of it.
    pub message: String,
    /// RFC 3339.
    pub at: String,
}

impl EndRecord {
    /// Puts the record into the box's directory, in place of that of an earlier run.
    pub fn write(&self, box_dir: &Path) -> Result<()> {
        write(&path(box_dir), self, Lasting::ForGood)
    }

    /// How a run ended, if its supervisor has left word of it.
    pub fn read(box_dir: &Path, run: &str) -> Option<EndRecord> {
        read::<EndRecord>(&path(box_dir)).filter(|record| record.run == run)
    }
}

/// How long a file is to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// After a power cut nobody asks for it.
    UntilReboot,
    ForGood,
}

/// Writes a file of a box that the caller serves, in one step in place of what has its name.
pub fn write(path: &Path, record: &impl Serialize, lasting: Lasting) -> Result<()> {
    let failed = |e: io::Error| Error::io(Code::Storage, format!("write {}", path.display()), &e);
    remove_leftovers(path)?;
    let file = PendingFile::create(path)?;
    let text = serde_json::to_vec(record).map_err(|e| failed(e.into()))?;
    file.file().write_all(&text).map_err(failed)?;
    match lasting {
        Lasting::UntilReboot => file.place(),
        Lasting::ForGood => file.commit(IfExists::Replace),
    }
}

/// Reads such a file. What cannot be read tells nothing.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    fs::metadata(path).ok().filter(|meta| meta.len() <= LIMIT)?;
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The time as it is written into such files: RFC 3339.
pub fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

fn path(box_dir: &Path) -> PathBuf {
    box_dir.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_run_in_question_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(EndRecord::read(dir.path(), "a"), None);
        let record =
            |run: &str| EndRecord { run: run.into(), code: 0, message: "m".into(), at: "t".into() };
        record("a").write(dir.path()).unwrap();
        record("b").write(dir.path()).unwrap();
        assert_eq!(EndRecord::read(dir.path(), "a"), None);
        assert_eq!(EndRecord::read(dir.path(), "b"), Some(record("b")));
        fs::write(path(dir.path()), "{").unwrap();
        assert_eq!(EndRecord::read(dir.path(), "b"), None);
    }
}
