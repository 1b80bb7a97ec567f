//! From a specification to a machine that is the box, step by step.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boxlite_protocol::message::{
    Failure, FailureKind, FromSupervisor, Init, Response, Stage, Time, from_supervisor, request,
    to_supervisor,
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::health::HealthSpec;
use super::main_process::MainSpec;
use super::park::{self, Parked};
use super::peer::{Arrival, CREATOR, Clients, Queue};
use super::socket;
use crate::channel::guest::{self, Session};
use crate::engine::{self, Engine, Machine, MachineSpec, Progress, ROOT_DEVICE, ROOT_TYPE, Road};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::stage;

/// Everything a supervisor is told. Written and read by the same build of the library.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchSpec {
    pub box_id: String,
    /// The id of this run of the box.
    pub run: String,
    /// The box's own directory: its socket, logs and pid file go there.
    pub box_dir: PathBuf,
    pub machine: MachineSpec,
    pub identity: Identity,
    /// The command that is started with it.
    pub main: Option<MainSpec>,
    /// How much is kept of each output of it, and of other detached commands.
    pub spool_bytes: u64,
    /// How to find out whether it is well.
    pub health: Option<HealthSpec>,
    /// After how long without a command in it the box is stopped.
    pub idle_stop: Option<Duration>,
}

impl LaunchSpec {
    /// The home of the box.
    pub fn home(&self) -> &Path {
        self.box_dir.ancestors().nth(2).unwrap_or(Path::new("/"))
    }
}

/// What makes the machine this box and no other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    pub hostname: String,
    /// 32 hexadecimal digits.
    pub machine_id: String,
    /// The text of `/etc/hosts`.
    pub hosts: String,
    /// The text of `/etc/resolv.conf`; left alone when empty.
    pub resolv_conf: String,
}

/// A box whose agent is ready for commands.
pub struct Launched<M> {
    pub machine: M,
    pub guest: Session,
    pub road: Road,
    /// What went wrong on faster roads.
    pub detours: Vec<String>,
    /// What it went through.
    pub stages: Vec<Stage>,
    pub spec: LaunchSpec,
    pub listener: UnixListener,
}

/// What the creating program wants.
pub enum Order {
    Launch(Box<LaunchSpec>),
    /// A machine whose box is not known yet.
    Park(Box<MachineSpec>),
}

/// A launch that was asked for.
pub struct Launcher<M> {
    pub spec: LaunchSpec,
    /// A machine that waits for it.
    pub parked: Option<Parked<M>>,
}

/// Fresh bytes for the guest's random pool: as much as its generators are seeded with, twice.
const ENTROPY: usize = 64;

/// The supervisor's own messages, in the box's directory.
pub const SUPERVISOR_LOG: &str = "logs/shim.log";

/// What supervisors of a box's earlier runs have said is dropped when it is more than this.
const LOG_LIMIT: u64 = 256 << 10;

/// Opens that file, to append to it.
pub fn open_log(path: &Path) -> std::io::Result<File> {
    let log = OpenOptions::new().create(true).append(true).open(path)?;
    if log.metadata()?.len() > LOG_LIMIT {
        log.set_len(0)?;
    }
    Ok(log)
}

impl Order {
    /// Waits for the creating program's next message. Cancel-safe.
    pub async fn receive(clients: &mut Clients) -> Result<Order> {
        let malformed = |e: serde_json::Error| {
            let text = format!("specification: {e}; install library and boxlite-shim together");
            Error::new(Code::Rpc, text)
        };
        let body = match clients.next_connected().await {
            Arrival::Message(_, message) => message.body,
            Arrival::Gone(_) => {
                return Err(Error::new(Code::Cancelled, "the creating program went away"));
            }
        };
        Ok(match body {
            Some(to_supervisor::Body::Launch(bytes)) => {
                Order::Launch(serde_json::from_slice(&bytes).map_err(malformed)?)
            }
            Some(to_supervisor::Body::Park(bytes)) => {
                Order::Park(serde_json::from_slice(&bytes).map_err(malformed)?)
            }
            _ => return Err(Error::new(Code::Rpc, "neither a launch nor a machine is asked for")),
        })
    }
}

impl<M: Machine> Launcher<M> {
    /// Launches the machine and makes it the box, which the caller has taken.
    pub async fn launch<E: Engine<Machine = M>>(
        self,
        engine: &E,
        clients: &mut Clients,
    ) -> Result<Launched<M>> {
        let Launcher { spec, parked } = self;
        let mut stages = Stages::new(clients);
        let listener = socket::listen(&spec.box_dir)?;
        failpoint::hit(Point::StartListening);
        stages.done(stage::Stage::Supervisor);

        let launch = run(engine, &spec, parked, &mut stages);
        let launched = tokio::select! {
            launched = launch => launched?,
            () = abandoned(clients) => {
                return Err(Error::new(Code::Cancelled, "the creating program went away"));
            }
        };
        let engine::Launched { machine, session: mut guest, answer, road, detours } = launched;
        if let Some(failure) = answer.failure {
            let failed = refused(&failure);
            return Err(Error::new(
                failed.code(),
                failed.message().to_owned() + &machine.last_words(),
            )
            .errno(failure.errno));
        }
        failpoint::hit(Point::StartAnswered);
        set_clock(&mut guest).await?;
        let stages = stages.times;
        Ok(Launched { machine, guest, road, detours, stages, spec, listener })
    }
}

/// The number of requests whose answers nobody waits for.
const UNASKED: u64 = u64::MAX;

/// Sets the clock once more: the first time went out before a restored machine could read it. No
/// command can come before this, so nobody has to wait for it.
async fn set_clock(guest: &mut Session) -> Result<()> {
    guest::send(guest, UNASKED, request::Op::SetClock(now())).await
}

/// The host's time.
pub fn now() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { seconds: now.as_secs().cast_signed(), nanoseconds: now.subsec_nanos() }
}

/// Has a machine run that is the box: the one that waits for it, else another.
async fn run<E: Engine>(
    engine: &E,
    spec: &LaunchSpec,
    parked: Option<Parked<E::Machine>>,
    stages: &mut Stages,
) -> Result<engine::Launched<E::Machine, Response>> {
    let first =
        async |guest: &mut Session, inscribed: bool| init(guest, &spec.identity, inscribed).await;
    let mut detours = Vec::new();
    if let Some(parked) = parked {
        if let Err(error) = park::keep_log(&spec.box_dir) {
            detours.push(format!("keep the supervisor's log: {error}"));
        }
        match parked.become_box(spec, stages, first).await {
            Ok(mut launched) => {
                launched.detours = detours;
                return Ok(launched);
            }
            Err(error) => detours.push(format!("use a waiting machine: {error}")),
        }
    }
    let mut launched = engine.launch(&spec.machine, stages, first).await?;
    launched.detours.splice(..0, detours);
    Ok(launched)
}

/// Waits for the creating program to go away. What it sends before the box runs is too early.
pub async fn abandoned(clients: &mut Clients) {
    loop {
        if let Arrival::Gone(CREATOR) = clients.next_connected().await {
            return;
        }
    }
}

/// Makes the machine the box. An error says that there was no answer.
async fn init(guest: &mut Session, identity: &Identity, inscribed: bool) -> Result<Response> {
    let mut entropy = vec![0; ENTROPY];
    getrandom::fill(&mut entropy)
        .map_err(|e| Error::new(Code::Internal, format!("no random bytes from the host: {e}")))?;
    let init = Init {
        hostname: identity.hostname.clone(),
        machine_id: identity.machine_id.clone(),
        time: Some(now()),
        entropy: entropy.into(),
        root_device: ROOT_DEVICE.into(),
        root_type: ROOT_TYPE.into(),
        resolv_conf: identity.resolv_conf.clone(),
        hosts: identity.hosts.clone(),
        inscribed,
    };
    guest::call(guest, request::Op::Init(init)).await
}

/// Why the agent would not.
fn refused(failure: &Failure) -> Error {
    let code = match FailureKind::try_from(failure.kind) {
        Ok(FailureKind::Mount) => Code::Storage,
        _ => Code::Portal,
    };
    Error::new(code, format!("set up the box: {}", failure.message)).errno(failure.errno)
}

/// Times the steps and reports each to the creating program.
pub struct Stages {
    began: Instant,
    times: Vec<Stage>,
    creator: Option<Queue>,
}

impl Stages {
    pub fn new(clients: &Clients) -> Stages {
        Stages { began: Instant::now(), times: Vec::new(), creator: clients.queue(CREATOR) }
    }

    fn report(&self, stage: Stage) {
        if let Some(creator) = &self.creator {
            // A program that is gone is noticed elsewhere.
            let body = Some(from_supervisor::Body::Stage(stage));
            let _ = creator.send(FromSupervisor { body });
        }
    }
}

impl Progress for Stages {
    fn began(&mut self, what: &str) {
        self.report(Stage { name: what.into(), microseconds: 0, began: true });
    }

    fn done(&mut self, stage: stage::Stage) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.began);
        self.began = now;
        let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let stage = Stage { name: stage.name().into(), microseconds, began: false };
        self.times.push(stage.clone());
        self.report(stage);
    }
}
