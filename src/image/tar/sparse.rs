//! Sparse files: GNU's old format and PAX versions 0.0, 0.1 and 1.0.

use super::header::Entry;
use super::{BLOCK, malformed};
use crate::error::Result;

/// More segments than any real file has.
const MAX_SEGMENTS: usize = 1 << 20;

/// A piece of data and where in the file it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub len: u64,
}

/// A sparse file as PAX records tell of it.
#[derive(Debug)]
pub struct PaxSparse {
    /// Length with holes.
    pub size: u64,
    /// `None`: the map is at the start of the data.
    pub map: Option<Vec<Segment>>,
}

/// Bounds the memory that a map takes.
pub fn check_count(map: &[Segment]) -> Result<()> {
    if map.len() > MAX_SEGMENTS {
        return Err(malformed("has a sparse file of too many pieces"));
    }
    Ok(())
}

/// Completes an entry of the old format.
pub fn finish_old(entry: &mut Entry, map: Vec<Segment>, size: u64) -> Result<()> {
    check_count(&map)?;
    entry.size = size;
    entry.segments = Some(map);
    Ok(())
}

/// The map's segments must ascend within the file and take exactly the `data` there is.
pub fn check(entry: &Entry, data: u64) -> Result<()> {
    let Some(map) = &entry.segments else {
        return Ok(());
    };
    let (mut end, mut total) = (0u64, 0u64);
    for segment in map {
        let next = segment.offset.checked_add(segment.len);
        match next {
            Some(next) if segment.offset >= end && next <= entry.size => end = next,
            _ => return Err(malformed("has a sparse file with an impossible map")),
        }
        total += segment.len;
    }
    if total != data {
        return Err(malformed(
            "has a sparse file whose map does not match its data",
        ));
    }
    Ok(())
}

/// The map of version 1.0: decimal numbers in lines, first their count.
#[derive(Debug, Default)]
pub struct TextMap {
    count: Option<u64>,
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl TextMap {
    /// Takes the next block; gives the map when it is complete.
    pub fn feed(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Segment>>> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err(bad_map());
                }
                continue;
            }
            let number = super::pax::decimal(&self.line).ok_or_else(bad_map)?;
            self.line.clear();
            match self.count {
                None if number > MAX_SEGMENTS as u64 => return Err(bad_map()),
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
            if self
                .count
                .is_some_and(|c| self.numbers.len() as u64 == 2 * c)
            {
                return Ok(Some(self.segments()));
            }
        }
        Ok(None)
    }

    fn segments(&self) -> Vec<Segment> {
        let pairs = self.numbers.as_chunks::<2>().0;
        pairs
            .iter()
            .map(|[offset, len]| Segment {
                offset: *offset,
                len: *len,
            })
            .collect()
    }
}

fn bad_map() -> crate::error::Error {
    malformed("has a sparse file with a malformed map")
}
