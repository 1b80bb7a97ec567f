//! Another library in Rust that a program may link statically, with a standard library of its own.

use std::panic::catch_unwind;

thread_local!(static HERE: String = "panicked".into());

#[unsafe(no_mangle)]
pub extern "C" fn other_panics() -> i32 {
    std::panic::set_hook(Box::new(|_| ()));
    let thread = std::thread::spawn(|| HERE.with(|text| catch_unwind(|| panic!("{text}"))));
    let panicked = thread.join().unwrap().unwrap_err();
    if panicked.downcast_ref::<String>().is_some_and(|text| text == "panicked") { 42 } else { 0 }
}
