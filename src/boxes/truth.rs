//! What is true of a box, whatever its row says.
//!
//! A row that says a machine runs is believed only while a supervisor lives: the programs that wrote it
//! may all have been killed. How a box ended that nobody watched is told by what its supervisor left
//! behind; one that left nothing was killed itself.

use std::path::Path;

use super::config::now;
use super::context::Context;
use super::remove::{is_supervised, not_found};
use super::state::{BoxState, Change, End, Status};
use crate::disk::cut_off;
use crate::disk::durable::remove_leftovers;
use crate::engine::log::last_words;
use crate::engine::oom;
use crate::error::{Code, Error, Result};
use crate::supervisor::record::EndRecord;
use crate::supervisor::socket::PidFile;

/// Writes down what happened to a box in a run. Returns the state as it is then, which is that of
/// another run if this one is over.
pub fn note(context: &Context, id: &str, run: &str, change: &Change) -> Result<BoxState> {
    let row = context.store.change_state(id, |row| {
        let state = BoxState::from_row(row)?.after(run, change).map_err(|e| e.or_object(id))?;
        state.map(|state| state.to_row(id)).transpose()
    })?;
    BoxState::from_row(&row)
}

/// A box's state. Where the row is not true any more, it is corrected; if that cannot be written, the
/// next look does it.
pub fn state(context: &Context, id: &str) -> Result<BoxState> {
    let state = read(context, id)?;
    if is_plausible(context, id, &state)? {
        return Ok(state);
    }
    // Somebody who is just starting or stopping it knows better.
    let Ok(_lock) = context.try_lock_box(id) else { return Ok(state) };
    let state = read(context, id)?;
    match &state.run {
        _ if is_plausible(context, id, &state)? => Ok(state),
        Some(run)
            if state.status == Status::Stopping && is_supervised(&context.home.of_box(id))? =>
        {
            note(context, id, run, &Change::RunOn).or_else(|error| unwritten(id, error, state))
        }
        _ => correct(context, id, &state),
    }
}

/// Whether there is no reason to look closer.
fn is_plausible(context: &Context, id: &str, state: &BoxState) -> Result<bool> {
    if !state.status.is_active() {
        return Ok(true);
    }
    // A stop takes a while, and holds the box's lock.
    Ok(state.status != Status::Stopping && is_supervised(&context.home.of_box(id))?)
}

/// Looks at every box whose row says that its machine may be running.
pub fn settle(context: &Context) -> Result<()> {
    for (config, _) in context.store.list_active()? {
        match state(context, &config.id) {
            Ok(state) if state.status.is_active() => {}
            Ok(state) => {
                tracing::info!("box {} is not running any more: {}", config.id, state.status)
            }
            // It is listed as what it is.
            Err(error) => tracing::warn!("box {}: {error}", config.id),
        }
    }
    Ok(())
}

/// The state of a box that may be started, which the caller has locked.
pub fn startable(context: &Context, id: &str) -> Result<BoxState> {
    if is_supervised(&context.home.of_box(id))? {
        let text = "another program has just started it: try again";
        return Err(Error::new(Code::Busy, text).object(id));
    }
    let state = read(context, id)?;
    let state = if state.status.is_active() { correct(context, id, &state)? } else { state };
    let disk = context.home.disk(id);
    if !disk.is_file() {
        let text = format!("its disk {} is gone", disk.display());
        return Err(Error::new(Code::Storage, text).object(id));
    }
    Ok(state)
}

/// A box's state as it is stored.
pub fn read(context: &Context, id: &str) -> Result<BoxState> {
    let (_, row) = context.store.load(id)?.ok_or_else(|| not_found(id))?;
    BoxState::from_row(&row)
}

/// Ends what the row says is still going on, in a box that the caller has locked.
fn correct(context: &Context, id: &str, state: &BoxState) -> Result<BoxState> {
    if let Err(error) = PidFile::sweep(&context.home.of_box(id)) {
        tracing::warn!("what the supervisor of box {id} left cannot be cleared away: {error}");
    }
    if let Some(run) = &state.run {
        settle_disk(context, id, run);
    }
    match &state.run {
        Some(run) => {
            let end = Change::End(how_it_ended(&context.home.of_box(id), run, state));
            note(context, id, run, &end).or_else(|error| {
                let ended = state.after(run, &end)?.unwrap_or_else(|| state.clone());
                unwritten(id, error, ended)
            })
        }
        // By other software, which counted no runs.
        None => {
            let status = match state.status {
                Status::Starting => Status::Configured,
                _ => Status::Stopped,
            };
            let corrected = BoxState { status, pid: None, ..state.clone() };
            let row = corrected.to_row(id)?;
            context.store.change_state(id, |_| Ok(Some(row))).map(|_| corrected)
        }
    }
}

/// After a run whose supervisor left no word, and was killed: waits for the end of the machine, which is
/// killed with it and may live on for a moment; and does away with what a start left that was cut off, and
/// with space that was lost on the disk. The caller has locked the box.
pub fn settle_disk(context: &Context, id: &str, run: &str) {
    if EndRecord::read(&context.home.of_box(id), run).is_some() {
        return;
    }
    let disk = context.home.disk(id);
    match cut_off::is_released(&disk) {
        Ok(true) => {}
        Ok(false) => {
            return tracing::warn!("a process still uses the disk of box {id}, {}", disk.display());
        }
        Err(error) => return tracing::warn!("the disk of box {id}: {error}"),
    }
    let settled = remove_leftovers(&disk).and_then(|()| cut_off::reclaim(&disk));
    if let Err(error) = settled {
        tracing::warn!("what was cut off with box {id} is still on its disk: {error}");
    }
}

fn unwritten(id: &str, error: Error, state: BoxState) -> Result<BoxState> {
    if error.code() == Code::NotFound {
        return Err(error);
    }
    tracing::error!("the state of box {id} was not written: {error}");
    Ok(state)
}

/// How a run ended that has no supervisor any more.
fn how_it_ended(box_dir: &Path, run: &str, state: &BoxState) -> End {
    if let Some(record) = EndRecord::read(box_dir, run) {
        let message = Some(record.message).filter(|m| !m.is_empty());
        return End { failed: record.code != 0, reason: message };
    }
    match (state.status, state.pid) {
        // The program died before there was a supervisor, or its end came first.
        (Status::Starting, _) | (_, None) => {
            End { failed: false, reason: Some("the program that started the box ended".into()) }
        }
        (_, Some(pid)) => {
            let killed = format!(
                "the box's supervisor (process {pid}) was killed, and the machine with it; found at {}",
                now()
            );
            End { failed: true, reason: Some(killed + &traces(box_dir, pid)) }
        }
    }
}

/// What a supervisor that was killed could not tell.
pub fn traces(box_dir: &Path, supervisor: u32) -> String {
    let memory = oom::killed(supervisor);
    let memory = memory.map(|line| format!("\n--- kernel log ---\n{line}")).unwrap_or_default();
    memory + &last_words(&box_dir.join("logs/console.log"), "guest console")
}
