//! Texts that keep the place of others.
//!
//! The files that tell a box who it is have their places on its disk. A machine that is saved with
//! the disk mounted leaves a placeholder in each, of the file's length, and forgets that it wrote it.
//! Whoever has the disk's bytes then finds the placeholders, and writes what a box is called in their
//! place before the machine runs on.

use std::ops::Range;

/// The files, from the root of the disk.
pub const FILES: [&str; 3] = ["etc/hostname", "etc/machine-id", "etc/hosts"];

/// What starts a placeholder, with the number of its file behind it. No text has an escape in it.
const MARK: &[u8] = b"\x1bboxlite\x1b";
const FILLER: u8 = 0x1a;
const END: u8 = b'\n';

/// A placeholder for the file of this number in [`FILES`]; none where it would not fit.
pub fn make(file: u8, length: usize) -> Option<Vec<u8>> {
    if length < MARK.len() + 2 {
        return None;
    }
    let mut text = [MARK, &[file]].concat();
    text.resize(length - 1, FILLER);
    text.push(END);
    Some(text)
}

/// Where the placeholder for a file is, if there is exactly one.
pub fn find(disk: &[u8], file: u8) -> Option<Range<usize>> {
    let start = [MARK, &[file]].concat();
    let mut places = disk.windows(start.len()).enumerate().filter(|(_, w)| *w == start);
    let (at, _) = places.next()?;
    if places.next().is_some() {
        return None;
    }
    let filled = disk[at + start.len()..].iter().take_while(|byte| **byte == FILLER).count();
    let end = at + start.len() + filled;
    (disk.get(end) == Some(&END)).then_some(at..end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_where_they_are() {
        let texts: Vec<_> = (0..3).map(|n| make(n, 20 + usize::from(n)).unwrap()).collect();
        let disk = [&b"before"[..], &texts[2], b"between", &texts[0], &texts[1]].concat();
        for (n, text) in (0..3).zip(&texts) {
            assert_eq!(&disk[find(&disk, n).unwrap()], text);
        }
        assert_eq!(find(&disk, 3), None);
    }

    #[test]
    fn two_are_none_and_so_is_half_of_one() {
        let text = make(1, 33).unwrap();
        assert_eq!(find(&[&text[..], &text].concat(), 1), None);
        for length in 0..text.len() {
            assert_eq!(find(&text[..length], 1), None);
        }
        assert_eq!(find(&text, 1), Some(0..33));
    }

    #[test]
    fn what_is_too_short_for_one_gets_none() {
        let shortest = (0..64).find(|length| make(0, *length).is_some()).unwrap();
        assert_eq!(find(&make(0, shortest).unwrap(), 0), Some(0..shortest));
    }
}
