//! From options to a box that can be started: image, disk, rows. Nothing of a box that could not
//! be made stays behind.
