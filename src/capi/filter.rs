//! Which boxes are to be listed.

use std::ffi::c_char;

use super::error::{boxlite_error, boxlite_status, guard};
use super::pointer::{self, Out, Owned};
use super::text;
use crate::error::{Code, Error};
use crate::{ListFilter, Status};

/// Which boxes are to be listed: those that fit everything that is set. Owned by the caller. One
/// thread at a time.
pub struct boxlite_list_filter(pub(super) ListFilter);

impl Owned for boxlite_list_filter {}

/// Makes a filter that lets all boxes through. Setters check at once; one that fails changes
/// nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_list_filter_new(
    filter: *mut *mut boxlite_list_filter,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            Out::new(filter, "filter")?.give(boxlite_list_filter(ListFilter::new()));
            Ok(())
        })
    }
}

/// Frees a filter. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_list_filter_free(filter: *mut boxlite_list_filter) {
    // SAFETY: a live filter that is not used again, or NULL.
    drop(unsafe { pointer::take_back(filter) });
}

/// Lets through boxes of a status, a boxlite_box_status, only. Called several times: of any of
/// them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_list_filter_add_status(
    filter: *mut boxlite_list_filter,
    status: i32,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let filter = pointer::borrow_mut(filter, "filter")?;
            let Some(status) = Status::from_i32(status) else {
                let text = format!("status: {status} is no boxlite_box_status");
                return Err(Error::new(Code::InvalidArgument, text).object("status"));
            };
            filter.0.status(status);
            Ok(())
        })
    }
}

/// Lets through boxes that have a label of this name only, and with this value unless value is
/// NULL. Called several times: that have all of them. name and value are as for
/// boxlite_box_options_add_label().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_list_filter_add_label(
    filter: *mut boxlite_list_filter,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let filter = pointer::borrow_mut(filter, "filter")?;
            let name = text::string(name, "name")?;
            let value = match value.is_null() {
                true => None,
                false => Some(text::string(value, "value")?.to_owned()),
            };
            filter.0.label(name, value)
        })
    }
}

/// Lets through boxes whose name begins with prefix only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_list_filter_set_name_prefix(
    filter: *mut boxlite_list_filter,
    prefix: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let filter = pointer::borrow_mut(filter, "filter")?;
            filter.0.name_prefix(text::string(prefix, "prefix")?)
        })
    }
}

/// Lets through boxes of an image only, written as it was when they were made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_list_filter_set_image(
    filter: *mut boxlite_list_filter,
    image: *const c_char,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let filter = pointer::borrow_mut(filter, "filter")?;
            filter.0.image(text::string(image, "image")?)
        })
    }
}
