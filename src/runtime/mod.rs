//! A home in use: opening it, finding and making boxes, and letting go of them.
//!
//! - [`libexec`]: where the supervisor, the kernel and the initramfs are

mod libexec;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::boxes::config::BoxConfig;
use crate::boxes::{
    self, BoxHandle, BoxInfo, BoxOptions, Bus, Context, Counter, Counters, Events, ExecOptions,
    ImportOptions, ListFilter, Observer, Output, Parked, Pool, PoolOptions, Settings, StoredFile,
};
use crate::engine::{AcceleratorChoice, TemplatePolicy};
use crate::error::{Code, Error, Result};
use crate::home::{Home, HomeLock};
use crate::metrics::text::Labelled;
use crate::metrics::{self, RuntimeMetrics};
use crate::store::Store;

/// How a home is to be used. Everything has a default.
#[derive(Debug, Clone, Default)]
pub struct RuntimeOptions {
    home: Option<PathBuf>,
    libexec: Option<PathBuf>,
    accelerator: Option<AcceleratorChoice>,
    template_max_age: Option<Duration>,
    template_max_bytes: Option<u64>,
    no_disk_templates: bool,
    pool: PoolOptions,
}

/// How old a template may become, unless set. Machines made from one template share what its kernel
/// drew when it booted: the older it is, the more of them there are.
const TEMPLATE_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// The space for templates, unless set: some forty of the default size.
const TEMPLATE_MAX_BYTES: u64 = 2 << 30;

impl RuntimeOptions {
    pub fn new() -> RuntimeOptions {
        RuntimeOptions::default()
    }

    /// The home directory, made if it does not exist. Unless set: `$BOXLITE_HOME`, else
    /// `~/.boxlite`.
    pub fn home(&mut self, path: impl Into<PathBuf>) -> Result<()> {
        self.home = Some(path_option("home", path.into())?);
        Ok(())
    }

    /// The directory of the helper programs. Unless set: `$BOXLITE_LIBEXEC`, else beside the
    /// library.
    pub fn libexec(&mut self, path: impl Into<PathBuf>) -> Result<()> {
        self.libexec = Some(path_option("libexec", path.into())?);
        Ok(())
    }

    /// What may execute the guests' instructions. Unless set: `$BOXLITE_ACCELERATOR` (`auto`,
    /// `kvm` or `tcg`), else `auto`.
    pub fn accelerator(&mut self, choice: AcceleratorChoice) {
        self.accelerator = Some(choice);
    }

    /// How old a machine template may become before it is made anew, 1 s or more; a day unless set.
    pub fn template_max_age(&mut self, age: Duration) -> Result<()> {
        if age < Duration::from_secs(1) {
            let text = "template_age_s: must be at least 1";
            return Err(Error::new(Code::InvalidArgument, text).object("template_age_s"));
        }
        self.template_max_age = Some(age);
        Ok(())
    }

    /// The space that machine templates may take in the home, in bytes; 2 GiB unless set. Those that
    /// were used longest ago are removed first, those in use never.
    pub fn template_space(&mut self, bytes: u64) {
        self.template_max_bytes = Some(bytes);
    }

    /// Whether a disk that no box has written to yet gets a template of its own, with it mounted, for
    /// all new boxes of the same image and disk size; so it is unless set. Each takes as much space as
    /// a machine template and half the time to make, and saves nearly half the time of a first start.
    pub fn disk_templates(&mut self, wanted: bool) {
        self.no_disk_templates = !wanted;
    }

    /// How many machines wait for boxes, 0 to 64; none unless set.
    pub fn pool_size(&mut self, machines: u32) -> Result<()> {
        self.pool.size(machines)
    }

    /// What the machines have that wait for boxes, within the bounds of a box; what a box has by
    /// default unless set. A box that is to have anything else does not get one.
    pub fn pool_machine(&mut self, cpus: u32, memory_mib: u32) -> Result<()> {
        self.pool.machine(cpus, memory_mib)
    }

    /// The image and the disk's size in MiB of the boxes that the machines wait for; boxes of all
    /// images unless set. Such a machine has the disk mounted: a box of that image that was never
    /// started gets one in half the time, and no other box does.
    pub fn pool_image(&mut self, reference: impl Into<String>, disk_size_mib: u64) -> Result<()> {
        self.pool.image(reference, disk_size_mib)
    }
}

fn path_option(field: &str, path: PathBuf) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(
            Error::new(Code::InvalidArgument, format!("{field}: must not be empty")).object(field)
        );
    }
    Ok(path)
}

/// An open home. Cloning gives another handle; boxes that this program started stop when the last
/// handle, and the last box of it, is gone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    /// Every box that this program has touched: two handles on a box are handles on one thing.
    boxes: Mutex<HashMap<String, BoxHandle>>,
    _lock: HomeLock,
}

impl Runtime {
    /// Opens a home. Background work runs on the tokio runtime that this is called in.
    pub fn open(options: &RuntimeOptions) -> Result<Runtime> {
        let tasks = tokio::runtime::Handle::try_current()
            .map_err(|e| Error::new(Code::InvalidState, format!("open a runtime: {e}")))?;
        let path = match &options.home {
            Some(path) => path.clone(),
            None => Home::default_path()?,
        };
        let home = Home::open(&path)?;
        let mut lock = HomeLock::share(&home)?;
        let (store, stopped) = match Store::open(&home, &mut lock) {
            // It may be the want of some blocks.
            Err(error) if error.code() == Code::ResourceExhausted && home.give_up_ballast() => {
                Store::open(&home, &mut lock)?
            }
            opened => opened?,
        };
        for id in stopped {
            tracing::info!("box {id} ran when the host went down; it is stopped");
        }
        let settings = Settings {
            accelerator: accelerator(options)?,
            libexec: libexec::find(options.libexec.clone())?,
            cache: cache_directory(&home),
            templates: TemplatePolicy {
                directory: home.templates(),
                max_age: options.template_max_age.unwrap_or(TEMPLATE_MAX_AGE),
                max_bytes: options.template_max_bytes.unwrap_or(TEMPLATE_MAX_BYTES),
                disks: !options.no_disk_templates,
            },
        };
        let counters = Counters::default();
        let pool = Pool::new(options.pool.clone());
        let events = Bus::default();
        let context = Arc::new(Context { home, store, settings, counters, events, pool, tasks });
        boxes::recover(&context)?;
        boxes::settle(&context)?;
        context.home.take_ballast();
        boxes::fill_pool(&context);
        let boxes = Mutex::default();
        Ok(Runtime { inner: Arc::new(Inner { context, boxes, _lock: lock }) })
    }

    /// How often something was done since this runtime was opened.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.inner.context.counters.get(counter)
    }

    /// Events of boxes from now on: of what this runtime does, and of what happens to the boxes that it
    /// runs or is connected to. Of `capacity` that may wait (1 to 65536), newer ones are counted.
    pub fn subscribe(&self, capacity: usize) -> Result<Events> {
        self.inner.context.events.subscribe(capacity)
    }

    /// What this runtime has done since it was opened.
    pub fn metrics(&self) -> RuntimeMetrics {
        let boxes = self.inner.boxes();
        let running = boxes.values().filter(|handle| handle.is_connected()).count();
        RuntimeMetrics {
            boxes_created_total: self.counter(Counter::BoxesCreated),
            boxes_failed_total: self.counter(Counter::BoxesFailed),
            boxes_stopped_total: self.counter(Counter::BoxesStopped),
            num_running_boxes: running as u64,
            total_commands_executed: self.counter(Counter::CommandsExecuted),
            total_exec_errors: self.counter(Counter::ExecErrors),
        }
    }

    /// The metrics of this runtime, and of the running boxes that it has started or is connected to, as
    /// Prometheus reads them. A box that does not answer is not in it.
    pub async fn metrics_text(&self) -> String {
        let connected = |handle: &&BoxHandle| handle.is_connected();
        let mut boxes: Vec<BoxHandle> =
            self.inner.boxes().values().filter(connected).cloned().collect();
        boxes.sort_by(|a, b| a.id().cmp(b.id()));
        let measured = boxes.iter().map(|handle| async move {
            let metrics = handle.metrics().await.ok()?;
            let name = handle.name().map(str::to_owned);
            Some(Labelled { id: handle.id().to_owned(), name, metrics })
        });
        let measured = futures_util::future::join_all(measured).await;
        let measured: Vec<Labelled> = measured.into_iter().flatten().collect();
        metrics::text::write(&self.metrics(), &measured)
    }

    /// How many machines wait for boxes now.
    pub fn pool_ready(&self) -> usize {
        self.inner.context.pool.ready()
    }

    /// The home's directory, absolute.
    pub fn home(&self) -> &std::path::Path {
        self.inner.context.home.root()
    }

    /// Makes a box: its image is read and made into a disk, if it was not before. Dropping the
    /// future cancels it.
    pub async fn create(
        &self,
        options: &BoxOptions,
        observer: Option<Observer>,
    ) -> Result<BoxHandle> {
        self.create_unless(options, observer, std::future::pending()).await
    }

    /// As [`Runtime::create`]; when `cancelled` is ready first, this ends with CANCELLED once
    /// everything is undone.
    pub async fn create_unless(
        &self,
        options: &BoxOptions,
        observer: Option<Observer>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<BoxHandle> {
        let config = boxes::create(&self.inner.context, options, observer, cancelled).await?;
        tracing::info!("box {} made", config.id);
        Ok(self.inner.handle(config))
    }

    /// Makes as many boxes as there are names, some of which may be none, that begin with what another
    /// box's disk is now, or was in one of its snapshots (`from`). They have its options, and ids, host names
    /// and machine ids of their own. All or none are made, and nothing is copied, whatever the disk holds. A
    /// box that runs goes on; its file system is frozen for a moment, as for a snapshot.
    pub async fn clone_box(
        &self,
        source: &BoxHandle,
        from: Option<&str>,
        names: Vec<Option<String>>,
    ) -> Result<Vec<BoxHandle>> {
        let clones = source.clones(from, names).await?;
        tracing::info!("{} clones of box {} made", clones.len(), source.id());
        Ok(clones.into_iter().map(|config| self.inner.handle(config)).collect())
    }

    /// The files of disks that the home has: those of boxes, snapshots and images, what these are based on,
    /// and what nobody needs; by their paths.
    pub async fn files(&self) -> Result<Vec<StoredFile>> {
        self.inner.context.blocking(boxes::files).await
    }

    /// Removes the files of disks that nobody needs, and returns them; with `dry_run` it only returns them.
    /// Such are left by programs that died, which is rare: most are removed when the home is opened.
    pub async fn prune(&self, dry_run: bool) -> Result<Vec<StoredFile>> {
        self.inner.context.blocking(move |context| boxes::prune(context, dry_run)).await
    }

    /// Makes a box of an archive, which may come from anywhere: all of it is read and checked before
    /// there is a box. Dropping the future cancels it.
    pub async fn import(
        &self,
        path: impl AsRef<Path>,
        options: &ImportOptions,
        observer: Option<Observer>,
    ) -> Result<BoxHandle> {
        self.import_unless(path.as_ref(), options, observer, std::future::pending()).await
    }

    /// As [`Runtime::import`]; when `cancelled` is ready first, this ends with CANCELLED once everything
    /// is undone.
    pub async fn import_unless(
        &self,
        path: &Path,
        options: &ImportOptions,
        observer: Option<Observer>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<BoxHandle> {
        let config = boxes::import(&self.inner.context, path, options, observer, cancelled).await?;
        tracing::info!("box {} made of {}", config.id, path.display());
        Ok(self.inner.handle(config))
    }

    /// A box by its id or its name.
    pub async fn get(&self, id_or_name: &str) -> Result<BoxHandle> {
        let wanted = id_or_name.to_owned();
        let found = self.inner.context.blocking(move |context| context.store.find(&wanted)).await;
        Ok(self.inner.handle(boxes::readable(&found?)?))
    }

    /// All boxes of the home, newest first.
    pub async fn list(&self) -> Result<Vec<BoxInfo>> {
        self.list_matching(&ListFilter::new()).await
    }

    /// The boxes of the home that a filter lets through, newest first. One whose rows cannot be read
    /// has the status *unknown*, and says why in `error`.
    pub async fn list_matching(&self, filter: &ListFilter) -> Result<Vec<BoxInfo>> {
        boxes::list(&self.inner.context, filter, |config| self.inner.handle(config)).await
    }

    /// Removes a box and its disk; one that runs only with `force`.
    pub async fn remove(&self, id_or_name: &str, force: bool) -> Result<()> {
        let wanted = id_or_name.to_owned();
        let context = &self.inner.context;
        let (row, _) = context.blocking(move |context| context.store.find(&wanted)).await?;
        let known = self.inner.boxes().get(&row.id).cloned();
        match known.map_or_else(|| BoxConfig::from_row(&row).map(|c| self.inner.handle(c)), Ok) {
            Ok(handle) => handle.remove(force).await?,
            Err(_) => boxes::remove_unreadable(context, &row.id, force).await?,
        }
        self.inner.boxes().remove(&row.id);
        Ok(())
    }

    /// Runs one command in a box of its own, which is removed afterwards. A command that takes
    /// longer than `timeout`, with what goes before it, ends with TIMEOUT; when `cancelled` is ready
    /// first, this ends with CANCELLED. The box is gone in each case, unless the future is dropped.
    pub async fn run_unless(
        &self,
        options: &BoxOptions,
        command: &ExecOptions,
        limit: usize,
        timeout: Option<Duration>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Output> {
        let late = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let mut over = pin!(async {
            tokio::select! {
                () = cancelled => Error::new(Code::Cancelled, "the command was cancelled"),
                () = late => {
                    let limit = timeout.unwrap_or_default().as_millis();
                    Error::new(Code::Timeout, format!("the command did not end within {limit} ms"))
                }
            }
        });
        let mut why = None;
        let stop = async { why = Some((&mut over).await) };
        let created = self.create_unless(options, None, stop).await;
        let handle = match why {
            Some(why) => return Err(why),
            None => created?,
        };
        let outcome = tokio::select! {
            outcome = handle.run(command, limit) => outcome,
            why = over => Err(why),
        };
        let removed = self.remove(handle.id(), true).await;
        // What became of the command matters more than what is left of its box.
        let output = outcome?;
        removed.map(|()| output)
    }

    /// Stops all boxes that this program has started, each with `grace`, all at once, and gives up
    /// the machines that wait for others. Returns the first error after trying all.
    pub async fn shutdown(&self, grace: Duration) -> Result<()> {
        let parked = self.inner.context.pool.close();
        let boxes: Vec<BoxHandle> = self.inner.boxes().values().cloned().collect();
        let stops = boxes.iter().map(|handle| handle.stop_owned(grace));
        let stops = futures_util::future::join_all(stops);
        let ends = futures_util::future::join_all(parked.into_iter().map(Parked::end));
        let (stopped, _) = tokio::join!(stops, ends);
        stopped.into_iter().collect()
    }
}

impl Inner {
    fn boxes(&self) -> MutexGuard<'_, HashMap<String, BoxHandle>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, config: BoxConfig) -> BoxHandle {
        let id = config.id.clone();
        let mut boxes = self.boxes();
        if let Some(known) = boxes.get(&id) {
            return known.clone();
        }
        // Those that were removed by themselves, nobody else takes out.
        boxes.retain(|_, known| !known.is_gone());
        let handle = BoxHandle::new(self.context.clone(), config);
        boxes.insert(id, handle.clone());
        handle
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.context.pool.close();
        let boxes = std::mem::take(&mut *self.boxes());
        boxes.values().for_each(BoxHandle::abandon);
    }
}

fn accelerator(options: &RuntimeOptions) -> Result<AcceleratorChoice> {
    match (options.accelerator, std::env::var("BOXLITE_ACCELERATOR")) {
        (Some(choice), _) => Ok(choice),
        (None, Ok(text)) if !text.is_empty() => {
            text.parse().map_err(|e: Error| e.object("BOXLITE_ACCELERATOR"))
        }
        _ => Ok(AcceleratorChoice::Auto),
    }
}

/// Findings about the host serve all homes of a user; without a cache directory, each its own.
fn cache_directory(home: &Home) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    base.map(|b| b.join("boxlite"))
        .filter(|dir| std::fs::create_dir_all(dir).is_ok())
        .filter(|dir| nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok())
        .unwrap_or_else(|| home.root().to_owned())
}
