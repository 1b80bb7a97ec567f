//! The C ABI, and nothing else.
//!
//! Each function here is a few lines: check, convert, call, convert. All handling of pointers is
//! in [`pointer`], of text in [`text`], of errors and panics in [`error`]; the only machinery of
//! its own is the [queue](queue) behind `boxlite_dispatch`, because that is what C programs see
//! in place of async functions.
//!
//! Conventions: `docs/c-api.md`. The header is generated from these modules; what their doc
//! comments say is what C programmers read.

#![allow(non_camel_case_types, reason = "names are those of the header")]
#![allow(clippy::missing_safety_doc, reason = "doc comments are the header's, for C programmers")]

pub mod boxes;
pub mod error;
pub mod exec;
pub mod info;
pub mod op;
pub mod options;
mod pointer;
mod queue;
pub mod runtime;
mod text;
mod userdata;
pub mod version;
