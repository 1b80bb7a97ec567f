//! The output of a detached command from the files that its supervisor left.

use std::path::Path;
use std::sync::{Arc, Weak};

use boxlite_protocol::MAX_CHUNK;
use boxlite_protocol::message::{Data, ToSupervisor, stream};
use tokio::sync::mpsc;

use super::exec::{ExecStreams, ExitStatus, Kind};
use super::spool::{self, Piece, SpoolReader};
use crate::error::{Code, Error, Result};

/// A command of a run that is over.
pub struct Replay {
    number: u32,
    outputs: [(u32, SpoolReader); 2],
}

impl Replay {
    /// What is left of the command that the supervisor of a box's run knew by a number.
    pub fn open(box_dir: &Path, run: &str, number: u32) -> Result<Replay> {
        let directory = spool::directory(box_dir);
        let output = |stream| {
            let reader = SpoolReader::open(&spool::path(&directory, number, stream))?;
            if reader.run() != run {
                return Err(Error::new(Code::NotFound, "its output is of another run"));
            }
            Ok((stream, reader))
        };
        Ok(Replay { number, outputs: [output(stream::STDOUT)?, output(stream::STDERR)?] })
    }

    /// The command's streams from offsets of stdout and stderr on. If nobody saw its end, that is the
    /// given error.
    pub fn streams(self, from: [u64; 2], unseen: Error) -> Result<Arc<ExecStreams>> {
        for ((stream, reader), from) in self.outputs.iter().zip(from) {
            let total = reader.held().map_err(|e| unreadable(&e))?.total;
            if from > total {
                let name = if *stream == stream::STDERR { "stderr" } else { "stdout" };
                let text = format!("offset {from} of {name} is beyond its {total} bytes");
                return Err(Error::new(Code::InvalidArgument, text).object(name));
            }
        }
        let nobody = mpsc::unbounded_channel().0;
        let streams = ExecStreams::new(0, nobody, false, Kind::Followed, from);
        streams.set_number(self.number);
        self.take_over(&streams, unseen);
        Ok(streams)
    }

    /// Goes on with a command where its supervisor stopped.
    pub fn take_over(self, streams: &Arc<ExecStreams>, unseen: Error) {
        streams.tell_end(&self.exit(unseen.clone()));
        let calls = streams.take_over();
        tokio::spawn(self.run(Arc::downgrade(streams), calls, unseen));
    }

    async fn run(
        self,
        streams: Weak<ExecStreams>,
        mut calls: mpsc::UnboundedReceiver<ToSupervisor>,
        unseen: Error,
    ) {
        loop {
            let Some(streams) = streams.upgrade() else { return };
            match self.feed(&streams) {
                Ok(false) => {}
                Ok(true) => return streams.on_exit(self.exit(unseen)),
                Err(error) => return streams.on_exit(Err(error)),
            }
            drop(streams);
            // Whatever is said there, it means that there may be room now.
            if calls.recv().await.is_none() {
                return;
            }
        }
    }

    /// Gives as much as there is room for; true if that was the rest.
    fn feed(&self, streams: &ExecStreams) -> Result<bool> {
        let mut all = true;
        for (stream, reader) in &self.outputs {
            let stream = *stream;
            loop {
                let (offset, room) = streams.room(stream);
                if room == 0 {
                    all &= reader.held().map_err(|e| unreadable(&e))?.total <= offset;
                    break;
                }
                let piece = reader.read(offset, room.min(MAX_CHUNK as u64));
                let taken = match piece.map_err(|e| unreadable(&e))? {
                    Piece::Gap(bytes) => streams.on_gap(stream, offset, bytes),
                    Piece::Bytes(bytes) => {
                        let exec = streams.id();
                        streams.on_data(&Data { exec, stream, offset, bytes, eof: false })
                    }
                    Piece::End => break,
                };
                taken.map_err(|v| Error::new(Code::Internal, v.to_string()))?;
            }
        }
        Ok(all)
    }

    fn exit(&self, unseen: Error) -> Result<ExitStatus> {
        let [(_, stdout), _] = &self.outputs;
        match stdout.end().map_err(|e| unreadable(&e))? {
            Some((code, signal)) => Ok(ExitStatus::of(code, signal)),
            None => Err(unseen),
        }
    }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::io(Code::Storage, "read the command's output", error)
}

#[cfg(test)]
mod tests {
    use super::super::exec::ExecEvent;
    use super::*;
    use crate::channel::spool::Spool;

    const RUN: &str = "r";

    fn unseen() -> Error {
        Error::new(Code::Stopped, "nobody saw it")
    }

    /// A command that has written so much to its stdout.
    fn spooled(dir: &Path, length: usize) -> Spool {
        std::fs::create_dir_all(spool::directory(dir)).unwrap();
        let create = |stream| {
            let path = spool::path(&spool::directory(dir), 7, stream);
            Spool::create(&path, 1 << 20, RUN).unwrap()
        };
        create(stream::STDERR);
        let mut stdout = create(stream::STDOUT);
        stdout.append(&vec![b'x'; length]).unwrap();
        stdout
    }

    /// Bytes lost, bytes got, and the end.
    async fn all(streams: &ExecStreams) -> (u64, usize, Result<ExitStatus>) {
        let (mut lost, mut got) = (0, 0);
        loop {
            let next = std::future::poll_fn(|cx| {
                streams.poll_event(cx, crate::channel::exec::Wanted::ALL)
            });
            match next.await.unwrap() {
                ExecEvent::Gap { bytes, .. } => lost += bytes,
                ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => got += bytes.len(),
                ExecEvent::Exit(exit) => return (lost, got, exit),
            }
        }
    }

    #[tokio::test]
    async fn the_rest_comes_however_slowly_it_is_read_and_then_the_end() {
        let dir = tempfile::tempdir().unwrap();
        spooled(dir.path(), 3 << 20).end(3, 0).unwrap();
        let open = || Replay::open(dir.path(), RUN, 7).unwrap();
        let (lost, got, exit) = all(&open().streams([0, 0], unseen()).unwrap()).await;
        assert_eq!((lost, got, exit.unwrap().code), (2 << 20, 1 << 20, 3));
        let (lost, got, _) = all(&open().streams([3 << 20, 0], unseen()).unwrap()).await;
        assert_eq!((lost, got), (0, 0));
        let error = open().streams([(3 << 20) + 1, 0], unseen()).err().unwrap();
        assert_eq!(error.code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn an_end_that_nobody_saw_is_an_error_and_another_run_is_none() {
        let dir = tempfile::tempdir().unwrap();
        spooled(dir.path(), 10);
        let replay = Replay::open(dir.path(), RUN, 7).unwrap();
        let (_, got, exit) = all(&replay.streams([2, 0], unseen()).unwrap()).await;
        assert_eq!((got, exit.unwrap_err().code()), (8, Code::Stopped));
        let error = Replay::open(dir.path(), "another", 7).err().unwrap();
        assert_eq!(error.code(), Code::NotFound);
        assert!(Replay::open(dir.path(), RUN, 8).is_err());
    }
}
