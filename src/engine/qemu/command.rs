//! The command line of QEMU, from a machine's specification.
//!
//! Machine `microvm` without ACPI: eight virtio-mmio slots, found by the kernel through its
//! command line, no PCI, no firmware tables. Sockets are handed over as descriptors, so the
//! length of a home's path does not matter; blockdevs are given as JSON, so no character of a
//! path needs escaping.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::disk::chain::Chain;
use crate::disk::overlay::DiskFormat;
use crate::engine::{Disk, MachineSpec};
use crate::error::{Code, Error, Result};

/// The descriptors QEMU gets, by number.
pub const MONITOR_FD: i32 = 3;
pub const CHANNEL_FD: i32 = 4;
pub const CONSOLE_FD: i32 = 5;
/// The file that is the memory of a template or of a machine made from it.
pub const MEMORY_FD: i32 = 6;
/// Where the state of the devices is written to, or read from.
pub const STATE_FD: i32 = 7;
/// The disk to rehearse on.
pub const SCRATCH_FD: i32 = 8;
/// The first of the disk's files.
pub const DISK_FD: i32 = 16;

/// What a machine is started for. The guest sees the same machine in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To boot and be used.
    Boot,
    /// To boot and be saved: its memory is a file that others share.
    Prepare,
    /// To be loaded from what was saved: of the file it has a private copy, page by page.
    Restore,
    /// To be loaded, and saved again: the file for its memory holds what was saved, and is its own.
    Derive,
}

/// What executes the guest's instructions, with what the guest has to be told about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    Kvm,
    Tcg {
        /// The rate of the host's time stamp counter, which is the guest's.
        tsc_khz: u64,
    },
}

/// The names of the disk's node in QEMU's block layer, and of what is in its place before.
pub const DISK_NODE: &str = "disk";
pub const SCRATCH_NODE: &str = "scratch";

/// The name of the disk's device.
pub const DISK: &str = "root";

/// Translated code per machine, in MiB.
const TRANSLATION_BUFFER: u32 = 64;

/// The whole argument vector.
pub fn arguments(
    spec: &MachineSpec,
    processor: Processor,
    purpose: Purpose,
) -> Result<Vec<CString>> {
    let mut line = Line::new(&spec.binary);
    line.flags(&["-nodefaults", "-no-user-config", "-no-reboot"]);
    line.option("-display", "none");
    line.option("-sandbox", SANDBOX);
    line.option("-machine", "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on");
    // Modern virtio: the legacy interface is only the default for old guests.
    line.option("-global", "virtio-mmio.force-legacy=false");
    match processor {
        Processor::Kvm => {
            line.option("-accel", "kvm");
            line.option("-cpu", "host");
        }
        Processor::Tcg { .. } => {
            line.option("-accel", format!("tcg,tb-size={TRANSLATION_BUFFER}"));
            // With "enhanced rep movs" the kernel copies byte by byte, which a translator makes
            // three to eight times slower than its own copy loop.
            line.option("-cpu", "max,-erms");
        }
    }
    line.option("-smp", spec.cpus.to_string());
    line.option("-m", format!("{}M", spec.memory_mib));
    if let Some(memory) = memory(spec, purpose) {
        line.option("-object", memory);
        line.option("-machine", format!("memory-backend={MEMORY}"));
    }
    if matches!(purpose, Purpose::Restore | Purpose::Derive) {
        line.option("-incoming", "defer");
    }
    line.path("-kernel", &spec.kernel);
    line.path("-initrd", &spec.initramfs);
    line.option("-append", kernel_arguments(processor));
    line.option("-chardev", format!("socket,id=monitor,fd={MONITOR_FD}"));
    line.option("-mon", "chardev=monitor,mode=control");
    line.option("-chardev", format!("socket,id=console,fd={CONSOLE_FD}"));
    line.option("-serial", "chardev:console");
    line.option("-chardev", format!("socket,id=channel,fd={CHANNEL_FD}"));
    line.option("-device", "virtio-serial-device,max_ports=4");
    line.option("-device", "virtserialport,nr=1,chardev=channel,name=boxlite.agent");
    if let (Disk::Image(chain), true) = (&spec.disk, purpose != Purpose::Prepare) {
        for (number, access) in files(chain).enumerate() {
            let set = access.set;
            // Where a comma ends the text, two are one.
            let opaque = access.label().replace(',', ",,");
            // A chain has some dozen files at most.
            let fd = DISK_FD + number as i32;
            line.option("-add-fd", format!("fd={fd},set={set},opaque={opaque}"));
        }
    }
    if let Some((node, disk)) = block_device(&spec.disk, purpose)? {
        line.option("-blockdev", disk.to_string());
        // A write that fails stops the machine instead of reaching the guest: nothing is lost
        // when the host's disk is full.
        let policy = "werror=stop,rerror=report,discard=on";
        line.option("-device", format!("virtio-blk-device,id={DISK},drive={node},{policy}"));
    }
    line.option("-object", "rng-random,id=entropy,filename=/dev/urandom");
    line.option("-device", "virtio-rng-device,rng=entropy");
    line.finish()
}

/// QEMU gives up what it does not need: new processes, other users, resource limits, and system
/// calls nobody uses any more.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The kernel's name, in numbers, for "string instructions are fast", which they are not where each
/// of their steps is translated code: plain loops copy a pipe's pages in three quarters of the time.
const REP_GOOD: u32 = 3 * 32 + 16;

/// See `kernel/README.md` for what each argument saves.
fn kernel_arguments(processor: Processor) -> String {
    // A panic resets the machine, which ends it: QEMU runs with -no-reboot.
    let always =
        "console=ttyS0 quiet panic=-1 reboot=t no_timer_check noreplace-smp swiotlb=noforce";
    match processor {
        // Paravirtual clocks need no measuring.
        Processor::Kvm => always.to_owned(),
        Processor::Tcg { tsc_khz } => format!(
            "{always} lapic_timer_hz=1000000000 tsc_early_khz={tsc_khz} tsc=reliable lpj={} \
             cpu_init_udelay=0 clearcpuid={REP_GOOD}",
            tsc_khz * 10
        ),
    }
}

/// The name of the memory, which is part of what is saved.
const MEMORY: &str = "ram";

/// The file behind the guest's memory; none where it is nobody else's.
fn memory(spec: &MachineSpec, purpose: Purpose) -> Option<String> {
    let share = match purpose {
        Purpose::Boot => return None,
        Purpose::Prepare | Purpose::Derive => "on",
        Purpose::Restore => "off",
    };
    Some(format!(
        "memory-backend-file,id={MEMORY},size={}M,mem-path=/proc/self/fd/{MEMORY_FD},share={share}",
        spec.memory_mib
    ))
}

/// Whether a machine needs a disk to rehearse on.
pub fn rehearses(disk: &Disk, purpose: Purpose) -> bool {
    matches!(disk, Disk::Later | Disk::LaterOver(_)) && purpose != Purpose::Prepare
}

/// What is behind the disk's device, with its node's name.
fn block_device(disk: &Disk, purpose: Purpose) -> Result<Option<(&'static str, Value)>> {
    Ok(match disk {
        Disk::None => None,
        Disk::Image(chain) if purpose != Purpose::Prepare => Some((DISK_NODE, image(chain)?)),
        Disk::LaterOver(base) if rehearses(disk, purpose) => {
            let mut scratch = scratch("qcow2");
            scratch["backing"] = json!({
                "driver": DiskFormat::Raw.name(),
                "read-only": true,
                "file": { "driver": "file", "filename": filename(&base.path)?, "read-only": true },
            });
            Some((SCRATCH_NODE, scratch))
        }
        disk if rehearses(disk, purpose) => Some((SCRATCH_NODE, scratch("raw"))),
        Disk::Later | Disk::LaterOver(_) | Disk::Image(_) => Some((DISK_NODE, placeholder())),
    })
}

fn scratch(format: &str) -> Value {
    json!({
        "driver": format,
        "node-name": SCRATCH_NODE,
        "discard": "unmap",
        "file": { "driver": "file", "filename": format!("/proc/self/fd/{SCRATCH_FD}") },
    })
}

/// What a template has for a disk: nothing of it is read before a box's own takes its place.
fn placeholder() -> Value {
    json!({ "driver": "null-co", "node-name": DISK_NODE, "read-zeroes": true })
}

/// A file of a disk, as QEMU gets it.
pub struct Access<'a> {
    /// The set of descriptors that it is in. All of one set are the same file.
    pub set: usize,
    pub path: &'a Path,
    pub writable: bool,
}

/// What the label of a descriptor to write with begins with.
pub const WRITABLE: &str = "write:";

impl Access<'_> {
    /// What QEMU is told to call the descriptor; for people, and to find it again.
    pub fn label(&self) -> String {
        let kind = if self.writable { WRITABLE } else { "" };
        format!("{kind}{}", self.path.display())
    }
}

/// The files of a disk, as descriptors. QEMU opens a file anew where it is to be read only, or to be
/// written from then on; and by then its name may be another's. So it gets no name, but a descriptor for
/// either.
pub fn files(disk: &Chain) -> impl Iterator<Item = Access<'_>> {
    disk.links.iter().enumerate().flat_map(|(set, link)| accesses(set, &link.path, set == 0))
}

/// A file that is in a set.
pub fn accesses(set: usize, path: &Path, is_top: bool) -> impl Iterator<Item = Access<'_>> {
    let access = move |writable| Access { set, path, writable };
    is_top.then(|| access(true)).into_iter().chain([access(false)])
}

/// A box's disk. Every file of its chain is named: QEMU follows no path that stands in one of them.
pub fn image(disk: &Chain) -> Result<Value> {
    let (top, rest) = disk
        .links
        .split_first()
        .ok_or_else(|| Error::new(Code::Internal, "a disk consists of no file"))?;
    // From the last one up.
    let backing = rest.iter().enumerate().rev().fold(Value::Null, |backing, (at, link)| {
        let mut node = json!({
            "driver": link.format.name(),
            "node-name": node(at + 1),
            "read-only": true,
            "file": {
                "driver": "file",
                "node-name": file_node(at + 1),
                "filename": in_set(at + 1),
                "auto-read-only": true,
            },
        });
        if link.format == DiskFormat::Qcow2 {
            node["backing"] = backing;
        }
        node
    });
    let mut disk = overlay(0, DISK_NODE);
    disk["driver"] = top.format.name().into();
    disk["backing"] = backing;
    Ok(disk)
}

/// A node for an overlay that is to be the disk: what it is on is attached then.
pub fn overlay(set: usize, node: &str) -> Value {
    json!({
        "driver": DiskFormat::Qcow2.name(),
        "node-name": node,
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "file": {
            "driver": "file",
            "node-name": file_node(set),
            "filename": in_set(set),
            "discard": "unmap",
        },
        "backing": null,
    })
}

/// A node of the disk as it is, by the names of its parts, to be opened once more.
pub fn same(set: usize, node: &str, is_top: bool, backing: Option<&str>) -> Value {
    let mut same = overlay(set, node);
    if !is_top {
        same = json!({ "driver": DiskFormat::Qcow2.name(), "node-name": node, "read-only": true });
    }
    same["file"] = file_node(set).into();
    same["backing"] = backing.into();
    same
}

/// The name of the node of a file.
fn file_node(set: usize) -> String {
    format!("file{set}")
}

/// How QEMU calls the file of a set.
fn in_set(set: usize) -> String {
    format!("/dev/fdset/{set}")
}

/// The name of a node of the disk when a machine starts, counted from the top.
pub fn node(depth: usize) -> String {
    match depth.checked_sub(1) {
        None => DISK_NODE.to_owned(),
        Some(depth) => format!("backing{depth}"),
    }
}

fn filename(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(Code::Storage, "a disk's path must be valid UTF-8 for QEMU")
            .object(path.display().to_string())
    })
}

/// An argument vector under construction.
struct Line {
    arguments: Vec<Vec<u8>>,
}

impl Line {
    fn new(binary: &Path) -> Line {
        Line { arguments: vec![binary.as_os_str().as_bytes().to_vec()] }
    }

    fn flags(&mut self, flags: &[&str]) {
        self.arguments.extend(flags.iter().map(|f| f.as_bytes().to_vec()));
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.arguments.push(name.into());
        self.arguments.push(value.into().into_bytes());
    }

    fn path(&mut self, name: &str, path: &Path) {
        self.arguments.push(name.into());
        self.arguments.push(path.as_os_str().as_bytes().to_vec());
    }

    fn finish(self) -> Result<Vec<CString>> {
        self.arguments
            .into_iter()
            .map(|a| {
                CString::new(a)
                    .map_err(|_| Error::new(Code::InvalidArgument, "a path contains a NUL byte"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::chain::Link;
    use crate::engine::AcceleratorChoice;
    use std::time::Duration;

    const TCG: Processor = Processor::Tcg { tsc_khz: 2_000_000 };

    fn chain(paths: &[&str]) -> Chain {
        let link = |(n, path): (usize, &&str)| Link {
            path: path.into(),
            format: if n + 1 == paths.len() { DiskFormat::Raw } else { DiskFormat::Qcow2 },
        };
        Chain { links: paths.iter().enumerate().map(link).collect(), virtual_size: 1 << 30 }
    }

    fn line(disk: &str, processor: Processor) -> Vec<String> {
        let spec = MachineSpec {
            texts: vec![],
            cpus: 2,
            memory_mib: 512,
            binary: "/usr/bin/qemu".into(),
            kernel: "/k".into(),
            initramfs: "/i".into(),
            disk: Disk::Image(chain(&[disk, "/base"])),
            logs: None,
            accelerator: AcceleratorChoice::Auto,
            cache: "/c".into(),
            boot_timeout: Duration::from_secs(1),
            templates: None,
        };
        let line = arguments(&spec, processor, Purpose::Boot).unwrap();
        line.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn a_path_with_commas_quotes_and_spaces_changes_nothing() {
        let line = line("/a,b \"c\"\\d=e/disk.qcow2", TCG);
        let sets = line.iter().zip(&line[1..]).filter(|(option, _)| *option == "-add-fd");
        let sets: Vec<&str> = sets.map(|(_, set)| &**set).collect();
        let top = "/a,,b \"c\"\\d=e/disk.qcow2";
        let wanted = [
            format!("fd=16,set=0,opaque=write:{top}"),
            format!("fd=17,set=0,opaque={top}"),
            "fd=18,set=1,opaque=/base".to_owned(),
        ];
        assert_eq!(sets, wanted);
    }

    #[test]
    fn every_file_of_a_chain_is_given_and_no_path_is_followed() {
        let disk = image(&chain(&["/top", "/snapshot", "/base"])).unwrap();
        assert_eq!(disk["file"]["filename"], "/dev/fdset/0");
        assert_eq!(disk["driver"], "qcow2");
        let below = &disk["backing"];
        assert_eq!(below["file"]["filename"], "/dev/fdset/1");
        assert_eq!(below["backing"]["file"]["filename"], "/dev/fdset/2");
        assert_eq!(below["backing"]["driver"], "raw");
        assert_eq!(
            (&below["read-only"], &below["backing"]["read-only"]),
            (&json!(true), &json!(true))
        );
        // One that names nothing has nothing behind it, whatever it says.
        assert_eq!(overlay(7, "disk7")["backing"], Value::Null);
        let link = Link { path: "/a".into(), format: DiskFormat::Qcow2 };
        let alone = Chain { links: vec![link], virtual_size: 1 };
        assert_eq!(image(&alone).unwrap()["backing"], Value::Null);
    }

    #[test]
    fn every_machine_is_sandboxed_and_without_defaults() {
        for processor in [Processor::Kvm, TCG] {
            let line = line("/d", processor);
            for wanted in ["-nodefaults", "-no-user-config", "-no-reboot", SANDBOX] {
                assert!(line.iter().any(|a| a == wanted), "{wanted}");
            }
        }
    }
}
