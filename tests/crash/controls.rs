//! That the checks see what they are there for.

use crate::cases::{Case, Dies, Scene};
use crate::inspect::contradictions;
use crate::kill;
use crate::place::Place;
use crate::table::Table;
use boxlite::failpoint::Point;

/// Before anybody has opened the home again the same checks fail; and they go on failing if recovery is
/// switched off.
pub fn the_checks_can_fail(table: &Table) {
    for name in [
        "create.image-disk, program",
        "create.intent, program",
        "create.disk, program",
        "create.synced, program",
        "start.noted, program",
        "start.recorded, supervisor and program",
        "start.served, program and supervisor",
        "remove.rows, program",
        "remove.files, program",
    ] {
        assert!(table.wrong_before(name) > 0, "nothing was wrong after a death at {name}");
    }

    let place = Place::new();
    for (point, role) in [(Point::CreateDisk, "create"), (Point::RemoveRows, "remove")] {
        let scene = Scene::NoBox { new_disk: false };
        let scene = if role == "remove" { Scene::New { new_machine: false } } else { scene };
        let case = Case { point, count: 1, dies: Dies::Itself, scene, role };
        kill::only(&place, &case);
        let home = place.home();
        let mut opened = place.victim("list", &home);
        crate::place::finish(opened.env("BOXLITE_FAILPOINT_NO_RECOVERY", "1").spawn().unwrap());
        let wrong = contradictions(&place, &home);
        assert!(wrong.iter().any(|w| w.contains("intents")), "without recovery: {wrong:?}");
        assert!(wrong.iter().any(|w| w.contains("has no row")), "without recovery: {wrong:?}");
        place.run("list", &home);
        assert_eq!(contradictions(&place, &home), [""; 0]);
    }
}
