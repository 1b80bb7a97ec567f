//! The roads to a running machine: from a template, or a plain boot.

use super::command::Processor;
use super::load::load;
use super::machine::{Origin, QemuMachine};
use super::prepare::{self, Preparation};
use super::template::{Place, Template};
use crate::channel::guest::Session;
use crate::disk::overlay;
use crate::engine::{Disk, Launched, MachineSpec, Progress, Road, TemplatePolicy};
use crate::error::{Code, Result};
use crate::failpoint::{self, Point};
use crate::stage::Stage;

/// A launch under way.
pub struct Launch<'a> {
    spec: &'a MachineSpec,
    processor: Processor,
    progress: &'a mut dyn Progress,
    /// What went wrong on faster roads.
    detours: Vec<String>,
}

/// A template, and where it is.
type Found = (Place, Template);

/// A machine whose agent has answered.
type Running<T> = (QemuMachine, Session, T);

impl<'a> Launch<'a> {
    pub fn new(
        spec: &'a MachineSpec,
        processor: Processor,
        progress: &'a mut dyn Progress,
    ) -> Launch<'a> {
        Launch { spec, processor, progress, detours: Vec::new() }
    }

    pub async fn run<T>(
        mut self,
        first: &impl AsyncFn(&mut Session, bool) -> Result<T>,
    ) -> Result<Launched<QemuMachine, T>> {
        let (road, (machine, session, answer)) = match self.by_template(first).await {
            Some(restored) => (Road::Restored, restored),
            None => (Road::Cold, self.cold(first).await?),
        };
        Ok(Launched { machine, session, answer, road, detours: self.detours })
    }

    async fn cold<T>(
        &mut self,
        first: &impl AsyncFn(&mut Session, bool) -> Result<T>,
    ) -> Result<Running<T>> {
        let limit = self.spec.boot_timeout;
        let mut machine = QemuMachine::start(self.spec, self.processor, Origin::Boot)?;
        machine.listen(limit).await?;
        self.progress.done(Stage::Machine);
        let mut session = machine.open_channel(limit).await?;
        self.progress.done(Stage::Boot);
        let answer = machine.alive(limit, first(&mut session, false)).await?;
        self.progress.done(Stage::Setup);
        Ok((machine, session, answer))
    }

    /// By the template for the disk if nobody has written to that, else by the one for the machine;
    /// if that does not work it is made anew, once. None if there is no way.
    async fn by_template<T>(
        &mut self,
        first: &impl AsyncFn(&mut Session, bool) -> Result<T>,
    ) -> Option<Running<T>> {
        let policy = self.spec.templates.as_ref()?;
        if let Some((found, inscribed)) = self.disk_template(policy).await {
            match self.attempt(found, first, inscribed).await {
                Ok(running) => return Some(running),
                Err(Blame::Host) => return None,
                Err(Blame::Template) => {}
            }
        }
        for _ in 0..2 {
            let found = match self.preparation(policy).machine().await {
                Ok(found) => found,
                Err(error) => {
                    self.detours.push(error.to_string());
                    return None;
                }
            };
            match self.attempt(found, first, false).await {
                Ok(running) => return Some(running),
                Err(Blame::Host) => return None,
                Err(Blame::Template) => {}
            }
        }
        None
    }

    /// The template for the disk, which then has in it what the machine in the template wrote; and
    /// whether it has the specification's texts too.
    async fn disk_template(&mut self, policy: &TemplatePolicy) -> Option<(Found, bool)> {
        if !policy.disks {
            return None;
        }
        let disk = match &self.spec.disk {
            Disk::None | Disk::Later => return None,
            Disk::LaterOver(base) => base.clone(),
            // Whoever opens a disk to run a box says best what is wrong with it.
            Disk::Image(chain) => overlay::untouched(chain).ok()??,
        };
        let found = self.preparation(policy).with_disk(&disk).await;
        let written = found.and_then(|(place, mut template)| {
            let Disk::Image(chain) = &self.spec.disk else { return Ok(((place, template), false)) };
            // Nobody needs them again: the template is held as long as the box runs.
            let mut bytes = std::mem::take(&mut template.disk);
            let inscribed = template.inscribe(&mut bytes, &self.spec.texts);
            overlay::replace(chain.top(), &bytes)?;
            failpoint::hit(Point::StartDisk);
            Ok(((place, template), inscribed))
        });
        written.map_err(|error| self.detours.push(error.to_string())).ok()
    }

    fn preparation<'b>(&'b mut self, policy: &'b TemplatePolicy) -> Preparation<'b> {
        let Launch { spec, processor, progress, detours } = self;
        Preparation { spec, policy, processor: *processor, progress: &mut **progress, detours }
    }

    async fn attempt<T>(
        &mut self,
        (place, template): Found,
        first: &impl AsyncFn(&mut Session, bool) -> Result<T>,
        inscribed: bool,
    ) -> std::result::Result<Running<T>, Blame> {
        let proven = template.proven;
        let error = match self.restore(template, first, inscribed).await {
            Ok(restored) => {
                if !proven {
                    place.prove();
                }
                return Ok(restored);
            }
            Err(error) => error,
        };
        self.detours.push(format!("restore a machine: {error}"));
        // One that worked before has not changed: the host's load is to blame for silence.
        if proven && error.code() == Code::Timeout {
            return Err(Blame::Host);
        }
        if let Err(error) = place.discard() {
            self.detours.push(format!("a machine template cannot be removed: {error}"));
            return Err(Blame::Host);
        }
        Err(Blame::Template)
    }

    async fn restore<T>(
        &mut self,
        template: Template,
        first: &impl AsyncFn(&mut Session, bool) -> Result<T>,
        inscribed: bool,
    ) -> Result<Running<T>> {
        // There has to be time left to boot.
        let limit = self.spec.boot_timeout / 2;
        let (mut machine, mut session) = prepare::restore(self.spec, self.processor, template)?;
        failpoint::hit(Point::StartMachine);
        let loaded = || self.progress.done(Stage::Restore);
        let answer = load(&mut machine, limit, first(&mut session, inscribed), loaded).await?;
        self.progress.done(Stage::Setup);
        Ok((machine, session, answer))
    }
}

/// Why a machine could not be restored.
enum Blame {
    /// The template, which is gone now.
    Template,
    /// Something that another template would not mend.
    Host,
}
