//! Run any OCI image in a *box*: a real virtual machine that starts in a blink, streams its
//! output, and keeps its disk.

pub mod channel;
pub mod engine;
pub mod error;

pub mod home;
pub mod store;
pub mod supervisor;

pub use error::{Code, Error, Result};
