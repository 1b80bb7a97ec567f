//! Whether the machine answers, and whether the host's clock has jumped: looked at every few seconds.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often.
const BEAT: Duration = Duration::from_secs(5);

/// Beats in which the agent may leave a question unanswered. They are counted, not timed: a supervisor
/// that was stopped itself has asked nobody meanwhile.
const PATIENCE: u32 = 2;

/// A jump of the clock that matters. Less is what reading two clocks one after the other makes.
const JUMP: Duration = Duration::from_millis(200);

pub struct Heart {
    beats: Interval,
    /// Beats since the agent was asked.
    unanswered: Option<u32>,
    clocks: Clocks,
}

/// What a beat is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Ask the agent.
    pub ask: bool,
    /// It has not answered for too long.
    pub agent_silent: bool,
    /// Tell the guest what time it is.
    pub set_clock: bool,
}

impl Heart {
    pub fn new() -> Heart {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once otherwise.
        beats.reset();
        Heart { beats, unanswered: None, clocks: Clocks::now() }
    }

    /// Waits for the next beat. Cancel-safe.
    pub async fn tick(&mut self) {
        self.beats.tick().await;
    }

    /// What to do at a beat of a machine that runs, or stands still.
    pub fn beat(&mut self, runs: bool) -> Beat {
        let before = std::mem::replace(&mut self.clocks, Clocks::now());
        let set_clock = runs && self.clocks.jumped_since(&before);
        if !runs {
            self.unanswered = None;
            return Beat { set_clock, ..Beat::default() };
        }
        let beats = self.unanswered.map_or(0, |beats| beats + 1);
        self.unanswered = Some(beats);
        Beat { ask: beats == 0, agent_silent: beats > PATIENCE, set_clock }
    }

    /// The agent has said something.
    pub fn heard(&mut self) {
        self.unanswered = None;
    }
}

/// How far the host's clocks are from each other. It changes when the host has slept, or its time was
/// set: a guest's clock knows of neither.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    /// Of the time since it booted, with and without sleep.
    slept: Duration,
    /// Of the time of day and the time since it booted.
    epoch: Duration,
}

impl Clocks {
    fn now() -> Clocks {
        // A clock that cannot be read jumps never.
        let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
        let (boot, monotonic) = (read(ClockId::CLOCK_BOOTTIME), read(ClockId::CLOCK_MONOTONIC));
        let real = read(ClockId::CLOCK_REALTIME);
        Clocks { slept: boot.saturating_sub(monotonic), epoch: real.saturating_sub(boot) }
    }

    fn jumped_since(&self, before: &Clocks) -> bool {
        self.slept.abs_diff(before.slept) > JUMP || self.epoch.abs_diff(before.epoch) > JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_and_a_host_that_slept_are_noticed() {
        let now = Clocks::now();
        assert!(!Clocks::now().jumped_since(&now));
        let hour = Duration::from_secs(3600);
        assert!(Clocks { slept: now.slept + hour, ..now }.jumped_since(&now));
        assert!(Clocks { epoch: now.epoch + hour, ..now }.jumped_since(&now));
        assert!(Clocks { epoch: now.epoch - hour, ..now }.jumped_since(&now));
    }

    #[tokio::test]
    async fn an_agent_is_silent_when_it_was_asked_and_some_beats_have_passed() {
        let mut heart = Heart::new();
        let ask = Beat { ask: true, ..Beat::default() };
        assert_eq!(heart.beat(true), ask);
        assert_eq!(heart.beat(true), Beat::default());
        heart.heard();
        assert_eq!(heart.beat(true), ask);
        for _ in 0..PATIENCE {
            assert_eq!(heart.beat(true), Beat::default());
        }
        assert!(heart.beat(true).agent_silent && heart.beat(true).agent_silent);
        // Who stands still is not asked, and is asked again after that.
        assert_eq!(heart.beat(false), Beat::default());
        assert_eq!(heart.beat(true), ask);
    }
}
