//! What became of all the kills.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use boxlite::failpoint::Point;

use crate::kill::Outcome;

#[derive(Default)]
pub struct Table {
    /// By what was killed, in the order of the first of each.
    rows: Vec<(String, Vec<Outcome>)>,
}

impl Table {
    pub fn add(&mut self, name: String, outcome: Outcome) {
        match self.rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, outcomes)) => outcomes.push(outcome),
            None => self.rows.push((name, vec![outcome])),
        }
    }

    pub fn kills(&self) -> usize {
        self.rows.iter().map(|(_, outcomes)| outcomes.len()).sum()
    }

    pub fn print(&self) {
        println!(
            "{:<62}{:>6}{:>8}{:>10}{:>10}  afterwards",
            "killed at", "kills", "wrong", "median", "longest"
        );
        for (name, outcomes) in &self.rows {
            let mut times: Vec<Duration> = outcomes.iter().map(|o| o.recovery).collect();
            times.sort();
            let statuses: BTreeMap<&str, usize> =
                outcomes.iter().fold(BTreeMap::new(), |mut all, o| {
                    *all.entry(if o.status.is_empty() { "no box" } else { &o.status })
                        .or_default() += 1;
                    all
                });
            let statuses: Vec<String> = statuses.iter().map(|(s, n)| format!("{s} {n}")).collect();
            println!(
                "{name:<62}{:>6}{:>8}{:>7} ms{:>7} ms  {}",
                outcomes.len(),
                outcomes.iter().filter(|o| !o.before.is_empty()).count(),
                times[times.len() / 2].as_millis(),
                times[times.len() - 1].as_millis(),
                statuses.join(", "),
            );
        }
        println!(
            "{} kills; wrong: how often something was so before the home was opened again",
            self.kills()
        );
    }

    /// What was not right at a point before the home was opened again.
    pub fn wrong_before(&self, name: &str) -> usize {
        let found = self.rows.iter().find(|(known, _)| known == name);
        let (_, outcomes) = found.unwrap_or_else(|| panic!("nobody was killed at {name}"));
        outcomes.iter().map(|o| o.before.len()).sum()
    }

    pub fn every_point_was_hit(&self) {
        let hits: BTreeSet<&str> = self
            .rows
            .iter()
            .flat_map(|(_, o)| o)
            .flat_map(|o| &o.hits)
            .map(String::as_str)
            .collect();
        let missed: Vec<_> =
            Point::ALL.iter().map(|p| p.name()).filter(|p| !hits.contains(p)).collect();
        assert!(missed.is_empty(), "registered, and come to by nobody: {missed:?}");
    }
}
