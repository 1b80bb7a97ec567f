//! Run any OCI image in a *box*: a real virtual machine that starts in a blink, streams its
//! output, and keeps its disk.

pub mod disk;
pub mod error;
pub mod image;

pub use error::{Code, Error, Result};
