//! Clones: boxes of their own, each with an empty overlay on what another box's disk was at one moment.
//!
//! What that box has becomes a base that all of them are on, itself too; nothing is copied. A box whose disk
//! nobody has written to since it was cloned last has that base already.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::config::{BoxConfig, Container, now};
use super::super::context::{BoxLock, Context};
use super::super::events::What;
use super::super::remove::{self, CREATE};
use super::super::state::BoxState;
use super::branching::{self, Begun, Files, relative};
use super::{CLONE, check_stopped, snapshot};
use crate::channel::client::Connection;
use crate::disk::branch::{Branch, Points};
use crate::disk::chain::{Chain, Link, named_from};
use crate::disk::durable::sync_directory;
use crate::disk::overlay::{self, DiskFormat};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::store::{BaseRow, ConfigRow, Intent, StateRow};

/// The most boxes that are made at once.
pub const MOST: usize = 1000;

/// Where a test may end a program that clones a box which does not run.
const POINTS: Points = [Point::CloneMoved, Point::CloneNamed, Point::ClonePlaced];

/// What an intent says.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    files: Files,
    base_id: String,
}

/// What clones are made of.
struct Source<'a> {
    config: &'a BoxConfig,
    names: &'a [Option<String>],
}

/// The file that clones are on, and the row that it is to have; the disk of an image has none.
struct Base {
    link: Link,
    virtual_size: u64,
    row: Option<BaseRow>,
}

/// Clones a box that does not run, or one of its snapshots. The caller has locked it.
pub fn of_stopped(
    context: &Context,
    config: &BoxConfig,
    from: Option<&str>,
    names: &[Option<String>],
) -> Result<Vec<BoxConfig>> {
    let source = Source { config, names };
    check_names(context, names)?;
    if let Some(name) = from {
        return source.of_snapshot(context, name);
    }
    check_stopped(context, &config.id)?;
    super::settle_box(context, &config.id)?;
    let chain = branching::extendable_at_rest(context, &config.id)?;
    let _disks = context.share_disks()?;
    if let Some(base) = known_base(context, &config.id, &chain)? {
        return source.make(context, &base, &[]);
    }
    let (begun, base) = source.begin(context, &chain)?;
    let moved = begun.prepare().and_then(|()| begun.branch.finish(&POINTS));
    let made = moved.and_then(|()| source.make(context, &base, &[begun.intent]));
    made.map_err(|error| begun.undo(context, error))
}

/// Clones a box that runs. The caller has locked it.
pub async fn of_running(
    context: &Arc<Context>,
    connection: &Connection,
    config: &BoxConfig,
    names: Vec<Option<String>>,
) -> Result<Vec<BoxConfig>> {
    let wanted = names.clone();
    context.blocking(move |context| check_names(context, &wanted)).await?;
    branch(context, connection, config, names).await.map(|(clones, _)| clones)
}

/// Has what the disk of a box that runs holds now be a file that does not change any more, and returns that.
/// Nobody but the box's disk is on it: it stays until it is merged. The caller has locked the box.
pub async fn freeze(
    context: &Arc<Context>,
    connection: &Connection,
    config: &BoxConfig,
) -> Result<PathBuf> {
    branch(context, connection, config, Vec::new()).await.map(|(_, base)| base.link.path)
}

/// Has the disk of a box that runs go on in an overlay on what it was, and as many clones be on that too.
async fn branch(
    context: &Arc<Context>,
    connection: &Connection,
    config: &BoxConfig,
    names: Vec<Option<String>>,
) -> Result<(Vec<BoxConfig>, Base)> {
    let disks = context.blocking(|context| context.share_disks()).await?;
    branching::settle_running(context, connection, &config.id).await?;
    let (own, wanted) = (config.clone(), names.clone());
    let begin = move |context: &Context| {
        let chain = branching::extendable(context, &own.id)?;
        let source = Source { config: &own, names: &wanted };
        let (begun, base) = source.begin(context, &chain)?;
        match begun.prepare() {
            Ok(()) => Ok((begun, base)),
            Err(error) => Err(begun.undo(context, error)),
        }
    };
    let (begun, base) = context.blocking(begin).await?;
    let answer = begun.ask(context, connection).await?;
    let config = config.clone();
    let make = move |context: &Context| {
        let _disks = disks;
        let source = Source { config: &config, names: &names };
        let made = answer.and_then(|()| source.make(context, &base, &[begun.intent]));
        match made {
            Ok(clones) => Ok((clones, base)),
            Err(error) => Err(begun.give_up(context, error)),
        }
    };
    context.blocking(make).await
}

/// Names that are in use, here or twice in the list, before any work.
fn check_names(context: &Context, names: &[Option<String>]) -> Result<()> {
    if names.is_empty() || names.len() > MOST {
        let text = format!("count: {} clones; 1 to {MOST} can be made at once", names.len());
        return Err(Error::new(Code::InvalidArgument, text).object("count"));
    }
    let mut known = std::collections::HashSet::new();
    for name in names.iter().flatten() {
        if !known.insert(name) {
            let text = format!("names: '{name}' is there twice");
            return Err(Error::new(Code::InvalidArgument, text).object(&**name));
        }
        context.store.check_name(name)?;
    }
    Ok(())
}

/// What a disk is on that nobody has written to since it was put on that: clones can be on the same.
fn known_base(context: &Context, id: &str, chain: &Chain) -> Result<Option<Base>> {
    let Some(link) = chain.backing() else { return Ok(None) };
    let is_empty = match link.format {
        DiskFormat::Raw => overlay::untouched(chain)?.is_some(),
        DiskFormat::Qcow2 => overlay::is_empty(chain.top())?,
    };
    if !is_empty {
        return Ok(None);
    }
    let row = match link.format {
        DiskFormat::Raw => None,
        DiskFormat::Qcow2 => Some(row_of(context, id, None, &link.path)),
    };
    Ok(Some(Base { link: link.clone(), virtual_size: chain.virtual_size, row }))
}

/// The row of a file that clones are on; one that has a row keeps that.
fn row_of(context: &Context, id: &str, name: Option<&str>, path: &Path) -> BaseRow {
    let base_id = base_id();
    let kind = if path.starts_with(context.home.bases()) { "clone_base" } else { "snapshot" };
    let path = relative(context, path);
    let created_at = Utc::now().timestamp();
    BaseRow {
        json: json!({
            "id": base_id, "source_box_id": id, "name": name, "kind": kind, "base_path": path,
            "created_at": created_at,
        })
        .to_string(),
        id: base_id,
        source_box_id: id.to_owned(),
        name: name.map(str::to_owned),
        kind: kind.to_owned(),
        path,
        created_at,
    }
}

/// Eight characters of Base62, at random.
fn base_id() -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // The last digits of a ULID are random; 62 to the 8th is less than 2 to the 48th.
    let mut number = ulid::Ulid::generate().0 & ((1 << 64) - 1);
    let mut id = String::new();
    for _ in 0..8 {
        id.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
    id
}

impl Source<'_> {
    fn of_snapshot(&self, context: &Context, name: &str) -> Result<Vec<BoxConfig>> {
        let _disks = context.share_disks()?;
        let (_, path) = snapshot::expect(context, &self.config.id, name)?;
        let chain = Chain::resolve(context.home.root(), &path).map_err(|e| e.or_object(name))?;
        branching::check_length(&chain, &self.config.id)?;
        let row = row_of(context, &self.config.id, Some(name), chain.top());
        let link = Link { path, format: DiskFormat::Qcow2 };
        self.make(context, &Base { link, virtual_size: chain.virtual_size, row: Some(row) }, &[])
    }

    /// Writes down that the disk is to be a base.
    fn begin(&self, context: &Context, chain: &Chain) -> Result<(Begun, Base)> {
        let id = &*self.config.id;
        let base_id = base_id();
        let path = context.home.base(&base_id);
        let begun = branching::begin(context, chain, path.clone(), |files| {
            let plan = Plan { files, base_id: base_id.clone() };
            context.store.begin_intent(id, CLONE, &branching::json(&plan)?)
        })?;
        failpoint::hit(Point::CloneIntent);
        let row = BaseRow { id: base_id, ..row_of(context, id, None, &path) };
        let link = Link { path, format: DiskFormat::Qcow2 };
        Ok((begun, Base { link, virtual_size: chain.virtual_size, row: Some(row) }))
    }

    /// Makes the boxes: all or none.
    fn make(&self, context: &Context, base: &Base, intents: &[i64]) -> Result<Vec<BoxConfig>> {
        let size = base.virtual_size;
        let clones = self.names.iter().map(|name| self.configure(name.as_deref(), size));
        let clones = clones.collect::<Result<Vec<_>>>()?;
        let _locks: Vec<BoxLock> =
            clones.iter().map(|c| context.lock_box(&c.id)).collect::<Result<_>>()?;
        let notes: Vec<_> = clones.iter().map(|c| (&*c.id, CREATE, "{}")).collect();
        let own = context.store.begin_intents(&notes)?;
        failpoint::hit(Point::CloneNoted);
        let all: Vec<i64> = intents.iter().chain(&own).copied().collect();
        let made = self.write(context, &clones, base, &all);
        if let Err(error) = made {
            for (clone, intent) in clones.iter().zip(own) {
                if let Err(error) = remove::unmake(context, &clone.id, intent) {
                    tracing::warn!("clone {} is not all undone: {error}", clone.id);
                }
            }
            return Err(error);
        }
        failpoint::hit(Point::CloneRows);
        for clone in &clones {
            context.tell(&clone.id, clone.name.as_deref(), What::BoxCreated);
        }
        Ok(clones)
    }

    fn write(
        &self,
        context: &Context,
        clones: &[BoxConfig],
        base: &Base,
        intents: &[i64],
    ) -> Result<()> {
        let home = &context.home;
        for clone in clones {
            home.make_box(&clone.id)?;
            let disk = home.disk(&clone.id);
            let named = named_from(&disk, &base.link.path);
            overlay::create(&disk, &named, base.link.format, base.virtual_size)?;
            sync_directory(&home.of_box(&clone.id))?;
        }
        sync_directory(&home.boxes())?;
        failpoint::hit(Point::CloneDisks);
        let rows = clones
            .iter()
            .map(|clone| Ok((clone.to_row(Utc::now())?, BoxState::new().to_row(&clone.id)?)));
        let rows: Vec<(ConfigRow, StateRow)> = rows.collect::<Result<_>>()?;
        let source = std::iter::once(&*self.config.id);
        let users: Vec<&str> = source.chain(clones.iter().map(|c| &*c.id)).collect();
        let save = || context.store.save_clones(&rows, base.row.as_ref(), &users, intents);
        context.make_room(save)
    }

    /// The same box under another id and name.
    fn configure(&self, name: Option<&str>, size: u64) -> Result<BoxConfig> {
        let mut config = self.config.clone();
        config.id = ulid::Ulid::generate().to_string();
        config.name = name.map(str::to_owned);
        config.created_at = now();
        config.options.disk_size_mib = size >> 20;
        config.container = Container::new()?;
        Ok(config)
    }
}

/// Undoes what a program has begun that died, or keeps the base if the box was written to since. Nobody
/// runs the box.
pub fn settle(context: &Context, intent: &Intent) -> Result<()> {
    let (plan, branch) = read(context, intent)?;
    let made = branch.settle(&POINTS)?;
    if made && overlay::is_empty(&branch.disk)? {
        branch.undo()?;
        return context.store.end_intent(intent.id);
    }
    conclude(context, &plan, &branch.frozen, intent, made)
}

/// The same while its machine runs, which is between two such changes.
pub fn settle_idle(context: &Context, intent: &Intent) -> Result<()> {
    let (plan, branch) = read(context, intent)?;
    let made = branching::is_there(&branch)?;
    conclude(context, &plan, &branch.frozen, intent, made)
}

fn conclude(
    context: &Context,
    plan: &Plan,
    path: &Path,
    intent: &Intent,
    made: bool,
) -> Result<()> {
    let id = &*intent.box_id;
    let row = BaseRow { id: plan.base_id.clone(), ..row_of(context, id, None, path) };
    let row = made.then_some(&row);
    context.store.save_clones(&[], row, &[id], &[intent.id])
}

fn read(context: &Context, intent: &Intent) -> Result<(Plan, Branch)> {
    let plan: Plan = branching::read(intent)?;
    let branch = plan.files.branch(context, &intent.box_id);
    Ok((plan, branch))
}
