//! Pointers of the ABI: the only place where they become references.
//!
//! A handle's type says once how it crosses the boundary, as a `Box` (owned by one) or as an
//! `Arc` (counted); the functions here then refuse the wrong conversion at compile time. C
//! promises, for every pointer it passes: it is NULL, or what a function of this library
//! returned and has not freed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, Error, Result};

/// A handle that C owns alone.
pub trait Owned: Sized {}

/// A handle that is counted.
pub trait Counted: Sized {
    fn handles(&self) -> &Handles;

    /// Whether it came into this process by a fork: then it is left alone, for good.
    fn is_forked(&self) -> bool;
}

/// How many handles C holds on a counted thing. The library has counts of its own, of another
/// kind: those keep the memory, these say whether anybody is left to be called back.
pub struct Handles(AtomicUsize);

impl Default for Handles {
    fn default() -> Handles {
        Handles(AtomicUsize::new(1))
    }
}

fn null(name: &str) -> Error {
    Error::new(Code::InvalidArgument, format!("{name}: must not be NULL")).object(name)
}

/// A handle as a reference for the duration of a call.
///
/// # Safety
/// The ABI's promise about pointers.
pub unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: NULL or a live handle, by the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// A handle that the call may change: the header says "one thread at a time" for it.
///
/// # Safety
/// As for [`borrow`], and no other thread uses the handle meanwhile.
pub unsafe fn borrow_mut<'a, T: Owned>(pointer: *mut T, name: &str) -> Result<&'a mut T> {
    // SAFETY: NULL or a live handle that nobody else uses, by the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| null(name))
}

/// A counted handle, with a count of our own.
///
/// # Safety
/// As for [`borrow`].
pub unsafe fn share<T: Counted>(pointer: *const T, name: &str) -> Result<Arc<T>> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: a live handle holds a count, so there is something to add one to.
    unsafe {
        Arc::increment_strong_count(pointer);
        Ok(Arc::from_raw(pointer))
    }
}

/// A place for a result. Checked before any work is done, written only on success.
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `pointer` is NULL or may be written for the duration of the call.
    pub unsafe fn new(pointer: *mut T, name: &str) -> Result<Out<T>> {
        if pointer.is_null() { Err(null(name)) } else { Ok(Out(pointer)) }
    }

    pub fn write(self, value: T) {
        // SAFETY: not NULL, and writable by the promise given to `new`.
        unsafe { self.0.write(value) }
    }
}

impl<T: Owned> Out<*mut T> {
    /// Hands a value over to C.
    pub fn give(self, value: T) {
        self.write(Box::into_raw(Box::new(value)));
    }
}

impl<T: Counted> Out<*mut T> {
    /// Hands a count over to C.
    pub fn give_shared(self, value: Arc<T>) {
        self.write(Arc::into_raw(value).cast_mut());
    }
}

/// Takes an owned handle back from C, to drop it.
///
/// # Safety
/// NULL, or a live handle that is not used again.
pub unsafe fn take_back<T: Owned>(pointer: *mut T) -> Option<Box<T>> {
    // SAFETY: came from `Out::give`, by the caller's promise.
    (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })
}

/// Adds a handle of C's, and returns it: the same pointer. NULL for NULL.
///
/// # Safety
/// NULL, or a live handle.
pub unsafe fn add_handle<T: Counted>(pointer: *mut T) -> *mut T {
    // SAFETY: by the caller's promise.
    if let Ok(shared) = unsafe { share(pointer, "handle") } {
        shared.handles().0.fetch_add(1, Ordering::Relaxed);
        // Now held by C.
        std::mem::forget(shared);
    }
    pointer
}

/// Takes a handle back from C, to drop it; `true` beside it if that was the last one. None also
/// for what came by a fork.
///
/// # Safety
/// NULL, or a live handle that is not used again.
pub unsafe fn take_back_shared<T: Counted>(pointer: *mut T) -> Option<(Arc<T>, bool)> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: came from `Out::give_shared` or `add_handle`, by the caller's promise.
    let shared = unsafe { Arc::from_raw(pointer) };
    if shared.is_forked() {
        std::mem::forget(shared);
        return None;
    }
    let last = shared.handles().0.fetch_sub(1, Ordering::AcqRel) == 1;
    Some((shared, last))
}

/// Memory of the caller's to fill. NULL is refused, and so is no memory at all.
///
/// # Safety
/// `data` points at `capacity` writable bytes that nobody else uses for the duration of the call.
pub unsafe fn bytes_mut<'a>(
    data: *mut u8,
    capacity: usize,
    name: &str,
) -> Result<&'a mut [std::mem::MaybeUninit<u8>]> {
    if data.is_null() {
        return Err(null(name));
    }
    if capacity == 0 || capacity > isize::MAX as usize {
        let text = format!("{name}: a capacity of {capacity} bytes makes no sense");
        return Err(Error::new(Code::InvalidArgument, text).object(name));
    }
    // SAFETY: writable for `capacity` bytes, by the caller's promise; perhaps not initialised.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), capacity) })
}

/// Bytes of the caller's, for the duration of a call. NULL is fine for none.
///
/// # Safety
/// `data` points at `length` readable bytes, or `length` is 0.
pub unsafe fn bytes<'a>(data: *const u8, length: usize, name: &str) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null(name));
    }
    if length > isize::MAX as usize {
        return Err(
            Error::new(Code::InvalidArgument, format!("{name}: absurd length")).object(name)
        );
    }
    // SAFETY: readable for `length` bytes, by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, length) })
}
