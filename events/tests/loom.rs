//! The queue and the completion under every interleaving of their threads that matters:
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p boxlite-events
#![cfg(loom)]

use std::os::fd::RawFd;
use std::sync::Arc;

use boxlite_events::completion::{Completion, Due, NoResult};
use boxlite_events::queue::{Deadline, Delivery, InCallback, Queue, Source, Turn};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

/// Delivers as many events as were put into it.
#[derive(Default)]
struct Counter {
    turn: Turn,
    waiting: Count,
    delivered: Count,
    running: Flag,
    /// Inside a callback, as it were.
    calling: Flag,
}

struct Count(AtomicUsize);
impl Default for Count {
    fn default() -> Count {
        Count(AtomicUsize::new(0))
    }
}

struct Flag(AtomicBool);
impl Default for Flag {
    fn default() -> Flag {
        Flag(AtomicBool::new(false))
    }
}

impl Source for Counter {
    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn deliver(&self) -> Delivery {
        assert!(!self.running.0.swap(true, Ordering::SeqCst), "two threads in one source");
        let taken =
            self.waiting.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if taken.is_ok() {
            self.calling.0.store(true, Ordering::SeqCst);
            self.delivered.0.fetch_add(1, Ordering::SeqCst);
            self.calling.0.store(false, Ordering::SeqCst);
        }
        self.running.0.store(false, Ordering::SeqCst);
        if taken.is_ok() { Delivery::One } else { Delivery::Nothing }
    }
}

impl Counter {
    fn put(self: &Arc<Self>, queue: &Queue) {
        self.waiting.0.fetch_add(1, Ordering::SeqCst);
        let source: Arc<dyn Source> = self.clone();
        queue.wake(&source);
    }

    fn delivered(&self) -> usize {
        self.delivered.0.load(Ordering::SeqCst)
    }
}

/// Never waits.
fn now() -> Deadline {
    Deadline::after_ms(0)
}

fn for_ever() -> Deadline {
    Deadline::after_ms(-1)
}

fn is_readable(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives for the call.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

#[test]
fn no_event_is_lost_or_delivered_twice() {
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let source = Arc::new(Counter::default());
        let other = {
            let (queue, source) = (queue.clone(), source.clone());
            thread::spawn(move || source.put(&queue))
        };
        source.put(&queue);
        let mut seen = 0;
        while seen < 2 {
            seen += usize::from(queue.dispatch(for_ever()).unwrap().0);
        }
        other.join().unwrap();
        assert_eq!(source.delivered(), 2);
        assert_eq!(queue.dispatch(now()).unwrap(), (false, 0));
        assert!(!is_readable(queue.event_fd()));
    });
}

#[test]
fn the_descriptor_is_readable_when_something_waits() {
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let source = Arc::new(Counter::default());
        let other = {
            let (queue, source) = (queue.clone(), source.clone());
            thread::spawn(move || source.put(&queue))
        };
        // Whether or not this finds the event, an unfound one must show on the descriptor.
        let found = queue.dispatch(now()).unwrap().0;
        other.join().unwrap();
        if !found {
            assert!(is_readable(queue.event_fd()));
            assert!(queue.dispatch(now()).unwrap().0);
        }
        while queue.dispatch(now()).unwrap().0 {}
        assert!(!is_readable(queue.event_fd()));
        assert_eq!(source.delivered(), 1);
    });
}

#[test]
fn two_who_dispatch_never_meet_in_one_source() {
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let source = Arc::new(Counter::default());
        source.put(&queue);
        source.put(&queue);
        let other = {
            let queue = queue.clone();
            thread::spawn(move || usize::from(queue.dispatch(now()).unwrap().0))
        };
        let mut seen = usize::from(queue.dispatch(now()).unwrap().0);
        seen += other.join().unwrap();
        while queue.dispatch(now()).unwrap().0 {
            seen += 1;
        }
        assert_eq!((seen, source.delivered()), (2, 2));
    });
}

#[test]
fn one_who_waits_for_a_source_and_one_who_dispatches_share_it() {
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let source = Arc::new(Counter::default());
        let other = {
            let (queue, source) = (queue.clone(), source.clone());
            thread::spawn(move || {
                source.put(&queue);
                queue.dispatch(now()).unwrap()
            })
        };
        let waited: Arc<dyn Source> = source.clone();
        assert_eq!(queue.dispatch_until(&waited, for_ever(), || source.delivered() == 1), Ok(true));
        // Who has waited may free what callbacks use.
        assert!(!source.calling.0.load(Ordering::SeqCst));
        other.join().unwrap();
        assert_eq!(source.delivered(), 1);
        while queue.dispatch(now()).unwrap().0 {}
        assert!(!is_readable(queue.event_fd()));
    });
}

#[test]
fn a_wait_ends_when_it_is_done_without_a_callback() {
    struct Quiet(Turn, AtomicBool);
    impl Source for Quiet {
        fn turn(&self) -> &Turn {
            &self.0
        }
        fn deliver(&self) -> Delivery {
            self.1.store(true, Ordering::SeqCst);
            Delivery::Nothing
        }
    }
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let source = Arc::new(Quiet(Turn::default(), AtomicBool::new(false)));
        let waited: Arc<dyn Source> = source.clone();
        let done = || source.1.load(Ordering::SeqCst);
        assert_eq!(queue.dispatch_until(&waited, for_ever(), done), Ok(true));
    });
}

#[test]
fn nothing_is_delivered_after_a_source_was_forgotten() {
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let source = Arc::new(Counter::default());
        let other = {
            let (queue, source) = (queue.clone(), source.clone());
            thread::spawn(move || {
                source.put(&queue);
                source.put(&queue);
            })
        };
        let forgotten: Arc<dyn Source> = source.clone();
        queue.forget(&forgotten);
        drop(forgotten);
        other.join().unwrap();
        assert_eq!(queue.dispatch(now()).unwrap(), (false, 0));
        assert_eq!(source.delivered(), 0);
        assert!(!is_readable(queue.event_fd()));
        // The queue keeps nothing alive.
        assert_eq!(Arc::strong_count(&source), 1);
    });
}

#[test]
fn one_who_waits_is_woken() {
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let done = Arc::new(AtomicBool::new(false));
        let other = {
            let (queue, done) = (queue.clone(), done.clone());
            thread::spawn(move || {
                done.store(true, Ordering::SeqCst);
                queue.notify();
            })
        };
        assert_eq!(queue.wait_until(for_ever(), || done.load(Ordering::SeqCst)), Ok(true));
        other.join().unwrap();
    });
}

#[test]
fn a_callback_that_dispatches_is_refused() {
    struct Recursive(Turn, Arc<Queue>);
    impl Source for Recursive {
        fn turn(&self) -> &Turn {
            &self.0
        }
        fn deliver(&self) -> Delivery {
            assert_eq!(self.1.dispatch(now()), Err(InCallback));
            assert_eq!(self.1.wait_until(now(), || true), Err(InCallback));
            Delivery::One
        }
    }
    loom::model(|| {
        let queue = Arc::new(Queue::new().unwrap());
        let source = Arc::new(Recursive(Turn::default(), queue.clone()));
        let waiting: Arc<dyn Source> = source.clone();
        queue.wake(&waiting);
        assert!(queue.dispatch(now()).unwrap().0);
        assert_eq!(queue.wait_until(now(), || true), Ok(true));
        queue.forget(&waiting);
    });
}

type Work = Completion<Arc<()>, &'static str, u32, Arc<()>, Arc<()>>;

#[test]
fn work_completes_once_whoever_is_first() {
    loom::model(|| {
        let work = Arc::new(Work::default());
        let (result, callback) = (Arc::new(()), Arc::new(()));
        let _ = work.on_complete(Some(callback.clone()));
        let done = {
            let (work, result) = (work.clone(), result.clone());
            thread::spawn(move || work.complete(Ok(result)).0.0)
        };
        let cancelled = work.complete(Err("cancelled")).0.0;
        let done = done.join().unwrap();
        assert!(done != cancelled, "both or none completed it");
        assert_eq!(work.next_due(), Some(Due::Complete(callback.clone())));
        assert_eq!(work.next_due(), None);
        match work.take(Ok) {
            Ok(_) => assert!(done),
            Err(NoResult::Failed(_)) => assert!(cancelled),
            Err(other) => panic!("{other:?}"),
        }
        drop(work);
        assert_eq!((Arc::strong_count(&result), Arc::strong_count(&callback)), (1, 1));
    });
}

#[test]
fn a_result_is_taken_once() {
    loom::model(|| {
        let work = Arc::new(Work::default());
        let (due, refused) = work.complete(Ok(Arc::new(())));
        assert!(!due.0 && refused.is_none());
        let other = {
            let work = work.clone();
            thread::spawn(move || work.take(Ok).is_ok())
        };
        let ours = work.take(Ok).is_ok();
        assert!(ours != other.join().unwrap());
        assert_eq!(work.take(Ok), Err(NoResult::Taken));
    });
}

#[test]
fn a_callback_set_while_work_completes_is_called_once() {
    loom::model(|| {
        let work = Arc::new(Work::default());
        let done = {
            let work = work.clone();
            thread::spawn(move || work.complete(Ok(Arc::new(()))).0.0)
        };
        let set = work.on_complete(Some(Arc::new(()))).0.0;
        assert!(set != done.join().unwrap(), "somebody, and one only, must wake the dispatcher");
        assert!(matches!(work.next_due(), Some(Due::Complete(_))));
        assert_eq!(work.next_due(), None);
    });
}

#[test]
fn what_is_freed_while_it_completes_keeps_nothing() {
    loom::model(|| {
        let work = Arc::new(Work::default());
        let (result, callback) = (Arc::new(()), Arc::new(()));
        let _ = work.on_complete(Some(callback.clone()));
        let _ = work.on_progress(Some(callback.clone()));
        let other = {
            let (work, result) = (work.clone(), result.clone());
            thread::spawn(move || {
                let _ = work.progress(1, |_, _| false);
                drop(work.complete(Ok(result)));
            })
        };
        drop(work.free());
        assert_eq!(work.next_due(), None);
        other.join().unwrap();
        assert_eq!(work.next_due(), None);
        assert_eq!((Arc::strong_count(&result), Arc::strong_count(&callback)), (1, 1));
    });
}
