//! A box as a file.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::Ordering;

use super::super::Observer;
use super::super::archive::export::{self, ExportOptions, Output};
use super::super::context::Context;
use super::super::create::CancelOnDrop;
use super::super::disks;
use super::BoxHandle;
use super::snapshots::lock;
use crate::error::Result;

impl BoxHandle {
    /// Writes the box's archive, to a file that is not there yet, or under the box's name (`box`, if it
    /// has none) into a directory; directories on the way are made. Returns where it is. Of a box that runs,
    /// the file system is frozen for a moment, and the archive is of that moment; the disk consists of a file
    /// more from then on. Dropping the future cancels the export, and leaves no archive.
    pub async fn export(
        &self,
        path: impl AsRef<Path>,
        options: &ExportOptions,
        observer: Option<Observer>,
    ) -> Result<PathBuf> {
        self.export_unless(path.as_ref(), options, observer, std::future::pending()).await
    }

    /// As [`BoxHandle::export`]; when `cancelled` is ready first, this ends with CANCELLED.
    pub async fn export_unless(
        &self,
        path: &Path,
        options: &ExportOptions,
        observer: Option<Observer>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<PathBuf> {
        options.check()?;
        let unwanted = CancelOnDrop::default();
        let flag = unwanted.0.clone();
        let (path, options) = (path.to_owned(), options.clone());
        let of_disk = options.is_of_disk();
        let work = async {
            // Where it cannot go, it is not worth a change of the disk.
            let inner = self.inner.clone();
            let open = move |_: &Context| Output::open(&path, &inner.config);
            let output = self.inner.context.blocking(open).await?;
            let export = move |context: &Context, handle: &BoxHandle, disk: &Path| {
                let cancelled = || flag.load(Ordering::Relaxed);
                let config = &handle.inner.config;
                export::export(context, config, disk, output, &options, observer, &cancelled)
            };
            self.at_rest(of_disk, export).await
        };
        let (mut work, mut cancelled) = (pin!(work), pin!(cancelled));
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = &mut cancelled => drop(unwanted),
        }
        work.await
    }

    /// Does something with files that stay as they are: those of the box's disk as it is at one moment, or of
    /// a snapshot, for which the disk does not matter.
    async fn at_rest<T: Send + 'static>(
        &self,
        of_disk: bool,
        work: impl FnOnce(&Context, &BoxHandle, &Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let handle = self.clone();
        let context = &self.inner.context;
        if of_disk && let Some(frozen) = self.inner.freeze().await? {
            return context.blocking(move |context| work(context, &handle, &frozen)).await;
        }
        let disk = context.home.disk(self.id());
        if !of_disk {
            return context.blocking(move |context| work(context, &handle, &disk)).await;
        }
        let _turn = self.inner.turn.lock().await;
        let locked = move |context: &Context| {
            let _lock = lock(context, handle.id())?;
            disks::check_stopped(context, handle.id())?;
            disks::settle_box(context, handle.id())?;
            work(context, &handle, &disk)
        };
        context.blocking(locked).await
    }
}
