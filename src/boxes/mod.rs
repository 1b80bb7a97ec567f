//! A box: one image, one disk, at most one running machine.
//!
//! - [`admission`]: whether the host has what a box needs
//! - [`archive`]: a box as one file
//! - [`options`]: what a user asks for
//! - [`config`]: what is stored of it
//! - [`state`]: how it is, and the only ways from one status to another
//! - [`truth`]: how it really is, whatever is stored
//! - [`create`]: from options to a box that can be started
//! - [`plain`]: a disk that was made elsewhere
//! - [`start`]: from a box to a running machine
//! - [`pool`]: machines that wait for boxes
//! - [`disks`]: its disk and snapshots, and what changes them
//! - [`exec`]: commands in a running box
//! - [`events`]: what happens to boxes, for those who want to hear of it
//! - [`list`]: which boxes there are, also those whose rows cannot be read
//! - [`measure`]: what a box has done, and what it takes
//! - [`watch`]: what happens to a running box, told and written down
//! - [`identity`]: what a box is called
//! - [`info`]: what a box is and how it is, as its users see it
//! - [`main_process`]: the command that a box runs of itself
//! - [`remove`]: the end of a box's files and rows
//! - [`handle`]: a box as its users hold it
//! - [`context`]: what all boxes of a home share

mod admission;
mod archive;
pub mod config;
mod context;
mod create;
mod disks;
mod events;
mod exec;
mod handle;
mod identity;
mod info;
mod list;
mod main_process;
mod measure;
pub mod options;
mod plain;
mod pool;
mod remove;
mod start;
mod state;
mod truth;
mod watch;

pub use archive::import::import;
pub use archive::{ExportOptions, ImportOptions};
pub use context::{Context, Counter, Counters, Settings};
pub use create::create;
pub use disks::snapshot::Snapshot;
pub use disks::space::{FileKind, StoredFile, files, prune};
pub use events::{Bus, DEFAULT_CAPACITY, Event, Events, What};
pub use exec::{Captured, Exec, ExecInfo, Output};
pub use handle::BoxHandle;
pub use info::{Boot, BoxInfo};
pub use list::{ListFilter, list, readable, remove_unreadable};
pub use main_process::{Main, MainStatus, OnMainExit};
pub use options::{BoxOptions, ExecOptions, HealthCheck, PoolOptions};
pub use pool::{Parked, Pool, fill as fill_pool};
pub use remove::recover;
pub use start::StageTime;
pub use state::Status;
pub use truth::settle;

use std::sync::Arc;
use std::time::Duration;

/// How far a long operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Something that takes long has begun, and is not done every time.
    Began { what: String },
    /// A stage is done.
    Stage { name: String, elapsed: Duration },
    /// Bytes of an image that were processed, of how many.
    Bytes { done: u64, total: u64 },
}

/// Who hears of progress. Called from threads of the library.
pub type Observer = Arc<dyn Fn(Progress) + Send + Sync>;
