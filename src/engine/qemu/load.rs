//! Loading a saved machine.

use std::pin::{Pin, pin};
use std::time::Duration;

use super::machine::{QemuMachine, silent};
use super::monitor::Notice;
use crate::error::Result;

/// Loads a machine and makes the first exchange with its agent: what is sent before the machine is
/// loaded waits in the channel, and is read as soon as it runs on. `loaded` is called when it does.
pub async fn load<T>(
    machine: &mut QemuMachine,
    limit: Duration,
    exchange: impl Future<Output = Result<T>>,
    loaded: impl FnOnce(),
) -> Result<T> {
    let mut exchange = pin!(exchange);
    let early = tokio::time::timeout(limit, overlapping(machine, exchange.as_mut())).await;
    let early = match early {
        Ok(Ok(early)) => early,
        Ok(Err(failure)) => return Err(machine.explain(failure).await),
        Err(_) => return Err(machine.explain(silent(limit)).await),
    };
    loaded();
    match early {
        Some(answer) => Ok(answer),
        None => machine.alive(limit, exchange).await,
    }
}

/// The answer, if it came before QEMU's own word.
async fn overlapping<T>(
    machine: &mut QemuMachine,
    exchange: Pin<&mut impl Future<Output = Result<T>>>,
) -> Result<Option<T>> {
    let mut loaded = pin!(async {
        machine.monitor().load().await?;
        machine.reported(Notice::Migrated).await
    });
    tokio::select! {
        biased;
        loaded = &mut loaded => loaded.map(|()| None),
        answer = exchange => {
            loaded.await?;
            answer.map(Some)
        }
    }
}
