//! Having the disk go on in another file while the machine runs: the guest's file system is frozen, QEMU
//! goes over to the overlay, the file system thaws, and the files get their names.
//!
//! One at a time. Whoever asked may be gone when it is done: it is carried to its end all the same.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::Path;
use std::time::Duration;

use boxlite_protocol::message::{self, Failure};
use tokio::time::Instant;

use super::peer::ClientId;
use crate::disk::branch::{Branch, Points, overlay_beside};
use crate::disk::chain::{Chain, Link};
use crate::disk::overlay::DiskFormat;
use crate::engine::Work;
use crate::error::{Code, Error, Result};
use crate::failpoint::Point;

/// How long the guest's file system may take to come to rest.
pub const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

/// Where a test may end the supervisor.
const POINTS: Points = [Point::BranchMoved, Point::BranchNamed, Point::BranchPlaced];

/// Who asked for what.
pub struct Asked {
    pub client: ClientId,
    pub id: u64,
    pub branch: message::Branch,
}

/// What the disk is, and what is under way with it.
pub struct Disks {
    /// None if the disk is no chain of files.
    chain: Option<Chain>,
    waiting: VecDeque<Asked>,
    current: Option<Current>,
    /// The machine writes to the overlay, and not all files have their names yet.
    unnamed: Option<Branch>,
    /// The request by which the guest is to go on.
    thawing: Option<u64>,
}

struct Current {
    asked: Asked,
    branch: Branch,
    step: Step,
    /// When the guest is to go on, whatever has happened.
    deadline: Instant,
    /// The guest was told to go on.
    thawed: bool,
}

enum Step {
    /// The guest comes to rest, by this request.
    Freezing(u64),
    /// QEMU goes over to the overlay.
    Switching(Work),
}

/// What has happened.
pub enum Progress {
    /// QEMU has gone over, or has not.
    Switched(Result<()>),
    /// It takes too long.
    Late,
}

impl Disks {
    pub fn new(chain: Option<Chain>) -> Disks {
        let waiting = VecDeque::new();
        Disks { chain, waiting, current: None, unnamed: None, thawing: None }
    }

    /// Takes a request, to be begun when it is its turn.
    pub fn ask(&mut self, asked: Asked) {
        self.waiting.push_back(asked);
    }

    /// The request whose turn it is.
    pub fn next(&mut self) -> Option<Asked> {
        let first = self.waiting.front()?;
        let is_its_turn =
            self.current.is_none() && (self.thawing.is_none() || first.branch.only_finish);
        if is_its_turn { self.waiting.pop_front() } else { None }
    }

    /// Whether the guest stands still, or is about to.
    pub fn is_freezing(&self) -> bool {
        self.current.as_ref().is_some_and(|current| !current.thawed)
    }

    /// Finishes what was not; tells whether there was anything.
    pub fn finish(&mut self) -> Result<bool> {
        let Some(branch) = &self.unnamed else { return Ok(false) };
        branch.finish(&POINTS)?;
        if let Some(chain) = &mut self.chain {
            let frozen = Link { path: branch.frozen.clone(), format: DiskFormat::Qcow2 };
            chain.links.insert(1, frozen);
        }
        self.unnamed = None;
        Ok(true)
    }

    /// What is to be done for a request, in a home.
    pub fn plan(&self, home: &Path, asked: &message::Branch) -> Result<Branch> {
        let chain = self.chain.as_ref();
        let chain = chain.ok_or_else(|| Error::new(Code::InvalidState, "the box has no disk"))?;
        let branch = Branch::new(chain, home.join(&asked.frozen));
        if branch.overlay != home.join(&asked.overlay)
            || branch.overlay != overlay_beside(chain.top())
        {
            let text = format!("{} is not where the disk goes on", asked.overlay);
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(branch)
    }

    /// The guest was asked to freeze, by this request.
    pub fn begin(&mut self, asked: Asked, branch: Branch, request: u64) {
        let deadline = Instant::now() + FREEZE_PATIENCE;
        let step = Step::Freezing(request);
        self.current = Some(Current { asked, branch, step, deadline, thawed: false });
    }

    /// The overlay, if the guest has come to rest at this request.
    pub fn frozen(&self, request: u64) -> Option<&Path> {
        match &self.current {
            Some(Current { step: Step::Freezing(asked), branch, .. }) if *asked == request => {
                Some(&branch.overlay)
            }
            _ => None,
        }
    }

    /// QEMU goes over.
    pub fn switch(&mut self, work: Work) {
        if let Some(current) = &mut self.current {
            current.step = Step::Switching(work);
        }
    }

    /// The guest was told to go on, by this request.
    pub fn thaws(&mut self, request: u64) {
        self.thawing = Some(request);
        if let Some(current) = &mut self.current {
            current.thawed = true;
        }
    }

    /// It does. Before, it could not freeze again.
    pub fn thawed(&mut self, request: u64) {
        if self.thawing == Some(request) {
            self.thawing = None;
        }
    }

    /// The machine writes to the overlay.
    pub fn switched(&mut self) {
        self.unnamed = self.current.as_ref().map(|current| current.branch.clone());
    }

    /// Whose request is over.
    pub fn end(&mut self) -> Option<Asked> {
        self.current.take().map(|current| current.asked)
    }

    /// Waits for something to happen. Cancel-safe.
    pub async fn progress(&mut self) -> Progress {
        let Some(current) = &mut self.current else { return std::future::pending().await };
        let late = async {
            match current.thawed {
                // Nobody else waits for it.
                true => std::future::pending().await,
                false => tokio::time::sleep_until(current.deadline).await,
            }
        };
        let step = &mut current.step;
        let switched = poll_fn(|context| match step {
            Step::Switching(work) => work.as_mut().poll(context),
            Step::Freezing(_) => std::task::Poll::Pending,
        });
        tokio::select! {
            switched = switched => Progress::Switched(switched),
            () = late => Progress::Late,
        }
    }

    /// Whether it is not known any more what the guest does when it takes too long.
    pub fn gives_up(&self) -> bool {
        matches!(&self.current, Some(Current { step: Step::Freezing(_), .. }))
    }
}

/// What is said of a guest that does not come to rest.
pub fn restless() -> Error {
    let text = format!(
        "the box's file system did not come to rest within {} s, as its processes write more than the \
         host's disk takes: nothing was changed; try again when they write less",
        FREEZE_PATIENCE.as_secs()
    );
    Error::new(Code::Timeout, text)
}

/// What is said of a guest that refuses.
pub fn refused(failure: Failure) -> Error {
    let text = format!("the box's file system cannot be frozen: {}", failure.message);
    let error = Error::new(Code::Portal, text);
    if failure.errno == 0 { error } else { error.errno(failure.errno) }
}
