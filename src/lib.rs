//! Run any OCI image in a *box*: a real virtual machine that starts in a blink, streams its
//! output, and keeps its disk.
//!
//! The C ABI in `include/boxlite.h` stands on the types re-exported here. The modules, from the
//! ground up (an import never points up):
//!
//! 1. [`error`], [`failpoint`], [`home`], [`stage`]
//! 2. [`store`], [`disk`], [`image`], [`engine`], [`channel`], [`metrics`]
//! 3. [`supervisor`] (one running box, a process of its own), [`boxes`]
//! 4. [`runtime`]

pub mod boxes;
pub mod capi;
pub mod channel;
pub mod disk;
pub mod engine;
pub mod error;
pub mod failpoint;
pub mod home;
pub mod image;
pub mod metrics;
pub mod runtime;
pub mod stage;
pub mod store;
pub mod supervisor;

pub use boxes::{
    Boot, BoxHandle, BoxInfo, BoxOptions, Captured, Counter, Event, Events, Exec, ExecInfo,
    ExecOptions, ExportOptions, FileKind, HealthCheck, ImportOptions, ListFilter, Main, MainStatus,
    Observer, OnMainExit, Output, Progress, Snapshot, Status, StoredFile, What,
};
pub use channel::exec::{ExecEvent, ExitStatus};
pub use engine::AcceleratorChoice;
pub use error::{Code, Error, Result};
pub use metrics::{BootTiming, BoxMetrics, GuestMetrics, RuntimeMetrics};
pub use runtime::{Runtime, RuntimeOptions};
pub use supervisor::health::{Health, HealthReport};
