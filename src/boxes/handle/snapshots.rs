//! Snapshots of a box's disk.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::config::BoxConfig;
use super::super::context::{BoxLock, Context};
use super::super::disks::merge::{self, Merge};
use super::super::disks::snapshot::{self, Snapshot};
use super::super::disks::{self, branching, clone, discard, grow, restore};
use super::super::options::{box_name, disk_size};
use super::{BoxHandle, Inner};
use crate::error::{Code, Error, Result};

impl BoxHandle {
    /// Keeps what the disk is now under a name, which no other snapshot of the box has. Nothing is
    /// copied, whatever the disk holds. Of a box that runs, the file system is frozen for a moment, so
    /// that all that was written before is in it, and whole. Dropping the future changes nothing.
    pub async fn create_snapshot(&self, name: &str) -> Result<Snapshot> {
        snapshot::check_name(name)?;
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.inner.context.finish(async move { inner.create_snapshot(&name).await }).await
    }

    /// The box's snapshots, in the order in which they were made.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let id = self.id().to_owned();
        self.inner.context.blocking(move |context| snapshot::list(context, &id)).await
    }

    /// A snapshot by its name; none if there is none.
    pub async fn snapshot(&self, name: &str) -> Result<Option<Snapshot>> {
        snapshot::check_name(name)?;
        let (id, name) = (self.id().to_owned(), name.to_owned());
        self.inner.context.blocking(move |context| snapshot::get(context, &id, &name)).await
    }

    /// Has the disk of a box that does not run be what it was in a snapshot. What was written since is
    /// gone, unless it is in other snapshots; those stay, and this one.
    pub async fn restore_snapshot(&self, name: &str) -> Result<()> {
        snapshot::check_name(name)?;
        let name = name.to_owned();
        let restore = move |context: &Context, id: &str| restore::restore(context, id, &name);
        self.change_stopped("and cannot go back: stop it first", restore).await
    }

    /// Has the disk of a box that does not run be larger, in MiB, up to 16 TiB. The box's file system grows with
    /// it when it is started next. It cannot become smaller again.
    pub async fn grow_disk(&self, size_mib: u64) -> Result<()> {
        let size_mib = disk_size(size_mib)?;
        let grow = move |context: &Context, id: &str| grow::grow(context, id, size_mib);
        self.change_stopped("and its disk cannot be made larger: stop it first", grow).await
    }

    /// Removes a snapshot. What one other snapshot, or the disk, needs of it is merged into that, which takes
    /// as long as it takes to write; one that more are based on, or other boxes, is refused.
    pub async fn remove_snapshot(&self, name: &str) -> Result<()> {
        snapshot::check_name(name)?;
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.inner.context.finish(async move { inner.remove_snapshot(name).await }).await
    }

    /// Makes boxes that begin with what this one's disk is now, or was in a snapshot; with the same options,
    /// and names of their own or none. All or none are made, and nothing is copied. Of a box that runs, the
    /// file system is frozen for a moment. Dropping the future changes nothing.
    pub(crate) async fn clones(
        &self,
        from: Option<&str>,
        names: Vec<Option<String>>,
    ) -> Result<Vec<BoxConfig>> {
        from.map_or(Ok(()), snapshot::check_name)?;
        let name = |name: Option<String>| name.map(box_name).transpose();
        let names = names.into_iter().map(name).collect::<Result<Vec<_>>>()?;
        let (inner, from) = (self.inner.clone(), from.map(str::to_owned));
        let clones = async move {
            let tried = inner.clones(from.clone(), names.clone()).await;
            match inner.has_room_after(code(&tried)).await? {
                true => inner.clones(from, names).await,
                false => tried,
            }
        };
        let made = self.inner.context.finish(clones).await;
        made.map_err(|e| e.or_object(self.id()))
    }

    /// Does something with the disk that no running machine can bear.
    async fn change_stopped(
        &self,
        refusal: &'static str,
        change: impl FnOnce(&Context, &str) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let inner = self.inner.clone();
        let work = async move {
            let _turn = inner.turn.lock().await;
            let id = inner.config.id.clone();
            if inner.connection().await?.is_some() {
                let text = format!("box {id} is running, {refusal}");
                return Err(Error::new(Code::InvalidState, text).object(id));
            }
            let change = move |context: &Context| {
                let _lock = lock(context, &id)?;
                change(context, &id)
            };
            inner.context.blocking(change).await
        };
        self.inner.context.finish(work).await
    }
}

/// What something failed with.
fn code<T>(tried: &Result<T>) -> Option<Code> {
    tried.as_ref().err().map(Error::code)
}

/// Takes a box that is still there.
pub fn lock(context: &Context, id: &str) -> Result<BoxLock> {
    let lock = context.lock_box(id)?;
    if context.store.load(id)?.is_none() {
        return Err(Error::new(Code::NotFound, "the box was removed").object(id));
    }
    Ok(lock)
}

impl Inner {
    async fn clones(
        self: &Arc<Self>,
        from: Option<String>,
        names: Vec<Option<String>>,
    ) -> Result<Vec<BoxConfig>> {
        let _turn = self.turn.lock().await;
        let connection = self.connection().await?;
        let id = self.config.id.clone();
        let _lock = self.context.blocking(move |context| lock(context, &id)).await?;
        match (connection, from) {
            (Some(connection), None) => {
                clone::of_running(&self.context, &connection, &self.config, names).await
            }
            (_, from) => {
                let config = self.config.clone();
                let make = move |context: &Context| {
                    clone::of_stopped(context, &config, from.as_deref(), &names)
                };
                self.context.blocking(make).await
            }
        }
    }

    /// What the disk of a running box holds now, in a file that does not change; none if it does not run.
    pub(super) async fn freeze(self: &Arc<Self>) -> Result<Option<PathBuf>> {
        let inner = self.clone();
        let freeze = async move {
            let tried = inner.freeze_once().await;
            match inner.has_room_after(code(&tried)).await? {
                true => inner.freeze_once().await,
                false => tried,
            }
        };
        self.context.finish(freeze).await
    }

    async fn freeze_once(self: &Arc<Self>) -> Result<Option<PathBuf>> {
        let _turn = self.turn.lock().await;
        let Some(connection) = self.connection().await? else { return Ok(None) };
        let id = self.config.id.clone();
        let _lock = self.context.blocking(move |context| lock(context, &id)).await?;
        clone::freeze(&self.context, &connection, &self.config).await.map(Some)
    }

    /// Whether there is room now for what has failed with a code: if the disk of a running box consists of
    /// as many files as there can be, two of them have been merged.
    async fn has_room_after(self: &Arc<Self>, code: Option<Code>) -> Result<bool> {
        if code != Some(Code::ResourceExhausted) {
            return Ok(false);
        }
        self.make_room().await
    }

    /// Merges a file that has no name into the one on it, if the disk of a running box consists of too many.
    async fn make_room(self: &Arc<Self>) -> Result<bool> {
        let Some(connection) = self.connection().await? else { return Ok(false) };
        let id = self.config.id.clone();
        let find = move |context: &Context| merge::unnamed_of_full(context, &id);
        // If nobody knows, what has failed tells enough.
        let Ok(Some(files)) = self.context.blocking(find).await else { return Ok(false) };
        let asked = merge::asked(&self.context, &files);
        connection.merge(asked).await.map_err(|error| {
            error.context("make room for one file more of the disk").or_object(&*self.config.id)
        })?;
        let collect = move |context: &Context| {
            let _disks = context.take_disks()?;
            discard::collect(context, &files.lower)
        };
        if let Err(error) = self.context.blocking(collect).await {
            tracing::warn!("a file that was merged is not removed: {error}");
        }
        Ok(true)
    }

    async fn remove_snapshot(self: &Arc<Self>, name: String) -> Result<()> {
        if let Some(files) = self.merge_at_rest(&name).await? {
            let connection = self.connection().await?.ok_or_else(|| {
                let text = "the box was stopped meanwhile: try again";
                Error::new(Code::Busy, text).object(&*self.config.id)
            })?;
            // The box can be used all the while, and stopped: then nothing has changed.
            connection.merge(merge::asked(&self.context, &files)).await.map_err(|error| {
                error.context(format!("snapshot '{name}' is still there")).or_object(&*name)
            })?;
        }
        let _turn = self.turn.lock().await;
        let runs = self.connection().await?.is_some();
        let id = self.config.id.clone();
        let discard = move |context: &Context| {
            let _lock = lock(context, &id)?;
            discard::snapshot(context, &id, &name, runs)
        };
        self.context.blocking(discard).await
    }

    /// Has what is needed of a snapshot be in the file that is on it, if no machine uses both. Else these
    /// files are returned.
    async fn merge_at_rest(self: &Arc<Self>, name: &str) -> Result<Option<Merge>> {
        let _turn = self.turn.lock().await;
        let connection = self.connection().await?;
        let (id, name) = (self.config.id.clone(), name.to_owned());
        let (own, runs) = (id.clone(), connection.is_some());
        let locked = self.context.blocking(move |context| lock(context, &own)).await?;
        if let Some(connection) = &connection {
            branching::settle_running(&self.context, connection, &id).await?;
        }
        let work = move |context: &Context| {
            let _locked = locked;
            if !runs {
                disks::check_stopped(context, &id)?;
                disks::settle_box(context, &id)?;
            }
            match merge::needed(context, &id, &name)? {
                Some(files) if runs && files.in_disk => Ok(Some(files)),
                Some(files) => merge::of_files(context, &id, &files).map(|()| None),
                None => Ok(None),
            }
        };
        self.context.blocking(work).await
    }

    async fn create_snapshot(self: &Arc<Self>, name: &str) -> Result<Snapshot> {
        let tried = self.snapshot_once(name).await;
        match self.has_room_after(code(&tried)).await? {
            true => self.snapshot_once(name).await,
            false => tried,
        }
    }

    async fn snapshot_once(self: &Arc<Self>, name: &str) -> Result<Snapshot> {
        let _turn = self.turn.lock().await;
        let connection = self.connection().await?;
        let (id, name) = (self.config.id.clone(), name.to_owned());
        let made = match connection {
            Some(connection) => {
                let own = id.clone();
                let _lock = self.context.blocking(move |context| lock(context, &own)).await?;
                snapshot::of_running(&self.context, &connection, &id, &name).await
            }
            None => {
                let own = id.clone();
                let make = move |context: &Context| {
                    let _lock = lock(context, &own)?;
                    snapshot::of_stopped(context, &own, &name)
                };
                self.context.blocking(make).await
            }
        };
        made.map_err(|e| e.or_object(&*id))
    }
}
