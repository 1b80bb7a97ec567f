//! What keeps machines from one template from being alike: without fresh random bytes from the host,
//! they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxlite::Result;
use boxlite::channel::guest::Session;
use boxlite::disk::chain::Chain;
use boxlite::disk::overlay::{self, DiskFormat};
use boxlite::engine::qemu::{self, Qemu};
use boxlite::engine::{
    AcceleratorChoice, Disk, Engine, Launched, Machine, MachineSpec, Progress, Road, TemplatePolicy,
};
use boxlite::image::{DiskCache, Resolver};
use boxlite::stage::Stage;
use boxlite_protocol::message::{
    Data, Exec, Exited, Init, Request, Response, ToGuest, ToHost, request, stream, to_guest,
    to_host,
};
use futures_util::{SinkExt, StreamExt};

const MIB: u64 = 1 << 20;
const DISK: u64 = 64 * MIB;

/// Machines of each kind.
const MACHINES: usize = 6;

/// What a box has that no other must have.
const SCRIPT: &str = "head -c 32 /dev/urandom | od -v -tx1; head -c 32 /dev/random | od -v -tx1; \
                      cat /proc/sys/kernel/random/uuid";

struct Nobody;

impl Progress for Nobody {
    fn began(&mut self, _: &str) {}
    fn done(&mut self, _: Stage) {}
}

/// The images of the tests and the parts of a machine, unless this run has none.
fn parts() -> Option<(PathBuf, PathBuf)> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    path("BOXLITE_TEST_IMAGES").zip(path("BOXLITE_LIBEXEC"))
}

/// The disk of the busybox image.
fn base_disk(images: &Path, directory: &Path) -> PathBuf {
    let place = |name: &str| {
        let path = directory.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let reference = images.join("busybox");
    let image = Resolver::new(place("tmp")).resolve(reference.to_str().unwrap()).unwrap();
    let cache = DiskCache::new(place("images"), place("locks"));
    cache.ensure_disk(&image, DISK, &[], &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
}

/// Has the guests take their clock for some twenty times as fast as it is, so that a second of theirs
/// lasts long. By itself, a kernel seeds its generators anew a second after its boot, and as a
/// translated processor's RDRAND comes from the host, machines would then differ whatever they were
/// told: but by luck, and too late.
fn slow_down(directory: &Path) {
    let host_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = format!("{{\"host_boot\":\"{}\",\"tsc_khz\":50000000}}", host_boot.trim());
    std::fs::write(directory.join("clock.json"), text).unwrap();
}

fn machine(libexec: &Path, directory: &Path, disk: PathBuf, disks: bool) -> MachineSpec {
    MachineSpec {
        cpus: 1,
        memory_mib: 256,
        binary: qemu::find_binary().unwrap(),
        kernel: libexec.join("vmlinux"),
        initramfs: libexec.join("initramfs"),
        disk: Disk::Image(Chain::resolve(directory, &disk).unwrap()),
        texts: vec![],
        logs: None,
        // The clock is slowed down under translation only.
        accelerator: AcceleratorChoice::Tcg,
        cache: directory.to_owned(),
        boot_timeout: Duration::from_secs(120),
        templates: Some(TemplatePolicy {
            directory: directory.join("templates"),
            max_age: Duration::from_secs(3600),
            max_bytes: 1 << 30,
            disks,
        }),
    }
}

async fn send(session: &mut Session, id: u64, op: request::Op) {
    let body = Some(to_guest::Body::Request(Request { id, op: Some(op) }));
    session.send(&ToGuest { body }).await.unwrap();
}

async fn next(session: &mut Session) -> to_host::Body {
    let ToHost { body } = session.next().await.unwrap().unwrap();
    body.unwrap()
}

/// Every box gets the same, but for what it is seeded with.
async fn become_box(session: &mut Session, entropy: &[u8]) -> Result<()> {
    let init = Init {
        hostname: "box".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        entropy: entropy.to_vec().into(),
        root_device: "/dev/vda".into(),
        root_type: "ext4".into(),
        ..Init::default()
    };
    send(session, 0, request::Op::Init(init)).await;
    match next(session).await {
        to_host::Body::Response(Response { failure: None, .. }) => Ok(()),
        other => panic!("{other:?}"),
    }
}

/// What the script writes.
async fn output(session: &mut Session) -> String {
    let exec = Exec {
        exec: 1,
        argv: ["sh", "-c", SCRIPT].map(Into::into).into(),
        window: 1 << 16,
        ..Exec::default()
    };
    send(session, 1, request::Op::Exec(exec)).await;
    let mut text = Vec::new();
    loop {
        match next(session).await {
            to_host::Body::Response(Response { failure: None, .. })
            | to_host::Body::Credit(_)
            | to_host::Body::Data(Data { stream: stream::STDIN, .. }) => {}
            to_host::Body::Data(Data { stream: stream::STDOUT, bytes, .. }) => text.extend(bytes),
            to_host::Body::Exited(Exited { code: 0, signal: 0, .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    String::from_utf8(text).unwrap()
}

/// What machines from one template write, each over a disk of its own, one after the other; the
/// template has that disk mounted or has none.
async fn outputs(
    libexec: &Path,
    directory: &Path,
    base: &Path,
    disks: bool,
    entropy: impl Fn() -> Vec<u8>,
) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..MACHINES {
        let disk = directory.join("disk.qcow2");
        overlay::create(&disk, base, DiskFormat::Raw, DISK).unwrap();
        let spec = machine(libexec, directory, disk.clone(), disks);
        let entropy = entropy();
        let first = async |session: &mut Session, _| become_box(session, &entropy).await;
        let Launched { mut machine, mut session, road, detours, .. } =
            Qemu.launch(&spec, &mut Nobody, first).await.unwrap();
        assert_eq!((road, detours), (Road::Restored, vec![]));
        texts.push(output(&mut session).await);
        machine.kill().await;
        std::fs::remove_file(disk).unwrap();
    }
    texts
}

/// The lines that another machine wrote too.
fn alike(texts: &[String]) -> usize {
    let lines: Vec<_> = texts.iter().flat_map(|t| t.lines()).filter(|l| l.len() > 20).collect();
    assert_eq!(lines.len(), MACHINES * 5, "{texts:?}");
    lines.len() - lines.iter().collect::<BTreeSet<_>>().len()
}

/// The same check sees that machines are alike where nothing makes them differ, and that the host's
/// random bytes do.
#[tokio::test]
async fn machines_differ_by_what_the_host_gives_them() {
    let Some((images, libexec)) = parts() else {
        eprintln!("skipped: BOXLITE_TEST_IMAGES and BOXLITE_LIBEXEC are not set");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let base = base_disk(&images, directory.path());
    slow_down(directory.path());

    let fresh = || {
        let mut bytes = vec![0; 64];
        getrandom::fill(&mut bytes).unwrap();
        bytes
    };
    for disks in [false, true] {
        let unseeded = outputs(&libexec, directory.path(), &base, disks, Vec::new).await;
        // At least two machines in all that they wrote.
        assert!(alike(&unseeded) >= 5, "no two machines were alike: {unseeded:#?}");

        let seeded = outputs(&libexec, directory.path(), &base, disks, fresh).await;
        assert_eq!(alike(&seeded), 0, "{seeded:#?}");
    }
    let templates = std::fs::read_dir(directory.path().join("templates")).unwrap();
    let disks = templates.filter(|t| t.as_ref().unwrap().path().join("disk").exists());
    assert_eq!(disks.count(), 1);
}
