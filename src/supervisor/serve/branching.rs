//! The running box whose disk goes on in another file: what guest, machine and files do, in turn.

use std::path::Path;

use boxlite_protocol::message::{Failure, Standing};

use super::Service;
use crate::disk::branch::Branch;
use crate::engine::Machine;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};
use crate::supervisor::branch::{Asked, Progress, refused, restless};

impl<M: Machine> Service<'_, M> {
    /// A program wants the disk to go on in another file.
    pub(super) fn ask_branch(&mut self, asked: Asked) {
        match self.check_runs() {
            Err(error) if !asked.branch.only_finish => {
                self.hub.answer(self.clients, asked.client, asked.id, Err(error));
            }
            _ => {
                self.disks.ask(asked);
                self.begin_branch();
            }
        }
    }

    /// Begins what is asked for next with the disk, if nothing is under way.
    pub(super) fn begin_branch(&mut self) {
        while let Some(asked) = self.disks.next() {
            // Whatever comes, this comes first.
            let done = self.disks.finish().and_then(|finished| match asked.branch.only_finish {
                true => Ok(Some(u32::from(finished))),
                false => self.plan_branch(&asked).map(|branch| {
                    let request = self.hub.freeze();
                    self.disks.begin(
                        Asked { branch: asked.branch.clone(), ..asked },
                        branch,
                        request,
                    );
                    None
                }),
            });
            if let Some(done) = done.transpose() {
                self.hub.answer_with(self.clients, asked.client, asked.id, done);
            }
        }
    }

    fn plan_branch(&self, asked: &Asked) -> Result<Branch> {
        self.check_runs()?;
        self.disks.plan(self.spec.home(), &asked.branch)
    }

    /// That the guest could come to rest.
    fn check_runs(&self) -> Result<()> {
        let refuse = |text: &str| Err(Error::new(Code::InvalidState, text));
        if self.deadline.is_some() {
            return refuse("the box is being stopped: its disk cannot be frozen now");
        }
        if self.standing != Standing::Runs {
            let text = "the box is paused, and its file system cannot be frozen: resume it first";
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
            Err(error) => self.end_branch(Err(error)),
        }
    }

    pub(super) async fn branch_goes_on(&mut self, progress: Progress) {
        match progress {
            Progress::Late if self.disks.gives_up() => {
                self.end_branch(Err(restless()));
            }
            // QEMU alone says whether it has gone over, whenever that is.
            Progress::Late => self.thaw(),
            Progress::Switched(Ok(())) => {
                failpoint::hit(Point::BranchSwitched);
                self.disks.switched();
                // What the files are called is no matter to the guest.
                self.thaw();
                let named = self.disks.finish().map(drop);
                self.end_branch(named);
            }
            Progress::Switched(Err(error)) => self.end_branch(Err(error)),
        }
    }

    fn thaw(&mut self) {
        let request = self.hub.thaw();
        self.disks.thaws(request);
    }

    /// Answers who asked for it.
    pub(super) fn end_branch(&mut self, done: Result<()>) {
        if self.disks.is_freezing() {
            self.thaw();
        }
        if let Some(Asked { client, id, .. }) = self.disks.end() {
            self.hub.answer(self.clients, client, id, done);
        }
        self.begin_branch();
    }
}
