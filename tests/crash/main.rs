//! Programs and supervisors that are killed between any two steps of what they do, disks that refuse any
//! of their calls, and power that goes at any moment.
//!
//! A *case* is a failpoint and who dies there. The victim is this program, run again as somebody who does
//! one thing in a home (`victim`); afterwards others open that home, and everything that can be seen from
//! outside is looked at (`inspect`): rows, locks, processes, directories, disks.
//!
//!   (nothing)            every case once, the controls, and two programs that race for some seconds
//!   TORTURE_KILLS=500    so many kills: cases, and random moments, drawn at random
//!   TORTURE_SEED=1       draws the same again
//!   RACE_SECONDS=60      how long they race
//!   an argument          only cases whose name contains it, or: race, faults, power
//!
//! With `faults` each call that changes a home fails in some way, as on a disk that is full or broken
//! (`trace`, `calls`, `faults`); with `power` what was written is recorded, and put together again as a
//! disk may have it after the power has gone (`record`, `replay`, `power`). Both take some of the moments
//! that there are, evenly spread, and all of them in torture.

mod calls;
mod cases;
mod controls;
mod disks;
mod faults;
mod inspect;
mod jobs;
mod kill;
#[path = "../old_home/mod.rs"]
mod old_home;
mod place;
mod power;
mod race;
mod record;
mod replay;
mod scenes;
mod state;
mod story;
mod table;
mod trace;
mod victim;

use cases::Case;
use place::Place;
use scenes::Scenes;
use table::Table;

/// How often the power goes, outside of torture.
const CUTS: usize = 240;

fn main() {
    if let Ok(role) = std::env::var(victim::ROLE) {
        return victim::run(&role);
    }
    let missing =
        ["BOXLITE_TEST_IMAGES", "BOXLITE_LIBEXEC"].iter().any(|v| std::env::var_os(v).is_none());
    if missing {
        eprintln!("skipped: BOXLITE_TEST_IMAGES and BOXLITE_LIBEXEC are not set");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect(name));
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let kills = number("TORTURE_KILLS");

    let seed = number("TORTURE_SEED").unwrap_or_else(|| std::process::id().into());
    println!("TORTURE_SEED={seed}");
    let place = Place::new();
    let asked_for = |what| wanted.is_empty() || wanted == what;
    let mut others = 0;
    if asked_for("faults") {
        others += faults::happen(&Scenes::new(&place), &place, kills.is_some(), seed);
    }
    if asked_for("power") {
        let cuts = kills.is_none().then_some(CUTS);
        others += power::goes(&Scenes::new(&place), &place, cuts, seed);
    }
    let mut table = Table::default();
    let cases = Case::all();
    let chosen: Vec<&Case> = cases.iter().filter(|c| c.to_string().contains(&wanted)).collect();
    for case in &chosen {
        table.add(case.to_string(), kill::at(&place, case));
    }
    if let Some(kills) = kills.filter(|_| !chosen.is_empty()) {
        let mut random = kill::Random(seed);
        for _ in chosen.len() as u64..kills {
            let (name, outcome) = kill::anywhere(&place, &chosen, &mut random);
            table.add(name, outcome);
        }
    }
    if !chosen.is_empty() {
        table.print();
    }
    if wanted.is_empty() {
        table.every_point_was_hit();
        controls::the_checks_can_fail(&table);
        place.is_as_it_was();
    }
    if asked_for("race") {
        race::two_programs_of_ten_threads(number("RACE_SECONDS").unwrap_or(10));
    }
    println!("test result: ok. {} passed; 0 failed; 0 ignored", others + table.kills() + 3);
}
