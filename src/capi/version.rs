//! The library's version at run time.

use std::ffi::{CStr, c_char};

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL inside"),
    };

/// The version of the library that is running, such as "0.1.0". Compare with BOXLITE_VERSION, that
/// of the header. Static: good for ever.
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version of the library that is running as one number: MAJOR * 1000000 + MINOR * 1000 +
/// PATCH. Compare with BOXLITE_VERSION_NUMBER, that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_version_number() -> u32 {
    NUMBER
}

const NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
    + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
    + number(env!("CARGO_PKG_VERSION_PATCH"));

const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("a version is made of numbers"),
    }
}

/// What this build of the library can do, beyond what every version has.
const FEATURES: &[&CStr] = &[
    c"events",
    c"exec-read",
    c"image-oci-layout",
    c"image-archive",
    c"labels",
    c"log",
    c"metrics",
    c"pool",
    c"run",
    c"templates",
];

/// Whether the library that is running has a feature, by its name; see boxlite_feature(). For
/// programs that load the library at run time. false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_has_feature(name: *const c_char) -> bool {
    if name.is_null() {
        return false;
    }
    // SAFETY: a NUL-terminated string, as the header demands.
    let name = unsafe { CStr::from_ptr(name) };
    FEATURES.contains(&name)
}

/// The name of a feature, from 0; NULL beyond the last. Static: good for ever.
///
/// "events" (boxlite_runtime_subscribe), "exec-read" (boxlite_exec_read), "image-archive" (OCI and
/// docker archives), "image-oci-layout" (OCI directories), "labels" (boxlite_box_list_matching),
/// "log" (boxlite_runtime_on_log), "metrics" (boxlite_box_metrics), "pool" (waiting machines:
/// boxlite_runtime_options_set_pool_size), "run" (boxlite_run), "templates" (boxes are restored:
/// boxlite_box_info_boot).
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_feature(index: usize) -> *const c_char {
    FEATURES.get(index).map_or(std::ptr::null(), |f| f.as_ptr())
}
