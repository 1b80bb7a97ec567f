//! The rate of this host's time stamp counter.
//!
//! Under TCG a guest's counter is the host's. A guest that is told the rate need not measure it
//! against an emulated timer, which takes it long, and fails on a busy host: its clock then has
//! steps of ten milliseconds. The rate is fixed until the host boots again, so it is measured
//! once and remembered.

use std::arch::x86_64::_rdtsc;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::identity::host_boot;

/// Long enough that the uncertainty of one reading, a fraction of a microsecond, does not matter.
const INTERVAL: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize)]
struct Remembered {
    host_boot: String,
    tsc_khz: u64,
}

/// The rate in kHz.
pub async fn tsc_khz(cache: &Path) -> io::Result<u64> {
    let path = cache.join("clock.json");
    let host_boot = host_boot()?;
    let text = std::fs::read(&path).unwrap_or_default();
    if let Ok(known) = serde_json::from_slice::<Remembered>(&text)
        && known.host_boot == host_boot
    {
        return Ok(known.tsc_khz);
    }
    let tsc_khz = measure().await?;
    let text = serde_json::to_vec(&Remembered { host_boot, tsc_khz })?;
    // Not remembering costs the next start some milliseconds, no more. Two writers at once write
    // the same length and nearly the same number; a torn file is measured anew.
    let _ = std::fs::write(&path, text);
    Ok(tsc_khz)
}

async fn measure() -> io::Result<u64> {
    let (first_tsc, first_time) = reading()?;
    tokio::time::sleep(INTERVAL).await;
    let (last_tsc, last_time) = reading()?;
    let nanoseconds = u128::from(last_time.saturating_sub(first_time)).max(1);
    let ticks = u128::from(last_tsc.wrapping_sub(first_tsc));
    u64::try_from(ticks * 1_000_000 / nanoseconds).map_err(io::Error::other)
}

/// Counter and time at one moment: the closest pair of several.
fn reading() -> io::Result<(u64, u64)> {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..8 {
        // SAFETY: reads a register that every x86-64 processor has.
        let before = unsafe { _rdtsc() };
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW)?;
        // SAFETY: as above.
        let after = unsafe { _rdtsc() };
        let width = after.wrapping_sub(before);
        if width < best.0 {
            best = (width, before.wrapping_add(width / 2), time.num_nanoseconds().cast_unsigned());
        }
    }
    Ok((best.1, best.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_rate_is_plausible_and_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let khz = tsc_khz(dir.path()).await.unwrap();
        assert!((500_000..10_000_000).contains(&khz), "{khz} kHz");
        assert_eq!(tsc_khz(dir.path()).await.unwrap(), khz);
    }
}
