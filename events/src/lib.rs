//! What C programs see in place of async functions: events that wait until somebody dispatches.
//!
//! - [`queue`]: sources of events, and a queue of those that may have something to deliver
//! - [`completion`]: the state of work that completes once
//!
//! A crate of its own because its tests are: `RUSTFLAGS="--cfg loom" cargo test -p boxlite-events`
//! runs them under every interleaving of their threads that matters.

pub mod completion;
pub mod queue;
mod sync;
