//! OCI image layouts: `index.json`, blobs by digest, and the choice among several images.

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use super::digest::Digest;
use super::files::{Files, read_small};
use super::platform::Platform;
use crate::error::{Code, Error, Result};

/// The largest manifest or index.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The largest config.
pub const MAX_CONFIG: u64 = 8 << 20;
/// Indexes in indexes.
const MAX_DEPTH: usize = 4;
/// Manifests that all indexes of an image name together.
const MAX_DESCRIPTORS: usize = 10_000;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const DOCKER_REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Whether `files` is an OCI layout.
pub fn is_layout(files: &dyn Files) -> Result<bool> {
    Ok(files.open("oci-layout")?.is_some() && files.open("index.json")?.is_some())
}

/// The name of a blob's file in a layout.
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm_name(), digest.hex())
}

/// The manifest that fits `tag` and `host`: its digest and bytes, verified.
pub fn select(files: &dyn Files, tag: Option<&str>, host: &Platform) -> Result<(Digest, Vec<u8>)> {
    let bytes = read_small(files, "index.json", MAX_MANIFEST)?
        .ok_or_else(|| Error::new(Code::Image, "index.json is missing"))?;
    let index = parse_index("index.json", &bytes)?;
    let named: Vec<&Descriptor> = match tag {
        None => index.manifests().iter().collect(),
        Some(tag) => index
            .manifests()
            .iter()
            .filter(|d| names(d).iter().any(|n| name_matches(n, tag)))
            .collect(),
    };
    if named.is_empty() {
        return Err(match tag {
            None => Error::new(Code::Image, "the layout holds no image"),
            Some(tag) => no_such_tag(tag, index.manifests()),
        });
    }
    let mut search = Search {
        files,
        host,
        seen: 0,
        candidates: Vec::new(),
        others: Vec::new(),
    };
    for (top, descriptor) in named.iter().enumerate() {
        search.visit(descriptor, top, 0)?;
    }
    let best = search.best(&named)?;
    let digest = parse_digest(&best)?;
    let bytes = read_blob(files, "the manifest", &best, MAX_MANIFEST)?;
    Ok((digest, bytes))
}

/// Reads the blob of a descriptor and verifies size and digest.
pub fn read_blob(
    files: &dyn Files,
    what: &str,
    descriptor: &Descriptor,
    max: u64,
) -> Result<Vec<u8>> {
    let digest = parse_digest(descriptor)?;
    if descriptor.size() > max {
        let message = format!(
            "{what} {digest} has {} bytes; at most {max} are accepted",
            descriptor.size()
        );
        return Err(Error::new(Code::Image, message));
    }
    let bytes =
        read_small(files, &blob_name(&digest), max)?.ok_or_else(|| missing(what, &digest))?;
    check_size(what, &digest, descriptor.size(), bytes.len() as u64)?;
    digest.verify(what, &bytes)?;
    Ok(bytes)
}

/// Fails when a blob has not the size that its descriptor gives.
pub fn check_size(what: &str, digest: &Digest, want: u64, found: u64) -> Result<()> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let how = match found.cmp(&want) {
        Equal => return Ok(()),
        Less => "truncated",
        Greater => "too long",
    };
    let message = format!("{what} {digest} is {how}: {found} of {want} bytes");
    Err(Error::new(Code::Image, message))
}

/// The error for a blob that is not there.
pub fn missing(what: &str, digest: &Digest) -> Error {
    let message = format!("{what} {digest} is missing from the image");
    Error::new(Code::Image, message)
}

/// The digest of a descriptor.
pub fn parse_digest(descriptor: &Descriptor) -> Result<Digest> {
    descriptor.digest().to_string().parse()
}

/// Reads a manifest.
pub fn parse_manifest(bytes: &[u8]) -> Result<ImageManifest> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::new(
            Code::Image,
            format!("the image's manifest is not valid: {e}"),
        )
    })
}

fn parse_index(what: &str, bytes: &[u8]) -> Result<ImageIndex> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::new(
            Code::Image,
            format!("{what} is not a valid image index: {e}"),
        )
    })
}

struct Candidate {
    rank: u32,
    /// Which entry of `index.json` it comes from.
    top: usize,
    descriptor: Descriptor,
}

struct Search<'s> {
    files: &'s dyn Files,
    host: &'s Platform,
    seen: usize,
    candidates: Vec<Candidate>,
    /// Platforms that do not fit.
    others: Vec<String>,
}

impl Search<'_> {
    fn visit(&mut self, descriptor: &Descriptor, top: usize, depth: usize) -> Result<()> {
        self.seen += 1;
        if self.seen > MAX_DESCRIPTORS {
            let message = format!("the image's indexes name more than {MAX_DESCRIPTORS} manifests");
            return Err(Error::new(Code::Image, message));
        }
        let annotations = descriptor.annotations().as_ref();
        if annotations.is_some_and(|a| a.contains_key(DOCKER_REFERENCE_TYPE)) {
            return Ok(()); // says something about another manifest
        }
        match descriptor.media_type() {
            MediaType::ImageIndex => self.visit_index(descriptor, top, depth),
            MediaType::Other(t) if t == DOCKER_MANIFEST_LIST => {
                self.visit_index(descriptor, top, depth)
            }
            MediaType::ImageManifest => self.consider(descriptor, top),
            MediaType::Other(t) if t == DOCKER_MANIFEST => self.consider(descriptor, top),
            other => {
                self.others.push(format!("media type {other}"));
                Ok(())
            }
        }
    }

    fn visit_index(&mut self, descriptor: &Descriptor, top: usize, depth: usize) -> Result<()> {
        if depth >= MAX_DEPTH {
            let message = format!("the image's indexes are nested more than {MAX_DEPTH} deep");
            return Err(Error::new(Code::Image, message));
        }
        let bytes = read_blob(self.files, "the index", descriptor, MAX_MANIFEST)?;
        let index = parse_index("a nested index", &bytes)?;
        for inner in index.manifests() {
            self.visit(inner, top, depth + 1)?;
        }
        Ok(())
    }

    fn consider(&mut self, descriptor: &Descriptor, top: usize) -> Result<()> {
        let rank = match descriptor.platform() {
            // Then the config will tell.
            None => Some(0),
            Some(platform) => {
                let platform = Platform::from(platform);
                let rank = platform.rank_on(self.host);
                if rank.is_none() {
                    self.others.push(platform.to_string());
                }
                rank
            }
        };
        if let Some(rank) = rank {
            self.candidates.push(Candidate {
                rank,
                top,
                descriptor: descriptor.clone(),
            });
        }
        Ok(())
    }

    fn best(mut self, named: &[&Descriptor]) -> Result<Descriptor> {
        let best = self.candidates.iter().map(|c| c.rank).min();
        let Some(best) = best else {
            self.others.sort();
            self.others.dedup();
            let message = format!(
                "the image is not for this machine ({}): it has {}",
                self.host,
                list(&self.others)
            );
            return Err(Error::new(Code::Image, message));
        };
        self.candidates.retain(|c| c.rank == best);
        let first = self.candidates.swap_remove(0);
        let is_same = |c: &Candidate| c.descriptor.digest() == first.descriptor.digest();
        if self.candidates.iter().all(is_same) {
            return Ok(first.descriptor);
        }
        let tops = self.candidates.iter().chain([&first]).map(|c| c.top);
        let mut choices: Vec<String> = tops
            .filter_map(|top| named.get(top))
            .flat_map(|d| match names(d)[..] {
                [] => vec![d.digest().to_string()],
                ref names => names.to_vec(),
            })
            .collect();
        choices.sort();
        choices.dedup();
        let message = format!(
            "there are several images: {}; name one, as PATH:TAG",
            list(&choices)
        );
        Err(Error::new(Code::Image, message))
    }
}

fn names(descriptor: &Descriptor) -> Vec<String> {
    let annotations = descriptor.annotations().as_ref();
    [REF_NAME, CONTAINERD_NAME]
        .iter()
        .filter_map(|key| annotations?.get(*key).cloned())
        .collect()
}

/// Whether an image called `name` is what `wanted` asks for: the same name, or the same tag, or
/// the same after Docker's defaults.
pub fn name_matches(name: &str, wanted: &str) -> bool {
    let tag = name
        .rsplit('/')
        .next()
        .and_then(|last| last.split_once(':'));
    name == wanted
        || tag.is_some_and(|(_, tag)| tag == wanted)
        || with_defaults(name) == with_defaults(wanted)
}

fn with_defaults(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = match last.contains([':', '@']) {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    };
    match tagged.split_once('/') {
        None => format!("docker.io/library/{tagged}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => tagged,
        Some(_) => format!("docker.io/{tagged}"),
    }
}

fn no_such_tag(tag: &str, manifests: &[Descriptor]) -> Error {
    let mut have: Vec<String> = manifests.iter().flat_map(names).collect();
    have.sort();
    have.dedup();
    let message = match have.len() {
        0 => format!("there is no image {tag:?}: the images here have no names"),
        _ => format!("there is no image {tag:?}: there is {}", list(&have)),
    };
    Error::new(Code::Image, message)
}

/// The first few of a list, for a message.
pub fn list(items: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = items[..items.len().min(SHOWN)].join(", ");
    match items.len() {
        0 => text.push_str("none"),
        n if n > SHOWN => text.push_str(&format!(" and {} more", n - SHOWN)),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_matches_names_as_docker_would_write_them() {
        let full = "docker.io/library/busybox:1.36";
        for wanted in ["1.36", "busybox:1.36", full, "library/busybox:1.36"] {
            assert!(name_matches(full, wanted), "{wanted}");
        }
        assert!(name_matches("busybox:latest", "busybox"));
        assert!(name_matches("v1", "v1"));
        for wanted in ["1.3", "busybox", "box:1.36", "quay.io/library/busybox:1.36"] {
            assert!(!name_matches(full, wanted), "{wanted}");
        }
    }
}
