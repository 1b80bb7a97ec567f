//! PAX extended headers: records of the form `length key=value\n`.

use super::malformed;
use super::sparse::{PaxSparse, Segment, check_count};
use crate::disk::ext4::Timestamp;
use crate::error::Result;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the headers before an entry said about it.
#[derive(Debug, Default)]
pub struct Extensions {
    gnu_path: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
    /// In the order of the archive; later records win.
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extensions {
    pub fn is_empty(&self) -> bool {
        self.gnu_path.is_none() && self.gnu_link.is_none() && self.records.is_empty()
    }

    pub fn set_path(&mut self, name: Vec<u8>) {
        self.gnu_path = Some(until_nul(name));
    }

    pub fn set_link(&mut self, name: Vec<u8>) {
        self.gnu_link = Some(until_nul(name));
    }

    /// Adds the records of one extended header.
    pub fn parse(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let (record, rest) = split_record(data).ok_or_else(bad_record)?;
            let equals = record.iter().position(|b| *b == b'=');
            let (key, value) = record.split_at(equals.ok_or_else(bad_record)?);
            self.records.push((key.to_vec(), value[1..].to_vec()));
            data = rest;
        }
        Ok(())
    }

    pub fn path(&self) -> Option<&[u8]> {
        let sparse = self.get(b"GNU.sparse.name");
        sparse
            .or_else(|| self.get(b"path"))
            .or(self.gnu_path.as_deref())
    }

    pub fn link(&self) -> Option<&[u8]> {
        self.get(b"linkpath").or(self.gnu_link.as_deref())
    }

    pub fn size(&self) -> Result<Option<u64>> {
        self.number(b"size")
    }

    pub fn uid(&self) -> Result<Option<u32>> {
        self.id(b"uid")
    }

    pub fn gid(&self) -> Result<Option<u32>> {
        self.id(b"gid")
    }

    /// A time: decimal seconds, perhaps negative, perhaps with a fraction.
    pub fn time(&self, key: &[u8]) -> Result<Option<Timestamp>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        parse_time(value).map(Some).ok_or_else(bad_record)
    }

    /// Extended attributes, each once.
    pub fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (key, value) in &self.records {
            if let Some(name) = key.strip_prefix(XATTR) {
                found.retain(|(have, _)| have != name);
                found.push((name.to_vec(), value.clone()));
            }
        }
        found
    }

    /// What the records say about a sparse file: versions 0.0 and 0.1 have the map here.
    pub fn sparse(&self) -> Result<Option<PaxSparse>> {
        if self.get(b"GNU.sparse.major").is_some() {
            let size = self
                .number(b"GNU.sparse.realsize")?
                .ok_or_else(bad_record)?;
            return Ok(Some(PaxSparse { size, map: None }));
        }
        let Some(size) = self.number(b"GNU.sparse.size")? else {
            return Ok(None);
        };
        let numbers: Vec<u64> = match self.get(b"GNU.sparse.map") {
            Some(map) => map
                .split(|b| *b == b',')
                .filter(|n| !n.is_empty())
                .map(|n| decimal(n).ok_or_else(bad_record))
                .collect::<Result<_>>()?,
            None => self
                .records
                .iter()
                .filter(|(k, _)| k == b"GNU.sparse.offset" || k == b"GNU.sparse.numbytes")
                .map(|(_, n)| decimal(n).ok_or_else(bad_record))
                .collect::<Result<_>>()?,
        };
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(bad_record());
        }
        let map: Vec<Segment> = pairs
            .iter()
            .map(|[offset, len]| Segment {
                offset: *offset,
                len: *len,
            })
            .collect();
        check_count(&map)?;
        Ok(Some(PaxSparse {
            size,
            map: Some(map),
        }))
    }

    /// The last value of a key; an empty one takes earlier ones back.
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let last = self.records.iter().rev().find(|(k, _)| k == key)?;
        (!last.1.is_empty()).then_some(&last.1[..])
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        decimal(value).map(Some).ok_or_else(bad_record)
    }

    fn id(&self, key: &[u8]) -> Result<Option<u32>> {
        let Some(value) = self.number(key)? else {
            return Ok(None);
        };
        u32::try_from(value).map(Some).map_err(|_| bad_record())
    }
}

/// Splits `length key=value\n` off; the result is `key=value`.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let len = usize::try_from(decimal(&data[..space])?).ok()?;
    if len > data.len() {
        return None;
    }
    let (record, rest) = data.split_at(len);
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut digits = [b'0'; 9];
    let fraction = parts.next().unwrap_or(b"");
    for (to, from) in digits.iter_mut().zip(fraction) {
        *to = *from;
    }
    let nanoseconds = u32::try_from(decimal(&digits)?).ok()?;
    if !negative {
        return Some(Timestamp {
            seconds: whole,
            nanoseconds,
        });
    }
    // -1.25 is 0.75 seconds after -2.
    let borrow = nanoseconds > 0;
    Some(Timestamp {
        seconds: -whole - i64::from(borrow),
        nanoseconds: if borrow {
            1_000_000_000 - nanoseconds
        } else {
            0
        },
    })
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

fn bad_record() -> crate::error::Error {
    malformed("has a malformed PAX record")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_newlines_and_later_records_win() {
        let mut ext = Extensions::default();
        let record = b"SCHILY.xattr.user.a=\n\0\n";
        let text = [format!("{} ", record.len() + 4).as_bytes(), record, b"\n"].concat();
        ext.parse(&text).unwrap();
        ext.parse(b"9 path=a\n9 path=b\n").unwrap();
        assert_eq!(ext.path(), Some(&b"b"[..]));
        assert_eq!(ext.xattrs(), [(b"user.a".to_vec(), b"\n\0\n".to_vec())]);
    }

    #[test]
    fn times_may_be_negative_and_have_fractions() {
        let time = |text: &str| parse_time(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-7"), Some((-7, 0)));
        assert_eq!(time("1.0000000019"), Some((1, 1)));
        assert_eq!(time("1.x"), None);
        assert_eq!(time(""), None);
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            "x", "5 a=b", "99 a=b\n", "0 a=b\n", "4 ab\n", " =\n", "2 \n",
        ] {
            assert!(
                Extensions::default().parse(bad.as_bytes()).is_err(),
                "{bad}"
            );
        }
    }
}
