//! Builds images piece by piece, and reads disks back with e2fsprogs.
#![allow(dead_code)] // each test program uses a part

pub mod disk;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use boxlite::image::{Digest, DiskSummary, Image, Progress, Resolver};
use boxlite::{Error, Result};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

pub const MIB: u64 = 1 << 20;

/// A layer being built.
pub struct Layer(Builder<Vec<u8>>);

/// What an entry says beside name and type.
#[derive(Clone)]
pub struct With<'a> {
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub pax: Vec<(String, Vec<u8>)>,
    pub device: (u32, u32),
    pub link: &'a [u8],
}

impl Default for With<'_> {
    fn default() -> Self {
        With {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            pax: Vec::new(),
            device: (0, 0),
            link: b"",
        }
    }
}

pub fn mode(mode: u32) -> With<'static> {
    With { mode, ..With::default() }
}

impl With<'_> {
    pub fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.to_owned(), value.to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }
}

impl Default for Layer {
    fn default() -> Self {
        Layer(Builder::new(Vec::new()))
    }
}

impl Layer {
    pub fn new() -> Layer {
        Layer::default()
    }

    /// Any entry; long names and links go into PAX records.
    pub fn add(&mut self, name: &[u8], kind: EntryType, data: &[u8], with: &With<'_>) -> &mut Self {
        let mut pax = with.pax.clone();
        let mut header = Header::new_ustar();
        if name.len() <= 100 {
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
        } else {
            pax.push(("path".to_owned(), name.to_vec()));
        }
        if with.link.len() <= 100 {
            header.as_old_mut().linkname[..with.link.len()].copy_from_slice(with.link);
        } else {
            pax.push(("linkpath".to_owned(), with.link.to_vec()));
        }
        header.set_entry_type(kind);
        header.set_mode(with.mode);
        header.set_uid(with.uid);
        header.set_gid(with.gid);
        header.set_mtime(with.mtime);
        header.set_size(data.len() as u64);
        header.set_device_major(with.device.0).unwrap();
        header.set_device_minor(with.device.1).unwrap();
        header.set_cksum();
        if !pax.is_empty() {
            let records = pax.iter().map(|(k, v)| (k.as_str(), &v[..]));
            self.0.append_pax_extensions(records).unwrap();
        }
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.add(name.as_bytes(), EntryType::Regular, data, &With::default())
    }

    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.add(name.as_bytes(), EntryType::Directory, b"", &mode(0o755))
    }

    pub fn link(&mut self, name: &str, target: &str) -> &mut Self {
        let with = With { link: target.as_bytes(), ..With::default() };
        self.add(name.as_bytes(), EntryType::Link, b"", &with)
    }

    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        let with = With { link: target.as_bytes(), ..mode(0o777) };
        self.add(name.as_bytes(), EntryType::Symlink, b"", &with)
    }

    pub fn whiteout(&mut self, name: &str) -> &mut Self {
        let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
        let slash = if dir.is_empty() { "" } else { "/" };
        self.file(&format!("{dir}{slash}.wh.{base}"), b"")
    }

    pub fn opaque(&mut self, name: &str) -> &mut Self {
        self.file(&format!("{name}/.wh..wh..opq"), b"")
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.get_mut().write_all(bytes).unwrap();
        self
    }

    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.0, Builder::new(Vec::new())).into_inner().unwrap()
    }
}

/// How a layer is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pack {
    Plain,
    Gzip,
    Zstd,
}

pub fn pack(bytes: &[u8], how: Pack) -> Vec<u8> {
    match how {
        Pack::Plain => bytes.to_vec(),
        Pack::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Pack::Zstd => zstd::stream::encode_all(bytes, 1).unwrap(),
    }
}

/// A layout directory that is filled blob by blob.
pub struct Layout {
    pub dir: tempfile::TempDir,
    pub manifests: Vec<Value>,
}

impl Default for Layout {
    fn default() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha512")).unwrap();
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
        std::fs::write(dir.path().join("oci-layout"), version).unwrap();
        Layout { dir, manifests: Vec::new() }
    }
}

impl Layout {
    pub fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.dir.path().join("blobs").join(digest.replace(':', "/"))
    }

    /// Stores a blob; its descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        std::fs::write(self.blob_path(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Stores an image; the descriptor of its manifest.
    pub fn image(&self, layers: &[(Vec<u8>, Pack)], arch: &str, config: Value) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|(b, _)| Digest::of(b).to_string()).collect();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|(bytes, how)| {
                let suffix = match how {
                    Pack::Plain => "",
                    Pack::Gzip => "+gzip",
                    Pack::Zstd => "+zstd",
                };
                let kind = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
                self.blob(&kind, &pack(bytes, *how))
            })
            .collect();
        let config = json!({"architecture": arch, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        self.manifest(&config.to_string(), &descriptors)
    }

    pub fn manifest(&self, config: &str, layers: &[Value]) -> Value {
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = self.blob(kind, config.as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config,
            "layers": layers});
        self.blob(kind, manifest.to_string().as_bytes())
    }

    /// Names a manifest in `index.json`.
    pub fn publish(&mut self, mut descriptor: Value, tag: Option<&str>) -> &mut Self {
        if let Some(tag) = tag {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        }
        self.manifests.push(descriptor);
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        std::fs::write(self.dir.path().join("index.json"), index.to_string()).unwrap();
        self
    }

    /// A layout with one image of these layers.
    pub fn of(layers: &[(Vec<u8>, Pack)]) -> Layout {
        let mut layout = Layout::default();
        let descriptor = layout.image(layers, "amd64", json!({}));
        layout.publish(descriptor, Some("t"));
        layout
    }
}

pub fn resolve(reference: &str) -> Result<Image> {
    let mut resolver = Resolver::new(std::env::temp_dir());
    // The images of these tests say amd64, whatever runs the tests.
    resolver.platform.architecture = "amd64".to_owned();
    resolver.resolve(reference)
}

pub fn go_on(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A disk made of layers, checked with e2fsck.
pub struct Made {
    pub dir: tempfile::TempDir,
    pub path: PathBuf,
    pub summary: DiskSummary,
}

pub fn try_make(reference: &str, bytes: u64) -> Result<Made> {
    let image = resolve(reference)?;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.ext4");
    match image.write_disk(&path, bytes, &mut go_on) {
        Ok(summary) => {
            disk::check(&path);
            assert_eq!(path.metadata().unwrap().len(), bytes);
            assert_eq!(names(dir.path()), ["disk.ext4"]);
            Ok(Made { dir, path, summary })
        }
        Err(error) => {
            assert_eq!(names(dir.path()), Vec::<String>::new(), "left behind by {error:?}");
            Err(error)
        }
    }
}

pub fn make(layers: &[Vec<u8>], bytes: u64) -> Made {
    let layout = Layout::of(&layers.iter().map(|l| (l.clone(), Pack::Gzip)).collect::<Vec<_>>());
    try_make(layout.path(), bytes).unwrap()
}

pub fn make_error(layers: &[Vec<u8>], bytes: u64) -> Error {
    let layout = Layout::of(&layers.iter().map(|l| (l.clone(), Pack::Plain)).collect::<Vec<_>>());
    match try_make(layout.path(), bytes) {
        Ok(_) => panic!("the image was accepted"),
        Err(error) => error,
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
