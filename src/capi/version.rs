//! The library's version at run time.

use std::ffi::{CStr, c_char};

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL inside"),
    };

/// The version of the library that is running, such as "0.1.0". Compare with BOXLITE_VERSION, the
/// version of the header. Static: good for ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_version() -> *const c_char {
    VERSION.as_ptr()
}
