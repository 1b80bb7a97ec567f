//! What happens to boxes, delivered by dispatch.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::UNIX_EPOCH;

use boxlite_events::queue::{Delivery, Source, Turn};

use super::error::{boxlite_error, boxlite_status, guard};
use super::pointer::{self, Counted, Handles, Out};
use super::runtime::boxlite_runtime;
use super::text;
use super::userdata::{Callback, boxlite_destroy};
use crate::boxes::DEFAULT_CAPACITY;
use crate::error::{Code, Error, Result};
use crate::{Event, Events, What};

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum boxlite_event_kind {
    /// Events are missing here, boxlite_event_lost() says how many: too many waited for a dispatch.
    BOXLITE_EVENT_OVERFLOW = 0,
    /// A box was made.
    BOXLITE_EVENT_BOX_CREATED = 1,
    /// A box runs.
    BOXLITE_EVENT_BOX_STARTED = 2,
    /// A box stands still. Its text says why, if nobody asked for that: a full host disk.
    BOXLITE_EVENT_BOX_PAUSED = 3,
    /// A paused box goes on.
    BOXLITE_EVENT_BOX_RESUMED = 4,
    /// A box ended as it was meant to, by request or by itself. Its text says why, if nobody asked
    /// for that: its main process had ended, or nothing ran in it for long enough.
    BOXLITE_EVENT_BOX_STOPPED = 5,
    /// A box could not be started, or came to an unwanted end. Its text says why.
    BOXLITE_EVENT_BOX_FAILED = 6,
    /// A box was removed.
    BOXLITE_EVENT_BOX_REMOVED = 7,
    /// A command was started, or with its box the main process. Its text is the program, without
    /// arguments.
    BOXLITE_EVENT_EXEC_STARTED = 8,
    /// A command has ended, with code and signal. Its text says why it could not be run (126, 127),
    /// or why its box ended before it (-1).
    BOXLITE_EVENT_EXEC_ENDED = 9,
    /// The agent, the machine or the supervisor of a box does not answer. Its text says which was
    /// the first not to.
    BOXLITE_EVENT_UNRESPONSIVE = 10,
    /// All of them answer again.
    BOXLITE_EVENT_RESPONSIVE = 11,
    /// A box is healthy, as a health check says for the first time, or again.
    BOXLITE_EVENT_HEALTHY = 12,
    /// A box is unhealthy. Its text says how many checks in a row have failed.
    BOXLITE_EVENT_UNHEALTHY = 13,
}

/// Something that happened. Borrowed by a callback.
pub struct boxlite_event {
    event: Event,
    box_id: CString,
    box_name: Option<CString>,
    text: Option<CString>,
}

impl boxlite_event {
    fn new(event: Event) -> boxlite_event {
        let failures;
        let text = match &event.what {
            What::BoxPaused { why } | What::BoxStopped { why } | What::ExecEnded { why, .. } => {
                why.as_deref()
            }
            What::BoxFailed { why } => Some(why.as_str()),
            What::ExecStarted { program, .. } => Some(program.as_str()),
            What::Unresponsive { who } => Some(who.as_str()),
            What::Unhealthy { failures: count } => {
                failures = format!("{count} health checks in a row have failed");
                Some(failures.as_str())
            }
            _ => None,
        };
        boxlite_event {
            box_id: text::c_string(&event.box_id),
            box_name: event.box_name.as_deref().map(text::c_string),
            text: text.map(text::c_string),
            event,
        }
    }

    fn kind(&self) -> boxlite_event_kind {
        use boxlite_event_kind::*;
        match self.event.what {
            What::Overflow { .. } => BOXLITE_EVENT_OVERFLOW,
            What::BoxCreated => BOXLITE_EVENT_BOX_CREATED,
            What::BoxStarted => BOXLITE_EVENT_BOX_STARTED,
            What::BoxPaused { .. } => BOXLITE_EVENT_BOX_PAUSED,
            What::BoxResumed => BOXLITE_EVENT_BOX_RESUMED,
            What::BoxStopped { .. } => BOXLITE_EVENT_BOX_STOPPED,
            What::BoxFailed { .. } => BOXLITE_EVENT_BOX_FAILED,
            What::BoxRemoved => BOXLITE_EVENT_BOX_REMOVED,
            What::ExecStarted { .. } => BOXLITE_EVENT_EXEC_STARTED,
            What::ExecEnded { .. } => BOXLITE_EVENT_EXEC_ENDED,
            What::Unresponsive { .. } => BOXLITE_EVENT_UNRESPONSIVE,
            What::Responsive => BOXLITE_EVENT_RESPONSIVE,
            What::Healthy => BOXLITE_EVENT_HEALTHY,
            What::Unhealthy { .. } => BOXLITE_EVENT_UNHEALTHY,
        }
    }
}

/// Called with one event, inside boxlite_dispatch(). event is borrowed: good until the callback
/// returns.
pub type boxlite_event_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const boxlite_event)>;

type EventFn = unsafe extern "C" fn(*mut c_void, *const boxlite_event);

/// Events of a runtime's boxes, delivered to a callback. Owned by the caller. Keeps its runtime
/// alive.
pub struct boxlite_subscription {
    runtime: Arc<boxlite_runtime>,
    handles: Handles,
    turn: Turn,
    waker: Waker,
    events: Events,
    callback: Mutex<Option<Arc<Callback<EventFn>>>>,
}

impl Counted for boxlite_subscription {
    fn handles(&self) -> &Handles {
        &self.handles
    }

    fn is_forked(&self) -> bool {
        self.runtime.is_forked()
    }
}

struct Awaken(Weak<boxlite_subscription>);

impl Wake for Awaken {
    fn wake(self: Arc<Self>) {
        if let Some(subscription) = self.0.upgrade() {
            subscription.awaken();
        }
    }
}

impl boxlite_subscription {
    fn new(
        runtime: Arc<boxlite_runtime>,
        events: Events,
        callback: Arc<Callback<EventFn>>,
    ) -> Arc<boxlite_subscription> {
        Arc::new_cyclic(|this| boxlite_subscription {
            runtime,
            handles: Handles::default(),
            turn: Turn::default(),
            waker: Waker::from(Arc::new(Awaken(this.clone()))),
            events,
            callback: Mutex::new(Some(callback)),
        })
    }

    fn awaken(self: &Arc<Self>) {
        let source: Arc<dyn Source> = self.clone();
        self.runtime.queue().wake(&source);
    }

    fn callback(&self) -> Option<Arc<Callback<EventFn>>> {
        self.callback.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Source for boxlite_subscription {
    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn deliver(&self) -> Delivery {
        let Some(callback) = self.callback() else { return Delivery::Nothing };
        match self.events.poll_next(&Context::from_waker(&self.waker)) {
            Poll::Ready(Some(event)) => {
                let event = boxlite_event::new(event);
                // SAFETY: the caller's function with its own data; nothing is locked, and the event
                // lives until it returns.
                unsafe { (callback.function)(callback.user_data(), &event) };
                Delivery::One
            }
            Poll::Ready(None) | Poll::Pending => Delivery::Nothing,
        }
    }
}

/// Has callback called, inside boxlite_dispatch(), with what happens to boxes from now on: what
/// this runtime does, and what happens to boxes that it runs or is connected to, whoever does it.
/// What another program does to boxes that this runtime has never used is not seen. Events of one
/// box come in the order in which they happened, each once, and the end of a command before that of
/// its box.
///
/// Up to capacity events wait for a dispatch, 1 to 65536, or 0 for 1024. When there is no room,
/// newer ones are counted, and a BOXLITE_EVENT_OVERFLOW stands in their place. Each subscription
/// has events and a count of its own. *subscription is owned by the caller. destroy frees
/// user_data, see boxlite_destroy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_runtime_subscribe(
    runtime: *mut boxlite_runtime,
    capacity: u32,
    callback: boxlite_event_callback,
    user_data: *mut c_void,
    destroy: boxlite_destroy,
    subscription: *mut *mut boxlite_subscription,
    error: *mut *mut boxlite_error,
) -> boxlite_status {
    let callback = Callback::optional(callback, user_data, destroy);
    // SAFETY: pointers as the header demands.
    unsafe {
        guard(error, || {
            let out = Out::new(subscription, "subscription")?;
            let runtime = pointer::share(runtime, "runtime")?;
            let capacity = match capacity {
                0 => DEFAULT_CAPACITY,
                events => usize::try_from(events).unwrap_or(usize::MAX),
            };
            let callback = given(callback)?;
            let events = runtime.get()?.subscribe(capacity)?;
            let subscription = boxlite_subscription::new(runtime, events, callback);
            // Looked at once, it is woken from then on.
            subscription.awaken();
            out.give_shared(subscription);
            Ok(())
        })
    }
}

fn given<T>(callback: Option<T>) -> Result<T> {
    let missing =
        || Error::new(Code::InvalidArgument, "callback: must not be NULL").object("callback");
    callback.ok_or_else(missing)
}

/// Ends a subscription: its callback is not called any more, except one that runs just now. Allowed
/// inside its own callback. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_subscription_free(subscription: *mut boxlite_subscription) {
    // SAFETY: a live handle that is not used again, or NULL.
    let taken = unsafe { pointer::take_back_shared(subscription) };
    let Some((subscription, _)) = taken else { return };
    let source: Arc<dyn Source> = subscription.clone();
    subscription.runtime.queue().forget(&source);
    let callback = subscription.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(callback);
}

/// # Safety
/// `event` is live or NULL.
unsafe fn get<'a, T>(
    event: *const boxlite_event,
    pick: impl FnOnce(&'a boxlite_event) -> Option<T>,
) -> Option<T> {
    // SAFETY: by the caller's promise.
    unsafe { pointer::borrow(event, "event") }.ok().and_then(pick)
}

/// What happened, a boxlite_event_kind; -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_what(event: *const boxlite_event) -> i32 {
    // SAFETY: a live event or NULL.
    unsafe { get(event, |e| Some(e.kind() as i32)) }.unwrap_or(-1)
}

/// The name of a boxlite_event_kind, such as "box started"; "unknown" for a number that is none.
/// Static: good for ever.
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_event_kind_name(kind: i32) -> *const c_char {
    let name = match kind {
        0 => c"overflow",
        1 => c"box created",
        2 => c"box started",
        3 => c"box paused",
        4 => c"box resumed",
        5 => c"box stopped",
        6 => c"box failed",
        7 => c"box removed",
        8 => c"exec started",
        9 => c"exec ended",
        10 => c"unresponsive",
        11 => c"responsive",
        12 => c"healthy",
        13 => c"unhealthy",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// The id of the box that it happened to; "" for an overflow. Borrowed: good until the callback
/// returns. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_box_id(event: *const boxlite_event) -> *const c_char {
    // SAFETY: a live event or NULL.
    text::borrowed(unsafe { get(event, |e| Some(&e.box_id)) })
}

/// The box's name; NULL if it has none, for an overflow, and for NULL. Borrowed: good until the
/// callback returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_box_name(event: *const boxlite_event) -> *const c_char {
    // SAFETY: a live event or NULL.
    text::borrowed(unsafe { get(event, |e| e.box_name.as_ref()) })
}

/// What there is to tell of it, see boxlite_event_kind; NULL if there is nothing, and for NULL.
/// Borrowed: good until the callback returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_text(event: *const boxlite_event) -> *const c_char {
    // SAFETY: a live event or NULL.
    text::borrowed(unsafe { get(event, |e| e.text.as_ref()) })
}

/// When it happened, in microseconds since the Unix epoch by the host's clock; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_microseconds(event: *const boxlite_event) -> u64 {
    let since = |e: &boxlite_event| {
        let elapsed = e.event.at.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(elapsed.as_micros()).ok()
    };
    // SAFETY: a live event or NULL.
    unsafe { get(event, since) }.unwrap_or(0)
}

/// The number of the command that started or ended, which boxlite_exec_id() tells too; 0 if it is
/// about none, if the command could not be run, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_exec(event: *const boxlite_event) -> u32 {
    let exec = |e: &boxlite_event| match e.event.what {
        What::ExecStarted { exec, .. } | What::ExecEnded { exec, .. } => Some(exec),
        _ => None,
    };
    // SAFETY: a live event or NULL.
    unsafe { get(event, exec) }.unwrap_or(0)
}

/// The exit code of the command that ended, or 128 + signal; -1 if its box ended before it. 0 if no
/// command ended, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_code(event: *const boxlite_event) -> i32 {
    let code = |e: &boxlite_event| match e.event.what {
        What::ExecEnded { code, .. } => Some(code),
        _ => None,
    };
    // SAFETY: a live event or NULL.
    unsafe { get(event, code) }.unwrap_or(0)
}

/// The signal that ended the command, by its number on x86-64 Linux; 0 if none did, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_signal(event: *const boxlite_event) -> i32 {
    let signal = |e: &boxlite_event| match e.event.what {
        What::ExecEnded { signal, .. } => Some(signal),
        _ => None,
    };
    // SAFETY: a live event or NULL.
    unsafe { get(event, signal) }.unwrap_or(0)
}

/// How many events are missing in the place of a BOXLITE_EVENT_OVERFLOW; 0 otherwise, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_event_lost(event: *const boxlite_event) -> u64 {
    let lost = |e: &boxlite_event| match e.event.what {
        What::Overflow { lost } => Some(lost),
        _ => None,
    };
    // SAFETY: a live event or NULL.
    unsafe { get(event, lost) }.unwrap_or(0)
}
