//! From a box to a running machine: a list of stages, each timed.
//!
//! The stages from the machine's process on are the supervisor's, which reports them.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::config::BoxConfig;
use super::context::Context;
use super::exec;
use super::main_process;
use super::pool::Parked;
use super::remove::released;
use super::{Observer, Progress};
use crate::channel::client::{Connection, Opening};
use crate::disk::chain::Chain;
use crate::engine::{Disk, MachineSpec, qemu};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::stage::Stage;
use crate::supervisor::LaunchSpec;
use crate::supervisor::launch::{self, Identity, SUPERVISOR_LOG};

/// How long a stage of the last start took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTime {
    pub name: String,
    pub elapsed: Duration,
}

/// The environment that a supervisor may see; nothing of the host program's own.
const KEPT_ENVIRONMENT: &[&str] = &["PATH", "LD_LIBRARY_PATH", "TMPDIR"];

/// Launches the box's machine, for a start that has begun at some moment, under a supervisor of its own, with a machine that waits for one if
/// there is one that fits. When `unwanted` is dropped at its other
/// end, or the launch fails, this returns after the supervisor's end.
pub async fn launch(
    context: &Arc<Context>,
    config: &BoxConfig,
    run: &str,
    (began, observer): (Instant, Option<Observer>),
    mut unwanted: oneshot::Receiver<()>,
) -> Result<(Connection, Vec<StageTime>, Supervisor)> {
    let _starting = context.pool.starting();
    let mut stages = Stages { times: Vec::new(), observer, began };
    stages.step(Stage::Admission);
    let spec = specify(context, config, run)?;
    let json = serde_json::to_vec(&spec)
        .map_err(|e| Error::new(Code::Internal, format!("write the launch specification: {e}")))?;
    stages.step(Stage::Configuration);
    let mut lost = None;
    if let Some(held) = context.pool.take(&spec.machine).and_then(Parked::claim) {
        match open(held, &spec.box_dir, json.clone(), &mut stages, &mut unwanted).await {
            Ok((connection, supervisor)) => return Ok((connection, stages.times, supervisor)),
            // It has ended since we looked. Whatever its supervisor says itself is about the box.
            Err(error) if matches!(error.code(), Code::Stopped | Code::RpcTransport) => {
                // One that never had the box left no file.
                released(context, &spec.box_dir, ENDING_PATIENCE).await;
                lost = Some(format!("use a waiting machine: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    let held = spawn_supervisor(&context.settings.libexec, &supervisor_log(&spec.box_dir)?)?;
    stages.step(Stage::Spawn);
    failpoint::hit(Point::StartSpawned);
    let (mut connection, supervisor) =
        open(held, &spec.box_dir, json, &mut stages, &mut unwanted).await?;
    lost.into_iter().for_each(|detour| connection.add_detour(detour));
    Ok((connection, stages.times, supervisor))
}

/// Has a supervisor launch the box. When that fails, or is unwanted, it has ended.
async fn open(
    (socket, supervisor): (tokio::net::UnixStream, Supervisor),
    box_dir: &Path,
    spec: Vec<u8>,
    stages: &mut Stages,
    unwanted: &mut oneshot::Receiver<()>,
) -> Result<(Connection, Supervisor)> {
    let opening = Connection::open(socket, box_dir, Opening::Launch(spec), |stage| {
        if stage.began {
            stages.began(stage.name);
        } else {
            stages.done(&stage.name, Duration::from_micros(stage.microseconds));
        }
    });
    let opened = tokio::select! {
        _ = unwanted => Err(Error::new(Code::Cancelled, "the start was cancelled")),
        opened = opening => opened,
    };
    match opened {
        Ok(connection) => Ok((connection, supervisor)),
        Err(error) => {
            supervisor.end().await;
            Err(error)
        }
    }
}

/// A supervisor that was just started: a second descriptor for our end of its socket, by which it
/// can be seen to end.
pub struct Supervisor {
    socket: tokio::net::UnixStream,
}

/// How long a machine that nobody waits for may take until it runs.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a supervisor may take to end its machine and itself.
const ENDING_PATIENCE: Duration = Duration::from_secs(15);

impl Supervisor {
    /// Has it end, and waits until it has.
    pub async fn end(mut self) {
        let ended = async {
            self.socket.shutdown().await?;
            tokio::io::copy(&mut self.socket, &mut tokio::io::sink()).await
        };
        // An error is an end too; who never ends is found out by the next start.
        let _ = tokio::time::timeout(ENDING_PATIENCE, ended).await;
    }
}

struct Stages {
    times: Vec<StageTime>,
    observer: Option<Observer>,
    /// When the last stage of our own ended.
    began: Instant,
}

impl Stages {
    fn began(&self, what: String) {
        if let Some(observer) = &self.observer {
            observer(Progress::Began { what });
        }
    }

    /// One of our own is done.
    fn step(&mut self, stage: Stage) {
        let now = Instant::now();
        let began = std::mem::replace(&mut self.began, now);
        self.done(stage.name(), now - began);
    }

    fn done(&mut self, name: &str, elapsed: Duration) {
        let stage = StageTime { name: name.to_owned(), elapsed };
        if let Some(observer) = &self.observer {
            observer(Progress::Stage { name: stage.name.clone(), elapsed });
        }
        tracing::debug!("stage {name} took {} us", elapsed.as_micros());
        self.times.push(stage);
    }
}

/// A machine without a box.
pub fn machine(context: &Context, cpus: u32, memory_mib: u32) -> Result<MachineSpec> {
    let settings = &context.settings;
    let part = |name: &str, what: &str| {
        let path = settings.libexec.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::new(
            Code::Engine,
            format!(
                "the {what} is missing: {} (set BOXLITE_LIBEXEC if it is installed elsewhere)",
                path.display()
            ),
        )
        .object(path.display().to_string()))
    };
    Ok(MachineSpec {
        cpus,
        memory_mib,
        binary: qemu::find_binary()?,
        kernel: part("vmlinux", "guest kernel")?,
        initramfs: part("initramfs", "guest's initramfs")?,
        disk: Disk::Later,
        texts: vec![],
        logs: None,
        accelerator: settings.accelerator,
        cache: settings.cache.clone(),
        boot_timeout: BOOT_TIMEOUT,
        templates: Some(settings.templates.clone()),
    })
}

fn specify(context: &Context, config: &BoxConfig, run: &str) -> Result<LaunchSpec> {
    let options = &config.options;
    let box_dir = context.home.of_box(&config.id);
    let disk = Chain::resolve(context.home.root(), &context.home.disk(&config.id))
        .map_err(|e| e.or_object(&*config.id))?;
    let machine = machine(context, options.cpus, options.memory_mib)?;
    let identity = Identity::of(config);
    let health = exec::health(config, &identity.hostname)?;
    Ok(LaunchSpec {
        box_id: config.id.clone(),
        run: run.to_owned(),
        machine: MachineSpec {
            disk: Disk::Image(disk),
            texts: identity.texts(),
            logs: Some(box_dir.join("logs")),
            boot_timeout: Duration::from_millis(options.start_timeout_ms),
            templates: machine.templates.filter(|_| !options.cold_boot),
            ..machine
        },
        box_dir,
        main: main_process::spec(config, &identity.hostname)?,
        spool_bytes: options.spool_bytes,
        health,
        identity,
        idle_stop: options.idle_stop_s.map(Duration::from_secs),
    })
}

/// Where the supervisor of a box writes messages of its own.
fn supervisor_log(box_dir: &Path) -> Result<File> {
    let path = box_dir.join(SUPERVISOR_LOG);
    launch::open_log(&path)
        .map_err(|e| Error::io(Code::Storage, format!("open {}", path.display()), &e))
}

/// Starts a supervisor whose standard input is a socket to us, and returns our end. When it
/// closes, by whatever end of this process, the box stops.
pub fn spawn_supervisor(
    libexec: &Path,
    log: &File,
) -> Result<(tokio::net::UnixStream, Supervisor)> {
    let program = libexec.join("boxlite-shim");
    let failed = |e: &std::io::Error| {
        Error::io(Code::Engine, format!("start the supervisor {}", program.display()), e)
            .object(program.display().to_string())
    };
    let c_string = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| Error::new(Code::Engine, "a path contains a NUL byte"))
    };
    let (ours, theirs) = UnixStream::pair().map_err(|e| failed(&e))?;
    ours.set_nonblocking(true).map_err(|e| failed(&e))?;
    let env = KEPT_ENVIRONMENT
        .iter()
        .chain(failpoint::ENVIRONMENT)
        .filter_map(|name| {
            let value = std::env::var_os(name)?;
            Some(c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        })
        .collect::<Result<Vec<_>>>()?;
    let path = c_string(program.as_os_str().as_bytes())?;
    boxlite_spawn::Command::new(path.clone(), vec![path])
        .env(env)
        .cwd(c_string(b"/")?)
        .new_session()
        .fd(theirs.as_fd(), 0)
        .fd(log.as_fd(), 1)
        .fd(log.as_fd(), 2)
        .spawn_orphan()
        .map_err(|f| failed(&f.error))?;
    let second = ours.try_clone().map_err(|e| failed(&e))?;
    let socket = tokio::net::UnixStream::from_std(second).map_err(|e| failed(&e))?;
    let ours = tokio::net::UnixStream::from_std(ours).map_err(|e| failed(&e))?;
    Ok((ours, Supervisor { socket }))
}
