//! What a program does that may be killed, and what those do who come after it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use boxlite::{
    BoxHandle, BoxOptions, Code, ExecOptions, ExportOptions, ImportOptions, Result, Runtime,
    RuntimeOptions,
};

pub const ROLE: &str = "BOXLITE_CRASH_ROLE";
pub const HOME: &str = "BOXLITE_CRASH_HOME";
/// The disk's size and the memory, in MiB, of a box that is made.
pub const DISK: &str = "BOXLITE_CRASH_DISK";
pub const MEMORY: &str = "BOXLITE_CRASH_MEMORY";

/// Set if it is to be detached.
pub const DETACHED: &str = "BOXLITE_CRASH_DETACHED";

/// The box that everything is about.
pub const NAME: &str = "victim";
/// What a box has kept that has run, and one that has not.
pub const KEPT: &str = "kept";
pub const NOTHING: &str = "nothing";
/// What it had in its first snapshot.
pub const BEFORE: &str = "before";
/// Snapshots that there are: the disk is on the first, and nothing on the other.
pub const FIRST: &str = "first";
pub const LEAF: &str = "leaf";
/// The snapshot that a victim makes.
pub const NEW: &str = "new";
/// And its clones.
pub const CLONES: [&str; 2] = ["one", "two"];

pub fn run(role: &str) {
    match role {
        "race" => return crate::race::program(),
        "story" => return crate::story::tell(),
        _ => {}
    }
    let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let said = tasks.unwrap().block_on(act(role));
    match said {
        Ok(said) => println!("{said}"),
        // Where something was killed an error is as good; who runs this knows.
        Err(error) => println!("{:?}: {error}", error.code()),
    }
}

pub fn open() -> Result<Runtime> {
    open_at(Path::new(&std::env::var_os(HOME).unwrap()))
}

pub fn open_at(home: &Path) -> Result<Runtime> {
    let mut options = RuntimeOptions::new();
    options.home(home)?;
    // Hundreds of cases make templates of their own.
    options.template_space(256 << 20);
    Runtime::open(&options)
}

async fn act(role: &str) -> Result<String> {
    let runtime = open()?;
    let done = match role {
        "open" => Ok(String::new()),
        "create" => create(&runtime).await.map(|handle| handle.id().to_owned()),
        "create used" => create_used(&runtime).await,
        "start" => start(&runtime).await,
        "stop" => stop(&runtime).await,
        "remove" => runtime.remove(NAME, false).await.map(|()| String::new()),
        "create snapshots" => create_snapshots(&runtime).await,
        "snapshot" => {
            let handle = runtime.get(NAME).await?;
            handle.create_snapshot(NEW).await.map(|snapshot| snapshot.name)
        }
        "snapshot running" => snapshot_running(&runtime).await,
        "merge" => merge(&runtime).await,
        "grow" => runtime.get(NAME).await?.grow_disk(200).await.map(|()| String::new()),
        "merge running" => {
            runtime.get(NAME).await?.start(None).await?;
            merge(&runtime).await
        }
        "export" => export(&runtime).await,
        "export running" => {
            runtime.get(NAME).await?.start(None).await?;
            export(&runtime).await
        }
        "import" => import(&runtime).await,
        "clone" => clone(&runtime, None).await,
        "clone snapshot" => clone(&runtime, Some(FIRST)).await,
        "clone running" => {
            runtime.get(NAME).await?.start(None).await?;
            clone(&runtime, None).await
        }
        "restore" => {
            let handle = runtime.get(NAME).await?;
            handle.restore_snapshot(FIRST).await.map(|()| String::new())
        }
        "remove snapshot" => {
            let handle = runtime.get(NAME).await?;
            handle.remove_snapshot(LEAF).await.map(|()| String::new())
        }
        "life" => live(&runtime).await,
        "list" => list(&runtime).await,
        "use" => use_up(&runtime).await,
        "remove all" => remove_all(&runtime).await,
        _ => panic!("no role '{role}'"),
    };
    // What cannot be stopped has ended, and what was killed says so.
    let _ = runtime.shutdown(Duration::ZERO).await;
    done
}

pub fn image() -> String {
    format!("{}/busybox", std::env::var("BOXLITE_TEST_IMAGES").unwrap())
}

async fn create(runtime: &Runtime) -> Result<BoxHandle> {
    let number =
        |name: &str, default: u64| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let mut options = BoxOptions::new(image())?;
    options.name(NAME)?;
    options.disk_size_mib(number(DISK, 64))?;
    options.memory_mib(u32::try_from(number(MEMORY, 256)).unwrap())?;
    options.detach(std::env::var_os(DETACHED).is_some());
    runtime.create(&options, None).await
}

async fn shell(handle: &BoxHandle, script: &str) -> Result<String> {
    let argv = ["sh", "-c", script].map(String::from).to_vec();
    let output = handle.run(&ExecOptions::new(argv)?, 1 << 16).await?;
    Ok(String::from_utf8_lossy(&output.stdout.bytes).into_owned())
}

/// A box that has run, and keeps something.
async fn create_used(runtime: &Runtime) -> Result<String> {
    let handle = create(runtime).await?;
    shell(&handle, "echo kept > /kept; sync").await?;
    handle.stop(Duration::ZERO).await?;
    Ok(handle.id().to_owned())
}

/// Has the box keep something, in files that can be seen to be whole.
async fn write(handle: &BoxHandle, what: &str) -> Result<()> {
    let script = format!(
        "mkdir -p /tree && cd /tree && for i in 1 2 3 4 5 6 7 8; do echo $i {what} > $i; \
         head -c 9999 /dev/urandom > r$i; done && sha256sum * > /sums && echo {what} > /kept && sync"
    );
    shell(handle, &script).await?;
    handle.stop(Duration::ZERO).await
}

/// A box with a snapshot that its disk is on, and one that nothing is on.
async fn create_snapshots(runtime: &Runtime) -> Result<String> {
    let handle = create(runtime).await?;
    write(&handle, BEFORE).await?;
    handle.create_snapshot(FIRST).await?;
    write(&handle, KEPT).await?;
    handle.create_snapshot(LEAF).await?;
    handle.restore_snapshot(FIRST).await?;
    write(&handle, KEPT).await?;
    Ok(handle.id().to_owned())
}

async fn snapshot_running(runtime: &Runtime) -> Result<String> {
    let handle = runtime.get(NAME).await?;
    handle.start(None).await?;
    handle.create_snapshot(NEW).await.map(|snapshot| snapshot.name)
}

/// Removes a snapshot that the disk is on, and first the one that is on it too.
async fn merge(runtime: &Runtime) -> Result<String> {
    let handle = runtime.get(NAME).await?;
    match handle.remove_snapshot(LEAF).await {
        Err(e) if e.code() == Code::NotFound => {}
        removed => removed?,
    }
    handle.remove_snapshot(FIRST).await.map(|()| String::new())
}

/// Where an archive goes, and with it nothing else.
pub fn archive() -> PathBuf {
    PathBuf::from(std::env::var_os(HOME).unwrap()).with_file_name("archives").join("box")
}

async fn export(runtime: &Runtime) -> Result<String> {
    let mut options = ExportOptions::new();
    options.with_snapshots(true);
    let _ = std::fs::remove_file(archive());
    runtime.get(NAME).await?.export(archive(), &options, None).await.map(|_| String::new())
}

async fn import(runtime: &Runtime) -> Result<String> {
    let mut options = ImportOptions::new();
    options.name(CLONES[0])?;
    runtime.import(archive(), &options, None).await.map(|handle| handle.id().to_owned())
}

pub async fn clone(runtime: &Runtime, snapshot: Option<&str>) -> Result<String> {
    let handle = runtime.get(NAME).await?;
    let names = CLONES.map(|name| Some(name.to_owned()));
    let clones = runtime.clone_box(&handle, snapshot, names.to_vec()).await?;
    Ok(clones.iter().map(|clone| clone.id()).collect::<Vec<_>>().join(" "))
}

async fn start(runtime: &Runtime) -> Result<String> {
    runtime.get(NAME).await?.start(None).await?;
    Ok(String::new())
}

async fn stop(runtime: &Runtime) -> Result<String> {
    let handle = runtime.get(NAME).await?;
    handle.start(None).await?;
    handle.stop(Duration::ZERO).await?;
    Ok(String::new())
}

/// Everything, again and again.
async fn live(runtime: &Runtime) -> Result<String> {
    loop {
        let handle = match runtime.get(NAME).await {
            Err(e) if e.code() == Code::NotFound => create(runtime).await?,
            other => other?,
        };
        shell(&handle, "echo kept > /kept; sync").await?;
        handle.stop(Duration::ZERO).await?;
        runtime.remove(NAME, true).await?;
    }
}

/// Each box and its status, as the library sees it.
async fn list(runtime: &Runtime) -> Result<String> {
    let infos = runtime.list().await?;
    let lines = infos.iter().map(|i| format!("{} {}", i.id, i.status));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

async fn remove_all(runtime: &Runtime) -> Result<String> {
    for info in runtime.list().await? {
        runtime.remove(&info.id, false).await?;
    }
    Ok(String::new())
}

/// What a box has kept; all of it, or it is broken.
async fn look(handle: &BoxHandle) -> Result<String> {
    let script = "cd /tree 2>/dev/null && { sha256sum -c /sums >/dev/null 2>&1 || echo broken; }
                  cat /kept 2>/dev/null || echo nothing";
    let kept = shell(handle, script).await?;
    handle.stop(Duration::ZERO).await?;
    Ok(kept.trim().to_owned())
}

/// The box can be started, has what it had, and can be stopped and removed; where there is none, one of
/// its name can be made.
async fn use_up(runtime: &Runtime) -> Result<String> {
    let handle = match runtime.get(NAME).await {
        Ok(handle) => handle,
        Err(e) if e.code() == Code::NotFound => create(runtime).await?,
        Err(e) => return Err(e),
    };
    let mut kept = look(&handle).await?;
    for snapshot in handle.snapshots().await? {
        handle.restore_snapshot(&snapshot.name).await?;
        kept += &format!(" {}={}", snapshot.name, look(&handle).await?);
    }
    for name in CLONES {
        match runtime.get(name).await {
            Err(e) if e.code() == Code::NotFound => {}
            clone => kept += &format!(" {name}={}", look(&clone?).await?),
        }
    }
    // The one that all are based on goes first.
    runtime.remove(NAME, false).await?;
    remove_all(runtime).await?;
    Ok(kept)
}
