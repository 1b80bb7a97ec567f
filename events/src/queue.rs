//! Sources of events, and a queue of those that may have something to deliver.
//!
//! A [`Source`] is asked for events by whoever dispatches, one at a time and never by two threads
//! at once, so its events keep their order. It puts itself into the queue when it may have
//! something (its waker does), and the queue's descriptor is readable while the queue is not
//! empty. Nothing is buffered here: events stay where they are until somebody takes them, which
//! is what makes backpressure reach the guest.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::{self, Condvar, Mutex, MutexGuard};

/// Something that delivers events by calling callbacks.
pub trait Source: Send + Sync {
    fn turn(&self) -> &Turn;

    /// Delivers one event, if there is one.
    fn deliver(&self) -> Delivery;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// There was nothing; the source queues itself when there is.
    Nothing,
    /// One event was delivered; there may be more.
    One,
}

/// Whose turn it is with a source.
#[derive(Debug)]
pub struct Turn(AtomicU8);

impl Default for Turn {
    fn default() -> Turn {
        Turn(AtomicU8::new(IDLE))
    }
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
/// Woken while running: to be queued again afterwards.
const RUNNING_WOKEN: u8 = 3;
/// Its handle was freed: it is never queued again, or queue and source would keep each other.
const FORGOTTEN: u8 = 4;

pub struct Queue {
    ready: Mutex<VecDeque<Arc<dyn Source>>>,
    /// Signalled at every wake, for those who wait for one source or for any.
    changed: Condvar,
    event: OwnedFd,
}

/// While it lives, this thread is inside a callback, or may be.
struct Dispatching;

impl Dispatching {
    fn begin() -> Result<Dispatching, InCallback> {
        if sync::set_dispatching(true) { Err(InCallback) } else { Ok(Dispatching) }
    }
}

impl Drop for Dispatching {
    fn drop(&mut self) {
        sync::set_dispatching(false);
    }
}

/// A callback asked to dispatch or to wait, and would wait for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InCallback;

/// Refuses to wait inside a callback.
pub fn refuse_in_callback() -> Result<(), InCallback> {
    let dispatching = sync::set_dispatching(true);
    sync::set_dispatching(dispatching);
    if dispatching { Err(InCallback) } else { Ok(()) }
}

/// When to stop waiting: never for a negative timeout.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    pub fn after_ms(timeout_ms: i32) -> Deadline {
        let timeout = u64::try_from(timeout_ms).ok();
        Deadline(timeout.map(|ms| Instant::now() + Duration::from_millis(ms)))
    }

    /// What is left; `Err` when it has passed.
    fn left(self) -> Result<Option<Duration>, ()> {
        match self.0 {
            None => Ok(None),
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => Ok(Some(left)),
                _ => Err(()),
            },
        }
    }
}

impl Queue {
    pub fn new() -> io::Result<Queue> {
        // SAFETY: creates a descriptor; no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just returned to us alone.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Queue { ready: Mutex::new(VecDeque::new()), changed: Condvar::new(), event })
    }

    /// Readable while something may be dispatched.
    pub fn event_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<dyn Source>>> {
        sync::lock(&self.ready)
    }

    /// Notes that a source may have something to deliver.
    pub fn wake(&self, source: &Arc<dyn Source>) {
        let state = &source.turn().0;
        let mut ready = self.lock();
        match state.load(Ordering::Relaxed) {
            IDLE => {
                state.store(QUEUED, Ordering::Relaxed);
                ready.push_back(source.clone());
                if ready.len() == 1 {
                    self.signal();
                }
            }
            RUNNING => state.store(RUNNING_WOKEN, Ordering::Relaxed),
            _ => {}
        }
        self.changed.notify_all();
    }

    /// Takes a source out of the queue: its handle is being freed.
    pub fn forget(&self, source: &Arc<dyn Source>) {
        let mut ready = self.lock();
        if source.turn().0.swap(FORGOTTEN, Ordering::Relaxed) == QUEUED {
            self.take_out(&mut ready, source);
        }
        drop(ready);
        self.changed.notify_all();
    }

    /// Wakes those who wait for something that is not delivered by a source.
    pub fn notify(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Makes the descriptor readable: also an edge for those who watch for edges.
    fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes from a local. The counter cannot overflow: it is read
        // whenever the queue runs empty.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn clear_signal(&self) {
        let mut count = [0u8; 8];
        // SAFETY: reads eight bytes into a local; the descriptor does not block.
        unsafe { libc::read(self.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// Delivers one event, waiting for one until the deadline. Returns whether there was one, and
    /// how many sources are left that may have more.
    pub fn dispatch(&self, deadline: Deadline) -> Result<(bool, usize), InCallback> {
        let _dispatching = Dispatching::begin()?;
        loop {
            let Some(source) = self.next(deadline) else { return Ok((false, 0)) };
            if self.run(&source) == Delivery::One {
                return Ok((true, self.lock().len()));
            }
        }
    }

    /// The next queued source, now running; none when the deadline has passed.
    fn next(&self, deadline: Deadline) -> Option<Arc<dyn Source>> {
        let mut ready = self.lock();
        loop {
            if let Some(source) = ready.pop_front() {
                if ready.is_empty() {
                    self.clear_signal();
                }
                source.turn().0.store(RUNNING, Ordering::Relaxed);
                return Some(source);
            }
            ready = self.wait(ready, deadline)?;
        }
    }

    fn wait<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Deadline,
    ) -> Option<MutexGuard<'a, T>> {
        Some(match deadline.left().ok()? {
            None => self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
            }
        })
    }

    /// Lets a source that is RUNNING deliver, and gives it back.
    fn run(&self, source: &Arc<dyn Source>) -> Delivery {
        let delivery = source.deliver();
        let state = &source.turn().0;
        let again = {
            let _ready = self.lock();
            match state.load(Ordering::Relaxed) {
                FORGOTTEN => false,
                running => {
                    state.store(IDLE, Ordering::Relaxed);
                    running == RUNNING_WOKEN || delivery == Delivery::One
                }
            }
        };
        if again {
            self.wake(source);
        } else {
            self.changed.notify_all();
        }
        delivery
    }

    /// Dispatches one source on this thread until `done`, waiting for its events until the
    /// deadline. False if the deadline passed.
    pub fn dispatch_until(
        &self,
        source: &Arc<dyn Source>,
        deadline: Deadline,
        done: impl Fn() -> bool,
    ) -> Result<bool, InCallback> {
        let _dispatching = Dispatching::begin()?;
        let state = &source.turn().0;
        let mut ready = self.lock();
        loop {
            match state.load(Ordering::Relaxed) {
                FORGOTTEN => return Ok(done()),
                // Another thread runs a callback of this source: nothing is done yet.
                RUNNING | RUNNING_WOKEN => {}
                idle_or_queued => {
                    if done() {
                        return Ok(true);
                    }
                    state.store(RUNNING, Ordering::Relaxed);
                    if idle_or_queued == QUEUED {
                        self.take_out(&mut ready, source);
                    }
                    drop(ready);
                    let delivery = self.run(source);
                    ready = self.lock();
                    let now = state.load(Ordering::Relaxed);
                    // It may be done without having delivered anything.
                    if matches!(now, IDLE | QUEUED) && done() {
                        return Ok(true);
                    }
                    if deadline.left().is_err() {
                        return Ok(false);
                    }
                    if delivery == Delivery::One || matches!(now, QUEUED | FORGOTTEN) {
                        continue;
                    }
                }
            }
            match self.wait(ready, deadline) {
                Some(guard) => ready = guard,
                None => return Ok(false),
            }
        }
    }

    /// Takes a queued source out.
    fn take_out(&self, ready: &mut VecDeque<Arc<dyn Source>>, source: &Arc<dyn Source>) {
        ready.retain(|other| !Arc::ptr_eq(other, source));
        if ready.is_empty() {
            self.clear_signal();
        }
    }

    /// Waits until `done` without dispatching anything. False if the deadline passed.
    pub fn wait_until(
        &self,
        deadline: Deadline,
        done: impl Fn() -> bool,
    ) -> Result<bool, InCallback> {
        refuse_in_callback()?;
        let mut ready = self.lock();
        while !done() {
            match self.wait(ready, deadline) {
                Some(guard) => ready = guard,
                None => return Ok(done()),
            }
        }
        Ok(true)
    }
}
