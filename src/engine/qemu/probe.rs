//! Which accelerator works here.
//!
//! That `/dev/kvm` opens and creates machines proves nothing: on some hosts a guest then spins
//! forever. So KVM counts only after a guest has come to life under it, within a deadline. The
//! answer is remembered until the host boots again, for exactly this QEMU and this kernel, under
//! a lock, so that many starters ask once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::QemuMachine;
use super::command::Processor;
use super::identity;
use super::machine::Origin;
use crate::channel;
use crate::engine::{Accelerator, AcceleratorChoice, Disk, Machine, MachineSpec};
use crate::error::{Code, Error, Result};

/// How long a guest may take to its first sign of life under KVM. It needs a fifth of a second
/// where KVM works.
const DEADLINE: Duration = Duration::from_secs(3);

const DEVICE: &str = "/dev/kvm";

/// What was found out, and for what.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    host_boot: String,
    qemu: String,
    kernel: String,
    /// Why KVM cannot be used; none if it can.
    obstacle: Option<String>,
}

/// The accelerator for a machine, by the user's choice and the host's abilities.
pub async fn choose(spec: &MachineSpec) -> Result<Accelerator> {
    if spec.accelerator == AcceleratorChoice::Tcg {
        return Ok(Accelerator::Tcg);
    }
    match (obstacle(spec).await?, spec.accelerator) {
        (None, _) => Ok(Accelerator::Kvm),
        (Some(_), AcceleratorChoice::Auto) => Ok(Accelerator::Tcg),
        (Some(obstacle), _) => Err(Error::new(
            Code::UnsupportedEngine,
            format!("KVM was demanded and cannot be used here: {obstacle}"),
        )
        .object(DEVICE)),
    }
}

/// Why KVM cannot be used; none if it can.
async fn obstacle(spec: &MachineSpec) -> Result<Option<String>> {
    // Cheap to see, and may change while the host is up: not remembered.
    if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        return Ok(Some(format!("open {DEVICE}: {error}")));
    }
    let path = spec.cache.join("accelerator.json");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|e| Error::io(Code::Storage, format!("open {}", path.display()), &e))?;
    // Blocks while another starter asks: its answer is ours. Nothing else runs in this process.
    let mut file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| {
        Error::io(Code::Storage, format!("lock {}", path.display()), &e.into())
    })?;
    let identity = |p: &Path| {
        identity::of_file(p)
            .map_err(|e| Error::io(Code::Engine, format!("examine {}", p.display()), &e))
    };
    let mut finding = Finding {
        host_boot: identity::host_boot()
            .map_err(|e| Error::io(Code::Internal, "read the boot id", &e))?,
        qemu: identity(&spec.binary)?,
        kernel: identity(&spec.kernel)?,
        obstacle: None,
    };
    if let Some(known) = read(&mut file) {
        finding.obstacle = known.obstacle.clone();
        if finding == known {
            return Ok(known.obstacle);
        }
    }
    finding.obstacle = ask(spec).await?;
    // Not remembering costs the next start some time, no more.
    let _ = write(&mut file, &finding);
    Ok(finding.obstacle)
}

/// Runs a guest under KVM to its first sign of life.
async fn ask(spec: &MachineSpec) -> Result<Option<String>> {
    let spec = MachineSpec {
        cpus: 1,
        memory_mib: 128,
        disk: Disk::None,
        boot_timeout: DEADLINE,
        templates: None,
        ..spec.clone()
    };
    let mut machine = QemuMachine::start(&spec, Processor::Kvm, Origin::Boot)?;
    let mut stream = machine.take_channel()?;
    let greeting = channel::guest::greeting(&mut stream);
    let obstacle = tokio::select! {
        end = machine.ended() => Some(format!("QEMU ended: {end:?}{}", machine.last_words())),
        outcome = tokio::time::timeout(DEADLINE, greeting) => match outcome {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!(
                "a guest showed no sign of life within {} s", DEADLINE.as_secs()
            )),
        },
    };
    machine.kill().await;
    Ok(obstacle)
}

fn read(file: &mut File) -> Option<Finding> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write(file: &mut File, finding: &Finding) -> io::Result<()> {
    let text = serde_json::to_vec(finding)?;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(&text)
}
