//! A box as a file.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::Ordering;

use super::super::Observer;
use super::super::archive::export::{self, ExportOptions};
use super::super::context::Context;
use super::super::create::CancelOnDrop;
use super::super::disks;
use super::BoxHandle;
use super::snapshots::lock;
use crate::error::{Code, Error, Result};

impl BoxHandle {
    /// Writes the box's archive, to a file that is not there yet, or under the box's name (`box`, if it
    /// has none) into a directory; directories on the way are made. Returns where it is. The box must not
    /// run, unless a snapshot is exported. Dropping the future cancels it, and leaves nothing.
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
        let work = self.at_rest(!options.is_of_snapshot(), move |context, handle| {
            let cancelled = || flag.load(Ordering::Relaxed);
            let config = &handle.inner.config;
            export::export(context, config, &path, &options, observer, &cancelled)
        });
        let (mut work, mut cancelled) = (pin!(work), pin!(cancelled));
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = &mut cancelled => drop(unwanted),
        }
        work.await
    }

    /// Does something with files that stay as they are: those of the box's disk, which does not run, or
    /// of a snapshot.
    async fn at_rest<T: Send + 'static>(
        &self,
        of_disk: bool,
        work: impl FnOnce(&Context, &BoxHandle) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let handle = self.clone();
        let context = &self.inner.context;
        if !of_disk {
            return context.blocking(move |context| work(context, &handle)).await;
        }
        let _turn = self.inner.turn.lock().await;
        if self.inner.connection().await?.is_some() {
            let text = "the box is running: stop it first, or export one of its snapshots";
            return Err(Error::new(Code::InvalidState, text).object(self.id()));
        }
        let locked = move |context: &Context| {
            let _lock = lock(context, handle.id())?;
            disks::check_stopped(context, handle.id())?;
            disks::settle_box(context, handle.id())?;
            work(context, &handle)
        };
        context.blocking(locked).await
    }
}
