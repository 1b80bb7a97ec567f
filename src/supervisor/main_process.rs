//! The command that is started with a box.

use std::path::Path;

use boxlite_protocol::message::{Exec, Exited, Failure};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::record;
use crate::error::{Code, Error, Result};

const NAME: &str = "main.json";

/// What to start, and what its end means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MainSpec {
    /// The command, as the message that starts it.
    pub exec: Vec<u8>,
    /// Whether the box stops when it has ended.
    pub stop: bool,
}

impl MainSpec {
    pub fn exec(&self) -> Result<Exec> {
        Exec::decode(&*self.exec)
            .map_err(|e| Error::new(Code::Rpc, format!("the main process's command: {e}")))
    }
}

/// How the main process of a run ended. Whoever looks at the box next finds it in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MainRecord {
    /// The run's id.
    pub run: String,
    /// The exit code, 0 to 255; 0 if a signal ended it.
    pub code: i32,
    /// The signal that ended it; 0 for none.
    pub signal: i32,
    /// RFC 3339.
    pub at: String,
}

impl MainRecord {
    pub fn new(run: &str, exited: Exited) -> MainRecord {
        let Exited { code, signal, .. } = exited;
        MainRecord { run: run.to_owned(), code, signal, at: record::now() }
    }

    /// Puts the record into the box's directory, in place of that of an earlier run.
    pub fn write(&self, box_dir: &Path) -> Result<()> {
        record::write(&box_dir.join(NAME), self, record::Lasting::ForGood)
    }

    /// How the main process of a run ended, if it has.
    pub fn read(box_dir: &Path, run: &str) -> Option<MainRecord> {
        record::read::<MainRecord>(&box_dir.join(NAME)).filter(|record| record.run == run)
    }

    /// What there is to tell of a box that has stopped for it.
    pub fn tell(&self) -> String {
        match self.signal {
            0 => format!("the box's main process ended with code {}: it was stopped", self.code),
            signal => {
                format!("the box's main process was ended by signal {signal}: it was stopped")
            }
        }
    }
}

/// Why a box could not be started whose main process could not.
pub fn refused(exec: &Exec, failure: &Failure) -> Error {
    let name = String::from_utf8_lossy(exec.argv.first().map_or(b"", |name| name)).into_owned();
    Error::new(Code::Execution, format!("start the box's main process: {}", failure.message))
        .object(name)
        .errno(failure.errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_of_the_run_in_question_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MainRecord::read(dir.path(), "a"), None);
        let exited = Exited { exec: 1, code: 3, signal: 0 };
        MainRecord::new("a", exited).write(dir.path()).unwrap();
        assert_eq!(MainRecord::read(dir.path(), "b"), None);
        let record = MainRecord::read(dir.path(), "a").unwrap();
        assert_eq!((record.code, record.signal), (3, 0));
        assert!(record.tell().contains("code 3"));
    }
}
