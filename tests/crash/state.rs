//! What a home keeps for its user: compared before and after something has gone wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use boxlite::{ImportOptions, Result};
use sha2::{Digest, Sha256};

use crate::disks;
use crate::inspect::{contradictions, database, is_old};
use crate::place::{Place, names};
use crate::victim::open_at;

/// Boxes by name, their snapshots, and the archive beside the home, each with what a guest would read.
pub type State = BTreeMap<String, String>;

/// What the archive is called among the boxes: it has what its box has.
pub const ARCHIVE: &str = "(archive)";

/// What the rows tell, and the disks. No archive.
pub fn of_home(home: &Path) -> State {
    let mut state = State::new();
    if !home.join("db/boxlite.db").exists() {
        return state;
    }
    if is_old(home) {
        // Never so after it was opened.
        state.insert("(not adopted)".into(), String::new());
        return state;
    }
    let database = database(home);
    let mut boxes = database.prepare("SELECT id, coalesce(name, id) FROM box_config").unwrap();
    let boxes = boxes.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)));
    for (id, name) in boxes.unwrap().map(std::result::Result::unwrap) {
        let directory = home.join("boxes").join(&id);
        let disk = disks::look(&directory.join("disks/disk.qcow2"));
        state.insert(name.clone(), disk.fault.unwrap_or(disk.content));
        let mut snapshots =
            database.prepare("SELECT name FROM snapshot WHERE box_id = ?1").unwrap();
        let snapshots = snapshots.query_map([&id], |r| r.get::<_, String>(0));
        for snapshot in snapshots.unwrap().map(std::result::Result::unwrap) {
            let disk = disks::look(&directory.join("snapshots").join(&snapshot).join("disk.qcow2"));
            state.insert(format!("{name} at {snapshot}"), disk.fault.unwrap_or(disk.content));
        }
    }
    state
}

/// Opens the home in a directory once more, and looks whether everything fits together. Returns what
/// there is then.
pub fn reopened(place: &Place, directory: &Path) -> std::result::Result<State, String> {
    let home = directory.join("home");
    let tasks = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let archive = directory.join("archives/box");
    let archived = tasks.block_on(look(&home, &archive)).map_err(|e| e.to_string())?;
    let mut found = contradictions(place, &home);
    found.extend(of_bases_without_users(&home));
    if !found.is_empty() {
        return Err(found.join("; "));
    }
    let mut state = of_home(&home);
    state.extend(archived.map(|content| (ARCHIVE.to_owned(), content)));
    Ok(state)
}

/// Bases that clones or exports have made and that no disk is on, after all was pruned. Those that older
/// software made for its guests stay as long as their rows.
fn of_bases_without_users(home: &Path) -> Vec<String> {
    let mut used = BTreeSet::new();
    let mut next: Vec<PathBuf> = [home.join("boxes"), home.join("bases")].into();
    while let Some(path) = next.pop() {
        match path.is_dir() {
            true => next.extend(names(&path).iter().map(|name| path.join(name))),
            false => used.extend(disks::is_on(&path)),
        }
    }
    let bases = names(&home.join("bases"));
    let bases = bases.iter().map(|name| home.join("bases").join(name).canonicalize().unwrap());
    let bases = bases.filter(|base| base.extension().is_some_and(|e| e == "qcow2"));
    let lost = bases.filter(|base| !used.contains(base));
    lost.map(|base| format!("nobody is on {}", base.display())).collect()
}

/// What archives hold that were imported once, by their SHA-256.
static IMPORTED: Mutex<BTreeMap<Vec<u8>, String>> = Mutex::new(BTreeMap::new());

/// Whether the home can be used, and what the archive holds, if there is one.
async fn look(home: &Path, archive: &Path) -> Result<Option<String>> {
    const PROBE: &str = "probe";
    let runtime = open_at(home)?;
    runtime.list().await?;
    runtime.prune(false).await?;
    let archived = fs::read(archive).ok().map(|bytes| Sha256::digest(&bytes).to_vec());
    let mut content =
        archived.as_ref().and_then(|archive| IMPORTED.lock().unwrap().get(archive).cloned());
    if let Some(archived) = archived
        && content.is_none()
    {
        let mut options = ImportOptions::new();
        options.name(PROBE)?;
        runtime.import(archive, &options, None).await?;
        content = of_home(home).remove(PROBE);
        runtime.remove(PROBE, false).await?;
        IMPORTED.lock().unwrap().insert(archived, content.clone().unwrap());
    }
    runtime.shutdown(std::time::Duration::ZERO).await?;
    Ok(content)
}

/// Copies a home and what is beside it, but for sockets. What is never written once it is there is shared.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        let to = to.join(name);
        if from.is_dir() {
            copy(&from, &to);
        } else if is_shared(&from) && fs::hard_link(&from, &to).is_ok() {
            // On one file system.
        } else if from.is_file() {
            copy_file(&from, &to);
        }
    }
}

/// Copies a file, without what is zero.
fn copy_file(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap();
    let file = fs::File::create(to).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (at, piece) in
        (0..).zip(bytes.chunks(4096)).filter(|(_, piece)| piece.iter().any(|b| *b != 0))
    {
        file.write_all_at(piece, at * 4096).unwrap();
    }
}

/// Whether it is the disk of an image, which is never written once it is there.
pub fn is_shared(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "ext4")
}
