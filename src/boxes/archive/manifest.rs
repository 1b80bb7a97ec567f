//! What an archive says of its box.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::super::config::{BoxConfig, ImageInfo, Options, RootFs, now};
use super::super::options::{BoxOptions, HealthCheck};
use super::VERSION;
use crate::error::{Code, Error, Result};

const MIB: u64 = 1 << 20;

/// `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the format.
    pub version: u64,
    /// When the archive was made, RFC 3339.
    pub exported_at: String,
    /// The box's name.
    pub name: Option<String>,
    /// What the box's image said when the box was made.
    pub image: ImageInfo,
    /// As they are stored with a box.
    pub options: Options,
    pub disk: DiskFile,
    /// Each after those that it is on.
    pub snapshots: Vec<SnapshotFile>,
}

/// A qcow2 file of the archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFile {
    /// Its name in the archive.
    pub file: String,
    /// The snapshot that it is on; without one it is on nothing.
    pub parent: Option<String>,
    /// What a guest sees.
    pub virtual_bytes: u64,
    /// The file's length.
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

/// A snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotFile {
    pub name: String,
    /// When it was made, in seconds since the Unix epoch.
    pub created_at: i64,
    pub disk: DiskFile,
}

impl Manifest {
    pub fn of(config: &BoxConfig, disk: DiskFile, snapshots: Vec<SnapshotFile>) -> Manifest {
        Manifest {
            version: VERSION,
            exported_at: now(),
            name: config.name.clone(),
            image: config.image.clone(),
            options: config.options.clone(),
            disk,
            snapshots,
        }
    }

    /// Reads one. Another version says so, whatever else it may have.
    pub fn parse(bytes: &[u8]) -> Result<Manifest> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let bad = |e: serde_json::Error| {
            Error::new(Code::InvalidArgument, format!("its manifest is not valid: {e}"))
        };
        let Version { version } = serde_json::from_slice(bytes).map_err(bad)?;
        if version != VERSION {
            let text = format!(
                "it is an archive of version {version}, and this library reads version {VERSION}: export \
                 the box with a version of libboxlite that fits"
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        serde_json::from_slice(bytes).map_err(bad)
    }

    /// The options of a box that is made of it: all of them go through the rules for options. What they
    /// have beyond those is of other software, and is only there if the archive is trusted.
    pub fn options(&self, name: Option<String>) -> Result<BoxOptions> {
        self.checked(name).map_err(|e| e.context("its manifest has options that no box can have"))
    }

    fn checked(&self, name: Option<String>) -> Result<BoxOptions> {
        let stored = &self.options;
        check_image(&self.image)?;
        let mut options = BoxOptions::new(self.image_name())?;
        name.map_or(Ok(()), |name| options.name(name))?;
        options.cpus(stored.cpus)?;
        options.memory_mib(stored.memory_mib)?;
        options.disk_size_mib(self.disk.virtual_bytes.div_ceil(MIB))?;
        stored.env.iter().try_for_each(|(name, value)| options.env(name, value))?;
        stored.working_dir.iter().try_for_each(|path| options.working_dir(path))?;
        stored.user.iter().try_for_each(|user| options.user(user))?;
        stored.entrypoint.iter().try_for_each(|argv| options.entrypoint(argv.clone()))?;
        stored.cmd.iter().try_for_each(|argv| options.cmd(argv.clone()))?;
        options.start_timeout(std::time::Duration::from_millis(stored.start_timeout_ms))?;
        options.cold_boot(stored.cold_boot);
        stored.labels.iter().try_for_each(|(name, value)| options.label(name, value))?;
        options.auto_remove(stored.auto_remove);
        let idle_stop = stored.idle_stop_s.map(std::time::Duration::from_secs);
        idle_stop.map_or(Ok(()), |after| options.idle_stop(after))?;
        options.detach(stored.detach);
        options.main(stored.main.clone())?;
        options.on_main_exit(stored.on_main_exit);
        options.spool_bytes(stored.spool_bytes)?;
        stored.health_check.iter().try_for_each(|check| {
            options.health_check(HealthCheck::checked(check)?);
            Ok::<(), Error>(())
        })?;
        Ok(options)
    }

    /// What to call the image. A path of another host means nothing here, and tells of that host.
    fn image_name(&self) -> String {
        let (RootFs::Image(image) | RootFs::RootfsPath(image)) = &self.options.rootfs;
        let is_path = matches!(self.options.rootfs, RootFs::RootfsPath(_))
            || image.starts_with(['/', '.', '~']);
        let last = || image.trim_end_matches('/').rsplit('/').next().unwrap_or(image);
        let name = if is_path { last() } else { image };
        if name.is_empty() { "imported".to_owned() } else { name.to_owned() }
    }

    /// The configuration of a box that is made of it.
    pub fn configure(&self, id: &str, options: &BoxOptions, trusted: bool) -> Result<BoxConfig> {
        let mut config = BoxConfig::new(id, options, self.image.clone())?;
        if trusted {
            config.options.rootfs = self.options.rootfs.clone();
            config.options.unknown = self.options.unknown.clone();
        } else {
            config.options.unknown = Map::new();
        }
        Ok(config)
    }
}

/// What an image said keeps to the rules for what options say in its place.
fn check_image(image: &ImageInfo) -> Result<()> {
    let mut options = BoxOptions::new("image")?;
    options.entrypoint(image.entrypoint.clone())?;
    options.cmd(image.cmd.clone())?;
    image.env.iter().try_for_each(|(name, value)| options.env(name, value))?;
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    set(&image.working_dir).map_or(Ok(()), |path| options.working_dir(path))?;
    set(&image.user).map_or(Ok(()), |user| options.user(user))
}
