//! The engine that every distribution carries: QEMU.
//!
//! - [`command`]: the command line, from a specification
//! - [`clock`]: the host's counter, which a translated guest shares
//! - [`identity`]: which host, and which files
//! - [`machine`]: the running process
//! - [`monitor`]: its control channel (QMP)
//! - [`prepare`]: making templates, and machines from them
//! - [`probe`]: whether hardware virtualisation really works here
//! - [`scratch`]: the disk of a machine that has none yet
//! - [`template`]: templates on disk

mod clock;
pub mod command;
mod identity;
mod machine;
mod monitor;
mod prepare;
mod probe;
mod scratch;
mod template;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use crate::channel::guest::{self, Session};
use crate::engine::{
    Accelerator, Engine, Launched, Machine, MachineEnd, MachineSpec, Progress, Road, TemplatePolicy,
};
use crate::error::{Code, Error, Result};

pub use machine::QemuMachine;

use command::Processor;
use machine::Origin;
use monitor::Notice;
use template::{Place, Template};

/// How long after its channel has broken a machine may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);

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
        first: impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Result<Launched<QemuMachine, T>> {
        let processor = match probe::choose(spec).await? {
            Accelerator::Kvm => Processor::Kvm,
            Accelerator::Tcg => Processor::Tcg {
                tsc_khz: clock::tsc_khz(&spec.cache).await.map_err(|e| {
                    Error::io(Code::Engine, "measure the host's time stamp counter", &e)
                })?,
            },
        };
        let mut launch = Launch { spec, processor, progress, detours: Vec::new() };
        let (road, (machine, session, answer)) = match launch.by_template(&first).await {
            Some(restored) => (Road::Restored, restored),
            None => (Road::Cold, launch.cold(&first).await?),
        };
        Ok(Launched { machine, session, answer, road, detours: launch.detours })
    }
}

struct Launch<'a> {
    spec: &'a MachineSpec,
    processor: Processor,
    progress: &'a mut dyn Progress,
    detours: Vec<String>,
}

impl Launch<'_> {
    async fn cold<T>(
        &mut self,
        first: &impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Result<(QemuMachine, Session, T)> {
        let mut machine = QemuMachine::start(self.spec, self.processor, Origin::Boot)?;
        self.progress.done("machine");
        let mut session = open_channel(&mut machine).await?;
        self.progress.done("boot");
        let answer = alive(&mut machine, first(&mut session)).await?;
        self.progress.done("setup");
        Ok((machine, session, answer))
    }

    /// A template that does not work is made anew, once. None if that does not work either.
    async fn by_template<T>(
        &mut self,
        first: &impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Option<(QemuMachine, Session, T)> {
        let policy = self.spec.templates.as_ref()?;
        for _ in 0..2 {
            let (place, template) = match self.find_template(policy).await {
                Ok(found) => found,
                Err(error) => {
                    self.detours.push(error.to_string());
                    return None;
                }
            };
            let limit = self.spec.boot_timeout / 4;
            match tokio::time::timeout(limit, self.restore(template, first)).await {
                Ok(Ok(restored)) => return Some(restored),
                Ok(Err(error)) => self.detours.push(format!("restore a machine: {error}")),
                Err(_) => {
                    self.detours.push(format!("a restored machine said nothing for {limit:?}"));
                }
            }
            // The next will be new.
            place.discard();
        }
        None
    }

    async fn find_template(&mut self, policy: &TemplatePolicy) -> Result<(Place, Template)> {
        let place = prepare::place(policy, self.spec, self.processor)?;
        let (progress, detours) = (&mut *self.progress, &mut self.detours);
        let template =
            prepare::template(&place, self.spec, self.processor, progress, detours).await?;
        Ok((place, template))
    }

    async fn restore<T>(
        &mut self,
        template: Template,
        first: &impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Result<(QemuMachine, Session, T)> {
        let (mut machine, mut session) = prepare::restore(self.spec, self.processor, template)?;
        // What is sent now waits in the channel until the machine is loaded, and runs on.
        let mut exchange = Box::pin(first(&mut session));
        let early = {
            let mut loaded = pin!(async {
                machine.monitor().load().await?;
                machine.reported(Notice::Migrated).await
            });
            tokio::select! {
                biased;
                loaded = &mut loaded => loaded.map(|()| None)?,
                answer = &mut exchange => {
                    loaded.await?;
                    Some(answer?)
                }
            }
        };
        self.progress.done("restore");
        let answer = match early {
            Some(answer) => answer,
            None => alive(&mut machine, &mut exchange).await?,
        };
        self.progress.done("setup");
        drop(exchange);
        Ok((machine, session, answer))
    }
}

/// Waits for the agent's greeting.
async fn open_channel(machine: &mut QemuMachine) -> Result<Session> {
    let channel = machine.take_channel()?;
    alive(machine, async { Ok(guest::open(channel).await?.0) }).await
}

/// Waits for the agent to do something, or for the machine's end.
async fn alive<T>(machine: &mut QemuMachine, step: impl Future<Output = Result<T>>) -> Result<T> {
    let failure = tokio::select! {
        biased;
        outcome = step => match outcome {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        },
        end = machine.ended() => return Err(ended_early(&end, machine)),
    };
    // A channel that breaks is how the end of the machine shows first.
    match tokio::time::timeout(END_PATIENCE, machine.ended()).await {
        Ok(end) => Err(ended_early(&end, machine)),
        Err(_) => Err(Error::new(failure.code(), machine.failed(failure.message()).message())),
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
