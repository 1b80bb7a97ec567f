//! Whether a box is well, as a command in it says every so often.
//!
//! The supervisor asks, so that it goes on while no program is there, and leaves the answer in the box's
//! directory, where any program finds it.

use std::path::Path;
use std::time::Duration;

use boxlite_protocol::message::Exec;
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::record;
use crate::error::{Code, Error, Result};

const NAME: &str = "health.json";

/// What is asked, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// The command, as the message that starts it.
    pub exec: Vec<u8>,
    /// From the end of one check, or the start of the box, to the beginning of the next.
    pub interval: Duration,
    /// How long a check may take. Then it is killed, and has failed.
    pub timeout: Duration,
    /// How many checks in a row fail before the box counts as unhealthy, at least 1.
    pub retries: u32,
    /// For how long after its start a box may fail checks.
    pub start_period: Duration,
}

/// What the checks have said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(i32)]
pub enum Health {
    /// Nobody checks.
    #[default]
    None = 0,
    /// No check has succeeded yet, and not enough have failed.
    Starting = 1,
    /// The last check succeeded, or not enough have failed since.
    Healthy = 2,
    /// As many checks in a row have failed as it takes.
    Unhealthy = 3,
}

/// How a box's checks stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The id of the box's run.
    pub run: String,
    pub state: Health,
    /// How many checks in a row have failed.
    pub failures: u32,
    /// When the last check ended, RFC 3339; none before the first.
    pub last_check: Option<String>,
}

impl HealthReport {
    /// What the checks said in a run of a box, if there are any.
    pub fn read(box_dir: &Path, run: &str) -> Option<HealthReport> {
        record::read::<HealthReport>(&box_dir.join(NAME)).filter(|report| report.run == run)
    }
}

/// The checks of one run.
pub struct Checks {
    spec: HealthSpec,
    exec: Exec,
    began: Instant,
    phase: Phase,
    report: HealthReport,
}

enum Phase {
    Waiting {
        until: Instant,
    },
    /// A command runs, by the guest's number.
    Asking {
        exec: u32,
        until: Instant,
    },
    /// It took too long, was killed, and is still to end.
    Killed {
        exec: u32,
    },
}

/// What is to be done now.
#[derive(Debug, PartialEq)]
pub enum Due {
    Start(Exec),
    Kill(u32),
}

impl Checks {
    pub fn new(spec: HealthSpec, run: &str) -> Result<Checks> {
        let exec = Exec::decode(&*spec.exec)
            .map_err(|e| Error::new(Code::Rpc, format!("the health check's command: {e}")))?;
        let began = Instant::now();
        let phase = Phase::Waiting { until: began + spec.interval };
        let report =
            HealthReport { run: run.to_owned(), state: Health::Starting, ..Default::default() };
        Ok(Checks { spec, exec, began, phase, report })
    }

    /// When something will be due.
    pub fn next(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } | Phase::Asking { until, .. } => Some(until),
            Phase::Killed { .. } => None,
        }
    }

    /// What is due. In a machine that stands still nothing is: its time is not counted.
    pub fn due(&mut self, runs: bool) -> Option<Due> {
        let now = Instant::now();
        match &mut self.phase {
            Phase::Waiting { until } | Phase::Asking { until, .. } if !runs => {
                *until = (*until).max(now + self.spec.interval.min(self.spec.timeout));
                None
            }
            Phase::Waiting { until } if *until <= now => Some(Due::Start(self.exec.clone())),
            Phase::Asking { exec, until } if *until <= now => {
                let exec = *exec;
                self.phase = Phase::Killed { exec };
                Some(Due::Kill(exec))
            }
            _ => None,
        }
    }

    /// The command was started.
    pub fn started(&mut self, exec: u32) {
        self.phase = Phase::Asking { exec, until: Instant::now() + self.spec.timeout };
    }

    /// A command has ended, or could not be run.
    pub fn ended(&mut self, exec: u32, success: bool) {
        let killed = match self.phase {
            Phase::Asking { exec: known, .. } if known == exec => false,
            Phase::Killed { exec: known } if known == exec => true,
            _ => return,
        };
        let now = Instant::now();
        self.phase = Phase::Waiting { until: now + self.spec.interval };
        self.report.last_check = Some(record::now());
        if success && !killed {
            (self.report.state, self.report.failures) = (Health::Healthy, 0);
            return;
        }
        let young = self.report.state == Health::Starting
            && now.duration_since(self.began) < self.spec.start_period;
        if !young {
            self.report.failures = self.report.failures.saturating_add(1);
            if self.report.failures >= self.spec.retries {
                self.report.state = Health::Unhealthy;
            }
        }
    }

    pub fn report(&self) -> &HealthReport {
        &self.report
    }

    /// Leaves word of how the checks stand.
    pub fn write(&self, box_dir: &Path) -> Result<()> {
        record::write(&box_dir.join(NAME), &self.report, record::Lasting::UntilReboot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn checks(retries: u32, start_period: Duration) -> Checks {
        let exec = Exec { argv: vec!["check".into()], ..Exec::default() }.encode_to_vec();
        let spec =
            HealthSpec { exec, interval: 10 * SECOND, timeout: 3 * SECOND, retries, start_period };
        Checks::new(spec, "r").unwrap()
    }

    /// Lets time pass until a check is due, runs it, and has it end.
    async fn check(checks: &mut Checks, success: bool) -> (Health, u32) {
        tokio::time::sleep_until(checks.next().unwrap()).await;
        assert!(matches!(checks.due(true), Some(Due::Start(exec)) if exec.argv == ["check"]));
        checks.started(7);
        assert_eq!(checks.due(true), None);
        checks.ended(6, !success);
        checks.ended(7, success);
        (checks.report().state, checks.report().failures)
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_failures_as_it_takes_make_a_box_unhealthy_and_one_success_heals_it() {
        let mut c = checks(3, Duration::ZERO);
        assert_eq!((c.report().state, c.due(true)), (Health::Starting, None));
        assert_eq!(check(&mut c, false).await, (Health::Starting, 1));
        assert_eq!(check(&mut c, true).await, (Health::Healthy, 0));
        assert_eq!(check(&mut c, false).await, (Health::Healthy, 1));
        assert_eq!(check(&mut c, false).await, (Health::Healthy, 2));
        assert_eq!(check(&mut c, false).await, (Health::Unhealthy, 3));
        assert_eq!(check(&mut c, false).await, (Health::Unhealthy, 4));
        assert_eq!(check(&mut c, true).await, (Health::Healthy, 0));
        assert!(c.report().last_check.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_a_box_that_is_still_starting_do_not_count() {
        let mut c = checks(1, 25 * SECOND);
        assert_eq!(check(&mut c, false).await, (Health::Starting, 0));
        assert_eq!(check(&mut c, false).await, (Health::Starting, 0));
        assert_eq!(check(&mut c, false).await, (Health::Unhealthy, 1));
        // What was well once is not starting any more.
        let mut c = checks(1, 100 * SECOND);
        assert_eq!(check(&mut c, true).await, (Health::Healthy, 0));
        assert_eq!(check(&mut c, false).await, (Health::Unhealthy, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_takes_too_long_is_killed_and_has_failed_whatever_it_says() {
        let mut c = checks(1, Duration::ZERO);
        tokio::time::sleep_until(c.next().unwrap()).await;
        assert!(matches!(c.due(true), Some(Due::Start(_))));
        c.started(7);
        tokio::time::sleep_until(c.next().unwrap()).await;
        assert_eq!(c.due(true), Some(Due::Kill(7)));
        assert_eq!((c.due(true), c.next()), (None, None));
        c.ended(7, true);
        assert_eq!(c.report().state, Health::Unhealthy);
        assert!(c.next().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_stands_still_is_neither_asked_nor_blamed() {
        let mut c = checks(1, Duration::ZERO);
        tokio::time::sleep_until(c.next().unwrap()).await;
        assert!(matches!(c.due(true), Some(Due::Start(_))));
        c.started(7);
        tokio::time::sleep(100 * SECOND).await;
        assert_eq!(c.due(false), None);
        assert_eq!(c.due(true), None);
        c.ended(7, true);
        assert_eq!(c.report().state, Health::Healthy);
    }
}
