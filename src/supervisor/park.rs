//! A machine that waits for its box.
//!
//! It has come to run by the fastest road that works, has rehearsed what a box does when it starts,
//! and stands still: it costs memory, and no processor. There are no files of it. When its box is
//! known it becomes that box; if that does not work, the box is started as any other.

use std::path::Path;

use boxlite_protocol::message::{
    Disk, FromSupervisor, Parked as Announcement, Response, from_supervisor, request,
};

use super::creator::Creator;
use super::launch::{self, LaunchSpec, Order, Stages};
use super::peer::{CREATOR, Clients};
use crate::channel::guest::{self, Session};
use crate::engine::{self, Engine, Machine, MachineSpec, Progress, ROOT_DEVICE, ROOT_TYPE, Road};
use crate::error::{Code, Error, Result};
use crate::stage::Stage;

/// A machine that stands still.
pub struct Parked<M> {
    machine: M,
    guest: Session,
}

/// Parks a machine and waits until its box is known. None if nobody wants it any more.
pub async fn park<E: Engine>(
    engine: &E,
    spec: MachineSpec,
    clients: &mut Clients,
    creator: &Creator,
) -> Result<Option<(LaunchSpec, Parked<E::Machine>)>> {
    let mut stages = Stages::new(clients);
    let (mut parked, detours) = tokio::select! {
        prepared = prepare(engine, &spec, &mut stages) => prepared?,
        () = launch::abandoned(clients) => return Ok(None),
        () = creator.gone() => return Ok(None),
    };
    let body = Some(from_supervisor::Body::Parked(Announcement { detours }));
    clients.send(CREATOR, FromSupervisor { body });
    let order = tokio::select! {
        biased;
        order = Order::receive(clients) => order,
        () = creator.gone() => return Ok(None),
        end = parked.machine.ended() => {
            let words = parked.machine.last_words();
            // Not the fault of a box that is on its way here: it starts without.
            return Err(Error::new(Code::Stopped, format!("a waiting machine ended: {end:?}{words}")));
        }
    };
    match order {
        Ok(Order::Launch(spec)) => Ok(Some((*spec, parked))),
        Ok(Order::Park(_)) => Err(Error::new(Code::Rpc, "a machine is parked already")),
        Err(error) if error.code() == Code::Cancelled => Ok(None),
        Err(error) => Err(error),
    }
}

async fn prepare<E: Engine>(
    engine: &E,
    spec: &MachineSpec,
    progress: &mut dyn Progress,
) -> Result<(Parked<E::Machine>, Vec<String>)> {
    let launched = engine.launch(spec, progress, rehearse).await?;
    let engine::Launched { mut machine, session: guest, answer: (), detours, .. } = launched;
    machine.park().await?;
    Ok((Parked { machine, guest }, detours))
}

/// Has the agent do what it does for a box, and undo it. What the rehearsed command writes is of no
/// interest.
async fn rehearse(guest: &mut Session, _: bool) -> Result<()> {
    let disk = Disk { device: ROOT_DEVICE.into(), kind: ROOT_TYPE.into() };
    let answer = guest::call_among_others(guest, request::Op::Rehearse(disk)).await?;
    answer.failure.map_or(Ok(()), |failure| Err(guest::refused(failure)))
}

impl<M: Machine> Parked<M> {
    /// Makes the machine the box, or ends it. `first` is the exchange with its agent that does so.
    pub async fn become_box(
        mut self,
        spec: &LaunchSpec,
        progress: &mut dyn Progress,
        first: impl AsyncFn(&mut Session, bool) -> Result<Response>,
    ) -> Result<engine::Launched<M, Response>> {
        let limit = spec.machine.boot_timeout / 4;
        let became = tokio::time::timeout(limit, self.hand_over(&spec.machine, progress, first));
        let error = match became.await {
            Ok(Ok(answer)) => {
                let Parked { machine, guest: session } = self;
                let (road, detours) = (Road::Pooled, Vec::new());
                return Ok(engine::Launched { machine, session, answer, road, detours });
            }
            Ok(Err(error)) => error,
            Err(_) => Error::new(Code::Timeout, format!("it said nothing for {limit:?}")),
        };
        // It may have opened the disk: nobody else may before it is gone.
        self.machine.kill().await;
        Err(error)
    }

    async fn hand_over(
        &mut self,
        spec: &MachineSpec,
        progress: &mut dyn Progress,
        first: impl AsyncFn(&mut Session, bool) -> Result<Response>,
    ) -> Result<Response> {
        let inscribed = self.machine.resume(spec).await?;
        progress.done(Stage::HandOver);
        let answer = tokio::select! {
            biased;
            answer = first(&mut self.guest, inscribed) => answer?,
            end = self.machine.ended() => {
                return Err(Error::new(Code::Engine, format!("the machine ended: {end:?}")));
            }
        };
        if let Some(failure) = &answer.failure {
            return Err(Error::new(Code::Portal, failure.message.clone()));
        }
        progress.done(Stage::Setup);
        Ok(answer)
    }
}

/// From now on this process's own messages are kept with the box.
pub fn keep_log(box_dir: &Path) -> std::io::Result<()> {
    let log = launch::open_log(&box_dir.join(launch::SUPERVISOR_LOG))?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}
