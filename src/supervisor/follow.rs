//! Detached commands: their output goes to spools, and any number of programs follow it.
//!
//! The command never waits for a reader. Each follower has its own place in the stream and its own
//! credit, and is told of what was gone before it came to it.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use boxlite_protocol::MAX_CHUNK;
use boxlite_protocol::flow;
use boxlite_protocol::message::{
    Data, ExecEntry, Exited, Follow, FromSupervisor, Gap, Held, from_supervisor, stream,
};
use bytes::Bytes;

use super::peer::{ClientId, Clients};
use crate::channel::spool::{self, Piece, Spool};
use crate::error::{Code, Error, Result};

/// What a follower may have granted and not got yet, on each stream.
const MAX_WINDOW: u64 = 1 << 20;

/// Commands that have ended and can still be followed, beside the main process.
const FINISHED: usize = 32;

/// The two outputs, in the order in which they are kept.
const OUTPUTS: [u32; 2] = [stream::STDOUT, stream::STDERR];

/// Where the spools of a run of a box are.
#[derive(Debug, Clone)]
pub struct Place {
    directory: PathBuf,
    size: u64,
    run: String,
}

impl Place {
    /// Makes room for the spools of a run; those of the run before are gone.
    pub fn clear(box_dir: &Path, size: u64, run: &str) -> Result<Place> {
        let place = Place { directory: spool::directory(box_dir), size, run: run.to_owned() };
        let cleared = match fs::remove_dir_all(&place.directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        cleared.and_then(|()| fs::create_dir_all(&place.directory)).map_err(|e| {
            Error::io(Code::Storage, format!("clear {}", place.directory.display()), &e)
        })?;
        Ok(place)
    }
}

/// The spools of one command, and who follows them.
pub struct Spooled {
    outputs: [Output; 2],
    followers: Vec<Follower>,
    exited: Option<Exited>,
}

struct Output {
    path: PathBuf,
    spool: Spool,
    ended: bool,
    /// It could not be written last time.
    failing: bool,
}

struct Follower {
    client: ClientId,
    /// The program's own number for the command.
    name: u32,
    places: [flow::Send; 2],
    /// Was told of the end of the stream.
    told: [bool; 2],
}

/// A follower who has got everything, or nobody any more: client and name.
pub type Done = (ClientId, u32);

impl Spooled {
    /// Spools for a command, by the guest's number for it.
    pub fn create(place: &Place, number: u32) -> Result<Spooled> {
        let output = |stream| {
            let path = spool::path(&place.directory, number, stream);
            let spool = Spool::create(&path, place.size, &place.run)?;
            Ok(Output { path, spool, ended: false, failing: false })
        };
        let outputs = [output(stream::STDOUT)?, output(stream::STDERR)?];
        Ok(Spooled { outputs, followers: Vec::new(), exited: None })
    }

    /// What the list of commands says of the output.
    pub fn describe(&self, about: &ExecEntry) -> ExecEntry {
        let held = |output: &Output| {
            let held = output.spool.held();
            Some(Held { start: held.start, total: held.total })
        };
        let [stdout, stderr] = &self.outputs;
        ExecEntry {
            stdout: held(stdout),
            stderr: held(stderr),
            exited: self.exited.map(|exited| Exited { exec: about.number, ..exited }),
            ..about.clone()
        }
    }

    /// Lets a program follow; [`Spooled::pump`] sends it what there is.
    pub fn follow(&mut self, client: ClientId, follow: &Follow) -> Result<(), String> {
        let window = follow.window.min(MAX_WINDOW);
        let mut places = [flow::Send::default(), flow::Send::default()];
        for (index, from) in [follow.stdout_from, follow.stderr_from].into_iter().enumerate() {
            let total = self.outputs[index].spool.held().total;
            if from > total {
                let name = if index == 0 { "stdout" } else { "stderr" };
                return Err(format!("offset {from} of {name} is beyond its {total} bytes"));
            }
            places[index] = flow::Send::starting_at(from, window);
        }
        self.followers.push(Follower { client, name: follow.exec, places, told: [false; 2] });
        Ok(())
    }

    /// Adds to an output, which nobody has to take.
    pub fn append(&mut self, data: &Data, clients: &Clients) {
        let output = &mut self.outputs[index(data.stream)];
        output.ended |= data.eof;
        match output.spool.append(&data.bytes) {
            // Said once: the log must not grow with what is lost.
            Err(error) if !output.failing => {
                eprintln!("boxlite-shim: {}: output is lost: {error}", output.path.display());
                output.failing = true;
            }
            Err(_) => {}
            Ok(()) => output.failing = false,
        }
        // The command runs: nobody has got everything.
        let _ = self.pump(clients);
    }

    /// Adds to a follower's credit.
    pub fn grant(
        &mut self,
        follower: Done,
        stream: u32,
        bytes: u64,
        clients: &Clients,
    ) -> Vec<Done> {
        let found = self.followers.iter_mut().find(|f| (f.client, f.name) == follower);
        if let (Some(found), true) = (found, OUTPUTS.contains(&stream)) {
            let place = &mut found.places[index(stream)];
            // One who grants more than it can have taken only harms itself.
            let bytes = bytes.min(MAX_WINDOW.saturating_sub(place.available()));
            let _ = place.grant(bytes);
        }
        self.pump(clients)
    }

    pub fn leave(&mut self, follower: Done) {
        self.followers.retain(|f| (f.client, f.name) != follower);
    }

    pub fn client_gone(&mut self, client: ClientId) {
        self.followers.retain(|f| f.client != client);
    }

    /// The command has ended: nothing comes any more.
    pub fn exit(&mut self, exited: Exited, clients: &Clients) -> Vec<Done> {
        self.exited = Some(exited);
        for output in &mut self.outputs {
            output.ended = true;
            if let Err(error) = output.spool.end(exited.code, exited.signal) {
                eprintln!("boxlite-shim: {}: {error}", output.path.display());
            }
        }
        self.pump(clients)
    }

    /// Sends each follower as much as it has credit for. Returns those who have everything.
    pub fn pump(&mut self, clients: &Clients) -> Vec<Done> {
        let mut done = Vec::new();
        let (outputs, exited) = (&self.outputs, self.exited);
        self.followers.retain_mut(|follower| {
            let stdout = follower.send(0, &outputs[0], clients);
            let stderr = follower.send(1, &outputs[1], clients);
            match exited {
                Some(exited) if stdout && stderr => {
                    follower.exited(exited, clients);
                    done.push((follower.client, follower.name));
                    false
                }
                _ => true,
            }
        });
        done
    }

    /// Nobody can follow it any more: who does gets a gap in place of the rest. Its files go.
    pub fn remove(mut self, clients: &Clients) -> Vec<Done> {
        for follower in &mut self.followers {
            for (at, output) in self.outputs.iter().enumerate() {
                follower.gap(at, output.spool.held().total, clients);
            }
        }
        let done = self.pump(clients);
        self.discard();
        done
    }

    /// The command never ran, or nobody asks for it any more.
    pub fn discard(self) {
        for output in &self.outputs {
            // What stays is cleared with the next run.
            let _ = fs::remove_file(&output.path);
        }
    }
}

fn index(stream: u32) -> usize {
    usize::from(stream == stream::STDERR)
}

impl Follower {
    fn tell(&self, body: from_supervisor::Body, clients: &Clients) {
        clients.send(self.client, FromSupervisor { body: Some(body) });
    }

    fn exited(&self, exited: Exited, clients: &Clients) {
        self.tell(from_supervisor::Body::Exited(Exited { exec: self.name, ..exited }), clients);
    }

    /// Sends what there is of an output; true if that was all there ever will be.
    fn send(&mut self, at: usize, output: &Output, clients: &Clients) -> bool {
        loop {
            let (offset, room) = (self.places[at].offset(), self.places[at].available());
            if room == 0 {
                // Of a gap too it is told when it can go on: what waits for it stays small.
                break;
            }
            match output.spool.read(offset, room.min(MAX_CHUNK as u64)) {
                Piece::Gap(bytes) => self.gap(at, offset + bytes, clients),
                Piece::Bytes(bytes) => {
                    self.places[at].take(bytes.len() as u64);
                    self.data(at, offset, bytes, false, clients);
                }
                Piece::End => break,
            }
        }
        let offset = self.places[at].offset();
        let all = output.ended && offset >= output.spool.held().total;
        if all && !self.told[at] {
            self.told[at] = true;
            self.data(at, offset, Bytes::new(), true, clients);
        }
        all
    }

    fn data(&self, at: usize, offset: u64, bytes: Bytes, eof: bool, clients: &Clients) {
        let data = Data { exec: self.name, stream: OUTPUTS[at], offset, bytes, eof };
        self.tell(from_supervisor::Body::Data(data), clients);
    }

    /// Passes over what is gone before an offset.
    fn gap(&mut self, at: usize, until: u64, clients: &Clients) {
        let offset = self.places[at].offset();
        let bytes = until.saturating_sub(offset);
        if bytes > 0 {
            self.places[at].skip(bytes);
            let gap = Gap { exec: self.name, stream: OUTPUTS[at], offset, bytes };
            self.tell(from_supervisor::Body::Gap(gap), clients);
        }
    }
}

/// Detached commands that have ended.
#[derive(Default)]
pub struct Finished {
    list: VecDeque<(ExecEntry, Spooled)>,
}

impl Finished {
    /// Keeps one, in place of the one that ended first if there are too many.
    pub fn keep(&mut self, about: ExecEntry, spooled: Spooled, clients: &Clients) -> Vec<Done> {
        self.list.push_back((about, spooled));
        let others = self.list.iter().filter(|(about, _)| !about.main).count();
        let oldest = self.list.iter().position(|(about, _)| !about.main);
        match oldest.filter(|_| others > FINISHED).and_then(|at| self.list.remove(at)) {
            Some((_, spooled)) => spooled.remove(clients),
            None => Vec::new(),
        }
    }

    pub fn get(&mut self, number: u32) -> Option<&mut Spooled> {
        let found = self.list.iter_mut().find(|(about, _)| about.number == number);
        found.map(|(_, spooled)| spooled)
    }

    pub fn describe(&self) -> impl Iterator<Item = ExecEntry> {
        self.list.iter().map(|(about, spooled)| spooled.describe(about))
    }

    pub fn client_gone(&mut self, client: ClientId) {
        self.list.iter_mut().for_each(|(_, spooled)| spooled.client_gone(client));
    }
}
