//! The power goes: at many moments of a story, each with the least, the most, and something in between of
//! what a disk may hold then. The home must open, and have all that was said to be done.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::jobs;
use crate::kill::Random;
use crate::place::Place;
use crate::record::{self, Event, Recording};
use crate::replay::{Keep, Replay};
use crate::scenes::{Scenes, Start};
use crate::state::{self, State};

/// What is recorded: a name, what there is before, and what a victim does then.
const STORIES: &[(&str, Start, &str)] = &[
    ("a new home, and a box of a new image", Start::Nothing, "create"),
    ("all that is done with boxes that do not run", Start::Snapshots, "story"),
    ("a home of version 6 is adopted", Start::OldHome, "open"),
];

/// How much was looked at.
struct Outcome {
    story: &'static str,
    events: usize,
    synced: usize,
    said: usize,
    cuts: usize,
    images: usize,
}

/// Has it go at `cuts` moments of all stories together, spread evenly, or at all of them, and prints how much
/// that was. Returns how many homes were opened.
pub fn goes(scenes: &Scenes<'_>, place: &Place, cuts: Option<usize>, seed: u64) -> usize {
    let directory = scenes.root().join("power");
    fs::create_dir(&directory).unwrap();
    let recordings: Vec<Recording> = STORIES
        .iter()
        .map(|(story, start, role)| {
            let recording = record(place, &directory.join(story), &scenes.of(*start), role);
            assert!(recording.events.len() > 20, "{story}: {} events", recording.events.len());
            recording
        })
        .collect();
    let all: usize = recordings.iter().map(|recording| recording.events.len() + 1).sum();
    let step = cuts.map_or(1.0, |cuts| (all as f64 / cuts as f64).max(1.0));
    let mut outcomes = vec![];
    for ((story, ..), recording) in STORIES.iter().zip(&recordings) {
        let count = (recording.events.len() as f64 / step) as usize + 1;
        let cuts: Vec<usize> = (0..count).map(|n| (n as f64 * step) as usize).collect();
        let directory = directory.join(story);
        let replay = Replay::new(recording);
        let images =
            jobs::each(&cuts, |cut| one_cut(place, &directory, recording, &replay, *cut, seed));
        let of = |wanted: fn(&Event) -> bool| recording.events.iter().filter(|e| wanted(e)).count();
        outcomes.push(Outcome {
            story,
            events: recording.events.len(),
            synced: of(|e| matches!(e, Event::Sync { .. })),
            said: of(|e| matches!(e, Event::Said)),
            cuts: cuts.len(),
            images: images.iter().sum(),
        });
    }
    print(&outcomes);
    let images = outcomes.iter().map(|o| o.images).sum();
    nothing_is_there_that_was_not_synced(place, &directory, &recordings[1]);
    images
}

fn print(outcomes: &[Outcome]) {
    println!(
        "{:<48}{:>8}{:>8}{:>14}{:>8}{:>8}",
        "the power goes in", "writes", "syncs", "acknowledged", "moments", "homes"
    );
    for o in outcomes {
        println!(
            "{:<48}{:>8}{:>8}{:>14}{:>8}{:>8}",
            o.story,
            o.events - o.synced - o.said,
            o.synced,
            o.said,
            o.cuts,
            o.images
        );
    }
    println!();
}

/// The check can fail: were nothing made durable, what was said to be done would be lost.
fn nothing_is_there_that_was_not_synced(place: &Place, directory: &Path, recording: &Recording) {
    let image = directory.join("not synced");
    Replay::without_syncs(recording).image(recording.events.len(), Keep::Nothing, &image);
    let found = state::reopened(place, &image);
    assert_eq!(found.as_ref().ok(), recording.states.first(), "{found:?}");
}

fn record(place: &Place, directory: &Path, first: &Path, role: &str) -> Recording {
    fs::create_dir(directory).unwrap();
    let changed = directory.join("changed");
    state::copy(first, &changed);
    let mut victim = place.victim(role, &changed.join("home"));
    let victim = victim.stdout(Stdio::null());
    let recording = record::record(victim, first, &changed);
    let replayed = directory.join("replayed");
    Replay::new(&recording).image(recording.events.len(), Keep::Everything, &replayed);
    is_the_same(&changed, &replayed);
    recording
}

/// Nothing was written that was not recorded. An index of SQLite's, which is memory that programs share
/// and never read again after the last of them, is not written with system calls.
fn is_the_same(changed: &Path, replayed: &Path) {
    let (there, again) = (files(changed, changed), files(replayed, replayed));
    assert_eq!(there.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    let differ =
        there.iter().filter(|(name, content)| again[*name] != **content).map(|(name, _)| name);
    let differ: Vec<_> = differ.filter(|name| !name.ends_with("-shm")).collect();
    assert_eq!(differ, [""; 0], "written, but not recorded");
}

fn files(root: &Path, directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(root, &path));
        } else {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

/// Returns how many images there were of what a disk may hold.
fn one_cut(
    place: &Place,
    directory: &Path,
    recording: &Recording,
    replay: &Replay<'_>,
    cut: usize,
    seed: u64,
) -> usize {
    let said = recording.events[..cut].iter().filter(|e| matches!(e, Event::Said)).count();
    // What was said to be done, or what came next too.
    let allowed: Vec<&State> = recording.states.iter().skip(said).take(2).collect();
    let kinds = [
        ("least", Keep::Nothing),
        ("most", Keep::Everything),
        ("some", Keep::Some(Random(seed ^ cut as u64))),
    ];
    for (kind, keep) in kinds {
        let image = directory.join(format!("{cut} {kind}"));
        replay.image(cut, keep, &image);
        let found = state::reopened(place, &image);
        let fits = found.as_ref().is_ok_and(|state| allowed.contains(&state));
        assert!(
            fits,
            "{}: the power went before event {cut}, {kind} kept ({}): {found:?}, not {allowed:?}",
            directory.display(),
            recording.events.get(cut).map_or("end", describe),
        );
        fs::remove_dir_all(image).unwrap();
    }
    3
}

fn describe(event: &Event) -> &str {
    match event {
        Event::Write { .. } => "write",
        Event::Zero { .. } | Event::Extend { .. } | Event::SetLength { .. } => "length",
        Event::Sync { .. } => "sync",
        Event::Enter { name, .. } | Event::Leave { name } => &name.1,
        Event::Move { to, .. } => &to.1,
        Event::Said => "said",
    }
}
