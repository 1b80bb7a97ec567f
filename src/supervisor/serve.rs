//! The running box: whoever asks for something, and whatever happens to the machine, until it ends.

mod branching;

use std::time::Duration;

use boxlite_protocol::message::{
    Exec, Exited, Failure, FromSupervisor, Healthy, Notice, Running, Standing, from_supervisor,
    request,
};
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::branch::Disks;
use super::creator::Creator;
use super::follow::Place;
use super::health::{Checks, Due, Health, HealthReport};
use super::heart::Heart;
use super::hub::{Hub, Outcome};
use super::idle::Idle;
use super::launch::{self, LaunchSpec, Launched, Stages};
use super::main_process::{self, MainRecord};
use super::peer::{self, Arrival, Clients, GuestReader};
use super::{Cause, explain};
use crate::engine::{Disk, Machine, MachineEvent, Progress};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::stage::Stage;

/// How long the guest may take to unmount and switch off, beyond the grace of its processes.
const OFF_PATIENCE: Duration = Duration::from_secs(15);

/// How long the machine's process may take to answer.
const MACHINE_PATIENCE: Duration = Duration::from_secs(2);

/// How long processes have when a box is stopped unasked.
const UNASKED_GRACE: Duration = Duration::from_secs(5);

/// A box that runs.
struct Service<'a, M> {
    machine: M,
    guest: GuestReader,
    hub: Hub,
    clients: &'a mut Clients,
    listener: UnixListener,
    spec: LaunchSpec,
    heart: Heart,
    /// Whether the machine is to run, or stands still.
    standing: Standing,
    /// The machine has not answered when it was to pause or go on: it may do either yet.
    doubtful: bool,
    /// Who should answer and does not.
    silent: Option<&'static str>,
    /// When an ending that is under way is forced.
    deadline: Option<Instant>,
    checks: Option<Checks>,
    idle: Option<Idle>,
    /// Why it is ending, if nobody asked.
    unasked: Option<String>,
    /// Whether it ends with the program that created it.
    attached: bool,
    /// Whether the main process was started, if it was tried.
    main_started: Option<Result<(), Failure>>,
    disks: Disks,
}

/// Serves the running box until it ends; `Ok` if it was meant to.
pub async fn serve<M: Machine>(
    launched: Launched<M>,
    clients: &mut Clients,
    creator: &Creator,
) -> Result<Cause> {
    let Launched { machine, guest, road, detours, stages, spec, listener } = launched;
    // They are in this box's own log too.
    detours.iter().for_each(|detour| eprintln!("boxlite-shim: {detour}"));
    let running = Running {
        version: boxlite_protocol::VERSION,
        supervisor_pid: std::process::id(),
        machine_pid: machine.pid(),
        accelerator: machine.accelerator().to_string(),
        boot: road.to_string(),
        detours,
        run: spec.run.clone(),
        standing: None,
    };
    let (guest, guest_writer) = peer::split(guest);
    let place = Place::clear(&spec.box_dir, spec.spool_bytes, &spec.run)?;
    let mut hub = Hub::new(guest_writer, running, place);
    hub.meter.started_in(stages);
    let disks = Disks::new(match &spec.machine.disk {
        Disk::Image(chain) => Some(chain.clone()),
        _ => None,
    });
    let mut service = Service {
        checks: spec.health.clone().map(|health| Checks::new(health, &spec.run)).transpose()?,
        idle: spec.idle_stop.map(Idle::new),
        machine,
        guest,
        hub,
        clients,
        listener,
        spec,
        heart: Heart::new(),
        standing: Standing::Runs,
        doubtful: false,
        silent: None,
        deadline: None,
        unasked: None,
        attached: true,
        main_started: None,
        disks,
    };
    service.write_health();
    let end = match service.start_main(creator).await {
        Some(end) => end,
        None => {
            service.hub.welcome(service.clients, peer::CREATOR);
            failpoint::hit(Point::StartServed);
            loop {
                if let Some(end) = service.turn(creator).await {
                    break end;
                }
            }
        }
    };
    service.close().await;
    end
}

impl<M: Machine> Service<'_, M> {
    /// Waits for something to happen, and acts on it. The end of the box is the last thing.
    async fn turn(&mut self, creator: &Creator) -> Option<Result<Cause>> {
        let (attached, alarm) = (self.attached, self.alarm());
        let outcome = tokio::select! {
            message = self.guest.next() => {
                self.heart.heard();
                self.notice(None);
                self.hub.on_guest(message, self.clients)
            }
            arrival = self.clients.next(&self.listener) => match arrival {
                Arrival::Gone(peer::CREATOR) if attached => return Some(Ok(Cause::Abandoned)),
                Arrival::Gone(id) => self.hub.client_gone(id),
                Arrival::Message(id, message) => self.hub.on_client(id, message, self.clients),
            },
            () = creator.gone(), if attached => return Some(Ok(Cause::Abandoned)),
            event = self.machine.event() => match event {
                MachineEvent::Ended(end) => {
                    let stopping = self.deadline.is_some();
                    let explained = explain(end, &self.machine, stopping);
                    return Some(explained.map(|()| self.wanted()));
                }
                MachineEvent::DiskFull => return self.disk_full().await,
            },
            progress = self.disks.progress() => {
                self.branch_goes_on(progress).await;
                Ok(Outcome::Continue)
            }
            () = self.heart.tick() => {
                self.beat().await;
                Ok(Outcome::Continue)
            }
            () = sleep_until(alarm) => {
                self.check();
                Ok(self.stop_unused())
            }
            () = sleep_until(self.deadline) => Err(Error::new(
                Code::Timeout,
                "the box did not switch off in time and was cut off",
            )),
        };
        let end = match outcome {
            Ok(outcome) => self.act(outcome).await,
            Err(error) => Some(Err(error)),
        };
        if let Some(idle) = &mut self.idle {
            idle.note(self.hub.is_in_use() || self.standing != Standing::Runs);
        }
        end
    }

    async fn act(&mut self, outcome: Outcome) -> Option<Result<Cause>> {
        let outcome = match outcome {
            Outcome::MainExited(exited) => self.main_exited(exited),
            other => other,
        };
        match outcome {
            Outcome::Continue => {}
            // It would not end in time, and be cut off.
            Outcome::Halt { client, id, pause: true } if self.deadline.is_some() => {
                let text = "the box is being stopped, and cannot be paused";
                let refused = Err(Error::new(Code::InvalidState, text));
                self.hub.answer(self.clients, client, id, refused);
            }
            // It would never come to rest.
            Outcome::Halt { client, id, pause: true } if self.disks.is_freezing() => {
                let text = "the box's disk is being frozen, and it cannot be paused: try again";
                let refused = Err(Error::new(Code::InvalidState, text));
                self.hub.answer(self.clients, client, id, refused);
            }
            Outcome::Disk(asked) => self.ask_branch(asked).await,
            Outcome::Frozen { request, answer } => self.frozen(request, answer).await,
            Outcome::Thawed { request } => {
                self.disks.thawed(request);
                self.begin_branch().await;
            }
            Outcome::Halt { client, id, pause } => {
                let done = self.halt(pause).await;
                self.hub.answer(self.clients, client, id, done);
            }
            Outcome::Stopping { grace } => {
                failpoint::hit(Point::StopAsked);
                // A second request can only shorten the first.
                let wanted = Instant::now() + grace + OFF_PATIENCE;
                self.deadline = Some(self.deadline.map_or(wanted, |known| known.min(wanted)));
                // A guest that stands still ends nothing. One that cannot is cut off in time.
                let _ = self.halt(false).await;
            }
            Outcome::OwnEnded { exec, success } => {
                self.checked(exec, success);
            }
            Outcome::MainStarted(answer) => self.main_started = Some(answer),
            // Taken for what it leads to above.
            Outcome::MainExited(_) => {}
            Outcome::Detach { client, id } => {
                let creator = client == peer::CREATOR;
                self.attached &= !creator;
                let text = "only the program that started the box can let go of it";
                let done = creator.then_some(()).ok_or(Error::new(Code::Internal, text));
                self.hub.answer(self.clients, client, id, done);
            }
            // The agent has said that it is done, or it is gone: only the process is left.
            Outcome::GuestDone if self.deadline.is_some() => {
                failpoint::hit(Point::StopGuestDone);
                return Some(Ok(self.wanted()));
            }
            Outcome::GuestDone => {
                let ended = tokio::time::timeout(OFF_PATIENCE, self.machine.ended()).await;
                return Some(match ended {
                    Ok(end) => explain(end, &self.machine, false).map(|()| Cause::Wanted),
                    Err(_) => Err(Error::new(Code::Portal, "the guest closed its channel")),
                });
            }
        }
        None
    }

    /// Starts the main process, if there is one, and waits until it runs.
    async fn start_main(&mut self, creator: &Creator) -> Option<Result<Cause>> {
        let exec = match self.spec.main.as_ref().map(|main| main.exec()) {
            None => return None,
            Some(Ok(exec)) => exec,
            Some(Err(error)) => return Some(Err(error)),
        };
        let mut stages = Stages::new(self.clients);
        let limit = self.spec.machine.boot_timeout;
        let started = tokio::time::timeout(limit, self.main_starts(&exec, creator));
        let end = match started.await {
            Ok(end) => end,
            Err(_) => {
                let text = format!("the box's main process did not start within {limit:?}");
                Some(Err(Error::new(Code::Timeout, text)))
            }
        };
        if end.is_none() {
            stages.done(Stage::Main);
        }
        end
    }

    async fn main_starts(&mut self, exec: &Exec, creator: &Creator) -> Option<Result<Cause>> {
        if let Err(failure) = self.hub.start_main(exec.clone()) {
            return Some(Err(main_process::refused(exec, &failure)));
        }
        loop {
            if let Some(end) = self.turn(creator).await {
                return Some(end);
            }
            match &self.main_started {
                None => {}
                Some(Ok(())) => return None,
                Some(Err(failure)) => return Some(Err(main_process::refused(exec, failure))),
            }
        }
    }

    /// Leaves word of how the main process ended, and stops the box if it is to.
    fn main_exited(&mut self, exited: Exited) -> Outcome {
        let record = MainRecord::new(&self.spec.run, exited);
        if let Err(error) = record.write(&self.spec.box_dir) {
            eprintln!("boxlite-shim: {error}");
        }
        self.tell(from_supervisor::Body::MainExited(exited));
        let stop = self.spec.main.as_ref().is_some_and(|main| main.stop);
        if !stop || self.deadline.is_some() {
            return Outcome::Continue;
        }
        self.stop_unasked(record.tell())
    }

    fn stop_unasked(&mut self, why: String) -> Outcome {
        self.unasked = Some(why);
        self.hub.shut_down(UNASKED_GRACE);
        Outcome::Stopping { grace: UNASKED_GRACE }
    }

    /// Has the machine stand still, or go on. One that does so already stays as it is.
    async fn halt(&mut self, pause: bool) -> Result<()> {
        if (self.standing != Standing::Runs) == pause {
            return Ok(());
        }
        let done =
            async { if pause { self.machine.pause().await } else { self.machine.go_on().await } };
        match tokio::time::timeout(MACHINE_PATIENCE, done).await {
            Ok(done) => done?,
            Err(_) => {
                self.doubtful = true;
                return Err(Error::new(Code::Timeout, MACHINE_SILENT));
            }
        }
        self.stands(if pause { Standing::Paused } else { Standing::Runs });
        if !pause {
            // Its clock stood still too.
            self.hub.tell(request::Op::SetClock(launch::now()));
        }
        Ok(())
    }

    /// Undoes what the machine did when nobody waited for it any more, and was told so.
    async fn settle(&mut self, runs: bool) {
        let wanted = self.standing == Standing::Runs;
        let undone = async {
            match (runs, wanted) {
                (false, true) => self.machine.go_on().await,
                (true, false) => self.machine.pause().await,
                _ => Ok(()),
            }
        };
        let undone = tokio::time::timeout(MACHINE_PATIENCE, undone).await;
        self.doubtful = undone.is_err();
        if wanted && !runs {
            self.hub.tell(request::Op::SetClock(launch::now()));
        }
    }

    /// The machine stands still, with a write that waits.
    async fn disk_full(&mut self) -> Option<Result<Cause>> {
        // Somebody may have had it run on since; if that was too early, this is said once more.
        let runs = tokio::time::timeout(MACHINE_PATIENCE, self.machine.runs()).await;
        if matches!(runs, Ok(Ok(true))) {
            return None;
        }
        if self.deadline.is_some() {
            return Some(Err(Error::new(
                Code::ResourceExhausted,
                "the host's disk was full when the box was to stop, and it was cut off: what it had \
                 not synced is lost",
            )
            .errno(libc::ENOSPC)));
        }
        self.stands(Standing::DiskFull);
        if self.disks.gives_up() {
            let text = "the host's disk is full, and the box's file system cannot come to rest: free \
                        some space and resume the box";
            let full = Error::new(Code::ResourceExhausted, text).errno(libc::ENOSPC);
            self.end_branch(Err(full)).await;
        }
        None
    }

    /// Looks whether everybody answers.
    async fn beat(&mut self) {
        let beat = self.heart.beat(self.standing == Standing::Runs);
        // Also of a machine that does not answer now: it does when it can, and is not asked again.
        if beat.set_clock {
            self.hub.tell(request::Op::SetClock(launch::now()));
        }
        if beat.ask {
            self.hub.tell(request::Op::Ping(boxlite_protocol::message::Empty {}));
        }
        match tokio::time::timeout(MACHINE_PATIENCE, self.machine.runs()).await {
            Err(_) => return self.notice(Some(MACHINE_SILENT)),
            Ok(Ok(runs)) if self.doubtful => self.settle(runs).await,
            Ok(_) => {}
        }
        if beat.agent_silent {
            return self.notice(Some(AGENT_SILENT));
        }
        if self.standing != Standing::Runs {
            // Nobody else is asked.
            self.notice(None);
        }
    }

    /// When something is due of itself.
    fn alarm(&self) -> Option<Instant> {
        if self.deadline.is_some() {
            return None;
        }
        let check = self.checks.as_ref().and_then(Checks::next);
        let idle = self.idle.as_ref().and_then(Idle::until);
        [check, idle].into_iter().flatten().min()
    }

    /// Asks whether the box is well, if it is time.
    fn check(&mut self) {
        let runs = self.standing == Standing::Runs;
        let Some(checks) = &mut self.checks else { return };
        match checks.due(runs) {
            Some(Due::Start(exec)) => checks.started(self.hub.start_own(exec)),
            Some(Due::Kill(exec)) => self.hub.kill(exec),
            None => {}
        }
    }

    /// A check has ended.
    fn checked(&mut self, exec: u32, success: bool) {
        let Some(checks) = &mut self.checks else { return };
        let before = checks.report().state;
        checks.ended(exec, success);
        let HealthReport { state, failures, .. } = *checks.report();
        // First where it can be looked up.
        self.write_health();
        if state != before {
            let healthy = state == Health::Healthy;
            self.tell(from_supervisor::Body::Healthy(Healthy { healthy, failures }));
        }
    }

    /// Why a box has ended that nothing went wrong with.
    fn wanted(&mut self) -> Cause {
        self.unasked.take().map_or(Cause::Wanted, Cause::Unasked)
    }

    fn write_health(&self) {
        if let Some(Err(error)) = self.checks.as_ref().map(|c| c.write(&self.spec.box_dir)) {
            eprintln!("boxlite-shim: {error}");
        }
    }

    /// Stops a box in which nothing has run for long enough.
    fn stop_unused(&mut self) -> Outcome {
        let why = self.idle.as_ref().and_then(Idle::over);
        why.map_or(Outcome::Continue, |why| self.stop_unasked(why))
    }

    fn stands(&mut self, standing: Standing) {
        if self.standing != standing {
            self.standing = standing;
            self.tell_standing();
        }
    }

    fn notice(&mut self, silent: Option<&'static str>) {
        if self.silent != silent {
            self.silent = silent;
            self.tell_standing();
        }
    }

    /// Tells everybody how the machine is now.
    fn tell_standing(&mut self) {
        let (standing, message) = match (self.standing, self.silent) {
            (_, Some(who)) => (Standing::Silent, who),
            (Standing::DiskFull, None) => (Standing::DiskFull, DISK_FULL),
            (standing, None) => (standing, ""),
        };
        let notice = Notice { standing: standing as i32, message: message.to_owned() };
        self.hub.stands(notice.clone(), self.standing != Standing::Runs);
        self.tell(from_supervisor::Body::Notice(notice));
    }

    fn tell(&self, body: from_supervisor::Body) {
        self.clients.send_all(&FromSupervisor { body: Some(body) });
    }

    /// Ends the machine, and passes on what the guest said last.
    async fn close(&mut self) {
        self.machine.kill().await;
        failpoint::hit(Point::StopMachineGone);
        while let Ok(message @ Some(_)) = self.guest.next().await {
            match self.hub.on_guest(Ok(message), self.clients) {
                Ok(Outcome::MainExited(exited)) => {
                    let _ = self.main_exited(exited);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.hub.ended(self.clients);
    }
}

const MACHINE_SILENT: &str = "the virtual machine's process does not answer";
const AGENT_SILENT: &str = "the agent in the box does not answer";
const DISK_FULL: &str = "the host's disk is full: the box was paused before a write could be lost; \
                         free some space and resume it";

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
