//! A box that nobody uses is stopped after a while.

use std::time::Duration;

use tokio::time::Instant;

/// Since when nothing has run in a box.
pub struct Idle {
    limit: Duration,
    since: Option<Instant>,
}

impl Idle {
    pub fn new(limit: Duration) -> Idle {
        Idle { limit, since: Some(Instant::now()) }
    }

    /// Whether the box is in use now: told after everything that happens.
    pub fn note(&mut self, in_use: bool) {
        if in_use {
            self.since = None;
        } else {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// When it will have been idle for long enough.
    pub fn until(&self) -> Option<Instant> {
        self.since.map(|since| since + self.limit)
    }

    /// What there is to tell if that is now.
    pub fn over(&self) -> Option<String> {
        let over = self.until().is_some_and(|until| until <= Instant::now());
        over.then(|| {
            format!("nothing ran in the box for {} s: it was stopped", self.limit.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_end_of_the_last_use() {
        let mut idle = Idle::new(Duration::from_secs(5));
        let pass = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        pass(4).await;
        idle.note(false);
        assert_eq!(idle.over(), None);
        idle.note(true);
        pass(10).await;
        assert_eq!((idle.over(), idle.until()), (None, None));
        idle.note(false);
        pass(4).await;
        idle.note(false);
        assert_eq!(idle.over(), None);
        pass(1).await;
        assert!(idle.over().unwrap().contains("5 s"));
    }
}
