//! The image's configuration, as the start of a box needs it.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;

use super::digest::Digest;
use crate::error::{Code, Error, Result};

/// Defaults that the image gives for the process to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the whole command where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Environment, in the image's order.
    pub env: Vec<(String, String)>,
    /// Working directory; empty: `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty: root.
    pub user: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `port/protocol`, sorted.
    pub exposed_ports: Vec<String>,
    /// Mount points that the image declares as volumes, sorted.
    pub volumes: Vec<String>,
    /// The signal that asks the process to stop, for instance `SIGTERM`.
    pub stop_signal: Option<String>,
}

/// What the config blob says.
#[derive(Debug, Clone)]
pub(super) struct ParsedConfig {
    pub config: ImageConfig,
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
    pub diff_ids: Vec<Digest>,
}

/// Reads a config blob.
pub(super) fn parse(blob: &[u8]) -> Result<ParsedConfig> {
    let parsed: ImageConfiguration = serde_json::from_slice(blob)
        .map_err(|e| Error::new(Code::Image, format!("the image's config is not valid: {e}")))?;
    let diff_ids = parsed.rootfs().diff_ids().iter();
    let diff_ids = diff_ids
        .map(|id| {
            id.parse::<Digest>()
                .map_err(|e| e.context("diff_id of a layer"))
        })
        .collect::<Result<_>>()?;
    let mut config = ImageConfig::default();
    if let Some(c) = parsed.config() {
        config.entrypoint = c.entrypoint().clone().unwrap_or_default();
        config.cmd = c.cmd().clone().unwrap_or_default();
        config.env = c.env().iter().flatten().map(|e| split_env(e)).collect();
        config.working_dir = c.working_dir().clone().unwrap_or_default();
        config.user = c.user().clone().unwrap_or_default();
        config.labels = c.labels().clone().into_iter().flatten().collect();
        config.exposed_ports = sorted(c.exposed_ports());
        config.volumes = sorted(c.volumes());
        config.stop_signal = c.stop_signal().clone().filter(|s| !s.is_empty());
    }
    Ok(ParsedConfig {
        config,
        os: parsed.os().to_string(),
        architecture: parsed.architecture().to_string(),
        variant: parsed.variant().clone(),
        diff_ids,
    })
}

fn split_env(entry: &str) -> (String, String) {
    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
    (name.to_owned(), value.to_owned())
}

fn sorted(list: &Option<Vec<String>>) -> Vec<String> {
    let mut list = list.clone().unwrap_or_default();
    list.sort();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_as_docker_writes_them_are_empty() {
        let blob = br#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z",
            "config":{"Hostname":"","User":"","AttachStdin":false,"Env":["PATH=/bin","A=b=c"],
            "Cmd":["sh"],"Image":"x","Volumes":null,"WorkingDir":"","Entrypoint":null,
            "OnBuild":null,"Labels":null,"ExposedPorts":{"80/tcp":{},"443/tcp":{}},
            "StopSignal":"SIGQUIT"},"history":[{"created":"2024-01-01T00:00:00Z"}],
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let parsed = parse(blob).unwrap();
        let config = parsed.config;
        assert_eq!(
            (parsed.os.as_str(), parsed.architecture.as_str()),
            ("linux", "amd64")
        );
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.entrypoint, Vec::<String>::new());
        assert_eq!(config.env[1], ("A".to_owned(), "b=c".to_owned()));
        assert_eq!(config.exposed_ports, ["443/tcp", "80/tcp"]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    }

    #[test]
    fn a_config_that_is_not_one_is_an_image_error() {
        for bad in ["", "{}", "[]", "{\"os\":1}"] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().code(), Code::Image);
        }
    }
}
