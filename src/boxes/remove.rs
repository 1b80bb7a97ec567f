//! The end of a box's files and rows, wanted or after somebody's death.

use std::path::Path;

use super::context::Context;
use crate::error::{Code, Error, Result};
use crate::supervisor::socket::PidFile;

/// For a box that has no row.
pub fn not_found(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no box {id}")).object(id)
}

/// Whether a supervisor, of whatever program, serves the box.
pub fn is_supervised(box_dir: &Path) -> Result<bool> {
    let holder = PidFile::holder(box_dir);
    holder
        .map(|h| h.is_some())
        .map_err(|e| Error::io(Code::Storage, format!("examine {}", box_dir.display()), &e))
}

/// Removes a box's files and rows. The files are out of sight first, in one step.
pub fn remove(context: &Context, id: &str) -> Result<()> {
    let _lock = context.lock_box(id)?;
    context.store.load(id)?.ok_or_else(|| not_found(id))?;
    if is_supervised(&context.home.of_box(id))? {
        let text = "its machine is still ending: try again";
        return Err(Error::new(Code::Busy, text).object(id));
    }
    let (from, to) = (context.home.of_box(id), context.home.trash().join(id));
    let failed = |what: &str, e: std::io::Error| {
        Error::io(Code::Storage, format!("{what} {}", from.display()), &e).object(id)
    };
    match std::fs::rename(&from, &to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", e)),
        _ => {}
    }
    context.store.delete(id)?;
    // What stays of these is swept when a home is opened.
    let _ = std::fs::remove_dir_all(&to);
    let _ = std::fs::remove_file(context.home.box_lock(id));
    Ok(())
}

/// Removes what killed programs left: directories of boxes without a row, and trash.
pub fn sweep(context: &Context) -> Result<()> {
    let home = &context.home;
    let failed = |e: std::io::Error| Error::io(Code::Storage, "sweep the home", &e);
    for entry in std::fs::read_dir(home.boxes()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(id) = name.to_str() else { continue };
        if context.store.load(id)?.is_some() {
            continue;
        }
        // Another program may be making this box: it then holds the lock.
        let Ok(_lock) = context.lock_box(id) else { continue };
        if context.store.load(id)?.is_none() && !is_supervised(&entry.path())? {
            std::fs::rename(entry.path(), home.trash().join(id)).map_err(failed)?;
            let _ = std::fs::remove_file(home.box_lock(id));
        }
    }
    for entry in std::fs::read_dir(home.trash()).map_err(failed)? {
        // Another program may be emptying it too.
        let _ = std::fs::remove_dir_all(entry.map_err(failed)?.path());
    }
    Ok(())
}
