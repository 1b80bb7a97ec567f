//! The engine that every distribution carries: QEMU.
//!
//! - [`command`]: the command line, from a specification
//! - [`clock`]: the host's counter, which a translated guest shares
//! - [`identity`]: which host, and which files
//! - [`machine`]: the running process
//! - [`monitor`]: its control channel (QMP)
//! - [`prepare`]: making templates, and machines from them
//! - [`probe`]: whether hardware virtualisation really works here
//! - [`template`]: templates on disk

mod clock;
pub mod command;
mod identity;
mod machine;
mod monitor;
mod prepare;
mod probe;
mod template;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::channel::guest::{self, Session};
use crate::engine::{
    Accelerator, Engine, Launched, Machine, MachineEnd, MachineSpec, Progress, Road, TemplatePolicy,
};
use crate::error::{Code, Error, Result};

pub use machine::QemuMachine;

use command::Processor;
use machine::Origin;

/// How long after its channel has broken a machine may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);

const BINARY: &str = "qemu-system-x86_64";

/// QEMU as an engine.
#[derive(Debug, Default)]
pub struct Qemu;

impl Engine for Qemu {
    type Machine = QemuMachine;

    async fn launch(
        &self,
        spec: &MachineSpec,
        progress: &mut dyn Progress,
    ) -> Result<Launched<QemuMachine>> {
        let processor = match probe::choose(spec).await? {
            Accelerator::Kvm => Processor::Kvm,
            Accelerator::Tcg => Processor::Tcg {
                tsc_khz: clock::tsc_khz(&spec.cache).await.map_err(|e| {
                    Error::io(Code::Engine, "measure the host's time stamp counter", &e)
                })?,
            },
        };
        let mut detours = Vec::new();
        if let Some(policy) = &spec.templates
            && let Some((machine, session)) =
                from_template(policy, spec, processor, progress, &mut detours).await
        {
            return Ok(Launched { machine, session, road: Road::Restored, detours });
        }
        let mut machine = QemuMachine::start(spec, processor, Origin::Boot)?;
        progress.done("machine");
        let session = open_channel(&mut machine).await?;
        progress.done("boot");
        Ok(Launched { machine, session, road: Road::Cold, detours })
    }
}

/// A template that does not work is made anew, once. None if that does not work either.
async fn from_template(
    policy: &TemplatePolicy,
    spec: &MachineSpec,
    processor: Processor,
    progress: &mut dyn Progress,
    detours: &mut Vec<String>,
) -> Option<(QemuMachine, Session)> {
    for _ in 0..2 {
        let outcome = async {
            let place = prepare::place(policy, spec, processor)?;
            let template = prepare::template(&place, spec, processor, progress, detours).await?;
            Ok::<_, Error>((place, template))
        };
        let (place, template) = match outcome.await {
            Ok(found) => found,
            Err(error) => {
                detours.push(error.to_string());
                return None;
            }
        };
        let limit = spec.boot_timeout / 4;
        let restored = prepare::restore(spec, processor, template);
        match tokio::time::timeout(limit, restored).await {
            Ok(Ok(restored)) => {
                progress.done("restore");
                return Some(restored);
            }
            Ok(Err(error)) => detours.push(format!("restore a machine: {error}")),
            Err(_) => detours.push(format!("a restored machine said nothing for {limit:?}")),
        }
        // The next will be new.
        place.discard();
    }
    None
}

/// Waits for the agent's greeting, or the machine's end.
async fn open_channel(machine: &mut QemuMachine) -> Result<Session> {
    let channel = machine.take_channel()?;
    tokio::select! {
        biased;
        opened = guest::open(channel) => match opened {
            Ok((session, _)) => Ok(session),
            // A channel that breaks is how the end of the machine shows first.
            Err(error) => match tokio::time::timeout(END_PATIENCE, machine.ended()).await {
                Ok(end) => Err(ended_early(&end, machine)),
                Err(_) => Err(machine.failed(error.message())),
            }
        },
        end = machine.ended() => Err(ended_early(&end, machine)),
    }
}

fn ended_early(end: &MachineEnd, machine: &QemuMachine) -> Error {
    machine.failed(&format!("the virtual machine ended while starting ({end:?})"))
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
