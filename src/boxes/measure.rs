//! What a box has done, and what it takes: asked of its supervisor, and of its guest.

use std::time::Duration;

use super::start::StageTime;
use crate::channel::client::Connection;
use crate::error::{Code, Error, Result};
use crate::metrics::{BootTiming, BoxMetrics, GuestMetrics};

/// How long a guest may take to tell of itself before the rest is told without.
const GUEST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a supervisor may take, which waits for nobody.
const PATIENCE: Duration = Duration::from_secs(10);

/// `stages` are those of the start, if this program has started the box.
pub async fn measure(connection: &Connection, stages: &[StageTime]) -> Result<BoxMetrics> {
    let told = tokio::time::timeout(PATIENCE, connection.stats());
    let guest = tokio::time::timeout(GUEST_PATIENCE, connection.guest_stats());
    let (told, guest) = tokio::join!(told, guest);
    let silent = || Error::new(Code::Timeout, "the box's supervisor does not answer");
    let stats = told.map_err(|_| silent())??;
    let guest = guest.ok().and_then(Result::ok).and_then(|g| GuestMetrics::checked(&g));
    let timing = if stages.is_empty() {
        BootTiming::of_reported(&stats.stages)
    } else {
        let milliseconds = |s: &StageTime| s.elapsed.as_secs_f64() * 1000.0;
        BootTiming::of(
            stages.iter().map(|s| (s.name.as_str(), milliseconds(s))).collect::<Vec<_>>(),
        )
    };
    Ok(BoxMetrics::new(&stats, guest, timing))
}
