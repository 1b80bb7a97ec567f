//! Who dies where.

use std::fmt;

use boxlite::failpoint::{Point, Who};

/// Who is killed when somebody comes to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// Who has come there.
    Itself,
    /// The supervisor where the program stands there, the program where the supervisor does.
    Other,
    /// Both, the other first.
    Both,
}

/// What there is before, and who uses the home that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// No home.
    NoHome,
    /// A home of version 6, which was elsewhere when its files were written if `moved`.
    OldHome { moved: bool },
    /// A home without the box; its image has no disk yet if `new_disk`.
    NoBox { new_disk: bool },
    /// A box that never ran. No template fits it if `new_machine`.
    New { new_machine: bool },
    /// A box that has run.
    Used,
    /// A detached box that has run, and runs now if `runs`.
    Detached { runs: bool },
    /// A box with snapshots, which runs now if `runs`.
    Snapshots { detached: bool, runs: bool },
    /// The same, and an archive of it.
    Archive,
    /// A box whose removal ended half-way, with these of its files left: all, or every second.
    HalfRemoved { files: bool },
    /// A box that was half made.
    HalfMade,
}

#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub point: Point,
    /// The how-manieth time.
    pub count: u32,
    pub dies: Dies,
    pub scene: Scene,
    /// What the victim does.
    pub role: &'static str,
}

impl Case {
    /// Each point, with all who can die there.
    pub fn all() -> Vec<Case> {
        let mut cases: Vec<Case> = Point::ALL.iter().flat_map(|point| Case::at(*point)).collect();
        // What was half done is carried to its end by a program that may be killed too.
        for point in [Point::RemoveFiles, Point::RemoveSynced, Point::RemoveIntent] {
            for scene in [
                Scene::HalfMade,
                Scene::HalfRemoved { files: true },
                Scene::HalfRemoved { files: false },
            ] {
                cases.push(Case { point, count: 1, dies: Dies::Itself, scene, role: "open" });
            }
        }
        // A detached box is on its own once its start is over.
        let not_yet = Scene::Detached { runs: false };
        let runs = Scene::Detached { runs: true };
        let detached = [
            (Point::StartOpened, Dies::Itself, not_yet, "start"),
            (Point::StartRecorded, Dies::Itself, not_yet, "start"),
            (Point::StartServed, Dies::Other, not_yet, "start"),
            (Point::StopBegun, Dies::Itself, runs, "stop"),
            (Point::StopNoted, Dies::Itself, runs, "stop"),
            (Point::StopNoted, Dies::Other, runs, "stop"),
            (Point::StopNoted, Dies::Both, runs, "stop"),
            (Point::StopAsked, Dies::Other, not_yet, "stop"),
            (Point::StopMachineGone, Dies::Both, not_yet, "stop"),
        ];
        // It is carried to its end by the supervisor of a box that lives on.
        let runs = Scene::Snapshots { detached: true, runs: true };
        let not_yet = Scene::Snapshots { detached: true, runs: false };
        let running = [
            (Point::SnapshotIntent, Dies::Itself, runs, "snapshot running"),
            (Point::SnapshotOverlay, Dies::Itself, runs, "snapshot running"),
            (Point::SnapshotRow, Dies::Itself, runs, "snapshot running"),
            (Point::BranchFrozen, Dies::Other, not_yet, "snapshot running"),
            (Point::BranchSwitched, Dies::Other, not_yet, "snapshot running"),
            (Point::BranchMoved, Dies::Other, not_yet, "snapshot running"),
            (Point::CloneIntent, Dies::Itself, runs, "clone running"),
            (Point::CloneNoted, Dies::Itself, runs, "clone running"),
            (Point::CloneDisks, Dies::Itself, runs, "clone running"),
            (Point::CloneRows, Dies::Itself, runs, "clone running"),
            (Point::BranchSwitched, Dies::Other, not_yet, "clone running"),
            (Point::BranchMoved, Dies::Other, not_yet, "clone running"),
            (Point::CloneRows, Dies::Itself, runs, "export running"),
            (Point::ExportHalf, Dies::Itself, runs, "export running"),
            (Point::BranchSwitched, Dies::Other, not_yet, "export running"),
        ];
        let snapshots = Scene::Snapshots { detached: false, runs: false };
        let of_snapshot = [
            (Point::CloneNoted, Dies::Itself, snapshots, "clone snapshot"),
            (Point::CloneRows, Dies::Itself, snapshots, "clone snapshot"),
        ];
        let case = |(point, dies, scene, role)| Case { point, count: 1, dies, scene, role };
        cases.extend(detached.into_iter().chain(running).chain(of_snapshot).map(case));
        cases
    }

    fn at(point: Point) -> Vec<Case> {
        let case = |scene, role| Case { point, count: 1, dies: Dies::Itself, scene, role };
        let snapshots = Scene::Snapshots { detached: false, runs: false };
        let operation = point.name().split('.').next().unwrap();
        let first = match (operation, point) {
            ("open", _) => case(Scene::NoHome, "open"),
            ("adopt", _) => {
                let case = case(Scene::OldHome { moved: false }, "open");
                let moved = Case { scene: Scene::OldHome { moved: true }, ..case };
                // As often as it is come to, or where it differs.
                let counts: &[u32] = match point {
                    Point::AdoptFiles | Point::AdoptTables => &[1, 2, 3, 4, 5],
                    Point::AdoptMoved | Point::AdoptRelative => &[1, 6],
                    Point::AdoptPendingEnded | Point::AdoptBaseMoved => &[1, 2],
                    _ => &[1],
                };
                let all = counts.iter().map(|count| Case { count: *count, ..case });
                return all.chain([moved]).collect();
            }
            ("create", Point::CreateImageDisk) => case(Scene::NoBox { new_disk: true }, "create"),
            ("create", _) => case(Scene::NoBox { new_disk: false }, "create"),
            ("start", Point::StartTemplate) => case(Scene::New { new_machine: true }, "start"),
            ("start", Point::StartDisk) => case(Scene::New { new_machine: false }, "start"),
            ("start", Point::StartDetached) => case(Scene::Detached { runs: false }, "start"),
            ("start", _) => case(Scene::Used, "start"),
            ("stop", _) => case(Scene::Used, "stop"),
            ("remove", _) => case(Scene::Used, "remove"),
            ("snapshot", _) => case(snapshots, "snapshot"),
            ("clone", _) => case(snapshots, "clone"),
            ("export", _) => case(snapshots, "export"),
            ("import", _) => case(Scene::Archive, "import"),
            ("restore", _) => case(snapshots, "restore"),
            ("discard", _) => case(snapshots, "remove snapshot"),
            ("merge", _) => case(snapshots, "merge"),
            ("grow", _) => case(snapshots, "grow"),
            ("branch", Point::BranchMerging | Point::BranchStreamed | Point::BranchMerged) => {
                case(snapshots, "merge running")
            }
            ("branch", _) => case(snapshots, "snapshot running"),
            _ => panic!("nobody knows how to come to {}", point.name()),
        };
        // Both are alive there.
        let two = match point.who() {
            Who::Supervisor => point != Point::StopReleased,
            Who::Program => matches!(
                point,
                Point::StartOpened
                    | Point::StartRecorded
                    | Point::StartDetached
                    | Point::StopBegun
                    | Point::StopNoted
            ),
        };
        let others: &[Dies] = if two { &[Dies::Other, Dies::Both] } else { &[] };
        let others = others.iter().map(|dies| Case { dies: *dies, ..first });
        std::iter::once(first).chain(others).collect()
    }

    /// Whether the box runs on: nobody who could end it is alive, and it ends with nobody.
    pub fn is_survived(&self) -> bool {
        let on_its_own =
            matches!(self.point, Point::StartDetached | Point::StopBegun | Point::StopNoted);
        if let Scene::Snapshots { detached, .. } = self.scene {
            return detached;
        }
        let detached = matches!(self.scene, Scene::Detached { .. });
        detached && on_its_own && self.dies == Dies::Itself
    }

    /// The status of the box afterwards, where only one is right; empty if there must be none.
    pub fn ends_as(&self) -> Option<&'static str> {
        match self.point {
            _ if self.is_survived() => Some("running"),
            _ if self.role == "open" && !matches!(self.scene, Scene::OldHome { .. }) => Some(""),
            _ if self.is_at_rest() => Some("stopped"),
            Point::CreateRows => Some("configured"),
            _ if self.role == "create" => Some(""),
            // It was never begun.
            Point::StartLocked | Point::RemoveLocked => Some("stopped"),
            _ if self.role == "remove" => Some(""),
            // Its supervisor has left in writing that it ended as it should, though it could tell nobody.
            Point::StopWordLeft | Point::StopReleased => Some("stopped"),
            _ => None,
        }
    }

    /// Whether it is about the disk of a box that does not run.
    fn is_at_rest(&self) -> bool {
        matches!(
            self.role,
            "snapshot"
                | "clone"
                | "clone snapshot"
                | "export"
                | "import"
                | "restore"
                | "remove snapshot"
                | "merge"
                | "grow"
        )
    }

    /// Whether one look must be enough: nobody is left who is still ending.
    pub fn is_over_at_once(&self) -> bool {
        !matches!(
            self.role,
            "start"
                | "stop"
                | "snapshot running"
                | "clone running"
                | "export running"
                | "merge running"
        )
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.point.name())?;
        if self.count > 1 {
            write!(f, " {}", self.count)?;
        }
        let program = self.point.who() == Who::Program;
        f.write_str(match (self.dies, program) {
            (Dies::Itself, true) | (Dies::Other, false) => ", program",
            (Dies::Itself, false) | (Dies::Other, true) => ", supervisor",
            (Dies::Both, true) => ", supervisor and program",
            (Dies::Both, false) => ", program and supervisor",
        })?;
        match self.scene {
            Scene::Detached { .. } | Scene::Snapshots { detached: true, .. } => {
                f.write_str(", of a detached box")
            }
            Scene::OldHome { moved: true } => f.write_str(", in a home that was moved"),
            Scene::HalfMade => f.write_str(", in undoing a creation"),
            Scene::HalfRemoved { files: true } => f.write_str(", in ending a removal"),
            Scene::HalfRemoved { files: false } => {
                f.write_str(", in ending one with half the files")
            }
            _ => Ok(()),
        }
    }
}
