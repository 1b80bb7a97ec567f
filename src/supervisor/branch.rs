//! Changing which files the disk consists of while the machine runs.
//!
//! - It goes on in another file: the guest's file system is frozen, QEMU goes over to the overlay, the file
//!   system thaws, and the files get their names.
//! - Two of its files become one: QEMU copies, and the guest notices nothing.
//!
//! One at a time. Whoever asked may be gone when it is done: it is carried to its end all the same.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxlite_protocol::message::{self, Failure};
use tokio::time::Instant;

use super::peer::ClientId;
use crate::disk::branch::{Branch, Points, overlay_beside};
use crate::disk::chain::{Chain, Link, named_from};
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
    pub what: Wanted,
}

pub enum Wanted {
    Branch(message::Branch),
    Merge(message::Merge),
}

impl Wanted {
    /// Whether only what was begun before is to be finished.
    pub fn only_finishes(&self) -> bool {
        matches!(self, Wanted::Branch(branch) if branch.only_finish)
    }
}

/// What the disk is, and what is under way with it.
pub struct Disks {
    /// None if the disk is no chain of files.
    chain: Option<Chain>,
    waiting: VecDeque<Asked>,
    current: Option<Current>,
    merging: Option<Merging>,
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

struct Merging {
    asked: Asked,
    /// The file that goes, counted from the top.
    lower: usize,
    work: Work,
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
    /// Two files have become one, or have not.
    Merged(Result<()>),
    /// It takes too long.
    Late,
}

impl Disks {
    pub fn new(chain: Option<Chain>) -> Disks {
        let waiting = VecDeque::new();
        Disks { chain, waiting, current: None, merging: None, unnamed: None, thawing: None }
    }

    /// Takes a request, to be begun when it is its turn.
    pub fn ask(&mut self, asked: Asked) {
        self.waiting.push_back(asked);
    }

    /// The request whose turn it is.
    pub fn next(&mut self) -> Option<Asked> {
        let first = self.waiting.front()?;
        let is_idle = self.current.is_none() && self.merging.is_none();
        let is_its_turn = is_idle && (self.thawing.is_none() || first.what.only_finishes());
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

    /// Where in the disk two files are that are to become one: how many are above both, and what the upper
    /// one names then.
    pub fn plan_merge(
        &self,
        home: &Path,
        asked: &message::Merge,
    ) -> Result<(usize, Option<PathBuf>)> {
        let links = self.chain.as_ref().map_or(&[][..], |chain| &chain.links);
        let (upper, lower) = (home.join(&asked.upper), home.join(&asked.lower));
        let pairs = links.iter().zip(links.iter().skip(1));
        let depth = pairs.clone().position(|(a, b)| a.path == upper && b.path == lower);
        let depth = depth.ok_or_else(|| {
            let text =
                format!("in the disk of this box, {} is not on {}", asked.upper, asked.lower);
            Error::new(Code::InvalidState, text)
        })?;
        Ok((depth, links.get(depth + 2).map(|link| named_from(&upper, &link.path))))
    }

    /// QEMU copies. `depth` is that of the file which stays.
    pub fn merge(&mut self, asked: Asked, depth: usize, work: Work) {
        self.merging = Some(Merging { asked, lower: depth + 1, work });
    }

    /// It does not any more: who wanted it. If it did, the lower file is none of the disk's now.
    pub fn merged(&mut self, done: bool) -> Option<Asked> {
        let Merging { asked, lower, .. } = self.merging.take()?;
        if let Some(chain) = self.chain.as_mut().filter(|chain| done && lower < chain.links.len()) {
            chain.links.remove(lower);
        }
        Some(asked)
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
        if let Some(merging) = &mut self.merging {
            return Progress::Merged(poll_fn(|context| merging.work.as_mut().poll(context)).await);
        }
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
