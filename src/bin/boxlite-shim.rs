//! The supervisor of one running box. Started by the library, with the socket to the creating
//! program as its standard input; of no use by hand.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use boxlite::engine::qemu::Qemu;
use boxlite::{Code, Error, Result, supervisor};

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("boxlite-shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::new(Code::InvalidArgument, "started by libboxlite, not by hand"));
    }
    let failed = |e: std::io::Error| Error::io(Code::Internal, "start the supervisor", &e);
    let control = UnixStream::from(stdin.as_fd().try_clone_to_owned().map_err(failed)?);
    control.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let outcome = runtime.block_on(async {
        let control = tokio::net::UnixStream::from_std(control).map_err(failed)?;
        supervisor::run(Qemu, control).await
    });
    // Not kept by a thread that still waits for a lock.
    runtime.shutdown_background();
    outcome
}
