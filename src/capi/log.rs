//! What the library tells of its work, for programs that ask.
//!
//! The library speaks through `tracing`, as Rust programs expect. For a C program each runtime
//! has a subscriber of its own, the default one of that runtime's threads; it keeps what passes
//! the level, bounded, until somebody dispatches.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use boxlite_events::queue::{Delivery, Queue, Source, Turn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use super::error::{boxlite_error, boxlite_status, guard};
use super::pointer;
use super::runtime::boxlite_runtime;
use super::text;
use super::userdata::{Callback, boxlite_destroy};
use crate::error::{Code, Error, Result};

/// How much the library tells of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_log_level {
    /// Nothing.
    BOXLITE_LOG_OFF = 0,
    /// What failed where no call could return the error.
    BOXLITE_LOG_ERROR = 1,
    /// What went wrong and was got over.
    BOXLITE_LOG_WARN = 2,
    /// The life of boxes: made, started, stopped, removed.
    BOXLITE_LOG_INFO = 3,
    /// Each step, and how long it took.
    BOXLITE_LOG_DEBUG = 4,
    /// Everything.
    BOXLITE_LOG_TRACE = 5,
}

/// Called with one message of the library's, inside boxlite_dispatch(). level is a
/// boxlite_log_level, target the part of the library that speaks. The strings are borrowed: good
/// until the callback returns. Never has values of environment variables in it, nor what commands
/// read or write.
pub type boxlite_log_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: i32,
        target: *const c_char,
        message: *const c_char,
    ),
>;

type LogFn = unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char);

/// Messages that wait for a dispatch; the oldest go first.
const MAX_WAITING: usize = 1024;
/// Bytes of one message.
const MAX_MESSAGE: usize = 4096;

/// What a runtime has to tell.
pub struct Log {
    turn: Turn,
    queue: Weak<Queue>,
    level: AtomicI32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    callback: Option<Arc<Callback<LogFn>>>,
    waiting: VecDeque<Record>,
    dropped: usize,
}

struct Record {
    level: i32,
    target: &'static str,
    message: String,
}

impl Log {
    pub fn new(queue: &Arc<Queue>) -> Arc<Log> {
        Arc::new(Log {
            turn: Turn::default(),
            queue: Arc::downgrade(queue),
            level: AtomicI32::new(boxlite_log_level::BOXLITE_LOG_OFF as i32),
            state: Mutex::default(),
        })
    }

    /// What is to be the default of the threads that work for this log's runtime.
    pub fn dispatch(self: &Arc<Self>) -> Dispatch {
        Dispatch::new(Listener(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, record: Record) {
        let mut state = self.lock();
        if state.callback.is_none() {
            return;
        }
        if state.waiting.len() == MAX_WAITING {
            state.waiting.pop_front();
            state.dropped += 1;
        }
        state.waiting.push_back(record);
        drop(state);
        self.wake();
    }

    fn wake(self: &Arc<Self>) {
        let source: Arc<dyn Source> = self.clone();
        if let Some(queue) = self.queue.upgrade() {
            queue.wake(&source);
        }
    }

    fn set(self: &Arc<Self>, level: i32, callback: Option<Arc<Callback<LogFn>>>) {
        let mut state = self.lock();
        let off = callback.is_none();
        self.level.store(if off { 0 } else { level }, Ordering::Relaxed);
        let old = std::mem::replace(&mut state.callback, callback);
        if off {
            *state = State::default();
        }
        drop(state);
        drop(old);
    }

    /// The runtime is freed: nobody is called any more.
    pub fn close(self: &Arc<Self>) {
        self.set(0, None);
        let source: Arc<dyn Source> = self.clone();
        if let Some(queue) = self.queue.upgrade() {
            queue.forget(&source);
        }
    }
}

impl Source for Log {
    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn deliver(&self) -> Delivery {
        let (callback, record) = {
            let mut state = self.lock();
            let Some(callback) = state.callback.clone() else { return Delivery::Nothing };
            let record = match std::mem::take(&mut state.dropped) {
                0 => state.waiting.pop_front(),
                dropped => Some(Record {
                    level: boxlite_log_level::BOXLITE_LOG_WARN as i32,
                    target: module_path!(),
                    message: format!("{dropped} messages were dropped: nobody dispatched"),
                }),
            };
            let Some(record) = record else { return Delivery::Nothing };
            (callback, record)
        };
        let (target, message) = (text::c_string(record.target), text::c_string(&record.message));
        let Record { level, .. } = record;
        // SAFETY: the caller's function with its own data; nothing is locked, and the strings
        // live until it returns.
        unsafe {
            (callback.function)(callback.user_data(), level, target.as_ptr(), message.as_ptr());
        }
        Delivery::One
    }
}

/// Listens to the library on its threads.
struct Listener(Arc<Log>);

fn number(level: &Level) -> i32 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for Listener {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        // Asked each time: the level may change.
        tracing::subscriber::Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Only what this library says: others have not promised to keep secrets.
        number(metadata.level()) <= self.0.level.load(Ordering::Relaxed)
            && metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        text.0.truncate(text.0.floor_char_boundary(MAX_MESSAGE));
        let metadata = event.metadata();
        self.0.push(Record {
            level: number(metadata.level()),
            target: metadata.target(),
            message: text.0,
        });
    }

    // The library uses events only.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event's message, and its fields after it.
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                write!(self.0, "{value:?}{rest}")
            }
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Has callback called with what the library tells of its work on this runtime, inside
/// boxlite_dispatch(): level, a boxlite_log_level, and what is graver. Off by default; a second
/// call replaces level and callback; NULL, BOXLITE_LOG_OFF, or freeing the last handle on the
/// runtime ends it. Up to 1024 messages wait for a dispatch, then the oldest are dropped and
/// counted in a message. Programs in Rust listen with `tracing` instead. destroy frees user_data,
/// see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_on_log(
    runtime: *mut boxlite_runtime,
    level: i32,
    callback: boxlite_log_callback,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let callback = Callback::optional(callback, user_data, destroy);
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let runtime = pointer::share(runtime, "runtime")?;
            runtime.get()?;
            let level = checked(level)?;
            runtime.log().set(level, callback.filter(|_| level > 0));
            Ok(())
        })
    }
}

fn checked(level: i32) -> Result<i32> {
    if (0..=5).contains(&level) {
        return Ok(level);
    }
    let text = format!("level: {level} is no boxlite_log_level");
    Err(Error::new(Code::InvalidArgument, text).object("level"))
}
