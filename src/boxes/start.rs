//! From a box to a running machine: a list of stages, each timed.
//!
//! The stages from the machine's process on are the supervisor's, which reports them.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::config::BoxConfig;
use super::context::Context;
use super::{Observer, Progress};
use crate::channel::client::{Connection, Opening};
use crate::engine::{Disk, MachineSpec, qemu};
use crate::error::{Code, Error, Result};
use crate::supervisor::LaunchSpec;
use crate::supervisor::launch::Identity;

/// How long a stage of the last start took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTime {
    pub name: String,
    pub elapsed: Duration,
}

/// The environment that a supervisor may see; nothing of the host program's own.
const KEPT_ENVIRONMENT: &[&str] = &["PATH", "LD_LIBRARY_PATH", "TMPDIR"];

/// Launches the box's machine under a supervisor of its own. When `unwanted` is dropped at its other
/// end, or the launch fails, this returns after the supervisor's end.
pub async fn launch(
    context: &Context,
    config: &BoxConfig,
    observer: Option<Observer>,
    mut unwanted: oneshot::Receiver<()>,
) -> Result<(Connection, Vec<StageTime>, Supervisor)> {
    let mut stages = Stages { times: Vec::new(), observer };
    let began = Instant::now();
    let spec = specify(context, config)?;
    let json = serde_json::to_vec(&spec)
        .map_err(|e| Error::new(Code::Internal, format!("write the launch specification: {e}")))?;
    let (socket, supervisor) = spawn_supervisor(&context.settings.libexec, &spec.box_dir)?;
    stages.done("spawn", began.elapsed());

    let opening = Connection::open(socket, Opening::Launch(json), |stage| {
        if stage.began {
            stages.began(stage.name);
        } else {
            stages.done(&stage.name, Duration::from_micros(stage.microseconds));
        }
    });
    let opened = tokio::select! {
        _ = &mut unwanted => Err(Error::new(Code::Cancelled, "the start was cancelled")),
        opened = opening => opened,
    };
    match opened {
        Ok(connection) => Ok((connection, stages.times, supervisor)),
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
}

impl Stages {
    fn began(&self, what: String) {
        if let Some(observer) = &self.observer {
            observer(Progress::Began { what });
        }
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

fn specify(context: &Context, config: &BoxConfig) -> Result<LaunchSpec> {
    let home = &context.home;
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
    let options = &config.options;
    Ok(LaunchSpec {
        box_id: config.id.clone(),
        box_dir: home.of_box(&config.id),
        machine: MachineSpec {
            cpus: options.cpus,
            memory_mib: options.memory_mib,
            binary: qemu::find_binary()?,
            kernel: part("vmlinux", "guest kernel")?,
            initramfs: part("initramfs", "guest's initramfs")?,
            disk: Disk::Image(home.disk(&config.id)),
            logs: Some(home.of_box(&config.id).join("logs")),
            accelerator: settings.accelerator,
            cache: settings.cache.clone(),
            boot_timeout: Duration::from_millis(options.start_timeout_ms),
            templates: (!options.cold_boot).then(|| settings.templates.clone()),
        },
        identity: Identity::of(config),
        detached: false,
    })
}

/// Starts a supervisor whose standard input is a socket to us, and returns our end. When it
/// closes, by whatever end of this process, the box stops.
fn spawn_supervisor(
    libexec: &Path,
    box_dir: &Path,
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
    let path = box_dir.join("logs/shim.log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|e| Error::io(Code::Storage, format!("open {}", path.display()), &e))?;
    let env = KEPT_ENVIRONMENT
        .iter()
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
