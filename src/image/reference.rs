//! References to images on this machine: a path, perhaps a transport before and a tag behind.

use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// What a transport prefix demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// No prefix: look at what is there.
    Any,
    /// `oci:`, a layout directory.
    OciLayout,
    /// `oci-archive:`, a tar file of a layout.
    OciArchive,
    /// `docker-archive:`, what `docker save` writes.
    DockerArchive,
}

/// A reference taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReference {
    pub transport: Transport,
    pub path: PathBuf,
    /// Which image, where there are several.
    pub tag: Option<String>,
}

const PREFIXES: [(&str, Transport); 3] = [
    ("oci:", Transport::OciLayout),
    ("oci-archive:", Transport::OciArchive),
    ("docker-archive:", Transport::DockerArchive),
];

/// Takes `reference` apart; the path must exist.
///
/// Paths may contain colons: the longest part before one that exists is the path.
pub fn parse(reference: &str) -> Result<LocalReference> {
    let prefix = PREFIXES.iter().find_map(|(p, t)| Some((*t, reference.strip_prefix(p)?)));
    let (transport, rest) = prefix.unwrap_or((Transport::Any, reference));
    let found = |path: &str, tag: Option<&str>| LocalReference {
        transport,
        path: PathBuf::from(path),
        tag: tag.map(str::to_owned),
    };
    if rest.is_empty() {
        let message = "an image reference is empty: give the path of an image";
        return Err(Error::new(Code::InvalidArgument, message).object(reference));
    }
    if exists(Path::new(rest))? {
        return Ok(found(rest, None));
    }
    for (colon, _) in rest.rmatch_indices(':') {
        let (path, tag) = (&rest[..colon], &rest[colon + 1..]);
        if !path.is_empty() && !tag.is_empty() && exists(Path::new(path))? {
            return Ok(found(path, Some(tag)));
        }
    }
    let looked_for = match rest.split_once(':') {
        Some((path, _)) if !path.is_empty() => format!("neither {rest:?} nor {path:?} is"),
        _ => format!("{rest:?} is not"),
    };
    let message = format!(
        "no such image: {looked_for} a path on this machine. Only OCI layout directories, OCI \
         archives and `docker save` archives are supported so far (PATH[:TAG], oci:PATH[:TAG], \
         oci-archive:PATH[:TAG], docker-archive:PATH[:REF]); save the image of a registry into \
         one first, for instance with `skopeo copy docker://REF oci:PATH:TAG`"
    );
    Err(Error::new(Code::Image, message).object(reference))
}

fn exists(path: &Path) -> Result<bool> {
    use std::io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    match path.metadata() {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), NotFound | NotADirectory | InvalidInput) => Ok(false),
        Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => Ok(false),
        Err(e) => Err(Error::io(Code::Image, format!("look for the image {}", path.display()), &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_existing_path_is_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().to_str().unwrap();
        for name in ["a", "a:b"] {
            std::fs::write(directory.path().join(name), b"").unwrap();
        }
        let parsed = |suffix: &str| {
            let r = parse(&format!("{base}/{suffix}")).unwrap();
            let name = r.path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, r.tag)
        };
        assert_eq!(parsed("a"), ("a".into(), None));
        assert_eq!(parsed("a:b"), ("a:b".into(), None));
        assert_eq!(parsed("a:c"), ("a".into(), Some("c".into())));
        let full = ("a:b".into(), Some("host:5000/x:1".into()));
        assert_eq!(parsed("a:b:host:5000/x:1"), full);
        let archive = parse(&format!("docker-archive:{base}/a:x:1")).unwrap();
        assert_eq!(archive.transport, Transport::DockerArchive);
        assert_eq!(archive.tag.as_deref(), Some("x:1"));
    }

    #[test]
    fn a_missing_path_says_what_was_looked_for_and_what_is_supported() {
        let error = parse("debian:12").unwrap_err();
        assert_eq!(error.code(), Code::Image);
        for part in ["\"debian:12\"", "\"debian\"", "docker save", "oci-archive:"] {
            assert!(error.message().contains(part), "{error}");
        }
        assert_eq!(parse("oci:").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(parse("a\0b").unwrap_err().code(), Code::Image);
    }
}
