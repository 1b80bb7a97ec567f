//! Disks that fail: each call that changes a home is refused, once or from then on, as a full or a broken
//! disk would. The library must say so, and afterwards all is as before or as if nothing had failed.

use std::fs;
use std::path::PathBuf;

use crate::calls::Call;
use crate::jobs;
use crate::place::Place;
use crate::scenes::{Scenes, Start};
use crate::state::{self, State};
use crate::trace::{self, Raw, Watch};

/// What is done, in which home.
const OPERATIONS: &[(&str, Start)] = &[
    ("open", Start::Nothing),
    ("create", Start::Image),
    ("snapshot", Start::Snapshots),
    ("restore", Start::Snapshots),
    ("remove snapshot", Start::Snapshots),
    ("merge", Start::OneSnapshot),
    ("clone", Start::Snapshots),
    ("clone snapshot", Start::Snapshots),
    ("grow", Start::Snapshots),
    ("export", Start::Snapshots),
    ("import", Start::Archive),
    ("remove", Start::Snapshots),
    ("open", Start::OldHome),
];

/// What a disk does from a call on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is full: what needs space fails until the end.
    Full,
    /// That call fails.
    Once,
    /// That call fails, and all that follow.
    Broken,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Full, Fault::Once, Fault::Broken];

    fn errno(self) -> i32 {
        if self == Fault::Full { libc::ENOSPC } else { libc::EIO }
    }

    fn concerns(self, call: &Call) -> bool {
        self != Fault::Full || call.change.takes_space()
    }
}

/// What came of all faults in one operation.
struct Outcome {
    operation: String,
    /// Calls that change something.
    calls: usize,
    /// By fault: how many runs, and in how many the operation failed.
    faults: [(usize, usize); 3],
    /// Runs after which all was as before, and as if nothing had failed.
    before: usize,
    after: usize,
}

/// Refuses each call of all operations in some way, or in every way, and prints what came of it. Returns how
/// many there were.
pub fn happen(scenes: &Scenes<'_>, place: &Place, in_every_way: bool, seed: u64) -> usize {
    let outcomes = OPERATIONS.iter().map(|(role, start)| {
        let scene = Scene::new(scenes, place, role, *start);
        let mut faults = scene.faults();
        if !in_every_way {
            let ways = Fault::ALL.len() as u64;
            let has_turn = |at: usize| Fault::ALL[((at as u64).wrapping_add(seed) % ways) as usize];
            faults.retain(|(fault, at)| *fault == scene.possible(has_turn(*at), *at));
        }
        scene.outcome(&jobs::each(&faults, |(fault, at)| scene.run(*fault, *at)), &faults)
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    print(&outcomes);
    for o in &outcomes {
        assert!(o.faults.iter().any(|(_, failed)| *failed > 0), "{} never failed", o.operation);
    }
    outcomes.iter().flat_map(|o| o.faults).map(|(runs, _)| runs).sum()
}

fn print(outcomes: &[Outcome]) {
    println!(
        "{:<28}{:>6}{:>14}{:>14}{:>14}{:>12}{:>10}",
        "a call fails in", "calls", "disk full", "once", "from then on", "as before", "as after"
    );
    for o in outcomes {
        let [full, once, broken] = o.faults.map(|(runs, failed)| format!("{failed} of {runs}"));
        println!(
            "{:<28}{:>6}{full:>14}{once:>14}{broken:>14}{:>12}{:>10}",
            o.operation, o.calls, o.before, o.after
        );
    }
    println!("of so many runs the operation failed; as before, as after: how the home was then\n");
}

/// An operation, and the home that it is done in.
struct Scene<'a> {
    place: &'a Place,
    name: String,
    role: &'static str,
    /// Where its copies are, and of what.
    directory: PathBuf,
    first: PathBuf,
    before: State,
    after: State,
    /// The calls of an operation in which nothing fails: what each changes, and whether it takes space.
    calls: Vec<(String, bool)>,
}

struct Ended {
    said: String,
    state: State,
    /// What failed first.
    refused: Option<String>,
}

impl<'a> Scene<'a> {
    fn new(scenes: &Scenes<'_>, place: &'a Place, role: &'static str, start: Start) -> Scene<'a> {
        let name = format!("{role} ({start:?})");
        let directory = scenes.root().join(&name);
        let first = scenes.of(start);
        fs::create_dir(&directory).unwrap();
        let mut scene = Scene {
            place,
            name,
            role,
            directory,
            first,
            before: State::new(),
            after: State::new(),
            calls: vec![],
        };
        scene.before = scene.go("nothing", None).0.state;
        let (ended, refuser) = scene.go("whole", Some(None));
        assert!(!ended.said.contains(": "), "{role}: {}", ended.said);
        scene.after = ended.state;
        scene.calls = refuser.calls;
        scene
    }

    fn faults(&self) -> Vec<(Fault, usize)> {
        let calls = 0..self.calls.len();
        let each = calls.flat_map(|at| Fault::ALL.map(|fault| (fault, at)));
        each.filter(|(fault, at)| self.possible(*fault, *at) == *fault).collect()
    }

    /// A fault, or the one in its place: a full disk refuses nothing to a call that needs no space.
    fn possible(&self, fault: Fault, at: usize) -> Fault {
        let is_none = fault == Fault::Full && !self.calls[at].1;
        if is_none { Fault::Once } else { fault }
    }

    /// Does it all in a copy of the home: nothing, or the operation, with a fault or without.
    fn go(&self, name: &str, fault: Option<Option<(Fault, usize)>>) -> (Ended, Refuser) {
        let changed = self.directory.join(name);
        state::copy(&self.first, &changed);
        let mut refuser =
            Refuser { root: changed.clone(), fault: fault.flatten(), calls: vec![], first: None };
        let mut said = String::new();
        if fault.is_some() {
            let output = self.directory.join(format!("{name}.said"));
            let to = |file: &fs::File| std::process::Stdio::from(file.try_clone().unwrap());
            let file = fs::File::create(&output).unwrap();
            let mut victim = self.place.victim(self.role, &changed.join("home"));
            let victim = victim.stdout(to(&file)).stderr(to(&file));
            let status = trace::run(victim, &mut refuser).unwrap();
            said = fs::read_to_string(&output).unwrap();
            let what = || format!("{}: {:?}: {status}: {said}", self.role, refuser.first);
            assert!(status == 0 && !said.contains("panicked"), "{}", what());
            fs::remove_file(output).unwrap();
        }
        let state = state::reopened(self.place, &changed);
        let state = state.unwrap_or_else(|wrong| {
            panic!("{}: after {:?} had failed ({said}): {wrong}", self.role, refuser.first)
        });
        fs::remove_dir_all(changed).unwrap();
        (Ended { said, state, refused: refuser.first.clone() }, refuser)
    }

    fn run(&self, fault: Fault, at: usize) -> Ended {
        let name = format!("{at} {}", fault as usize);
        let (ended, _) = self.go(&name, Some(Some((fault, at))));
        let has_failed = ended.has_failed();
        assert!(!ended.said.contains("Internal: "), "{}: {}", self.role, ended.said);
        let fits = ended.state == self.after || has_failed && ended.state == self.before;
        assert!(
            fits,
            "{}: {:?} had failed, and it said '{}': {:?} is neither {:?} nor {:?}",
            self.role, ended.refused, ended.said, ended.state, self.before, self.after
        );
        ended
    }

    fn outcome(&self, ended: &[Ended], faults: &[(Fault, usize)]) -> Outcome {
        let of = |fault| faults.iter().zip(ended).filter(move |((f, _), _)| *f == fault);
        Outcome {
            operation: self.name.clone(),
            calls: self.calls.len(),
            faults: Fault::ALL.map(|fault| {
                (of(fault).count(), of(fault).filter(|(_, ended)| ended.has_failed()).count())
            }),
            before: ended.iter().filter(|ended| ended.state != self.after).count(),
            after: ended.iter().filter(|ended| ended.state == self.after).count(),
        }
    }
}

impl Ended {
    /// Whether the library has said that the operation has failed.
    fn has_failed(&self) -> bool {
        self.said.contains(": ")
    }
}

/// Refuses calls.
struct Refuser {
    root: PathBuf,
    fault: Option<(Fault, usize)>,
    calls: Vec<(String, bool)>,
    first: Option<String>,
}

impl Watch for Refuser {
    fn enter(&mut self, raw: &Raw) -> Option<i32> {
        let call = Call::of(raw, &self.root)?;
        let at = self.calls.len();
        let path = call.path.strip_prefix(&self.root).unwrap_or(&call.path);
        let what = format!("{} {}", call.name, path.display());
        self.calls.push((what.clone(), call.change.takes_space()));
        let (fault, from) = self.fault?;
        let fails =
            fault.concerns(&call) && if fault == Fault::Once { at == from } else { at >= from };
        if !fails {
            return None;
        }
        self.first.get_or_insert(format!("call {at}: {what} ({})", fault.errno()));
        Some(fault.errno())
    }

    fn leave(&mut self, _: &Raw, _: i64) {}
}
