//! The state of work that completes once.
//!
//! Whoever does the work reports progress and completes it; whoever started it sets callbacks,
//! takes the result, or lets go of it, in any order and on any threads. Here is decided what
//! each of them gets. Nothing is called and nothing of the caller's is dropped while anything is
//! locked: what must be dropped is returned.

use std::collections::VecDeque;

use crate::sync::{self, Mutex, MutexGuard};

/// Progress that nobody has asked for yet: the oldest goes first.
const MAX_PROGRESS: usize = 64;

/// Work with results of type `T` or `E`, and progress of type `P`. `C` and `O` are the callbacks
/// for completion and progress.
pub struct Completion<T, E, P, C, O> {
    state: Mutex<State<T, E, P, C, O>>,
}

struct State<T, E, P, C, O> {
    outcome: Option<Result<Option<T>, E>>,
    progress: VecDeque<P>,
    on_progress: Option<O>,
    on_complete: Option<C>,
    /// The owner let go: nobody is called any more.
    freed: bool,
}

/// A callback that is to be called.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<P, C, O> {
    Progress(O, P),
    Complete(C),
}

/// Why a result cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub enum NoResult<E> {
    /// The work is still under way.
    Incomplete,
    /// The work failed.
    Failed(E),
    /// The result is of another kind; it stays where it is.
    OtherKind,
    /// It was taken already.
    Taken,
}

/// Whoever dispatches has something to do.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsDue(pub bool);

impl<T, E, P, C, O> Default for Completion<T, E, P, C, O> {
    fn default() -> Self {
        Completion {
            state: Mutex::new(State {
                outcome: None,
                progress: VecDeque::new(),
                on_progress: None,
                on_complete: None,
                freed: false,
            }),
        }
    }
}

impl<T, E: Clone, P, C, O: Clone> Completion<T, E, P, C, O> {
    fn lock(&self) -> MutexGuard<'_, State<T, E, P, C, O>> {
        sync::lock(&self.state)
    }

    // ---- for whoever does the work -------------------------------------------------------------

    /// Reports progress. `supersedes` says whether it makes the one before it worthless.
    pub fn progress(&self, progress: P, supersedes: impl FnOnce(&P, &P) -> bool) -> IsDue {
        let mut state = self.lock();
        if state.freed {
            return IsDue(false);
        }
        match state.progress.back_mut() {
            Some(last) if supersedes(&progress, last) => *last = progress,
            _ => state.progress.push_back(progress),
        }
        if state.progress.len() > MAX_PROGRESS {
            state.progress.pop_front();
        }
        IsDue(state.on_progress.is_some())
    }

    /// Completes the work. The first completion counts; an outcome that nobody can take any more
    /// is given back.
    pub fn complete(&self, outcome: Result<T, E>) -> (IsDue, Option<Result<T, E>>) {
        let mut state = self.lock();
        if state.freed || state.outcome.is_some() {
            return (IsDue(false), Some(outcome));
        }
        state.outcome = Some(outcome.map(Some));
        (IsDue(state.on_complete.is_some()), None)
    }

    // ---- for whoever started it ----------------------------------------------------------------

    pub fn is_done(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// How the work ended, without its result.
    pub fn outcome(&self) -> Result<(), NoResult<E>> {
        match &self.lock().outcome {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(NoResult::Failed(error.clone())),
            None => Err(NoResult::Incomplete),
        }
    }

    /// Takes the result, once, if `pick` finds it to be of the wanted kind.
    pub fn take<U>(&self, pick: impl FnOnce(T) -> Result<U, T>) -> Result<U, NoResult<E>> {
        self.take_part(|value| pick(value).map(|taken| (taken, None)))
    }

    /// As [`Completion::take`], where `pick` may leave something of it to be taken by others.
    pub fn take_part<U>(
        &self,
        pick: impl FnOnce(T) -> Result<(U, Option<T>), T>,
    ) -> Result<U, NoResult<E>> {
        let mut state = self.lock();
        match state.outcome.as_mut() {
            None => Err(NoResult::Incomplete),
            Some(Err(error)) => Err(NoResult::Failed(error.clone())),
            Some(Ok(value)) => match value.take().map(pick) {
                Some(Ok((taken, rest))) => {
                    *value = rest;
                    Ok(taken)
                }
                Some(Err(other)) => {
                    *value = Some(other);
                    Err(NoResult::OtherKind)
                }
                None => Err(NoResult::Taken),
            },
        }
    }

    /// Sets who is called on completion, and returns whom that replaces.
    pub fn on_complete(&self, callback: Option<C>) -> (IsDue, Option<C>) {
        let mut state = self.lock();
        if state.freed {
            return (IsDue(false), callback);
        }
        let old = std::mem::replace(&mut state.on_complete, callback);
        (IsDue(state.outcome.is_some() && state.on_complete.is_some()), old)
    }

    /// Sets who is called with progress, and returns whom that replaces.
    pub fn on_progress(&self, callback: Option<O>) -> (IsDue, Option<O>) {
        let mut state = self.lock();
        if state.freed {
            return (IsDue(false), callback);
        }
        let old = std::mem::replace(&mut state.on_progress, callback);
        (IsDue(!state.progress.is_empty() && state.on_progress.is_some()), old)
    }

    /// The next call that is due: progress first, completion last and once.
    pub fn next_due(&self) -> Option<Due<P, C, O>> {
        let mut state = self.lock();
        if let Some(callback) = state.on_progress.clone()
            && let Some(progress) = state.progress.pop_front()
        {
            return Some(Due::Progress(callback, progress));
        }
        state.outcome.as_ref()?;
        state.on_complete.take().map(Due::Complete)
    }

    /// The owner lets go. Returns what is to be dropped: callbacks, and a result that nobody took.
    #[must_use]
    pub fn free(&self) -> (Option<C>, Option<O>, Option<T>) {
        let mut state = self.lock();
        state.freed = true;
        let value = state.outcome.as_mut().and_then(|o| o.as_mut().ok()).and_then(Option::take);
        (state.on_complete.take(), state.on_progress.take(), value)
    }
}
