//! OCI images: finding one, checking it, and making a disk of it.
//!
//! [`Resolver::resolve`] turns a reference into an [`Image`]: manifest and config are read and
//! verified, the layers are known but not read. [`Image::write_disk`] streams them into an ext4
//! disk; [`DiskCache`] keeps such disks, one per image and size.
//!
//! Images come from strangers. Every size is bounded, every digest checked, and nothing in an
//! image can name a file of this machine.

mod apply;
mod build;
mod cache;
mod compression;
mod config;
mod digest;
mod docker_archive;
mod files;
mod layer;
mod layout;
mod platform;
mod reference;
pub mod tar;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::image::{Descriptor, MediaType};

pub use build::{DiskSummary, Observer, Progress, Reserved};
pub use cache::DiskCache;
pub use config::ImageConfig;
pub use digest::{Algorithm, Digest, Hasher};
pub use platform::Platform;

use crate::error::{Code, Error, Result};
use files::{Archive, Directory, Files};
use reference::{LocalReference, Transport};

/// More layers than any image has.
const MAX_LAYERS: usize = 512;

/// Finds images.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// Where a compressed archive is unpacked, into a file without a name.
    pub tmp_dir: PathBuf,
    /// What the image must run on.
    pub platform: Platform,
}

/// An image whose manifest and config are read and verified.
#[derive(Debug, Clone)]
pub struct Image {
    reference: String,
    manifest_digest: Digest,
    config_digest: Digest,
    manifest: Vec<u8>,
    config_blob: Vec<u8>,
    config: ImageConfig,
    platform: Platform,
    layers: Vec<Layer>,
    files: Arc<dyn Files>,
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Digest of the blob as it is stored. In a `docker save` archive: the diff_id.
    pub digest: Digest,
    /// Digest of the blob without compression.
    pub diff_id: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// What the manifest calls it.
    pub media_type: String,
    /// Where it is in the image's files.
    file: String,
    /// Whether `digest` is that of the stored bytes.
    digest_is_of_blob: bool,
}

impl Resolver {
    /// A resolver for this machine that unpacks compressed archives in `tmp_dir`.
    pub fn new(tmp_dir: impl Into<PathBuf>) -> Resolver {
        Resolver { tmp_dir: tmp_dir.into(), platform: Platform::host() }
    }

    /// Finds the image that `reference` names.
    ///
    /// `PATH[:TAG]` is an OCI layout directory, or a tar file of one, or what `docker save`
    /// writes; `oci:`, `oci-archive:` and `docker-archive:` in front demand one of them.
    pub fn resolve(&self, reference: &str) -> Result<Image> {
        let local = reference::parse(reference)?;
        self.resolve_local(reference, &local).map_err(|e| e.object(reference))
    }

    fn resolve_local(&self, reference: &str, local: &LocalReference) -> Result<Image> {
        let path = &local.path;
        let not = |what: &str| {
            let message = format!("{} is not {what}", path.display());
            Error::new(Code::Image, message)
        };
        let is_directory = path.is_dir();
        match (local.transport, is_directory) {
            (Transport::OciLayout, false) => return Err(not("a directory")),
            (Transport::OciArchive | Transport::DockerArchive, true) => {
                return Err(not("an archive but a directory"));
            }
            _ => {}
        }
        let files: Arc<dyn Files> = if is_directory {
            Arc::new(Directory(path.clone()))
        } else if path.is_file() {
            Arc::new(Archive::open(path, &self.tmp_dir)?)
        } else {
            return Err(not("a regular file or directory"));
        };
        let tag = local.tag.as_deref();
        let docker_only = local.transport == Transport::DockerArchive;
        if !docker_only && layout::is_layout(&*files)? {
            return self.assemble_layout(reference, files, tag);
        }
        match local.transport {
            Transport::Any | Transport::DockerArchive if docker_archive::is_archive(&*files)? => {
                self.assemble_saved(reference, files, tag)
            }
            Transport::DockerArchive => {
                Err(not("a `docker save` archive: it has no manifest.json"))
            }
            Transport::Any => {
                Err(not("an image: it has neither oci-layout and index.json nor manifest.json"))
            }
            _ => Err(not("an OCI layout: it has no oci-layout and index.json")),
        }
    }

    fn assemble_layout(
        &self,
        reference: &str,
        files: Arc<dyn Files>,
        tag: Option<&str>,
    ) -> Result<Image> {
        let (manifest_digest, manifest) = layout::select(&*files, tag, &self.platform)?;
        let parsed = layout::parse_manifest(&manifest)?;
        check_config_type(parsed.config())?;
        let config_blob =
            layout::read_blob(&*files, "the config", parsed.config(), layout::MAX_CONFIG)?;
        let layers = parsed
            .layers()
            .iter()
            .map(|descriptor| {
                let digest = layout::parse_digest(descriptor)?;
                let media_type = layer_type(descriptor)?;
                Ok(Layer {
                    file: layout::blob_name(&digest),
                    diff_id: digest.clone(),
                    digest,
                    size: descriptor.size(),
                    media_type,
                    digest_is_of_blob: true,
                })
            })
            .collect::<Result<_>>()?;
        self.assemble(reference, files, (manifest_digest, manifest), config_blob, layers)
    }

    fn assemble_saved(
        &self,
        reference: &str,
        files: Arc<dyn Files>,
        tag: Option<&str>,
    ) -> Result<Image> {
        let saved = docker_archive::select(&*files, tag)?;
        let placeholder = Digest::of(b"");
        let layers = saved
            .layers
            .into_iter()
            .map(|layer| Layer {
                digest: placeholder.clone(),
                diff_id: placeholder.clone(),
                size: layer.size,
                media_type: MediaType::ImageLayer.to_string(),
                file: layer.name,
                digest_is_of_blob: !layer.compressed,
            })
            .collect();
        let digest = Digest::of(&saved.manifest);
        let mut image =
            self.assemble(reference, files, (digest, saved.manifest), saved.config, layers)?;
        for layer in &mut image.layers {
            layer.digest = layer.diff_id.clone();
        }
        Ok(image)
    }

    /// Checks platform and layers against the config.
    fn assemble(
        &self,
        reference: &str,
        files: Arc<dyn Files>,
        (manifest_digest, manifest): (Digest, Vec<u8>),
        config_blob: Vec<u8>,
        mut layers: Vec<Layer>,
    ) -> Result<Image> {
        let parsed = config::parse(&config_blob)?;
        let platform = Platform::from(&parsed);
        if platform.rank_on(&self.platform).is_none() {
            let message = format!(
                "the image is for {platform}, but boxes here run {}: choose an image for that \
                 platform",
                self.platform
            );
            return Err(Error::new(Code::Image, message));
        }
        if layers.len() != parsed.diff_ids.len() {
            let message = format!(
                "the image has {} layers, but its config tells of {}",
                layers.len(),
                parsed.diff_ids.len()
            );
            return Err(Error::new(Code::Image, message));
        }
        if layers.len() > MAX_LAYERS {
            let message =
                format!("the image has {} layers; at most {MAX_LAYERS} are accepted", layers.len());
            return Err(Error::new(Code::Image, message));
        }
        for (layer, diff_id) in layers.iter_mut().zip(parsed.diff_ids) {
            layer.diff_id = diff_id;
        }
        Ok(Image {
            reference: reference.to_owned(),
            manifest_digest,
            config_digest: Digest::of(&config_blob),
            manifest,
            config_blob,
            config: parsed.config,
            platform,
            layers,
            files,
        })
    }
}

impl Image {
    /// The reference that it was found by.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Digest of the manifest. For a `docker save` archive: of the manifest that stands for it.
    pub fn manifest_digest(&self) -> &Digest {
        &self.manifest_digest
    }

    /// SHA-256 digest of the config: the image's identity.
    pub fn config_digest(&self) -> &Digest {
        &self.config_digest
    }

    /// The manifest as it is stored.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The config as it is stored.
    pub fn config_blob(&self) -> &[u8] {
        &self.config_blob
    }

    /// Defaults for the process to run.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// What it runs on.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

/// Refuses artifacts that use image manifests for something else.
fn check_config_type(config: &Descriptor) -> Result<()> {
    const DOCKER: &str = "application/vnd.docker.container.image.v1+json";
    match config.media_type() {
        MediaType::ImageConfig => Ok(()),
        MediaType::Other(t) if t == DOCKER => Ok(()),
        other => {
            let message = format!("it is not a container image but an artifact ({other})");
            Err(Error::new(Code::Image, message))
        }
    }
}

/// The media type of a layer, which must be some kind of tar.
fn layer_type(descriptor: &Descriptor) -> Result<String> {
    let name = descriptor.media_type().to_string();
    if name.contains("encrypted") || !name.contains("tar") {
        let message = format!("a layer has the unsupported media type {name}");
        return Err(Error::new(Code::Unsupported, message));
    }
    Ok(name)
}
