//! Strings of the ABI: NUL-terminated UTF-8 both ways.

use std::ffi::{CStr, CString, c_char};

use super::pointer;
use crate::error::{Code, Error, Result};

/// The most elements of an argument vector that are looked at.
const MAX_ARGUMENTS: usize = 65_536;

/// A string argument.
///
/// # Safety
/// NULL, or a NUL-terminated string that lives for the duration of the call.
pub unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: checked for NULL; else a string, by the caller's promise.
    let text = unsafe {
        pointer::borrow(pointer, name)?;
        CStr::from_ptr(pointer)
    };
    text.to_str().map_err(|_| {
        Error::new(Code::InvalidArgument, format!("{name}: is not valid UTF-8")).object(name)
    })
}

/// An argument vector of `count` strings. NULL is fine for none.
///
/// # Safety
/// `pointer` points at `count` strings as for [`string`], or `count` is 0.
pub unsafe fn strings(
    pointer: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<String>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if count > MAX_ARGUMENTS {
        let text = format!("{name}: {count} elements are more than {MAX_ARGUMENTS}");
        return Err(Error::new(Code::InvalidArgument, text).object(name));
    }
    // SAFETY: checked for NULL; else an array of `count`, by the caller's promise.
    let array = unsafe {
        pointer::borrow(pointer, name)?;
        std::slice::from_raw_parts(pointer, count)
    };
    // SAFETY: each element is a string or NULL, by the caller's promise.
    array.iter().map(|p| unsafe { string(*p, name).map(str::to_owned) }).collect()
}

/// An array of `count` strings, each of which may be NULL, as may the array: none.
///
/// # Safety
/// As for [`strings`].
pub unsafe fn optional_strings(
    pointer: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<Option<String>>> {
    if count > MAX_ARGUMENTS {
        let text = format!("{name}: {count} elements are more than {MAX_ARGUMENTS}");
        return Err(Error::new(Code::InvalidArgument, text).object(name));
    }
    if pointer.is_null() {
        return Ok(vec![None; count]);
    }
    // SAFETY: an array of `count`, by the caller's promise.
    let array = unsafe { std::slice::from_raw_parts(pointer, count) };
    let owned = |p: &*const c_char| match p.is_null() {
        true => Ok(None),
        // SAFETY: a string, by the caller's promise.
        false => unsafe { string(*p, name) }.map(|text| Some(text.to_owned())),
    };
    array.iter().map(owned).collect()
}

/// A string for C to borrow. A NUL inside, which only a foreign message can have, ends it.
pub fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// A pointer that is good as long as what holds the string; NULL for none.
pub fn borrowed(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |t| t.as_ptr())
}
