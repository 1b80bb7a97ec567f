//! Which boxes there are, also those whose rows cannot be read.
//!
//! One spoiled row must not hide the others: its box is listed with the status *unknown*, and can be
//! removed. Nothing else can be done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;

use super::config::{BoxConfig, RootFs, written};
use super::context::Context;
use super::handle::BoxHandle;
use super::info::{Boot, BoxInfo};
use super::main_process::MainStatus;
use super::options::{label_name, label_value, text};
use super::remove::remove;
use super::state::{BoxState, Status};
use crate::error::{Code, Error, Result};
use crate::store::{ConfigRow, StateRow};
use crate::supervisor::socket::PidFile;

/// Which boxes are to be listed: all that fit everything that is set.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    statuses: BTreeSet<i32>,
    labels: Vec<(String, Option<String>)>,
    name_prefix: Option<String>,
    image: Option<String>,
}

impl ListFilter {
    /// One that lets all boxes through.
    pub fn new() -> ListFilter {
        ListFilter::default()
    }

    /// Boxes of this status, or of another that is given too.
    pub fn status(&mut self, status: Status) {
        self.statuses.insert(status as i32);
    }

    /// Boxes with a label, of this value if one is given. Of several labels a box has to have all.
    pub fn label(&mut self, name: impl Into<String>, value: Option<String>) -> Result<()> {
        let name = label_name(name.into())?;
        let value = value.map(label_value).transpose()?;
        self.labels.push((name, value));
        Ok(())
    }

    /// Boxes whose name begins so.
    pub fn name_prefix(&mut self, prefix: impl Into<String>) -> Result<()> {
        self.name_prefix = Some(text("prefix", prefix.into())?);
        Ok(())
    }

    /// Boxes of this image, as it was given when they were made.
    pub fn image(&mut self, reference: impl Into<String>) -> Result<()> {
        self.image = Some(text("image", reference.into())?);
        Ok(())
    }

    fn fits_status(&self, status: Status) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&(status as i32))
    }

    fn fits_name(&self, name: Option<&str>) -> bool {
        let Some(prefix) = &self.name_prefix else { return true };
        name.is_some_and(|name| name.starts_with(prefix))
    }

    /// Whether a box fits whose configuration is known, or cannot be.
    fn fits(&self, row: &ConfigRow, config: Option<&BoxConfig>) -> bool {
        let labels = config.map(|c| &c.options.labels);
        let has = |(name, value): &(String, Option<String>)| {
            let held = labels.and_then(|labels| labels.get(name));
            held.is_some_and(|held| value.as_ref().is_none_or(|value| value == held))
        };
        let image = config.map(image_of);
        let of_image = self.image.as_deref().is_none_or(|wanted| image == Some(wanted));
        self.fits_name(row.name.as_deref()) && of_image && self.labels.iter().all(has)
    }
}

/// The image's reference as it was given.
pub fn image_of(config: &BoxConfig) -> &str {
    let (RootFs::Image(image) | RootFs::RootfsPath(image)) = &config.options.rootfs;
    image
}

/// The boxes that a filter lets through, newest first.
pub async fn list(
    context: &Arc<Context>,
    filter: &ListFilter,
    handle: impl Fn(BoxConfig) -> BoxHandle,
) -> Result<Vec<BoxInfo>> {
    let rows = context.blocking(|context| context.store.list_all()).await?;
    let mut infos = Vec::with_capacity(rows.len());
    for (row, _) in rows {
        let config = BoxConfig::from_row(&row);
        if !filter.fits(&row, config.as_ref().ok()) {
            continue;
        }
        let info = match config.clone() {
            Ok(config) => handle(config).info().await,
            Err(error) => Err(error),
        };
        let info = match info {
            // Removed since the rows were read.
            Err(error) if error.code() == Code::NotFound => continue,
            Err(error) if error.code() == Code::Metadata => {
                unreadable(context, &row, config.ok(), &error).await?
            }
            other => other?,
        };
        if filter.fits_status(info.status) {
            infos.push(info);
        }
    }
    Ok(infos)
}

/// What there is to tell of a box whose rows cannot be read.
async fn unreadable(
    context: &Arc<Context>,
    row: &ConfigRow,
    config: Option<BoxConfig>,
    error: &Error,
) -> Result<BoxInfo> {
    let box_dir = context.home.of_box(&row.id);
    let holder = context.blocking(move |_| Ok(PidFile::holder(&box_dir).ok().flatten()));
    let created = DateTime::from_timestamp(row.created_at, 0).unwrap_or_default();
    let options = config.as_ref().map(|c| &c.options);
    Ok(BoxInfo {
        id: row.id.clone(),
        name: row.name.clone(),
        status: Status::Unknown,
        image: config.as_ref().map_or(String::new(), |c| image_of(c).to_owned()),
        cpus: options.map_or(0, |o| o.cpus),
        memory_mib: options.map_or(0, |o| o.memory_mib),
        disk_size_mib: options.map_or(0, |o| o.disk_size_mib),
        created_at: config.as_ref().map_or_else(|| written(created), |c| c.created_at.clone()),
        pid: holder.await?,
        accelerator: None,
        boot: Boot::Unknown,
        error: Some(error.message().to_owned()),
        stages: Vec::new(),
        labels: options.map_or_else(BTreeMap::new, |o| o.labels.clone()),
        health: None,
        auto_remove: options.is_some_and(|o| o.auto_remove),
        main: MainStatus::None,
        detach: options.is_some_and(|o| o.detach),
    })
}

/// The configuration of a box all of whose rows can be read.
pub fn readable((config, state): &(ConfigRow, StateRow)) -> Result<BoxConfig> {
    BoxState::from_row(state)?;
    BoxConfig::from_row(config)
}

/// Removes a box whose configuration cannot be read. With `force` a supervisor that serves it is
/// killed, and the machine with it: there is no other way to end it.
pub async fn remove_unreadable(context: &Arc<Context>, id: &str, force: bool) -> Result<()> {
    let id = id.to_owned();
    let work = context.clone();
    let removal = async move {
        work.blocking(move |context| {
            let box_dir = context.home.of_box(&id);
            let failed = |e| Error::io(Code::Engine, "end the box's supervisor", &e).object(&*id);
            match PidFile::holder(&box_dir).map_err(failed)? {
                Some(pid) if force => PidFile::kill_holder(&box_dir, pid).map_err(failed)?,
                Some(pid) => {
                    let text = format!(
                        "box {id} is running (its supervisor is process {pid}), and its rows cannot \
                         be read: remove it with force"
                    );
                    return Err(Error::new(Code::InvalidState, text).object(id));
                }
                None => {}
            }
            remove(context, &id)?;
            tracing::info!("box {id} removed, whose rows could not be read");
            Ok(())
        })
        .await
    };
    context.finish(removal).await
}
