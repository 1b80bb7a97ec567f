//! Several things at once, as many as there are processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does something with each, and returns what came of them, in their order. A panic is passed on.
pub fn each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let one = || {
        let mut done = vec![];
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = all.get(at) else { return done };
            done.push((at, work(job)));
        }
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(one)).collect();
        let ended = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|panic| {
                // The others need not go on.
                next.store(usize::MAX / 2, Ordering::Relaxed);
                std::panic::resume_unwind(panic)
            })
        });
        ended.flatten().collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
