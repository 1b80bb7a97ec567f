//! One kill: the scene, the death, and what those find who come after it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use boxlite::failpoint::{Point, Who};
use rustix::process::{Pid, Signal, kill_process};

use crate::cases::{Case, Dies, Scene};
use crate::inspect::{self, contradictions};
use crate::place::{LIMIT, Place, eventually, finish, names};
use crate::victim::{DETACHED, DISK, KEPT, MEMORY, NOTHING};

/// What a kill came to.
pub struct Outcome {
    /// The points that were come to.
    pub hits: BTreeSet<String>,
    /// What was not right before the home was opened again.
    pub before: Vec<String>,
    /// How the box was afterwards; nothing if there was none.
    pub status: String,
    /// From the death until everything was right again.
    pub recovery: Duration,
}

/// What a box with snapshots may have kept, and they: as it was before the victim did anything, or
/// after.
const SNAPSHOTS: &[&str] = &[
    "kept first=before leaf=kept",
    "kept first=before leaf=kept new=kept",
    "kept first=before",
    "kept",
    "before first=before leaf=kept",
    "kept first=before leaf=kept one=kept",
    "kept first=before leaf=kept one=kept two=kept",
    "kept first=before leaf=kept one=before two=before",
];

/// What must have become of the box when everything is right again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It does not run, after one look.
    Now,
    /// It does not run.
    Over,
    /// It runs on.
    Running,
}

/// What a case needs besides its point.
struct Stage<'a> {
    place: &'a Place,
    home: PathBuf,
    /// What the victim is given of the box's shape.
    shape: Vec<(&'static str, String)>,
    /// What the box has kept, if there is one.
    kept: &'static [&'static str],
}

/// Has one case happen, and everything be as it should.
pub fn at(place: &Place, case: &Case) -> Outcome {
    let stage = Stage::set(place, case.scene);
    let log = place.path().join("hits");
    let _ = fs::remove_file(&log);
    let hold = if case.dies == Dies::Itself { "" } else { ":hold" };
    let mut victim = stage.victim(case.role);
    victim.env("BOXLITE_FAILPOINT", format!("{}:{}{hold}", case.point.name(), case.count));
    let victim = victim.env("BOXLITE_FAILPOINT_LOG", &log).spawn().unwrap();
    let died = die(place, case, victim, &log);
    let hits = hits_in(&log);
    assert!(hits.contains(case.point.name()), "{case}: nobody came to the point, but to {hits:?}");
    let before = stage.before();
    let until = match case.is_survived() {
        true => Until::Running,
        false if case.is_over_at_once() => Until::Now,
        false => Until::Over,
    };
    if case.role.starts_with("export") {
        let archives = place.path().join("archives");
        let half = if archives.exists() { names(&archives) } else { vec![] };
        assert_eq!(half, [""; 0], "{case}: an archive that is not all there");
    }
    let (status, recovery) = stage.recover(&case.to_string(), died, until);
    if let Some(wanted) = case.ends_as() {
        assert_eq!(status, wanted, "{case}");
    }
    stage.clear(&case.to_string());
    Outcome { hits, before, status, recovery }
}

/// Only the death of a case that the victim itself dies of.
pub fn only(place: &Place, case: &Case) {
    Stage::set(place, case.scene).killed(case.role, case.point);
}

/// A kill drawn at random: a case, or somebody at any moment of a box's life.
pub fn anywhere(place: &Place, cases: &[&Case], random: &mut Random) -> (String, Outcome) {
    if random.below(3) > 0 {
        let case = cases[random.below(cases.len() as u64) as usize];
        return (case.to_string(), at(place, case));
    }
    let stage = Stage::set(place, Scene::NoBox { new_disk: false });
    let stage = Stage { kept: &[KEPT, NOTHING, ""], ..stage };
    let mut victim = stage.victim("life").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(random.below(1500)));
    let dies = [Dies::Itself, Dies::Other, Dies::Both][random.below(3) as usize];
    let died = Instant::now();
    let supervisors = if dies == Dies::Itself { vec![] } else { place.supervisors() };
    supervisors.iter().copied().for_each(kill);
    eventually("the supervisors are gone", || supervisors.iter().copied().all(is_gone));
    if dies != Dies::Other {
        kill(victim.id());
        // One that has lost its supervisor may be at its own end already.
        assert!(killed(&victim.wait().unwrap()) || dies == Dies::Both);
    } else {
        // It goes on with another life, or says what it has lost.
        std::thread::sleep(Duration::from_millis(random.below(300)));
        kill(victim.id());
        victim.wait().unwrap();
    }
    let name = match dies {
        Dies::Itself => "any moment, program",
        Dies::Other => "any moment, supervisor, then program",
        Dies::Both => "any moment, supervisor and program",
    };
    let before = stage.before();
    let (status, recovery) = stage.recover(name, died, Until::Over);
    stage.clear(name);
    (name.to_owned(), Outcome { hits: BTreeSet::new(), before, status, recovery })
}

/// Ends with whoever is to die dead, and the victim gone in any case. Returns when the death was.
fn die(place: &Place, case: &Case, mut victim: Child, log: &Path) -> Instant {
    let hit = || hits_in(log).contains(case.point.name());
    eventually(&case.to_string(), || hit() || victim.try_wait().unwrap().is_some());
    if !hit() {
        let boxes = place.home().join("boxes");
        let logs = names(&boxes).into_iter().map(|id| boxes.join(id).join("logs/shim.log"));
        let logs: Vec<String> = logs.filter_map(|log| fs::read_to_string(log).ok()).collect();
        panic!("{case}: nobody came to the point, but it said: {}{logs:?}", finish(victim));
    }
    if case.dies == Dies::Itself && case.point.who() == Who::Program {
        let status = wait(&mut victim);
        assert!(killed(&status), "{case}: {status}");
        return Instant::now();
    }
    if case.dies == Dies::Itself {
        eventually(&case.to_string(), || place.supervisors().is_empty());
        let died = Instant::now();
        finish(victim);
        return died;
    }
    let held = || match case.point.who() {
        Who::Program => Some(victim.id()),
        Who::Supervisor => place.supervisors().first().copied(),
    };
    eventually(&case.to_string(), || held().is_some_and(is_held));
    let held = held().unwrap();
    let died = Instant::now();
    let supervisors = place.supervisors();
    assert!(!supervisors.is_empty(), "{case}: no supervisor lives");
    // First the one that could write down what became of the other.
    let mut dying = supervisors;
    match (case.dies, case.point.who()) {
        (Dies::Other, Who::Program) => {}
        (Dies::Other, Who::Supervisor) => dying = vec![victim.id()],
        (_, Who::Supervisor) => dying.insert(0, victim.id()),
        (_, Who::Program) => dying.push(victim.id()),
    }
    for process in dying {
        kill(process);
        eventually("who was killed is gone", || is_gone(process));
    }
    let _ = kill_process(pid(held), Signal::CONT);
    match (case.dies, case.point.who()) {
        // It is told of its supervisor's end.
        (Dies::Other, Who::Program) => drop(finish(victim)),
        _ => assert!(killed(&wait(&mut victim)), "{case}"),
    }
    died
}

impl<'a> Stage<'a> {
    fn set(place: &'a Place, scene: Scene) -> Stage<'a> {
        let home = match scene {
            Scene::NoHome | Scene::OldHome { .. } => place.path().join("another"),
            _ => place.home(),
        };
        let mut stage = Stage { place, home, shape: vec![], kept: &[NOTHING] };
        match scene {
            Scene::NoHome => {}
            Scene::OldHome { moved } => {
                let first = place.path().join("before it was moved");
                let made = if moved { &first } else { &stage.home };
                crate::old_home::make(made, 6);
                if moved {
                    fs::rename(made, &stage.home).unwrap();
                }
            }
            Scene::NoBox { new_disk } => {
                if new_disk {
                    stage.shape.push((DISK, (80 + never_had()).to_string()));
                }
            }
            Scene::New { new_machine } => {
                if new_machine {
                    stage.shape.push((MEMORY, (160 + never_had()).to_string()));
                }
                stage.run("create");
            }
            Scene::Used => {
                stage.run("create used");
                stage.kept = &[KEPT];
            }
            Scene::Detached { runs } => {
                stage.shape.push((DETACHED, "1".into()));
                stage.run("create used");
                stage.kept = &[KEPT];
                if runs {
                    stage.run("start");
                }
            }
            Scene::Snapshots { detached, runs } => {
                if detached {
                    stage.shape.push((DETACHED, "1".into()));
                }
                stage.run("create snapshots");
                stage.kept = SNAPSHOTS;
                if runs {
                    stage.run("start");
                }
            }
            Scene::Archive => {
                stage.run("create snapshots");
                stage.run("export");
                stage.kept = SNAPSHOTS;
            }
            Scene::HalfRemoved { files } => {
                stage.run("create");
                let id = inspect::rows(&stage.home).remove(0).id;
                stage.killed("remove", Point::RemoveRows);
                if !files {
                    remove_half(&stage.home.join("boxes").join(id));
                }
            }
            Scene::HalfMade => stage.killed("create", Point::CreateSynced),
        }
        stage
    }

    fn victim(&self, role: &str) -> std::process::Command {
        let mut victim = self.place.victim(role, &self.home);
        victim.envs(self.shape.iter().map(|(name, value)| (name, value)));
        victim
    }

    /// Has somebody do something who must not fail.
    fn run(&self, role: &str) -> String {
        let said = finish(self.victim(role).spawn().unwrap());
        assert!(!said.contains(':'), "{role}: {said}");
        said
    }

    fn killed(&self, role: &str, point: Point) {
        let mut victim = self.victim(role);
        let status = wait(&mut victim.env("BOXLITE_FAILPOINT", point.name()).spawn().unwrap());
        assert!(killed(&status), "{role} was not killed: {status}");
    }

    /// What is wrong before the home is opened again.
    fn before(&self) -> Vec<String> {
        if !self.home.join("db/boxlite.db").exists() || inspect::is_old(&self.home) {
            return vec!["not a home of ours yet".into()];
        }
        contradictions(self.place, &self.home)
    }

    /// Has others look until nothing is wrong. Returns the status of the box, and how long it took.
    fn recover(&self, case: &str, died: Instant, until: Until) -> (String, Duration) {
        loop {
            let listed = self.run("list");
            let wrong = contradictions(self.place, &self.home);
            let rows = inspect::rows(&self.home);
            let over = match until {
                Until::Running => rows.first().is_some_and(|row| row.status == "running"),
                // Nobody is left for whom a machine could run.
                Until::Now | Until::Over => {
                    self.place.processes().is_empty() && !rows.iter().any(inspect::Row::is_active)
                }
            };
            if wrong.is_empty() && over {
                let told: Vec<String> =
                    rows.iter().map(|r| format!("{} {}", r.id, r.status)).collect();
                let mut listed: Vec<&str> = listed.lines().filter(|l| !l.is_empty()).collect();
                listed.reverse();
                assert!(
                    rows.len() > 1 || listed == told,
                    "{case}: {listed:?}, but the rows say {told:?}"
                );
                let status = rows.first().map(|r| r.status.clone()).unwrap_or_default();
                return (status, died.elapsed());
            }
            assert!(until != Until::Now, "{case}: after it was opened again: {wrong:?}");
            assert!(died.elapsed() < LIMIT, "{case}: for {LIMIT:?}: {wrong:?}");
        }
    }

    /// The box works, or another of its name does; and then there is none.
    fn clear(self, case: &str) {
        if self.home == self.place.home() {
            let there = !inspect::rows(&self.home).is_empty();
            let kept = self.run("use");
            let fits = self.kept.contains(&kept.trim()) || !there && kept.trim() == NOTHING;
            assert!(fits, "{case}: the box has kept '{kept}'");
            eventually("the machine has ended", || self.place.processes().is_empty());
            assert_eq!(contradictions(self.place, &self.home), [""; 0], "{case}: after its end");
            assert_eq!(inspect::rows(&self.home).len(), 0);
        } else {
            if is_adopted(&self.home) {
                crate::old_home::is_all_there(&self.home, 6);
            }
            fs::remove_dir_all(&self.home).unwrap();
        }
    }
}

/// Another number each time: of a size that no box before had.
fn never_had() -> u32 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    GIVEN.fetch_add(1, Ordering::Relaxed)
}

fn is_adopted(home: &Path) -> bool {
    home.join("db/boxlite.db.v6").exists()
}

/// Takes away every second thing in a directory.
fn remove_half(directory: &Path) {
    for (at, entry) in fs::read_dir(directory).unwrap().enumerate() {
        let path = entry.unwrap().path();
        if at % 2 == 0 {
            fs::remove_dir_all(path).unwrap();
        }
    }
}

fn hits_in(log: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).unwrap()
}

fn kill(number: u32) {
    let _ = kill_process(pid(number), Signal::KILL);
}

/// What a process does, as `/proc` has it; none if there is no such process.
fn activity(number: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Whether a process stands still.
fn is_held(number: u32) -> bool {
    activity(number) == Some('T')
}

/// Whether it has let go of everything: one that is just dying may hold its locks still.
fn is_gone(number: u32) -> bool {
    matches!(activity(number), None | Some('Z' | 'X'))
}

fn killed(status: &ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(status) == Some(libc::SIGKILL)
}

fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("a program has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Numbers that another run can have again (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % limit
    }
}
