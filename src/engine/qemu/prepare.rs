//! Making a template, and a machine from one.
//!
//! A template is a machine that was booted once, up to the moment when its agent has greeted and
//! waits for what its box is, and then saved. A machine made from it maps the saved memory
//! privately, page by page as it writes, loads the state of the devices, and runs on from there, in
//! the same session with its agent, and with another disk in the place of the one that nobody has
//! read.
//!
//! A box's disk, before its first start, is what all boxes of its image have. So there are templates
//! that have it mounted: made from one without, and kept with what was written to the disk meanwhile,
//! which then is a box's disk.

use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use boxlite_protocol::message::{Empty, Response, request};

use super::command::{self, Processor, Purpose};
use super::files::copy_sparse;
use super::identity;
use super::load::load;
use super::machine::{Origin, QemuMachine};
use super::monitor::Notice;
use super::recipe::Recipe;
use super::template::{Absence, MakingLock, Place, Template};
use crate::channel::guest::{self, Session};
use crate::disk::chain::{Chain, Link};
use crate::disk::overlay::{self, DiskFormat, RawBase};
use crate::engine::{Disk, Machine, MachineSpec, Progress, ROOT_DEVICE, ROOT_TYPE, TemplatePolicy};
use crate::error::{Code, Error, Result};
use crate::stage::Stage;

const MIB: u64 = 1 << 20;

/// What templates there are of.
struct Kind {
    name: &'static str,
    /// The stage of a start in which one is made.
    stage: Stage,
}

const MACHINE: Kind = Kind { name: "machine template", stage: Stage::Template };
const DISK: Kind = Kind { name: "disk template", stage: Stage::DiskTemplate };

/// The templates of one machine.
pub struct Preparation<'a> {
    pub spec: &'a MachineSpec,
    pub policy: &'a TemplatePolicy,
    pub processor: Processor,
    pub progress: &'a mut dyn Progress,
    /// What went wrong that a start goes on after.
    pub detours: &'a mut Vec<String>,
}

enum Claim {
    Found(Template),
    Make(MakingLock),
}

impl Preparation<'_> {
    /// The template for the machine: the one that is there, or a new one.
    pub async fn machine(&mut self) -> Result<(Place, Template)> {
        let place = Place::new(self.policy.clone(), recipe(self.spec, self.processor)?);
        let template = match self.claim(&place, &MACHINE).await? {
            Claim::Found(template) => template,
            Claim::Make(lock) => {
                let made = make(&place, &lock, self.spec, self.processor).await;
                self.conclude(&place, &lock, made, &MACHINE)?
            }
        };
        Ok((place, template))
    }

    /// The template for the machine with a disk that nobody has written to; made from the one for
    /// the machine.
    pub async fn with_disk(&mut self, disk: &RawBase) -> Result<(Place, Template)> {
        // A box's disk will name its backing file as the template's does.
        let RawBase { path, named, virtual_size } = disk;
        let disk_identity = format!("{} {} {virtual_size} bytes", named.display(), identify(path)?);
        let recipe = Recipe { disk: Some(disk_identity), ..recipe(self.spec, self.processor)? };
        let place = Place::new(self.policy.clone(), recipe);
        let template = match self.claim(&place, &DISK).await? {
            Claim::Found(template) => template,
            Claim::Make(lock) => {
                let made = match self.machine().await {
                    Ok((_, origin)) => {
                        derive(&place, &lock, self.spec, self.processor, disk, origin).await
                    }
                    Err(error) => Err(error),
                };
                self.conclude(&place, &lock, made, &DISK)?
            }
        };
        Ok((place, template))
    }

    /// The template that is there, or the right to make it.
    async fn claim(&mut self, place: &Place, kind: &Kind) -> Result<Claim> {
        if let Ok(template) = place.find() {
            return Ok(Claim::Found(template));
        }
        let Kind { name, .. } = kind;
        self.progress.began(&format!("preparing {name}"));
        let lock = lock(place, self.spec.boot_timeout).await?;
        // Somebody else may have made it while this one waited.
        match place.find() {
            Ok(template) => return Ok(Claim::Found(template)),
            Err(Absence::Missing) => {}
            Err(Absence::Unusable(why)) => {
                self.detours.push(format!("the {name} was unusable and is made anew: {why}"));
            }
        }
        if lock.failed_lately() {
            return Err(Error::new(Code::Engine, format!("preparing a {name} has just failed")));
        }
        Ok(Claim::Make(lock))
    }

    fn conclude(
        &mut self,
        place: &Place,
        lock: &MakingLock,
        made: Result<()>,
        kind: &Kind,
    ) -> Result<Template> {
        let Kind { name, stage } = kind;
        if let Err(error) = made {
            place.give_up(lock);
            return Err(error.context(format!("prepare a {name}")));
        }
        lock.succeeded();
        // One that could not be removed takes space, no more.
        if let Err(error) = place.make_room() {
            self.detours.push(format!("old machine templates cannot be removed: {error}"));
        }
        self.progress.done(*stage);
        place.find().map_err(|absence| {
            Error::new(Code::Engine, format!("a new {name} is not usable: {absence:?}"))
        })
    }
}

/// Waits for the lock without keeping the supervisor from anything else. Who holds it makes a
/// template, or stands still.
async fn lock(place: &Place, limit: Duration) -> Result<MakingLock> {
    let place = place.clone();
    let locking = tokio::task::spawn_blocking(move || place.lock());
    match tokio::time::timeout(limit, locking).await {
        Ok(Ok(lock)) => lock,
        Ok(Err(e)) => Err(Error::new(Code::Internal, format!("wait for a lock: {e}"))),
        Err(_) => Err(Error::new(
            Code::Timeout,
            "somebody else has been preparing the machine template for too long",
        )),
    }
}

/// What shapes a machine that has no disk yet.
fn recipe(spec: &MachineSpec, processor: Processor) -> Result<Recipe> {
    let arguments = command::arguments(spec, processor, Purpose::Prepare)?;
    let text = |a: CString| String::from_utf8_lossy(a.as_bytes()).into_owned();
    let files = [identify(&spec.binary)?, identify(&spec.kernel)?, identify(&spec.initramfs)?];
    let host_boot =
        identity::host_boot().map_err(|e| Error::io(Code::Engine, "read the boot id", &e))?;
    Ok(Recipe::new(host_boot, files, arguments.into_iter().map(text).collect()))
}

fn identify(path: &Path) -> Result<String> {
    identity::of_file(path)
        .map_err(|e| Error::io(Code::Engine, format!("examine {}", path.display()), &e))
}

async fn make(
    place: &Place,
    lock: &MakingLock,
    spec: &MachineSpec,
    processor: Processor,
) -> Result<()> {
    let (memory, state) = place.begin(lock, u64::from(spec.memory_mib) * MIB)?;
    let origin = Origin::Prepare { memory: &memory };
    let mut machine = QemuMachine::start(spec, processor, origin)?;
    let mut session = machine.open_channel(spec.boot_timeout).await?;
    machine.alive(spec.boot_timeout, rehearse(&mut session)).await?;
    keep(machine, &state).await?;
    place.finish(lock)
}

/// Has a machine that was just loaded mount its disk, and saves it again.
async fn derive(
    place: &Place,
    lock: &MakingLock,
    spec: &MachineSpec,
    processor: Processor,
    disk: &RawBase,
    template: Template,
) -> Result<()> {
    let (memory, state) = place.begin(lock, u64::from(spec.memory_mib) * MIB)?;
    copy_sparse(&template.memory, &memory)
        .map_err(|e| Error::io(Code::Storage, "copy the memory of a machine template", &e))?;
    let RawBase { path, named, virtual_size } = disk;
    overlay::create(&place.new_disk(), named, DiskFormat::Raw, *virtual_size)?;
    let top = Link { path: place.new_disk(), format: DiskFormat::Qcow2 };
    let base = Link { path: path.clone(), format: DiskFormat::Raw };
    let chain = Chain { links: vec![top, base], virtual_size: *virtual_size };
    let spec = MachineSpec { disk: Disk::Image(chain), ..spec.clone() };
    let origin = Origin::Derive { template, memory: &memory };
    let mut machine = QemuMachine::start(&spec, processor, origin)?;
    let mut session = guest::resume(machine.take_channel()?);
    let mount = async {
        let root = boxlite_protocol::message::Disk {
            device: ROOT_DEVICE.to_owned(),
            kind: ROOT_TYPE.to_owned(),
        };
        accepted(guest::call(&mut session, request::Op::MountRoot(root)).await?)
    };
    load(&mut machine, spec.boot_timeout, mount, || {}).await?;
    keep(machine, &state).await?;
    place.finish(lock)
}

/// Saves a machine that does nothing any more, and ends it.
async fn keep(mut machine: QemuMachine, state: &File) -> Result<()> {
    settle(&machine).await;
    if let Err(failure) = save(&mut machine, state).await {
        return Err(machine.explain(failure).await);
    }
    // Only when the process is gone has it written for the last time.
    machine.kill().await;
    Ok(())
}

async fn save(machine: &mut QemuMachine, state: &File) -> Result<()> {
    machine.monitor().save(state).await?;
    machine.reported(Notice::Migrated).await
}

/// A first round trip, which no machine made from this one has to do for the first time. Nothing
/// is under way in the session when this returns: another host can go on with it.
async fn rehearse(session: &mut Session) -> Result<()> {
    accepted(guest::call(session, request::Op::Ping(Empty {})).await?)
}

fn accepted(answer: Response) -> Result<()> {
    answer.failure.map_or(Ok(()), |failure| Err(guest::refused(failure)))
}

/// A guest is at rest when it uses less than this of a processor.
const RESTING: f64 = 0.05;
/// How long it has to be, and how long it may take to.
const REST: Duration = Duration::from_millis(200);
const REST_PATIENCE: Duration = Duration::from_secs(3);

/// Waits until the guest's kernel has done what it does in its first second: what it does now, no
/// machine made from the template has to do again.
pub async fn settle(machine: &QemuMachine) {
    let patience = Instant::now() + REST_PATIENCE;
    while Instant::now() < patience {
        let before = machine.processor_time();
        tokio::time::sleep(REST).await;
        let used = machine.processor_time().saturating_sub(before);
        if used.as_secs_f64() < RESTING * REST.as_secs_f64() {
            return;
        }
    }
}

/// Makes a machine from a template. It runs on in the session that the template was saved in: what
/// is sent in it is read as soon as the machine is loaded.
pub fn restore(
    spec: &MachineSpec,
    processor: Processor,
    template: Template,
) -> Result<(QemuMachine, Session)> {
    let mut machine = QemuMachine::start(spec, processor, Origin::Restore(template))?;
    let session = guest::resume(machine.take_channel()?);
    Ok((machine, session))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{AcceleratorChoice, Disk};

    #[test]
    fn whatever_shapes_a_machine_has_a_template_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        };
        let policy = TemplatePolicy {
            directory: dir.path().join("templates"),
            max_age: Duration::MAX,
            max_bytes: 0,
            disks: true,
        };
        let spec = MachineSpec {
            cpus: 1,
            memory_mib: 512,
            binary: file("qemu"),
            kernel: file("kernel"),
            initramfs: file("initramfs"),
            disk: Disk::Later,
            texts: vec![],
            logs: None,
            accelerator: AcceleratorChoice::Auto,
            cache: dir.path().to_owned(),
            boot_timeout: Duration::from_secs(1),
            templates: Some(policy.clone()),
        };
        let tcg = Processor::Tcg { tsc_khz: 2_000_000 };
        let path = |spec: &MachineSpec, processor| {
            Place::new(policy.clone(), recipe(spec, processor).unwrap()).path()
        };
        let usual = path(&spec, tcg);

        // A box's own disk, logs and patience make no difference.
        let another = MachineSpec {
            disk: Disk::Image(Chain {
                links: vec![Link { path: "/some/disk".into(), format: DiskFormat::Qcow2 }],
                virtual_size: 1 << 30,
            }),
            logs: Some("/logs".into()),
            boot_timeout: Duration::from_secs(9),
            ..spec.clone()
        };
        assert_eq!(path(&another, tcg), usual);

        let mut all = vec![
            usual,
            path(&spec, Processor::Kvm),
            path(&spec, Processor::Tcg { tsc_khz: 2_000_001 }),
            path(&MachineSpec { cpus: 2, ..spec.clone() }, tcg),
            path(&MachineSpec { memory_mib: 513, ..spec.clone() }, tcg),
            path(&MachineSpec { binary: file("another qemu"), ..spec.clone() }, tcg),
        ];
        for part in ["qemu", "kernel", "initramfs"] {
            // The same name and size, written again.
            std::thread::sleep(Duration::from_millis(20));
            file(part);
            all.push(path(&spec, tcg));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
