//! What a supervisor leaves behind when it ends: how its box ended.
//!
//! Nobody may be there to hear it. Whoever looks at the box next finds it here; a supervisor that left
//! nothing was killed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::durable::{IfExists, PendingFile};
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
        let path = path(box_dir);
        let failed =
            |e: io::Error| Error::io(Code::Storage, format!("write {}", path.display()), &e);
        let file = PendingFile::create(&path)?;
        let text = serde_json::to_vec(self).map_err(|e| failed(e.into()))?;
        file.file().write_all(&text).map_err(failed)?;
        file.commit(IfExists::Replace)
    }

    /// How a run ended, if its supervisor has left word of it. What cannot be read tells nothing.
    pub fn read(box_dir: &Path, run: &str) -> Option<EndRecord> {
        let path = path(box_dir);
        fs::metadata(&path).ok().filter(|meta| meta.len() <= LIMIT)?;
        let record: EndRecord = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        (record.run == run).then_some(record)
    }
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
