//! Doing beforehand, and undoing, what a machine does when it becomes a box.
//!
//! Where a processor is emulated, code that runs for the first time is translated first, which takes
//! ten times as long as running it. So a machine that waits for its box mounts a disk, writes and
//! reads files of it, and runs a program from it. Nothing of that may be left: no mount, no process,
//! no block of the disk, which is another one afterwards.

use std::fs;
use std::io;
use std::path::Path;

use boxlite_protocol::WINDOW;
use boxlite_protocol::message::{Exec, Failure, FailureKind, Init, Rehearse};
use bytes::Bytes;
use nix::mount::{MntFlags, umount2};

use crate::process::failure;
use crate::{identity, setup};

const STAGE: &str = "/rehearsal";

/// The program that is run is this one, copied: not as process 1, it says so and ends.
const ACTOR: &str = "/init";

/// Prepares the stage. Returns the command that is to be run; its exec has the number 0.
pub fn begin(request: &Rehearse) -> Result<Exec, Failure> {
    prepare(request).map_err(|e| failed(&e))?;
    let actor = Bytes::from(format!("{STAGE}{ACTOR}"));
    Ok(Exec { argv: vec![actor], window: WINDOW, ..Exec::default() })
}

/// Clears the stage, after the command has ended.
pub fn end() -> Result<(), Failure> {
    umount2(STAGE, MntFlags::empty())
        .map_err(io::Error::from)
        .and_then(|()| fs::remove_dir(STAGE))
        .map_err(|e| failed(&e))
}

fn failed(error: &io::Error) -> Failure {
    let text = format!("rehearse: {error}");
    failure(FailureKind::Internal, text, error.raw_os_error().unwrap_or(0))
}

fn prepare(request: &Rehearse) -> io::Result<()> {
    let Rehearse { device, kind } = request;
    fs::create_dir(STAGE)?;
    setup::mount_disk(device, kind, STAGE)?;
    nix::unistd::chdir(STAGE)?;
    let nobody = || "rehearsal".to_owned();
    let init = Init {
        hostname: nobody(),
        machine_id: nobody(),
        hosts: nobody(),
        resolv_conf: nobody(),
        ..Init::default()
    };
    // Twice: files are written where there are none, and read where there are.
    identity::write(&init)?;
    identity::write(&init)?;
    nix::unistd::chdir("/")?;
    fs::copy(ACTOR, Path::new(STAGE).join(&ACTOR[1..]))?;
    Ok(())
}
