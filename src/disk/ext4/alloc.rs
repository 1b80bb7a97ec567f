//! Which blocks are in use.
//!
//! Blocks are handed out in ascending order; freed ones are kept as ranges and used again only
//! when the end of the disk is reached. So memory grows with the number of freed ranges, not
//! with the disk. Past the end of the disk it goes on handing out numbers: the caller learns at
//! the end how much was missing.

use std::collections::BTreeMap;

use super::geometry::{BLOCK, GROUP_BLOCKS, Geometry};

/// Hands out blocks and takes them back.
#[derive(Debug)]
pub struct Allocator {
    geometry: Geometry,
    next: u64,
    freed: BTreeMap<u64, u64>,
    handed_out: u64,
    overflow: u64,
}

impl Allocator {
    /// All blocks free but the superblock and descriptor copies.
    pub fn new(geometry: Geometry) -> Allocator {
        Allocator {
            next: geometry.reserved_in(0),
            geometry,
            freed: BTreeMap::new(),
            handed_out: 0,
            overflow: 0,
        }
    }

    /// One run of 1 to `want` blocks: its start and length. `want` is at least 1.
    pub fn allocate(&mut self, want: u64) -> (u64, u64) {
        let room = self.room_ahead(want).min(want);
        if self.next + room <= self.geometry.blocks {
            return (self.take_ahead(room), room);
        }
        if self.next < self.geometry.blocks {
            let room = self.geometry.blocks - self.next;
            return (self.take_ahead(room), room);
        }
        if let Some((&start, &len)) = self.freed.first_key_value() {
            let taken = len.min(want);
            self.take_freed(start, len, taken);
            return (start, taken);
        }
        (self.take_ahead(room), room)
    }

    /// One run of exactly `len` blocks, which is at most what a group without copies has.
    pub fn allocate_run(&mut self, len: u64) -> u64 {
        if self.room_ahead(len) < len {
            // A superblock copy is in the way: leave what is before it to others.
            let before = self.next;
            let group_start = (before / GROUP_BLOCKS + 1) * GROUP_BLOCKS;
            self.insert_free(before, group_start - before);
            self.next = group_start;
            self.room_ahead(len);
        }
        if self.next + len > self.geometry.blocks {
            let fit = self.freed.iter().find(|(_, have)| **have >= len);
            if let Some((start, have)) = fit.map(|(s, l)| (*s, *l)) {
                self.take_freed(start, have, len);
                return start;
            }
        }
        self.take_ahead(len)
    }

    /// Takes `len` blocks from `start` back.
    pub fn free(&mut self, start: u64, len: u64) {
        let inside = self.geometry.blocks.saturating_sub(start).min(len);
        self.overflow -= (len - inside).min(self.overflow);
        self.insert_free(start, inside);
    }

    /// How many blocks past the end of the disk are in use.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// How many blocks were handed out in all, freed ones included.
    pub fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// The bitmap of `group`, and how many of its blocks are free.
    ///
    /// Bits past the end of a short group are set, as the format wants it.
    pub fn bitmap(&self, group: u32) -> (Box<[u8; BLOCK]>, u64) {
        let mut bits = Box::new([0u8; BLOCK]);
        let start = self.geometry.start_of(group);
        let end = start + self.geometry.len_of(group);
        set_range(&mut bits, self.next.clamp(start, end) - start, 0, true);
        let first = self.freed.range(..start).next_back();
        for (&from, &len) in first.into_iter().chain(self.freed.range(start..end)) {
            let (from, to) = (from.max(start), (from + len).min(end));
            if from < to {
                set_range(&mut bits, to - start, from - start, false);
            }
        }
        set_range(&mut bits, self.geometry.reserved_in(group), 0, true);
        let used: u64 = bits.iter().map(|b| u64::from(b.count_ones())).sum();
        set_range(&mut bits, GROUP_BLOCKS, end - start, true);
        (bits, (end - start) - used)
    }

    /// Whether `group` holds nothing but its superblock copy.
    pub fn is_untouched(&self, group: u32) -> bool {
        let start = self.geometry.start_of(group) + self.geometry.reserved_in(group);
        self.next <= start
    }

    /// Steps over superblock copies; then how many blocks follow without one, up to `want`.
    fn room_ahead(&mut self, want: u64) -> u64 {
        loop {
            let group = self.next / GROUP_BLOCKS;
            let reserved = self.reserved(group);
            if self.next % GROUP_BLOCKS >= reserved {
                break;
            }
            self.next = group * GROUP_BLOCKS + reserved;
        }
        let mut group = self.next / GROUP_BLOCKS;
        loop {
            group += 1;
            let room = group * GROUP_BLOCKS - self.next;
            if room >= want || self.reserved(group) > 0 {
                return room;
            }
        }
    }

    fn reserved(&self, group: u64) -> u64 {
        u32::try_from(group).map_or(0, |g| self.geometry.reserved_in(g))
    }

    fn take_ahead(&mut self, len: u64) -> u64 {
        let start = self.next;
        self.next += len;
        self.handed_out += len;
        self.overflow += self.next.saturating_sub(self.geometry.blocks.max(start));
        start
    }

    fn take_freed(&mut self, start: u64, have: u64, taken: u64) {
        self.freed.remove(&start);
        if taken < have {
            self.freed.insert(start + taken, have - taken);
        }
        self.handed_out += taken;
    }

    fn insert_free(&mut self, start: u64, len: u64) {
        if len == 0 {
            return;
        }
        let (mut start, mut end) = (start, start + len);
        if let Some((&before, &l)) = self.freed.range(..start).next_back()
            && before + l == start
        {
            self.freed.remove(&before);
            start = before;
        }
        if let Some(l) = self.freed.remove(&end) {
            end += l;
        }
        self.freed.insert(start, end - start);
    }
}

fn set_range(bits: &mut [u8; BLOCK], end: u64, start: u64, value: bool) {
    // Both are at most GROUP_BLOCKS.
    let (mut at, end) = (start as usize, end as usize);
    while at < end {
        if at.is_multiple_of(8) && at + 8 <= end {
            bits[at / 8] = if value { 0xff } else { 0 };
            at += 8;
            continue;
        }
        if value {
            bits[at / 8] |= 1 << (at % 8);
        } else {
            bits[at / 8] &= !(1 << (at % 8));
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocator(mib: u64) -> Allocator {
        Allocator::new(Geometry::new(mib << 20).unwrap())
    }

    #[test]
    fn runs_never_touch_a_superblock_copy() {
        let mut a = allocator(2048);
        let reserved = a.geometry.reserved_in(1);
        let mut total = 0;
        while total < 5 * GROUP_BLOCKS {
            let (start, len) = a.allocate(10_000);
            for block in [start, start + len - 1] {
                let group = (block / GROUP_BLOCKS) as u32;
                assert!(block % GROUP_BLOCKS >= a.geometry.reserved_in(group));
            }
            assert!(start / GROUP_BLOCKS != 0 || start + len <= GROUP_BLOCKS);
            total += len;
        }
        assert_eq!(reserved, 2);
    }

    #[test]
    fn freed_blocks_are_used_again_once_the_disk_is_full() {
        let mut a = allocator(8);
        let (start, len) = a.allocate(5000);
        assert_eq!(start + len, 2048);
        a.free(100, 10);
        a.free(120, 10);
        a.free(110, 10);
        assert_eq!(a.allocate(30), (100, 30));
        assert_eq!(a.overflow(), 0);
        assert_eq!(a.allocate(7).1, 7);
        assert_eq!(a.overflow(), 7);
    }

    #[test]
    fn the_bitmap_tells_used_free_and_missing_blocks_apart() {
        let mut a = allocator(8);
        a.allocate(98);
        a.free(50, 3);
        let (bits, free) = a.bitmap(0);
        let set = |n: usize| bits[n / 8] & (1 << (n % 8)) != 0;
        assert!(set(0) && set(49) && set(53) && set(99) && set(2048) && set(32767));
        assert!(!set(50) && !set(52) && !set(100) && !set(2047));
        assert_eq!(free, 2048 - 100 + 3);
    }
}
