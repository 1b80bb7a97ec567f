//! The JSON of a box's configuration.
//!
//! Field names are those of the software whose homes can be adopted; fields that this version
//! does not know are carried along.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::main_process::{Main, OnMainExit};
use super::options::{BoxOptions, HealthCheck};
use crate::error::{Code, Error, Result};
use crate::store::ConfigRow;

/// What a box is. Written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoxConfig {
    pub id: String,
    pub name: Option<String>,
    /// RFC 3339 with nanoseconds.
    pub created_at: String,
    pub container: Container,
    pub options: Options,
    /// What the image said when the box was made.
    #[serde(default)]
    pub image: ImageInfo,
    #[serde(default)]
    pub engine_kind: String,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// 64 hexadecimal digits, random.
    pub id: String,
}

/// Numbers that other software left out, or set to null, are 0 until [`BoxConfig::from_row`] has filled
/// them in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    #[serde(default, deserialize_with = "or_default")]
    pub cpus: u32,
    #[serde(default, deserialize_with = "or_default")]
    pub memory_mib: u32,
    #[serde(default, deserialize_with = "or_default")]
    pub disk_size_mib: u64,
    pub working_dir: Option<String>,
    #[serde(default)]
    pub env: Vec<(String, String)>,
    pub rootfs: RootFs,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub user: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub start_timeout_ms: u64,
    #[serde(default)]
    pub cold_boot: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub auto_remove: bool,
    /// After so many seconds without a command.
    #[serde(default)]
    pub idle_stop_s: Option<u64>,
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// Whether it outlives the program that starts it.
    #[serde(default, deserialize_with = "or_default")]
    pub detach: bool,
    #[serde(default)]
    pub main: Main,
    #[serde(default)]
    pub on_main_exit: OnMainExit,
    /// How much is kept of each output of detached commands.
    #[serde(default, deserialize_with = "or_default")]
    pub spool_bytes: u64,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RootFs {
    /// An image reference.
    Image(String),
    /// A directory.
    RootfsPath(String),
}

/// What a box keeps of its image: enough to start without it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageInfo {
    pub manifest_digest: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: String,
    pub user: String,
}

/// A null where a number belongs.
fn or_default<'d, D: serde::Deserializer<'d>, T: Deserialize<'d> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Options {
    /// Fills in what other software did not write: its own default, or the same in other units.
    fn complete(&mut self) {
        let or = |value: &mut u32, default| *value = if *value == 0 { default } else { *value };
        or(&mut self.cpus, super::options::DEFAULT_CPUS);
        or(&mut self.memory_mib, super::options::DEFAULT_MEMORY_MIB);
        if self.disk_size_mib == 0 {
            let gigabytes = self.unknown.get("disk_size_gb").and_then(Value::as_u64);
            let size = gigabytes.map(|g| g.saturating_mul(1024));
            self.disk_size_mib = size.unwrap_or(super::options::DEFAULT_DISK_SIZE_MIB);
        }
        if self.spool_bytes == 0 {
            self.spool_bytes = super::options::DEFAULT_SPOOL_BYTES;
        }
        if self.start_timeout_ms == 0 {
            let default = super::options::DEFAULT_START_TIMEOUT.as_millis();
            self.start_timeout_ms = u64::try_from(default).unwrap_or(u64::MAX);
        }
    }
}

/// That a column of a box's rows is not what this version understands.
pub(super) fn unreadable(id: &str, what: &str, why: &dyn std::fmt::Display) -> Error {
    let text =
        format!("the stored {what} of box {id} is unreadable: {why}; it can only be removed");
    Error::new(Code::Metadata, text).object(id)
}

impl Container {
    /// A new one: its id is random.
    pub fn new() -> Result<Container> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|e| {
            Error::new(Code::Internal, format!("no random bytes from the host: {e}"))
        })?;
        Ok(Container { id: random.iter().map(|b| format!("{b:02x}")).collect() })
    }
}

impl BoxConfig {
    /// That of a new box.
    pub fn new(id: &str, options: &BoxOptions, image: ImageInfo) -> Result<BoxConfig> {
        let timeout = options.start_timeout.as_millis();
        Ok(BoxConfig {
            id: id.to_owned(),
            name: options.name.clone(),
            created_at: now(),
            container: Container::new()?,
            options: Options {
                cpus: options.cpus,
                memory_mib: options.memory_mib,
                disk_size_mib: options.disk_size_mib,
                working_dir: options.working_dir.clone(),
                env: options.env.clone(),
                rootfs: RootFs::Image(options.image.clone()),
                entrypoint: options.entrypoint.clone(),
                cmd: options.cmd.clone(),
                user: options.user.clone(),
                start_timeout_ms: u64::try_from(timeout).unwrap_or(u64::MAX),
                cold_boot: options.cold_boot,
                labels: options.labels.clone(),
                auto_remove: options.auto_remove,
                idle_stop_s: options.idle_stop.map(|after| after.as_secs()),
                health_check: options.health_check.clone(),
                detach: options.detach,
                main: options.main.clone(),
                on_main_exit: options.on_main_exit,
                spool_bytes: options.spool_bytes,
                unknown: Map::new(),
            },
            image,
            engine_kind: "Qemu".into(),
            unknown: Map::new(),
        })
    }

    pub fn from_row(row: &ConfigRow) -> Result<BoxConfig> {
        let mut config: BoxConfig = serde_json::from_str(&row.json)
            .map_err(|e| unreadable(&row.id, "configuration", &e))?;
        // Paths are made of it: it must not lead to the files of another box.
        if config.id != row.id {
            let text = format!("is that of another box, '{}'", config.id);
            return Err(unreadable(&row.id, "configuration", &text));
        }
        config.options.complete();
        Ok(config)
    }

    pub fn to_row(&self, created: DateTime<Utc>) -> Result<ConfigRow> {
        Ok(ConfigRow {
            id: self.id.clone(),
            name: self.name.clone(),
            created_at: created.timestamp(),
            json: serde_json::to_string(self)
                .map_err(|e| unreadable(&self.id, "configuration", &e))?,
        })
    }

    /// The command that the box runs of itself, by the rules of container runtimes: a new
    /// entrypoint makes the image's cmd meaningless.
    pub fn command(&self) -> Vec<String> {
        let image = &self.image;
        let options = &self.options;
        let entrypoint = options.entrypoint.as_ref().unwrap_or(&image.entrypoint);
        let image_cmd = if options.entrypoint.is_some() { &[][..] } else { &image.cmd };
        let cmd = options.cmd.as_deref().unwrap_or(image_cmd);
        entrypoint.iter().chain(cmd).cloned().collect()
    }
}

/// The time as it is written into rows.
pub fn now() -> String {
    written(Utc::now())
}

pub fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) -> BoxConfig {
        let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        BoxConfig {
            id: "x".into(),
            name: None,
            created_at: now(),
            container: Container { id: String::new() },
            options: Options {
                cpus: 1,
                memory_mib: 512,
                disk_size_mib: 1,
                working_dir: None,
                env: vec![],
                rootfs: RootFs::Image("i".into()),
                entrypoint: entrypoint.map(list),
                cmd: cmd.map(list),
                user: None,
                start_timeout_ms: 1,
                cold_boot: false,
                labels: BTreeMap::new(),
                auto_remove: false,
                idle_stop_s: None,
                health_check: None,
                detach: false,
                main: Main::None,
                on_main_exit: OnMainExit::Stop,
                spool_bytes: 4096,
                unknown: Map::new(),
            },
            image: ImageInfo {
                entrypoint: list(&["ie"]),
                cmd: list(&["ic"]),
                ..ImageInfo::default()
            },
            engine_kind: "Qemu".into(),
            unknown: Map::new(),
        }
    }

    #[test]
    fn a_configuration_of_another_box_is_not_taken() {
        let mut row = config(None, None).to_row(Utc::now()).unwrap();
        assert!(BoxConfig::from_row(&row).is_ok());
        row.id = "y".into();
        assert_eq!(BoxConfig::from_row(&row).unwrap_err().code(), Code::Metadata);
    }

    #[test]
    fn entrypoint_and_cmd_combine_as_in_container_runtimes() {
        assert_eq!(config(None, None).command(), ["ie", "ic"]);
        assert_eq!(config(None, Some(&["c"])).command(), ["ie", "c"]);
        assert_eq!(config(Some(&["e"]), None).command(), ["e"]);
        assert_eq!(config(Some(&["e"]), Some(&["c"])).command(), ["e", "c"]);
        assert_eq!(config(Some(&[]), Some(&["c"])).command(), ["c"]);
    }
}
