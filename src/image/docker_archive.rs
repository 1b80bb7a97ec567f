//! Archives of `docker save` without an OCI layout in them: `manifest.json`, configs and layers.

use oci_spec::image::{DescriptorBuilder, ImageManifestBuilder, MediaType};
use serde::Deserialize;

use super::compression::{Compression, detect};
use super::config;
use super::digest::Digest;
use super::files::{Files, read_small};
use super::layout::{MAX_CONFIG, MAX_MANIFEST, list, name_matches};
use crate::error::{Code, Error, Result};

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// A saved image with the manifest that it would have as an OCI image.
#[derive(Debug)]
pub struct Saved {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    /// Names of the layers' files, lowest first.
    pub layers: Vec<SavedLayer>,
}

/// One layer's file.
#[derive(Debug)]
pub struct SavedLayer {
    pub name: String,
    pub size: u64,
    pub compressed: bool,
}

/// Whether `files` is such an archive.
pub fn is_archive(files: &dyn Files) -> Result<bool> {
    Ok(files.open("manifest.json")?.is_some())
}

/// The image called `reference`, or the only one.
pub fn select(files: &dyn Files, reference: Option<&str>) -> Result<Saved> {
    let bytes = read_small(files, "manifest.json", MAX_MANIFEST)?
        .ok_or_else(|| Error::new(Code::Image, "manifest.json is missing"))?;
    let images: Vec<SavedImage> = serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(Code::Image, format!("manifest.json is not valid: {e}")))?;
    let image = choose(&images, reference)?;
    let config = read_small(files, &image.config, MAX_CONFIG)?.ok_or_else(|| {
        let message = format!("the config {:?} is missing from the archive", image.config);
        Error::new(Code::Image, message)
    })?;
    verify_config(&image.config, &config)?;
    let layers = image.layers.iter().flatten();
    let layers: Vec<SavedLayer> = layers.map(|name| layer(files, name)).collect::<Result<_>>()?;
    let manifest = manifest(&config, &layers)?;
    Ok(Saved { manifest, config, layers })
}

fn choose<'i>(images: &'i [SavedImage], reference: Option<&str>) -> Result<&'i SavedImage> {
    let tags = |image: &SavedImage| image.repo_tags.clone().unwrap_or_default();
    let all = || -> Vec<String> { images.iter().flat_map(tags).collect() };
    match (reference, images) {
        (None, []) => Err(Error::new(Code::Image, "the archive holds no image")),
        (None, [only]) => Ok(only),
        (None, _) => {
            let message = format!("there are several images: {}; name one", list(&all()));
            Err(Error::new(Code::Image, message))
        }
        (Some(wanted), _) => images
            .iter()
            .find(|i| tags(i).iter().any(|t| name_matches(t, wanted)))
            .ok_or_else(|| {
                let have = list(&all());
                let message = format!("there is no image {wanted:?}: there is {have}");
                Error::new(Code::Image, message)
            }),
    }
}

/// A config's file is named by its digest: `HEX.json`, or as a blob.
fn verify_config(name: &str, config: &[u8]) -> Result<()> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_suffix(".json").unwrap_or(last);
    match format!("sha256:{hex}").parse::<Digest>() {
        Ok(digest) => digest.verify("the config", config),
        Err(_) => Ok(()), // named in another way
    }
}

fn layer(files: &dyn Files, name: &str) -> Result<SavedLayer> {
    let Some((mut reader, size)) = files.open(name)? else {
        let message = format!("the layer {name:?} is missing from the archive");
        return Err(Error::new(Code::Image, message));
    };
    let mut start = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut reader, 8), &mut start)
        .map_err(|e| Error::io(Code::Storage, format!("read {name}"), &e))?;
    Ok(SavedLayer {
        name: name.to_owned(),
        size,
        compressed: detect(&start).map_err(|e| e.context(name))? != Compression::None,
    })
}

/// The manifest that stands for the image. A layer goes by its diff_id: the archive has no
/// digest of a compressed file.
fn manifest(config: &[u8], layers: &[SavedLayer]) -> Result<Vec<u8>> {
    let diff_ids = config::parse(config)?.diff_ids;
    let internal = |e: &dyn std::fmt::Display| Error::new(Code::Image, format!("manifest: {e}"));
    let descriptor = |media_type: MediaType, digest: &Digest, size: u64| {
        let digest: oci_spec::image::Digest =
            digest.to_string().parse().map_err(|e| internal(&e))?;
        DescriptorBuilder::default()
            .media_type(media_type)
            .digest(digest)
            .size(size)
            .build()
            .map_err(|e| internal(&e))
    };
    let layers = diff_ids
        .iter()
        .zip(layers)
        .map(|(id, layer)| descriptor(MediaType::ImageLayer, id, layer.size))
        .collect::<Result<Vec<_>>>()?;
    let config_digest = Digest::of(config);
    let config = descriptor(MediaType::ImageConfig, &config_digest, config.len() as u64)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .build()
        .map_err(|e| internal(&e))?;
    serde_json::to_vec(&manifest).map_err(|e| internal(&e))
}
