//! From options to a box that can be started: image, disk, rows. Nothing of a box that could not
//! be made stays behind.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use chrono::Utc;

use super::archive::Course;
use super::config::{BoxConfig, ImageInfo, now};
use super::context::Context;
use super::events::What;
use super::identity;
use super::plain::PlainDisk;
use super::remove::{self, CREATE};
use super::state::BoxState;
use super::{BoxOptions, Observer, Progress};
use crate::disk::chain::named_from;
use crate::disk::durable::sync_directory;
use crate::disk::overlay::{self, DiskFormat, RawBase};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::image::{DiskCache, Image, Resolver};
use crate::store::ImageRow;

const MIB: u64 = 1 << 20;

/// Makes a box. When `cancelled` is ready first, this ends with CANCELLED and without a box, however
/// far it was. Dropping the future undoes it too, a little later.
pub async fn create(
    context: &Arc<Context>,
    options: &BoxOptions,
    observer: Option<Observer>,
    cancelled: impl Future<Output = ()>,
) -> Result<BoxConfig> {
    let options = options.clone();
    let create = move |context: &Context, cancelled: &dyn Fn() -> bool| {
        Creation { context, observer, cancelled }.run(&options)
    };
    unless(context, cancelled, create).await
}

/// Has a box made by work of another thread, which is told when nobody wants it any more: when `cancelled`
/// is ready, or the future is dropped.
pub async fn unless(
    context: &Arc<Context>,
    cancelled: impl Future<Output = ()>,
    make: impl FnOnce(&Context, &dyn Fn() -> bool) -> Result<BoxConfig> + Send + 'static,
) -> Result<BoxConfig> {
    let dropped = CancelOnDrop::default();
    let flag = dropped.0.clone();
    let owner = context.clone();
    let made = context.blocking(move |context| {
        let config = make(context, &|| flag.load(Ordering::Relaxed))?;
        Ok(Unclaimed { context: owner, config: Some(config) })
    });
    let (mut made, mut cancelled) = (pin!(made), pin!(cancelled));
    tokio::select! {
        biased;
        made = &mut made => return made?.claim(),
        () = &mut cancelled => drop(dropped),
    }
    let unwanted = made.await;
    let undo = move |_: &Context| {
        drop(unwanted);
        Ok(())
    };
    context.blocking(undo).await?;
    Err(cancelled_error())
}

fn cancelled_error() -> Error {
    Error::new(Code::Cancelled, "making the box was cancelled")
}

/// A box that was just made. Nobody has it yet: dropped, it is removed.
struct Unclaimed {
    context: Arc<Context>,
    config: Option<BoxConfig>,
}

impl Unclaimed {
    fn claim(mut self) -> Result<BoxConfig> {
        self.config.take().ok_or_else(|| Error::new(Code::Internal, "the box was claimed already"))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(config) = &self.config
            && let Err(error) = super::remove::remove(&self.context, &config.id)
        {
            tracing::error!("box {} was not wanted and cannot be removed: {error}", config.id);
        }
    }
}

/// Tells work on another thread that nobody waits for it any more.
#[derive(Default)]
pub struct CancelOnDrop(pub Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The disk of an image, made if need be, as disks of boxes are on it.
pub fn base_disk(
    context: &Context,
    reference: &str,
    size_mib: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<RawBase> {
    let creation = Creation { context, observer: None, cancelled };
    let image = creation.resolve(reference)?;
    let path = creation.base_disk(&image, size_mib)?;
    // They all have their place at the same depth.
    let named = named_from(&context.home.disk("any"), &path);
    Ok(RawBase { path, named, virtual_size: size_mib * MIB })
}

struct Creation<'a> {
    context: &'a Context,
    observer: Option<Observer>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Creation<'_> {
    fn run(&self, options: &BoxOptions) -> Result<BoxConfig> {
        self.check_name(options)?;
        if let Some(format) = options.disk {
            return self.copy(options, Path::new(&options.image), format);
        }
        let image = self.stage("image", || self.resolve(&options.image))?;
        let base = self.stage("base disk", || self.base_disk(&image, options.disk_size_mib))?;
        let over = |disk: &Path| {
            let size = options.disk_size_mib * MIB;
            overlay::create(disk, &named_from(disk, &base), DiskFormat::Raw, size)
        };
        self.stage("box", || self.make(options, said_by(&image), over))
    }

    /// A box with a disk of its own, which is a copy.
    fn copy(&self, options: &BoxOptions, path: &Path, format: DiskFormat) -> Result<BoxConfig> {
        let plain = self.stage("disk", || PlainDisk::open(path, format))?;
        let there = plain.virtual_size.div_ceil(MIB);
        let mut options = options.clone();
        match options.disk_size_mib {
            0 => options.disk_size_mib(there)?,
            size if size < there => {
                let text = format!("disk_size_mib: {} has {there} MiB", path.display());
                return Err(Error::new(Code::InvalidArgument, text).object("disk_size_mib"));
            }
            _ => {}
        }
        let course =
            Course::new(self.observer.clone(), self.cancelled, "making the box", plain.len());
        let size = options.disk_size_mib * MIB;
        let write = |disk: &Path| plain.write(disk, size, &course);
        self.stage("box", || self.make(&options, ImageInfo::default(), write))
    }

    fn report(&self, progress: Progress) {
        if let Some(observer) = &self.observer {
            observer(progress);
        }
    }

    fn stage<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check_cancelled()?;
        let began = Instant::now();
        let done = work()?;
        self.report(Progress::Stage { name: name.into(), elapsed: began.elapsed() });
        Ok(done)
    }

    fn check_cancelled(&self) -> Result<()> {
        if (self.cancelled)() {
            return Err(cancelled_error());
        }
        Ok(())
    }

    /// Before any work; the database has the last word when the rows are written.
    fn check_name(&self, options: &BoxOptions) -> Result<()> {
        options.name.as_deref().map_or(Ok(()), |name| self.context.store.check_name(name))
    }

    fn resolve(&self, reference: &str) -> Result<Image> {
        Resolver::new(self.context.home.temporary()).resolve(reference)
    }

    /// The image as a disk, shared by all boxes of this image and size.
    fn base_disk(&self, image: &Image, size_mib: u64) -> Result<PathBuf> {
        let home = &self.context.home;
        let cache = DiskCache::new(home.images(), home.locks());
        let mut observer = |progress: &crate::image::Progress| {
            self.report(Progress::Bytes { done: progress.bytes, total: progress.total });
            match self.check_cancelled() {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let path =
            cache.ensure_disk(image, size_mib * MIB, &identity::reserved(), &mut observer)?;
        let layers: Vec<_> = image.layers().iter().map(|l| l.digest.to_string()).collect();
        self.context.store.save_image(&ImageRow {
            reference: image.reference().to_owned(),
            manifest_digest: image.manifest_digest().to_string(),
            config_digest: image.config_digest().to_string(),
            layers: serde_json::Value::from(layers).to_string(),
            cached_at: now(),
        })?;
        Ok(path)
    }

    /// The box's directory, its disk, and its rows: all or nothing.
    fn make(
        &self,
        options: &BoxOptions,
        image: ImageInfo,
        write_disk: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<BoxConfig> {
        let id = ulid::Ulid::generate().to_string();
        let _lock = self.context.lock_box(&id)?;
        failpoint::hit(Point::CreateLocked);
        let intent = self.context.store.begin_intent(&id, CREATE, "{}")?;
        failpoint::hit(Point::CreateIntent);
        let undo = Undo::of(self.context, &id, intent);
        let directory = self.context.home.of_box(&id);
        self.context.home.make_box(&id)?;
        failpoint::hit(Point::CreateDirectory);
        write_disk(&self.context.home.disk(&id))?;
        failpoint::hit(Point::CreateDisk);
        let config = BoxConfig::new(&id, options, image)?;
        let state = BoxState::new().to_row(&id)?;
        // The disk and its directory are; their names are not yet.
        sync_directory(&directory)?;
        sync_directory(&self.context.home.boxes())?;
        failpoint::hit(Point::CreateSynced);
        self.context.store.save(&config.to_row(Utc::now())?, &state, Some(intent))?;
        failpoint::hit(Point::CreateRows);
        undo.disarm();
        // As long as nobody can have done anything else with it.
        self.context.tell(&id, config.name.as_deref(), What::BoxCreated);
        Ok(config)
    }
}

/// Removes what was made of a box, unless it was finished.
pub struct Undo<'a> {
    context: &'a Context,
    id: &'a str,
    intent: i64,
    armed: bool,
}

impl<'a> Undo<'a> {
    pub fn of(context: &'a Context, id: &'a str, intent: i64) -> Undo<'a> {
        Undo { context, id, intent, armed: true }
    }

    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = remove::finish(self.context, self.id, self.intent)
        {
            // The intent stays: it is done when the home is opened again.
            tracing::warn!("box {} was not made, and is not all undone: {error}", self.id);
        }
    }
}

/// What a box keeps of its image.
fn said_by(image: &Image) -> ImageInfo {
    let config = image.config();
    ImageInfo {
        manifest_digest: image.manifest_digest().to_string(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
    }
}
