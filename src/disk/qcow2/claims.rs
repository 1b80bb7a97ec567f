//! Which clusters of a file are used by what, so that none is used twice.
//!
//! Without internal snapshots, which are refused, nothing is shared but the clusters in which
//! compressed ones end and begin.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{damaged, push_bounded};
use crate::error::{Error, Result};

/// Clusters, by their number in the file, that one user has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sole {
    start: u64,
    end: u64,
    /// The copied flag of the entry that names them; none for those that no entry names.
    copied: Option<bool>,
}

/// All that is used of a file: at most [`MAX_EXTENTS`](super::MAX_EXTENTS) stretches of 24 bytes of either kind.
#[derive(Debug, Default)]
pub struct Claims {
    cluster_bits: u32,
    sole: Vec<Sole>,
    /// First cluster and the one behind the last of each compressed cluster.
    shared: Vec<(u64, u64)>,
}

/// What is expected of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub references: u64,
    pub copied: Option<bool>,
}

impl Claims {
    pub fn new(cluster_bits: u32) -> Claims {
        Claims { cluster_bits, ..Claims::default() }
    }

    /// `length` bytes from `offset` on, where a cluster starts, are used by nobody else.
    pub fn sole(&mut self, offset: u64, length: u64, copied: Option<bool>) -> Result<()> {
        let (start, end) = self.clusters(offset, length);
        let last = self.sole.last_mut();
        if let Some(last) = last.filter(|last| last.end == start && last.copied == copied) {
            last.end = end;
            return Ok(());
        }
        push_bounded(&mut self.sole, Sole { start, end, copied })
    }

    /// `length` bytes from `offset` on are used by a compressed cluster.
    pub fn shared(&mut self, offset: u64, length: u64) -> Result<()> {
        let claim = self.clusters(offset, length);
        push_bounded(&mut self.shared, claim)
    }

    /// Makes sure that no cluster has two users. To be called once, when all are known.
    pub fn settle(&mut self) -> Result<()> {
        self.sole.sort_unstable_by_key(|claim| claim.start);
        self.shared.sort_unstable();
        for (one, other) in self.sole.iter().zip(self.sole.iter().skip(1)) {
            if other.start < one.end {
                return Err(self.used_twice(other.start));
            }
        }
        let mut sole = self.sole.iter().peekable();
        for (start, end) in &self.shared {
            // Sorted by where they start, and those before have had no overlap.
            while sole.next_if(|claim| claim.end <= *start).is_some() {}
            if let Some(claim) = sole.peek().filter(|claim| claim.start < *end) {
                return Err(self.used_twice(claim.start.max(*start)));
            }
        }
        Ok(())
    }

    /// The number of the cluster behind the last that is used. Only after [`Claims::settle`].
    pub fn end(&self) -> u64 {
        let shared = self.shared.iter().map(|(_, end)| *end).max();
        self.sole.last().map_or(0, |claim| claim.end).max(shared.unwrap_or(0))
    }

    /// What is expected, cluster by cluster. Only after [`Claims::settle`].
    pub fn expectations(&self) -> Expectations<'_> {
        Expectations { sole: &self.sole, shared: &self.shared, open: BinaryHeap::new() }
    }

    fn clusters(&self, offset: u64, length: u64) -> (u64, u64) {
        let last = offset.saturating_add(length.max(1) - 1) >> self.cluster_bits;
        (offset >> self.cluster_bits, last + 1)
    }

    fn used_twice(&self, cluster: u64) -> Error {
        let offset = cluster << self.cluster_bits;
        damaged(format!("the cluster at {offset:#x}"), "used for two things")
    }
}

/// Goes through the clusters of a file in order.
#[derive(Debug)]
pub struct Expectations<'c> {
    sole: &'c [Sole],
    shared: &'c [(u64, u64)],
    /// Where compressed clusters end that have started.
    open: BinaryHeap<Reverse<u64>>,
}

impl Expectations<'_> {
    /// What is expected of a cluster. Clusters must be asked for in order.
    pub fn at(&mut self, cluster: u64) -> Expected {
        self.skip_to(cluster);
        match self.sole.first() {
            Some(claim) if claim.start <= cluster => {
                Expected { references: 1, copied: claim.copied }
            }
            _ => Expected { references: self.open.len() as u64, copied: None },
        }
    }

    /// The first cluster from `cluster` on of which anything is expected.
    pub fn next_used(&mut self, cluster: u64) -> Option<u64> {
        self.skip_to(cluster);
        if !self.open.is_empty() {
            return Some(cluster);
        }
        let sole = self.sole.first().map(|claim| claim.start.max(cluster));
        let shared = self.shared.first().map(|(start, _)| *start);
        sole.into_iter().chain(shared).min()
    }

    fn skip_to(&mut self, cluster: u64) {
        while let Some((claim, rest)) = self.sole.split_first()
            && claim.end <= cluster
        {
            self.sole = rest;
        }
        while let Some(((start, end), rest)) = self.shared.split_first()
            && *start <= cluster
        {
            self.open.push(Reverse(*end));
            self.shared = rest;
        }
        while self.open.peek().is_some_and(|Reverse(end)| *end <= cluster) {
            self.open.pop();
        }
    }
}
