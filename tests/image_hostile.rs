//! Damaged, truncated and hostile images: a typed error, never a panic, nothing left behind.

mod image_support;

use std::ops::ControlFlow;
use std::process::Command;

use boxlite::Code;
use boxlite::image::Digest;
use image_support::*;
use serde_json::json;
use tar::EntryType;

/// A small generator with a printed seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64,
        };
        println!("SEED={seed}");
        Random(seed | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn sample() -> Vec<u8> {
    let text: Vec<u8> = (0..60_000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    let mut layer = Layer::new();
    layer
        .dir("d")
        .file("d/text", &text)
        .add(
            b"d/x",
            EntryType::Regular,
            b"x",
            &mode(0o600).xattr("user.a", b"b").pax("mtime", b"1.5"),
        )
        .symlink("d/s", "x")
        .link("d/h", "d/x")
        .file(&"long/".repeat(40), b"")
        .whiteout("d/gone")
        .opaque("o");
    layer.finish()
}

/// An image whose layer blob is replaced after it was described.
fn with_blob(layer: &[u8], how: Pack, change: impl FnOnce(&mut Vec<u8>)) -> Layout {
    let layout = Layout::of(&[(layer.to_vec(), how)]);
    let mut blob = pack(layer, how);
    let path = layout.blob_path(&Digest::of(&blob).to_string());
    change(&mut blob);
    std::fs::write(path, blob).unwrap();
    layout
}

fn error_of(layout: &Layout) -> boxlite::Error {
    match try_make(layout.path(), 32 * MIB) {
        Ok(_) => panic!("a damaged image was accepted"),
        Err(error) => error,
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_layer_is_a_digest_mismatch() {
    let mut random = Random::new();
    let layer = sample();
    for how in [Pack::Plain, Pack::Gzip, Pack::Zstd] {
        for _ in 0..40 {
            let layout = with_blob(&layer, how, |blob| {
                let at = random.below(blob.len());
                blob[at] ^= 1 << random.below(8);
            });
            let error = error_of(&layout);
            assert_eq!(error.code(), Code::Image);
            let text = error.message();
            assert!(text.contains("layer 1 of 1"), "{text}");
            let digests =
                text.contains("expected digest sha256:") && text.contains("found sha256:");
            // A first byte that names another compression is refused before anything is read.
            assert!(digests || text.contains("not supported"), "{text}");
        }
    }
}

#[test]
fn a_truncated_layer_says_truncated() {
    let mut random = Random::new();
    let layer = sample();
    for how in [Pack::Plain, Pack::Gzip, Pack::Zstd] {
        for _ in 0..10 {
            let layout = with_blob(&layer, how, |b| b.truncate(random.below(b.len())));
            let error = error_of(&layout);
            assert_eq!(error.code(), Code::Image);
            assert!(error.message().contains("truncated"), "{error}");
        }
    }
    // Also when its descriptor agrees with it: the compressed stream itself ends too early.
    for how in [Pack::Gzip, Pack::Zstd] {
        let cut = &pack(&layer, how)[..40_000];
        let mut layout = Layout::default();
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let blob = layout.blob(kind, cut);
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs":
            {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]}});
        let manifest = layout.manifest(&config.to_string(), &[blob]);
        layout.publish(manifest, None);
        let error = error_of(&layout);
        assert!(error.message().contains("truncated"), "{error}");
    }
}

#[test]
fn a_layer_that_is_not_what_its_diff_id_says_is_refused() {
    let layer = sample();
    let mut layout = Layout::default();
    let blob =
        layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &pack(&layer, Pack::Gzip));
    let wrong = Digest::of(b"something else");
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [wrong.to_string()]}});
    let manifest = layout.manifest(&config.to_string(), &[blob]);
    layout.publish(manifest, None);
    let error = error_of(&layout);
    assert_eq!(error.code(), Code::Image);
    for part in ["uncompressed", wrong.hex(), Digest::of(&layer).hex()] {
        assert!(error.message().contains(part), "{error}");
    }
}

/// The digests agree with the garbage here: the tar reader itself has to stand it.
#[test]
fn garbage_with_right_digests_is_an_error_or_a_clean_disk() {
    let mut random = Random::new();
    let layer = sample();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..150 {
        let mut bytes = layer.clone();
        for _ in 0..1 + random.below(8) {
            // Mostly headers: what is between them is a file's contents.
            let block = random.below(bytes.len() / 512);
            let at = block * 512 + random.below(512);
            bytes[at] = random.below(256) as u8;
            if random.below(2) == 0 {
                fix_checksum(&mut bytes[block * 512..block * 512 + 512]);
            }
        }
        let layout = Layout::of(&[(bytes, Pack::Plain)]);
        match try_make(layout.path(), 32 * MIB) {
            Ok(_) => accepted += 1,
            Err(error) => {
                let code = error.code();
                assert!(matches!(code, Code::Image | Code::InvalidArgument), "{error:?}");
                refused += 1;
            }
        }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
}

fn fix_checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn damaged_archives_and_documents_are_image_errors() {
    let mut random = Random::new();
    let layout = Layout::of(&[(sample(), Pack::Gzip)]);
    let archive =
        Command::new("tar").args(["-cf", "-", "-C", layout.path(), "."]).output().unwrap().stdout;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    let name = path.to_str().unwrap();
    std::fs::write(&path, &archive).unwrap();
    try_make(name, 32 * MIB).unwrap();
    for round in 0..120 {
        let mut bytes = archive.clone();
        if round % 3 == 0 {
            bytes.truncate(random.below(bytes.len()));
        } else {
            for _ in 0..20 {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = try_make(name, 32 * MIB) {
            let code = error.code();
            assert!(matches!(code, Code::Image | Code::Unsupported), "{error:?}");
        }
    }
}

#[test]
fn a_cancelled_build_leaves_nothing() {
    let mut layer = Layer::new();
    for i in 0..2000 {
        layer.file(&format!("f{i}"), &[b'x'; 1000]);
    }
    let layout = Layout::of(&[(layer.finish(), Pack::Zstd)]);
    let image = resolve(layout.path()).unwrap();
    for after in [0, 1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let mut calls = 0;
        let result = image.write_disk(&dir.path().join("d"), 64 * MIB, &mut |_| {
            calls += 1;
            if calls > after {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        assert_eq!(result.unwrap_err().code(), Code::Cancelled);
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn impossible_entries_are_refused_by_name() {
    let long = "n".repeat(256);
    let deep_link = "l".repeat(4096);
    let device = With { device: (5000, 1), ..mode(0o600) };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Layer::new().link("h", "missing").finish(), "does not exist"),
        (Layer::new().dir("d").link("h", "d").finish(), "directory"),
        (Layer::new().file(&long, b"").finish(), "255 bytes"),
        (Layer::new().symlink("s", &deep_link).finish(), "4095"),
        (Layer::new().symlink("s", "").finish(), "target"),
        (Layer::new().symlink("s", "s").file("s/x", b"").finish(), "symbolic links"),
        (Layer::new().add(b"c", EntryType::Char, b"", &device).finish(), "device number"),
        (
            Layer::new()
                .add(b"x", EntryType::Regular, b"", &mode(0o644).xattr("user.a", &[1; 5000]))
                .finish(),
            "user.a",
        ),
        (
            Layer::new()
                .add(
                    b"x",
                    EntryType::Regular,
                    b"",
                    &mode(0o644).xattr("system.posix_acl_access", b"?"),
                )
                .finish(),
            "posix_acl_access",
        ),
        (Layer::new().file("d/.wh...", b"").finish(), "whiteout"),
        (Layer::new().file("lost+found", b"").finish(), "lost+found"),
        (
            Layer::new()
                .add(b"x", EntryType::Regular, b"", &mode(0o644).pax("path", b"a\0b"))
                .finish(),
            "NUL",
        ),
        (Layer::new().add(b"x", EntryType::new(b'Z'), b"", &mode(0)).finish(), "unknown type"),
    ];
    for (layer, part) in cases {
        let error = make_error(&[layer], 32 * MIB);
        assert_eq!(error.code(), Code::Image, "{part}");
        assert!(error.message().contains(part), "{part}: {error}");
    }
}
