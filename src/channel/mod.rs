//! The host's side of the protocol.
//!
//! - [`guest`]: a session with a guest's agent (used by the engine and the supervisor)
//! - [`client`]: a program's connection to a box's supervisor (used by the library)
//! - [`exec`]: the program's end of one command's streams
//! - [`pulse`]: whether the box at the other end is well
//! - [`spool`]: the last bytes of an output, in a file that the supervisor leaves
//! - [`replay`]: such a file in the place of a supervisor

pub mod client;
pub mod exec;
pub mod guest;
pub mod pulse;
pub mod replay;
pub mod spool;
