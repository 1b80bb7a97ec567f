//! The roads to a running machine: from a template, or a plain boot.

use std::pin::{Pin, pin};

use super::command::Processor;
use super::machine::{Origin, QemuMachine, silent};
use super::monitor::Notice;
use super::prepare;
use super::template::{Place, Template};
use crate::channel::guest::Session;
use crate::engine::{Launched, MachineSpec, Progress, Road};
use crate::error::{Code, Result};

/// A launch under way.
pub struct Launch<'a> {
    spec: &'a MachineSpec,
    processor: Processor,
    progress: &'a mut dyn Progress,
    /// What went wrong on faster roads.
    detours: Vec<String>,
}

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
        first: &impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Result<Launched<QemuMachine, T>> {
        let (road, (machine, session, answer)) = match self.by_template(first).await {
            Some(restored) => (Road::Restored, restored),
            None => (Road::Cold, self.cold(first).await?),
        };
        Ok(Launched { machine, session, answer, road, detours: self.detours })
    }

    async fn cold<T>(
        &mut self,
        first: &impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Result<Running<T>> {
        let limit = self.spec.boot_timeout;
        let mut machine = QemuMachine::start(self.spec, self.processor, Origin::Boot)?;
        machine.listen(limit).await?;
        self.progress.done("machine");
        let mut session = machine.open_channel(limit).await?;
        self.progress.done("boot");
        let answer = machine.alive(limit, first(&mut session)).await?;
        self.progress.done("setup");
        Ok((machine, session, answer))
    }

    /// A template that does not work is made anew, once. None if there is no way.
    async fn by_template<T>(
        &mut self,
        first: &impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Option<Running<T>> {
        for _ in 0..2 {
            let (place, template) = match self.find_template().await? {
                Ok(found) => found,
                Err(error) => {
                    self.detours.push(error.to_string());
                    return None;
                }
            };
            let proven = template.proven;
            let error = match self.restore(template, first).await {
                Ok(restored) => {
                    if !proven {
                        place.prove();
                    }
                    return Some(restored);
                }
                Err(error) => error,
            };
            self.detours.push(format!("restore a machine: {error}"));
            // One that worked before has not changed: the host's load is to blame for silence.
            if proven && error.code() == Code::Timeout {
                return None;
            }
            if let Err(error) = place.discard() {
                self.detours.push(format!("a machine template cannot be removed: {error}"));
                return None;
            }
        }
        None
    }

    /// None if none is wanted.
    async fn find_template(&mut self) -> Option<Result<(Place, Template)>> {
        let policy = self.spec.templates.as_ref()?;
        let place = match prepare::place(policy, self.spec, self.processor) {
            Ok(place) => place,
            Err(error) => return Some(Err(error)),
        };
        let (progress, detours) = (&mut *self.progress, &mut self.detours);
        let template =
            prepare::template(&place, self.spec, self.processor, progress, detours).await;
        Some(template.map(|template| (place, template)))
    }

    async fn restore<T>(
        &mut self,
        template: Template,
        first: &impl AsyncFn(&mut Session) -> Result<T>,
    ) -> Result<Running<T>> {
        // There has to be time left to boot.
        let limit = self.spec.boot_timeout / 2;
        let (mut machine, mut session) = prepare::restore(self.spec, self.processor, template)?;
        // What is sent now waits in the channel until the machine is loaded, and runs on.
        let answer = {
            let mut exchange = pin!(first(&mut session));
            let early = tokio::time::timeout(limit, load(&mut machine, exchange.as_mut())).await;
            let early = match early {
                Ok(Ok(early)) => early,
                Ok(Err(failure)) => return Err(machine.explain(failure).await),
                Err(_) => return Err(machine.explain(silent(limit)).await),
            };
            self.progress.done("restore");
            match early {
                Some(answer) => answer,
                None => machine.alive(limit, exchange).await?,
            }
        };
        self.progress.done("setup");
        Ok((machine, session, answer))
    }
}

/// Loads a machine while the first exchange with its agent is under way; the answer, if it came
/// before QEMU's own word.
async fn load<T>(
    machine: &mut QemuMachine,
    exchange: Pin<&mut impl Future<Output = Result<T>>>,
) -> Result<Option<T>> {
    let mut loaded = pin!(async {
        machine.monitor().load().await?;
        machine.reported(Notice::Migrated).await
    });
    tokio::select! {
        biased;
        loaded = &mut loaded => loaded.map(|()| None),
        answer = exchange => {
            loaded.await?;
            answer.map(Some)
        }
    }
}
