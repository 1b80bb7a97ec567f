//! What happens to boxes, for those who want to hear of it.
//!
//! Each thing is told where it becomes true, and to everybody at once, so all hear the same in the same
//! order. Whoever listens has a queue of limited length: what does not fit is counted, and the count
//! stands in its place. Nobody who listens can hold up a box.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::SystemTime;

use crate::error::{Code, Error, Result};

/// How many events may wait for who listens.
pub const CAPACITY: std::ops::RangeInclusive<usize> = 1..=65_536;
pub const DEFAULT_CAPACITY: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: SystemTime,
    /// The box that it happened to; empty for an overflow.
    pub box_id: String,
    pub box_name: Option<String>,
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// As many events as this are missing here: nobody took those before them.
    Overflow {
        lost: u64,
    },
    BoxCreated,
    BoxStarted,
    /// It stands still; why, if nobody asked for that.
    BoxPaused {
        why: Option<String>,
    },
    BoxResumed,
    /// It ended, as it was meant to; why, if nobody asked for that.
    BoxStopped {
        why: Option<String>,
    },
    /// It could not be started, or came to an unwanted end.
    BoxFailed {
        why: String,
    },
    BoxRemoved,
    /// A command was started. Of what it is only the program's name is told. Its number is 0 if it could
    /// not be run.
    ExecStarted {
        exec: u32,
        program: String,
    },
    /// It has ended: its code, or 128 + signal; -1 if that is not known, as the box has ended.
    ExecEnded {
        exec: u32,
        code: i32,
        signal: i32,
        why: Option<String>,
    },
    /// Its agent, its machine or its supervisor does not answer: who was the first.
    Unresponsive {
        who: String,
    },
    /// All of them answer again.
    Responsive,
    /// A health check has succeeded, at first or again.
    Healthy,
    /// As many health checks in a row have failed as it takes.
    Unhealthy {
        failures: u32,
    },
}

/// To whom events are told.
#[derive(Default)]
pub struct Bus {
    listeners: Mutex<Vec<Weak<Mailbox>>>,
}

/// The events since it was made, each once. Dropping it ends that.
pub struct Events {
    mailbox: Arc<Mailbox>,
}

struct Mailbox {
    capacity: usize,
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// With each event, how many are missing right before it.
    queue: VecDeque<(u64, Event)>,
    /// How many are missing after the last one.
    lost: u64,
    /// No more will come.
    closed: bool,
    waker: Option<Waker>,
}

impl Bus {
    /// Begins to listen.
    pub fn subscribe(&self, capacity: usize) -> Result<Events> {
        if !CAPACITY.contains(&capacity) {
            let (least, most) = (CAPACITY.start(), CAPACITY.end());
            let text = format!("capacity: {capacity} is not within {least} to {most}");
            return Err(Error::new(Code::InvalidArgument, text).object("capacity"));
        }
        let mailbox = Arc::new(Mailbox { capacity, state: Mutex::default() });
        self.lock().push(Arc::downgrade(&mailbox));
        Ok(Events { mailbox })
    }

    /// Tells everybody.
    pub fn tell(&self, event: &Event) {
        self.each(|mailbox| mailbox.lock().push(event, mailbox.capacity));
    }

    /// Tells everybody that some events are missing.
    pub fn lose(&self, count: u64) {
        self.each(|mailbox| mailbox.lock().lose(count));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Mailbox>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to all mailboxes before anybody else does, and then wakes their owners.
    fn each(&self, mut act: impl FnMut(&Mailbox) -> Option<Waker>) {
        let mut wakers = Vec::new();
        self.lock().retain(|listener| {
            let mailbox = listener.upgrade();
            wakers.extend(mailbox.as_deref().and_then(&mut act));
            mailbox.is_some()
        });
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.each(|mailbox| {
            let mut waiting = mailbox.lock();
            waiting.closed = true;
            waiting.waker.take()
        });
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, event: &Event, capacity: usize) -> Option<Waker> {
        if self.queue.len() == capacity {
            return self.lose(1);
        }
        self.queue.push_back((std::mem::take(&mut self.lost), event.clone()));
        self.waker.take()
    }

    fn lose(&mut self, count: u64) -> Option<Waker> {
        self.lost = self.lost.saturating_add(count);
        self.waker.take()
    }

    fn pop(&mut self) -> Option<Event> {
        let lost = match self.queue.front_mut() {
            Some((lost, _)) => std::mem::take(lost),
            None => std::mem::take(&mut self.lost),
        };
        if lost > 0 {
            let what = What::Overflow { lost };
            let (box_id, box_name) = (String::new(), None);
            return Some(Event { at: SystemTime::now(), box_id, box_name, what });
        }
        self.queue.pop_front().map(|(_, event)| event)
    }
}

impl Events {
    /// The next event. None when the home is closed and there is nothing left.
    pub async fn next(&self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Events::next`], for callers with a waker of their own. The last waker counts.
    pub fn poll_next(&self, cx: &TaskContext<'_>) -> Poll<Option<Event>> {
        let mut waiting = self.mailbox.lock();
        match waiting.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if waiting.closed => Poll::Ready(None),
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u32) -> Event {
        let what = What::ExecStarted { exec: number, program: "p".into() };
        Event { at: SystemTime::now(), box_id: "b".into(), box_name: None, what }
    }

    /// What waits now: an event's number, or minus the number that is missing.
    fn taken(events: &Events) -> Vec<i64> {
        let context = TaskContext::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(event)) = events.poll_next(&context) {
            all.push(match event.what {
                What::ExecStarted { exec, .. } => i64::from(exec),
                What::Overflow { lost } => -i64::try_from(lost).unwrap(),
                other => panic!("{other:?}"),
            });
        }
        all
    }

    #[test]
    fn what_does_not_fit_is_counted_in_its_place() {
        let bus = Bus::default();
        let (one, three, many) =
            (bus.subscribe(1).unwrap(), bus.subscribe(3).unwrap(), bus.subscribe(99).unwrap());
        (1..=5).for_each(|n| bus.tell(&event(n)));
        let context = TaskContext::from_waker(Waker::noop());
        assert!(
            matches!(three.poll_next(&context), Poll::Ready(Some(first)) if first.what == event(1).what)
        );
        // There is room again: the gap is before what comes now.
        bus.tell(&event(6));
        bus.tell(&event(7));
        assert_eq!(taken(&one), [1, -6]);
        assert_eq!(taken(&three), [2, 3, -2, 6, -1]);
        assert_eq!(taken(&many), [1, 2, 3, 4, 5, 6, 7]);
        bus.tell(&event(8));
        bus.lose(4);
        assert_eq!(taken(&one), [8, -4]);
        assert_eq!(taken(&three), [8, -4]);
    }

    #[test]
    fn a_queue_has_a_sensible_length() {
        let bus = Bus::default();
        for capacity in [0, 65_537, usize::MAX] {
            assert_eq!(bus.subscribe(capacity).err().unwrap().failing_object(), Some("capacity"));
        }
        assert!(bus.subscribe(65_536).is_ok());
    }

    #[test]
    fn who_no_longer_listens_is_forgotten() {
        let bus = Bus::default();
        drop(bus.subscribe(1).unwrap());
        let stays = bus.subscribe(1).unwrap();
        bus.tell(&event(1));
        assert_eq!(bus.lock().len(), 1);
        assert_eq!(taken(&stays), [1]);
    }

    #[tokio::test]
    async fn who_waits_is_woken_and_the_end_comes_after_the_last_event() {
        let bus = Bus::default();
        let events = bus.subscribe(4).unwrap();
        let listening = tokio::spawn(async move {
            let first = events.next().await.unwrap();
            let second = events.next().await.unwrap();
            (first.what, second.what, events.next().await)
        });
        tokio::task::yield_now().await;
        bus.tell(&event(1));
        tokio::task::yield_now().await;
        bus.tell(&event(2));
        drop(bus);
        assert_eq!(listening.await.unwrap(), (event(1).what, event(2).what, None));
    }
}
