//! The engine that every distribution carries: QEMU.
//!
//! - [`command`]: the command line, from a specification
//! - [`clock`]: the host's counter, which a translated guest shares
//! - [`machine`]: the running process
//! - [`monitor`]: its control channel (QMP)
//! - [`probe`]: whether hardware virtualisation really works here

mod clock;
pub mod command;
mod machine;
mod monitor;
mod probe;

use std::path::{Path, PathBuf};

use crate::engine::{Accelerator, Engine, MachineSpec};
use crate::error::{Code, Error, Result};

pub use machine::QemuMachine;

use command::Processor;

const BINARY: &str = "qemu-system-x86_64";

/// QEMU as an engine.
#[derive(Debug, Default)]
pub struct Qemu;

impl Engine for Qemu {
    type Machine = QemuMachine;

    async fn launch(&self, spec: &MachineSpec) -> Result<QemuMachine> {
        let processor = match probe::choose(spec).await? {
            Accelerator::Kvm => Processor::Kvm,
            Accelerator::Tcg => Processor::Tcg {
                tsc_khz: clock::tsc_khz(&spec.cache).await.map_err(|e| {
                    Error::io(Code::Engine, "measure the host's time stamp counter", &e)
                })?,
            },
        };
        QemuMachine::start(spec, processor)
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
