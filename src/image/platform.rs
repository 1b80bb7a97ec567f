//! Which of several images fits this machine.

use std::fmt;

use oci_spec::image::Platform as OciPlatform;

use super::config::ParsedConfig;

/// An operating system and processor, in the names of the Go language that images use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// For instance `linux`.
    pub os: String,
    /// For instance `amd64`.
    pub architecture: String,
    /// For instance `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// What boxes on this machine run.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// How well an image for `self` runs on `host`: smaller is better, `None` is not at all.
    ///
    /// A plain image beats one for a particular variant; among variants the lower runs on more
    /// processors.
    pub(super) fn rank_on(&self, host: &Platform) -> Option<u32> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        let accepted: &[&str] = match self.architecture.as_str() {
            "amd64" => &["", "v1", "v2", "v3"],
            "arm64" => &["", "v8", "8", "v8.0"],
            _ => &[""],
        };
        let variant = self.variant.as_deref().unwrap_or("");
        let place = accepted.iter().position(|v| *v == variant)?;
        u32::try_from(place).ok()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl From<&OciPlatform> for Platform {
    fn from(platform: &OciPlatform) -> Platform {
        Platform {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone().filter(|v| !v.is_empty()),
        }
    }
}

impl From<&ParsedConfig> for Platform {
    fn from(config: &ParsedConfig) -> Platform {
        Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone().filter(|v| !v.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_images_come_before_variants_and_others_not_at_all() {
        let platform = |os: &str, architecture: &str, variant: &str| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: (!variant.is_empty()).then(|| variant.to_owned()),
        };
        let host = platform("linux", "amd64", "");
        let rank = |p: Platform| p.rank_on(&host);
        assert!(rank(platform("linux", "amd64", "")) < rank(platform("linux", "amd64", "v2")));
        assert!(rank(platform("linux", "amd64", "v2")) < rank(platform("linux", "amd64", "v3")));
        assert_eq!(rank(platform("linux", "amd64", "v4")), None);
        assert_eq!(rank(platform("linux", "arm64", "v8")), None);
        assert_eq!(rank(platform("windows", "amd64", "")), None);
    }
}
