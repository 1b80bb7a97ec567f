//! Starting programs, seen from the parent.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use boxlite_spawn::{Child, Command, Exit, Stacks, Step};

fn c(s: &str) -> CString {
    CString::new(s).unwrap()
}

fn sh(script: &str) -> Command<'static> {
    Command::new(c("/bin/sh"), vec![c("sh"), c("-c"), c(script)])
}

fn wait(child: &Child) -> Exit {
    let mut poll = libc::pollfd { fd: child.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, 30 s at most.
    assert_eq!(unsafe { libc::poll(&mut poll, 1, 30_000) }, 1, "child did not end");
    child.try_wait().unwrap().expect("pidfd readable but child not ended")
}

fn output(command: impl FnOnce(BorrowedFd<'_>) -> Result<Child, boxlite_spawn::Failure>) -> String {
    let (mut read, write) = std::io::pipe().unwrap();
    let child = command(write.as_fd()).unwrap();
    drop(write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    wait(&child);
    text
}

#[test]
fn exit_code_and_signal_come_back() {
    assert_eq!(wait(&sh("exit 42").spawn().unwrap()), Exit::Code(42));
    assert_eq!(wait(&sh("kill -9 $$").spawn().unwrap()), Exit::Signal(9));
}

#[test]
fn a_missing_program_and_a_forbidden_one_are_told_apart() {
    let missing = Command::new(c("/nonexistent"), vec![c("x")]).spawn().unwrap_err();
    assert_eq!((missing.step, missing.error.raw_os_error()), (Step::Exec, Some(libc::ENOENT)));
    let candidates = vec![c("/nonexistent"), c("/etc/passwd"), c("/also/nonexistent")];
    let forbidden = Command::first_of(candidates, vec![c("x")]).spawn().unwrap_err();
    assert_eq!((forbidden.step, forbidden.error.raw_os_error()), (Step::Exec, Some(libc::EACCES)));
}

#[test]
fn a_missing_working_directory_is_named_as_the_step() {
    let failure = sh("true").cwd(c("/nonexistent")).spawn().unwrap_err();
    assert_eq!(failure.step, Step::WorkingDirectory);
}

#[test]
fn descriptors_may_swap_places_and_no_other_is_inherited() {
    let (mut r1, w1) = std::io::pipe().unwrap();
    let (mut r2, w2) = std::io::pipe().unwrap();
    // A descriptor that the host forgot to mark close-on-exec.
    // SAFETY: duplicates a descriptor of this test.
    let leaked = unsafe { libc::dup(r1.as_raw_fd()) };
    let script = format!(
        "echo one >&{}; echo two >&{}; ls /proc/self/fd | tr '\\n' ' ' >&{}",
        w2.as_raw_fd(),
        w1.as_raw_fd(),
        w2.as_raw_fd()
    );
    let child = sh(&script).fd(w1.as_fd(), w2.as_raw_fd()).fd(w2.as_fd(), w1.as_raw_fd()).spawn();
    let child = child.unwrap();
    let (n1, n2) = (w1.as_raw_fd(), w2.as_raw_fd());
    drop((w1, w2));
    let (mut t1, mut t2) = (String::new(), String::new());
    r1.read_to_string(&mut t1).unwrap();
    r2.read_to_string(&mut t2).unwrap();
    wait(&child);
    // SAFETY: closes what the test duplicated.
    unsafe { libc::close(leaked) };
    assert_eq!(t2, "two\n");
    let listed = t1.strip_prefix("one\n").unwrap();
    let open: Vec<i32> = listed.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(open.contains(&n1) && open.contains(&n2), "{listed}");
    assert!(!open.contains(&leaked) && !open.contains(&r1.as_raw_fd()), "{listed}");
}

#[test]
fn an_orphan_is_nobodys_child_here() {
    let (mut read, write) = std::io::pipe().unwrap();
    let pid = sh("echo $PPID").fd(write.as_fd(), 1).new_session().spawn_orphan().unwrap();
    drop(write);
    let mut parent = String::new();
    read.read_to_string(&mut parent).unwrap();
    assert!(pid > 0);
    assert_ne!(parent.trim().parse::<u32>().unwrap(), std::process::id());
}

#[test]
fn environment_and_session_are_as_given() {
    let text = output(|out| {
        sh("echo $A; [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leader; env | grep -c HOME")
            .env(vec![c("A=b c"), c("PATH=/usr/bin:/bin")])
            .new_session()
            .fd(out, 1)
            .spawn()
    });
    assert_eq!(text, "b c\nleader\n0\n");
}

#[test]
fn ignored_signals_are_back_to_default_in_the_program() {
    // Rust programs ignore SIGPIPE; what they start must not.
    let text = output(|out| sh("grep SigIgn /proc/self/status").fd(out, 1).spawn());
    assert_eq!(text.split_whitespace().last(), Some("0000000000000000"));
}

#[test]
fn nothing_stays_open_after_starts_that_fail() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let null = File::open("/dev/null").unwrap();
    let before = count();
    for _ in 0..100 {
        assert!(Command::new(c("/none"), vec![c("x")]).fd(null.as_fd(), 0).spawn().is_err());
    }
    // Other tests of this program run beside us; only a systematic leak matters.
    assert!(count() < before + 50);
}

#[test]
fn stacks_serve_one_start_after_another_and_survive_failures() {
    let mut stacks = Stacks::new().unwrap();
    for code in [1, 2] {
        assert!(Command::new(c("/none"), vec![c("x")]).spawn_on(&mut stacks).is_err());
        let pid = sh(&format!("exit {code}")).spawn_on(&mut stacks).unwrap();
        let mut status = 0;
        // SAFETY: waits for our own child; the status is a local.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), code);
    }
}

#[test]
fn a_program_has_the_ordinary_policy_if_asked_though_ours_is_another() {
    let policy = |command: fn() -> Command<'static>| {
        std::thread::spawn(move || {
            // SAFETY: zero is the only priority of this policy, which this thread alone gets.
            let refused =
                unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &std::mem::zeroed()) };
            assert_eq!(refused, 0);
            output(|out| command().fd(out, 1).spawn())
        })
        .join()
        .unwrap()
    };
    // The policy is the 41st field; the name before it has no blanks.
    let show = || sh("cut -d ' ' -f 41 /proc/self/stat");
    let ordinary = || sh("cut -d ' ' -f 41 /proc/self/stat").ordinary_scheduling(true);
    assert_eq!(policy(show).trim(), libc::SCHED_BATCH.to_string());
    assert_eq!(policy(ordinary).trim(), libc::SCHED_OTHER.to_string());
}
