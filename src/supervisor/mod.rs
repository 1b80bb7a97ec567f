//! The supervisor of one running box: what the program `boxlite-shim` does.
//!
//! It owns the machine, terminates the channel to the guest, and serves the box's programs: the
//! one that created it, over a socket it was born with, and any other, over the box's own socket.
//! Half a frame left by a dying program therefore harms nobody, and a guest never sees more than
//! one host.
//!
//! One thread. It treats the guest as hostile: what the guest may send is bounded by credit, and
//! a guest that breaks the protocol loses its machine.
//!
//! - [`branch`]: the disk goes on in another file
//! - [`health`]: whether the box is well
//! - [`heart`]: whether the machine answers
//! - [`idle`]: whether anybody uses it
//! - [`launch`]: from a specification to a machine that is the box
//! - [`main_process`]: the command that is started with the box
//! - [`creator`]: the process that created the box
//! - [`follow`]: detached commands, whose output is kept
//! - [`hub`]: who asked what, and where which stream goes
//! - [`park`]: a machine that waits for its box
//! - [`peer`]: the tasks that read and write one connection
//! - [`record`]: what is left behind
//! - [`route`]: one command, and where its streams go
//! - [`serve`]: the running box
//! - [`stats`]: what the box does and takes
//! - [`socket`]: the box's socket, and the file that says who serves it

mod branch;
mod creator;
mod follow;
pub mod health;
mod heart;
mod hub;
mod idle;
pub mod launch;
pub mod main_process;
mod park;
mod peer;
pub mod record;
mod route;
mod serve;
pub mod socket;
mod stats;

use std::path::Path;
use std::time::Duration;

use boxlite_protocol::message::{Ended, FromSupervisor, from_supervisor};
use tokio::net::UnixStream;

use crate::disk::cut_off;
use crate::engine::{CRASH_WORDS, Disk, Engine, Machine, MachineEnd, oom};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use creator::Creator;
use launch::{Launcher, Order};
use peer::Clients;
use record::EndRecord;
use socket::PidFile;

pub use launch::LaunchSpec;

/// How long a program may take to read the last messages.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);

/// Serves one box, from the creating program's first message to the end of its machine.
pub async fn run<E: Engine>(engine: E, control: UnixStream) -> Result<()> {
    let creator = Creator::behind(&control)
        .map_err(|e| Error::io(Code::Internal, "watch the creating program", &e))?;
    let mut clients = Clients::new(control)?;
    let end = async {
        let Some(launcher) = await_launch(&engine, &mut clients, &creator).await? else {
            return Ok(Cause::Wanted);
        };
        let (box_dir, run) = (launcher.spec.box_dir.clone(), launcher.spec.run.clone());
        let disk = launcher.spec.machine.disk.clone();
        let pid_file = PidFile::create(&box_dir)?;
        failpoint::hit(Point::StartTaken);
        let end = async {
            let launched = launcher.launch(&engine, &mut clients).await?;
            serve::serve(launched, &mut clients, &creator).await
        }
        .await;
        // It may have been killed just as it took space on its disk.
        if let Disk::Image(chain) = disk
            && let Err(error) = cut_off::reclaim(chain.top())
        {
            eprintln!("boxlite-shim: space that is lost on the box's disk is not freed: {error}");
        }
        // Who finds that nobody serves the box any more finds out why, too.
        leave_word(&box_dir, run, &end);
        failpoint::hit(Point::StopWordLeft);
        drop(pid_file);
        failpoint::hit(Point::StopReleased);
        end
    }
    .await;
    clients.send_all(&FromSupervisor { body: Some(from_supervisor::Body::Ended(farewell(&end))) });
    clients.flush(FAREWELL_PATIENCE).await;
    end.map(drop)
}

/// Waits for the box to be known, with a machine if that is asked for. None if nobody has a box.
async fn await_launch<E: Engine>(
    engine: &E,
    clients: &mut Clients,
    creator: &Creator,
) -> Result<Option<Launcher<E::Machine>>> {
    match Order::receive(clients).await? {
        Order::Launch(spec) => Ok(Some(Launcher { spec: *spec, parked: None })),
        Order::Park(machine) => {
            let taken = park::park(engine, *machine, clients, creator).await?;
            Ok(taken.map(|(spec, parked)| Launcher { spec, parked: Some(parked) }))
        }
    }
}

/// Why a box ended that was meant to.
enum Cause {
    /// Somebody stopped it, or switched it off from inside.
    Wanted,
    /// It was to stop by itself, for this reason.
    Unasked(String),
    /// The program that it was for is gone.
    Abandoned,
}

const ABANDONED: &str = "the program that ran the box ended";

fn farewell(end: &Result<Cause>) -> Ended {
    match end {
        Ok(_) => Ended { code: 0, message: "the box was stopped".into(), errno: 0 },
        Err(e) => Ended {
            code: e.code() as i32,
            message: e.message().to_owned(),
            errno: e.os_errno().unwrap_or(0),
        },
    }
}

/// Writes down how the box ended. If that cannot be, who is connected is told all the same.
fn leave_word(box_dir: &Path, run: String, end: &Result<Cause>) {
    let (code, message) = match end {
        Ok(Cause::Wanted) => (0, String::new()),
        Ok(Cause::Unasked(why)) => (0, why.clone()),
        Ok(Cause::Abandoned) => (0, ABANDONED.to_owned()),
        Err(error) if error.code() == Code::Cancelled => (0, ABANDONED.to_owned()),
        Err(error) => (error.code() as i32, error.to_string()),
    };
    if let Err(error) = (EndRecord { run, code, message, at: record::now() }).write(box_dir) {
        eprintln!("boxlite-shim: {error}");
    }
}

/// What the end of a machine means for its box.
fn explain<M: Machine>(end: MachineEnd, machine: &M, stopping: bool) -> Result<()> {
    let words = machine.last_words();
    let crashed = CRASH_WORDS.iter().any(|said| words.contains(said));
    let engine = |text: String| Err(Error::new(Code::Engine, format!("{text}{words}")));
    match end {
        // Switched off by a user inside, unless the console tells otherwise.
        MachineEnd::GuestOff if stopping || !crashed => Ok(()),
        MachineEnd::GuestOff => engine("the guest crashed".into()),
        MachineEnd::Exited(code) => engine(format!("the virtual machine ended with code {code}")),
        MachineEnd::Killed(signal) => {
            let memory = oom::killed(machine.pid()).map(|said| format!(": {said}"));
            let memory = memory.unwrap_or_default();
            engine(format!("the virtual machine was killed by signal {signal}{memory}"))
        }
        MachineEnd::DiskFull => Err(Error::new(
            Code::ResourceExhausted,
            "the host's disk is full: free some space and start the box again",
        )
        .errno(libc::ENOSPC)),
        MachineEnd::DiskError => {
            Err(Error::new(Code::Storage, format!("the host could not write the disk{words}")))
        }
    }
}
