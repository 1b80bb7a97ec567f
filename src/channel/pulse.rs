//! Whether the box at the other end is well: what its supervisor says of the machine, and whether the
//! supervisor itself says anything.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boxlite_protocol::message::{Notice, Standing};
use tokio::sync::watch;

use crate::error::{Code, Error};

/// How often the supervisor is asked.
pub const BEAT: Duration = Duration::from_secs(5);

/// Beats in which it may leave that unanswered. They are counted, not timed: a program that was stopped
/// itself has asked nobody meanwhile.
const PATIENCE: u32 = 2;

pub struct Pulse {
    supervisor: u32,
    state: Mutex<State>,
    published: watch::Sender<Notice>,
}

struct State {
    /// What the supervisor has said last.
    said: Notice,
    /// Beats since anything was heard.
    unanswered: u32,
}

impl Pulse {
    pub fn new(supervisor: u32, said: Notice) -> Pulse {
        let published = watch::channel(said.clone()).0;
        Pulse { supervisor, state: Mutex::new(State { said, unanswered: 0 }), published }
    }

    /// That it has gone without a word, which only a killed one does.
    pub fn killed(&self) -> Error {
        let text = format!(
            "the box's supervisor (process {}) was killed, and the machine with it",
            self.supervisor
        );
        Error::new(Code::Engine, text)
    }

    /// How the machine is; changes can be waited for.
    pub fn subscribe(&self) -> watch::Receiver<Notice> {
        self.published.subscribe()
    }

    /// The supervisor has told how the machine is now.
    pub fn said(&self, notice: Notice) {
        let mut state = self.lock();
        state.said = notice;
        self.publish(&state);
    }

    /// It has said anything at all.
    pub fn heard(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.unanswered) > PATIENCE {
            self.publish(&state);
        }
    }

    /// It is asked once more.
    pub fn beat(&self) {
        let mut state = self.lock();
        state.unanswered += 1;
        self.publish(&state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        let now = if state.unanswered > PATIENCE {
            let message =
                format!("the box's supervisor (process {}) does not answer", self.supervisor);
            Notice { standing: Standing::Unsupervised as i32, message }
        } else {
            state.said.clone()
        };
        self.published.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_is_silent_for_long_is_noticed_and_so_is_its_return() {
        let paused = Notice { standing: Standing::Paused as i32, message: String::new() };
        let pulse = Pulse::new(7, Notice::default());
        let mut seen = pulse.subscribe();
        for _ in 0..10 {
            pulse.beat();
            pulse.heard();
        }
        assert!(!seen.has_changed().unwrap());
        pulse.said(paused.clone());
        assert_eq!(*seen.borrow_and_update(), paused);
        (0..PATIENCE).for_each(|_| pulse.beat());
        assert!(!seen.has_changed().unwrap());
        pulse.beat();
        let silent = seen.borrow_and_update().clone();
        assert_eq!(silent.standing(), Standing::Unsupervised);
        assert!(silent.message.contains("process 7"));
        pulse.beat();
        assert!(!seen.has_changed().unwrap());
        // It is as it was.
        pulse.heard();
        assert_eq!(*seen.borrow_and_update(), paused);
    }
}
