//! The engine that every distribution carries: QEMU.
//!
//! - [`command`]: the command line, from a specification
//! - [`clock`]: the host's counter, which a translated guest shares
//! - [`files`]: files that somebody else may have put there
//! - [`identity`]: which host, and which files
//! - [`launch`]: the roads to a running machine
//! - [`load`]: loading a saved machine
//! - [`machine`]: the running process
//! - [`monitor`]: its control channel (QMP)
//! - [`prepare`]: making templates, and machines from them
//! - [`probe`]: whether hardware virtualisation really works here
//! - [`prune`]: which templates go
//! - [`recipe`]: what a template is made from, and its name
//! - [`scratch`]: the disk of a machine that has none yet
//! - [`seal`]: how a template is known to be intact
//! - [`template`]: templates on disk

mod blocks;
mod clock;
pub mod command;
mod files;
mod identity;
mod launch;
mod load;
mod machine;
mod monitor;
mod prepare;
mod probe;
mod prune;
mod recipe;
mod scratch;
mod seal;
mod template;

use std::path::{Path, PathBuf};

use crate::channel::guest::Session;
use crate::engine::{Accelerator, Engine, Launched, MachineSpec, Progress};
use crate::error::{Code, Error, Result};

pub use machine::QemuMachine;

use command::Processor;
use launch::Launch;

const BINARY: &str = "qemu-system-x86_64";

/// QEMU as an engine.
#[derive(Debug, Default)]
pub struct Qemu;

impl Engine for Qemu {
    type Machine = QemuMachine;

    async fn launch<T>(
        &self,
        spec: &MachineSpec,
        progress: &mut dyn Progress,
        first: impl AsyncFn(&mut Session, bool) -> Result<T>,
    ) -> Result<Launched<QemuMachine, T>> {
        let processor = match probe::choose(spec).await? {
            Accelerator::Kvm => Processor::Kvm,
            Accelerator::Tcg => Processor::Tcg {
                tsc_khz: clock::tsc_khz(&spec.cache).await.map_err(|e| {
                    Error::io(Code::Engine, "measure the host's time stamp counter", &e)
                })?,
            },
        };
        Launch::new(spec, processor, progress).run(&first).await
    }
}

/// Finds QEMU: the path in `BOXLITE_QEMU`, else the first of that name in PATH.
pub fn find_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BOXLITE_QEMU").map(PathBuf::from) {
        if is_executable(&path) {
            return Ok(path);
        }
        return Err(Error::new(Code::Engine, "BOXLITE_QEMU names no executable file")
            .object(path.display().to_string()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(BINARY)).find(|p| is_executable(p)).ok_or_else(
        || {
            Error::new(
                Code::Engine,
                "QEMU is not installed: install the package qemu-system-x86 (Debian, Ubuntu), \
                 qemu-system-x86-core (Fedora) or qemu-system-x86_64 (Alpine), or name the \
                 program in BOXLITE_QEMU",
            )
            .object(BINARY)
        },
    )
}

fn is_executable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file()
}
