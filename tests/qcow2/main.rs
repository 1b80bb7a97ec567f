//! qcow2 files: those of QEMU's own tools read as they are meant, ours taken by them, and damaged
//! ones refused.

mod hostile;
mod reading;
mod support;
