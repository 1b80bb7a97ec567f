//! The running box whose disk goes on in another file, or consists of fewer: what guest, machine and files
//! do, in turn.

use std::path::Path;

use boxlite_protocol::message::{Failure, Standing};

use super::Service;
use crate::engine::{Machine, Merge};
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::supervisor::branch::{Asked, Progress, Wanted, refused, restless};

impl<M: Machine> Service<'_, M> {
    /// A program wants the disk to consist of other files.
    pub(super) async fn ask_branch(&mut self, asked: Asked) {
        match self.check_runs() {
            Err(error) if !asked.what.only_finishes() => {
                self.hub.answer(self.clients, asked.client, asked.id, Err(error));
            }
            _ => {
                self.disks.ask(asked);
                self.begin_branch().await;
            }
        }
    }

    /// Begins what is asked for next with the disk, if nothing is under way.
    pub(super) async fn begin_branch(&mut self) {
        while let Some(asked) = self.disks.next() {
            let (client, id) = (asked.client, asked.id);
            // Whatever comes, this comes first.
            let begun = match self.disks.finish() {
                Ok(finished) if asked.what.only_finishes() => Ok(Some(u32::from(finished))),
                Ok(_) => self.begin_one(asked).await.map(|()| None),
                Err(error) => Err(error),
            };
            if let Some(done) = begun.transpose() {
                self.hub.answer_with(self.clients, client, id, done);
            }
        }
    }

    async fn begin_one(&mut self, asked: Asked) -> Result<()> {
        self.check_runs()?;
        let home = self.spec.home();
        match &asked.what {
            Wanted::Branch(wanted) => {
                let branch = self.disks.plan(home, wanted)?;
                let request = self.hub.freeze();
                self.disks.begin(asked, branch, request);
            }
            Wanted::Merge(wanted) => {
                let (depth, backing) = self.disks.plan_merge(home, wanted)?;
                let upper = home.join(&wanted.upper);
                let merge = Merge { depth, upper: &upper, backing: backing.as_deref() };
                let work = self.machine.merge(&merge).await?;
                self.disks.merge(asked, depth, work);
            }
        }
        Ok(())
    }

    /// That the guest could come to rest, and QEMU let go of files.
    fn check_runs(&self) -> Result<()> {
        let refuse = |text: &str| Err(Error::new(Code::InvalidState, text));
        if self.deadline.is_some() {
            return refuse("the box is being stopped: its disk cannot be changed now");
        }
        if self.standing != Standing::Runs {
            let text = "the box is paused, and its disk cannot be changed: resume it first";
            return refuse(text);
        }
        Ok(())
    }

    /// The guest has come to rest, or cannot.
    pub(super) async fn frozen(&mut self, request: u64, answer: Result<(), Failure>) {
        // It took too long, and was told to go on.
        let Some(overlay) = self.disks.frozen(request).map(Path::to_owned) else { return };
        let work = match answer {
            Ok(()) => {
                failpoint::hit(Point::BranchFrozen);
                self.machine.branch(&overlay).await
            }
            Err(failure) => Err(refused(failure)),
        };
        match work {
            Ok(work) => self.disks.switch(work),
            Err(error) => self.end_branch(Err(error)).await,
        }
    }

    pub(super) async fn branch_goes_on(&mut self, progress: Progress) {
        match progress {
            Progress::Late if self.disks.gives_up() => {
                self.end_branch(Err(restless())).await;
            }
            Progress::Merged(done) => {
                failpoint::hit(Point::BranchMerged);
                if let Some(Asked { client, id, .. }) = self.disks.merged(done.is_ok()) {
                    self.hub.answer(self.clients, client, id, done);
                }
                self.begin_branch().await;
            }
            // QEMU alone says whether it has gone over, whenever that is.
            Progress::Late => self.thaw(),
            Progress::Switched(Ok(())) => {
                failpoint::hit(Point::BranchSwitched);
                self.disks.switched();
                // What the files are called is no matter to the guest.
                self.thaw();
                let named = self.disks.finish().map(drop);
                self.end_branch(named).await;
            }
            Progress::Switched(Err(error)) => self.end_branch(Err(error)).await,
        }
    }

    fn thaw(&mut self) {
        let request = self.hub.thaw();
        self.disks.thaws(request);
    }

    /// Answers who asked for it.
    pub(super) async fn end_branch(&mut self, done: Result<()>) {
        if self.disks.is_freezing() {
            self.thaw();
        }
        if let Some(Asked { client, id, .. }) = self.disks.end() {
            self.hub.answer(self.clients, client, id, done);
        }
        self.begin_branch().await;
    }
}
