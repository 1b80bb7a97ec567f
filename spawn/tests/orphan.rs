//! A host program with its own idea of SIGCHLD does not notice an orphan. Alone in its file: the
//! test watches the whole process.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use boxlite_spawn::Command;

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

fn sh() -> Command<'static> {
    let c = |s: &str| CString::new(s).unwrap();
    Command::new(c("/bin/sh"), vec![c("sh"), c("-c"), c("exit 3")])
}

#[test]
fn an_orphan_raises_no_sigchld_and_is_seen_by_no_wait() {
    // SAFETY: installs a handler that only counts.
    unsafe { libc::signal(libc::SIGCHLD, count as *const () as libc::sighandler_t) };
    for _ in 0..20 {
        let (mut read, write) = std::io::pipe().unwrap();
        assert!(sh().fd(write.as_fd(), 1).spawn_orphan().unwrap() > 0);
        drop(write);
        // End of file: the orphan is gone.
        read.read_to_end(&mut Vec::new()).unwrap();
    }
    // SAFETY: a wait for any child that takes no status.
    let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
    assert_eq!(waited, -1, "there is a child to wait for");
    assert_eq!(SEEN.load(Ordering::Relaxed), 0);

    // The same check sees a plain child: it can fail.
    let child = sh().spawn().unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) }, child.pid);
    assert_eq!(SEEN.load(Ordering::Relaxed), 1);
}
