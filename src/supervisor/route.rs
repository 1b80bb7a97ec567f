//! One command of a box: who has it, and where its streams go.

use std::time::{SystemTime, UNIX_EPOCH};

use boxlite_protocol::flow;
use boxlite_protocol::message::{Exec, ExecEntry, stream};
use bytes::Bytes;

use super::follow::Spooled;
use super::peer::ClientId;

/// In the place of a program: the supervisor itself.
pub const OWN: ClientId = ClientId::MAX;
/// In the place of a program: the box, whose main process it is.
pub const MAIN: ClientId = ClientId::MAX - 1;

/// How much of a command's arguments is remembered, in bytes.
const MAX_ARGUMENTS: usize = 512;

/// Where a command's streams go.
pub struct Route {
    pub client: ClientId,
    /// The program's own number for it.
    pub name: u32,
    /// The program is gone: output is discarded until the process has ended.
    pub orphaned: bool,
    /// What is kept of the output of a detached one, in place of a program that gets it.
    pub spooled: Option<Box<Spooled>>,
    pub about: ExecEntry,
    /// A bit for each output that has come to its end.
    pub ended: u8,
    pub stdin: flow::Send,
    /// It has a stdin that was not closed.
    pub stdin_open: bool,
    stdout: flow::Receive,
    stderr: flow::Receive,
}

impl Route {
    pub fn new(client: ClientId, number: u32, exec: &Exec, spooled: Option<Spooled>) -> Route {
        // A spool takes what comes: the window is ours, as that of a program is its own.
        let window = if spooled.is_some() { boxlite_protocol::WINDOW } else { exec.window };
        Route {
            client,
            name: exec.exec,
            orphaned: false,
            about: ExecEntry {
                number,
                argv: beginning(&exec.argv),
                started_ms: now_ms(),
                main: client == MAIN,
                detached: spooled.is_some(),
                ..ExecEntry::default()
            },
            spooled: spooled.map(Box::new),
            ended: 0,
            stdin: flow::Send::default(),
            stdin_open: exec.stdin,
            stdout: flow::Receive::new(window),
            stderr: flow::Receive::new(window),
        }
    }

    pub fn output(&mut self, stream: u32) -> Option<&mut flow::Receive> {
        match stream {
            stream::STDOUT => Some(&mut self.stdout),
            stream::STDERR => Some(&mut self.stderr),
            _ => None,
        }
    }

    /// Whether nobody's credit is waited for: what comes is kept, or dropped.
    pub fn flows(&self) -> bool {
        self.orphaned || self.spooled.is_some()
    }

    pub fn describe(&self) -> ExecEntry {
        match &self.spooled {
            Some(spooled) => spooled.describe(&self.about),
            None => self.about.clone(),
        }
    }
}

/// As many arguments as fit; of the first at least its beginning.
fn beginning(argv: &[Bytes]) -> Vec<Bytes> {
    let mut left = MAX_ARGUMENTS;
    let fits = |argument: &&Bytes| {
        let fits = argument.len() <= left;
        left = left.saturating_sub(argument.len());
        fits
    };
    let fitting: Vec<Bytes> =
        argv.iter().take_while(fits).map(|a| Bytes::copy_from_slice(a)).collect();
    match (fitting.is_empty(), argv.first()) {
        (true, Some(first)) => {
            vec![Bytes::copy_from_slice(&first[..first.len().min(MAX_ARGUMENTS)])]
        }
        _ => fitting,
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
