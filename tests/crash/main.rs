//! Programs and supervisors that are killed between any two steps of what they do.
//!
//! A *case* is a failpoint and who dies there. The victim is this program, run again as somebody who does
//! one thing in a home (`victim`); afterwards others open that home, and everything that can be seen from
//! outside is looked at (`inspect`): rows, locks, processes, directories, disks.
//!
//!   (nothing)            every case once, the controls, and two programs that race for some seconds
//!   TORTURE_KILLS=200    so many kills: cases, and random moments, drawn at random
//!   TORTURE_SEED=1       draws the same again
//!   RACE_SECONDS=60      how long they race
//!   an argument          only cases whose name contains it

mod cases;
mod controls;
mod inspect;
mod kill;
#[path = "../old_home/mod.rs"]
mod old_home;
mod place;
mod race;
mod table;
mod victim;

use cases::Case;
use place::Place;
use table::Table;

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

    let place = Place::new();
    let mut table = Table::default();
    let cases = Case::all();
    let chosen: Vec<&Case> = cases.iter().filter(|c| c.to_string().contains(&wanted)).collect();
    for case in &chosen {
        table.add(case.to_string(), kill::at(&place, case));
    }
    if let Some(kills) = kills {
        let seed = number("TORTURE_SEED").unwrap_or_else(|| std::process::id().into());
        println!("TORTURE_SEED={seed}");
        let mut random = kill::Random(seed);
        for _ in chosen.len() as u64..kills {
            let (name, outcome) = kill::anywhere(&place, &chosen, &mut random);
            table.add(name, outcome);
        }
    }
    table.print();
    if wanted.is_empty() {
        table.every_point_was_hit();
        controls::the_checks_can_fail(&table);
        place.is_as_it_was();
    }
    if wanted.is_empty() || wanted == "race" {
        race::two_programs_of_ten_threads(number("RACE_SECONDS").unwrap_or(10));
    }
    println!("test result: ok. {} passed; 0 failed; 0 ignored", table.kills() + 3);
}
