//! The agent: process 1 of a box's virtual machine.
//!
//! It mounts the box's disk, runs the image's processes, and speaks the guest protocol over one
//! virtio-serial port. One thread, one epoll: what runs before a box's first output is what a
//! start costs, above all under emulation, where every first execution of a code page is
//! translated.
//!
//! It must survive everything its processes and its host do to it: an error ends a request, not
//! the agent. A panic is written to the console, which the host quotes, and ends the machine.

mod agent;
mod freeze;
mod grow;
mod identity;
mod output;
mod pipes;
mod port;
mod process;
mod rehearsal;
mod setup;
mod stats;
mod stdin;
mod users;
mod warm;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use nix::sys::reboot::{RebootMode, reboot};

fn main() -> ExitCode {
    if std::process::id() != 1 {
        if std::env::args().nth(1).is_some_and(|part| part == rehearsal::PART) {
            return rehearsal::act().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        }
        eprintln!(
            "boxlite-guest {}: runs as process 1 of a box's virtual machine, not by hand",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::FAILURE;
    }
    std::panic::set_hook(Box::new(|panic| die(&format!("agent panicked: {panic}"))));
    let error = match setup::early().and_then(|()| agent::run()) {
        Ok(()) => return switch_off(),
        Err(error) => error,
    };
    die(&format!("agent failed: {error}"));
    ExitCode::FAILURE
}

/// Tells the console and ends the machine.
fn die(text: &str) {
    console(text);
    switch_off();
}

/// Writes a line for the host's console log.
fn console(text: &str) {
    let line = format!("boxlite-guest: {text}\n");
    // There is nobody else to tell if this fails.
    let _ = OpenOptions::new().write(true).open("/dev/console").map(|mut c| {
        let _ = c.write_all(line.as_bytes());
    });
}

fn switch_off() -> ExitCode {
    nix::unistd::sync();
    // The machine has no power button: its monitor ends on a reset.
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    console(&format!("cannot switch off: {error}"));
    ExitCode::FAILURE
}
