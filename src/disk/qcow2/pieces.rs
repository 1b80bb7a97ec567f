//! The maps of a chain of files made one.

use super::map::{Extent, ExtentKind};
use super::push_bounded;
use super::read::{Content, Piece};
use crate::error::Result;

/// The pieces of a disk, from the top layer down.
pub struct Pieces {
    list: Vec<Piece>,
    size: u64,
    /// Layers still to come are seen up to here: where the smallest of those above them ends.
    seen: u64,
    layers: usize,
}

impl Pieces {
    /// Nothing yet of a disk of `size` bytes.
    pub fn new(size: u64) -> Pieces {
        Pieces { list: Vec::new(), size, seen: size, layers: 0 }
    }

    /// Puts a layer of `size` bytes under those that are there. Behind its end it reads as zeros,
    /// whatever is below it.
    pub fn add(&mut self, extents: &[Extent], size: u64) -> Result<()> {
        let layer = self.layers;
        self.layers += 1;
        let seen = self.seen.min(size);
        let pieces = extents.iter().map(|extent| piece(layer, extent));
        let behind = zeros(seen, self.size);
        self.fill(pieces.map_while(|piece| piece.clip(0, seen)).chain(behind))?;
        self.seen = seen;
        Ok(())
    }

    /// There is nothing below: what is in no layer is zeros. The pieces, which cover all of the disk.
    pub fn close(mut self) -> Result<Vec<Piece>> {
        self.fill(zeros(0, self.size).into_iter())?;
        Ok(self.list)
    }

    /// The pieces; between them, what is below shows.
    pub fn leave_open(self) -> Vec<Piece> {
        self.list
    }

    /// Puts what is `below` wherever there is nothing.
    fn fill(&mut self, below: impl Iterator<Item = Piece>) -> Result<()> {
        let above = std::mem::take(&mut self.list);
        let mut below = below.peekable();
        let mut at = 0;
        for piece in above {
            self.fill_gap(at, piece.guest, &mut below)?;
            at = piece.end();
            self.push(piece)?;
        }
        self.fill_gap(at, self.size, &mut below)
    }

    fn fill_gap(
        &mut self,
        start: u64,
        end: u64,
        below: &mut std::iter::Peekable<impl Iterator<Item = Piece>>,
    ) -> Result<()> {
        if start == end {
            return Ok(());
        }
        while let Some(piece) = below.peek() {
            if piece.guest >= end {
                break;
            }
            if let Some(shown) = piece.clip(start, end) {
                self.push(shown)?;
            }
            if piece.end() > end {
                break;
            }
            below.next();
        }
        Ok(())
    }

    fn push(&mut self, piece: Piece) -> Result<()> {
        let last = self.list.last_mut();
        if let Some(last) = last.filter(|last| last.end() == piece.guest && last.continues(&piece))
        {
            last.length += piece.length;
            return Ok(());
        }
        push_bounded(&mut self.list, piece)
    }
}

impl Piece {
    /// Where on the disk it ends.
    pub fn end(&self) -> u64 {
        self.guest + self.length
    }

    /// What of it lies between `start` and `end`.
    fn clip(&self, start: u64, end: u64) -> Option<Piece> {
        let guest = self.guest.max(start);
        let length = self.end().min(end).checked_sub(guest).filter(|length| *length > 0)?;
        let content = match self.content {
            Content::Data { layer, host } => {
                Content::Data { layer, host: host + (guest - self.guest) }
            }
            other => other,
        };
        Some(Piece { guest, length, content })
    }

    fn continues(&self, next: &Piece) -> bool {
        match (self.content, next.content) {
            (Content::Zero, Content::Zero) => true,
            (Content::Data { layer, host }, Content::Data { layer: other, host: next }) => {
                layer == other && host + self.length == next
            }
            _ => false,
        }
    }
}

fn piece(layer: usize, extent: &Extent) -> Piece {
    let content = match extent.kind {
        ExtentKind::Zero => Content::Zero,
        ExtentKind::Data { host } => Content::Data { layer, host },
        ExtentKind::Compressed { host, length } => {
            Content::Compressed { layer, host, length, start: extent.guest }
        }
    };
    Piece { guest: extent.guest, length: extent.length, content }
}

fn zeros(start: u64, end: u64) -> Option<Piece> {
    let length = end.checked_sub(start).filter(|length| *length > 0)?;
    Some(Piece { guest: start, length, content: Content::Zero })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(guest: u64, length: u64, host: u64) -> Extent {
        Extent { guest, length, kind: ExtentKind::Data { host } }
    }

    fn zero(guest: u64, length: u64) -> Extent {
        Extent { guest, length, kind: ExtentKind::Zero }
    }

    /// A piece's start, its length, and its layer with its offset there.
    type Told = (u64, u64, Option<(usize, u64)>);

    fn told(pieces: &[Piece]) -> Vec<Told> {
        let content = |piece: &Piece| match piece.content {
            Content::Data { layer, host } => Some((layer, host)),
            _ => None,
        };
        pieces.iter().map(|piece| (piece.guest, piece.length, content(piece))).collect()
    }

    #[test]
    fn what_is_above_hides_what_is_below() {
        let mut pieces = Pieces::new(100);
        pieces.add(&[data(10, 10, 1000), zero(30, 10)], 100).unwrap();
        pieces.add(&[data(0, 50, 2000)], 100).unwrap();
        let want = [
            (0, 10, Some((1, 2000))),
            (10, 10, Some((0, 1000))),
            (20, 10, Some((1, 2020))),
            (30, 10, None),
            (40, 10, Some((1, 2040))),
        ];
        assert_eq!(told(&pieces.list), want);
        let closed = told(&pieces.close().unwrap());
        assert_eq!(closed[..5], want);
        assert_eq!(closed[5..], [(50, 50, None)]);
    }

    #[test]
    fn behind_the_end_of_a_layer_are_zeros_whatever_is_below() {
        let mut pieces = Pieces::new(100);
        pieces.add(&[], 100).unwrap();
        pieces.add(&[data(0, 10, 1000)], 50).unwrap();
        pieces.add(&[data(0, 200, 2000)], 200).unwrap();
        let want = [(0, 10, Some((1, 1000))), (10, 40, Some((2, 2010))), (50, 50, None)];
        assert_eq!(told(&pieces.leave_open()), want);
    }
}
