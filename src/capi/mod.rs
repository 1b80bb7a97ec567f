//! The C ABI, and nothing else.
//!
//! Each function here is a few lines: check, convert, call, convert. All handling of pointers is
//! in [`pointer`], of text in [`text`], of errors and panics in [`error`]; the machinery behind
//! `boxlite_dispatch`, which C programs see in place of async functions, is the crate
//! `boxlite_events`.
//!
//! Conventions: `docs/c-api.md`. The header is generated from these modules; what their doc
//! comments say is what C programmers read.

#![allow(non_camel_case_types, reason = "names are those of the header")]
#![allow(clippy::missing_safety_doc, reason = "doc comments are the header's, for C programmers")]

// In the order of the header, which is read from the top: each on a line of its own, or rustfmt
// would sort them.
pub mod version;

pub mod error;

pub mod userdata;

pub mod options;

pub mod main_options;

pub mod runtime;

pub mod filter;

pub mod boxes;

pub mod info;

pub mod snapshots;

pub mod archive;

pub mod files;

pub mod exec;

pub mod streams;

pub mod attach;

pub mod output;

pub mod op;

pub mod progress;

pub mod events;

pub mod metrics;

pub mod log;

mod pointer;
mod text;
