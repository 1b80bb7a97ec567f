//! Whether the box at the other end is well: what its supervisor says of the machine, and whether the
//! supervisor itself says anything.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boxlite_protocol::message::{Exited, Healthy, Notice, Standing};
use tokio::sync::watch;

use crate::error::{Code, Error};

/// How often the supervisor is asked.
pub const BEAT: Duration = Duration::from_secs(5);

/// Beats in which it may leave that unanswered. They are counted, not timed: a program that was stopped
/// itself has asked nobody meanwhile.
const PATIENCE: u32 = 2;

/// Changes that may wait for somebody to take them. More are counted.
const MAX_CHANGES: usize = 256;

/// What has changed at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The machine stands still; why, if nobody asked for that.
    Paused(Option<String>),
    Resumed,
    /// Somebody does not answer: who. Perhaps another than before.
    Silent {
        who: String,
        still: bool,
    },
    /// Everybody answers again.
    Answers,
    /// The main process has ended.
    MainExited(Exited),
    /// The health checks say something else.
    Healthy(Healthy),
}

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
    told: Told,
}

/// What was made of all that was published.
struct Told {
    /// Whether the machine runs, or why it stands still.
    standing: Standing,
    silent: bool,
    changes: VecDeque<Change>,
    /// How many there were no room for.
    lost: u64,
}

impl Told {
    fn new(notice: &Notice) -> Told {
        let silent = is_silent(notice);
        let standing = if silent { Standing::Runs } else { notice.standing() };
        Told { standing, silent, changes: VecDeque::new(), lost: 0 }
    }

    fn note(&mut self, notice: &Notice) {
        if is_silent(notice) {
            let still = std::mem::replace(&mut self.silent, true);
            return self.push(Change::Silent { who: notice.message.clone(), still });
        }
        if std::mem::take(&mut self.silent) {
            self.push(Change::Answers);
        }
        let before = std::mem::replace(&mut self.standing, notice.standing());
        if before != self.standing {
            self.push(match self.standing {
                Standing::Runs => Change::Resumed,
                Standing::DiskFull => Change::Paused(Some(notice.message.clone())),
                _ => Change::Paused(None),
            });
        }
    }

    fn push(&mut self, change: Change) {
        if self.changes.len() < MAX_CHANGES {
            self.changes.push_back(change);
        } else {
            self.lost += 1;
        }
    }
}

fn is_silent(notice: &Notice) -> bool {
    matches!(notice.standing(), Standing::Silent | Standing::Unsupervised)
}

impl Pulse {
    pub fn new(supervisor: u32, said: Notice) -> Pulse {
        let published = watch::channel(said.clone()).0;
        let told = Told::new(&said);
        Pulse { supervisor, state: Mutex::new(State { said, unanswered: 0, told }), published }
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

    /// Every change since this was called last, in order, and how many more there were.
    pub fn take_changes(&self) -> (Vec<Change>, u64) {
        let told = &mut self.lock().told;
        (told.changes.drain(..).collect(), std::mem::take(&mut told.lost))
    }

    /// The supervisor has told how the machine is now.
    pub fn said(&self, notice: Notice) {
        let mut state = self.lock();
        state.said = notice;
        self.publish(&mut state);
    }

    /// The supervisor has told of something else.
    pub fn changed(&self, change: Change) {
        self.lock().told.push(change);
        // Who waits is to take it; the machine is as it was.
        self.published.send_modify(|_| {});
    }

    /// It has said anything at all.
    pub fn heard(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.unanswered) > PATIENCE {
            self.publish(&mut state);
        }
    }

    /// It is asked once more.
    pub fn beat(&self) {
        let mut state = self.lock();
        state.unanswered += 1;
        self.publish(&mut state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &mut State) {
        let now = if state.unanswered > PATIENCE {
            let message =
                format!("the box's supervisor (process {}) does not answer", self.supervisor);
            Notice { standing: Standing::Unsupervised as i32, message }
        } else {
            state.said.clone()
        };
        self.published.send_if_modified(|known| {
            let changed = *known != now;
            if changed {
                state.told.note(&now);
            }
            *known = now;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_told_once_and_in_order() {
        let notice =
            |standing, message: &str| Notice { standing: standing as i32, message: message.into() };
        let pulse = Pulse::new(7, notice(Standing::Paused, ""));
        pulse.said(notice(Standing::Paused, ""));
        assert_eq!(pulse.take_changes(), (vec![], 0));
        pulse.said(notice(Standing::Runs, ""));
        pulse.said(notice(Standing::DiskFull, "full"));
        // What nobody answers to stays as it was.
        pulse.said(notice(Standing::Silent, "agent"));
        pulse.said(notice(Standing::Silent, "machine"));
        pulse.said(notice(Standing::DiskFull, "full"));
        pulse.said(notice(Standing::Runs, ""));
        let (full, agent, machine) = ("full".to_owned(), "agent".to_owned(), "machine".to_owned());
        let changes = vec![
            Change::Resumed,
            Change::Paused(Some(full)),
            Change::Silent { who: agent, still: false },
            Change::Silent { who: machine, still: true },
            Change::Answers,
            Change::Resumed,
        ];
        assert_eq!(pulse.take_changes(), (changes, 0));
        for _ in 0..MAX_CHANGES {
            pulse.said(notice(Standing::Paused, ""));
            pulse.said(notice(Standing::Runs, ""));
        }
        let (changes, lost) = pulse.take_changes();
        assert_eq!((changes.len(), lost), (MAX_CHANGES, MAX_CHANGES as u64));
    }

    #[test]
    fn what_has_nothing_to_do_with_the_machine_is_told_too() {
        let pulse = Pulse::new(7, Notice::default());
        let mut waiting = pulse.subscribe();
        let exited = Exited { exec: 1, code: 3, signal: 0 };
        pulse.changed(Change::MainExited(exited));
        assert!(waiting.has_changed().unwrap());
        assert_eq!(*waiting.borrow_and_update(), Notice::default());
        assert_eq!(pulse.take_changes(), (vec![Change::MainExited(exited)], 0));
    }

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
