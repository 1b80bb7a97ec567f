//! All that can be done with boxes that do not run, one thing after the other, each told when the library
//! has said that it is done.

use boxlite::{BoxOptions, ExportOptions, ImportOptions, Result};

use crate::victim::{self, CLONES, FIRST, LEAF, NAME, NEW};

pub fn tell() {
    let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    tasks.unwrap().block_on(act()).unwrap();
}

/// A line is one write, and so one moment.
fn told(what: &str) {
    println!("{what}");
}

/// With a box that has two snapshots.
async fn act() -> Result<()> {
    let runtime = victim::open()?;
    let handle = runtime.get(NAME).await?;
    let mut options = BoxOptions::new(victim::image())?;
    options.name("second")?;
    options.disk_size_mib(64)?;
    runtime.create(&options, None).await?;
    told("created");
    handle.create_snapshot(NEW).await?;
    told("snapshot created");
    handle.export(victim::archive(), &ExportOptions::new(), None).await?;
    told("exported");
    let mut options = ImportOptions::new();
    options.name("imported")?;
    runtime.import(victim::archive(), &options, None).await?;
    told("imported");
    handle.restore_snapshot(FIRST).await?;
    told("restored");
    handle.remove_snapshot(NEW).await?;
    told("snapshot removed");
    handle.grow_disk(100).await?;
    told("grown");
    handle.remove_snapshot(LEAF).await?;
    told("another snapshot removed");
    handle.remove_snapshot(FIRST).await?;
    told("merged");
    victim::clone(&runtime, None).await?;
    told("cloned");
    for name in [CLONES[0], NAME, "imported", CLONES[1], "second"] {
        runtime.remove(name, false).await?;
        told("removed");
    }
    runtime.shutdown(std::time::Duration::ZERO).await
}
