//! The reader against archives that GNU tar writes.

use std::io::Cursor;
use std::process::Command;

use super::*;

struct Bytes(Cursor<Vec<u8>>);

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Bytes {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }
    fn consume(&mut self, len: usize) {
        self.0.consume(len);
    }
}

impl Source for Bytes {
    fn skip(&mut self, len: u64) -> io::Result<u64> {
        io::copy(&mut Read::by_ref(&mut self.0).take(len), &mut io::sink())
    }
}

fn read_all(archive: Vec<u8>) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(Bytes(Cursor::new(archive)));
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        while reader.with_data(u64::MAX, |bytes| {
            data.extend_from_slice(bytes);
            Ok(())
        })? > 0
        {}
        all.push((entry, data));
    }
    Ok(all)
}

fn gnu_tar(args: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let sparse = std::fs::File::create(directory.path().join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    for i in 0..40u64 {
        sparse
            .write_all_at(&[b'x'; 4096], i * 100_000 / 4096 * 4096)
            .unwrap();
    }
    sparse.set_len(10_000_000).unwrap();
    let long = "l".repeat(200);
    std::fs::write(directory.path().join(&long), b"hello").unwrap();
    let output = Command::new("tar")
        .args(args)
        .args(["-cf", "-", "-C"])
        .arg(directory.path())
        .args(["sparse", &long])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn every_sparse_format_of_gnu_tar_gives_the_same_file() {
    let formats: [&[&str]; 4] = [
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ];
    for format in formats {
        let all = read_all(gnu_tar(format)).unwrap();
        let (entry, data) = &all[0];
        assert_eq!(entry.path, b"sparse", "{format:?}");
        assert_eq!(entry.size, 10_000_000, "{format:?}");
        assert!(data.iter().all(|b| *b == b'x'), "{format:?}");
        let map = entry.segments.as_ref().unwrap();
        assert!(map.len() > 21, "{format:?}");
        assert_eq!(map.iter().map(|s| s.len).sum::<u64>(), data.len() as u64);
        assert_eq!(all[1].0.path.len(), 200);
        assert_eq!(all[1].1, b"hello");
    }
}

#[test]
fn a_stream_cut_anywhere_is_truncated_or_a_shorter_archive_but_never_a_panic() {
    let whole = gnu_tar(&["--format=pax"]);
    for cut in (0..whole.len()).step_by(4999) {
        if let Err(error) = read_all(whole[..cut].to_vec()) {
            assert_eq!(error.code(), Code::Image);
        }
    }
}
