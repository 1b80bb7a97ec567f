//! Gives the shared library its soname, which carries the version of the ABI.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libboxlite.so.0");
}
